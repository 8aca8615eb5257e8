"""The likelihood with labels summed out, against the sum over labels written out."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.rows import Missing, Rows
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, scale_shape

N, K, D = 4, 3, 2


def make_theta(S=None, spread="precisions", form="diag", seed=0):
    rng = np.random.default_rng(seed)
    shape = () if S is None else (S,)
    theta = {
        "weights": rng.dirichlet(np.ones(K), size=shape),
        "means": rng.normal(0, 2, (*shape, K, D)),
        spread: rng.gamma(3.0, 0.5, (*shape, *scale_shape(form, K, D))),
    }
    if form in MATRIX_FORMS:
        lower = np.tril(theta[spread])  # with a positive diagonal
        theta[spread] = lower if spread == "scales" else lower @ lower.swapaxes(-1, -2)
    return theta


def tensors(theta, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in theta.items()}


def likelihood(theta, rows, form="diag"):
    return likelihood_module.row_log_likelihood(tensors(theta), Rows(tf.constant(rows)), form)


def responsibilities(theta, rows, form="diag"):
    return likelihood_module.responsibilities(tensors(theta), Rows(tf.constant(rows)), form)


@pytest.fixture
def rows():
    return np.random.default_rng(9).normal(0, 2, (N, D))


def sds(theta):
    return theta["scales"] if "scales" in theta else theta["precisions"] ** -0.5


def covariances(theta, form):
    """[K, D, D]"""
    if form not in MATRIX_FORMS:
        return np.broadcast_to(sds(theta) ** 2, (K, D))[..., np.newaxis] * np.eye(D)
    if "scales" in theta:
        found = theta["scales"] @ theta["scales"].swapaxes(-1, -2)
    else:
        found = np.linalg.inv(theta["precisions"])
    return np.broadcast_to(found, (K, D, D))


def log_joint_label(theta, rows, form="diag"):
    """[K, N], entry by entry: the density of what is not NaN in a row."""
    found = np.tile(np.log(theta["weights"]), (len(rows), 1))
    for n, k in np.ndindex(found.shape):
        there = np.flatnonzero(~np.isnan(rows[n]))
        if len(there):
            mean, covariance = theta["means"][k], covariances(theta, form)[k]
            law = stats.multivariate_normal(mean[there], covariance[np.ix_(there, there)])
            found[n, k] += law.logpdf(rows[n, there])
    return found.T


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_log_joint_label(rows, spread, form):
    theta = make_theta(spread=spread, form=form)
    found = likelihood_module.log_joint_label(tensors(theta), Rows(tf.constant(rows)), form)
    # A sum of D terms of a few dozen nats in float64; the same below.
    np.testing.assert_allclose(found, log_joint_label(theta, rows, form), rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_missing_entries_are_summed_out(spread, form):
    """The density of what is observed, for every pattern, in rows that share some."""
    every = np.array(list(itertools.product([0.0, 1.0], repeat=D)))
    pattern = np.array([3, 1, 0, 2, 3, 1], np.int32)
    values = np.random.default_rng(8).normal(0, 2, (len(pattern), D))
    there = every[pattern] > 0
    theta = make_theta(spread=spread, form=form)
    given = Rows(
        tf.constant(np.where(there, values, 0.0)),
        missing=Missing(tf.constant(every), tf.constant(pattern)),
    )
    found = likelihood_module.log_joint_label(tensors(theta), given, form)
    expected = log_joint_label(theta, np.where(there, values, np.nan), form)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # And for several draws at once.
    several = make_theta(5, spread, form)
    found = likelihood_module.row_log_likelihood(tensors(several), given, form)
    for s in range(5):
        one = {name: value[s] for name, value in several.items()}
        alone = likelihood_module.row_log_likelihood(tensors(one), given, form)
        # A row of which nothing is observed has the log of 1, to a rounding or two.
        np.testing.assert_allclose(found[s], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_the_likelihood_is_the_sum_over_all_labellings(rows, spread, form):
    """p(X given theta) = sum over the K^N labellings of p(X, labels given theta)."""
    theta = make_theta(spread=spread, form=form)
    joint = log_joint_label(theta, rows, form)
    labellings = itertools.product(range(K), repeat=N)
    expected = special.logsumexp([joint[list(z), range(N)].sum() for z in labellings])
    found = tf.reduce_sum(likelihood(theta, rows, form))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_likelihood_is_that_of_a_mixture_distribution(rows):
    """tfd.MixtureSameFamily, for each of several draws of theta."""
    theta = make_theta(S=5)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalDiag(theta["means"], sds(theta)),
    )
    found = likelihood(theta, rows)
    assert found.shape == [5, N]
    expected = tf.transpose(law.log_prob(rows[:, np.newaxis]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_several_draws_are_each_its_own(rows, spread, form):
    theta = make_theta(5, spread, form)
    found = likelihood(theta, rows, form)
    assert found.shape == [5, N]
    for s in range(5):
        one = {name: value[s] for name, value in theta.items()}
        np.testing.assert_allclose(found[s], likelihood(one, rows, form), rtol=1e-12)


def test_each_row_has_density_one_in_all():
    """The integral over x, on a grid, where the trapezoid rule is exact to rounding."""
    theta = {
        "weights": np.array([0.2, 0.5, 0.3]),
        "means": np.array([[-1.0], [0.0], [2.0]]),
        "precisions": np.array([[1.0], [4.0], [0.5]]),
    }
    x = np.arange(-14, 16, 0.1)
    density = np.exp(likelihood(theta, x[:, np.newaxis]))
    # Outside lie 9 sds of the widest component: 1e-19. The rule's error is exp(-2 pi^2 sd^2/h^2).
    np.testing.assert_allclose(density.sum() * 0.1, 1, rtol=1e-12)


def test_responsibilities_are_bayes_rule(rows):
    theta = make_theta()
    joint = log_joint_label(theta, rows)
    expected = np.exp(joint - special.logsumexp(joint, axis=0))
    found = responsibilities(theta, rows)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_responsibilities_sum_to_one(rows, dtype):
    theta = tensors(make_theta(S=5), dtype)
    for size in (1.0, 1e6, 1e15):
        found = likelihood_module.responsibilities(
            theta, Rows(tf.constant(size * rows, dtype)), "diag"
        )
        assert found.dtype == dtype
        # K terms, each rounded.
        eps = np.finfo(dtype.as_numpy_dtype).eps
        np.testing.assert_allclose(tf.reduce_sum(found, axis=-2), np.ones((5, N)), rtol=K * eps)


def test_scales_are_sds(rows):
    theta = make_theta(S=5, spread="scales")
    as_precisions = {**theta, "precisions": theta["scales"] ** -2}
    del as_precisions["scales"]
    found, expected = (likelihood(t, rows) for t in (theta, as_precisions))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_components_are_interchangeable(rows):
    theta = make_theta(S=5)
    order = [2, 0, 1]
    moved = {name: value[:, order] for name, value in theta.items()}
    found, expected = (likelihood(t, rows) for t in (moved, theta))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    proba, other = (responsibilities(t, rows).numpy() for t in (moved, theta))
    np.testing.assert_allclose(proba, other[:, order], rtol=1e-13)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_a_weight_that_underflows_counts_for_nothing(rows, dtype):
    """Density and gradient are those of the mixture of the others."""
    theta = tensors(make_theta(), dtype)
    others = {name: value[:2] for name, value in theta.items()}
    weights = tf.constant([0.25, 0.75], dtype)
    X = Rows(tf.constant(rows, dtype))

    def value_and_gradients(theta):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            value = tf.reduce_sum(likelihood_module.row_log_likelihood(theta, X, "diag"))
        return value, tape.gradient(value, theta)

    value, gradients = value_and_gradients(
        {**theta, "weights": tf.concat([weights, tf.zeros([1], dtype)], 0)}
    )
    expected, of_others = value_and_gradients({**others, "weights": weights})
    limits = np.finfo(dtype.as_numpy_dtype)
    tolerance = 64 * limits.eps  # N D K terms of like size
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient[:2], of_others[name], rtol=tolerance, atol=tolerance)
        # Its responsibility is the smallest number times a ratio of densities, here below 1e6.
        np.testing.assert_allclose(gradient[2], np.zeros_like(gradient[2]), atol=1e6 * limits.tiny)


@pytest.mark.parametrize("precision", [1e-30, 1e30])
@pytest.mark.parametrize("distance", [0.0, 1.0, 1e3])
def test_extreme_values_stay_finite_in_float32(precision, distance):
    theta = {
        "weights": tf.constant([1e-38, 1.0]),
        "means": tf.constant([[0.0, 0.0], [distance, 0.0]]),
        "precisions": tf.fill([2, 2], precision),
    }
    X = Rows(tf.constant([[0.0, 0.0], [1.0, -1.0]]))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = likelihood_module.row_log_likelihood(theta, X, "diag")
    assert np.all(np.isfinite(value))
    for gradient in tape.gradient(value, theta).values():
        assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(likelihood_module.responsibilities(theta, X, "diag")))


def test_a_narrow_cluster_far_from_zero_keeps_its_digits_in_float32():
    """A hundred of its sds, as centred data can be, where x^2 - 2 x mu + mu^2 would have none."""
    rng = np.random.default_rng(3)
    theta = {
        "weights": np.array([1.0]),
        "means": np.array([[1.0]]),
        "precisions": np.array([[1e4]]),
    }
    rows = (1.0 + 0.01 * rng.standard_normal((50, 1))).astype(np.float32)
    X = Rows(tf.constant(rows))
    found = likelihood_module.row_log_likelihood(tensors(theta, tf.float32), X, "diag")
    expected = stats.norm(1.0, 0.01).logpdf(rows[:, 0].astype(np.float64))
    # The difference of neighbours is exact, the rest a few roundings of at most 5 nats each.
    np.testing.assert_allclose(found, expected, atol=5 * 8 * np.finfo(np.float32).eps)
