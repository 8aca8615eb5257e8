"""The parts of a Gamma draw against exact densities, scipy's quantiles and decimal arithmetic."""

from decimal import Decimal, localcontext

import numpy as np
import pytest
import tensorflow as tf
from known_trigamma import TRIGAMMA_TRUNCATION, trigamma_excess_by_integral
from numerical_checks import (
    DTYPES,
    ROUNDINGS,
    TWO_PI,
    as_decimal,
    decimal_log_gamma,
    eps,
    quantile_elasticity,
    tiny,
)
from scipy import integrate, special, stats

from bgmm_jd.distributions import standard_gamma

FLOAT64_EPS = np.finfo(np.float64).eps


@pytest.mark.parametrize("concentration", [10.0, 12.0, 1e3])
def test_candidate_is_accepted_with_the_ratio_of_target_to_proposal_density(concentration):
    b = tf.constant(concentration, tf.float64)
    x = np.linspace(-4, 4, 81)
    step = 1e-5

    def chosen(first, exponential):
        second = np.full_like(x, 0.1234)  # accepted against any exponential but 0
        normals = tf.constant(np.stack([first, second, second], axis=-1))
        exponentials = tf.constant(np.stack([exponential, np.ones_like(x)], axis=-1))
        return standard_gamma.marsaglia_tsang(tf.fill(x.shape, b), normals, exponentials).numpy()

    always, never = np.full_like(x, np.inf), np.full_like(x, -np.inf)
    t = chosen(x, always)
    slope = (chosen(x + step, always) - chosen(x - step, always)) / (2 * step)
    # Log densities of t: of the target, b (t - e^t) + constant; of the candidates.
    log_ratio = concentration * (t - np.expm1(t)) + x**2 / 2 + np.log(slope)
    threshold = log_ratio[40] - log_ratio  # x = 0 is always accepted
    # `marsaglia_tsang` states an error of 1e-5; that of the slope is 1e-9.
    np.testing.assert_array_equal(chosen(x, threshold + 1.1e-5), t)
    np.testing.assert_array_equal(chosen(x, threshold - 1.1e-5), chosen(x, never))


def test_rejection_probabilities_are_below_the_stated_bounds():
    """They are largest at the smallest concentration that is drawn directly."""
    d = standard_gamma.SHAPE_AUGMENTATION - 1 / 3

    def rejection(x):
        y = x / (3 * np.sqrt(d))
        excess = d * ((1 + y) ** 3 - 1 - 3 * np.log1p(y)) - x**2 / 2
        return stats.norm.pdf(x) * -np.expm1(-max(excess, 0.0))

    rejected = integrate.quad(rejection, -9, 9, epsabs=1e-10, limit=200)[0]
    assert rejected < 3e-3
    assert rejected**standard_gamma.CANDIDATES < 3e-8


def test_small_concentrations_are_drawn_at_an_augmented_one():
    a = np.array([0.05, 9.999, 10.0, 300.0])
    draw = standard_gamma.draw_standard_gamma(tf.constant(a), tf.constant([3, 14]), False)
    added = np.where(a < 10, standard_gamma.SHAPE_AUGMENTATION, 0)
    np.testing.assert_array_equal(draw.scale, a + added)
    np.testing.assert_array_equal(draw.log_change, 0.0)


def test_antithetic_draws_of_a_large_concentration_are_mirrored():
    """log z - log a is nearly linear in the normal draw, whose sd is 1e-4; curvature is 1e-8."""
    a = tf.fill([1_000], tf.constant(1e8, tf.float64))
    draw = standard_gamma.draw_standard_gamma(a, tf.constant([3, 14]), True)
    first, second = np.split(draw.log_factor.numpy(), 2)
    np.testing.assert_allclose(first, -second, atol=1e-7)
    assert first.std() > 0.9e-4


# Elasticities


@pytest.mark.parametrize("concentration", [10.0, 12.0, 100.0, 5e4, 1e8])
@pytest.mark.parametrize("deviations", [-5.0, -1.0, -1e-3, 0.0, 2.0, 5.0])
def test_path_elasticity_is_that_of_the_quantiles(concentration, deviations):
    log_ratio = 3 * np.log1p(deviations / np.sqrt(9 * concentration))
    z = concentration * np.exp(log_ratio)
    found = standard_gamma.path_elasticity(
        tf.constant(log_ratio, tf.float64), tf.constant(concentration, tf.float64)
    )
    # Far down the tail of large concentrations scipy's quantiles have an error of 5e-6.
    rtol = 1e-5 if deviations == -5.0 and concentration > 1e6 else 1e-6
    np.testing.assert_allclose(found, quantile_elasticity(z, concentration), rtol=rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_path_elasticity_at_the_mean_is_its_expansion(dtype):
    a = tf.constant([10.0, 1e8], dtype)
    found = standard_gamma.path_elasticity(tf.zeros([2], dtype), a).numpy()
    # At t = 0: 1 + 1/(6a) + 1/(60 a^2) - 1/(105 a^3) + O(a^-4).
    exact = 1 + 1 / (6 * a) + 1 / (60 * a**2) - 1 / (105 * a**3)
    np.testing.assert_allclose(found, exact, rtol=2 * eps(dtype))


def test_relative_gradient_is_that_of_the_logarithm():
    """Of x^3 at x = 2: the value is given, the gradient is that of 3 log x, times the value."""
    x = tf.constant([2.0, 0.5], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_change = 3.0 * standard_gamma.zero_with_log_gradient(x)
        value = standard_gamma.with_relative_gradient(x**3, log_change)
    np.testing.assert_array_equal(log_change, [0.0, 0.0])
    np.testing.assert_array_equal(value, [8.0, 0.125])
    np.testing.assert_allclose(tape.gradient(value, x), [12.0, 0.75], rtol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_underflown_value_is_raised_and_keeps_its_relative_gradient(dtype):
    x = tf.constant(0.25, dtype)
    with tf.GradientTape() as tape:
        tape.watch(x)
        log_change = standard_gamma.zero_with_log_gradient(x)
        value = standard_gamma.with_relative_gradient(tf.zeros([], dtype), log_change)
    assert value == tiny(dtype)
    assert tape.gradient(value, x) == tiny(dtype) * 4


# Special functions


@pytest.mark.parametrize("dtype", DTYPES)
def test_stirling_remainder_matches_decimal_arithmetic(dtype):
    a = np.array([1e-3, 0.05, 0.5, 1, 3, 7.9, 8, 20, 1e3, 1e8], dtype.as_numpy_dtype)
    with localcontext(prec=50):
        stirling = [
            (x - Decimal("0.5")) * x.ln() - x + TWO_PI.ln() / 2 for x in (as_decimal(x) for x in a)
        ]
        exact = [
            float(decimal_log_gamma(as_decimal(x)) - s) for x, s in zip(a, stirling, strict=True)
        ]
    # Eight terms near 1, from each of which 1 is subtracted.
    bound = ROUNDINGS * eps(dtype) * (1 + np.abs(exact))
    found = standard_gamma.stirling_remainder(tf.constant(a)).numpy()
    assert np.all(np.abs(found - exact) < bound)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_density_at_mean_is_that_of_scipy(dtype):
    a = np.array([0.05, 1.0, 30.0, 1e3])
    found = standard_gamma.log_density_at_mean(tf.constant(a, dtype))
    # Two terms below 5 each, and the remainder, whose eight terms are near 1.
    np.testing.assert_allclose(found, stats.gamma(a).logpdf(a), atol=3 * ROUNDINGS * eps(dtype))


ARGUMENTS = [1e-4, 0.05, 0.7, 1.0, 2.5, 7.0, 7.999, 8.0, 8.001, 9.0, 30.0, 1e3, 1e6, 1e8]


def test_reference_for_the_trigamma_excess_agrees_with_scipy():
    for a in ARGUMENTS[:-2]:
        # a^2 trigamma(a) - a is at least 1/2, and scipy's is off by some eps of a + 1.
        expected = a**2 * special.polygamma(1, a) - a
        np.testing.assert_allclose(
            trigamma_excess_by_integral(a), expected, rtol=1e-10 + 10 * FLOAT64_EPS * a
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("a", ARGUMENTS)
def test_trigamma_excess_agrees_with_the_integral(a, dtype):
    a = dtype(a)
    # Below 8, a difference of terms of up to 9 with some 10 roundings leaves 1/2 or more.
    tolerance = 100 * np.finfo(dtype).eps + 2 * TRIGAMMA_TRUNCATION
    found = standard_gamma.trigamma_excess(tf.constant([a]))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [trigamma_excess_by_integral(float(a))], rtol=tolerance)


@pytest.mark.parametrize("a", [0.3, 5.0, 7.99, 8.01, 100.0])
def test_trigamma_excess_and_its_gradient_agree_with_scipy_under_xla(a):
    @tf.function(jit_compile=True)
    def value_and_slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = standard_gamma.trigamma_excess(x)
        return value, tape.gradient(value, x)

    value, slope = value_and_slope(tf.constant(a, tf.float64))
    np.testing.assert_allclose(
        value, trigamma_excess_by_integral(a), rtol=2 * TRIGAMMA_TRUNCATION + 100 * FLOAT64_EPS
    )
    expected = 2 * a * special.polygamma(1, a) + a**2 * special.polygamma(2, a) - 1
    np.testing.assert_allclose(slope, expected, atol=100 * FLOAT64_EPS * (a + 1))
