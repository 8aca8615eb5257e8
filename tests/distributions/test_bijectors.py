"""Bijectors to proportions and matrices, against numerical Jacobians and exact inverses."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from numerical_checks import DTYPES, ROUNDINGS, break_sticks, eps, tiny
from scipy import special

from bgmm_jd.data.affine_maps import Congruence, Elementwise, LinearMap
from bgmm_jd.distributions.bijectors import (
    ChangeOfUnits,
    InDtype,
    LogRatios,
    StickCoordinates,
    cholesky_coordinates,
    log_sticks_from_weights,
    log_weights_from_sticks,
    matrix_coordinates,
)
from bgmm_jd.distributions.dirichlet import LEAST_PROPORTION
from bgmm_jd.distributions.stick_breaking import StickBreaking

tfb = tfp.bijectors


# Stick coordinates


def test_stick_coordinates_are_inverted():
    y = np.random.default_rng(8).normal(scale=4.0, size=(50, 5))
    w = StickCoordinates().forward(y)
    np.testing.assert_allclose(w, break_sticks(special.expit(y), special.expit(-y)), rtol=1e-13)
    # A new bijector and `tf.identity`, because TFP caches the pre-images of values. w is rounded by
    # some 8 eps of 1 + |log w|, and so are its sums: absolute errors of y, a difference of logs.
    size = 1 + np.abs(np.log(w)).max()
    back = StickCoordinates().inverse(tf.identity(w))
    np.testing.assert_allclose(back, y, atol=ROUNDINGS * 6 * eps(tf.float64) * size)


@pytest.mark.parametrize("y", [[0.3], [0.3, -1.2, 2.0], [-4.0, 8.0, 0.0, 3.0, -2.0]])
def test_log_det_jacobian_of_stick_coordinates_is_that_of_the_first_proportions(y):
    y = tf.constant(y, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(y)
        w = StickCoordinates().forward(y)
    _, expected = np.linalg.slogdet(tape.jacobian(w, y)[:-1])
    found = StickCoordinates().forward_log_det_jacobian(y, event_ndims=1)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    back = StickCoordinates().inverse_log_det_jacobian(tf.identity(w), event_ndims=1)
    np.testing.assert_allclose(back, -expected, rtol=1e-10)


def test_log_det_jacobian_of_stick_coordinates_takes_any_number_of_leading_axes():
    y = np.random.default_rng(3).normal(size=(2, 3, 4))
    found = StickCoordinates().forward_log_det_jacobian(y, event_ndims=1)
    one_by_one = [
        [StickCoordinates().forward_log_det_jacobian(row, event_ndims=1) for row in rows]
        for rows in y
    ]
    np.testing.assert_allclose(found, one_by_one, rtol=1e-13)


def test_log_ratios_to_the_last_proportion_are_inverted():
    y = np.random.default_rng(4).normal(size=(2, 3, 4))
    w = LogRatios().forward(y)
    with_last = np.concatenate([y, np.zeros((2, 3, 1))], axis=-1)
    np.testing.assert_allclose(w, special.softmax(with_last, axis=-1), rtol=1e-13)
    np.testing.assert_allclose(LogRatios().inverse(tf.identity(w)), y, atol=1e-13)


def test_stick_coordinates_far_out_are_finite_and_accurate_in_float32():
    y = tf.constant([[30.0, -20.0], [-300.0, 2.0], [300.0, 300.0]])
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(y)
        w = StickCoordinates().forward(y)
        log_det = StickCoordinates().forward_log_det_jacobian(y, event_ndims=1)
    v, rest = special.expit(y[0].numpy().astype(float)), special.expit(-y[0].numpy().astype(float))
    np.testing.assert_allclose(w[0], break_sticks(v, rest), rtol=ROUNDINGS * 50 * eps(tf.float32))
    # log v + log(1 - v) of each break, and log R of the second.
    expected = [-30 - 20 - 30, -300 - 2 - 2 * np.log1p(np.exp(-2)), -300 - 300 - 300]
    np.testing.assert_allclose(log_det, expected, rtol=ROUNDINGS * eps(tf.float32))
    for value in (w, log_det):
        assert np.all(np.isfinite(tape.gradient(value, y)))
    back = StickCoordinates().inverse(tf.identity(w))
    np.testing.assert_allclose(back[0], y[0], atol=ROUNDINGS * 50 * eps(tf.float32))
    assert np.all(np.isfinite(back))


def test_stick_coordinates_have_one_dimension_less_than_the_proportions():
    coordinates = StickBreaking(tf.ones([3, 2])).experimental_default_event_space_bijector()
    assert coordinates.forward_event_shape([3]) == [4]
    assert coordinates.inverse_event_shape([4]) == [3]
    np.testing.assert_array_equal(coordinates.forward_event_shape_tensor([3]), [4])
    np.testing.assert_array_equal(coordinates.inverse_event_shape_tensor([4]), [3])
    assert coordinates.forward(tf.zeros([5, 3])).shape == [5, 4]


@pytest.mark.parametrize("dtype", DTYPES)
def test_stick_coordinates_raise_proportions_to_the_least_one(dtype):
    w = StickCoordinates().forward(tf.constant([200.0, 0.0], dtype)).numpy()
    least = np.array(LEAST_PROPORTION, dtype.as_numpy_dtype)
    np.testing.assert_array_equal(w, [1.0, least, least])


# Weights and sticks


def test_log_weights_of_sticks_match_the_product_of_shares():
    v = np.random.default_rng(3).uniform(size=(7, 4))
    log_sticks = tf.constant(np.log(np.stack([v, 1 - v], axis=-1)))
    found = log_weights_from_sticks(log_sticks)
    np.testing.assert_allclose(found, np.log(break_sticks(v, 1 - v)), rtol=1e-13)


def test_log_sticks_of_weights_match_quotients_of_sums():
    w = np.random.default_rng(4).dirichlet(np.ones(5), size=6)
    sums = np.cumsum(w[:, ::-1], axis=1)[:, ::-1]
    log_sticks, log_remaining = log_sticks_from_weights(tf.constant(w))
    np.testing.assert_allclose(log_sticks[..., 0], np.log(w[:, :-1] / sums[:, :-1]), atol=1e-13)
    np.testing.assert_allclose(log_sticks[..., 1], np.log(sums[:, 1:] / sums[:, :-1]), atol=1e-13)
    np.testing.assert_allclose(log_remaining, np.log(sums[:, :-1]), atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_sticks_of_zero_weights_stay_in_the_range_of_a_density(dtype):
    log_sticks, _ = log_sticks_from_weights(
        tf.constant([0.0, 0.5, 0.5 + 4 * eps(dtype), 0.0], dtype)
    )
    assert np.all(log_sticks <= 0.0)
    assert np.all(tf.exp(log_sticks) >= tiny(dtype))


# Matrix coordinates


@pytest.mark.parametrize("D", [1, 3])
def test_matrix_coordinates_are_the_squares_of_cholesky_coordinates(D):
    size = D * (D + 1) // 2
    y = np.random.default_rng(5).normal(size=(4, size))
    factors = cholesky_coordinates().forward(y).numpy()
    np.testing.assert_array_equal(factors, np.tril(factors))
    # The coordinates are the logs of the diagonal and the elements below it, in an order of TFP's.
    diagonal = np.einsum("...ii->...i", factors)
    logs = np.concatenate([np.log(diagonal), factors[:, *np.tril_indices(D, -1)]], axis=1)
    np.testing.assert_allclose(np.sort(logs), np.sort(y), rtol=1e-13)
    matrices = matrix_coordinates().forward(y)
    np.testing.assert_allclose(matrices, factors @ factors.swapaxes(-1, -2), rtol=1e-13)
    back = matrix_coordinates().inverse(tf.identity(matrices))
    np.testing.assert_allclose(back, y, rtol=1e-10, atol=1e-10)


# Bijectors of another dtype, and of matrices by a factor


def test_bijector_in_dtype_computes_in_its_own_and_returns_that_of_the_points():
    inner = tfb.Scale(tf.constant(1 / 3, tf.float64))
    outer = InDtype(inner, tf.float64)
    x = tf.constant([3.0, -7.0])
    y = outer.forward(x)
    assert y.dtype == tf.float32
    np.testing.assert_array_equal(y, (x.numpy().astype(float) / 3).astype(np.float32))
    back = InDtype(inner, tf.float64).inverse(tf.identity(y))
    assert back.dtype == tf.float32
    np.testing.assert_allclose(back, x, rtol=2 * eps(tf.float32))
    log_det = outer.forward_log_det_jacobian(x, event_ndims=1)
    assert log_det.dtype == tf.float32
    np.testing.assert_allclose(log_det, -2 * np.log(3), rtol=2 * eps(tf.float32))


def test_bijector_in_dtype_has_the_event_shapes_of_the_wrapped_one():
    outer = InDtype(StickCoordinates(), tf.float64)
    assert outer.forward_event_shape([3]) == [4]
    assert outer.inverse_event_shape([4]) == [3]
    assert outer.forward_min_event_ndims == 1


def test_change_of_units_of_a_matrix_has_the_log_det_jacobian_of_its_map():
    x = tf.constant([[4.0, 1.0], [1.0, 9.0]], tf.float64)
    scale = tf.constant([2.0, 5.0], tf.float64)
    factor = scale[:, tf.newaxis] * scale
    # Of the three free elements of a symmetric matrix: scaled by 4, 10 and 25.
    log_det = tf.math.log(tf.constant(4.0 * 10.0 * 25.0, tf.float64))
    bijector = ChangeOfUnits(Elementwise(None, factor, log_det, event_ndims=2))
    y = bijector.forward(x)
    np.testing.assert_array_equal(y, [[16.0, 10.0], [10.0, 225.0]])
    np.testing.assert_array_equal(bijector.inverse(tf.identity(y)), x)
    found = bijector.forward_log_det_jacobian(x, event_ndims=2)
    np.testing.assert_allclose(found, np.log(1_000.0), rtol=1e-15)
    copy = bijector.copy(change=Elementwise(None, tf.ones_like(factor), 0.0, event_ndims=2))
    np.testing.assert_array_equal(copy.forward(x), x)


MATRIX = np.array([[2.0, 0.3], [0.0, 0.5]])


@pytest.mark.parametrize(
    ("change", "x"),
    [
        (
            LinearMap(np.array([7.0, -1.0]), MATRIX, np.linalg.inv(MATRIX), 0.25),
            [[1.0, 2.0], [3.0, -4.0], [0.0, 0.5]],
        ),
        (
            LinearMap(None, MATRIX.T, np.linalg.inv(MATRIX).T, 0.25, event_ndims=2),
            [[[1.0, 0.0], [3.0, 4.0]], [[0.5, 0.0], [-3.0, 0.1]]],
        ),
        (
            Congruence(MATRIX, np.linalg.inv(MATRIX), 0.25),
            [[[4.0, 1.0], [1.0, 9.0]], [[1.0, 0.0], [0.0, 1.0]]],
        ),
    ],
    ids=["vectors", "triangular matrices", "symmetric matrices"],
)
def test_change_of_units_counts_its_log_det_jacobian_once_for_each_event(change, x):
    """TFP sums it over the axes before those that are mapped together."""
    change = tf.nest.map_structure(
        lambda v: tf.constant(v, tf.float64) if isinstance(v, float | np.ndarray) else v, change
    )
    x = tf.constant(x, tf.float64)
    bijector = ChangeOfUnits(change)
    y = bijector.forward(x)
    np.testing.assert_array_equal(y, change.forward(x))
    np.testing.assert_allclose(ChangeOfUnits(change).inverse(tf.identity(y)), x, atol=1e-14)
    found = bijector.forward_log_det_jacobian(x, event_ndims=x.shape.rank)
    np.testing.assert_allclose(found, 0.25 * len(x), rtol=1e-15)
    back = bijector.inverse_log_det_jacobian(tf.identity(y), event_ndims=x.shape.rank)
    np.testing.assert_allclose(back, -0.25 * len(x), rtol=1e-15)
