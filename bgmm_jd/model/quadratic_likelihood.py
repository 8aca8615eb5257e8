"""The likelihood of complete rows as one matrix product.

A component's log density is a quadratic function of the row: with the products of its features,
the features, and 1 as its terms, all components and draws are one product of two matrices. Three
times quicker than differences for a million rows, but a difference of large numbers for a component
that is narrow for its distance from zero: `has_digits` tells.
"""

import math

import numpy as np
import tensorflow as tf

from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.model.likelihood import Theta, diagonal_precisions, precision_matrices

_LOG_2PI = math.log(2.0 * math.pi)
ROUNDING_TOLERANCE = 1e-4  # nats of a row's log density: far below what any row adds of its own


def natural_parameters(theta: Theta, covariance: str) -> tf.Tensor:
    """Of the terms, under draws with one sample axis [S]: [S, K, F]."""
    quadratic, linear, log_det = _by_degree(theta, covariance)
    means = theta["means"]
    tiny = np.finfo(means.dtype.as_numpy_dtype).tiny
    constant = tf.math.log(tf.maximum(theta["weights"], tiny)) + log_det
    constant -= 0.5 * (means.shape[-1] * _LOG_2PI + tf.reduce_sum(means * linear, axis=-1))
    return tf.concat([quadratic, linear, constant[..., tf.newaxis]], axis=-1)


def sufficient_statistics(features: tf.Tensor, covariance: str) -> tf.Tensor:
    """What rows are read as: the products of two features, the features, and 1.

    Parameters
    ----------
    features : the rows, turned: [..., D, N]. A product of matrices with long rows takes less time
        than one with short ones.

    Returns
    -------
    tensor [..., F, N]
    """
    one = tf.ones_like(features[..., :1, :])
    if covariance not in MATRIX_FORMS:
        return tf.concat([features * features, features, one], axis=-2)
    first, second = _pairs(features.shape[-2])
    products = tf.gather(features, first, axis=-2) * tf.gather(features, second, axis=-2)
    return tf.concat([products, features, one], axis=-2)


def number_of_statistics(D: int, covariance: str) -> int:
    """F."""
    return (len(_pairs(D)[0]) if covariance in MATRIX_FORMS else D) + D + 1


def log_joint_label_from_statistics(coefficients: tf.Tensor, terms: tf.Tensor) -> tf.Tensor:
    """log p(x_n, label_n = k given theta_s) [S, K, N], as `mixture.log_joint_label` has it.

    Parameters
    ----------
    coefficients : [S, K, F]
    terms : [F, N]
    """
    flat = tf.reshape(coefficients, [-1, coefficients.shape[-1]])
    shape = tf.concat([tf.shape(coefficients)[:-1], tf.shape(terms)[-1:]], axis=0)
    return tf.reshape(tf.matmul(flat, terms), shape)


def _by_degree(theta: Theta, covariance: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Coefficients of products and of features [S, K, ...], and log |precision| / 2 [S, K]."""
    means = theta["means"]
    if covariance not in MATRIX_FORMS:
        tau = diagonal_precisions(theta)
        return -0.5 * tau, tau * means, 0.5 * tf.reduce_sum(tf.math.log(tau), axis=-1)
    matrix, log_det = precision_matrices(theta)
    rows, columns = _pairs(means.shape[-1])
    twice = np.where(rows == columns, 1.0, 2.0)
    flat = tf.reshape(matrix, [*matrix.shape[:-2], -1])
    quadratic = tf.gather(flat, rows * means.shape[-1] + columns, axis=-1)
    quadratic *= tf.constant(-0.5 * twice, means.dtype)
    if covariance == "tied":
        matrix, quadratic = matrix[..., tf.newaxis, :, :], quadratic[..., tf.newaxis, :]
        quadratic = tf.broadcast_to(quadratic, [*means.shape[:-1], len(rows)])
        log_det = log_det[..., tf.newaxis]
    linear = tf.linalg.matvec(matrix, means)
    return quadratic, linear, tf.broadcast_to(log_det, means.shape[:-1])


def precision_diagonals(theta: Theta, covariance: str) -> tf.Tensor:
    """The diagonals of the precision matrices [..., K, D]."""
    if covariance not in MATRIX_FORMS:
        return diagonal_precisions(theta)
    tau = tf.linalg.diag_part(precision_matrices(theta)[0])
    tau = tau[..., tf.newaxis, :] if covariance == "tied" else tau
    return tf.broadcast_to(tau, tf.shape(theta["means"]))


def _pairs(D: int) -> tuple[np.ndarray, np.ndarray]:
    """Each product of two features once."""
    return np.tril_indices(D)


def is_accurate(
    precisions: np.ndarray,
    means: np.ndarray,
    dtype: np.dtype,
    tolerance: float = ROUNDING_TOLERANCE,
) -> bool:
    """Whether the expanded square keeps enough of them.

    Parameters
    ----------
    precisions : [..., K, D], the diagonal of the precision matrices, in internal units.
    means : [..., K, D]
    tolerance : of rounding, in nats of a row's log density.
    """
    with np.errstate(all="ignore"):  # a draw out of range has none, and NaN is not less
        size = np.max(precisions * (1.0 + means**2))
        return bool(size * np.finfo(dtype).eps < tolerance)
