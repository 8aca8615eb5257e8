"""Stick-breaking proportions: a generalised Dirichlet distribution.

A stick of length 1 is broken K - 1 times. The k-th break takes the share v[k] of what remains:

    v[k] ~ Beta(a[k], b[k]), independent,    w[k] = v[k] R[k],    R[k] = prod_{j<k} (1 - v[j]),

and the last piece w[K] is the remainder. In this file v[k] and 1 - v[k] are kept as a pair, both to
full relative accuracy, and R[k] is the sum w[k] + ... + w[K]: no small number is computed as a
difference.

References
----------
R. J. Connor, J. E. Mosimann (1969). Concepts of independence for proportions with a generalization
    of the Dirichlet distribution. Journal of the American Statistical Association 64(325).
H. Ishwaran, L. F. James (2001). Gibbs sampling methods for stick-breaking priors. Journal of the
    American Statistical Association 96(453).
"""

import math
from numbers import Integral
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend import random
from bgmm_jd.distributions import dirichlet, standard_gamma
from bgmm_jd.distributions.bijectors import (
    StickCoordinates,
    log_sticks_from_weights,
    log_weights_from_sticks,
)

# Log of the length of the shortest stick whose break has a gradient. `LEAST_PROPORTION` is one
# float32 rounding of that length; raising pieces to it distorts how a shorter stick is broken.
LOG_LEAST_STICK = math.log(dirichlet.LEAST_PROPORTION / np.finfo(np.float32).eps)


def dirichlet_process(K: int, alpha: Any) -> tf.Tensor:
    """Return the stick-breaking concentrations of a Dirichlet process truncated to K components.

    ::

        a[k] = 1,    b[k] = alpha,    k = 1, ..., K - 1

    (Ishwaran and James 2001, section 3).

    Parameters
    ----------
    K : int
        Number of components kept; choose more than are expected to be needed.
    alpha : float or tensor [...], positive
        Concentration of the process. The larger it is, the more components share the weight: about
        alpha log(1 + N / alpha) of them are occupied by N rows. The result has its dtype, or
        float32 if it is a Python number.

    Returns
    -------
    tensor [..., K - 1, 2]
        The concentrations of a `StickBreaking`.

    Raises
    ------
    TypeError
        If K is not an integer.
    ValueError
        If K is below 1, or `alpha` is not finite and positive. The values of a tensor are not
        checked, because it may be a draw.
    """
    if isinstance(K, bool) or not isinstance(K, Integral):
        raise TypeError(f"K must be an integer; got {K!r} ({type(K).__name__}).")
    if K < 1:
        raise ValueError(f"K must be at least 1; got {K}.")
    if not tf.is_tensor(alpha) and not np.all(np.isfinite(alpha) & (np.asarray(alpha) > 0)):
        raise ValueError(f"alpha must be finite and positive; got {alpha!r}.")
    alpha = _as_tensor(alpha)
    b = tf.repeat(alpha[..., tf.newaxis], int(K) - 1, axis=-1)
    return tf.stack([tf.ones_like(b), b], axis=-1)


class StickBreaking(tfd.Distribution):
    """Distribution of the proportions w [K] that result from breaking a stick K - 1 times.

    ::

        v[k] ~ Beta(a[k], b[k]), independent,    w[k] = v[k] R[k],    R[k] = prod_{j<k} (1 - v[j]),

        log p(w) = sum_{k<K} (log Beta(v[k]; a[k], b[k]) - log R[k]),

    and w[K] is the remainder. As for a Dirichlet, this is a density in the first K - 1 proportions.
    If b[k] = a[k+1] + b[k+1] for all k < K - 1, it is that of a Dirichlet with concentrations
    (a[1], ..., a[K-1], b[K-1]).

    Draws are the same in eager mode, in a graph and under XLA, and reparameterised to first order,
    for concentrations from 0.05 to 1e8, as those of `dirichlet.Dirichlet` are. An integer `seed`
    determines them (see `random.stateless_seed`).

    A component of a draw that is below `dirichlet.LEAST_PROPORTION` is raised to it and keeps its
    relative gradient. This loses how such small components share their part of the stick, so the
    gradient of a break is zero in draws where less than exp(`LOG_LEAST_STICK`) is left to break.
    As the length of the remaining stick is independent of how it breaks, the expected gradient is
    the exact one times the probability of the other draws. `log_prob` raises components below the
    smallest normal float to that float.

    Parameters
    ----------
    concentration : tensor [..., K - 1, 2]
        The pairs (a[k], b[k]), all positive. K = 1 is a point mass at 1, with log density 0.

    Raises
    ------
    ValueError
        If the last two axes of `concentration` are not [K - 1, 2].
    """

    _antithetic = False

    def __init__(
        self,
        concentration: Any,
        validate_args: bool = False,
        allow_nan_stats: bool = True,
        name: str = "StickBreaking",
    ) -> None:
        parameters = dict(locals())
        with tf.name_scope(name) as scope:
            # Variables are kept, so that their values are read at each use.
            if not _is_variable(concentration):
                concentration = _as_tensor(concentration)
            _check_shape(concentration.shape)
            self._concentration = concentration
            super().__init__(
                dtype=concentration.dtype,
                reparameterization_type=tfd.FULLY_REPARAMETERIZED,
                validate_args=validate_args,
                allow_nan_stats=allow_nan_stats,
                parameters=parameters,
                name=scope,
            )

    @property
    def concentration(self) -> Any:
        """Return the pairs (a[k], b[k]), [..., K - 1, 2]."""
        return self._concentration

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        def positive() -> tfb.Bijector:
            return tfb.Softplus(low=np.finfo(tf.as_dtype(dtype).as_numpy_dtype).eps)

        def shape(event_shape: Any) -> tf.Tensor:
            event_shape = tf.convert_to_tensor(event_shape, tf.int32)
            return tf.concat([event_shape[:-1], [event_shape[-1] - 1, 2]], axis=0)

        properties = tfp.util.ParameterProperties(
            event_ndims=2, shape_fn=shape, default_constraining_bijector_fn=positive
        )
        return {"concentration": properties}

    def _event_shape(self) -> tf.TensorShape:
        shape = self.concentration.shape
        breaks = None if shape.rank is None else shape[-2]
        return tf.TensorShape([None if breaks is None else breaks + 1])

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.shape(self.concentration)[-2:-1] + 1

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        concentration = tf.convert_to_tensor(self.concentration)
        shape = tf.concat([[n], tf.shape(concentration)], axis=0)
        seed = random.stateless_seed(seed, salt="StickBreaking")
        sticks, log_change = _draw_sticks(
            tf.broadcast_to(concentration, shape), seed, self._antithetic
        )
        log_sticks = tf.math.log(sticks)
        value = tf.exp(log_weights_from_sticks(log_sticks))
        value = tf.maximum(value, dirichlet.LEAST_PROPORTION)
        log_remaining = tf.cumsum(log_sticks[..., 1:], axis=-2, exclusive=True)
        log_change = tf.where(
            log_remaining > LOG_LEAST_STICK, log_change, tf.zeros_like(log_change)
        )
        return standard_gamma.with_relative_gradient(value, log_weights_from_sticks(log_change))

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        log_sticks, log_remaining = log_sticks_from_weights(x)
        density = dirichlet.Dirichlet(self.concentration).log_prob(tf.exp(log_sticks))
        return tf.reduce_sum(density - log_remaining, axis=-1)

    def _mean(self) -> tf.Tensor:
        return tf.exp(log_weights_from_sticks(tf.math.log(self._stick_means())))

    def _variance(self) -> tf.Tensor:
        """Compute E[w]^2 (E[w^2] / E[w]^2 - 1).

        Each w[k] is a product of independent factors f, with E[f^2] / E[f]^2 = 1 + Var[f] / E[f]^2.
        For f = v, Var[f] / E[f]^2 is b / (a (a + b + 1)).
        """
        concentration = tf.convert_to_tensor(self.concentration)
        total = tf.reduce_sum(concentration, axis=-1, keepdims=True)
        relative_variance = tf.reverse(concentration, axis=[-1]) / concentration / (total + 1.0)
        return tf.square(self._mean()) * tf.math.expm1(
            log_weights_from_sticks(tf.math.log1p(relative_variance))
        )

    def _stick_means(self) -> tf.Tensor:
        """Return E[v] and E[1 - v], [..., K - 1, 2]."""
        concentration = tf.convert_to_tensor(self.concentration)
        return concentration / tf.reduce_sum(concentration, axis=-1, keepdims=True)

    def _default_event_space_bijector(self) -> tfb.Bijector:
        return StickCoordinates(validate_args=self.validate_args)

    def _parameter_control_dependencies(self, is_init: bool) -> list[Any]:
        if not self.validate_args or is_init == _is_variable(self.concentration):
            return []
        message = "Argument `concentration` must be positive."
        return [tf.debugging.assert_positive(self.concentration, message=message)]

    def _sample_control_dependencies(self, x: tf.Tensor) -> list[Any]:
        if not self.validate_args:
            return []
        one, total = tf.ones([], self.dtype), tf.reduce_sum(x, axis=-1)
        return [
            tf.debugging.assert_non_negative(x, message="Samples must be non-negative."),
            tf.debugging.assert_near(one, total, message="Samples must sum to 1."),
        ]


class AntitheticStickBreaking(StickBreaking):
    """Draw antithetic pairs from a `StickBreaking`, made from normal draws x and -x."""

    _antithetic = True


def beta_parameters_of_dirichlet(concentration: tf.Tensor) -> tf.Tensor:
    """Return the pairs (a[k], b[k]), [..., K - 1, 2], of the breaks of a Dirichlet [..., K].

    b[k] = a[k+1] + ... + a[K].
    """
    sums = tf.cumsum(concentration, axis=-1, reverse=True)
    return tf.stack([concentration[..., :-1], sums[..., 1:]], axis=-1)


def log_prob_of_stick_coordinates(pairs: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Return the log density [..., K - 1] of each of the `StickCoordinates` of weights [..., K].

    The density of the coordinate logit v[k] is Beta(v[k]; a[k], b[k]) v[k] (1 - v[k]).
    """
    log_sticks, _ = log_sticks_from_weights(weights)
    density = dirichlet.Dirichlet(pairs).log_prob(tf.exp(log_sticks))
    return density + tf.reduce_sum(log_sticks, axis=-1)


def _as_tensor(value: Any) -> tf.Tensor:
    """Convert to a tensor of the same dtype, or of float32 for Python numbers and integers."""
    dtype = tf.as_dtype(getattr(value, "dtype", tf.float32))
    return tf.convert_to_tensor(value, dtype if dtype.is_floating else tf.float32)


def _is_variable(parameter: Any) -> bool:
    return isinstance(parameter, tf.Variable | tfp.util.DeferredTensor)


def _check_shape(shape: tf.TensorShape) -> None:
    known = shape.rank is not None
    if known and (shape.rank < 2 or shape[-1] not in (2, None)):
        raise ValueError(
            "concentration must have shape [..., K - 1, 2], a pair (a, b) for each break; "
            f"got {shape}. `dirichlet_process(K, alpha)` returns such a tensor."
        )


def _draw_sticks(
    concentration: tf.Tensor, seed: tf.Tensor, antithetic: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Draw (v, 1 - v), and zeros that have the gradients of their logs; both are [..., 2]."""
    z = standard_gamma.draw_standard_gamma(concentration, seed, antithetic)
    # Relative to the larger factor, whose scale is at least 10: the sum cannot vanish.
    largest = tf.reduce_max(z.log_factor, axis=-1, keepdims=True)
    parts = z.scale * tf.exp(z.log_factor - largest)
    value = parts / tf.reduce_sum(parts, axis=-1, keepdims=True)
    # dlog v = (1 - v) dlogit v,    dlog(1 - v) = -v dlogit v.
    logit_change = z.log_change[..., :1] - z.log_change[..., 1:]
    signed = tf.concat([logit_change, -logit_change], axis=-1)
    return value, tf.reverse(value, axis=[-1]) * signed
