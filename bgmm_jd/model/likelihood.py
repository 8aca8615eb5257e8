"""The density of rows under a Gaussian mixture, with the label of each row summed out.

A `theta` is a mapping of tensors by the prior's names, each with the same leading sample shape:
`weights` [..., K], `means` [..., K, D] and one of `precisions` and `scales`, whose shape is that
of the covariance's form: [..., K, D] ("diag"), [..., K, 1] ("spherical"), [..., K, D, D] ("full")
or [..., D, D] ("tied"). A `scales` of matrices holds lower Cholesky factors of covariances. Beside
`precisions` of matrices there may be their own such factors, under their `covariance.root_name`.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.numerics import inverse_of_lower_triangular
from bgmm_jd.data.rows import Missing, Rows, observed_mask
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, cholesky_name, scale_variable

Theta = Mapping[str, tf.Tensor]

_LOG_2PI = math.log(2.0 * math.pi)


def log_joint_label(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """log p(x_n, label_n = k given theta), in nats.

    ::

        log weights[k] - D/2 log 2 pi + 1/2 log |P[k]| - 1/2 (x[n] - mu[k])^T P[k] (x[n] - mu[k])

    with the precision matrix P[k]. Missing entries are summed out: the density is that of the
    observed part of a row, and 1 where there is none.

    Parameters
    ----------
    theta : with sample shape [...]
    rows : N of them.
    covariance : the form in which to read `precisions` or `scales`.

    Returns
    -------
    [..., K, N] : rows last, so that the arithmetic runs along the long axis.
    """
    # A component that a sparse prior has emptied may have a weight that underflows to zero; the
    # floor keeps its log finite and its gradient zero rather than NaN.
    tiny = np.finfo(rows.values.dtype.as_numpy_dtype).tiny
    log_weights = tf.math.log(tf.maximum(theta["weights"], tiny))[..., tf.newaxis]
    if covariance not in MATRIX_FORMS:
        return log_weights + _by_feature(theta, rows)
    if rows.missing is not None:
        return log_weights + _by_pattern(theta, rows, rows.missing)
    return log_weights + _by_matrix(theta, rows)


def row_log_likelihood(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """log p(x_n given theta), the label summed out, in nats: shape [..., N]."""
    return tf.reduce_logsumexp(log_joint_label(theta, rows, covariance), axis=-2)


def responsibilities(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """p(label_n = k given x_n and theta): shape [..., K, N], summing to 1 over k."""
    return tf.nn.softmax(log_joint_label(theta, rows, covariance), axis=-2)


def _by_feature(theta: Theta, rows: Rows) -> tf.Tensor:
    """Log densities [..., K, N] where features are independent within a component."""
    means, tau = theta["means"], diagonal_precisions(theta)
    log_scale = 0.5 * (tf.math.log(tau) - _LOG_2PI)
    # Differences before squares: the expanded form x^2 - 2 x mu + mu^2 is faster for many rows,
    # but in float32 it loses the spread of a cluster that lies 100 of its own sds from zero.
    residual = tf.transpose(rows.values) - means[..., tf.newaxis]
    scaled = tau[..., tf.newaxis] * residual * residual
    there = observed_mask(rows)
    if there is None:
        constant = tf.reduce_sum(log_scale, axis=-1)[..., tf.newaxis]
        return constant - 0.5 * tf.reduce_sum(scaled, axis=-2)
    there = tf.transpose(there)
    return tf.matmul(log_scale, there) - 0.5 * tf.reduce_sum(scaled * there, axis=-2)


def diagonal_precisions(theta: Theta) -> tf.Tensor:
    """Inverse variances [..., K, D] where a covariance is no matrix."""
    tau = theta["precisions"] if "precisions" in theta else theta["scales"] ** -2
    # A spherical component has one for all features.
    return tf.broadcast_to(tau, tf.shape(theta["means"]))


def _by_matrix(theta: Theta, rows: Rows) -> tf.Tensor:
    """Log densities [..., K, N] through R x - R mu, with R^T R the precision matrix.

    The matrix product comes before the difference, so that it is one large product for all draws
    and components. What that costs in digits grows with the distance of a cluster from zero in
    its own sds, and not with the square of it, as in the expanded form.
    """
    root, log_det = _whitening_matrix(theta)
    features = tf.shape(rows.values)[-1]
    flat = tf.reshape(root, [-1, features])
    turned = tf.matmul(flat, rows.values, transpose_b=True)
    turned = tf.reshape(turned, tf.concat([tf.shape(root)[:-1], [-1]], axis=0))
    if not _is_full(theta):  # one root for all components
        root, turned = root[..., tf.newaxis, :, :], turned[..., tf.newaxis, :, :]
        log_det = log_det[..., tf.newaxis]
    centre = tf.matmul(root, theta["means"][..., tf.newaxis])
    squares = tf.reduce_sum(tf.math.squared_difference(turned, centre), axis=-2)
    constant = log_det - 0.5 * _LOG_2PI * tf.cast(features, log_det.dtype)
    return constant[..., tf.newaxis] - 0.5 * squares


def _by_pattern(theta: Theta, rows: Rows, missing: Missing) -> tf.Tensor:
    """Log densities [..., K, N] of the observed part of each row.

    The covariance of the observed part is a part of the covariance. With ones for the variances
    of what is missing, and zeros for its covariances, all patterns have matrices of one size, and
    neither the determinant nor the square of a residual changes.
    """
    patterns, pattern = missing
    N = rows.values.shape[0]
    if N is not None and patterns.shape[0] is not None and patterns.shape[0] > N:
        patterns, pattern = observed_mask(rows), tf.range(N)  # of a batch: no more than it has rows
    covariance = covariance_tensors(theta)
    if not _is_full(theta):
        covariance = covariance[..., tf.newaxis, :, :]
    both = patterns[:, :, tf.newaxis] * patterns[:, tf.newaxis, :]
    padded = covariance[..., tf.newaxis, :, :] * both + tf.linalg.diag(1.0 - patterns)
    factor = tf.linalg.cholesky(padded)  # [..., K or 1, M, D, D]
    log_det = -tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), axis=-1)
    constant = log_det - 0.5 * _LOG_2PI * tf.reduce_sum(patterns, axis=-1)
    root = inverse_of_lower_triangular(factor)
    residual = (rows.values - theta["means"][..., tf.newaxis, :]) * observed_mask(rows)
    turned = tf.linalg.matvec(tf.gather(root, pattern, axis=-3), residual)
    squares = tf.reduce_sum(turned * turned, axis=-1)
    return tf.gather(constant, pattern, axis=-1) - 0.5 * squares


def _is_full(theta: Theta) -> bool:
    return len(theta[scale_variable(theta)].shape) > len(theta["means"].shape)


def _whitening_matrix(theta: Theta) -> tuple[tf.Tensor, tf.Tensor]:
    """R with R^T R the precision matrix [..., D, D], and log |R|."""
    if "precisions" in theta:
        factor = _precision_cholesky(theta)
        log_diagonal = tf.math.log(tf.linalg.diag_part(factor))
        return tf.linalg.matrix_transpose(factor), tf.reduce_sum(log_diagonal, axis=-1)
    log_diagonal = tf.math.log(tf.linalg.diag_part(theta["scales"]))
    return inverse_of_lower_triangular(theta["scales"]), -tf.reduce_sum(log_diagonal, axis=-1)


def _precision_cholesky(theta: Theta) -> tf.Tensor:
    """The lower Cholesky factor of the precision matrix [..., D, D]."""
    known = theta.get(cholesky_name("precisions"))
    return tf.linalg.cholesky(theta["precisions"]) if known is None else known


def precision_matrices(theta: Theta) -> tuple[tf.Tensor, tf.Tensor]:
    """Precision matrices [..., D, D] of a matrix form, and half their log determinants."""
    root, log_det = _whitening_matrix(theta)
    if "precisions" in theta:
        return theta["precisions"], log_det
    return tf.matmul(root, root, transpose_a=True), log_det


def covariance_tensors(theta: Theta) -> tf.Tensor:
    """Covariance matrices [..., D, D] of a matrix form, one for each component or for all."""
    if "scales" in theta:
        return tf.matmul(theta["scales"], theta["scales"], transpose_b=True)
    root = inverse_of_lower_triangular(_precision_cholesky(theta))
    return tf.matmul(root, root, transpose_a=True)
