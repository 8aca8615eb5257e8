"""A Dirichlet distribution whose draws and gradients are computed without loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend import random
from bgmm_jd.distributions.standard_gamma import (
    draw_standard_gamma,
    log_density_at_mean,
    log_kernel,
    with_relative_gradient,
)

# The smallest proportion of a draw, in either dtype. A density in float32 cannot distinguish
# smaller ones, and its gradient, up to 1 / eps over the proportion, must not overflow.
LEAST_PROPORTION = 1e-30


class Dirichlet(tfd.Dirichlet):
    """Draw from a Dirichlet without loops; the log density is accurate for large concentrations.

    Constructor, properties, moments and divergences are those of `tfd.Dirichlet`; seeds and
    gradients are as in `Gamma`. A component of a draw that is below `LEAST_PROPORTION` is raised
    to it and keeps its relative gradient.

    Off the simplex, where the density is not defined, `log_prob` exceeds that of `tfd.Dirichlet`
    by A (1 - sum(x)), with A the total concentration. This cancels its slope of size A in the
    direction that leaves the simplex: a draw whose sum is an eps away from 1 does not lose A eps,
    and the gradient has no constant of size A.
    """

    _antithetic = False

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        concentration = tf.convert_to_tensor(self.concentration)
        shape = tf.concat([[n], tf.shape(concentration)], axis=0)
        concentration = tf.broadcast_to(concentration, shape)
        seed = random.stateless_seed(seed, salt="Dirichlet")
        z = draw_standard_gamma(concentration, seed, self._antithetic)
        # Relative to the largest factor, whose scale is at least 10: the sum cannot vanish.
        largest = tf.reduce_max(self._counted(z.log_factor, -math.inf), axis=-1, keepdims=True)
        parts = self._counted(z.scale * tf.exp(z.log_factor - largest))
        value = parts / tf.reduce_sum(parts, axis=-1, keepdims=True)
        value = tf.maximum(value, LEAST_PROPORTION)
        return with_relative_gradient(
            value, z.log_change - tf.reduce_sum(value * z.log_change, axis=-1, keepdims=True)
        )

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        # The joint density of independent z_k ~ Gamma(a_k), times the Jacobian sum(z)^(K - 1), is
        # the density of x = z / sum(z) times that of sum(z) ~ Gamma(A). Evaluated at sum(z) = A.
        concentration = tf.convert_to_tensor(self.concentration)
        total = tf.reduce_sum(self._counted(concentration), axis=-1)
        mean = concentration / total[..., tf.newaxis]
        parts = log_density_at_mean(concentration) + log_kernel(x, mean, concentration)
        parts = self._counted(parts)
        K = tf.reduce_sum(self._counted(tf.ones_like(concentration)), axis=-1)
        log_jacobian = (K - 1.0) * tf.math.log(total)
        log_prob = tf.reduce_sum(parts, axis=-1) - log_density_at_mean(total) + log_jacobian
        if self.force_probs_to_zero_outside_support:
            # The tolerance is that of tfd.Dirichlet.
            tolerance = 10 * np.finfo(self.dtype.as_numpy_dtype).eps
            on_simplex = tf.abs(tf.reduce_sum(x, axis=-1) - 1.0) < tolerance
            return tf.where(on_simplex & tf.reduce_all(x >= 0, axis=-1), log_prob, -math.inf)
        return log_prob

    def _counted(self, values: tf.Tensor, other: float = 0.0) -> tf.Tensor:
        """Return the values [..., K], with `other` for components that do not count: here none."""
        return values


class AntitheticDirichlet(Dirichlet):
    """Draw antithetic pairs from a `Dirichlet`, made from normal draws x and -x."""

    _antithetic = True
