"""A model whose compiled programs serve several numbers of components.

It has more components than are fitted; the others are inactive. What the prior has of the number
of components is a tensor, and so an argument of the programs, as the standardization is. Such
models are made for the default prior, and for that of `mixture_prior`, all of whose values are
then arguments.
"""

import abc
import functools
from collections.abc import Mapping
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
from bgmm_jd.model.covariance_forms import CovarianceForm
from bgmm_jd.model.priors import IndependentVariables, PriorArguments, mixture_prior
from bgmm_jd.model.weakly_informative_prior import (
    WeaklyInformativeArguments,
    weakly_informative_prior_of,
)
from bgmm_jd.variational.active_families import ActiveDirichletFamily, ActiveFamily
from bgmm_jd.variational.structure import Model, Site, StandardizedModel, model_of
from bgmm_jd.variational.supports import unwrap


class ActiveValues(NamedTuple):
    """What depends on the number of active components: tensors.

    standardization : between standardised units and those of the prior.
    active [K] : 1 for the first components and 0 for all that follow.
    of_prior : values of the prior by name: see `PaddedModel.values_of_prior`.
    """

    standardization: Standardization
    active: tf.Tensor
    of_prior: Mapping[str, tf.Tensor]


@dataclass(frozen=True, eq=False)
class PaddedModel(Model, abc.ABC):
    """A model with inactive components.

    `prior` is that of all components; what it has for its values does not matter.
    """

    def values(self, model: Model, standardization: Standardization) -> ActiveValues:
        """Return the values that programs are passed for a model with fewer components."""
        active = tf.cast(tf.range(self.K) < model.K, standardization.scale.dtype)
        return ActiveValues(standardization, active, self.values_of_prior(model))

    def standardized(self, values: ActiveValues) -> StandardizedModel:  # type: ignore[override]
        """Bind the values that programs are passed for a standardization."""
        members = tuple(self.active_member(member, values) for member in self.prior.model.members)
        prior = tfd.JointDistributionCoroutine(
            IndependentVariables(self.prior.model.arguments, members)
        )
        sites = tuple(_bound(site, values) for site in self.sites)
        return StandardizedModel(
            prior, self.covariance, sites, values.standardization, values.active
        )

    @abc.abstractmethod
    def values_of_prior(self, model: Model) -> Mapping[str, tf.Tensor]:
        """Return what the prior of a model with fewer components has of them."""

    @abc.abstractmethod
    def active_member(self, member: tfd.Distribution, values: ActiveValues) -> tfd.Distribution:
        """Make one member of the prior of the active components."""


@dataclass(frozen=True, eq=False)
class PaddedDefaultModel(PaddedModel):
    """A model of the default prior, in standardised units, whose share is 1.

    Its values are the `share` K^(-2/D) of the active components, the unit of their covariances (see
    `weakly_informative_prior`), and the `log_constant` of the prior of their precision matrices
    ("full"; otherwise 0).
    """

    def values_of_prior(self, model: Model) -> Mapping[str, tf.Tensor]:
        """Return the share and the log constant."""
        precisions = model.prior.model.members[-1]
        has_constant = isinstance(precisions, ExchangeableWishart)
        log_constant = precisions.log_constant() if has_constant else 0.0
        dtype = precisions.dtype
        return {
            "share": tf.constant(model.prior.model.arguments.share, dtype),
            "log_constant": tf.constant(log_constant, dtype),
        }

    def active_member(self, member: tfd.Distribution, values: ActiveValues) -> tfd.Distribution:
        """Make one member of the prior of the active components from that of a share of 1."""
        parameters, share = dict(member.parameters), values.of_prior["share"]
        if isinstance(member, tfd.Dirichlet):
            return ActiveDirichlet(parameters["concentration"], values.active, name=member.name)
        if isinstance(member, ExchangeableWishart):
            del parameters["components"]
            parameters["floor"] *= share
            log_constant = values.of_prior["log_constant"]
            return ActiveExchangeableWishart(values.active, **parameters, log_constant=log_constant)
        if isinstance(member, tfd.WishartTriL):  # of all components
            return member.copy(scale_tril=parameters["scale_tril"] * tf.math.rsqrt(share))
        inner = member.distribution
        if isinstance(inner, tfd.Gamma):
            inner = inner.copy(rate=inner.parameters["rate"] * share)
        return member.copy(distribution=ActiveComponents(inner, values.active))


@dataclass(frozen=True, eq=False)
class PaddedMixtureModel(PaddedModel):
    """A model of the prior of `mixture_prior`, whose values are all parameters of its members."""

    def values_of_prior(self, model: Model) -> Mapping[str, tf.Tensor]:
        """Return the parameters of all members; inactive components have those of the first."""
        found = {}
        for site, member in zip(model.sites, model.prior.model.members, strict=True):
            for name, value in _given_parameters(member).items():
                if site.has_component_axis:
                    value = np.concatenate([value, np.repeat(value[:1], self.K - model.K, axis=0)])
                found[f"{site.name}, {name}"] = tf.constant(value)
        return found

    def active_member(self, member: tfd.Distribution, values: ActiveValues) -> tfd.Distribution:
        """Make one member of the prior of the active components."""
        inner = unwrap(member)
        given = {
            name: values.of_prior[f"{member.name}, {name}"] for name in _given_parameters(member)
        }
        if isinstance(inner, tfd.Dirichlet):
            return ActiveDirichlet(**given, active=values.active, name=member.name)
        inner = inner.copy(**given)
        if len(inner.batch_shape):  # one for each component
            inner = ActiveComponents(inner, values.active)
        return member.copy(distribution=inner)


def _given_parameters(member: tfd.Distribution) -> dict[str, np.ndarray]:
    """Return the parameters of a member of `mixture_prior` by name."""
    inner = unwrap(member)
    if isinstance(inner, tfd.Deterministic):  # the weight of a single component
        return {"concentration": np.ones(1, inner.dtype.as_numpy_dtype)}
    names = {
        tfd.Dirichlet: ("concentration",),
        tfd.Normal: ("loc", "scale"),
        tfd.Gamma: ("concentration", "rate"),
        tfd.WishartTriL: ("df", "scale_tril"),
    }
    return {name: inner.parameters[name] for name in names[type(inner)]}


def padded_model(model: Model, standardization: Standardization, K: int) -> PaddedModel | None:
    """Return the model with K components, not all active, that serves a model with fewer.

    None unless the model has the prior of `mixture_prior`, or the default prior in standardised
    units, without far rows.

    Parameters
    ----------
    standardization : between standardised units and those of the prior.
    """
    arguments = getattr(model.prior.model, "arguments", None)
    if isinstance(arguments, PriorArguments) and len(arguments.weights_shape) == 1:
        D, dtype = arguments.shape[1], arguments.dtype
        return _padded_mixture_model(K, D, arguments.covariance, dtype)
    if not isinstance(arguments, WeaklyInformativeArguments):
        return None
    shift, scale, _ = identity_standardization(arguments.D)
    own = shift.tobytes(), scale.tobytes(), np.ones(arguments.D).tobytes()
    is_standard = (arguments.shift, arguments.scale, arguments.scatter) == own
    is_identity = np.array_equal(standardization.scale, scale) and not np.any(standardization.shift)
    if not (is_standard and is_identity):
        return None
    return _padded_default_model(replace(arguments, K=K, share=1.0), model.covariance)


@functools.lru_cache(maxsize=64)
def _padded_default_model(arguments: WeaklyInformativeArguments, covariance: str) -> PaddedModel:
    whole = model_of(weakly_informative_prior_of(arguments), covariance)
    return PaddedDefaultModel(whole.prior, covariance, whole.sites)


@functools.lru_cache(maxsize=64)
def _padded_mixture_model(K: int, D: int, covariance: CovarianceForm, dtype: str) -> PaddedModel:
    whole = model_of(mixture_prior(K, D, covariance=covariance, dtype=dtype), covariance)
    return PaddedMixtureModel(whole.prior, covariance, whole.sites)


def _bound(site: Site, values: ActiveValues) -> Site:
    """Bind the standardization to a site, and the active components to its family."""
    family = site.family
    if site.name == "weights":
        family = ActiveDirichletFamily(values.active)
    elif site.has_component_axis:
        family = ActiveFamily(family, values.active, len(site.shape) - 1)
    return replace(site, standardization=values.standardization, family=family)
