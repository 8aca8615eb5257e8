"""More components than there are clusters: priors that leave the spare ones empty."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.standardize import as_standardized_rows, standardize
from bgmm_jd.data.units import identity_standardization
from bgmm_jd.fitting.assess import smallest_expected_count
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.model.prior_summaries import smallest_weight
from bgmm_jd.model.priors import (
    DEFAULT_PRECISION_CONCENTRATION,
    DEFAULT_PRECISION_RATE,
    stick_breaking_prior,
)
from bgmm_jd.optimization import initialization
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.occupancy import occupied_components
from bgmm_jd.posterior.posterior import restart_posteriors
from bgmm_jd.reporting.inference_data import to_inference_data
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.structure import model_of

pytestmark = pytest.mark.slow

K_MAX, D = 12, 2
CONCENTRATION = 0.1
CENTRES = np.array([[-6.0, 0.0], [0.0, 6.0], [6.0, 0.0], [0.0, -6.0]])
SIZES = np.array([200, 400, 600, 800])
N = SIZES.sum()


# Probabilities of four, five and six occupied components: what reference/make_occupied.py prints.
BY_GIBBS = {"sticks": [0.69, 0.29, 0.03], "sparse": [0.77, 0.22, 0.01]}


def four_clusters():
    """[2000, 2], sd 1, 8 sds apart and more."""
    rng = np.random.default_rng(4)
    X = np.repeat(CENTRES, SIZES, axis=0) + rng.normal(size=(N, D))
    return X.astype(np.float32)


def in_units_of(X):
    """The default prior of the components, by the data's own units."""
    units = standardize(X).units
    return {
        "mean_loc": units.shift,
        "mean_scale": 2.0 * units.scale,
        "precision_concentration": DEFAULT_PRECISION_CONCENTRATION,
        "precision_rate": DEFAULT_PRECISION_RATE * K_MAX ** (-2.0 / D) * units.scale**2,
    }


def fit_with(prior):
    X = four_clusters()
    return bgmm_jd.fit(X, K_MAX, prior=prior, restarts=2, execution="graph", progress=False)


@pytest.fixture(scope="module")
def sticks():
    return fit_with(
        stick_breaking_prior(K_MAX, D, concentration=CONCENTRATION, **in_units_of(four_clusters()))
    )


@pytest.fixture(scope="module")
def sparse():
    units = in_units_of(four_clusters())
    return fit_with(bgmm_jd.mixture_prior(K_MAX, D, weight_concentration=0.01, **units))


@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_four_components_hold_rows(name, request):
    """As a Gibbs sampler has it: see reference/make_occupied.py.

    With more concentration five are more probable than four: a small component more, beside one of
    the four. The sampler is sure of a probability to 0.03, and 1,000 draws to 0.02: four times both
    are a false alarm of 1e-4 for each of the three.
    """
    posterior = request.getfixturevalue(name)
    numbers = occupied_components(posterior, draws=1_000)
    assert numbers.sum() == pytest.approx(1.0)
    assert numbers.argmax() == 4
    assert np.abs(numbers[4:7] - BY_GIBBS[name]).max() < 4.0 * np.hypot(0.03, 0.02)
    assert numbers[:4].sum() == 0.0  # four clusters 8 sds apart are never three


@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_empty_components_are_no_fault(name, request):
    posterior = request.getfixturevalue(name)
    assert posterior.status is Status.CONVERGED
    assert all(restart.status is Status.CONVERGED for restart in posterior.restarts)
    assert smallest_weight(posterior.prior) * N < 0.05


@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_the_four_are_the_clusters(name, request):
    """Their weights are the clusters' shares and their means those of its rows.

    A cluster of n rows has a mean good to 1 / sqrt(n) sds: the posterior mean of one is within a
    fifth of that of its rows' mean, as the prior is worth far less than a row.
    """
    posterior = request.getfixturevalue(name)
    theta = bgmm_jd.relabel(posterior, "weights").sample(400)
    np.testing.assert_array_less(theta["weights"].mean(axis=0)[4:], 0.01)
    share = theta["weights"].mean(axis=0)[:4]
    # Each count over N, up to a prior worth a few rows.
    np.testing.assert_allclose(share, SIZES[::-1] / N, atol=4 / N)
    X = four_clusters()
    parts = np.split(X, np.cumsum(SIZES)[:-1])
    expected = np.array([part.mean(axis=0) for part in parts])[::-1]
    error = 1.0 / np.sqrt(SIZES[::-1, np.newaxis])
    assert (np.abs(theta["means"].mean(axis=0)[:4] - expected) < 0.3 * error).all()


def test_empty_components_are_no_fault_of_the_usual_sticks(sticks):
    """The concentration 1, which is the default: components that are not needed stay empty.

    Nor of a sparse Dirichlet, but of one that gives each component its rows.
    """
    share = draw_mean_field(sticks.inside, 32, seed=0).theta["weights"].numpy().mean(axis=0)
    rows = {"concentration": (2.0 + N * share).astype(np.float32)}  # for a Dirichlet

    def emptiest(prior):
        inside = sticks.inside._replace(model=model_of(prior))
        if not inside.model.is_stick_breaking:
            inside = inside._replace(values={**inside.values, "weights": rows})
        return smallest_expected_count(replace(sticks, inside=inside))

    assert np.isinf(emptiest(stick_breaking_prior(K_MAX, D)))
    assert np.isinf(emptiest(bgmm_jd.mixture_prior(K_MAX, D, weight_concentration=0.01)))
    assert emptiest(bgmm_jd.mixture_prior(K_MAX, D)) < 1.0


def test_a_prior_that_fills_its_components_is_told_apart():
    """Under the default prior the median of the smallest weight is worth some rows."""
    assert smallest_weight(bgmm_jd.mixture_prior(K_MAX, D)) * N > 1.0
    assert smallest_weight(stick_breaking_prior(1, D)) == 1.0


def test_relabel_of_sticks(sticks):
    """Draws, probabilities and counts move together; the surrogate keeps its own order."""
    order = np.random.default_rng(0).permutation(K_MAX)
    moved = bgmm_jd.relabel(sticks, order)
    before, after = sticks.sample(20, seed=2), moved.sample(20, seed=2)
    for name in ("weights", "means", "precisions"):
        np.testing.assert_array_equal(after[name], before[name][:, order])
    X = four_clusters()
    proba = bgmm_jd.predict_proba(sticks, X)[:, order]
    np.testing.assert_array_equal(bgmm_jd.predict_proba(moved, X), proba)
    for posterior in (sticks, moved):
        draws = posterior.surrogate.sample(4_000, seed=(0, 1))
        np.testing.assert_allclose(draws.weights.numpy().sum(axis=-1), 1.0, rtol=1e-5)
        assert np.isfinite(posterior.surrogate.log_prob(draws)).all()
        # As documented: not moved. Draws of the surrogate are those of its own order.
        own = sticks.sample(4_000, seed=1, calibrate=False)["means"].mean(axis=0)
        occupied = draws.weights.numpy().mean(axis=0) > 0.05
        found = draws.means.numpy().mean(axis=0)
        np.testing.assert_allclose(found[occupied], own[occupied], atol=0.05)


def test_chains_of_restarts(sticks):
    """Components of the restarts are matched, so that the means of the occupied ones agree."""
    posteriors = restart_posteriors(sticks)
    assert len(posteriors) == 2
    idata = to_inference_data(sticks, draws=50, chains="restarts")
    means, weights = idata["posterior"]["means"].values, idata["posterior"]["weights"].values
    assert means.shape == (2, 50, K_MAX, D)
    assert np.isfinite(means).all()
    occupied = weights[0].mean(axis=0) > 0.05
    assert occupied.sum() == 4
    one, other = means[:, :, occupied].mean(axis=1)
    # Matched: a cluster's posterior sds are 1 / sqrt(200) and less, and clusters are 8 apart. Five
    # standard errors of two means of 50 draws, of 8 numbers: a false alarm of 5e-6.
    assert np.abs(one - other).max() < 5.0 * (2.0 / 50.0) ** 0.5 / SIZES.min() ** 0.5


@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_draws_of_a_chain_are_different(name, request):
    """Nearly all of the posterior's. Most of a restart's, though the weights may be uneven there.

    One that ended beside the best has a fifth component with a row or two, which may be none.
    """
    fitted = request.getfixturevalue(name)
    for posterior, fewest in ((fitted, 40), *((one, 25) for one in restart_posteriors(fitted))):
        assert len(np.unique(posterior.sample(50)["means"][:, 0, 0])) > fewest


@pytest.mark.parametrize("execution", ["graph", "xla"])
@pytest.mark.parametrize("name", ["sticks", "sparse"])
def test_wider_rows_than_the_prior_is(name, execution, request):
    """Float64 rows under a float32 prior, which knows no weight below 1e-38: the same optimum.

    From the same start, with the largest clusters first and eight empty ones. Both settle, and
    their elbos are within five standard errors and what a settled fit may lack.
    """
    prior = request.getfixturevalue(name).prior
    far = 40.0 + np.arange(K_MAX - 4)[:, np.newaxis] * np.ones(D)
    init = np.concatenate([CENTRES[::-1], far])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", re.escape(str(Status.KHAT_TOO_HIGH)), RuntimeWarning)
        wide, narrow = (
            bgmm_jd.fit(
                four_clusters().astype(dtype),
                K_MAX,
                prior=prior,
                init=init,
                execution=execution,
                progress=False,
            )
            for dtype in (np.float64, np.float32)
        )
    assert wide.restarts[0].status is narrow.restarts[0].status is Status.CONVERGED
    allowed = 5.0 * np.hypot(wide.elbo_se, narrow.elbo_se) + 0.05
    assert abs(wide.elbo - narrow.elbo) < allowed


# Where the fit starts.


@pytest.mark.parametrize("form", FORMS)
def test_as_many_clusters_as_needed(form):
    """Four, the largest first, whatever the form: the least gain of a fourth is some 400 nats."""
    rows = as_standardized_rows(four_clusters(), standardize(four_clusters()).units)
    found = initialization.cluster_as_needed(rows, K_MAX, form, np.random.default_rng(0))
    assert found.count.shape == (K_MAX,)
    assert found.mean.shape == (K_MAX, D)
    assert found.covariance.shape == (K_MAX, D, D)
    np.testing.assert_array_equal(found.count[:4], SIZES[::-1])
    for empty in (found.count[4:], found.mean[4:], found.covariance[4:]):
        np.testing.assert_array_equal(empty, 0.0)


def test_clusters_of_weighted_rows():
    """Counts are sums of weights."""
    X, weight = four_clusters(), np.repeat([4.0, 1.0, 1.0, 1.0], SIZES).astype(np.float32)
    rows = as_standardized_rows(X, standardize(X, weight).units)._replace(weight=weight)
    found = [
        initialization.cluster_as_needed(rows, K_MAX, "diag", np.random.default_rng(seed)).count
        for seed in range(20)
    ]
    expected = np.zeros(K_MAX)
    expected[:4] = 4 * SIZES[0], *SIZES[:0:-1]
    # One seeding of each number: a few in a hundred miss a cluster. Five of 20, once in 4,000.
    assert sum(np.allclose(count, expected, rtol=1e-6) for count in found) > 15


def test_one_cluster_and_equal_rows():
    rng = np.random.default_rng(0)
    one = initialization.cluster_as_needed(Rows(rng.normal(size=(200, D))), 5, "diag", rng)
    assert (one.count > 0).sum() == 1
    equal = initialization.cluster_as_needed(Rows(np.zeros((30, D))), 5, "full", rng)
    assert equal.count.sum() == 30
    assert np.isfinite(equal.covariance).all()
    start = initialization.moments_from_clusters(equal, "full")
    assert all(np.isfinite(m).all() and np.isfinite(s).all() for m, s in start.values())


def test_a_start_from_needed_clusters_has_room_for_all():
    """Empty components have small weights and a spread of their own, never a singular one."""
    rows = as_standardized_rows(four_clusters(), identity_standardization(D))
    found = initialization.cluster_as_needed(rows, K_MAX, "diag", np.random.default_rng(0))
    start = initialization.moments_from_clusters(found, "diag")
    weights, _ = start["weights"]
    np.testing.assert_allclose(weights[4:], 1.0 / (N + K_MAX))
    np.testing.assert_allclose(start["precisions"][0][4:], K_MAX ** (2.0 / D))


# At the door.


@pytest.mark.parametrize("K_max", [0, -3])
def test_no_components_are_refused(K_max):
    with pytest.raises(ValueError, match="K_max must be at least 1"):
        stick_breaking_prior(K_max, D)


@pytest.mark.parametrize("K_max", [2.0, "3", None, True])
def test_a_number_of_components_is_an_integer(K_max):
    with pytest.raises(TypeError, match="K_max must be an integer"):
        stick_breaking_prior(K_max, D)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_bad_concentrations_are_refused(value):
    with pytest.raises(ValueError, match="concentration must be finite and positive"):
        stick_breaking_prior(K_MAX, D, concentration=value)
    with pytest.raises(ValueError, match="weight_concentration must be finite and positive"):
        bgmm_jd.mixture_prior(K_MAX, D, weight_concentration=value)


def test_a_prior_for_another_number_is_refused():
    with pytest.raises(ValueError, match=r"'weights' must have shape \[4\]"):
        bgmm_jd.fit(four_clusters(), 4, prior=stick_breaking_prior(K_MAX, D))
