"""Products and Cholesky factors of small matrices, in graphs, against NumPy and TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd.backend import small_matrices

SIZES = [1, 2, 8, 9, 16, 17]  # on both sides of the limits


def in_graph(function, *arguments):
    """The result under XLA, in float64."""
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return compiled(*map(tf.constant, arguments)).numpy()


def positive_definite(D, seed=0, batch=(3, 2)):
    root = np.random.default_rng(seed).normal(size=(*batch, D, 2 * D))
    return root @ root.swapaxes(-1, -2) / D + np.eye(D)


@pytest.mark.parametrize("D", SIZES)
def test_cholesky_is_that_of_numpy(D):
    matrix = positive_definite(D)
    found = in_graph(small_matrices.cholesky, matrix)
    np.testing.assert_allclose(found, np.linalg.cholesky(matrix), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("D", SIZES)
def test_gradient_of_a_log_determinant_is_the_inverse(D):
    def gradient(matrix):
        with tf.GradientTape() as tape:
            tape.watch(matrix)
            factor = small_matrices.cholesky(matrix)
            total = 2.0 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)))
        return tape.gradient(total, matrix)

    matrix = positive_definite(D)
    np.testing.assert_allclose(in_graph(gradient, matrix), np.linalg.inv(matrix), rtol=1e-9)


@pytest.mark.parametrize("D", [2, 6])
def test_second_derivatives_are_those_of_tensorflow(D):
    def hessian(decompose):
        def of_matrix(matrix):
            with tf.GradientTape() as outer:
                outer.watch(matrix)
                with tf.GradientTape() as inner:
                    inner.watch(matrix)
                    total = tf.reduce_sum(tf.sin(decompose(matrix)))
                gradient = inner.gradient(total, matrix)
            return outer.jacobian(gradient, matrix, experimental_use_pfor=False)

        return tf.function(of_matrix, autograph=False)

    matrix = tf.constant(positive_definite(D, batch=()))
    expected = hessian(tf.linalg.cholesky)(matrix)
    found = hessian(small_matrices.cholesky)(matrix)
    # A matrix that is not symmetric has no factor: only symmetric changes have derivatives.
    np.testing.assert_allclose(symmetric(found), symmetric(expected), rtol=1e-9, atol=1e-12)


def symmetric(hessian):
    """The second derivatives by symmetric changes of the matrix [D, D, D, D]."""
    array = np.asarray(hessian)
    array = 0.5 * (array + array.transpose(1, 0, 2, 3))
    return 0.5 * (array + array.transpose(0, 1, 3, 2))


def test_factor_of_an_indefinite_matrix_is_nan_and_others_are_not():
    matrix = positive_definite(3, batch=(2,))
    matrix[0, 1, 1] = -1.0
    found = in_graph(small_matrices.cholesky, matrix)
    assert np.isnan(found[0]).any()
    np.testing.assert_allclose(found[1], np.linalg.cholesky(matrix[1]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("D", SIZES)
def test_products_are_those_of_numpy(D):
    rng = np.random.default_rng(1)
    root, vector = rng.normal(size=(4, D, D)), rng.normal(size=(4, D))
    product = in_graph(small_matrices.product_with_own_transpose, root)
    np.testing.assert_allclose(product, root @ root.swapaxes(-1, -2), rtol=1e-12, atol=1e-12)
    product = in_graph(small_matrices.product_with_vector, root, vector)
    np.testing.assert_allclose(product, (root @ vector[..., None])[..., 0], rtol=1e-12, atol=1e-12)


def test_shapes_need_not_be_known():
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float64)], autograph=False)
    def both(matrix):
        factor = small_matrices.cholesky(matrix)
        return small_matrices.product_with_own_transpose(factor)

    matrix = positive_definite(3)
    np.testing.assert_allclose(both(tf.constant(matrix)), matrix, rtol=1e-12)
