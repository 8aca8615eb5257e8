"""The density of rows under a Gaussian mixture, with the labels marginalised.

A `theta` is a mapping of tensors by the prior's names, each with the same leading sample shape:
`weights` [..., K], `means` [..., K, D] and one of `precisions` and `scales`, whose shape depends on
the form of covariance: [..., K, D] ("diag"), [..., K, 1] ("spherical"), [..., K, D, D] ("full") or
[..., D, D] ("tied"). `scales` that are matrices are lower Cholesky factors of covariances. Beside
`precisions` that are matrices, theta may hold their Cholesky factors, under
`covariance_forms.cholesky_name("precisions")`.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.numerics import inverse_of_lower_triangular
from bgmm_jd.backend.small_matrices import cholesky, product_with_own_transpose, product_with_vector
from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import Rows, observed_mask
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, cholesky_name, scale_variable

Theta = Mapping[str, tf.Tensor]

# The name, in a theta, of which components are active: 1 or 0 for each [K]. All are without it. No
# variable of a prior can have this name.
ACTIVE = "components, active"
LOG_2PI = math.log(2.0 * math.pi)
_LOG_OF_NOTHING = -1e30  # of the weight of an inactive component: no row is so unlikely elsewhere


def log_joint_label(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """Return log p(x_n, label_n = k given theta), in nats.

    ::

        log weights[k] - D/2 log 2 pi + 1/2 log |P[k]| - 1/2 (x[n] - mu[k])^T P[k] (x[n] - mu[k])

    with the precision matrix P[k]. Missing entries are marginalised: the density is that of the
    observed part of a row, and 1 for a row without any observed entry.

    Parameters
    ----------
    theta : with sample shape [...]
    rows : N of them.
    covariance : the form of `precisions` or `scales`.

    Returns
    -------
    [..., K, N] : rows last, so that the arithmetic runs along the long axis.
    """
    log_weight = log_weights(theta)[..., tf.newaxis]
    if covariance not in MATRIX_FORMS:
        return log_weight + _log_density_of_features(theta, rows)
    if rows.missing is not None:
        return log_weight + _log_density_of_observed(theta, rows, rows.missing)
    return log_weight + _log_density_of_rows(theta, rows)


def row_log_likelihood(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """Return log p(x_n given theta), with the label marginalised, in nats: [..., N]."""
    return tf.reduce_logsumexp(log_joint_label(theta, rows, covariance), axis=-2)


def responsibilities(theta: Theta, rows: Rows, covariance: str) -> tf.Tensor:
    """Return p(label_n = k given x_n and theta): [..., K, N], which sum to 1 over k."""
    return tf.nn.softmax(log_joint_label(theta, rows, covariance), axis=-2)


def log_weights(theta: Theta) -> tf.Tensor:
    """Return the logs of the mixture weights [..., K], which are finite even for weights of 0.

    The weight of a component that a sparse prior has emptied can underflow to zero. The floor
    keeps its log finite, and makes its gradient zero rather than NaN.
    """
    weights = tf.convert_to_tensor(theta["weights"])
    logs = tf.math.log(tf.maximum(weights, np.finfo(weights.dtype.as_numpy_dtype).tiny))
    active = theta.get(ACTIVE)
    return logs if active is None else tf.where(active > 0.0, logs, _LOG_OF_NOTHING)


def _log_density_of_features(theta: Theta, rows: Rows) -> tf.Tensor:
    """Return log densities [..., K, N] where features are independent within a component."""
    means, precisions = theta["means"], inverse_variances(theta)
    log_scale = 0.5 * (tf.math.log(precisions) - LOG_2PI)
    # Differences before squares: the expanded form x^2 - 2 x mu + mu^2 is faster for many rows,
    # but in float32 it cannot resolve the width of a cluster that lies 100 of its sds from zero.
    residual = tf.transpose(rows.values) - means[..., tf.newaxis]
    squares = precisions[..., tf.newaxis] * residual * residual
    observed = observed_mask(rows)
    if observed is None:
        constant = tf.reduce_sum(log_scale, axis=-1)[..., tf.newaxis]
        return constant - 0.5 * tf.reduce_sum(squares, axis=-2)
    observed = tf.transpose(observed)
    return tf.matmul(log_scale, observed) - 0.5 * tf.reduce_sum(squares * observed, axis=-2)


def inverse_variances(theta: Theta) -> tf.Tensor:
    """Return inverse variances [..., K, D] in a form without matrices."""
    precisions = theta["precisions"] if "precisions" in theta else theta["scales"] ** -2
    # A spherical component has one number for all features.
    return tf.broadcast_to(precisions, tf.shape(theta["means"]))


def _log_density_of_rows(theta: Theta, rows: Rows) -> tf.Tensor:
    """Return log densities [..., K, N] from W x - W mu, where W^T W is the precision matrix.

    The matrix product comes before the difference, so that it is one large product for all draws
    and components. Its rounding error grows with the distance of a cluster from zero in sds of the
    cluster, and not with the square of the distance, as in the expanded form.
    """
    whitening, log_det = _whitening_matrix(theta)
    features = tf.shape(rows.values)[-1]
    flat = tf.reshape(whitening, [-1, features])
    whitened = tf.matmul(flat, rows.values, transpose_b=True)
    whitened = tf.reshape(whitened, tf.concat([tf.shape(whitening)[:-1], [-1]], axis=0))
    if not _has_matrix_per_component(theta):
        whitening, whitened = whitening[..., tf.newaxis, :, :], whitened[..., tf.newaxis, :, :]
        log_det = log_det[..., tf.newaxis]
    centre = product_with_vector(whitening, theta["means"])[..., tf.newaxis]
    squares = tf.reduce_sum(tf.math.squared_difference(whitened, centre), axis=-2)
    constant = log_det - 0.5 * LOG_2PI * tf.cast(features, log_det.dtype)
    return constant[..., tf.newaxis] - 0.5 * squares


def _log_density_of_observed(theta: Theta, rows: Rows, missing: Missing) -> tf.Tensor:
    """Return log densities [..., K, N] of the observed part of each row.

    Its covariance is a submatrix of the component's. The variances of missing entries are set to
    one and their covariances to zero, so that the matrices of all patterns have one size; neither
    the determinant nor the squared residual of the observed part changes.
    """
    patterns, pattern = missing
    N = rows.values.shape[0]
    if N is not None and patterns.shape[0] is not None and patterns.shape[0] > N:
        # A batch has at most as many patterns as rows.
        patterns, pattern = observed_mask(rows), tf.range(N)
    covariance = covariance_tensors(theta)
    if not _has_matrix_per_component(theta):
        covariance = covariance[..., tf.newaxis, :, :]
    both = patterns[:, :, tf.newaxis] * patterns[:, tf.newaxis, :]
    padded = covariance[..., tf.newaxis, :, :] * both + tf.linalg.diag(1.0 - patterns)
    factor = cholesky(padded)  # [..., K or 1, M, D, D]
    log_det = -tf.reduce_sum(tf.math.log(tf.linalg.diag_part(factor)), axis=-1)
    constant = log_det - 0.5 * LOG_2PI * tf.reduce_sum(patterns, axis=-1)
    whitening = inverse_of_lower_triangular(factor)
    residual = (rows.values - theta["means"][..., tf.newaxis, :]) * observed_mask(rows)
    whitened = tf.linalg.matvec(tf.gather(whitening, pattern, axis=-3), residual)
    squares = tf.reduce_sum(whitened * whitened, axis=-1)
    return tf.gather(constant, pattern, axis=-1) - 0.5 * squares


def _has_matrix_per_component(theta: Theta) -> bool:
    """Return whether the matrices are those of the form "full", and not of "tied"."""
    return len(theta[scale_variable(theta)].shape) > len(theta["means"].shape)


def _whitening_matrix(theta: Theta) -> tuple[tf.Tensor, tf.Tensor]:
    """Return W with W^T W the precision matrix [..., D, D], and log |W|."""
    if "precisions" in theta:
        factor = _precision_cholesky(theta)
        log_diagonal = tf.math.log(tf.linalg.diag_part(factor))
        return tf.linalg.matrix_transpose(factor), tf.reduce_sum(log_diagonal, axis=-1)
    log_diagonal = tf.math.log(tf.linalg.diag_part(theta["scales"]))
    return inverse_of_lower_triangular(theta["scales"]), -tf.reduce_sum(log_diagonal, axis=-1)


def _precision_cholesky(theta: Theta) -> tf.Tensor:
    """Return the lower Cholesky factor of the precision matrix [..., D, D]."""
    known = theta.get(cholesky_name("precisions"))
    return cholesky(theta["precisions"]) if known is None else known


def precision_matrices(theta: Theta) -> tuple[tf.Tensor, tf.Tensor]:
    """Return precision matrices [..., D, D] of a matrix form, and half their log determinants."""
    whitening, log_det = _whitening_matrix(theta)
    if "precisions" in theta:
        return theta["precisions"], log_det
    return product_with_own_transpose(tf.linalg.matrix_transpose(whitening)), log_det


def covariance_tensors(theta: Theta) -> tf.Tensor:
    """Return covariance matrices of a matrix form: [..., K, D, D] ("full") or [..., D, D]."""
    if "scales" in theta:
        return product_with_own_transpose(theta["scales"])
    inverse = inverse_of_lower_triangular(_precision_cholesky(theta))
    return product_with_own_transpose(tf.linalg.matrix_transpose(inverse))
