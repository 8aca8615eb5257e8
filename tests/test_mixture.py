"""The likelihood with labels summed out, against the sum over labels written out."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture

N, K, D = 4, 3, 2


def make_theta(S=None, spread="precisions", seed=0):
    rng = np.random.default_rng(seed)
    shape = () if S is None else (S,)
    return {
        "weights": rng.dirichlet(np.ones(K), size=shape),
        "means": rng.normal(0, 2, (*shape, K, D)),
        spread: rng.gamma(3.0, 0.5, (*shape, K, D)),
    }


def tensors(theta, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in theta.items()}


@pytest.fixture
def rows():
    return np.random.default_rng(9).normal(0, 2, (N, D))


def sds(theta):
    return theta["scales"] if "scales" in theta else theta["precisions"] ** -0.5


def log_joint_label(theta, rows):
    """[K, N], entry by entry."""
    law = stats.norm(theta["means"], sds(theta))
    return np.array(
        [np.log(theta["weights"]) + law.logpdf(row).sum(axis=-1) for row in rows],
    ).T


@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_log_joint_label(rows, spread):
    theta = make_theta(spread=spread)
    found = mixture.log_joint_label(tensors(theta), tf.constant(rows))
    # A sum of D terms of a few dozen nats in float64; the same below.
    np.testing.assert_allclose(found, log_joint_label(theta, rows), rtol=1e-12)


@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_the_likelihood_is_the_sum_over_all_labellings(rows, spread):
    """p(X given theta) = sum over the K^N labellings of p(X, labels given theta)."""
    theta = make_theta(spread=spread)
    joint = log_joint_label(theta, rows)
    labellings = itertools.product(range(K), repeat=N)
    expected = special.logsumexp([joint[list(z), range(N)].sum() for z in labellings])
    found = tf.reduce_sum(mixture.row_log_likelihood(tensors(theta), tf.constant(rows)))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_likelihood_is_that_of_a_mixture_distribution(rows):
    """tfd.MixtureSameFamily, for each of several draws of theta."""
    theta = make_theta(S=5)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalDiag(theta["means"], sds(theta)),
    )
    found = mixture.row_log_likelihood(tensors(theta), tf.constant(rows))
    assert found.shape == [5, N]
    expected = tf.transpose(law.log_prob(rows[:, np.newaxis]))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_each_row_has_density_one_in_all():
    """The integral over x, on a grid, where the trapezoid rule is exact to rounding."""
    theta = {
        "weights": np.array([0.2, 0.5, 0.3]),
        "means": np.array([[-1.0], [0.0], [2.0]]),
        "precisions": np.array([[1.0], [4.0], [0.5]]),
    }
    x = np.arange(-14, 16, 0.1)
    density = np.exp(mixture.row_log_likelihood(tensors(theta), tf.constant(x[:, np.newaxis])))
    # Outside lie 9 sds of the widest component: 1e-19. The rule's error is exp(-2 pi^2 sd^2/h^2).
    np.testing.assert_allclose(density.sum() * 0.1, 1, rtol=1e-12)


def test_responsibilities_are_bayes_rule(rows):
    theta = make_theta()
    joint = log_joint_label(theta, rows)
    expected = np.exp(joint - special.logsumexp(joint, axis=0))
    found = mixture.responsibilities(tensors(theta), tf.constant(rows))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_responsibilities_sum_to_one(rows, dtype):
    theta = tensors(make_theta(S=5), dtype)
    for size in (1.0, 1e6, 1e15):
        found = mixture.responsibilities(theta, tf.constant(size * rows, dtype))
        assert found.dtype == dtype
        # K terms, each rounded.
        eps = np.finfo(dtype.as_numpy_dtype).eps
        np.testing.assert_allclose(tf.reduce_sum(found, axis=-2), np.ones((5, N)), rtol=K * eps)


def test_scales_are_sds(rows):
    theta = make_theta(S=5, spread="scales")
    as_precisions = {**theta, "precisions": theta["scales"] ** -2}
    del as_precisions["scales"]
    found, expected = (
        mixture.row_log_likelihood(tensors(t), tf.constant(rows)) for t in (theta, as_precisions)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_components_are_interchangeable(rows):
    theta = make_theta(S=5)
    order = [2, 0, 1]
    moved = {name: value[:, order] for name, value in theta.items()}
    found, expected = (
        mixture.row_log_likelihood(tensors(t), tf.constant(rows)) for t in (moved, theta)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    proba, other = (
        mixture.responsibilities(tensors(t), tf.constant(rows)).numpy() for t in (moved, theta)
    )
    np.testing.assert_allclose(proba, other[:, order], rtol=1e-13)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_a_weight_that_underflows_counts_for_nothing(rows, dtype):
    """Density and gradient are those of the mixture of the others."""
    theta = tensors(make_theta(), dtype)
    others = {name: value[:2] for name, value in theta.items()}
    weights = tf.constant([0.25, 0.75], dtype)
    X = tf.constant(rows, dtype)

    def value_and_gradients(theta):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            value = tf.reduce_sum(mixture.row_log_likelihood(theta, X))
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
    X = tf.constant([[0.0, 0.0], [1.0, -1.0]])
    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = mixture.row_log_likelihood(theta, X)
    assert np.all(np.isfinite(value))
    for gradient in tape.gradient(value, theta).values():
        assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(mixture.responsibilities(theta, X)))


def test_a_narrow_cluster_far_from_zero_keeps_its_digits_in_float32():
    """A hundred of its sds, as centred data can be, where x^2 - 2 x mu + mu^2 would have none."""
    rng = np.random.default_rng(3)
    theta = {
        "weights": np.array([1.0]),
        "means": np.array([[1.0]]),
        "precisions": np.array([[1e4]]),
    }
    rows = (1.0 + 0.01 * rng.standard_normal((50, 1))).astype(np.float32)
    found = mixture.row_log_likelihood(tensors(theta, tf.float32), tf.constant(rows))
    expected = stats.norm(1.0, 0.01).logpdf(rows[:, 0].astype(np.float64))
    # The difference of neighbours is exact, the rest a few roundings of at most 5 nats each.
    np.testing.assert_allclose(found, expected, atol=5 * 8 * np.finfo(np.float32).eps)
