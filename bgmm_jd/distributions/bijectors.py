"""Bijectors from real coordinates to proportions and to positive definite matrices."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from bgmm_jd.backend.small_matrices import product_with_own_transpose
from bgmm_jd.data.affine_maps import AffineMap
from bgmm_jd.distributions import dirichlet


class _Proportions(tfb.Bijector):
    """Map K - 1 real numbers to K proportions: the shapes, which all such maps have."""

    def __init__(self, validate_args: bool = False, name: str = "proportions") -> None:
        super().__init__(
            forward_min_event_ndims=1, parameters={}, validate_args=validate_args, name=name
        )

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] + 1)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] - 1)

    def _forward_event_shape_tensor(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.concat([shape[:-1], shape[-1:] + 1], axis=0)

    def _inverse_event_shape_tensor(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.concat([shape[:-1], shape[-1:] - 1], axis=0)


class StickCoordinates(_Proportions):
    """Map K - 1 real numbers y to K proportions w by breaking a stick, with v[k] = sigmoid(y[k]).

    See `stick_breaking` for v and R. The log-det-Jacobian is that of the first K - 1 proportions,
    in which the density of a Dirichlet is defined: sum_k (log v[k] + log(1 - v[k]) + log R[k]).
    The forward map raises proportions below `LEAST_PROPORTION` to it; the inverse raises those
    below the smallest normal float to that float.
    """

    def _forward(self, y: tf.Tensor) -> tf.Tensor:
        return tf.maximum(
            tf.exp(log_weights_from_sticks(_log_sigmoids(y))), dirichlet.LEAST_PROPORTION
        )

    def _inverse(self, weights: tf.Tensor) -> tf.Tensor:
        log_sticks, _ = log_sticks_from_weights(weights)
        return log_sticks[..., 0] - log_sticks[..., 1]

    def _forward_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        log_sticks = _log_sigmoids(y)
        log_remaining = tf.cumsum(log_sticks[..., 1], axis=-1, exclusive=True)
        by_break = tf.reduce_sum(log_sticks, axis=-1) + log_remaining
        return tf.reduce_sum(self._by_break(by_break), axis=-1)

    def _by_break(self, values: tf.Tensor) -> tf.Tensor:
        """Return the values [..., K - 1] of the breaks that count: here all."""
        return values


class LogRatios(_Proportions):
    """Map K - 1 real numbers y to K proportions w, with y[k] = log(w[k] / w[K]).

    A permutation of the proportions is a linear map of these log ratios. The log-det-Jacobian is
    that of the first K - 1 proportions, in which the density of a Dirichlet is defined:
    sum_k log w[k]. Both maps raise proportions as those of `StickCoordinates` do.
    """

    def _forward(self, y: tf.Tensor) -> tf.Tensor:
        return tf.maximum(tf.exp(_log_softmax(y)), dirichlet.LEAST_PROPORTION)

    def _inverse(self, weights: tf.Tensor) -> tf.Tensor:
        logs = tf.math.log(tf.maximum(weights, np.finfo(weights.dtype.as_numpy_dtype).tiny))
        return logs[..., :-1] - logs[..., -1:]

    def _forward_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(_log_softmax(y), axis=-1)


def _log_softmax(y: tf.Tensor) -> tf.Tensor:
    """Return the log proportions [..., K] of log ratios [..., K - 1] to the last."""
    # The sum has the right shape for K = 1 too.
    zero = tf.zeros_like(tf.reduce_sum(y, axis=-1, keepdims=True))
    return tf.math.log_softmax(tf.concat([y, zero], axis=-1), axis=-1)


def log_weights_from_sticks(log_sticks: tf.Tensor) -> tf.Tensor:
    """Return log weights [..., K] from the logs of (v, 1 - v), [..., K - 1, 2].

    ::

        log w[k] = log v[k] + sum_{j<k} log(1 - v[j]),    log w[K] = sum_{j<K} log(1 - v[j]).

    The map is linear, so it also turns derivatives of these logs into those of the log weights.
    """
    log_taken, log_left = log_sticks[..., 0], log_sticks[..., 1]
    # The sum has the right shape, and is zero, for K = 1 too.
    zero = tf.zeros_like(tf.reduce_sum(log_taken, axis=-1, keepdims=True))
    log_remaining = tf.concat([zero, tf.cumsum(log_left, axis=-1)], axis=-1)
    return tf.concat([log_taken, zero], axis=-1) + log_remaining


def log_sticks_from_weights(weights: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the logs of (v, 1 - v) and of the stick R that remains before each break.

    Quotients are formed as differences of logs. The gradient of a quotient divides twice by the
    denominator, which XLA turns into one division by its square; in float32 the square of 1e-30
    is zero.

    Parameters
    ----------
    weights : tensor [..., K]
        Proportions. Those below the smallest normal float are raised to it.

    Returns
    -------
    tensor [..., K - 1, 2], tensor [..., K - 1]
    """
    tiny = float(np.finfo(weights.dtype.as_numpy_dtype).tiny)
    weights = tf.maximum(weights, tiny)
    # Summed from the last weight on: 1 - w[1] - ... - w[k] would have no correct digit if little
    # remains.
    log_sums = tf.math.log(tf.cumsum(weights, axis=-1, reverse=True))
    log_parts = tf.stack([tf.math.log(weights[..., :-1]), log_sums[..., 1:]], axis=-1)
    log_remaining = log_sums[..., :-1]
    # Rounding can bring a share below the smallest normal float or above 1, where the density of a
    # break is not defined. 1e-4 is several roundings of log(tiny), so exp(least) is normal.
    least = math.log(tiny) + 1e-4
    return tf.clip_by_value(log_parts - log_remaining[..., tf.newaxis], least, 0.0), log_remaining


def _log_sigmoids(y: tf.Tensor) -> tf.Tensor:
    """Return log sigmoid(y) and log(1 - sigmoid(y)), stacked along a last axis of 2."""
    return tf.stack([tf.math.log_sigmoid(y), tf.math.log_sigmoid(-y)], axis=-1)


def matrix_coordinates() -> tfb.Bijector:
    """Return the bijector from R^(D (D + 1) / 2) to positive definite matrices [D, D]."""
    return tfb.Chain([_CholeskyProduct(), cholesky_coordinates()])


class _CholeskyProduct(tfb.CholeskyOuterProduct):
    """Map lower Cholesky factors to their matrices, as sums where these are small."""

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return product_with_own_transpose(x)


def cholesky_coordinates() -> tfb.Bijector:
    """Return the bijector from R^(D (D + 1) / 2) to the lower Cholesky factors of such matrices.

    The diagonal is the exponential of its coordinates.
    """
    return tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=None)


class InDtype(tfb.Bijector):
    """Apply a bijector whose parameters have one dtype to points of another.

    The bijector of a variable has the dtype of the prior, which is TFP's default unless the user
    chose one; a fit runs in the dtype of X.
    """

    def __init__(self, bijector: tfb.Bijector, dtype: tf.DType) -> None:
        self._wrapped, self._wrapped_dtype = bijector, dtype
        super().__init__(
            forward_min_event_ndims=bijector.forward_min_event_ndims,
            inverse_min_event_ndims=bijector.inverse_min_event_ndims,
            parameters={"bijector": bijector, "dtype": dtype},
            validate_args=False,
            name=bijector.name,
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._wrapped.forward(tf.cast(x, self._wrapped_dtype)), x.dtype)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._wrapped.inverse(tf.cast(y, self._wrapped_dtype)), y.dtype)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        ndims = self.forward_min_event_ndims
        point = tf.cast(x, self._wrapped_dtype)
        return tf.cast(self._wrapped.forward_log_det_jacobian(point, event_ndims=ndims), x.dtype)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._wrapped.forward_event_shape(shape)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._wrapped.inverse_event_shape(shape)


class ChangeOfUnits(tfb.Bijector):
    """Apply an affine map of vectors, or of symmetric or lower triangular matrices [D, D].

    TFP's own bijectors would count all D^2 entries of a matrix as free in the log-det-Jacobian;
    the map knows that of the free entries.
    """

    def __init__(self, change: AffineMap) -> None:
        self._change = change
        super().__init__(
            forward_min_event_ndims=change.event_ndims,
            is_constant_jacobian=True,
            parameters={"change": change},
            validate_args=False,
            name="change_of_units",
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return self._change.forward(x)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return self._change.inverse(y)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return self._change.log_det_jacobian
