"""The density of rows under a Gaussian mixture, with the label of each row summed out.

A `theta` is a mapping of tensors by the prior's names, each with the same leading sample shape:
`weights` [..., K], `means` [..., K, D] and one of `precisions` and `scales` [..., K, D].
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

Theta = Mapping[str, tf.Tensor]

_LOG_2PI = math.log(2.0 * math.pi)


def precisions_of(theta: Theta) -> tf.Tensor:
    """The inverse variances [..., K, D], whichever of them the prior speaks of."""
    return theta["precisions"] if "precisions" in theta else theta["scales"] ** -2


def log_joint_label(theta: Theta, rows: tf.Tensor) -> tf.Tensor:
    """log p(x_n, label_n = k given theta), in nats.

    ::

        log weights[k] + sum_d 0.5 (log tau[k, d] - log 2 pi - tau[k, d] (x[n, d] - mu[k, d])^2)

    Parameters
    ----------
    theta : with sample shape [...]
    rows : [N, D]

    Returns
    -------
    [..., K, N] : rows last, so that the arithmetic runs along the long axis.
    """
    tau = precisions_of(theta)
    # A component that a sparse prior has emptied may have a weight that underflows to zero; the
    # floor keeps its log finite and its gradient zero rather than NaN.
    tiny = np.finfo(rows.dtype.as_numpy_dtype).tiny
    log_weights = tf.math.log(tf.maximum(theta["weights"], tiny))
    log_scale = 0.5 * tf.reduce_sum(tf.math.log(tau) - _LOG_2PI, axis=-1)
    # Differences before squares: the expanded form x^2 - 2 x mu + mu^2 is faster for many rows,
    # but in float32 it loses the spread of a cluster that lies 100 of its own sds from zero.
    residual = tf.transpose(rows) - theta["means"][..., tf.newaxis]
    squares = tf.reduce_sum(tau[..., tf.newaxis] * residual * residual, axis=-2)
    return (log_weights + log_scale)[..., tf.newaxis] - 0.5 * squares


def row_log_likelihood(theta: Theta, rows: tf.Tensor) -> tf.Tensor:
    """log p(x_n given theta), the label summed out, in nats: shape [..., N]."""
    return tf.reduce_logsumexp(log_joint_label(theta, rows), axis=-2)


def responsibilities(theta: Theta, rows: tf.Tensor) -> tf.Tensor:
    """p(label_n = k given x_n and theta): shape [..., K, N], summing to 1 over k."""
    return tf.nn.softmax(log_joint_label(theta, rows), axis=-2)
