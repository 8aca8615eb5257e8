"""Forms of covariance: each against the matrices that it stands for, written out.

Statistical tests state their false-alarm rate; all seeds are fixed.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, special, stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.data import units
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import Rows, as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.distributions import bijectors
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model import covariances as covariances_module
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model import prior_checks, priors
from bgmm_jd.model.covariance_forms import scale_shape, transformation_of
from bgmm_jd.optimization import single_run, svi
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.posterior.posterior import in_data_units
from bgmm_jd.reporting.arviz_version import arviz_major_version
from bgmm_jd.variational import approximation, natural_gradient, structure, surrogate
from bgmm_jd.variational import log_joint as log_joint_module

pytestmark = pytest.mark.slow

FORMS = ("diag", "full", "tied", "spherical")
MATRICES = ("full", "tied")
SPREADS = ("precisions", "scales")
K, D = 2, 3  # unlike, so that no mistake of axes can hide
Root = tfd.JointDistributionCoroutine.Root

every_form = pytest.mark.parametrize("form", FORMS)
either_spread = pytest.mark.parametrize("name", SPREADS)


class Drawn(NamedTuple):
    """Parameters as the model takes them, and the covariance matrices [..., K, D, D] they mean."""

    theta: dict[str, np.ndarray]
    covariances: np.ndarray


def random_factors(rng, shape):
    """Lower Cholesky factors [..., D, D] of covariances with a condition number of some dozens."""
    features = shape[-1]
    lower = np.tril(rng.uniform(-0.7, 0.7, shape), -1)
    return lower + np.exp(rng.uniform(-0.5, 0.5, shape)) * np.eye(features)


def drawn(form, name, sample=(), seed=0, components=K, features=D):
    rng = np.random.default_rng(seed)
    shape = (*sample, *scale_shape(form, components, features))
    theta = {
        "weights": rng.dirichlet(np.full(components, 3.0), size=sample),
        "means": rng.normal(0, 2, (*sample, components, features)),
    }
    if form in MATRICES:
        lower = random_factors(rng, shape)
        found = lower @ lower.swapaxes(-1, -2)
        theta[name] = lower if name == "scales" else symmetric(np.linalg.inv(found))
        found = found if form == "full" else found[..., np.newaxis, :, :]
    else:
        sd = rng.gamma(3.0, 0.5, shape)
        theta[name] = sd if name == "scales" else sd**-2
        found = (sd**2)[..., np.newaxis] * np.eye(features)
    full = (*sample, components, features, features)
    return Drawn(theta, np.broadcast_to(found, full))


def symmetric(matrix):
    return (matrix + matrix.swapaxes(-1, -2)) / 2


def tensors(theta, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in theta.items()}


def as_rows(values, dtype=tf.float64):
    return Rows(tf.constant(values, dtype))


def row_log_likelihood(theta, values, form, dtype=tf.float64):
    return likelihood_module.row_log_likelihood(
        tensors(theta, dtype), as_rows(values, dtype), form
    ).numpy()


def log_joint_label(theta, covariances, values):
    """One draw, entry by entry, by scipy: [K, N].

    Of features scaled to variances of 1: scipy takes columns of unlike scale for singular.
    """
    found = []
    for weight, mean, matrix in zip(theta["weights"], theta["means"], covariances, strict=True):
        sd = np.sqrt(np.diag(matrix))
        law = stats.multivariate_normal(cov=matrix / np.outer(sd, sd))
        density = np.atleast_1d(law.logpdf((values - mean) / sd))
        found.append(np.log(weight) + density - np.log(sd).sum())
    return np.array(found)


@pytest.fixture
def values():
    return np.random.default_rng(9).normal(0, 2, (7, D))


# --- The likelihood -----------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [(), (4,), (2, 3)], ids=["one", "several", "axes"])
@either_spread
@every_form
def test_the_likelihood_is_that_of_a_mixture_distribution(values, form, name, sample):
    """tfd.MixtureSameFamily over matrices, each of several draws."""
    theta, covariances = drawn(form, name, sample)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalTriL(theta["means"], np.linalg.cholesky(covariances)),
    )
    by_row = values.reshape(len(values), *np.ones(len(sample), int), D)
    expected = np.moveaxis(law.log_prob(by_row).numpy(), 0, -1)
    found = row_log_likelihood(theta, values, form)
    assert found.shape == (*sample, len(values))
    # An inverse loses at most the condition number, some dozens, of a few eps.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@either_spread
@every_form
def test_responsibilities_are_bayes_rule(values, form, name):
    theta, covariances = drawn(form, name, (2,), seed=1)
    found = likelihood_module.responsibilities(tensors(theta), as_rows(values), form).numpy()
    for s in range(2):
        one = {variable: value[s] for variable, value in theta.items()}
        joint = log_joint_label(one, covariances[s], values)
        np.testing.assert_allclose(found[s], special.softmax(joint, axis=0), rtol=1e-9)


@either_spread
def test_full_with_diagonal_matrices_is_diag(values, name):
    theta, _ = drawn("diag", name, (4,))
    full = {**theta, name: theta[name][..., np.newaxis] * np.eye(D)}
    np.testing.assert_allclose(
        row_log_likelihood(full, values, "full"),
        row_log_likelihood(theta, values, "diag"),
        rtol=1e-12,
    )


@either_spread
def test_tied_is_full_with_equal_matrices(values, name):
    theta, _ = drawn("tied", name, (4,))
    full = {**theta, name: np.repeat(theta[name][:, np.newaxis], K, axis=1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "tied"),
        row_log_likelihood(full, values, "full"),
        rtol=1e-12,
    )


@either_spread
def test_spherical_is_diag_with_equal_numbers(values, name):
    theta, _ = drawn("spherical", name, (4,))
    diag = {**theta, name: np.repeat(theta[name], D, axis=-1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "spherical"),
        row_log_likelihood(diag, values, "diag"),
        rtol=1e-12,
    )


@either_spread
@every_form
def test_narrow_clusters_far_from_zero_keep_their_digits_in_float32(form, name):
    """Two clusters a hundred of their sds from zero, as centred data can have them.

    The expanded form x^T P x - 2 x^T P mu + mu^T P mu would add numbers of 1e4 nats: 1e-3 and more
    is lost. Here a residual of 4 sds at most has an error of a few roundings of 100 sds, and its
    square, halved, 4 times that for each feature.
    """
    theta, covariances = drawn(form, name, seed=2)
    size = 0.01
    power = {"precisions": -2, "scales": 1}[name]
    theta = {
        **theta,
        "means": np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]),
        name: theta[name] * size**power,
    }
    theta = {variable: value.astype(np.float32) for variable, value in theta.items()}
    rng = np.random.default_rng(0)
    z = np.clip(rng.standard_normal((40, K, D)), -2, 2)
    noise = np.einsum("kij,nkj->nki", np.linalg.cholesky(covariances), z)
    far = (theta["means"] + size * noise).reshape(-1, D).astype(np.float32)
    widest = 100 / np.sqrt(np.linalg.eigvalsh(covariances).min())  # sds, in the narrowest direction
    eps = np.finfo(np.float32).eps
    found = row_log_likelihood(theta, far, form, tf.float32)
    expected = row_log_likelihood(theta, far.astype(np.float64), form)
    roundings = 2 * D * np.sqrt(D)
    np.testing.assert_allclose(found, expected, atol=4 * D * roundings * eps * widest)


@every_form
def test_gradients_are_those_of_the_density_written_out(values, form):
    """By differences, for `scales` and `precisions`; a matrix in its free entries."""
    for name in SPREADS:
        theta, _ = drawn(form, name, seed=3)
        theta = tensors(theta)
        with tf.GradientTape() as tape:
            tape.watch(theta)
            total = tf.reduce_sum(
                likelihood_module.row_log_likelihood(theta, as_rows(values), form)
            )
        gradient = tape.gradient(total, theta)
        rng = np.random.default_rng(0)
        step = {variable: rng.normal(size=value.shape) for variable, value in theta.items()}
        if form in MATRICES:
            free = np.tril if name == "scales" else symmetric
            step[name] = free(step[name])
        along = sum((step[v] * gradient[v].numpy()).sum() for v in theta)
        h = 1e-5
        up, down = (
            row_log_likelihood({v: theta[v] + s * h * step[v] for v in theta}, values, form).sum()
            for s in (1, -1)
        )
        # The third derivative times h^2, and eps over h: both below 1e-8 of some 100 nats.
        assert (up - down) / (2 * h) == pytest.approx(along, rel=1e-6, abs=1e-6)


# --- Spreads, in numpy --------------------------------------------------------------------------


@either_spread
@every_form
def test_spreads_of_draws(form, name):
    theta, covariances = drawn(form, name, (3, 4), seed=4)
    sd = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    own = {
        "diag": sd,
        "full": sd,
        "tied": sd[..., 0, :],
        "spherical": sd[..., 0],
    }[form]
    np.testing.assert_allclose(covariances_module.standard_deviations(theta, form), own, rtol=1e-12)
    np.testing.assert_allclose(
        covariances_module.component_covariances(theta, form), covariances, rtol=1e-12, atol=1e-13
    )
    root = covariances_module.covariance_factors(theta, form)
    assert root.shape[: 2 + 2] == (3, 4, K, D)
    lower = root if form in MATRICES else root[..., np.newaxis] * np.eye(D)
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    np.testing.assert_allclose(lower @ lower.swapaxes(-1, -2), covariances, rtol=1e-12, atol=1e-13)
    z = np.random.default_rng(0).normal(size=(3, 4, K, D))
    np.testing.assert_allclose(
        covariances_module.correlated_noise(root, z),
        (lower @ z[..., np.newaxis])[..., 0],
        rtol=1e-12,
        atol=1e-13,
    )


@either_spread
@pytest.mark.parametrize("form", MATRICES)
def test_matrices_of_draws(form, name):
    theta, covariances = drawn(form, name, (5,), seed=5)
    own = covariances if form == "full" else covariances[:, 0]
    found = covariances_module.covariance_matrices(theta)
    np.testing.assert_allclose(found, own, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found, found.swapaxes(-1, -2))
    correlations = covariances_module.correlation_matrices(theta)
    for index in np.ndindex(own.shape[:-2]):
        sd = np.sqrt(np.diag(own[index]))
        np.testing.assert_allclose(
            correlations[index], own[index] / np.outer(sd, sd), rtol=1e-12, atol=1e-13
        )
    rounded = {name: v.astype(np.float32) for name, v in theta.items()}
    assert np.abs(covariances_module.correlation_matrices(rounded)).max() <= 1.0


# --- Units --------------------------------------------------------------------------------------


def where(form):
    """Units with columns of unlike scale, but for the form that needs columns of one."""
    scale = [0.03] * 3 if form == "spherical" else [1000.0, 0.03, 2.0]
    return units.Standardization(np.array([5000.0, -0.2, 1.0]), np.array(scale))


def moved(theta, form):
    return {
        name: units.unstandardize(transformation_of(name, form), value, where(form))
        for name, value in theta.items()
    }


@either_spread
@every_form
def test_rows_have_the_density_of_the_rows_inside(form, name):
    """x = shift + scale z: p(x) = p(z) / prod(scale), in scipy's words on either side."""
    theta, covariances = drawn(form, name, (), seed=6)
    z = np.random.default_rng(1).normal(size=(5, D))
    x = where(form).shift + where(form).scale * z
    user = moved(theta, form)
    theirs = covariances_module.component_covariances(
        {v: a[np.newaxis] for v, a in user.items()}, form
    )[0]
    found = special.logsumexp(log_joint_label(user, theirs, x), axis=0)
    expected = special.logsumexp(log_joint_label(theta, covariances, z), axis=0)
    volume = np.log(where(form).scale).sum()
    # x - mean loses 5000 / 0.03 sds' worth of digits where the form is spherical: 1e5 eps.
    np.testing.assert_allclose(found, expected - volume, rtol=1e-8)
    np.testing.assert_allclose(row_log_likelihood(user, x, form), found, rtol=1e-8)
    back = {
        v: units.standardize_value(transformation_of(v, form), a, where(form))
        for v, a in user.items()
    }
    for variable in theta:
        np.testing.assert_allclose(back[variable], theta[variable], rtol=1e-9, atol=1e-10)


def free_entries(form, name, value):
    """The numbers that can be chosen: below the diagonal and on it, of a matrix."""
    return value[..., *np.tril_indices(D)].ravel() if form in MATRICES else value.ravel()


def from_free_entries(form, name, numbers):
    shape = scale_shape(form, K, D)
    if form not in MATRICES:
        return numbers.reshape(shape)
    value = np.zeros(shape)
    value[..., *np.tril_indices(D)] = numbers.reshape(*shape[:-2], -1)
    if name == "scales":
        return value
    return value + np.tril(value, -1).swapaxes(-1, -2)


def jacobian(form, name):
    """log |d user / d internal| of means and spread, by unit steps in their free entries."""

    def user(point):
        theta = {
            "means": point[: K * D].reshape(K, D),
            name: from_free_entries(form, name, point[K * D :]),
        }
        there = moved(theta, form)
        return np.concatenate([there["means"].ravel(), free_entries(form, name, there[name])])

    theta, _ = drawn(form, name, seed=7)
    start = np.concatenate([theta["means"].ravel(), free_entries(form, name, theta[name])])
    columns = [user(start + step) - user(start) for step in np.eye(len(start))]
    return np.linalg.slogdet(np.stack(columns))[1]


def prior_of(form, name, components=K, features=D, shift=0.0, scale=1.0):
    """In the units of `shift` and `scale`; over either kind of spread, in float64."""
    if name == "precisions":
        square = np.square(scale)
        rate = square[:1] if form == "spherical" and np.ndim(square) else square
        return priors.mixture_prior(
            components,
            features,
            covariance=form,
            mean_loc=shift,
            mean_scale=3.0 * scale,
            precision_concentration=2.0,
            precision_rate=rate,
            dtype="float64",
        )
    shape = scale_shape(form, components, features)
    if form in MATRICES:
        numbers = np.zeros((*shape[:-2], features * (features + 1) // 2))
        # Scaled by row, as a factor of a covariance is.
        rows = np.broadcast_to(np.asarray(scale, np.float64), (features,))[:, np.newaxis]
        scaled = bijectors.ScaleMatrix(
            tf.constant(rows), tf.reduce_sum(np.log(rows[:, 0]) * np.arange(1, features + 1))
        )
        scales = tfd.TransformedDistribution(
            tfd.Independent(tfd.Normal(numbers, 0.5), 1),
            tfb.Chain([scaled, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)]),
        )
    else:
        centre = np.broadcast_to(np.log(scale), (features,))[: shape[-1]]
        scales = tfd.LogNormal(np.broadcast_to(centre, shape), np.float64(0.5))
    own = len(shape) - (2 if form in MATRICES else 0)
    means = tfd.Normal(np.full((components, features), shift), 3.0 * np.asarray(scale))

    def model():
        yield Root(tfd.Dirichlet(np.full(components, 2.0), name="weights"))
        yield Root(tfd.Independent(means, 2, name="means"))
        yield Root(tfd.Independent(scales, own, name="scales"))

    return tfd.JointDistributionCoroutine(model)


def user_prior(form, name):
    return prior_of(form, name, shift=where(form).shift, scale=where(form).scale)


@either_spread
@every_form
def test_log_prior_is_the_density_of_the_variables_inside(form, name):
    """p(inside) = p(user) |d user / d inside|, the change found by differences."""
    density = user_prior(form, name)
    model = structure.model_of(density, prior_checks.prior_covariance_form(density, K, D, form))
    draws = density.sample(5, seed=(0, 3))
    inside = {
        v: units.standardize_value(transformation_of(v, form), a.numpy(), where(form))
        for v, a in draws._asdict().items()
    }
    found = log_joint_module.log_prior(
        model, tensors(inside), units.as_standardization_tensors(where(form), tf.float64)
    )
    expected = density.log_prob(draws) + jacobian(form, name)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@either_spread
@every_form
def test_the_surrogate_in_user_units_is_the_law_of_its_draws_moved(form, name):
    """q(user) = q(inside) / |d user / d inside|, at a start: nothing needs to be trained."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, D)) + np.repeat([[-3.0, 0, 0], [3.0, 0, 0]], 20, axis=0)
    rows = where(form).shift + where(form).scale * z
    data = standardize(rows, common=form == "spherical")
    inside = start_at(problem_of(data, K, form, user_prior(form, name), "eager"), None, 1, [0, 0])
    sites, here = inside.model.sites, inside.standardization
    mine = surrogate.standardized_surrogate(sites, inside.values, here)
    theirs = surrogate.surrogate_in_data_units(sites, inside.values, here)
    draws, log_q = mine.experimental_sample_and_log_prob(20, seed=tf.constant([5, 0]))
    theta = surrogate.by_name(sites, draws)
    user = [
        units.unstandardize(transformation_of(v, form), draw, here) for v, draw in theta.items()
    ]
    volume = units.log_det_jacobian(inside.model.densities, data.standardization)
    assert [v.shape for v in theirs.sample(2)] == [v[:2].shape for v in user]
    # A Wishart's density loses the condition number of a start's 20 rows twice.
    np.testing.assert_allclose(theirs.log_prob(*user), log_q.numpy() - volume, rtol=1e-8)


# --- The prior ----------------------------------------------------------------------------------

A_PRIOR = {
    "mean_loc": np.array([[160.0, 0.0, 1.0], [200.0, 0.02, 2.0]]),
    "mean_scale": np.array([[50.0, 0.05, 3.0], [40.0, 0.03, 1.0]]),
    "weight_concentration": np.array([2.0, 3.0]),
}
CONCENTRATION = {
    "diag": np.array([[2.0, 1.5, 0.7], [1.8, 2.2, 3.0]]),
    "full": np.array([2.0, 0.8]),
    "tied": np.array(1.7),
    "spherical": np.array([[2.0], [0.8]]),
}
RATE = {
    "diag": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "full": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "tied": np.array([100.0, 5e-5, 1.0]),
    "spherical": np.array([[3.0], [0.1]]),
}


def unlike_prior(form):
    return bgmm_jd.mixture_prior(
        K,
        D,
        covariance=form,
        precision_concentration=CONCENTRATION[form],
        precision_rate=RATE[form],
        dtype="float64",
        **A_PRIOR,
    )


def log_density_of_precisions(form, value):
    """Of one draw, by scipy."""
    a, b = CONCENTRATION[form], RATE[form]
    if form not in MATRICES:
        return stats.gamma(a, scale=1 / b).logpdf(value).sum()
    if form == "tied":
        return stats.wishart(2 * a + D - 1, np.diag(0.5 / b)).logpdf(value)
    return sum(
        stats.wishart(2 * a[k] + D - 1, np.diag(0.5 / b[k])).logpdf(value[k]) for k in range(K)
    )


@every_form
def test_mixture_prior_against_scipy(form):
    found = unlike_prior(form)
    assert prior_checks.variable_shapes(found) == {
        "weights": (K,),
        "means": (K, D),
        "precisions": scale_shape(form, K, D),
    }
    draws = found.sample(6, seed=(0, 1))
    assert found.log_prob(draws).dtype == tf.float64
    for weights, means, precisions, density in zip(*draws, found.log_prob(draws), strict=True):
        expected = (
            stats.dirichlet(A_PRIOR["weight_concentration"]).logpdf(weights)
            + stats.norm(A_PRIOR["mean_loc"], A_PRIOR["mean_scale"]).logpdf(means).sum()
            + log_density_of_precisions(form, precisions.numpy())
        )
        np.testing.assert_allclose(density, expected, rtol=1e-10)


@every_form
def test_each_feature_has_the_gamma_law_stated(form):
    """The inverse of each feature's variance: at most 6 Kolmogorov-Smirnov tests a form, each with
    a false alarm of 1e-6."""
    draws = unlike_prior(form).sample(4_000, seed=(0, 2)).precisions.numpy()
    if form in MATRICES:
        draws = 1 / np.diagonal(np.linalg.inv(draws), axis1=-2, axis2=-1)
    a = CONCENTRATION["full"][:, np.newaxis] if form == "full" else CONCENTRATION[form]
    shape = draws.shape[1:]
    for index in np.ndindex(shape):
        law = stats.gamma(
            np.broadcast_to(a, shape)[index], scale=1 / np.broadcast_to(RATE[form], shape)[index]
        )
        assert stats.kstest(draws[:, *index], law.cdf).pvalue > 1e-6, index


@every_form
def test_equal_arguments_give_the_same_prior(form):
    assert unlike_prior(form) is unlike_prior(form)


@every_form
def test_the_default_prior_moves_with_the_columns(form):
    """That of the data's units is that of the units in which they are centred and scaled."""
    here = where(form)
    inside = priors.default_prior(K, D, form, "float64")
    user = priors.default_prior(K, D, form, "float64", here)
    draws = inside.sample(5, seed=(0, 4))
    theirs = moved({v: a.numpy() for v, a in draws._asdict().items()}, form)
    volume = jacobian(form, "precisions")
    np.testing.assert_allclose(
        user.log_prob(*theirs.values()), inside.log_prob(draws) - volume, rtol=1e-8
    )


# --- At the door --------------------------------------------------------------------------------


def independent(distribution, name):
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


def variables(*distributions):
    def model():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        yield Root(independent(tfd.Normal(np.zeros((K, D)), 1.0), "means"))
        for distribution in distributions:
            yield Root(distribution)

    return tfd.JointDistributionCoroutine(model)


def wishart(*shape, name="precisions"):
    df = np.full(shape[:-2], shape[-1] + 2.0)
    return independent(tfd.WishartTriL(df, np.eye(shape[-1])), name)


def gamma(*shape, name="precisions"):
    return independent(tfd.Gamma(np.full(shape, 2.0), 1.0), name)


@pytest.mark.parametrize(
    ("distributions", "message"),
    [
        ([], "one of 'precisions' and 'scales'"),
        ([gamma(K, D), gamma(K, D, name="scales")], "one of 'precisions' and 'scales'"),
        ([wishart(D, D), wishart(K, D, D, name="scales")], "one of 'precisions' and 'scales'"),
        ([wishart(K, D + 1, D + 1)], r"\[K, D, D\] \(full\).*\[2, 4, 4\]"),
        ([wishart(K + 1, D, D)], r"\[K, D, D\] \(full\).*\[3, 3, 3\]"),
        ([wishart(D - 1, D - 1)], r"\[D, D\] \(tied\).*\[2, 2\]"),
        ([gamma(K)], r"\[K, 1\] \(spherical\).*\[2\]"),
        ([gamma(D)], r"\[K, 1\] \(spherical\).*\[3\]"),
        ([gamma(K, D - 1)], r"\[K, D\].*\[2, 2\]"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
def test_what_no_form_has_is_refused(distributions, message):
    with pytest.raises(ValueError, match=message):
        prior_checks.prior_covariance_form(variables(*distributions), K, D)


@pytest.mark.parametrize("wanted", FORMS)
@either_spread
@every_form
def test_the_shape_of_the_prior_says_its_form(form, name, wanted):
    """Any other form that was asked for is refused; "diag" is the default, and asks for none."""
    own = prior_of(form, name)
    if wanted in (form, "diag"):
        assert prior_checks.prior_covariance_form(own, K, D, wanted) == form
    else:
        with pytest.raises(ValueError, match=f"covariance='{wanted}' needs a prior whose '{name}'"):
            prior_checks.prior_covariance_form(own, K, D, wanted)


@pytest.mark.parametrize("covariance", ["Full", "banded", "", None, 1])
def test_an_unknown_form_is_told(covariance):
    message = r"covariance must be one of \('diag', 'full', 'tied', 'spherical'\)"
    with pytest.raises(ValueError, match=message):
        bgmm_jd.fit(np.zeros((4, 2)), 2, covariance=covariance)
    with pytest.raises(ValueError, match=message):
        bgmm_jd.mixture_prior(2, 2, covariance=covariance)


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ("full", "precision_concentration", np.ones((K, D))),
        ("full", "precision_rate", np.ones((K, D, D))),
        ("tied", "precision_concentration", np.ones(K)),
        ("tied", "precision_rate", np.ones((K, D))),
        ("spherical", "precision_concentration", np.ones((K, D))),
        ("spherical", "precision_rate", np.ones(D)),
    ],
)
def test_what_does_not_broadcast_is_told(form, name, value):
    with pytest.raises(ValueError, match=f"{name} must broadcast to shape"):
        bgmm_jd.mixture_prior(K, D, covariance=form, **{name: value})


def test_where_the_shape_fits_several_forms_covariance_decides():
    """[2, 1] is [K, D] and [K, 1] of one feature; [2, 2] is [K, D] and [D, D]."""
    column, square = prior_of("diag", "scales", 2, 1), prior_of("diag", "scales", 2, 2)
    assert prior_checks.prior_covariance_form(column, 2, 1) == "diag"
    assert prior_checks.prior_covariance_form(column, 2, 1, "spherical") == "spherical"
    assert prior_checks.prior_covariance_form(square, 2, 2) == "diag"
    with pytest.raises(ValueError, match="covariance='full'"):
        prior_checks.prior_covariance_form(square, 2, 2, "full")


@either_spread
def test_matrices_are_not_taken_for_numbers_where_the_shape_fits_both(name):
    """A prior over matrices [D, D] is none over [K, D] numbers, which it would make negative."""
    assert prior_checks.prior_covariance_form(prior_of("tied", name, 2, 2), 2, 2) == "tied"
    assert prior_checks.prior_covariance_form(prior_of("tied", name, 2, 2), 2, 2, "tied") == "tied"


def test_matrices_of_positive_numbers_are_matrices_nonetheless():
    """Features of a negative correlation: a precision matrix without a negative entry."""
    scale = np.array([[1.0, 0.95], [0.95, 1.0]]) / 20

    def model():
        yield Root(tfd.Dirichlet(np.full(2, 2.0), name="weights"))
        yield Root(independent(tfd.Normal(np.zeros((2, 2)), 1.0), "means"))
        yield Root(tfd.WishartTriL(np.float64(20), np.linalg.cholesky(scale), name="precisions"))

    assert prior_checks.prior_covariance_form(tfd.JointDistributionCoroutine(model), 2, 2) == "tied"


@either_spread
def test_numbers_are_not_taken_for_a_matrix_where_the_shape_fits_both(name):
    """A prior over [K, D] numbers is none over matrices [D, D], which it would make asymmetric."""
    with pytest.raises(ValueError, match=r"covariance='tied'.*'diag'"):
        prior_checks.prior_covariance_form(prior_of("diag", name, 2, 2), 2, 2, "tied")


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_a_vague_prior_may_draw_what_underflows(form):
    """Gamma(0.001, 0.001), as BUGS has it: most draws are zero in float32."""
    vague = bgmm_jd.mixture_prior(
        K, D, covariance=form, precision_concentration=1e-3, precision_rate=1e-3
    )
    assert prior_checks.prior_covariance_form(vague, K, D, form) == form


# --- One component, where the answer can be computed ---------------------------------------------

ONE = np.random.default_rng(0).normal(size=(20, 2)) @ [[1.0, 0.6], [0.0, 0.5]] + [1.0, -0.5]
N_ONE = len(ONE)


@functools.cache
def one(form):
    """Under the published prior. As a graph, which is ready in half the time."""
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
        """Mean, variance and fourth central moment, and the errors of the first two."""
        mean = self.weight @ values
        squares = (values - mean) ** 2
        variance = self.weight @ squares
        errors = [np.sqrt(self.weight**2 @ (v - self.weight @ v) ** 2) for v in (values, squares)]
        return mean, variance, self.weight @ squares**2, errors


@pytest.fixture(scope="module")
def exact():
    """By importance sampling from the posterior that a flat prior on the mean would give:

        P ~ Wishart(df + N - 1, (V^-1 + S)^-1),    mean | P ~ Normal(average, (N P)^-1)

    with the scatter matrix S. The weight of a draw is then its prior density of the mean, which
    is bounded. What the flat prior integrates to is known in closed form.
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
    # Where that constant is right, log joint - log q is the weight: at any point.
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
    """Of the mean and the precision matrix, one by one: [S] each."""
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
    """Within 5 standard errors: two false alarms of 6e-7.

    Draws are n of 3 n weighted proposals: at most twice the variance of n independent ones.
    """
    n = len(draws)
    assert abs(draws.mean() - mean) < 5 * np.hypot(np.sqrt(2 * variance / n), errors[0])
    spread_error = np.sqrt(2 * (fourth - variance**2) / n)
    assert abs(np.mean((draws - mean) ** 2) - variance) < 5 * np.hypot(spread_error, errors[1])


def test_draws_of_one_component_with_a_matrix(exact):
    theta = one("full").sample(20_000, seed=3)
    found = functions(theta["means"][:, 0], theta["precisions"][:, 0])
    for name, of in functions(exact.means, exact.precisions).items():
        assert_moments(found[name], *exact.moments(of))


def log_ratio(posterior, n):
    """log joint - log q of draws of the calibrated normal distribution."""
    draws = importance_sampling.draw_proposal(posterior.inside, n, np.random.default_rng(5))
    log_joint, log_q = log_densities(posterior, draws)
    return log_joint - log_q


def test_the_evidence_of_one_component_with_a_matrix(exact):
    """E_q[p(X, theta) / q(theta)] = p(X), and the elbo is below it: to 5 standard errors."""
    posterior = one("full")
    ratio = np.exp(log_ratio(posterior, 20_000) - exact.log_evidence)
    error = np.hypot(ratio.std() / np.sqrt(len(ratio)), exact.error)
    assert error < 0.02  # or it would say nothing
    assert abs(ratio.mean() - 1) < 5 * error
    slack = 5 * np.hypot(posterior.elbo_se, exact.error)
    # Mean and precisions hang together by little where the prior on the mean is wide.
    assert exact.log_evidence - 0.5 < posterior.elbo < exact.log_evidence + slack


class Quadrature(NamedTuple):
    """A spherical component over log precision, its mean integrated by hand.

    weight [G] : posterior probability of each point of the grid.
    precision [G], loc [G, D], variance [G] : the precision there, and the law of the mean given it.
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


def test_draws_of_one_spherical_component():
    grid, sd_ratio = quadrature(801), quadrature(401)
    assert grid.log_evidence == pytest.approx(sd_ratio.log_evidence, abs=1e-10)
    posterior = one("spherical")
    theta = posterior.sample(20_000, seed=3)

    def check(draws, loc, variance):
        """Draws that are Normal(loc, variance) at each point of the grid."""
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

# As many features as components: the shape alone does not say the form.
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
def two_elsewhere(form):
    rows = SHIFT + FACTOR[form] * TWO
    return bgmm_jd.fit(rows, 2, covariance=form, restarts=1, progress=False)


def factor_of_precisions(form):
    inverse = 1 / FACTOR[form]
    if form in MATRICES:
        return np.outer(inverse, inverse)
    return inverse**2 if form == "diag" else inverse[:1] ** 2


def there(name, value, form):
    """A variable of `two` in the units of `two_elsewhere`."""
    if name == "means":
        return SHIFT + FACTOR[form] * value
    return value * factor_of_precisions(form) if name == "precisions" else value


@every_form
def test_a_fit_finds_the_clusters(form):
    posterior = two(form)
    assert posterior.covariance == form
    assert posterior.status is bgmm_jd.Status.CONVERGED
    np.testing.assert_array_equal(bgmm_jd.predict(posterior, TWO), np.repeat([0, 1], [70, 50]))
    draws = posterior.sample(500)
    assert draws["precisions"].shape == (500, *scale_shape(form, 2, 2))
    # The rows' own moments, to 5 posterior sds: separated clusters and a weak prior.
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
def test_shift_and_scale_of_the_rows(form):
    """Under the default prior, which moves with them: the same seed, to float tolerance.

    Rows inside are equal to some eps of 5000 / 1000 and 2 / 0.03 sds; the fit is a contraction.
    """
    here, elsewhere = two(form), two_elsewhere(form)
    volume = len(TWO) * np.log(FACTOR[form]).sum()
    assert elsewhere.elbo == pytest.approx(here.elbo - volume, abs=1e-7)
    np.testing.assert_allclose(elsewhere.elbo_trace, here.elbo_trace - volume, rtol=1e-8)
    assert elsewhere.khat == pytest.approx(here.khat, abs=1e-6)
    mine, theirs = (p.surrogate.sample_distributions(seed=(0, 0))[0] for p in (here, elsewhere))
    for name in mine._fields:
        one_, other = getattr(mine, name), getattr(theirs, name)
        np.testing.assert_allclose(other.mean(), there(name, one_.mean().numpy(), form), rtol=1e-7)
        factor = 1 if name == "means" else there(name, 1.0, form)
        factor = FACTOR[form] if name == "means" else factor
        np.testing.assert_allclose(other.stddev(), one_.stddev().numpy() * factor, rtol=1e-7)
    draws, others = (p.sample(100, seed=1) for p in (here, elsewhere))
    for name in draws:
        np.testing.assert_allclose(others[name], there(name, draws[name], form), rtol=1e-6)


@every_form
def test_densities_of_draws_are_those_written_out(form):
    """log p(X, theta) and log q(theta), in units far from those inside."""
    posterior = two_elsewhere(form)
    rows = SHIFT + FACTOR[form] * TWO
    draws = approximation.draw_mean_field(posterior.inside, 5, 3)
    found = log_densities(posterior, draws)
    theta = in_data_units(posterior, draws.theta)
    covariances = covariances_module.component_covariances(theta, form)
    for s in range(5):
        one_ = {name: v[s] for name, v in theta.items()}
        likelihood = special.logsumexp(log_joint_label(one_, covariances[s], rows), axis=0).sum()
        expected = posterior.prior.log_prob(*one_.values()).numpy() + likelihood
        # x - mean loses 5000 / 1000 sds' worth of digits, in 120 rows of 10 nats each.
        np.testing.assert_allclose(found.log_joint[s], expected, rtol=1e-9)
    np.testing.assert_allclose(
        found.log_q, posterior.surrogate.log_prob(*theta.values()), rtol=1e-9
    )


@every_form
def test_the_surrogate_is_the_law_of_the_mean_field_draws(form):
    """Their means within 5 standard errors of the surrogate's: some 14 false alarms of 6e-7."""
    posterior = two_elsewhere(form)
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
def test_log_density_is_averaged_over_draws(form):
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
def test_new_rows_have_the_moments_of_the_mixture(form):
    """Averaged over draws of the parameters: five numbers, each a false alarm of 6e-7."""
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
        # 4,000 draws of the parameters, worth 2,000 at least.
        error = np.sqrt(mine.var(axis=0) / n + theirs.var(axis=0) / 2_000)
        assert np.all(np.abs(mine.mean(axis=0) - theirs.mean(axis=0)) < 5 * error)


@every_form
def test_relabel(form):
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
def test_to_inference_data(form):
    posterior = two_elsewhere(form)
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
        if form in MATRICES:
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
def test_replicated_rows_have_the_law_of_their_draw(form):
    """Whitened by the likeliest component they are standard normal: their squares are chi-squared.

    One Kolmogorov-Smirnov test a form, of a false alarm of 1e-6; clusters 6 sds apart.
    """
    posterior = two(form)
    idata = bgmm_jd.to_inference_data(posterior, TWO, draws=30, seed=10)
    x = idata["posterior_predictive"]["x"].to_numpy()[0]
    theta = posterior.sample(30, seed=10)
    precision = np.linalg.inv(covariances_module.component_covariances(theta, form))
    off = x[:, :, np.newaxis] - theta["means"][:, np.newaxis]
    squares = np.einsum("snki,skij,snkj->snk", off, precision, off).min(axis=-1).ravel()
    assert stats.kstest(squares, stats.chi2(2).cdf).pvalue > 1e-6


def blocks(form, execution):
    """The first block of the fit of `two`, and so no compilation of its own."""
    inside = problem_of(standardize(TWO), 2, form, None, execution)
    inside = start_at(inside, None, 1, [0, 0])
    plan = single_run.schedule(inside, equal_batches(len(TWO), len(TWO)))
    stride = natural_gradient.StepSize(rate=0.3, longest_loc=3.0, longest_log=0.3)
    rows = as_row_tensors(inside.data.rows)
    return svi.program(inside.model, plan).run(
        rows, inside.prior_units, inside.values, stateless_seed(0), 0, stride
    )


@pytest.mark.parametrize("form", ["full"])
def test_executions_follow_one_path(form):
    """In float64, twenty steps apart by rounding alone: 1e-16 a step, amplified by 120 rows.

    Anything that drew other numbers would differ by the noise of a step, some 1e-1.
    """
    ours, theirs = blocks(form, "xla"), blocks(form, "eager")
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    for mine, other in zip(
        tf.nest.flatten(ours.values), tf.nest.flatten(theirs.values), strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-8, atol=1e-10)
