"""The likelihood of complete rows as one matrix product.

A component's log density is a quadratic function of the row, and so an inner product of the row's
sufficient statistics (products of two features, the features, and 1) with natural parameters. For
all components and draws this is a single product of two matrices, about three times faster than
differences for a million rows. But it subtracts large numbers for a component that is narrow
relative to its distance from zero: `is_accurate` says whether the rounding error is small enough.
"""

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.small_matrices import product_with_vector
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.model.likelihood import (
    LOG_2PI,
    Theta,
    inverse_variances,
    log_weights,
    precision_matrices,
)

ROUNDING_TOLERANCE = 1e-4  # nats of a row's log density: far below what any row contributes


def natural_parameters(theta: Theta, covariance: str) -> tf.Tensor:
    """Return the natural parameters of draws with one sample axis [S]: [S, K, F].

    They are in the order of `sufficient_statistics`; the last, that of the statistic 1, contains
    the log weight and the normalising constant.
    """
    quadratic, linear, log_det = _quadratic_and_linear(theta, covariance)
    means = theta["means"]
    constant = log_weights(theta) + log_det
    constant -= 0.5 * (means.shape[-1] * LOG_2PI + tf.reduce_sum(means * linear, axis=-1))
    return tf.concat([quadratic, linear, constant[..., tf.newaxis]], axis=-1)


def sufficient_statistics(features: tf.Tensor, covariance: str) -> tf.Tensor:
    """Return the sufficient statistics of rows: products of two features, the features, and 1.

    Parameters
    ----------
    features : the rows, transposed: [..., D, N]. A product of matrices with long rows takes less
        time than one with short rows.

    Returns
    -------
    tensor [..., F, N]
    """
    one = tf.ones_like(features[..., :1, :])
    if covariance not in MATRIX_FORMS:
        return tf.concat([features * features, features, one], axis=-2)
    first, second = _feature_pairs(features.shape[-2])
    products = tf.gather(features, first, axis=-2) * tf.gather(features, second, axis=-2)
    return tf.concat([products, features, one], axis=-2)


def number_of_statistics(D: int, covariance: str) -> int:
    """Return F, the number of sufficient statistics of a row."""
    return (len(_feature_pairs(D)[0]) if covariance in MATRIX_FORMS else D) + D + 1


def log_joint_label_from_statistics(parameters: tf.Tensor, statistics: tf.Tensor) -> tf.Tensor:
    """Return log p(x_n, label_n = k given theta_s) [S, K, N], as `likelihood.log_joint_label` does.

    Parameters
    ----------
    parameters : natural parameters [S, K, F]
    statistics : sufficient statistics [F, N]
    """
    flat = tf.reshape(parameters, [-1, parameters.shape[-1]])
    shape = tf.concat([tf.shape(parameters)[:-1], tf.shape(statistics)[-1:]], axis=0)
    return tf.reshape(tf.matmul(flat, statistics), shape)


def _quadratic_and_linear(theta: Theta, covariance: str) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return coefficients of products and of features [S, K, ...], and log |precision| / 2."""
    means = theta["means"]
    if covariance not in MATRIX_FORMS:
        precisions = inverse_variances(theta)
        log_det = 0.5 * tf.reduce_sum(tf.math.log(precisions), axis=-1)
        return -0.5 * precisions, precisions * means, log_det
    matrix, log_det = precision_matrices(theta)
    rows, columns = _feature_pairs(means.shape[-1])
    multiplicity = np.where(rows == columns, 1.0, 2.0)  # each product of two features stands once
    flat = tf.reshape(matrix, [*matrix.shape[:-2], -1])
    quadratic = tf.gather(flat, rows * means.shape[-1] + columns, axis=-1)
    quadratic *= tf.constant(-0.5 * multiplicity, means.dtype)
    if covariance == "tied":
        matrix, quadratic = matrix[..., tf.newaxis, :, :], quadratic[..., tf.newaxis, :]
        quadratic = tf.broadcast_to(quadratic, [*means.shape[:-1], len(rows)])
        log_det = log_det[..., tf.newaxis]
    linear = product_with_vector(matrix, means)
    return quadratic, linear, tf.broadcast_to(log_det, means.shape[:-1])


def precision_diagonals(theta: Theta, covariance: str) -> tf.Tensor:
    """Return the diagonals of the precision matrices in any form: [..., K, D]."""
    if covariance not in MATRIX_FORMS:
        return inverse_variances(theta)
    matrices = theta["precisions"] if "precisions" in theta else precision_matrices(theta)[0]
    diagonals = tf.linalg.diag_part(matrices)
    diagonals = diagonals[..., tf.newaxis, :] if covariance == "tied" else diagonals
    return tf.broadcast_to(diagonals, tf.shape(theta["means"]))


def _feature_pairs(D: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two features of each product, every product once."""
    return np.tril_indices(D)


def is_accurate(
    precisions: np.ndarray,
    means: np.ndarray,
    dtype: np.dtype,
    tolerance: float = ROUNDING_TOLERANCE,
) -> bool:
    """Return whether the expanded quadratic form is accurate to `tolerance` in this dtype.

    Parameters
    ----------
    precisions : [..., K, D], the diagonals of the precision matrices, in standardised units.
    means : [..., K, D]
    tolerance : rounding error in nats of a row's log density.
    """
    with np.errstate(all="ignore"):  # a draw out of range gives NaN, which compares as false
        largest = np.max(precisions * (1.0 + means**2))
        return bool(largest * np.finfo(dtype).eps < tolerance)
