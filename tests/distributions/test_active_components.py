"""Distributions of active components against the plain ones of as many components."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.distributions.active_components import (
    ActiveComponents,
    ActiveCoordinates,
    ActiveDirichlet,
    ActiveExchangeableWishart,
    ActiveSticks,
    AntitheticActiveDirichlet,
)
from bgmm_jd.distributions.bijectors import StickCoordinates, matrix_coordinates
from bgmm_jd.distributions.dirichlet import AntitheticDirichlet, Dirichlet
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart

K, ACTIVE = 3, tf.constant([1.0, 1.0, 1.0, 0.0, 0.0], tf.float64)
CONCENTRATION = np.array([0.7, 4.0, 90.0])
PADDED = np.append(CONCENTRATION, [0.3, 50.0])
Z_ALARM = 4.5  # false alarms: 7e-6


def padded_weights(weights):
    return np.concatenate([weights, np.full((*weights.shape[:-1], 2), 1e-30)], axis=-1)


def test_density_counts_the_active_components():
    normal = tfd.Normal(np.zeros((5, 2)), np.ones((5, 2)))
    x = np.random.default_rng(0).normal(size=(4, 5, 2))
    found = tfd.Independent(ActiveComponents(normal, ACTIVE), 2).log_prob(x)
    expected = tfd.Normal(np.zeros((3, 2)), np.ones((3, 2))).log_prob(x[:, :K])
    np.testing.assert_allclose(found, tf.reduce_sum(expected, axis=[1, 2]), rtol=1e-13)


def test_draws_of_active_components_are_those_of_the_distribution():
    normal = tfd.Normal(np.zeros(5), np.ones(5))
    seed = (1, 2)
    found = ActiveComponents(normal, ACTIVE).sample(3, seed=seed)
    np.testing.assert_array_equal(found, normal.sample(3, seed=seed))


def test_dirichlet_density_is_that_of_the_active_proportions():
    weights = Dirichlet(CONCENTRATION).sample(50, seed=(0, 1)).numpy()
    found = ActiveDirichlet(PADDED, ACTIVE).log_prob(padded_weights(weights))
    np.testing.assert_allclose(found, Dirichlet(CONCENTRATION).log_prob(weights), rtol=1e-12)


def test_dirichlet_density_of_one_active_proportion_is_one():
    one = tf.constant([1.0, 0.0], tf.float64)
    assert ActiveDirichlet(np.array([3.0, 7.0]), one).log_prob([1.0, 1e-30]) == 0.0


@pytest.mark.parametrize(
    ("ours", "plain"),
    [(ActiveDirichlet, Dirichlet), (AntitheticActiveDirichlet, AntitheticDirichlet)],
)
def test_dirichlet_draws_are_the_plain_ones_where_all_components_are_active(ours, plain):
    seed = (3, 4)
    found = ours(CONCENTRATION, tf.ones(3, tf.float64)).sample(6, seed=seed)
    np.testing.assert_array_equal(found, plain(CONCENTRATION).sample(6, seed=seed))


def test_dirichlet_draws_have_the_moments_of_the_active_proportions():
    n = 40_000
    draws = ActiveDirichlet(PADDED, ACTIVE).sample(n, seed=(5, 6)).numpy()
    np.testing.assert_array_equal(draws[:, K:], 1e-30)
    np.testing.assert_allclose(draws.sum(axis=1), 1.0, rtol=1e-14)
    plain = tfd.Dirichlet(CONCENTRATION)
    sd = plain.stddev().numpy()
    errors = (draws[:, :K].mean(axis=0) - plain.mean().numpy()) / (sd / n**0.5)
    assert (np.abs(errors) < Z_ALARM).all()
    # The variance of a sample variance, by the fourth moment of the sample itself.
    squares = (draws[:, :K] - plain.mean().numpy()) ** 2
    errors = (squares.mean(axis=0) - sd**2) / (squares.std(axis=0) / n**0.5)
    assert (np.abs(errors) < Z_ALARM).all()


def test_dirichlet_draws_move_with_the_active_concentrations_only():
    concentration = tf.constant(PADDED)
    with tf.GradientTape() as tape:
        tape.watch(concentration)
        draws = ActiveDirichlet(concentration, ACTIVE).sample(100, seed=(7, 8))
        value = tf.reduce_sum(draws[:, 1])
    slope = tape.gradient(value, concentration).numpy()
    assert (slope[:K] != 0.0).all()
    assert (np.abs(slope[K:]) < 1e-25).all()


@pytest.mark.parametrize("input_output_cholesky", [False, True])
def test_exchangeable_wishart_density_is_that_of_the_active_matrices(input_output_cholesky):
    D, arguments = 2, {"df": 6.0, "scale_df": 2.0, "scale_mean": 4.0}
    factor = np.array([[1.3, 0.0], [0.4, 0.8]])
    plain = ExchangeableWishart(K, factor, **arguments, floor=0.02)
    matrices = plain.sample(5, seed=11).numpy()
    more = np.broadcast_to(np.eye(D), (5, 2, D, D))
    ours = ActiveExchangeableWishart(
        ACTIVE,
        factor,
        **arguments,
        floor=tf.constant(0.02, tf.float64),
        log_constant=tf.constant(plain.log_constant(), tf.float64),
    )
    x = np.concatenate([matrices, more], axis=1)
    if input_output_cholesky:
        ours, x = ours.copy(input_output_cholesky=True), np.linalg.cholesky(x)
    np.testing.assert_allclose(ours.log_prob(x), plain.log_prob(matrices), rtol=1e-12)


def test_sticks_of_active_proportions_are_the_plain_ones():
    y = np.random.default_rng(1).normal(size=(6, K - 1))
    padded = np.concatenate([y, np.full((6, 1), ActiveSticks.CLOSED), np.zeros((6, 1))], axis=1)
    ours, plain = ActiveSticks(ACTIVE), StickCoordinates()
    weights = plain.forward(y)
    np.testing.assert_allclose(ours.forward(padded), padded_weights(weights.numpy()), rtol=1e-13)
    np.testing.assert_allclose(
        ours.forward_log_det_jacobian(padded, event_ndims=1),
        plain.forward_log_det_jacobian(y, event_ndims=1),
        rtol=1e-12,
    )
    back = ours.inverse(tf.constant(padded_weights(weights.numpy())))
    np.testing.assert_allclose(back[:, : K - 1], y, rtol=1e-12)


@pytest.mark.parametrize(
    ("bijector", "size", "ndims"),
    [(tfb.Identity(), 2, 1), (tfb.Exp(), 2, 1), (matrix_coordinates(), 3, 2)],
)
def test_coordinates_have_the_jacobian_of_the_active_components(bijector, size, ndims):
    y = np.random.default_rng(2).normal(size=(4, 5, size))
    ours = ActiveCoordinates(bijector, ACTIVE, ndims)
    np.testing.assert_array_equal(ours.forward(y), bijector.forward(y))
    shape = tuple(bijector.forward(y).shape)
    assert tuple(ours.forward_event_shape(y.shape)) == shape
    assert tuple(ours.inverse_event_shape(shape)) == y.shape
    active = tf.constant(y[:, :K])
    expected = bijector.forward_log_det_jacobian(active, event_ndims=2)
    found = ours.forward_log_det_jacobian(y, event_ndims=2)
    np.testing.assert_allclose(found, tf.broadcast_to(expected, [4]), rtol=1e-13)
    np.testing.assert_allclose(ours.inverse(tf.identity(ours.forward(y))), y, rtol=1e-9)
