"""Polynomials and triangular inverses against NumPy, and blocks against their definition."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd.backend.numerics import (
    block_size,
    blocks,
    inverse_of_lower_triangular,
    lower_factor,
    polynomial,
)

DTYPES = [tf.float32, tf.float64]


def eps(dtype):
    return np.finfo(dtype.as_numpy_dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("coefficients", [[2.5], [1.0, -3.0], [0.5, 0.0, -2.0, 4.0]])
def test_polynomial_is_that_of_numpy(coefficients, dtype):
    x = np.linspace(-2.0, 2.0, 9)
    found = polynomial(coefficients, tf.constant(x, dtype))
    assert found.dtype == dtype
    exact = np.polynomial.polynomial.polyval(x, coefficients)
    size = np.polynomial.polynomial.polyval(np.abs(x), np.abs(coefficients))
    assert np.all(np.abs(found - exact) <= 2 * len(coefficients) * eps(dtype) * size)


def test_polynomial_with_rows_of_coefficients_evaluates_one_polynomial_per_column():
    coefficients = [[1.0, 4.0], [2.0, 0.0], [3.0, -1.0]]  # 1 + 2x + 3x^2 and 4 - x^2
    x = tf.constant([[0.5], [-2.0], [3.0]], tf.float64)
    found = polynomial(coefficients, x)
    np.testing.assert_array_equal(found, [[2.75, 3.75], [9.0, 0.0], [34.0, -5.0]])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_of_lower_triangular_is_that_of_numpy(dtype, jit_compile):
    rng = np.random.default_rng(0)
    factors = np.tril(rng.normal(size=(2, 3, 4, 4))) + 4.0 * np.eye(4)
    program = tf.function(inverse_of_lower_triangular, jit_compile=jit_compile)
    found = program(tf.constant(factors, dtype)).numpy()
    assert found.dtype == dtype.as_numpy_dtype
    # The condition numbers are below 10, the elements of the inverse below 1.
    np.testing.assert_allclose(found, np.linalg.inv(factors), atol=100 * eps(dtype))
    np.testing.assert_array_equal(np.triu(found, 1), 0.0)


def test_inverse_of_lower_triangular_ignores_elements_above_the_diagonal():
    factor = np.array([[2.0, 0.0], [3.0, 4.0]])
    above = np.array([[0.0, 7.0], [0.0, 0.0]])
    found = inverse_of_lower_triangular(tf.constant(factor + above))
    np.testing.assert_array_equal(found, [[0.5, 0.0], [-0.375, 0.25]])


@pytest.mark.parametrize(
    ("numbers_each", "budget", "expected"), [(10, 100, 10), (30, 100, 3), (100, 100, 1)]
)
def test_block_size_is_the_number_of_items_that_fit(numbers_each, budget, expected):
    assert block_size(numbers_each, budget) == expected


def test_block_size_of_items_above_the_budget_is_one():
    assert block_size(101, 100) == 1


@pytest.mark.parametrize("count", [1, 6, 7, 8, 20])
@pytest.mark.parametrize("budget", [5, 10, 70, 10_000])
def test_blocks_cover_each_item_once_in_order_within_the_budget(count, budget):
    cut = list(blocks(count, 10, budget))
    assert np.concatenate([np.arange(count)[block] for block in cut]).tolist() == list(range(count))
    sizes = [block.stop - block.start for block in cut]
    assert all(10 * size <= budget or size == 1 for size in sizes)
    # As few blocks as possible: all but the last one are full.
    assert all(size == block_size(10, budget) for size in sizes[:-1])


def test_no_items_have_no_blocks():
    assert list(blocks(0, 10, 100)) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lower_factor_is_the_cholesky_factor_of_the_product(dtype):
    """Also where the product has lost its smallest eigenvalue: a root of condition 1e6."""
    root = np.random.default_rng(5).normal(size=(4, 3, 3)).astype(dtype)
    found = lower_factor(tf.constant(root)).numpy()
    np.testing.assert_array_equal(found, np.tril(found))
    assert (np.diagonal(found, axis1=-2, axis2=-1) > 0).all()
    product = root.astype(np.float64) @ root.astype(np.float64).swapaxes(-1, -2)
    # QR is backward stable: some roundings of the largest entries.
    eps = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(found @ found.swapaxes(-1, -2), product, rtol=0, atol=eps * 10)
    narrow = np.diag([1.0, 1e-6]).astype(dtype)
    np.testing.assert_allclose(lower_factor(tf.constant(narrow)), narrow, rtol=eps)
