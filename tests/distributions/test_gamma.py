"""The Gamma distribution against truths that are computed another way.

- Distributions of draws: scipy's distribution functions, by Kolmogorov-Smirnov tests.
- Gradients: differences of scipy's quantiles where draws keep their quantile; elsewhere exact
  derivatives of expectations.
- Densities: 50-digit decimal arithmetic, within the roundings of the terms that are added up.

See `numerical_checks` for false alarms and tolerances. Seeds are fixed.
"""

from decimal import localcontext

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import (
    DTYPES,
    FALSE_ALARM,
    ROUNDINGS,
    STANDARD_ERRORS,
    as_decimal,
    assert_mean,
    decimal_log_gamma,
    eps,
    has_loops,
    in_every_mode,
    kernel_size,
    quantile_elasticity,
    tiny,
)
from scipy import integrate, special, stats

from bgmm_jd.distributions.dirichlet import Dirichlet
from bgmm_jd.distributions.gamma import AntitheticGamma, Gamma

tfd = tfp.distributions

CONCENTRATIONS = [0.05, 0.3, 1.0, 2.5, 12.0, 100.0, 5e4, 1e8]
AUGMENTED = [0.05, 0.3, 1.0, 2.5, 9.9]  # drawn at a larger concentration, and reduced
DIRECT = [10.0, 12.0, 100.0, 5e4, 1e8]
SEED = tf.constant([3, 14], tf.int32)


def draw_with_gradient(concentration, n, dtype, rate=1.0, seed=SEED):
    """n draws z [n] and dz/da [n], as float64 arrays."""
    a = tf.fill([n], tf.constant(concentration, dtype))
    with tf.GradientTape() as tape:
        tape.watch(a)
        z = Gamma(a, tf.constant(rate, dtype)).sample(seed=seed)
    return z.numpy().astype(float), tape.gradient(z, a).numpy().astype(float)


# Draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_draws_follow_the_gamma_distribution(concentration, dtype):
    n = 100_000
    rate = 4.0  # a power of 2: exact
    z = Gamma(tf.constant(concentration, dtype), tf.constant(rate, dtype)).sample(n, seed=1)
    z = z.numpy().astype(float)
    u = special.gammainc(concentration, rate * z)
    # Draws raised to the smallest float are spread over the probability below it.
    uniform = np.random.default_rng(0).uniform(size=n)
    u = np.where(z <= tiny(dtype), uniform * u, u)
    assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM
    assert np.all(z >= tiny(dtype))


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_sample_moments_match_the_exact_moments(concentration):
    n = 100_000
    rate = 0.3
    z = Gamma(tf.constant(concentration, tf.float64), rate).sample(n, seed=2).numpy()
    exact = stats.gamma(concentration, scale=1 / rate)
    kurtosis = 3 + exact.stats("k")
    assert abs(z.mean() - exact.mean()) < STANDARD_ERRORS * exact.std() / np.sqrt(n)
    variance_error = exact.var() * np.sqrt((kurtosis - 1) / n)
    assert abs(z.var() - exact.var()) < STANDARD_ERRORS * variance_error
    log_mean = special.digamma(concentration) - np.log(rate)
    log_sd = np.sqrt(special.polygamma(1, concentration))
    assert abs(np.log(z).mean() - log_mean) < STANDARD_ERRORS * log_sd / np.sqrt(n)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_draws_and_gradients_agree_in_every_mode(dtype):
    def draw(concentration):
        with tf.GradientTape() as tape:
            tape.watch(concentration)
            z = Gamma(concentration, rate=tf.ones([], dtype)).sample(500, seed=SEED)
            log_z = tf.math.log(z)
        return z, tape.gradient(log_z, concentration)

    concentration = tf.constant(CONCENTRATIONS, dtype)
    eager, graph, xla = in_every_mode(draw, concentration)
    # log z is a sum of exponentials over a, which may reach log(tiny): each of its roundings is an
    # eps of that, and exp makes it a relative error of z. 8 roundings.
    log_size = -np.log(tiny(dtype))
    for other in (graph, xla):
        for value, expected in zip(other, eager, strict=True):
            np.testing.assert_allclose(value, expected, rtol=8 * eps(dtype) * log_size)


def test_gamma_graph_has_no_loops():
    @tf.function
    def draw(concentration):
        with tf.GradientTape() as tape:
            tape.watch(concentration)
            z = Gamma(concentration, 1.0).sample(2, seed=SEED)
        return tape.gradient(z, concentration)

    assert not has_loops(draw, tf.TensorSpec([3], tf.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gamma_draws_of_unknown_shape_are_those_of_a_known_one(dtype):
    @tf.function(input_signature=[tf.TensorSpec(None, dtype), tf.TensorSpec([], tf.int32)])
    def draw(concentration, n):
        return Gamma(concentration, tf.ones([], dtype)).sample(n, seed=SEED)

    a = tf.ones([2, 1], dtype)
    fixed = Gamma(a, tf.ones([], dtype)).sample(4, seed=SEED)
    np.testing.assert_allclose(draw(a, 4), fixed, rtol=1e3 * eps(dtype))


def test_antithetic_gamma_draws_cancel_in_pairs():
    """For large concentrations z is nearly linear in the normal draws."""
    z = AntitheticGamma(tf.constant(1e6, tf.float64), 1.0).sample(2_000, seed=SEED).numpy()
    assert stats.kstest(stats.gamma(1e6).cdf(z[:1_000]), "uniform").pvalue > FALSE_ALARM
    half_sums = (z[:1_000] + z[1_000:]) / 2
    # What remains is of second order in the normal draws: 1 / sqrt(1e6) of the deviation.
    assert half_sums.std() < 5 * 1e-3 * z.std()


# Gradients of draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", DIRECT)
def test_gamma_gradient_keeps_the_quantile(concentration, dtype):
    z, slope = draw_with_gradient(concentration, 2_000, dtype)
    exact = quantile_elasticity(z, concentration) * z / concentration
    # `path_elasticity` states an error of 1e-6; a float32 adds some roundings of t and of G.
    np.testing.assert_allclose(slope, exact, rtol=1e-6 + 8 * eps(dtype))


@pytest.mark.parametrize("concentration", [10.0, 100.0, 1e3])
def test_gamma_gradient_is_that_of_tfd(concentration):
    """Where float64 RandomGammaGrad is right. At 1e4 it is 4e-6 off below the mean, at 5e4 9 %."""
    z, slope = draw_with_gradient(concentration, 2_000, tf.float64)
    stock = tf.raw_ops.RandomGammaGrad(alpha=tf.constant(concentration, tf.float64), sample=z)
    np.testing.assert_allclose(slope, stock, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", AUGMENTED + DIRECT)
def test_gamma_gradients_have_the_derivatives_of_expectations_as_means(concentration, dtype):
    z, slope = draw_with_gradient(concentration, 100_000, dtype)
    assert np.all(np.isfinite(slope))
    assert np.all(slope > 0)
    # E log z = digamma(a); E z = a; E exp(-z) = 2^-a. (For large a the last is 0.)
    # The means are over quantities rounded to an eps, which the standard error covers.
    assert_mean(slope / z, special.polygamma(1, concentration))
    assert_mean(slope, 1.0)
    if concentration < 20:
        assert_mean(-np.exp(-z) * slope, -np.log(2) * 2.0**-concentration)


def test_gamma_gradient_by_the_rate_is_minus_the_draw_over_the_rate():
    rate = tf.constant([0.5, 7.0])
    with tf.GradientTape() as tape:
        tape.watch(rate)
        z = Gamma(tf.constant([0.7, 300.0]), rate).sample(seed=SEED)
    np.testing.assert_allclose(tape.gradient(z, rate), -z / rate, rtol=4 * eps(tf.float32))


def test_log_rate_gives_the_draws_of_the_rate():
    by_rate = Gamma(2.0, rate=4.0).sample(50, seed=SEED)
    by_log_rate = Gamma(2.0, log_rate=np.log(np.float32(4.0))).sample(50, seed=SEED)
    np.testing.assert_allclose(by_log_rate, by_rate, rtol=8 * eps(tf.float32))


# Densities


def decimal_log_prob(z, a, rate):
    with localcontext(prec=50):
        z, a, rate = as_decimal(z), as_decimal(a), as_decimal(rate)
        return float((a - 1) * z.ln() + a * rate.ln() - rate * z - decimal_log_gamma(a))


def points(concentration, rate, dtype):
    """z [n] over the distribution, and far outside it on both sides."""
    exact = stats.gamma(concentration, scale=1 / rate)
    mean = concentration / rate
    inside = exact.ppf([1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-6])
    outside = mean * np.array([1e-30, 1e-3, 0.1, 0.7, 0.76, 1.0, 1.24, 1.3, 10.0])
    z = np.concatenate([inside, outside]).astype(dtype.as_numpy_dtype)
    return np.maximum(z, tiny(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [2.0, 0.7, 1e-3])
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_log_prob_matches_decimal_arithmetic(concentration, rate, dtype):
    a, rate = (dtype.as_numpy_dtype(x) for x in (concentration, rate))
    z = points(concentration, rate, dtype)
    found = Gamma(a, rate).log_prob(z).numpy()
    exact = np.array([decimal_log_prob(x, a, rate) for x in z])
    w = z.astype(float) * float(rate) / float(a)
    size = np.abs(np.log(rate)) + np.abs(np.log(2 * np.pi * a)) + kernel_size(w, float(a))
    assert np.all(np.abs(found - exact) < ROUNDINGS * eps(dtype) * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rate", [2.0, 0.7])
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_gamma_log_prob_gradients_match_their_closed_form(concentration, rate, dtype):
    z = tf.constant(points(concentration, rate, dtype))
    a = tf.fill(z.shape, tf.constant(concentration, dtype))
    b = tf.fill(z.shape, tf.constant(rate, dtype))
    with tf.GradientTape() as tape:
        tape.watch([z, a, b])
        log_prob = Gamma(a, b).log_prob(z)
    by_z, by_a, by_b = (g.numpy() for g in tape.gradient(log_prob, [z, a, b]))

    z, a, b = (x.numpy().astype(float) for x in (z, a, b))
    w = z * b / a
    # The mean a / b is rounded, unless b is a power of 2; that moves w - 1 by an eps.
    mean_rounded = 0.0 if rate == 2.0 else 1.0
    bound = ROUNDINGS * eps(dtype)
    size = kernel_size(w, a) + np.where(np.abs(w - 1) < 0.25, mean_rounded, 1) * a * (1 + w)
    # The closed forms, differences in float64, have an error of their own.
    own_error = 4 * eps(tf.float64) * a * (1 + w)
    assert np.all(np.abs(by_z - ((a - 1) / z - b)) < (bound * size + own_error) / z)
    assert np.all(np.abs(by_b - (a / b - z)) < (bound * size + own_error) / b)
    # Terms of size |w - 1| and log w, and those of 1/a in the normalising constant.
    size_a = 1 / a + np.abs(w - 1) + np.abs(np.log(w)) + mean_rounded
    exact_a = np.log(b * z) - special.digamma(a)
    bound_a = bound * size_a + 4 * eps(tf.float64) * np.abs(np.log(b * z))
    assert np.all(np.abs(by_a - exact_a) < bound_a)


def test_second_derivative_of_gamma_log_prob_matches_its_closed_form():
    z = tf.constant([0.1, 0.9, 1.0, 1.1, 5.0], tf.float64) * 3.0
    with tf.GradientTape() as outer:
        outer.watch(z)
        with tf.GradientTape() as inner:
            inner.watch(z)
            log_prob = Gamma(tf.constant(6.0, tf.float64), 2.0).log_prob(z)
        slope = inner.gradient(log_prob, z)
    # -(a - 1) / z^2; the series is cut at float64 accuracy, its second derivative a little above.
    np.testing.assert_allclose(outer.gradient(slope, z), -5.0 / z**2, rtol=1e-11)


def test_gamma_density_integrates_to_one():
    distribution = Gamma(tf.constant(3.3, tf.float64), 2.0)
    total = integrate.quad(lambda z: float(distribution.prob(z)), 0.0, 30.0, limit=200)[0]
    np.testing.assert_allclose(total, 1, atol=1e-7)


def test_gamma_density_is_zero_outside_the_support_if_asked_for():
    distribution = Gamma([1.0, 2.0], 3.0, force_probs_to_zero_outside_support=True)
    np.testing.assert_array_equal(distribution.log_prob([-1.0, -1.0]), [-np.inf, -np.inf])
    # At 0 the exponential distribution has a density; for larger concentrations it is zero.
    found = distribution.log_prob([0.0, 0.0])
    np.testing.assert_allclose(found, [np.log(3.0), -np.inf], rtol=1e-6)


# As a member of the TFP families


def test_gamma_inherits_from_the_one_of_tfd():
    distribution = Gamma(concentration=[2.0, 3.0], rate=1.5)
    stock = tfd.Gamma(concentration=[2.0, 3.0], rate=1.5)
    assert isinstance(distribution, tfd.Gamma)
    assert type(distribution).__name__ == "Gamma"
    assert distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert distribution.batch_shape == [2]
    assert distribution.event_shape == []
    assert set(distribution.parameter_properties()) == set(stock.parameter_properties())
    default = distribution.experimental_default_event_space_bijector()
    assert type(default) is type(stock.experimental_default_event_space_bijector())
    for moment in ("mean", "variance", "stddev", "entropy"):
        np.testing.assert_array_equal(getattr(distribution, moment)(), getattr(stock, moment)())
    np.testing.assert_array_equal(
        tfd.kl_divergence(distribution, Gamma(1.0, 1.0)),
        tfd.kl_divergence(stock, tfd.Gamma(1.0, 1.0)),
    )
    copy = distribution.copy(concentration=7.0)
    assert type(copy) is Gamma
    assert copy.concentration == 7.0
    assert copy.rate == 1.5
    assert distribution[0].batch_shape == []


@pytest.mark.parametrize("seed", [5, SEED, (1, 2), None])
def test_gamma_draws_have_sample_and_batch_shape_for_every_kind_of_seed(seed):
    distribution = tfd.Independent(Gamma(tf.ones([4, 1]), tf.ones([3])), 2)
    assert distribution.sample([5, 2], seed=seed).shape == [5, 2, 4, 3]
    z, log_prob = distribution.experimental_sample_and_log_prob([5], seed=seed)
    assert z.shape == [5, 4, 3]
    assert log_prob.shape == [5]
    np.testing.assert_allclose(log_prob, distribution.log_prob(z), rtol=1e-5)


def test_broadcast_gamma_parameters_have_draws_of_their_own():
    z = Gamma(2.0, tf.ones([100])).sample(seed=SEED)
    assert len(np.unique(z)) == 100


def test_integer_seed_determines_gamma_draws():
    distribution = Gamma(2.0, 1.0)
    np.testing.assert_array_equal(distribution.sample(3, seed=9), distribution.sample(3, seed=9))
    assert not np.array_equal(distribution.sample(3, seed=9), distribution.sample(3, seed=10))


def test_deferred_parameters_of_a_gamma_receive_gradients():
    variable = tf.Variable([0.5, 1.0, 8.0])
    concentration = tfp.util.TransformedVariable([0.05, 3.0, 5e4], tfp.bijectors.Exp())
    cases = [
        (Gamma(tfp.util.DeferredTensor(variable, tf.exp), 2.0), variable),
        (Gamma(concentration, rate=concentration), concentration.trainable_variables[0]),
    ]
    for distribution, parameter in cases:
        assert len(distribution.trainable_variables) >= 1
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(distribution.log_prob(distribution.sample(10, seed=SEED)))
        gradient = tape.gradient(loss, parameter).numpy()
        assert np.all(np.isfinite(gradient))
        assert np.all(gradient != 0)


def test_joint_distribution_of_gammas_and_a_dirichlet_runs_under_xla():
    def model():
        root = tfd.JointDistributionCoroutine.Root
        weights = yield root(Dirichlet([2.0, 2.0, 2.0], name="weights"))
        gammas = Gamma(5.0 * tf.ones([3, 2]), 5.0)
        precisions = yield root(tfd.Independent(gammas, 2, name="precisions"))
        yield tfd.Independent(Gamma(precisions, weights[..., tf.newaxis]), 2, name="last")

    joint = tfd.JointDistributionCoroutine(model)
    values, log_prob = tf.function(joint.experimental_sample_and_log_prob, jit_compile=True)(
        [4], seed=SEED
    )
    assert values.last.shape == [4, 3, 2]
    assert log_prob.shape == [4]
    stock = (
        tfd.Dirichlet([2.0, 2.0, 2.0]).log_prob(values.weights)
        + tf.reduce_sum(tfd.Gamma(5.0, 5.0).log_prob(values.precisions), [-2, -1])
        + tf.reduce_sum(
            tfd.Gamma(values.precisions, values.weights[..., tf.newaxis]).log_prob(values.last),
            [-2, -1],
        )
    )
    np.testing.assert_allclose(log_prob, stock, rtol=1e-4)


def test_gamma_passes_through_compiled_functions():
    @tf.function(jit_compile=True)
    def doubled(distribution):
        return distribution.copy(concentration=2 * distribution.concentration)

    distribution = doubled(Gamma(3.0, 1.0))
    assert type(distribution) is Gamma
    assert distribution.concentration == 6.0
