"""Affine maps of vectors and matrices, against loops over entries and numerical Jacobians."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd.data.affine_maps import Congruence, Elementwise, LinearMap, matrix_product

D = 3
RNG = np.random.default_rng(0)
SHIFT, FACTOR = np.array([5.0, -0.2, 100.0]), np.array([2.0, 0.3, 50.0])
UPPER = np.array([[2.0, 0.7, -5.0], [0.0, 0.3, 4.0], [0.0, 0.0, 50.0]])
LOWER = UPPER.T
VECTORS = RNG.normal(size=(4, 2, D))
TRIANGULAR = np.tril(RNG.normal(size=(4, 2, D, D)))
SYMMETRIC = RNG.normal(size=(4, 2, D, D))
SYMMETRIC = SYMMETRIC + SYMMETRIC.swapaxes(-1, -2)

LOG_DET = np.log([2.0, 0.3, 50.0]).sum()
# Rows of a lower triangular matrix have 1, 2 and 3 free entries; a congruence has |F|^(D + 1).
LOG_DET_TRIANGULAR = np.log([2.0, 0.3, 50.0]) @ [1.0, 2.0, 3.0]


MAPS = {
    "elementwise": (Elementwise(SHIFT, FACTOR, LOG_DET), VECTORS),
    "elementwise without a shift": (Elementwise(None, FACTOR, LOG_DET), VECTORS),
    "elementwise of matrices": (
        Elementwise(None, FACTOR[:, None], LOG_DET_TRIANGULAR, event_ndims=2),
        TRIANGULAR,
    ),
    "linear": (LinearMap(SHIFT, UPPER, np.linalg.inv(UPPER), LOG_DET), VECTORS),
    "linear without a shift": (LinearMap(None, LOWER, np.linalg.inv(LOWER), LOG_DET), VECTORS),
    "linear of matrices": (
        LinearMap(None, LOWER, np.linalg.inv(LOWER), LOG_DET_TRIANGULAR, event_ndims=2),
        TRIANGULAR,
    ),
    "congruence": (Congruence(LOWER, np.linalg.inv(LOWER), (D + 1) * LOG_DET), SYMMETRIC),
}
every_map = pytest.mark.parametrize(("change", "z"), MAPS.values(), ids=list(MAPS))


def by_loops(change, z):
    """Return x of one vector or matrix, entry by entry."""
    x = np.zeros_like(z)
    if isinstance(change, Elementwise):
        factor = np.broadcast_to(change.factor, z.shape)
        for place in np.ndindex(z.shape):
            x[place] = factor[place] * z[place]
    elif isinstance(change, Congruence):
        for i, j, k, m in np.ndindex(D, D, D, D):
            x[i, j] += change.matrix[i, k] * z[k, m] * change.matrix[j, m]
    else:
        for place in np.ndindex(z.shape):
            for k in range(D):
                x[place] += change.matrix[place[0], k] * z[(k, *place[1:])]
    shift = getattr(change, "shift", None)
    return x if shift is None else x + shift


@every_map
def test_forward_is_the_map_of_each_vector_or_matrix(change, z):
    found = change.forward(z)
    assert found.shape == z.shape
    for place in np.ndindex(z.shape[:2]):
        # Sums of at most nine products, of numbers up to some 1e4.
        np.testing.assert_allclose(found[place], by_loops(change, z[place]), rtol=1e-12, atol=1e-10)


@every_map
def test_inverse_takes_values_back(change, z):
    # The matrix has a condition of some 600, and a congruence has its square.
    np.testing.assert_allclose(change.inverse(change.forward(z)), z, atol=1e-9)


@every_map
def test_tensors_are_mapped_as_arrays_are(change, z):
    inside = tf.nest.map_structure(
        lambda v: tf.constant(v, tf.float64) if isinstance(v, np.ndarray) else v, change
    )
    for method in ("forward", "inverse"):
        found = getattr(inside, method)(tf.constant(z))
        assert tf.is_tensor(found)
        np.testing.assert_allclose(found, getattr(change, method)(z), rtol=1e-12, atol=1e-10)


@every_map
def test_single_vector_or_matrix_is_mapped_as_one_of_many(change, z):
    np.testing.assert_allclose(change.forward(z[0, 0]), change.forward(z)[0, 0], rtol=1e-13)
    inside = tf.nest.map_structure(
        lambda v: tf.constant(v, tf.float64) if isinstance(v, np.ndarray) else v, change
    )
    found = inside.forward(tf.constant(z[0, 0]))
    assert found.shape == z[0, 0].shape
    np.testing.assert_allclose(found, change.forward(z)[0, 0], rtol=1e-12, atol=1e-12)


def free_entries(change, value):
    """Return the numbers that are free: all, or those on and below the diagonal of a matrix."""
    return value if value.ndim == 1 else value[np.tril_indices(D)]


def filled(change, numbers):
    if len(numbers) == D:
        return numbers
    value = np.zeros((D, D))
    value[np.tril_indices(D)] = numbers
    return value + np.tril(value, -1).T if isinstance(change, Congruence) else value


@every_map
def test_log_det_jacobian_is_that_of_unit_steps_in_the_free_entries(change, z):
    """The maps are affine, so that differences are derivatives up to rounding."""
    start = free_entries(change, z[0, 0])
    columns = [
        free_entries(change, change.forward(filled(change, start + step)))
        - free_entries(change, change.forward(filled(change, start)))
        for step in np.eye(len(start))
    ]
    _, expected = np.linalg.slogdet(np.stack(columns))
    np.testing.assert_allclose(change.log_det_jacobian, expected, rtol=1e-10)


def test_product_of_a_single_vector_and_a_matrix_counts_the_vector_as_a_row():
    row = VECTORS[0, 0]
    expected = [sum(row[k] * UPPER[k, j] for k in range(D)) for j in range(D)]
    for found in (
        matrix_product(row, UPPER),
        matrix_product(tf.constant(row), tf.constant(UPPER)),
        matrix_product(tf.constant(row), UPPER),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@every_map
def test_inverted_map_goes_back_and_has_the_opposite_jacobian(change, z):
    back = change.inverted()
    np.testing.assert_allclose(back.forward(change.forward(z)), z, atol=1e-9)
    np.testing.assert_allclose(back.inverse(z), change.forward(z), rtol=1e-12, atol=1e-9)
    assert back.log_det_jacobian == -change.log_det_jacobian
    assert back.event_ndims == change.event_ndims
