"""What a family of distributions has to know to be a member of a surrogate."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.affine_maps import AffineMap, Elementwise
from bgmm_jd.data.units import Transformation

Parameters = Mapping[str, Any]  # by name, in the constrained space: tensors, arrays or variables
Shape = tuple[int, ...]


class Family(ABC):
    """A family of distributions as a member of a surrogate.

    Attributes
    ----------
    constraints : mapping of parameter name to bijector
        From the real line to the parameter.
    transformations : tuple of Transformation
        How its variables may change with the units of X; the family is closed under no others.
    has_cholesky : bool
        Whether its variables are positive definite matrices, whose Cholesky factors are drawn.
    has_matrix_parameter : bool
        Whether one of its parameters is the Cholesky factor of a matrix.
    """

    constraints: ClassVar[Mapping[str, tfb.Bijector]]
    transformations: ClassVar[tuple[Transformation, ...]]
    has_cholesky: ClassVar[bool] = False
    has_matrix_parameter: ClassVar[bool] = False

    def parameter_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Return the shape of each parameter for a variable of that shape."""
        return dict.fromkeys(self.constraints, shape)

    @abstractmethod
    def coordinates(self) -> tfb.Bijector:
        """Map a whole real space to the variable, so that its posterior is close to normal."""

    def cholesky_coordinates(self) -> tfb.Bijector:
        """Map the same space to the Cholesky factors of a variable that has them."""
        raise NotImplementedError(f"{type(self).__name__} has no Cholesky factors.")

    @abstractmethod
    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the distribution, over the last axes of the variable."""

    @abstractmethod
    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same distribution with antithetic draws; of matrices, their Cholesky factors."""

    def tfp_parameters(self, p: Parameters) -> Parameters:
        """Return the parameters by which TFP's own distribution of the family is made."""
        return p

    @abstractmethod
    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return parameters for a mean and a standard deviation of each entry of the variable."""

    def from_factor(self, mean: tf.Tensor, factor: tf.Tensor) -> Parameters:
        """Return parameters for vectors with a mean and a covariance matrix factor factor^T.

        As far as the family has them: by default it keeps the standard deviations.

        Parameters
        ----------
        mean : [..., D]
        factor : [..., D, D], lower triangular.
        """
        return self.from_moments(mean, tf.norm(factor, axis=-1))

    @abstractmethod
    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the mean and the standard deviation of each entry, of parameters as arrays."""

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Return the parameters of the variable in the units of X."""
        raise NotImplementedError(f"{type(self).__name__} has variables without units of X.")

    @abstractmethod
    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Multiply a gradient by the inverse Fisher information.

        Parameters
        ----------
        gradient : derivatives by the unconstrained parameters; the result is in the same ones.
        """


def as_elementwise(change: AffineMap) -> Elementwise:
    """Return a map that is elementwise, or raise: some families are closed under no other."""
    if not isinstance(change, Elementwise):
        raise TypeError(f"This family is not closed under a {type(change).__name__}.")
    return change
