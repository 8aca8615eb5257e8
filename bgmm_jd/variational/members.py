"""The members of the surrogate in the units of X: each variable's distribution and parameters."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.affine_maps import AffineMap, Elementwise
from bgmm_jd.variational.coordinates import bijector_to_data_units
from bgmm_jd.variational.families import FIXED, MULTIVARIATE_NORMAL, NORMAL
from bgmm_jd.variational.family import Family, Parameters
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Site, StandardizedModel


class Member(NamedTuple):
    """The distribution of one variable in the surrogate, in the units of X.

    name, shape : of the variable.
    family : of the variable, or of its coordinates where it has a bijector.
    parameters : of that family, as tensors or variables.
    bijector : from the real line to the variable; None where it has its family itself.
    """

    name: str
    shape: tuple[int, ...]
    family: Family
    parameters: Parameters
    bijector: tfb.Bijector | None = None

    @property
    def distribution(self) -> tfd.Distribution:
        """Make the distribution; parameters that are variables are read here."""
        distribution = self.family.distribution(self.parameters)
        return over_variable(distribution, self.name, self.shape, self.bijector)


def members_in_data_units(
    model: StandardizedModel, params: VariationalParameters
) -> tuple[Member, ...]:
    """Return the members of a surrogate in the units of X, in the order of the prior.

    Parameters
    ----------
    model : bound to the standardization of the data.
    params : in standardised units, as tensors.
    """
    return tuple(_member(site, params[site.name]) for site in model.sites)


def joint_distribution(members: Iterable[Member]) -> tfd.JointDistributionCoroutine:
    """Make the joint distribution of independent members."""
    members = tuple(members)
    Root = tfd.JointDistributionCoroutine.Root

    def surrogate():  # type: ignore[no-untyped-def]
        for member in members:
            yield Root(member.distribution)

    return tfd.JointDistributionCoroutine(surrogate)


def over_variable(
    distribution: tfd.Distribution,
    name: str,
    shape: tuple[int, ...],
    bijector: tfb.Bijector | None = None,
) -> tfd.Distribution:
    """Make the distribution of a whole variable from that of its entries or coordinates."""
    if bijector is None:
        wrapped = len(shape) - len(distribution.event_shape)
        return tfd.Independent(distribution, reinterpreted_batch_ndims=wrapped, name=name)
    base = tfd.Independent(distribution, reinterpreted_batch_ndims=len(distribution.batch_shape))
    return tfd.TransformedDistribution(base, bijector, name=name)


def _member(site: Site, parameters: Parameters) -> Member:
    if site.fixed is not None:
        value = tf.constant(site.fixed, site.bound_standardization.scale.dtype)
        return Member(site.name, site.shape, FIXED, {"value": value})
    if site.bijector is not None and not site.is_unrestricted:
        bijector = bijector_to_data_units(site)
        return Member(site.name, site.shape, site.family, parameters, bijector)
    family, change = site.family, site.affine_map
    if change is not None:
        family, parameters = _changed(family, parameters, change)
    return Member(site.name, site.shape, family, parameters)


def standardized_parameters(site: Site, member: Member) -> Parameters:
    """Return a site's parameters in standardised units, at which its member would be as given.

    Where the member is multivariate normal and the site has independent entries, they keep their
    means and standard deviations.

    Parameters
    ----------
    site : bound to the standardization of the data, which may be other data than the member's.
    member : of the same variable, with parameters in the dtype of the site.
    """
    if site.fixed is not None:
        return {}
    change = site.affine_map
    if member.bijector is not None or change is None:
        return member.parameters
    family, parameters = _changed(member.family, member.parameters, change.inverted())
    if family is site.family:
        return parameters
    arrays = {name: np.asarray(v) for name, v in parameters.items()}
    return site.family.from_moments(*map(tf.constant, family.moments(arrays)))


def _changed(
    family: Family, parameters: Parameters, change: AffineMap
) -> tuple[Family, Parameters]:
    """Return the family and the parameters of a variable in other units."""
    if family is NORMAL and not isinstance(change, Elementwise):
        # Independent entries are correlated in the units of X where rows are whitened.
        family = MULTIVARIATE_NORMAL
        parameters = family.from_moments(parameters["loc"], parameters["scale"])
    return family, family.unstandardize(parameters, change)
