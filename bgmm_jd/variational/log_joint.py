"""The target of the fit: log prior plus the batch's log likelihood, scaled up to all rows."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.rows import Rows
from bgmm_jd.data.units import (
    Standardization,
    Transformation,
    log_det_jacobian,
    unstandardize,
    unstandardize_cholesky,
)
from bgmm_jd.distributions.wishart import WishartTriLOfCholesky
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.covariance_forms import cholesky_name
from bgmm_jd.model.likelihood import Theta, row_log_likelihood
from bgmm_jd.variational.structure import SHAPE_WRAPPERS, Model, Site


def log_prior(model: Model, theta: Theta, units: Standardization) -> tf.Tensor:
    """Log prior density of draws in internal units, in nats: shape [S].

    The prior speaks in the user's units, and maybe in another dtype than the fit; the draws go
    to it, and the change of volume makes a density of what comes back.
    """
    dtypes = tf.nest.flatten(model.prior.dtype)
    draws, roots = [], []
    for site, dtype in zip(model.sites, dtypes, strict=True):
        draws.append(_in_prior(site, theta[site.name], units, dtype))
        roots.append(_root_in_prior(site, theta, units, dtype))
    density = _log_density(model.prior, draws, roots)
    dtype = units.scale.dtype
    return tf.cast(density, dtype) + log_det_jacobian(model.densities, units)


def _log_density(
    prior: tfd.JointDistributionCoroutine, draws: list[tf.Tensor], roots: list[tf.Tensor | None]
) -> tf.Tensor:
    """Of the prior, by the roots of those variables that have them."""
    if type(prior) is not tfd.JointDistributionCoroutine or all(root is None for root in roots):
        return prior.log_prob(*draws)  # a subclass may mean something else
    members, _ = prior.sample_distributions(value=draws, seed=(0, 0))
    parts = [
        member.log_prob(draw) if root is None else _over_roots(member).log_prob(root)
        for member, draw, root in zip(members, draws, roots, strict=True)
    ]
    return sum(parts)


def _over_roots(member: tfd.Distribution) -> tfd.Distribution:
    """A `tfd.WishartTriL`, whatever shapes it, as the density of matrices by their roots."""
    if isinstance(member, SHAPE_WRAPPERS):
        return member.copy(distribution=_over_roots(member.distribution))
    return WishartTriLOfCholesky(**{**member.parameters, "input_output_cholesky": True})


_POSITIVE = (
    Transformation.SCALE,
    Transformation.PRECISION,
    Transformation.COMMON_SCALE,
    Transformation.COMMON_PRECISION,
)


def _in_prior(site: Site, draw: tf.Tensor, units: Standardization, dtype: tf.DType) -> tf.Tensor:
    """Draws of one variable as the prior takes them: in the user's units and the prior's dtype."""
    if site.fixed is not None:
        # The very value: one rounding off, and its density is zero.
        return tf.broadcast_to(tf.constant(site.fixed, dtype), tf.shape(draw))
    value = tf.cast(unstandardize(site.unit, draw, units), dtype)
    if site.name == "weights" or site.unit in _POSITIVE:
        # A sparse prior makes proportions that a narrower dtype takes for zero.
        return tf.maximum(value, np.finfo(dtype.as_numpy_dtype).tiny)
    return value


def _root_in_prior(
    site: Site, theta: Theta, units: Standardization, dtype: tf.DType
) -> tf.Tensor | None:
    """The root beside a draw as the prior takes it; None where there is none."""
    root = theta.get(cholesky_name(site.name))
    if root is None:
        return None
    return tf.cast(unstandardize_cholesky(site.unit, root, units), dtype)


def log_joint(
    model: Model,
    theta: Theta,
    units: Standardization,
    rows: Rows,
    batches: int = 1,
    accumulate: tf.DType | None = None,
    use_statistics: bool = False,
) -> tf.Tensor:
    """Log joint density of the draws and the whole data set, estimated from a batch: shape [S].

    Parameters
    ----------
    theta : draws in internal units, sample shape [S].
    rows : B of them.
    batches : int
        How many such batches an epoch has: the N / B of the batch's log likelihood.
    accumulate : tf.DType, optional
        Of the sum over rows, where the value itself matters and not only its gradient.
    expanded : bool
        Whether the likelihood is a matrix product of complete rows: see `quadratic`.
    """
    if use_statistics:
        coefficients = quadratic_likelihood.natural_parameters(theta, model.covariance)
        terms = quadratic_likelihood.sufficient_statistics(
            tf.transpose(rows.values), model.covariance
        )
        label = quadratic_likelihood.log_joint_label_from_statistics(coefficients, terms)
        likelihood = tf.reduce_logsumexp(label, axis=-2)
    else:
        likelihood = row_log_likelihood(theta, rows, model.covariance)
    if rows.weight is not None:
        likelihood *= rows.weight
    dtype = accumulate or likelihood.dtype
    prior = tf.cast(log_prior(model, theta, units), dtype)
    return prior + batches * tf.reduce_sum(tf.cast(likelihood, dtype), axis=-1)
