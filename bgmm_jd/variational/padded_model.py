"""A model whose compiled programs serve several numbers of components under the default prior.

It has more components than are fitted; the others are inactive. What the prior has of the number
of components is a tensor, and so an argument of the programs, as the standardization is.
"""

import functools
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.units import Standardization, identity_standardization
from bgmm_jd.distributions.active_components import (
    ActiveComponents,
    ActiveDirichlet,
    ActiveExchangeableWishart,
)
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.model.priors import IndependentVariables
from bgmm_jd.model.weakly_informative_prior import (
    WeaklyInformativeArguments,
    weakly_informative_prior_of,
)
from bgmm_jd.variational.active_families import ActiveDirichletFamily, ActiveFamily
from bgmm_jd.variational.structure import Model, Site, StandardizedModel, model_of


class ActiveValues(NamedTuple):
    """What depends on the number of active components, beside the standardization; tensors.

    active [K] : 1 for the first components and 0 for all that follow.
    share : K^(-2/D) of the active components, the unit of their covariances: see
        `weakly_informative_prior`.
    log_constant : of the prior of their precision matrices ("full"); otherwise 0.
    """

    standardization: Standardization
    active: tf.Tensor
    share: tf.Tensor
    log_constant: tf.Tensor


@dataclass(frozen=True, eq=False)
class PaddedModel(Model):
    """A model of the default prior, in standardised units, with inactive components.

    `prior` is that of all components, with a share of 1: see `ActiveValues`.
    """

    def standardized(self, values: ActiveValues) -> StandardizedModel:  # type: ignore[override]
        """Bind the values that programs are passed for a standardization."""
        sites = tuple(_bound(site, values) for site in self.sites)
        prior = _active_prior(self.prior, values)
        return StandardizedModel(
            prior, self.covariance, sites, values.standardization, values.active
        )


def padded_model(model: Model, standardization: Standardization, K: int) -> PaddedModel | None:
    """Return the model with K components, not all active, that serves a model with fewer.

    None unless the model has the default prior in standardised units, without far rows.

    Parameters
    ----------
    standardization : between standardised units and those of the prior.
    """
    arguments = getattr(model.prior.model, "arguments", None)
    if not isinstance(arguments, WeaklyInformativeArguments):
        return None
    shift, scale, _ = identity_standardization(arguments.D)
    own = shift.tobytes(), scale.tobytes(), np.ones(arguments.D).tobytes()
    is_standard = (arguments.shift, arguments.scale, arguments.scatter) == own
    is_identity = np.array_equal(standardization.scale, scale) and not np.any(standardization.shift)
    if not (is_standard and is_identity):
        return None
    return _padded_model(replace(arguments, K=K, share=1.0), model.covariance)


@functools.lru_cache(maxsize=64)
def _padded_model(arguments: WeaklyInformativeArguments, covariance: str) -> PaddedModel:
    whole = model_of(weakly_informative_prior_of(arguments), covariance)
    return PaddedModel(whole.prior, covariance, whole.sites)


def active_values(model: Model, standardization: Standardization, K: int) -> ActiveValues:
    """Return the values that programs for K components are passed for a model with fewer."""
    dtype = standardization.scale.dtype
    members = {member.name: member for member in model.prior.model.members}
    precisions = members["precisions"]
    has_constant = isinstance(precisions, ExchangeableWishart)
    log_constant = precisions.log_constant() if has_constant else 0.0
    return ActiveValues(
        standardization=standardization,
        active=tf.cast(tf.range(K) < model.K, dtype),
        share=tf.constant(model.prior.model.arguments.share, dtype),
        log_constant=tf.constant(log_constant, dtype),
    )


def _bound(site: Site, values: ActiveValues) -> Site:
    """Bind the standardization to a site, and the active components to its family."""
    family = site.family
    if site.name == "weights":
        family = ActiveDirichletFamily(values.active)
    elif site.has_component_axis:
        family = ActiveFamily(family, values.active, len(site.shape) - 1)
    return replace(site, standardization=values.standardization, family=family)


def _active_prior(
    prior: tfd.JointDistributionCoroutine, values: ActiveValues
) -> tfd.JointDistributionCoroutine:
    """Make the default prior of the active components from that of all, whose share is 1."""
    members = tuple(_active(member, values) for member in prior.model.members)
    return tfd.JointDistributionCoroutine(IndependentVariables(prior.model.arguments, members))


def _active(member: tfd.Distribution, values: ActiveValues) -> tfd.Distribution:
    """Make one member of the prior of the active components."""
    parameters = dict(member.parameters)
    if isinstance(member, tfd.Dirichlet):
        return ActiveDirichlet(parameters["concentration"], values.active, name=member.name)
    if isinstance(member, ExchangeableWishart):
        del parameters["components"]
        parameters["floor"] *= values.share
        return ActiveExchangeableWishart(
            values.active, **parameters, log_constant=values.log_constant
        )
    if isinstance(member, tfd.WishartTriL):  # of all components
        return member.copy(scale_tril=parameters["scale_tril"] * tf.math.rsqrt(values.share))
    inner = member.distribution
    if isinstance(inner, tfd.Gamma):
        inner = inner.copy(rate=inner.parameters["rate"] * values.share)
    return member.copy(distribution=ActiveComponents(inner, values.active))
