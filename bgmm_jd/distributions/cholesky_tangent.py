"""Derivatives by a lower Cholesky factor C in its own tangent coordinates T, dC = C T.

T is lower triangular. In these coordinates the Fisher information of normal and of Wishart
distributions does not depend on C: the entries of T are orthogonal. C itself is trained by the log
of its diagonal and by the entries below it.
"""

import tensorflow as tf


def gradient_by_tangent(tril: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    """Return derivatives by T [..., D, D], with zeros above the diagonal.

    Parameters
    ----------
    tril : C [..., D, D], lower triangular with a positive diagonal.
    gradient : derivatives by log C_ii on the diagonal and by C_ij below it. Elements above the
        diagonal are ignored.
    """
    by_C = tf.linalg.band_part(gradient, -1, 0)
    by_C = tf.linalg.set_diag(by_C, tf.linalg.diag_part(by_C) / tf.linalg.diag_part(tril))
    return tf.linalg.band_part(tf.matmul(tril, by_C, transpose_a=True), -1, 0)


def change_by_tangent(tril: tf.Tensor, tangent: tf.Tensor) -> tf.Tensor:
    """Return the change of log C_ii on the diagonal and of C_ij below it, for a change T."""
    change = tf.linalg.band_part(tf.matmul(tril, tangent), -1, 0)
    return tf.linalg.set_diag(change, tf.linalg.diag_part(tangent))
