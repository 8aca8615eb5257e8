"""The multivariate normal distribution against tfd's, and its natural gradient."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import (
    DTYPES,
    FALSE_ALARM,
    ROUNDINGS,
    STANDARD_ERRORS,
    assert_mean,
    eps,
    in_every_mode,
)
from scipy import stats

from bgmm_jd.distributions.multivariate_normal import (
    AntitheticMultivariateNormal,
    MultivariateNormal,
    multivariate_normal_natural_gradient,
)

tfd = tfp.distributions

SEED = tf.constant([11, -7], tf.int32)
D = 3
LOC = np.array([[1.0, -2.0, 30.0], [0.0, 0.5, 0.0]])
TRIL = np.array(
    [
        [[2.0, 0.0, 0.0], [0.7, 0.3, 0.0], [-20.0, 4.0, 30.0]],
        [[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 5.0]],
    ]
)
LOWER = np.tril_indices(D)
either_family = pytest.mark.parametrize(
    "family", [MultivariateNormal, AntitheticMultivariateNormal]
)


# --- Against tfd ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@either_family
def test_log_density_is_that_of_tfd_in_float64(family, dtype):
    x = tf.cast(tfd.MultivariateNormalTriL(LOC, TRIL).sample(50, seed=(0, 1)), dtype)
    mine = family(tf.constant(LOC, dtype), tf.constant(TRIL, dtype))
    stock = tfd.MultivariateNormalTriL(
        *(tf.cast(v, tf.float64) for v in (mine.loc, mine.scale_tril))
    )
    found, expected = mine.log_prob(x), stock.log_prob(tf.cast(x, tf.float64))
    assert found.dtype == dtype
    assert found.shape == [50, 2]
    # The residual is rounded at the size of x, up to 1e2, in units of C, down to 0.1; C has a
    # condition of up to 20 in each row's own units; and the square of some 5 sds is taken.
    np.testing.assert_allclose(found, expected, rtol=0, atol=ROUNDINGS * 1e4 * eps(dtype))


def test_moments_and_shapes_are_those_of_tfd():
    mine, stock = MultivariateNormal(LOC, TRIL), tfd.MultivariateNormalTriL(LOC, TRIL)
    for moment in ("mean", "covariance", "variance", "stddev"):
        found, expected = getattr(mine, moment)(), getattr(stock, moment)()
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14)
    assert mine.batch_shape == stock.batch_shape == [2]
    assert mine.event_shape == stock.event_shape == [D]
    np.testing.assert_array_equal(mine.event_shape_tensor(), [D])
    np.testing.assert_array_equal(mine.batch_shape_tensor(), [2])
    assert mine.reparameterization_type == tfd.FULLY_REPARAMETERIZED


@pytest.mark.parametrize("batch", [(), (4,), (4, 2)])
def test_batches_of_any_shape_and_of_one_factor_have_the_shapes_of_tfd(batch):
    loc = np.zeros((*batch, 2, D))
    mine, stock = MultivariateNormal(loc, TRIL), tfd.MultivariateNormalTriL(loc, TRIL)
    assert mine.batch_shape == stock.batch_shape
    draws = stock.sample(3, seed=(0, 1))
    assert mine.log_prob(draws).shape == stock.log_prob(draws).shape
    for moment in ("mean", "covariance", "variance"):
        assert getattr(mine, moment)().shape == getattr(stock, moment)().shape
    own = mine.sample(3, seed=SEED)
    assert own.shape == draws.shape
    assert len(np.unique(own)) == own.numpy().size  # none is shared


def test_single_vector_has_no_batch():
    mine = MultivariateNormal(LOC[0], TRIL[0])
    draw = mine.sample(seed=3)
    assert draw.shape == [D]
    expected = stats.multivariate_normal(LOC[0], TRIL[0] @ TRIL[0].T).logpdf(draw)
    np.testing.assert_allclose(mine.log_prob(draw), expected, rtol=1e-10)


def test_elements_above_the_diagonal_are_ignored():
    """An optimiser that moves all of them must not change the distribution."""
    plain, filled = (
        MultivariateNormal(LOC, TRIL),
        MultivariateNormal(LOC, TRIL + np.triu(TRIL + 9, 1)),
    )
    draws = plain.sample(4, seed=SEED)
    np.testing.assert_array_equal(filled.sample(4, seed=SEED), draws)
    np.testing.assert_array_equal(filled.log_prob(draws), plain.log_prob(draws))
    np.testing.assert_array_equal(filled.covariance(), plain.covariance())
    np.testing.assert_array_equal(filled.stddev(), plain.stddev())


def test_copy_keeps_the_class_and_changes_the_parameter():
    copy = AntitheticMultivariateNormal(LOC, TRIL).copy(loc=0.0 * LOC)
    assert type(copy) is AntitheticMultivariateNormal
    np.testing.assert_array_equal(copy.mean(), 0.0 * LOC)
    np.testing.assert_array_equal(copy.scale_tril, TRIL)


# --- Draws ------------------------------------------------------------------------------------


@either_family
def test_draws_agree_in_every_mode(family):
    def draw(loc, tril):
        return family(loc, tril).sample([4], seed=3)

    eager, graph, xla = in_every_mode(draw, tf.constant(LOC), tf.constant(TRIL))
    assert eager.shape == [4, 2, D]
    assert len(np.unique(np.abs(eager - LOC))) >= eager.numpy().size // 2
    # Sums of products with normal draws that are rounded in float32 or float64.
    np.testing.assert_allclose(graph, eager, rtol=0, atol=1e-12)
    np.testing.assert_allclose(xla, eager, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@either_family
def test_whitened_draws_are_independent_standard_normals(family, dtype):
    """Of antithetic pairs the first half is tested, as partners depend on each other.

    Six Kolmogorov-Smirnov tests, six variances and six correlations, with a false alarm of 1e-6.
    """
    n = 20_000
    x = family(tf.constant(LOC, dtype), tf.constant(TRIL, dtype)).sample(2 * n, seed=SEED)
    assert x.dtype == dtype
    residual = x.numpy()[:n].astype(np.float64) - LOC
    z = np.linalg.solve(TRIL, residual[..., np.newaxis])[..., 0].reshape(n, -1)
    for column in z.T:
        assert stats.kstest(column, stats.norm.cdf).pvalue > FALSE_ALARM
    for i, j in zip(*np.triu_indices(2 * D, 1), strict=True):
        # A product of independent standard normals has mean 0 and variance 1.
        assert abs(np.mean(z[:, i] * z[:, j])) < STANDARD_ERRORS / np.sqrt(n)


def test_moments_of_draws_are_the_distributions():
    """Within 5 standard errors: 6 means and 18 second moments, a false alarm of 6e-7 each."""
    mine = MultivariateNormal(LOC, TRIL)
    x = mine.sample(40_000, seed=SEED).numpy()
    assert_mean(x, LOC)
    residual = x - LOC
    assert_mean(residual[..., :, None] * residual[..., None, :], mine.covariance())


@pytest.mark.parametrize("n", [6, 7])
def test_antithetic_draws_are_symmetric_about_the_mean(n):
    x = AntitheticMultivariateNormal(LOC, TRIL).sample(n, seed=SEED).numpy() - LOC
    half = (n + 1) // 2
    # Adding and subtracting the mean rounds by its eps, and by that of up to 200.
    np.testing.assert_allclose(x[half:], -x[: n - half], atol=200 * eps(tf.float64))
    assert len(np.unique(np.abs(x[:half]))) == half * 2 * D


@either_family
def test_draws_have_the_derivatives_of_loc_plus_factor_times_noise(family):
    loc, tril = tf.Variable(LOC[0]), tf.Variable(TRIL[0])
    with tf.GradientTape(persistent=True) as tape:
        x = family(loc, tril).sample(seed=SEED)
    np.testing.assert_array_equal(tape.jacobian(x, loc, experimental_use_pfor=False), np.eye(D))
    z = np.linalg.solve(TRIL[0], x - LOC[0])
    found = tape.jacobian(x, tril, experimental_use_pfor=False)
    for i, j in np.ndindex(D, D):
        expected = z[j] * np.eye(D)[i] if j <= i else np.zeros(D)
        np.testing.assert_allclose(found[:, i, j], expected, atol=1e-12)


def test_density_has_the_gradient_of_tfd():
    x = tf.constant(LOC + 0.5)
    loc, tril = tf.constant(LOC), tf.constant(TRIL)

    def gradients(family):
        with tf.GradientTape() as tape:
            tape.watch([x, loc, tril])
            density = family(loc, tril).log_prob(x)
        return tape.gradient(density, [x, loc, tril])

    for found, expected in zip(
        gradients(MultivariateNormal), gradients(tfd.MultivariateNormalTriL), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


# --- Natural gradient -------------------------------------------------------------------------


def divergence(one, other):
    """Return KL(one || other) of two normal distributions given as (loc, C), by its formula."""
    (loc, tril), (other_loc, other_tril) = one, other
    turned = tf.linalg.triangular_solve(other_tril, tril)
    away = tf.linalg.triangular_solve(other_tril, (other_loc - loc)[:, tf.newaxis])
    log_det = tf.reduce_sum(
        tf.math.log(tf.linalg.diag_part(other_tril)) - tf.math.log(tf.linalg.diag_part(tril))
    )
    return 0.5 * (tf.reduce_sum(turned**2) + tf.reduce_sum(away**2) - D) + log_det


def from_free(flat):
    """Return (loc, C) from loc, and log C_ii and C_ij in the order of the lower triangle."""
    matrix = tf.scatter_nd(np.transpose(LOWER), flat[D:], (D, D))
    return flat[:D], tf.linalg.set_diag(matrix, tf.exp(tf.linalg.diag_part(matrix)))


@pytest.mark.parametrize("tril", TRIL)
def test_natural_gradient_is_the_inverse_fisher_information(tril):
    """The information is the second derivative of the divergence, by automatic differentiation."""
    free = np.where(np.eye(D) > 0, np.log(np.where(np.eye(D) > 0, tril, 1.0)), tril)
    flat = tf.constant(np.concatenate([LOC[0], free[LOWER]]))
    still = from_free(flat)
    np.testing.assert_allclose(still[1], tril, rtol=1e-14)
    with tf.GradientTape(persistent=True) as second:
        second.watch(flat)
        with tf.GradientTape() as first:
            first.watch(flat)
            value = divergence(still, from_free(flat))
        slope = first.gradient(value, flat)
    information = second.jacobian(slope, flat, experimental_use_pfor=False).numpy()
    np.testing.assert_allclose(value, 0, atol=1e-13)

    gradient = np.random.default_rng(4).normal(size=len(flat))
    matrix = np.triu(np.full((D, D), np.nan), 1)  # elements above the diagonal are ignored
    matrix[LOWER] = gradient[D:]
    by_loc, by_tril = multivariate_normal_natural_gradient(
        tf.constant(tril), tf.constant(gradient[:D]), tf.constant(matrix)
    )
    found = np.concatenate([by_loc, by_tril.numpy()[LOWER]])
    expected = np.linalg.solve(information, gradient)
    # Some roundings of each second derivative, of the size of the diagonal's.
    size = np.sqrt(np.diagonal(information))
    error = 100 * eps(tf.float64) * np.outer(size, size)
    allowed = np.abs(np.linalg.inv(information)) @ error @ np.abs(expected)
    assert np.all(allowed < 1e-4 * np.abs(expected).max())  # otherwise the test is empty
    assert np.all(np.abs(found - expected) <= allowed)
    np.testing.assert_array_equal(np.triu(by_tril, 1), 0)


def test_natural_gradient_of_one_feature_is_that_of_a_normal_distribution():
    """The information of (loc, log sd) is diag(1 / sd^2, 2)."""
    sd = np.array([0.5, 3.0])
    by_loc, by_tril = multivariate_normal_natural_gradient(
        tf.constant(sd[:, None, None]), tf.ones([2, 1], tf.float64), tf.ones([2, 1, 1], tf.float64)
    )
    np.testing.assert_allclose(by_loc[:, 0], sd**2, rtol=1e-15)
    np.testing.assert_allclose(by_tril[:, 0, 0], [0.5, 0.5], rtol=1e-15)
