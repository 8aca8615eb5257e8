"""The Dirichlet distribution against Beta marginals, exact expectations and decimal arithmetic.

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
    as_decimal,
    assert_mean,
    decimal_log_gamma,
    eps,
    in_every_mode,
    kernel_size,
    tiny,
)
from scipy import special, stats

from bgmm_jd.distributions.dirichlet import LEAST_PROPORTION, AntitheticDirichlet, Dirichlet

tfd = tfp.distributions

SEED = tf.constant([3, 14], tf.int32)
CONCENTRATIONS = [
    (0.05, 0.05, 0.05),
    (0.05, 1.0, 30.0),
    (2.5, 12.0, 3e3),
    (1e8, 5e7, 3e3),
    (1e8, 0.05, 7.0),
]


# Draws


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "concentration", [(0.05, 0.05, 0.05), (0.3, 1.0, 2.5), (12.0, 0.05, 1e8), (5e4, 1e8, 100.0)]
)
def test_dirichlet_draws_have_beta_marginals(concentration, dtype):
    n = 100_000
    a = np.array(concentration)
    p = Dirichlet(tf.constant(a, dtype)).sample(n, seed=3).numpy().astype(float)
    # The sum of three rounded quotients; raising to the least proportion adds nothing.
    least = float(np.array(LEAST_PROPORTION, dtype.as_numpy_dtype))
    np.testing.assert_allclose(p.sum(axis=-1), 1, atol=4 * eps(dtype))
    assert np.all(p >= 0.999 * least)
    uniform = np.random.default_rng(1).uniform(size=n)
    for k in range(3):
        # From the smaller side: a p near 1 is rounded, but the sum of the others has its digits.
        rest = np.delete(p, k, axis=-1).sum(axis=-1)
        low = stats.beta(a[k], a.sum() - a[k]).cdf(p[:, k])
        high = stats.beta(a.sum() - a[k], a[k]).cdf(rest)
        # Draws raised to the least proportion are spread over the probability below it.
        low = np.where(p[:, k] <= 1.001 * least, uniform * low, low)
        high = np.where(rest <= 2.002 * least, uniform * high, high)
        u = np.where(p[:, k] < 0.5, low, 1 - high)
        assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM


@pytest.mark.parametrize("dtype", DTYPES)
def test_dirichlet_draws_and_gradients_agree_in_every_mode(dtype):
    def draw(concentration):
        with tf.GradientTape() as tape:
            tape.watch(concentration)
            p = Dirichlet(concentration).sample(500, seed=SEED)
            log_p = tf.math.log(p)[..., 0]
        # Row by row, as sums over draws would hide a difference.
        return p, tape.gradient(log_p, concentration)

    concentration = tf.constant([0.05, 0.3, 1.0, 2.5, 12.0, 100.0, 5e4, 1e8], dtype)
    eager, graph, xla = in_every_mode(draw, concentration)
    # As for Gamma draws: roundings of log z, which may reach log(tiny).
    log_size = -np.log(tiny(dtype))
    for other in (graph, xla):
        for value, expected in zip(other, eager, strict=True):
            np.testing.assert_allclose(value, expected, rtol=8 * eps(dtype) * log_size)


def test_antithetic_dirichlet_draws_cancel_in_pairs():
    """For large concentrations p is nearly linear in the normal draws; its sd is below 1e-2."""
    a = np.array([1e4, 3e4, 2e4])
    distribution = AntitheticDirichlet(a)
    assert type(distribution).__name__ == "AntitheticDirichlet"
    p = distribution.sample(2_000, seed=SEED).numpy()
    u = stats.beta(a[0], a[1:].sum()).cdf(p[:1_000, 0])
    assert stats.kstest(u, "uniform").pvalue > FALSE_ALARM
    half_sums = (p[:1_000] + p[1_000:]) / 2
    # What remains is of second order in the normal draws: 1 / sqrt(1e4) of the deviation.
    assert np.all(half_sums.std(axis=0) < 5 * 1e-2 * p.std(axis=0))
    assert distribution.sample(5, seed=SEED).shape == [5, 3]


# Gradients of draws


def test_dirichlet_gradients_have_the_derivatives_of_expectations_as_means():
    n = 100_000
    a = np.array([0.05, 0.6, 20.0])
    concentration = tf.tile(tf.constant(a[np.newaxis], tf.float32), [n, 1])
    with tf.GradientTape() as tape:
        tape.watch(concentration)
        log_p = tf.math.log(Dirichlet(concentration).sample(seed=SEED))[:, 0]
    gradient = tape.gradient(log_p, concentration).numpy().astype(float)
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient != 0)
    # E log p_0 = digamma(a_0) - digamma(sum a). Raising tiny p keeps their relative gradient.
    common = -special.polygamma(1, a.sum())
    assert_mean(gradient[:, 0], special.polygamma(1, a[0]) + common)
    assert_mean(gradient[:, 1], common)
    assert_mean(gradient[:, 2], common)


def test_dirichlet_gradient_stays_on_the_simplex():
    concentration = tf.constant([0.05, 3.0, 5e4])
    with tf.GradientTape() as tape:
        tape.watch(concentration)
        p = Dirichlet(concentration).sample(20, seed=SEED)
    jacobian = tape.jacobian(p, concentration).numpy()
    # Draws raised to the least proportion are left out: the relative gradient of such a component,
    # some thousands, applies to the raised value.
    proper = np.all(p > 1.001 * LEAST_PROPORTION, axis=-1)
    jacobian, p = jacobian[proper], p[proper]
    # dp_k = p_k (c_k - sum_j p_j c_j), c_j the relative change of z_j: rounding the bracket leaves
    # some eps of p_j c_j for each j, which is -dp_k/da_j / p_k for any k other than j.
    others = np.where(np.eye(3, dtype=bool), 0, np.abs(jacobian) / p.numpy()[..., np.newaxis])
    bound = ROUNDINGS * eps(tf.float32) * others.max(axis=1) + tiny(tf.float32)
    assert np.all(np.abs(jacobian.sum(axis=1)) < bound)


# Densities


def decimal_log_prob(p, a):
    """The log density to 20 digits, with A (1 - sum(p)) for rounded p as `Dirichlet` documents."""
    with localcontext(prec=50):
        p, a = [as_decimal(x) for x in p], [as_decimal(x) for x in a]
        terms = ((ak - 1) * pk.ln() - decimal_log_gamma(ak) for pk, ak in zip(p, a, strict=True))
        return float(sum(terms) + decimal_log_gamma(sum(a)) + sum(a) * (1 - sum(p)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_dirichlet_log_prob_matches_decimal_arithmetic(concentration, dtype):
    a = np.array(concentration, dtype.as_numpy_dtype)
    p = Dirichlet(a).sample(30, seed=SEED)
    found = Dirichlet(a).log_prob(p).numpy()
    exact = np.array([decimal_log_prob(x, a) for x in p.numpy()])
    a, p = a.astype(float), p.numpy().astype(float)
    logs = np.abs(np.log(2 * np.pi * a)).sum() + 3 * np.abs(np.log(a.sum()))
    size = logs + kernel_size(p * a.sum() / a, a).sum(axis=-1)
    assert np.all(np.abs(found - exact) < ROUNDINGS * eps(dtype) * size)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_dirichlet_log_prob_gradients_match_their_closed_form(concentration, dtype):
    a = tf.tile(tf.constant([concentration], dtype), [30, 1])
    p = Dirichlet(a).sample(seed=SEED)
    with tf.GradientTape() as tape:
        tape.watch([a, p])
        log_prob = Dirichlet(a).log_prob(p)
    by_a, by_p = (g.numpy() for g in tape.gradient(log_prob, [a, p]))

    a, p = a.numpy().astype(float), p.numpy().astype(float)
    total = a.sum(axis=-1, keepdims=True)
    w = p * total / a
    bound = ROUNDINGS * eps(dtype)
    # The means a / A are rounded: an eps of w. All other terms are smaller than a and a w.
    assert np.all(np.abs(by_p - ((a - 1) / p - total)) < bound * (1 + a * (1 + w)) / p)
    # The derivative by the total sums over all components.
    each = 1 + 1 / a + np.abs(w - 1) + np.abs(np.log(w))
    shared = np.sum(a / total * each, axis=-1, keepdims=True) + 3 / total
    off_simplex = 1 - p.sum(axis=-1, keepdims=True)
    exact = np.log(p) - special.digamma(a) + special.digamma(total) + off_simplex
    bound_a = bound * (each + shared) + 4 * eps(tf.float64) * np.log(total + 1)
    assert np.all(np.abs(by_a - exact) < bound_a)


def test_dirichlet_density_is_zero_outside_the_support_if_asked_for():
    distribution = Dirichlet([1.0, 2.0], force_probs_to_zero_outside_support=True)
    found = distribution.log_prob([[0.4, 0.6], [0.4, 0.5], [-0.4, 1.4]])
    bound = ROUNDINGS * eps(tf.float32)
    np.testing.assert_allclose(found, [np.log(2 * 0.6), -np.inf, -np.inf], atol=bound)


# As a member of the TFP families


def test_dirichlet_inherits_from_the_one_of_tfd():
    distribution = Dirichlet([2.0, 3.0, 4.0])
    stock = tfd.Dirichlet([2.0, 3.0, 4.0])
    assert isinstance(distribution, tfd.Dirichlet)
    assert type(distribution).__name__ == "Dirichlet"
    assert distribution.reparameterization_type == tfd.FULLY_REPARAMETERIZED
    assert distribution.batch_shape == []
    assert distribution.event_shape == [3]
    # The bijector itself cannot be built on every NumPy: TFP 0.25 calls np.reshape(newshape=).
    bijector = distribution._default_event_space_bijector
    assert bijector.__func__ is tfd.Dirichlet._default_event_space_bijector
    for moment in ("mean", "variance", "covariance", "entropy"):
        np.testing.assert_array_equal(getattr(distribution, moment)(), getattr(stock, moment)())
    flat = [1.0, 1.0, 1.0]
    np.testing.assert_array_equal(
        tfd.kl_divergence(distribution, Dirichlet(flat)),
        tfd.kl_divergence(stock, tfd.Dirichlet(flat)),
    )
    p = [0.2, 0.3, 0.5]
    np.testing.assert_allclose(distribution.prob(p), stock.prob(p), rtol=1e-5)
    copy = distribution.copy(concentration=flat)
    assert type(copy) is Dirichlet
    np.testing.assert_array_equal(copy.concentration, flat)


@pytest.mark.parametrize("seed", [5, SEED, (1, 2), None])
def test_dirichlet_draws_have_sample_and_batch_shape_for_every_kind_of_seed(seed):
    assert Dirichlet(tf.ones([2, 3])).sample([5, 1], seed=seed).shape == [5, 1, 2, 3]


def test_deferred_concentration_of_a_dirichlet_receives_gradients():
    concentration = tfp.util.TransformedVariable([0.05, 3.0, 5e4], tfp.bijectors.Exp())
    distribution = Dirichlet(concentration)
    assert len(distribution.trainable_variables) >= 1
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(distribution.log_prob(distribution.sample(10, seed=SEED)))
    gradient = tape.gradient(loss, concentration.trainable_variables[0]).numpy()
    assert np.all(np.isfinite(gradient))
    assert np.all(gradient != 0)
