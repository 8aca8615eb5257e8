"""Maps from real coordinates to proportions and to positive definite matrices."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from bgmm_jd.distributions import dirichlet


class StickCoordinates(tfb.Bijector):
    """K - 1 real numbers y as K proportions: the sticks are v[k] = sigmoid(y[k]).

    Volume is measured as a Dirichlet density does, in the first K - 1 proportions: the log of the
    Jacobian is sum_k (log v[k] + log(1 - v[k]) + log R[k]). Proportions are raised to the least of
    a draw; below the smallest normal float they are taken for it on the way back.
    """

    def __init__(self, validate_args: bool = False, name: str = "sticks") -> None:
        super().__init__(
            forward_min_event_ndims=1, parameters={}, validate_args=validate_args, name=name
        )

    def _forward(self, y: tf.Tensor) -> tf.Tensor:
        return tf.maximum(
            tf.exp(log_weights_from_sticks(_log_sigmoids(y))), dirichlet.LEAST_PROPORTION
        )

    def _inverse(self, x: tf.Tensor) -> tf.Tensor:
        log_sticks, _ = log_sticks_from_weights(x)
        return log_sticks[..., 0] - log_sticks[..., 1]

    def _forward_log_det_jacobian(self, y: tf.Tensor) -> tf.Tensor:
        log_sticks = _log_sigmoids(y)
        log_remaining = tf.cumsum(log_sticks[..., 1], axis=-1, exclusive=True)
        return tf.reduce_sum(tf.reduce_sum(log_sticks, axis=-1) + log_remaining, axis=-1)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] + 1)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return shape[:-1].concatenate(shape[-1] - 1)

    def _forward_event_shape_tensor(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.concat([shape[:-1], shape[-1:] + 1], axis=0)

    def _inverse_event_shape_tensor(self, shape: tf.Tensor) -> tf.Tensor:
        return tf.concat([shape[:-1], shape[-1:] - 1], axis=0)


def log_weights_from_sticks(log_sticks: tf.Tensor) -> tf.Tensor:
    """Logs of the pieces [..., K], or what adds up like them, from those of (v, 1 - v).

    ::

        log w[k] = log v[k] + sum_{j<k} log(1 - v[j]),    log w[K] = sum_{j<K} log(1 - v[j]).
    """
    taken, left = log_sticks[..., 0], log_sticks[..., 1]
    zero = tf.zeros_like(tf.reduce_sum(taken, axis=-1, keepdims=True))  # also where K = 1
    before = tf.concat([zero, tf.cumsum(left, axis=-1)], axis=-1)
    return tf.concat([taken, zero], axis=-1) + before


def log_sticks_from_weights(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The logs of (v, 1 - v) [..., K - 1, 2] of proportions, and of what is left before a break.

    Differences of logs: the gradient of a quotient divides twice by the whole, which XLA makes one
    division by its square, and that of 1e-30 is zero in float32.
    """
    tiny = float(np.finfo(x.dtype.as_numpy_dtype).tiny)
    x = tf.maximum(x, tiny)
    # Sums from the far end: 1 - w[1] - ... - w[k] would have no digits of a short tail.
    log_remaining = tf.math.log(tf.cumsum(x, axis=-1, reverse=True))
    parts = tf.stack([tf.math.log(x[..., :-1]), log_remaining[..., 1:]], axis=-1)
    whole = log_remaining[..., :-1]
    # A share rounded to below the smallest float, or above 1, is out of a density's reach.
    least = math.log(tiny) + 1e-4
    return tf.clip_by_value(parts - whole[..., tf.newaxis], least, 0.0), whole


def _log_sigmoids(y: tf.Tensor) -> tf.Tensor:
    """log sigmoid(y) and log(1 - sigmoid(y)): [..., 2]."""
    return tf.stack([tf.math.log_sigmoid(y), tf.math.log_sigmoid(-y)], axis=-1)


def matrix_coordinates() -> tfb.Bijector:
    """From a whole real space to positive definite matrices."""
    return tfb.Chain([tfb.CholeskyOuterProduct(), cholesky_coordinates()])


def cholesky_coordinates() -> tfb.Bijector:
    """From the same space to the lower Cholesky factors of those matrices."""
    return tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=None)


class InDtype(tfb.Bijector):
    """A bijector with numbers of one dtype in it, for points of another.

    The prior's dtype is TFP's own where the user did not ask, and that of the fit is X's.
    """

    def __init__(self, bijector: tfb.Bijector, dtype: tf.DType):
        self._inner, self._of_inner = bijector, dtype
        super().__init__(
            forward_min_event_ndims=bijector.forward_min_event_ndims,
            inverse_min_event_ndims=bijector.inverse_min_event_ndims,
            parameters={"bijector": bijector, "dtype": dtype},
            validate_args=False,
            name=bijector.name,
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._inner.forward(tf.cast(x, self._of_inner)), x.dtype)

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return tf.cast(self._inner.inverse(tf.cast(y, self._of_inner)), y.dtype)

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        ndims = self.forward_min_event_ndims
        inner = tf.cast(x, self._of_inner)
        return tf.cast(self._inner.forward_log_det_jacobian(inner, event_ndims=ndims), x.dtype)

    def _forward_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._inner.forward_event_shape(shape)

    def _inverse_event_shape(self, shape: tf.TensorShape) -> tf.TensorShape:
        return self._inner.inverse_event_shape(shape)


class ScaleMatrix(tfb.Bijector):
    """Multiply a symmetric or a lower triangular matrix [D, D], entry by entry.

    `tfb.Scale` would count the volume of all D^2 entries, as if they were free.
    """

    def __init__(self, factor: tf.Tensor, log_det_jacobian: tf.Tensor):
        self._factor, self._log_det_jacobian = factor, log_det_jacobian
        super().__init__(
            forward_min_event_ndims=2,
            is_constant_jacobian=True,
            parameters={"factor": factor, "log_volume": log_det_jacobian},
            validate_args=False,
            name="scale_matrix",
        )

    def _forward(self, x: tf.Tensor) -> tf.Tensor:
        return x * self._factor

    def _inverse(self, y: tf.Tensor) -> tf.Tensor:
        return y / self._factor

    def _forward_log_det_jacobian(self, x: tf.Tensor) -> tf.Tensor:
        return self._log_det_jacobian
