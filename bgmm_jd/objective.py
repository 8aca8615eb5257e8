"""The target of the fit: log prior plus the batch's log likelihood, scaled up to all rows."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.mixture import Theta, row_log_likelihood
from bgmm_jd.surrogate import Site
from bgmm_jd.units import Units, log_volume, to_user


class Model(NamedTuple):
    """What a program is made for: the prior, and the site of each of its variables."""

    prior: tfd.JointDistributionCoroutine
    sites: tuple[Site, ...]

    @property
    def components(self) -> int:
        """K."""
        return next(site.shape[0] for site in self.sites if site.name == "weights")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each variable that has a density, by name."""
        return {site.name: site.shape for site in self.sites if site.fixed is None}


def log_prior(model: Model, theta: Theta, units: Units) -> tf.Tensor:
    """Log prior density of draws in internal units, in nats: shape [S].

    The prior speaks in the user's units, and maybe in another dtype than the fit; the draws go
    to it, and the change of volume makes a density of what comes back.
    """
    dtypes = tf.nest.flatten(model.prior.dtype)
    draws = [
        _in_prior(site, theta[site.name], units, dtype)
        for site, dtype in zip(model.sites, dtypes, strict=True)
    ]
    density = model.prior.log_prob(*draws)
    dtype = units.scale.dtype
    return tf.cast(density, dtype) + log_volume(model.shapes, units)


_POSITIVE = ("weights", "precisions", "scales")


def _in_prior(site: Site, draw: tf.Tensor, units: Units, dtype: tf.DType) -> tf.Tensor:
    """Draws of one variable as the prior takes them: in the user's units and the prior's dtype."""
    if site.fixed is not None:
        # The very value: one rounding off, and its density is zero.
        return tf.broadcast_to(tf.constant(site.fixed, dtype), tf.shape(draw))
    value = tf.cast(to_user(site.name, draw, units), dtype)
    if site.name in _POSITIVE:
        # A sparse prior makes proportions that a narrower dtype takes for zero.
        return tf.maximum(value, np.finfo(dtype.as_numpy_dtype).tiny)
    return value


def log_joint(
    model: Model,
    theta: Theta,
    units: Units,
    rows: tf.Tensor,
    row_weight: tf.Tensor | None = None,
    batches: int = 1,
    accumulate: tf.DType | None = None,
) -> tf.Tensor:
    """Log joint density of the draws and the whole data set, estimated from a batch: shape [S].

    Parameters
    ----------
    theta : draws in internal units, sample shape [S].
    rows : [B, D]
    row_weight : [B], optional
        The power of each row's likelihood; None for one each.
    batches : int
        How many such batches an epoch has: the N / B of the batch's log likelihood.
    accumulate : tf.DType, optional
        Of the sum over rows, where the value itself matters and not only its gradient.
    """
    likelihood = row_log_likelihood(theta, rows)
    if row_weight is not None:
        likelihood *= row_weight
    dtype = accumulate or rows.dtype
    prior = tf.cast(log_prior(model, theta, units), dtype)
    return prior + batches * tf.reduce_sum(tf.cast(likelihood, dtype), axis=-1)
