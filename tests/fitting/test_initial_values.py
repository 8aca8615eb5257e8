"""What a fit starts from: labels, probabilities and posteriors in place of means."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from builders import problem_for, started, two_groups_of_unlike_scale
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.fitting.initial_values import as_init, as_start, initial_values
from bgmm_jd.optimization.initialization import start_at
from bgmm_jd.posterior.surrogate_members import parameter_arrays, surrogate_members
from bgmm_jd.settings import OptimizationSettings, Settings
from bgmm_jd.variational.approximation import Approximation

N, D, K = 90, 2, 2
SHAPE = (N, D)
OPTIONS = {"progress": False, "execution": "graph", "finish": "none", "calibrate": False}


@pytest.fixture(scope="module")
def X():
    return two_groups_of_unlike_scale(N)


@pytest.fixture(scope="module")
def labels(X):
    """The component of each row, the one on the right first."""
    return (X[:, 0] < 60.0).astype(int)


@pytest.fixture(scope="module")
def probability():
    return np.random.default_rng(0).dirichlet(np.ones(K), N)


def moments_at_start(problem, init, places=None):
    """Return means and sds of weights, means and precisions, in standardised units."""
    given = initial_values(as_init(init, SHAPE, K, problem.model.covariance, None), problem, places)
    params = start_at(problem, given, 0, 0)
    arrays = {
        site: {key: np.asarray(v) for key, v in parameters.items()}
        for site, parameters in params.items()
    }
    return {site.name: site.family.moments(arrays[site.name]) for site in problem.model.sites}


def moments_of_members(Z, member):
    """Compute what a start is made from by loops, for the form "diag".

    A prior of one row, with the variance that K equal clusters would have.
    """
    weights, means, variances = np.empty(K), np.empty((K, D)), np.empty((K, D))
    for k in range(K):
        n = member[:, k].sum()
        weights[k] = (n + 1.0) / (member.sum() + K)
        for d in range(D):
            means[k, d] = np.average(Z[:, d], weights=member[:, k])
            variance = np.average((Z[:, d] - means[k, d]) ** 2, weights=member[:, k])
            variances[k, d] = (n * variance + K ** (-2.0 / D)) / (n + 1.0)
    return {
        "weights": weights,
        "means": means,
        "precisions": 1.0 / variances,
        "sd of means": np.sqrt(variances / (member.sum(axis=0)[:, np.newaxis] + 1.0)),
    }


# --- Labels and probabilities ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["labels", "series", "probability", "frame"])
def test_start_has_the_moments_of_the_rows_by_their_memberships(X, labels, probability, kind):
    init, member = {
        "labels": (labels, np.eye(K)[labels]),
        "series": (pd.Series(labels), np.eye(K)[labels]),
        "probability": (probability, probability),
        "frame": (pd.DataFrame(probability, columns=["first", "second"]), probability),
    }[kind]
    problem = problem_for(X, K)
    found = moments_at_start(problem, init, np.arange(N))
    expected = moments_of_members(problem.data.rows.values, member)
    for name in ("weights", "means", "precisions"):
        np.testing.assert_allclose(found[name][0], expected[name], rtol=1e-10)
    np.testing.assert_allclose(found["means"][1], expected["sd of means"], rtol=1e-10)


def test_row_weights_and_left_out_rows_are_regarded_in_the_start(X, probability):
    weight = np.random.default_rng(1).uniform(0.5, 2.0, N)
    weight[::7] = 0.0
    places = np.flatnonzero(weight)
    problem = problem_for(X, K, weight=weight)
    found = moments_at_start(problem, probability, places)
    member = (weight[:, np.newaxis] * probability)[places]
    expected = moments_of_members(problem.data.rows.values, member)
    for name in ("weights", "means", "precisions"):
        np.testing.assert_allclose(found[name][0], expected[name], rtol=1e-10)


def test_component_without_rows_starts_at_the_centre(X):
    problem = problem_for(X, K)
    found = moments_at_start(problem, np.zeros(N, int), np.arange(N))
    np.testing.assert_array_equal(found["means"][0][1], 0.0)
    np.testing.assert_allclose(found["weights"][0], [(N + 1.0) / (N + 2.0), 1.0 / (N + 2.0)])


def test_probabilities_in_low_precision_are_scaled_to_one(probability):
    """Those of float16 sum to 1 within 0.0005."""
    found = as_init(probability.astype(np.float16), SHAPE, K, "diag", None)
    np.testing.assert_allclose(found.probability.sum(axis=1), 1.0, rtol=1e-12)


def test_square_array_is_read_as_means():
    """Where N, K and D are equal, probabilities have the same shape."""
    means = as_init(np.eye(3), (3, 3), 3, "diag", None)
    np.testing.assert_array_equal(means, np.eye(3))
    assert as_init(np.eye(3), (3, 2), 3, "diag", None).probability.shape == (3, 3)


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        (np.ones(N - 1, int), ValueError, r"label for each of the N=90 rows.*got shape \(89,\)"),
        (np.ones(N), TypeError, r"labels that are integers from 0 to 1; got dtype float64"),
        (["a"] * N, TypeError, r"integers from 0 to 1.*numpy\.unique"),
        (pd.Series(["a", "b"] * 45, dtype="category"), TypeError, r"numpy\.unique"),
        (np.arange(N) % 2 + 1, ValueError, r"labels from 0 to K - 1 = 1; got 2 in row 1"),
        (-np.ones(N, int), ValueError, r"got -1 in row 0.*probabilities \[N, K\].*1 / K"),
        (np.full((N, K), 0.6), ValueError, r"sum to 1 in each row; got \[0.6 0.6\] in row 0"),
        (np.tile([1.5, -0.5], (N, 1)), ValueError, "not negative and sum to 1"),
        (np.full((N, 3), 1 / 3), ValueError, "each of K=2 components.*got 3 columns"),
        (np.full((N, K), np.nan), ValueError, "init must be finite"),
        (np.ones((3, D)), ValueError, "one row for each of K=2 components; got 3"),
    ],
)
def test_unsuitable_start_is_refused_with_what_was_expected(init, error, message):
    with pytest.raises(error, match=message):
        as_init(init, SHAPE, K, "diag", None)


# --- A posterior ----------------------------------------------------------------------------------

Root = tfd.JointDistributionCoroutine.Root


@tfd.JointDistributionCoroutine
def own_prior():
    """Yield Student t means and log-normal scales, whose families do not match."""
    ones = np.ones((K, D))
    yield Root(tfd.Independent(tfd.LogNormal(0.0 * ones, 3.0 * ones), 2, name="scales"))
    yield Root(tfd.Independent(tfd.StudentT(5.0 * ones, 0.0 * ones, 60.0), 2, name="means"))
    yield Root(tfd.Dirichlet(np.ones(K), name="weights"))


def matrix_prior(K, D):
    """Make a prior with Student t means and precision matrices."""

    @tfd.JointDistributionCoroutine
    def prior():
        wishart = tfd.WishartTriL(np.full(K, 5.0), np.eye(D))
        yield Root(tfd.Independent(wishart, 1, name="precisions"))
        ones = np.ones((K, D))
        yield Root(tfd.Independent(tfd.StudentT(5.0 * ones, 0.0 * ones, 60.0), 2, name="means"))
        yield Root(tfd.Dirichlet(np.ones(K), name="weights"))

    return prior


PRIORS = {
    "sticks": ("diag", bgmm_jd.stick_breaking_prior(K, D, dtype="float64")),
    "own": ("diag", own_prior),
    "own matrices": ("full", matrix_prior(K, D)),
}


@pytest.fixture(params=["diag", "full", "tied", "spherical", *PRIORS])
def form_and_prior(request):
    return PRIORS.get(request.param, (request.param, None))


def test_start_from_a_posterior_has_its_surrogate_in_the_units_of_x(
    two_clusters_posterior, X, form_and_prior
):
    """Of rows with other moments, and so other standardised units."""
    form, prior = form_and_prior
    first = started(problem_for(X, K, form, prior=prior))
    posterior = replace(two_clusters_posterior, covariance=form, approximation=first)
    problem = problem_for(2.0 * X[20:] @ [[1.0, 0.01], [-3.0, 1.0]], K, form, prior=prior)
    given = initial_values(as_init(posterior, SHAPE, K, form, None), problem, np.arange(N))
    params = start_at(problem, given, 0, 0)
    again = Approximation(problem=problem, params=params, order=np.arange(K))
    found, expected = (parameter_arrays(surrogate_members(a)) for a in (again, first))
    if prior is PRIORS["own matrices"][1]:
        # Means that are independent in whitened units keep their means and, of these units, their
        # sds; but not the correlations that others have in these units.
        np.testing.assert_allclose(found["means"]["loc"], expected["means"]["loc"], rtol=1e-9)
        inverse = problem.data.standardization.inverse
        roots = [inverse @ p["means"]["scale_tril"] for p in (found, expected)]
        found_sds, expected_sds = (np.sqrt((root**2).sum(axis=-1)) for root in roots)
        np.testing.assert_allclose(found_sds, expected_sds, rtol=1e-9)
        found, expected = ({k: p[k] for k in ("weights", "precisions")} for p in (found, expected))
    for name, parameters in expected.items():
        for key, value in parameters.items():
            np.testing.assert_allclose(found[name][key], value, rtol=1e-9, atol=1e-12)


def test_start_from_a_posterior_of_float64_serves_float32(two_clusters_posterior, two_clusters):
    problem = problem_for(two_clusters.astype(np.float32), 2)
    given = initial_values(two_clusters_posterior, problem, np.arange(40))
    assert {np.asarray(v).dtype for p in given.values() for v in p.values()} == {
        np.dtype("float32")
    }


def test_posterior_of_other_components_columns_or_variables_is_refused(two_clusters_posterior, X):
    posterior = two_clusters_posterior
    for shape, components, form in (((N, 2), 3, "diag"), ((N, 3), 2, "diag"), ((N, 2), 2, "full")):
        with pytest.raises(ValueError, match=r"init must be a posterior of K=.*predict_proba"):
            as_init(posterior, shape, components, form, None)
    named = replace(posterior, feature_names=("a", "b"))
    with pytest.raises(ValueError, match=r"columns \('b', 'a'\), in that order; got \('a', 'b'\)"):
        as_init(named, SHAPE, K, "diag", ("b", "a"))
    with pytest.raises(ValueError, match=r"prior's variables \['scales', 'means', 'weights'\]"):
        initial_values(posterior, problem_for(X, K, prior=own_prior), np.arange(N))
    sticks = problem_for(X, K, prior=bgmm_jd.stick_breaking_prior(K, D, dtype="float64"))
    with pytest.raises(ValueError, match="'weights' of the same shape, family and support"):
        initial_values(posterior, sticks, np.arange(N))


# --- Fits -----------------------------------------------------------------------------------------


def test_fits_from_labels_and_from_a_posterior_end_at_the_optimum_of_the_default(X, labels):
    """With the components in the order that was given; the default's are in ascending order."""
    default = bgmm_jd.fit(X, K, **OPTIONS)
    expected = default.parameters["means"]
    # Runs that converge to one optimum are within three tolerances of each other, in sds.
    apart = 3.0 * default.settings.optimization.tolerance
    for init in (labels, np.eye(K)[labels], bgmm_jd.relabel(default, [1, 0])):
        found = bgmm_jd.fit(X, K, init=init, **OPTIONS)
        assert found.status is bgmm_jd.Status.CONVERGED
        means = found.parameters["means"]["loc"][::-1]
        assert np.all(np.abs(means - expected["loc"]) < apart * expected["scale"])
        noise = np.hypot(found.elbo_se, default.elbo_se)
        assert abs(found.elbo - default.elbo) < 4.0 * noise


# --- Going on from an earlier fit -----------------------------------------------------------------

# 40 rows to find the optimum with, and then passes over all of them.
TWO_PHASES = Settings(
    optimization=OptimizationSettings(
        full_batch_rows=20, full_batch_numbers=20, subsample_rows=40, subsample_rows_per_component=1
    )
)


def phases_of_fit(X, **options):
    """Return a fit in passes over all rows, and the phases that it has reported."""
    reports = []
    options = OPTIONS | {"callback": reports.append, "settings": TWO_PHASES} | options
    posterior = bgmm_jd.fit(X, K, **options)
    return posterior, [report.phase for report in reports]


@pytest.fixture(scope="module")
def many():
    """300 rows of two groups."""
    return two_groups_of_unlike_scale(300)


@pytest.fixture(scope="module")
def of_first_half(many):
    return phases_of_fit(many[:150])[0]


def assert_same_optimum(found, expected):
    """Both are within the tolerance of passes of their optimum, in sds, and average that distance.

    An sd has besides a noise of 1 % from the passes that are averaged.
    """
    apart = 2.0 * expected.settings.full_data.tolerance
    for name in ("means", "weights"):
        moments = [p.sample(4_000, calibrate=False)[name] for p in (found, expected)]
        (mean, sd), (other, other_sd) = ((v.mean(axis=0), v.std(axis=0)) for v in moments)
        # 4,000 draws of each: five times their own noise besides.
        assert np.all(np.abs(mean - other) < (apart + 5 * np.sqrt(2 / 4_000)) * other_sd)
        assert np.all(np.abs(np.log(sd / other_sd)) < apart + 5 * np.sqrt(2 / 8_000))


def test_fit_goes_on_from_an_earlier_one_with_more_rows_by_passes_alone(many, of_first_half):
    expected, its_phases = phases_of_fit(many)
    assert "optimization" in its_phases
    found, phases = phases_of_fit(many, start=bgmm_jd.relabel(of_first_half, [1, 0]))
    assert "optimization" not in phases
    assert "passes" in phases
    assert found.status is bgmm_jd.Status.CONVERGED
    assert found.batch_size == len(many)
    assert len(found.restarts) == 1
    assert len(found.elbo_trace) == phases.count("passes")
    # The components have the order of the earlier fit.
    assert_same_optimum(bgmm_jd.relabel(found, [1, 0]), expected)


@pytest.mark.slow
def test_fit_goes_on_under_another_prior(many, of_first_half):
    prior = bgmm_jd.mixture_prior(
        K,
        D,
        mean_loc=many.mean(axis=0),
        mean_scale=3 * many.std(axis=0),
        dtype="float64",
        precision_rate=5.0 * many.var(axis=0),
    )
    found, _ = phases_of_fit(many, prior=prior, start=of_first_half)
    expected, _ = phases_of_fit(many, prior=prior)
    assert found.status is bgmm_jd.Status.CONVERGED
    assert_same_optimum(found, expected)


def test_few_rows_are_optimised_in_steps_from_where_the_earlier_fit_ended(X, of_first_half):
    reports = []
    found = bgmm_jd.fit(X, K, start=of_first_half, callback=reports.append, **OPTIONS)
    assert "passes" not in [report.phase for report in reports]
    assert found.status is bgmm_jd.Status.CONVERGED
    assert len(found.restarts) == 1


def test_interrupt_in_the_first_pass_keeps_the_start(many, of_first_half):
    def interrupt(progress):
        if progress.phase == "passes":
            raise KeyboardInterrupt

    with pytest.warns(bgmm_jd.StatusWarning, match="interrupted"):
        found, _ = phases_of_fit(many[:150], start=of_first_half, callback=interrupt)
    assert found.status is bgmm_jd.Status.INTERRUPTED
    np.testing.assert_allclose(
        found.parameters["means"]["loc"], of_first_half.parameters["means"]["loc"]
    )


def test_start_other_than_a_posterior_of_such_a_mixture_is_refused(of_first_half):
    with pytest.raises(TypeError, match=r"start must be a bgmm_jd\.Posterior.*list.*use init="):
        as_start([[0.0, 0.0]], D, K, "diag", None)
    with pytest.raises(ValueError, match=r"start must be a posterior of K=3.*predict_proba\(start"):
        as_start(of_first_half, D, 3, "diag", None)
    named = replace(of_first_half, feature_names=("a", "b"))
    with pytest.raises(ValueError, match=r"start must be a posterior of the columns \('b', 'a'\)"):
        as_start(named, D, K, "diag", ("b", "a"))


def test_start_with_anything_else_to_start_from_is_refused(X, of_first_half):
    with pytest.raises(ValueError, match="start and init both say what to start from"):
        bgmm_jd.fit(X, K, start=of_first_half, init=of_first_half, **OPTIONS)
    with pytest.raises(ValueError, match=r"start makes one run.*got restarts=3.*init=start"):
        bgmm_jd.fit(X, K, start=of_first_half, restarts=3, **OPTIONS)
    with pytest.raises(ValueError, match="start must be a posterior of the prior's variables"):
        bgmm_jd.fit(X, K, start=of_first_half, prior=own_prior, **OPTIONS)
