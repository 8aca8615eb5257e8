"""The members of a surrogate of K components of which only some are active."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.affine_maps import AffineMap
from bgmm_jd.distributions.active_components import (
    ActiveComponents,
    ActiveCoordinates,
    ActiveDirichlet,
    ActiveSticks,
    AntitheticActiveDirichlet,
    where_active,
)
from bgmm_jd.variational.families import DirichletFamily
from bgmm_jd.variational.family import Family, Parameters, Shape


class ActiveFamily(Family):
    """A family whose inactive members have neither a log density nor a Jacobian.

    Parameters
    ----------
    family : of the variable of each component.
    active : tensor [K]
    ndims : int
        Number of axes of a component's variable.
    """

    def __init__(self, family: Family, active: tf.Tensor, ndims: int) -> None:
        self._family, self._active, self._ndims = family, active, ndims
        self.constraints = family.constraints  # type: ignore[misc]
        self.transformations = family.transformations  # type: ignore[misc]
        self.has_cholesky = family.has_cholesky  # type: ignore[misc]
        self.has_matrix_parameter = family.has_matrix_parameter  # type: ignore[misc]

    def parameter_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Return the shape of each parameter."""
        return self._family.parameter_shapes(shape)

    def coordinates(self) -> tfb.Bijector:
        """Take the coordinates of the family."""
        return ActiveCoordinates(self._family.coordinates(), self._active, self._ndims)

    def cholesky_coordinates(self) -> tfb.Bijector:
        """Map the same coordinates to Cholesky factors."""
        return self._family.cholesky_coordinates()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the distribution of all members, with the density of the active ones."""
        return ActiveComponents(self._family.distribution(p), self._active)

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same with antithetic draws."""
        return ActiveComponents(self._family.training_distribution(p), self._active)

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return parameters for a mean and a standard deviation of each entry of the variable."""
        return self._family.from_moments(mean, sd)

    def from_factor(self, mean: tf.Tensor, factor: tf.Tensor) -> Parameters:
        """Return parameters for vectors with a mean and a covariance matrix."""
        return self._family.from_factor(mean, factor)

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the mean and the standard deviation of each entry."""
        return self._family.moments(p)

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Return the parameters of the variable in the units of X."""
        return self._family.unstandardize(p, to_data_units)

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Multiply a gradient, which is zero for inactive members, by that of the family."""
        return self._family.natural_gradient(p, gradient)


class ActiveDirichletFamily(DirichletFamily):
    """Dirichlet distributions of the active proportions.

    Parameters
    ----------
    active : tensor [K]
        1 for the first components and 0 for all that follow.
    """

    def __init__(self, active: tf.Tensor) -> None:
        self._active = active

    def coordinates(self) -> tfb.Bijector:
        """Use logits of broken sticks."""
        return ActiveSticks(self._active)

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make ActiveDirichlet(concentration)."""
        return ActiveDirichlet(p["concentration"], self._active)

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same, from normal draws in antithetic pairs."""
        return AntitheticActiveDirichlet(p["concentration"], self._active)

    def _counted(self, values: tf.Tensor) -> tf.Tensor:
        return where_active(self._active, values)
