"""Gamma and Dirichlet distributions whose draws and gradients need no loops.

The stock samplers iterate until they accept, and differentiate a draw by the iterative
`RandomGammaGrad`. That is slow to compile under XLA, and from concentrations of 5e4 on, common in
the posterior of a large data set, the gradient is wrong: in float32 and, below the mean, in float64
too. Here draw and gradient are short fixed formulas for concentrations from 0.05 to 1e8.

In this file z is a draw from Gamma(a) at rate 1, and t = log(z / a).

Draws
    Marsaglia and Tsang's transform of a normal draw, with a fixed number of candidates, if a >= 10.
    A smaller a is raised by 10, and the draw brought down again by powers of uniform draws: see
    `_standard_draw`.
Gradients
    Implicit reparameterization: as a changes, z moves so that its quantile stays. The speed has
    an expansion in 1/a, uniform in z: see `path_elasticity`.
Densities
    Written in deviations from the mean, so that numbers of size a do not cancel: see `_log_kernel`.

References
----------
G. Marsaglia, W. W. Tsang (2000). A simple method for generating gamma variables. ACM Transactions
    on Mathematical Software 26(3).
M. Figurnov, S. Mohamed, A. Mnih (2018). Implicit reparameterization gradients. NeurIPS 31.
N. M. Temme (1979). The asymptotic expansion of the incomplete gamma functions. SIAM Journal on
    Mathematical Analysis 10(4).
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
    relative_change,
    with_relative_gradient,
)


class Gamma(tfd.Gamma):
    """`tfd.Gamma` with loop-free draws and a log density that is right for large concentrations.

    Constructor, properties, moments and divergences are inherited. Draws are the same in eager
    mode, in a graph and under XLA; an integer `seed` is taken as it is (see
    `draws.stateless_seed`). Draws are reparameterized to first order: their second derivatives are
    not those of the path.

    A draw below the smallest normal float is raised to it, and keeps its relative gradient.
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
        return with_relative_gradient(value, z.change - relative_change(rate))

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
    """`Gamma` whose draws come in pairs, from normal draws that are mirror images."""

    _antithetic = True
