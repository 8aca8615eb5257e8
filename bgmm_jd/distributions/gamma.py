"""A Gamma distribution whose draws and gradients are computed without loops.

`tfd.Gamma` iterates until a draw is accepted, and differentiates it by the iterative
`RandomGammaGrad`. That is slow to compile under XLA, and from concentrations of 5e4 on, which are
common in the posterior of a large data set, the gradient is wrong: in float32 and, for draws below
the mean, in float64 too. Here draws and gradients are short fixed formulas for concentrations from
0.05 to 1e8; `standard_gamma` describes them.
"""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend import random
from bgmm_jd.distributions.standard_gamma import (
    draw_standard_gamma,
    log_density_at_mean,
    log_kernel,
    with_relative_gradient,
    zero_with_log_gradient,
)


class Gamma(tfd.Gamma):
    """Draw from a Gamma without loops; the log density is accurate for large concentrations.

    Constructor, properties, moments and divergences are those of `tfd.Gamma`. Draws are the same in
    eager mode, in a graph and under XLA; an integer `seed` determines them (see
    `random.stateless_seed`). Draws are reparameterised to first order only: their second
    derivatives are not those of the path.

    A draw below the smallest normal float is raised to it and keeps its relative gradient.
    """

    _antithetic = False

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        concentration = tf.convert_to_tensor(self.concentration)
        rate = self._rate_tensor()
        batch_shape = tf.broadcast_dynamic_shape(tf.shape(concentration), tf.shape(rate))
        concentration = tf.broadcast_to(concentration, tf.concat([[n], batch_shape], axis=0))
        seed = random.stateless_seed(seed, salt="Gamma")
        z = draw_standard_gamma(concentration, seed, self._antithetic)
        value = z.scale * tf.exp(z.log_factor) / rate
        return with_relative_gradient(value, z.log_change - zero_with_log_gradient(rate))

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        concentration = tf.convert_to_tensor(self.concentration)
        rate = self._rate_tensor()
        log_prob = (
            tf.math.log(rate)
            + log_density_at_mean(concentration)
            + log_kernel(x, concentration / rate, concentration)
        )
        if self.force_probs_to_zero_outside_support:
            return tf.where(x >= 0, log_prob, -math.inf)
        return log_prob

    def _rate_tensor(self) -> tf.Tensor:
        if self.rate is None:
            return tf.exp(self.log_rate)
        return tf.convert_to_tensor(self.rate)


class AntitheticGamma(Gamma):
    """Draw antithetic pairs from a `Gamma`, made from normal draws x and -x."""

    _antithetic = True
