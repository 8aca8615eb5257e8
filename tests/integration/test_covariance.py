"""Fits in each form of covariance, against the matrices that it stands for, written out.

Statistical tests state their false-alarm rate; all seeds are fixed.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started
from known_covariances import (
    D,
    K,
    either_scale_variable,
    every_form,
    log_joint_label,
    numerical_log_det_jacobian,
    prior_in_data_units,
    standardization_of,
    standardized,
    tensors,
)
from scipy import integrate, special, stats

import bgmm_jd
from bgmm_jd.backend.arviz_version import arviz_major_version
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.data import units
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.model import covariances as covariances_module
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, scale_shape, transformation_of
from bgmm_jd.optimization import single_run, svi
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.posterior.draws import in_data_units
from bgmm_jd.variational import log_joint as log_joint_module
from bgmm_jd.variational import natural_gradient, structure, surrogate
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.parameters import as_parameter_tensors

pytestmark = pytest.mark.slow


# --- Priors and surrogates in other units ---------------------------------------------------------


@either_scale_variable
@every_form
def test_log_prior_is_the_density_of_the_standardised_variables(form, name):
    """p(z) = p(x) |dx / dz|, with the Jacobian found by differences."""
    density = prior_in_data_units(form, name)
    to = units.as_standardization_tensors(standardization_of(form), tf.float64)
    model = structure.model_of(density, form).standardized(to)
    draws = density.sample(5, seed=(0, 3))
    theta = standardized({v: a.numpy() for v, a in draws._asdict().items()}, form)
    found = log_joint_module.log_prior(model, tensors(theta))
    expected = density.log_prob(draws) + numerical_log_det_jacobian(form, name)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@either_scale_variable
@every_form
def test_surrogate_in_data_units_is_the_distribution_of_its_draws_unstandardized(form, name):
    """q(x) = q(z) / |dx / dz|, at a start, because nothing needs to be trained."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, D)) + np.repeat([[-3.0, 0, 0], [3.0, 0, 0]], 20, axis=0)
    rows = standardization_of(form).shift + standardization_of(form).scale * z
    prior = prior_in_data_units(form, name)
    problem = problem_for(rows, K, form, prior=prior, execution="eager")
    model = problem.standardized_model
    params = as_parameter_tensors(started(problem).params)
    draws, log_q = surrogate.standardized_surrogate(model, params).experimental_sample_and_log_prob(
        20, seed=tf.constant([5, 0])
    )
    moved_surrogate = surrogate.surrogate_in_data_units(model, params)
    moved = [
        units.unstandardize(transformation_of(v, form), draw, problem.prior_standardization)
        for v, draw in surrogate.by_name(model, draws).items()
    ]
    log_det_jacobian = units.log_det_jacobian(
        model.transformations_and_shapes, problem.data.standardization
    )
    assert [v.shape for v in moved_surrogate.sample(2)] == [v[:2].shape for v in moved]
    # A Wishart's density loses the condition number of a start's 20 rows twice.
    np.testing.assert_allclose(
        moved_surrogate.log_prob(*moved), log_q.numpy() - log_det_jacobian, rtol=1e-8
    )


@pytest.mark.parametrize("covariance", ["Full", "banded", "", None, 1])
def test_fit_in_an_unknown_form_is_refused(covariance):
    message = r"covariance must be one of \('diag', 'full', 'tied', 'spherical'\)"
    with pytest.raises(ValueError, match=message):
        bgmm_jd.fit(np.zeros((4, 2)), 2, covariance=covariance)


# --- One component, where the answer can be computed ---------------------------------------------

ONE = np.random.default_rng(0).normal(size=(20, 2)) @ [[1.0, 0.6], [0.0, 0.5]] + [1.0, -0.5]
N_ONE = len(ONE)


@functools.cache
def one(form):
    """Fit one component under the published prior, as a graph, which compiles in half the time."""
    density = bgmm_jd.mixture_prior(1, 2, covariance=form, dtype="float64")
    return bgmm_jd.fit(
        ONE, 1, covariance=form, prior=density, restarts=1, execution="graph", progress=False
    )


class Weighted(NamedTuple):
    """Draws of the exact posterior of a matrix form with their weights, and the log evidence."""

    means: np.ndarray
    precisions: np.ndarray
    weight: np.ndarray
    log_evidence: float
    error: float  # of the log evidence

    def moments(self, values):
        """Return mean, variance, fourth central moment, and the errors of the first two."""
        mean = self.weight @ values
        squares = (values - mean) ** 2
        variance = self.weight @ squares
        errors = [np.sqrt(self.weight**2 @ (v - self.weight @ v) ** 2) for v in (values, squares)]
        return mean, variance, self.weight @ squares**2, errors


@pytest.fixture(scope="module")
def exact():
    """Return weighted draws of the exact posterior, made under a flat prior on the mean:

        P ~ Wishart(df + N - 1, (V^-1 + S)^-1),    mean | P ~ Normal(average, (N P)^-1)

    with the scatter matrix S. The weight of a draw is then its prior density of the mean, which
    is bounded. The evidence under the flat prior is known in closed form.
    """
    n, D = 400_000, 2
    rng = np.random.default_rng(1)
    df, V = 11.0, np.eye(D) / 10  # of `mixture_prior`: 2 * 5 + D - 1, 1 / (2 * 5)
    average = ONE.mean(axis=0)
    scatter = (ONE - average).T @ (ONE - average)
    law = stats.wishart(df + N_ONE - 1, np.linalg.inv(np.linalg.inv(V) + scatter))
    precisions = law.rvs(n, random_state=rng)
    root = np.linalg.inv(np.linalg.cholesky(precisions)).swapaxes(-1, -2)
    z = rng.standard_normal((n, D, 1)) / np.sqrt(N_ONE)
    means = average + (root @ z)[..., 0]
    weight = np.exp(stats.norm.logpdf(means).sum(axis=1))

    def log_normalizer(law):
        half = law.df / 2
        return (
            half * D * np.log(2) + half * np.linalg.slogdet(law.scale)[1]
            + special.multigammaln(half, D)
        )  # fmt: skip

    known = log_normalizer(law) - log_normalizer(stats.wishart(df, V))
    known -= (N_ONE - 1) * D / 2 * np.log(2 * np.pi) + D / 2 * np.log(N_ONE)
    # If that constant is right, log joint - log q is the log weight at every point.
    at, P = means[0], precisions[0]
    joint = (
        stats.norm.logpdf(at).sum()
        + stats.wishart(df, V).logpdf(P)
        + stats.multivariate_normal(at, np.linalg.inv(P)).logpdf(ONE).sum()
    )
    log_q = law.logpdf(P) + stats.multivariate_normal(average, np.linalg.inv(N_ONE * P)).logpdf(at)
    np.testing.assert_allclose(joint - log_q, known + np.log(weight[0]), rtol=1e-11)
    return Weighted(
        means,
        precisions,
        weight / weight.sum(),
        known + np.log(weight.mean()),
        weight.std() / weight.mean() / np.sqrt(n),
    )


def functions(means, precisions):
    """Return functions of the mean and the precision matrix, by name: [S] each."""
    covariances = np.linalg.inv(precisions)
    return {
        "mean 0": means[:, 0],
        "mean 1": means[:, 1],
        "precision 00": precisions[:, 0, 0],
        "precision 01": precisions[:, 0, 1],
        "precision 11": precisions[:, 1, 1],
        "log determinant": np.linalg.slogdet(precisions)[1],
        "correlation": covariances[:, 0, 1] / np.sqrt(covariances[:, 0, 0] * covariances[:, 1, 1]),
        "product": means[:, 0] * precisions[:, 0, 1],
    }


def assert_moments(draws, mean, variance, fourth, errors=(0.0, 0.0)):
    """Compare mean and variance to 5 standard errors, each with a false-alarm rate of 6e-7.

    The n draws are resampled from 3 n weighted proposals, so their means have at most twice the
    variance of those of n independent draws.
    """
    n = len(draws)
    assert abs(draws.mean() - mean) < 5 * np.hypot(np.sqrt(2 * variance / n), errors[0])
    spread_error = np.sqrt(2 * (fourth - variance**2) / n)
    assert abs(np.mean((draws - mean) ** 2) - variance) < 5 * np.hypot(spread_error, errors[1])


def test_draws_of_one_full_component_have_the_exact_moments(exact):
    theta = one("full").sample(20_000, seed=3)
    found = functions(theta["means"][:, 0], theta["precisions"][:, 0])
    for name, of in functions(exact.means, exact.precisions).items():
        assert_moments(found[name], *exact.moments(of))


def log_ratio(posterior, n):
    """Return log joint - log q of draws of the calibrated normal distribution."""
    draws = importance_sampling.draw_proposal(posterior.approximation, n, np.random.default_rng(5))
    log_joint, log_q = log_densities(posterior, draws)
    return log_joint - log_q


def test_evidence_of_one_full_component_is_exact_and_the_elbo_below_it(exact):
    """E_q[p(X, theta) / q(theta)] = p(X), and the elbo is below it: to 5 standard errors."""
    posterior = one("full")
    ratio = np.exp(log_ratio(posterior, 20_000) - exact.log_evidence)
    error = np.hypot(ratio.std() / np.sqrt(len(ratio)), exact.error)
    assert error < 0.02  # a larger error would make the test weak
    assert abs(ratio.mean() - 1) < 5 * error
    slack = 5 * np.hypot(posterior.elbo_se, exact.error)
    # Mean and precisions depend little on each other where the prior on the mean is wide.
    assert exact.log_evidence - 0.5 < posterior.elbo < exact.log_evidence + slack


class Quadrature(NamedTuple):
    """A spherical component over log precision, with the mean integrated out analytically.

    weight [G] : posterior probability of each point of the grid.
    precision [G], loc [G, D], variance [G] : the precision there, and moments of the mean given it.
    """

    weight: np.ndarray
    precision: np.ndarray
    loc: np.ndarray
    variance: np.ndarray
    log_evidence: float


def quadrature(points):
    line = np.linspace(-4, 4, points)
    tau = np.exp(line)
    eye = np.eye(N_ONE)
    density = np.array(
        [
            stats.multivariate_normal(cov=eye / t + 1).logpdf(ONE.T).sum()
            + stats.gamma.logpdf(t, 5.0, scale=0.2)
            + np.log(t)
            for t in tau
        ]
    )
    total = special.logsumexp(density)
    variance = 1 / (N_ONE * tau + 1)
    return Quadrature(
        np.exp(density - total),
        tau,
        (N_ONE * tau * variance)[:, np.newaxis] * ONE.mean(axis=0),
        variance,
        np.log(integrate.trapezoid(np.exp(density - total), line)) + total,
    )


def test_draws_and_evidence_of_one_spherical_component_are_exact():
    grid, coarse = quadrature(801), quadrature(401)
    assert grid.log_evidence == pytest.approx(coarse.log_evidence, abs=1e-10)
    posterior = one("spherical")
    theta = posterior.sample(20_000, seed=3)

    def check(draws, loc, variance):
        """Compare draws that are Normal(loc, variance) at each point of the grid."""
        mean = grid.weight @ loc
        off = loc - mean
        assert_moments(
            draws,
            mean,
            grid.weight @ (off**2 + variance),
            grid.weight @ (off**4 + 6 * off**2 * variance + 3 * variance**2),
        )

    for d in range(2):
        check(theta["means"][:, 0, d], grid.loc[:, d], grid.variance)
    check(theta["precisions"][:, 0, 0], grid.precision, 0.0)
    check(np.log(theta["precisions"][:, 0, 0]), np.log(grid.precision), 0.0)
    ratio = np.exp(log_ratio(posterior, 20_000) - grid.log_evidence)
    error = ratio.std() / np.sqrt(len(ratio))
    assert error < 0.02
    assert abs(ratio.mean() - 1) < 5 * error
    assert posterior.elbo < grid.log_evidence + 5 * posterior.elbo_se


# --- Two components: one fit of each form, and one of its rows in other units ---------------------

# As many features as components, so that the shape alone does not determine the form.
TWO = np.concatenate(
    [
        np.random.default_rng(1).normal(size=(70, 2)) @ [[1.0, 0.6], [0.0, 0.5]] + [-3.0, 0.0],
        np.random.default_rng(2).normal(size=(50, 2)) @ [[1.0, -0.4], [0.0, 1.0]] + [3.0, 1.0],
    ]
)
SHIFT = np.array([5000.0, -2.0])
FACTOR = {form: np.array([1000.0, 0.03]) for form in FORMS} | {"spherical": np.full(2, 1000.0)}


@functools.cache
def two(form):
    return bgmm_jd.fit(TWO, 2, covariance=form, restarts=1, progress=False)


@functools.cache
def two_in_other_units(form):
    rows = SHIFT + FACTOR[form] * TWO
    return bgmm_jd.fit(rows, 2, covariance=form, restarts=1, progress=False)


def factor_of_precisions(form):
    inverse = 1 / FACTOR[form]
    if form in MATRIX_FORMS:
        return np.outer(inverse, inverse)
    return inverse**2 if form == "diag" else inverse[:1] ** 2


def in_other_units(name, value, form):
    """Return a variable of `two` in the units of `two_in_other_units`."""
    if name == "means":
        return SHIFT + FACTOR[form] * value
    return value * factor_of_precisions(form) if name == "precisions" else value


@every_form
def test_fit_of_two_clusters_finds_them_in_every_form(form):
    posterior = two(form)
    assert posterior.covariance == form
    assert posterior.status is bgmm_jd.Status.CONVERGED
    np.testing.assert_array_equal(bgmm_jd.predict(posterior, TWO), np.repeat([0, 1], [70, 50]))
    draws = posterior.sample(500)
    assert draws["precisions"].shape == (500, *scale_shape(form, 2, 2))
    # The moments of the rows, to 5 posterior sds: the clusters are separated and the prior is weak.
    for k, rows in enumerate((TWO[:70], TWO[70:])):
        error = np.abs(draws["means"][:, k].mean(axis=0) - rows.mean(axis=0))
        assert np.all(error < 5 * draws["means"][:, k].std(axis=0))
    theta = {name: v.astype(np.float64) for name, v in draws.items()}
    found = covariances_module.component_covariances(theta, form)
    pooled = sum(np.cov(rows.T, bias=True) * len(rows) for rows in (TWO[:70], TWO[70:])) / len(TWO)
    for k, rows in enumerate((TWO[:70], TWO[70:])):
        own = np.cov(rows.T, bias=True)
        expected = {
            "diag": np.diag(np.diag(own)),
            "full": own,
            "tied": pooled,
            "spherical": np.eye(2) * np.trace(own) / 2,
        }[form]
        error = np.abs(found[:, k].mean(axis=0) - expected)
        assert np.all(error <= 5 * found[:, k].std(axis=0) + 1e-12)


@every_form
def test_fit_of_shifted_and_scaled_rows_is_the_same_fit(form):
    """Under the default prior, which is scaled to X, equal seeds agree to float tolerance.

    Standardised rows are equal up to some eps of 5000 / 1000 and 2 / 0.03 sds, and the fit is a
    contraction.
    """
    found, moved = two(form), two_in_other_units(form)
    jacobian = len(TWO) * np.log(FACTOR[form]).sum()
    assert moved.elbo == pytest.approx(found.elbo - jacobian, abs=1e-7)
    np.testing.assert_allclose(moved.elbo_trace, found.elbo_trace - jacobian, rtol=1e-8)
    assert moved.khat == pytest.approx(found.khat, abs=1e-6)
    mine, theirs = (p.surrogate.sample_distributions(seed=(0, 0))[0] for p in (found, moved))
    for name in mine._fields:
        member, other = getattr(mine, name), getattr(theirs, name)
        expected = in_other_units(name, member.mean().numpy(), form)
        np.testing.assert_allclose(other.mean(), expected, rtol=1e-7)
        factor = FACTOR[form] if name == "means" else in_other_units(name, 1.0, form)
        np.testing.assert_allclose(other.stddev(), member.stddev().numpy() * factor, rtol=1e-7)
    draws, others = (p.sample(100, seed=1) for p in (found, moved))
    for name in draws:
        np.testing.assert_allclose(others[name], in_other_units(name, draws[name], form), rtol=1e-6)


@every_form
def test_log_densities_of_draws_are_those_written_out(form):
    """log p(X, theta) and log q(theta), in units far from the standardised ones."""
    posterior = two_in_other_units(form)
    rows = SHIFT + FACTOR[form] * TWO
    draws = draw_mean_field(posterior.problem, posterior.approximation.params, 5, seed=3)
    found = log_densities(posterior, draws)
    theta = in_data_units(posterior, draws.theta)
    covariances = covariances_module.component_covariances(theta, form)
    for s in range(5):
        draw = {name: v[s] for name, v in theta.items()}
        likelihood = special.logsumexp(log_joint_label(draw, covariances[s], rows), axis=0).sum()
        expected = posterior.prior.log_prob(*draw.values()).numpy() + likelihood
        # x - mean loses the digits of 5000 / 1000 sds, in 120 rows of 10 nats each.
        np.testing.assert_allclose(found.log_joint[s], expected, rtol=1e-9)
    np.testing.assert_allclose(
        found.log_q, posterior.surrogate.log_prob(*theta.values()), rtol=1e-9
    )


@every_form
def test_mean_field_draws_have_the_moments_of_the_surrogate(form):
    """Means are within 5 standard errors; each of some 14 has a false-alarm rate of 6e-7."""
    posterior = two_in_other_units(form)
    n = 20_000
    draws = posterior.sample(n, seed=2, calibrate=False)
    members = posterior.surrogate.sample_distributions(seed=(0, 0))[0]
    for name, value in draws.items():
        member = getattr(members, name)
        error = np.abs(value.mean(axis=0) - member.mean().numpy()) / member.stddev().numpy()
        assert error.max() < 5 / np.sqrt(n)
    assert np.isfinite(posterior.surrogate.log_prob(posterior.surrogate.sample(5))).all()
    theta = {name: v[:200] for name, v in draws.items()}
    assert np.isfinite(posterior.surrogate.log_prob(*theta.values())).all()


@every_form
def test_log_density_and_probabilities_are_averages_over_draws(form):
    posterior = two(form)
    new = np.array([[-3.0, 0.5], [0.0, 0.0], [4.0, -2.0], [9.0, 9.0]])
    S = 50
    found = bgmm_jd.log_density(posterior, new, draws=S, seed=4)
    theta = posterior.sample(S, seed=4)
    covariances = covariances_module.component_covariances(theta, form)
    joint = np.array(
        [
            log_joint_label({name: v[s] for name, v in theta.items()}, covariances[s], new)
            for s in range(S)
        ]
    )
    np.testing.assert_allclose(found, special.logsumexp(joint, axis=(0, 1)) - np.log(S), rtol=1e-9)
    proba = bgmm_jd.predict_proba(posterior, new, draws=S, seed=4)
    np.testing.assert_allclose(proba, special.softmax(joint, axis=1).mean(axis=0).T, rtol=1e-8)


@every_form
def test_predictive_rows_have_the_moments_of_the_mixture(form):
    """Five moments, averaged over draws of the parameters; each false-alarm rate is 6e-7."""
    posterior = two(form)
    n = 20_000
    rows = bgmm_jd.sample_predictive(posterior, n, seed=6)
    assert rows.shape == (n, 2)
    theta = posterior.sample(4_000, seed=7)
    weight, means = theta["weights"][..., np.newaxis], theta["means"]
    second = (
        covariances_module.component_covariances(theta, form)
        + means[..., np.newaxis] * means[..., np.newaxis, :]
    )
    each = (
        (rows, (weight * means).sum(axis=1)),
        (
            rows[:, :, np.newaxis] * rows[:, np.newaxis],
            (weight[..., np.newaxis] * second).sum(axis=1),
        ),
    )
    for mine, theirs in each:
        # 4,000 draws of the parameters are an effective sample of 2,000 at least.
        error = np.sqrt(mine.var(axis=0) / n + theirs.var(axis=0) / 2_000)
        assert np.all(np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < 5 * error)


@every_form
def test_relabel_permutes_whatever_belongs_to_components(form):
    posterior = two(form)
    other = bgmm_jd.relabel(posterior, [1, 0])
    draws, theirs = posterior.sample(20, seed=8), other.sample(20, seed=8)
    for name, value in draws.items():
        stays = name == "precisions" and form == "tied"
        np.testing.assert_array_equal(theirs[name], value if stays else value[:, ::-1])
    np.testing.assert_array_equal(
        bgmm_jd.predict_proba(other, TWO[::10]),
        bgmm_jd.predict_proba(posterior, TWO[::10])[:, ::-1],
    )
    np.testing.assert_array_equal(
        bgmm_jd.log_density(other, TWO[::10]), bgmm_jd.log_density(posterior, TWO[::10])
    )
    np.testing.assert_allclose(
        other.surrogate.log_prob(*theirs.values()),
        posterior.surrogate.log_prob(*draws.values()),
        rtol=1e-12,
    )
    first = bgmm_jd.relabel(other, "weights").sample(20)["weights"].mean(axis=0)
    assert first[0] > first[1]


MATRIX_DIMS = ("feature", "feature_bis")
DIMS = {
    "diag": {"precisions": ("component", "feature"), "sds": ("component", "feature")},
    "full": {
        "precisions": ("component", *MATRIX_DIMS),
        "covariances": ("component", *MATRIX_DIMS),
        "correlations": ("component", *MATRIX_DIMS),
        "sds": ("component", "feature"),
    },
    "tied": {
        "precisions": MATRIX_DIMS,
        "covariances": MATRIX_DIMS,
        "correlations": MATRIX_DIMS,
        "sds": ("feature",),
    },
    "spherical": {"precisions": ("component", "all_features"), "sds": ("component",)},
}
SIZES = {"component": 2, "feature": 2, "feature_bis": 2, "all_features": 1}


@every_form
def test_inference_data_has_the_variables_and_dimensions_of_the_form(form):
    posterior = two_in_other_units(form)
    rows = (SHIFT + FACTOR[form] * TWO)[::24]
    idata = bgmm_jd.to_inference_data(posterior, rows, draws=40, seed=9)
    expected = {"weights": ("component",), "means": ("component", "feature")} | DIMS[form]
    for group in ("posterior", "prior"):
        found = idata[group] if arviz_major_version() < 1 else idata[group].to_dataset()
        assert set(found.data_vars) == set(expected)
        for name, dims in expected.items():
            assert found[name].dims == ("chain", "draw", *dims)
            assert found[name].shape == (1, 40, *(SIZES[dim] for dim in dims))
            assert found[name].dtype == np.float64
        precisions = found["precisions"].to_numpy()[0]
        if form in MATRIX_FORMS:
            matrices = np.linalg.inv(precisions)
            variances = np.diagonal(matrices, axis1=-2, axis2=-1)
            root = np.sqrt(variances[..., :, np.newaxis] * variances[..., np.newaxis, :])
            # A prior's matrix has a condition number of up to 1e5, scaled to a unit diagonal.
            size = {"rtol": 1e-9, "atol": 1e-9}
            np.testing.assert_allclose(found["covariances"][0] / root, matrices / root, **size)
            np.testing.assert_allclose(found["correlations"][0], matrices / root, **size)
        else:
            variances = 1 / (precisions if form == "diag" else precisions[..., 0])
        np.testing.assert_allclose(found["sds"][0], np.sqrt(variances), rtol=1e-9)
    draws = posterior.sample(40, seed=9)
    for name in draws:
        np.testing.assert_array_equal(idata["posterior"][name].to_numpy()[0], draws[name])
    covariances = covariances_module.component_covariances(draws, form)
    likelihood = np.array(
        [
            special.logsumexp(
                log_joint_label({n: v[s] for n, v in draws.items()}, covariances[s], rows), axis=0
            )
            for s in range(40)
        ]
    )
    np.testing.assert_allclose(idata["log_likelihood"]["x"][0], likelihood, rtol=1e-8)
    assert idata["posterior_predictive"]["x"].shape == (1, 40, len(rows), 2)
    assert idata["posterior"].attrs["covariance"] == form


@every_form
def test_replicated_rows_have_the_distribution_of_their_draw(form):
    """Squared Mahalanobis distances from the nearest component are chi-squared.

    The clusters are 6 sds apart. There is one Kolmogorov-Smirnov test per form, with a false-alarm
    rate of 1e-6.
    """
    posterior = two(form)
    idata = bgmm_jd.to_inference_data(posterior, TWO, draws=30, seed=10)
    x = idata["posterior_predictive"]["x"].to_numpy()[0]
    theta = posterior.sample(30, seed=10)
    precision = np.linalg.inv(covariances_module.component_covariances(theta, form))
    off = x[:, :, np.newaxis] - theta["means"][:, np.newaxis]
    squares = np.einsum("snki,skij,snkj->snk", off, precision, off).min(axis=-1).ravel()
    assert stats.kstest(squares, stats.chi2(2).cdf).pvalue > 1e-6


def first_block(form, execution):
    """Return the first block of the fit of `two`, whose compiled program it shares."""
    problem = problem_for(TWO, 2, form, execution=execution)
    schedule = single_run.schedule_for(problem, equal_batches(len(TWO), len(TWO)))
    size = natural_gradient.StepSize(rate=0.3, longest_loc=3.0, longest_log=0.3)
    return svi.program(problem.model, schedule).run(
        as_row_tensors(problem.data.rows),
        problem.prior_standardization,
        started(problem).params,
        stateless_seed(0),
        0,
        size,
    )


@pytest.mark.parametrize("form", ["full"])
def test_executions_follow_the_same_path(form):
    """After twenty steps in float64 only rounding differs: 1e-16 a step, times 120 rows.

    Other random numbers would make a difference of the noise of a step, some 1e-1.
    """
    ours, theirs = first_block(form, "xla"), first_block(form, "eager")
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    for mine, other in zip(
        tf.nest.flatten(ours.params), tf.nest.flatten(theirs.params), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)
