"""A normal distribution whose draws do not depend on the mode of execution."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import normal, stateless_seed


class Normal(tfd.Normal):
    """Draw from a normal distribution, with the same draws in eager mode, in a graph and under XLA.

    Everything else is that of `tfd.Normal`. Draws are loc + scale * normal(...), hence
    reparameterised; an integer `seed` determines them (see `random.stateless_seed`).
    """

    _antithetic = False

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        loc = tf.convert_to_tensor(self.loc)
        scale = tf.convert_to_tensor(self.scale)
        batch_shape = tf.broadcast_dynamic_shape(tf.shape(loc), tf.shape(scale))
        shape = tf.concat([[n], batch_shape], axis=0)
        seed = stateless_seed(seed, salt="Normal")
        return loc + scale * normal(shape, seed, self.dtype, self._antithetic)


class AntitheticNormal(Normal):
    """Draw antithetic pairs from a `Normal`: partners are symmetric about the mean."""

    _antithetic = True
