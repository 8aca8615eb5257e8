"""The log joint density: log prior plus the log likelihood of a batch, scaled up to all rows."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.small_matrices import product_with_own_transpose
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.units import (
    Transformation,
    unstandardize,
    unstandardize_cholesky,
)
from bgmm_jd.distributions.active_components import ActiveComponents
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.distributions.wishart import WishartTriLOfCholesky
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.covariance_forms import cholesky_name
from bgmm_jd.model.likelihood import ACTIVE, Theta, row_log_likelihood
from bgmm_jd.model.prior_draws import is_independent
from bgmm_jd.variational.structure import Site, StandardizedModel
from bgmm_jd.variational.supports import SHAPE_WRAPPERS

_POSITIVE = (
    Transformation.SCALE,
    Transformation.PRECISION,
    Transformation.COMMON_SCALE,
    Transformation.COMMON_PRECISION,
)


def log_prior(model: StandardizedModel, theta: Theta) -> tf.Tensor:
    """Return the log prior density of draws in standardised units, in nats: [S].

    The prior is in the units of X, and may have another dtype than the fit. The draws are converted
    to both, and the log-det-Jacobian of the change of units is added to the prior's log density.
    """
    density = _log_density(model.prior, *_as_prior_takes_them(model, theta))
    return tf.cast(density, model.dtype) + model.log_det_jacobian()


def log_prior_by_variable(model: StandardizedModel, theta: Theta) -> dict[str, tf.Tensor]:
    """Return the log prior density of each variable given those before it, by name: [S].

    In nats and, unlike `log_prior`, in the units of the prior. Variables that it fixes have none.
    """
    draws, factors = _as_prior_takes_them(model, theta)
    if _has_known_members(model.prior, factors):
        parts = _log_densities(model.prior, draws, factors)
    else:
        parts = list(model.prior.log_prob_parts(*draws))
    by_site = zip(model.sites, parts, strict=True)
    return {site.name: part for site, part in by_site if site.fixed is None}


def _log_density(
    prior: tfd.JointDistributionCoroutine,
    draws: list[tf.Tensor],
    factors: list[tf.Tensor | None],
) -> tf.Tensor:
    """Return the prior's log density, by the Cholesky factors of those variables that have them."""
    if _has_known_members(prior, factors):
        return sum(_log_densities(prior, draws, factors))
    return prior.log_prob(*draws)


def _has_known_members(
    prior: tfd.JointDistributionCoroutine, factors: list[tf.Tensor | None]
) -> bool:
    """Return whether the density is the sum of the members', some perhaps by Cholesky factors."""
    # A subclass may mean something else.
    is_plain = type(prior) is tfd.JointDistributionCoroutine
    return is_plain and (is_independent(prior) or any(f is not None for f in factors))


def _log_densities(
    prior: tfd.JointDistributionCoroutine,
    draws: list[tf.Tensor],
    factors: list[tf.Tensor | None],
) -> list[tf.Tensor]:
    """Return the log density of each variable given those before it."""
    if is_independent(prior):
        members = prior.model.members  # TFP would draw from each, and discard the draws
    else:
        members, _ = prior.sample_distributions(value=draws, seed=(0, 0))
    return [
        member.log_prob(draw) if factor is None else _over_cholesky(member).log_prob(factor)
        for member, draw, factor in zip(members, draws, factors, strict=True)
    ]


def _over_cholesky(member: tfd.Distribution) -> tfd.Distribution:
    """Return a Wishart of the prior, wrapped or not, as a density evaluated at Cholesky factors."""
    if isinstance(member, (*SHAPE_WRAPPERS, ActiveComponents)):
        return member.copy(distribution=_over_cholesky(member.distribution))
    if isinstance(member, ExchangeableWishart):
        return member.copy(input_output_cholesky=True)
    return WishartTriLOfCholesky(**{**member.parameters, "input_output_cholesky": True})


def _as_prior_takes_them(
    model: StandardizedModel, theta: Theta
) -> tuple[list[tf.Tensor], list[tf.Tensor | None]]:
    """Return draws, and their Cholesky factors or None, in the units and dtypes of the prior."""
    dtypes = tf.nest.flatten(model.prior.dtype)
    draws, factors = [], []
    for site, dtype in zip(model.sites, dtypes, strict=True):
        draws.append(_in_prior_units(site, theta[site.name], dtype))
        factors.append(_cholesky_in_prior_units(site, theta, dtype))
    return draws, factors


def _in_prior_units(site: Site, draw: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """Return draws of one variable as the prior takes them: in its units and dtype."""
    if site.fixed is not None:
        # The very value: one rounding away from it the density is zero.
        return tf.broadcast_to(tf.constant(site.fixed, dtype), tf.shape(draw))
    value = unstandardize(site.transformation, draw, site.bound_standardization)
    value = tf.cast(value, dtype)
    if site.name == "weights" or site.transformation in _POSITIVE:
        # A sparse prior makes proportions that underflow to zero in a narrower dtype.
        return tf.maximum(value, np.finfo(dtype.as_numpy_dtype).tiny)
    return value


def _cholesky_in_prior_units(site: Site, theta: Theta, dtype: tf.DType) -> tf.Tensor | None:
    """Return the Cholesky factor beside a draw as the prior takes it; None where there is none."""
    factor = theta.get(cholesky_name(site.name))
    if factor is None:
        return None
    factor = unstandardize_cholesky(site.transformation, factor, site.bound_standardization)
    return tf.cast(factor, dtype)


def log_joint(
    model: StandardizedModel,
    theta: Theta,
    rows: Rows,
    batches: int = 1,
    accumulate: tf.DType | None = None,
    statistics: tf.DType | None = None,
) -> tf.Tensor:
    """Return the log joint density of draws and the whole data set, estimated from a batch: [S].

    Parameters
    ----------
    theta : draws in standardised units, with sample shape [S].
    rows : B of them.
    batches : int
        Number of such batches in an epoch: the N / B of the batch's log likelihood.
    accumulate : tf.DType, optional
        Of the sum over rows, where the value itself matters and not only its gradient.
    statistics : tf.DType, optional
        Of the sufficient statistics and natural parameters by whose matrix product the likelihood
        of complete rows is computed: see `quadratic_likelihood`. By differences without it.
    """
    likelihood = log_likelihood(model, theta, rows, accumulate, statistics)
    return tf.cast(log_prior(model, theta), likelihood.dtype) + batches * likelihood


def log_likelihood(
    model: StandardizedModel,
    theta: Theta,
    rows: Rows,
    accumulate: tf.DType | None = None,
    statistics: tf.DType | None = None,
) -> tf.Tensor:
    """Return the log likelihood of rows, each to the power of its weight: [S].

    The arguments are those of `log_joint`.
    """
    if model.active is not None:
        theta = {**theta, ACTIVE: model.active}
    likelihood = _row_log_likelihood(model, theta, rows, statistics)
    if rows.weight is not None:
        likelihood *= tf.cast(rows.weight, likelihood.dtype)
    return tf.reduce_sum(tf.cast(likelihood, accumulate or model.dtype), axis=-1)


def _row_log_likelihood(
    model: StandardizedModel, theta: Theta, rows: Rows, dtype: tf.DType | None
) -> tf.Tensor:
    """Return log p(x_n given theta) [S, N], by statistics of a dtype if there is one."""
    if dtype is None:
        return row_log_likelihood(theta, rows, model.covariance)
    values = rows.values
    if dtype.size > values.dtype.size:
        theta, values = _widened(theta, dtype), tf.cast(values, dtype)
    parameters = quadratic_likelihood.natural_parameters(theta, model.covariance)
    statistics = quadratic_likelihood.sufficient_statistics(tf.transpose(values), model.covariance)
    label = quadratic_likelihood.log_joint_label_from_statistics(
        tf.cast(parameters, dtype), tf.cast(statistics, dtype)
    )
    return tf.reduce_logsumexp(label, axis=-2)


def _widened(theta: Theta, dtype: tf.DType) -> dict[str, tf.Tensor]:
    """Return draws in a wider dtype, with matrices made anew of Cholesky factors beside them.

    The matrices beside these factors have been rounded to the dtype of the draws.
    """
    wide = {name: tf.cast(value, dtype) for name, value in theta.items()}
    factor = wide.get(cholesky_name("precisions"))
    if factor is not None:
        wide["precisions"] = product_with_own_transpose(factor)
    return wide
