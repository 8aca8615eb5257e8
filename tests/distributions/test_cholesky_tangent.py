"""Tangent coordinates of Cholesky factors, against automatic differentiation."""

import numpy as np
import pytest
import tensorflow as tf
from numerical_checks import DTYPES, ROUNDINGS, eps

from bgmm_jd.distributions.cholesky_tangent import change_by_tangent, gradient_by_tangent

D = 3
TRIL = np.array([[2.0, 0.0, 0.0], [0.7, 0.3, 0.0], [-20.0, 4.0, 30.0]])
LOWER = np.tril(np.ones((D, D)))


def trained(tril):
    """Return the coordinates in which C is trained: the log of its diagonal, and the rest."""
    return tf.linalg.set_diag(tril, tf.math.log(tf.linalg.diag_part(tril)))


def test_gradient_by_tangent_is_the_derivative_along_each_tangent():
    """Of any function of C, here a cubic one, at C (I + T) for T = 0."""
    tril = tf.constant(TRIL)
    slopes = tf.constant(np.random.default_rng(0).normal(size=(D, D)))

    def value(tril):
        return tf.reduce_sum(slopes * tf.linalg.band_part(tril, -1, 0) ** 3)

    tangent = tf.zeros([D, D], tf.float64)
    free = trained(tril)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([tangent, free])
        along = value(tril + tf.matmul(tril, tf.linalg.band_part(tangent, -1, 0)))
        found = value(tf.linalg.set_diag(free, tf.exp(tf.linalg.diag_part(free))))
    expected = tape.gradient(along, tangent)
    gradient = tape.gradient(found, free)
    # Elements above the diagonal are ignored.
    gradient = tf.where(LOWER > 0, gradient, 7.0)
    np.testing.assert_allclose(gradient_by_tangent(tril, gradient), expected, rtol=1e-12)


def test_change_by_tangent_is_the_derivative_of_what_is_trained():
    tril = tf.constant(TRIL)
    tangent = tf.constant(np.tril(np.random.default_rng(1).normal(size=(D, D))))
    step = tf.Variable(tf.zeros([], tf.float64))
    with tf.GradientTape(persistent=True) as tape:
        free = trained(tril + step * tf.matmul(tril, tangent))
    expected = tape.jacobian(free, step, experimental_use_pfor=False)
    np.testing.assert_allclose(change_by_tangent(tril, tangent), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradient_and_change_are_adjoint(dtype):
    """<gradient by T, T> = <gradient by what is trained, its change>, for batches too."""
    rng = np.random.default_rng(2)
    tril = tf.constant(np.stack([TRIL, np.eye(D)]), dtype)
    gradient, tangent = (tf.constant(np.tril(rng.normal(size=(2, D, D))), dtype) for _ in range(2))
    by_tangent, change = gradient_by_tangent(tril, gradient), change_by_tangent(tril, tangent)
    assert by_tangent.dtype == change.dtype == dtype
    left, right = (
        np.asarray(a * b, np.float64) for a, b in ((by_tangent, tangent), (gradient, change))
    )
    # Products of up to 30, by the largest entry of C, each a sum of three.
    size = np.abs(left).sum(axis=(1, 2)) + np.abs(right).sum(axis=(1, 2)) + 100
    difference = np.abs(left.sum(axis=(1, 2)) - right.sum(axis=(1, 2)))
    assert np.all(difference < ROUNDINGS * eps(dtype) * size)
