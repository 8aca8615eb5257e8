"""The trainable members with a matrix among their parameters: multivariate normal and Wishart."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.numerics import lower_factor
from bgmm_jd.data.affine_maps import AffineMap, LinearMap, forward_cholesky
from bgmm_jd.data.units import Transformation
from bgmm_jd.distributions import bijectors, wishart
from bgmm_jd.distributions.multivariate_normal import (
    AntitheticMultivariateNormal,
    MultivariateNormal,
    multivariate_normal_natural_gradient,
)
from bgmm_jd.variational.family import Family, Parameters, Shape, as_elementwise


class MultivariateNormalFamily(Family):
    """Multivariate normal distributions over the last axis, by `loc` and `scale_tril`.

    `scale_tril` is the lower Cholesky factor of the covariance matrix, trained in the log of its
    diagonal.
    """

    constraints: ClassVar = {"loc": tfb.Identity(), "scale_tril": tfb.TransformDiagonal(tfb.Exp())}
    transformations: ClassVar = (Transformation.NONE, Transformation.LOCATION)
    has_matrix_parameter: ClassVar = True

    def parameter_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Return the shapes: a matrix for each vector."""
        return {"loc": shape, "scale_tril": (*shape, shape[-1])}

    def coordinates(self) -> tfb.Bijector:
        """Take the variable itself as its coordinates."""
        return tfb.Identity()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make N(loc, scale_tril scale_tril^T)."""
        return MultivariateNormal(p["loc"], p["scale_tril"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same with draws in pairs that are symmetric about loc."""
        return AntitheticMultivariateNormal(p["loc"], p["scale_tril"])

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Return parameters of independent entries."""
        return {"loc": mean, "scale_tril": tf.linalg.diag(sd)}

    def from_factor(self, mean: tf.Tensor, factor: tf.Tensor) -> Parameters:
        """Return the mean and the factor, which are the parameters."""
        return {"loc": mean, "scale_tril": factor}

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return the mean and the sd of each entry, the length of its row of `scale_tril`."""
        return p["loc"], (p["scale_tril"] ** 2).sum(axis=-1) ** 0.5

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Apply the affine map to loc, and its matrix to scale_tril."""
        loc = to_data_units.forward(p["loc"])
        if isinstance(to_data_units, LinearMap):
            matrix = tf.matmul(to_data_units.matrix, p["scale_tril"])
            return {"loc": loc, "scale_tril": lower_factor(matrix)}
        factor = as_elementwise(to_data_units).factor
        return {"loc": loc, "scale_tril": factor[:, tf.newaxis] * p["scale_tril"]}

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Use the Fisher information of a multivariate normal distribution."""
        loc, tril = multivariate_normal_natural_gradient(
            p["scale_tril"], gradient["loc"], gradient["scale_tril"]
        )
        return {"loc": loc, "scale_tril": tril}


class WishartFamily(Family):
    """Wishart distributions of positive definite matrices.

    The parameters are `excess`, the degrees of freedom less D - 1, and `mean_tril`, the lower
    Cholesky factor of the mean, trained in the log of its diagonal.
    """

    constraints: ClassVar = {"excess": tfb.Exp(), "mean_tril": tfb.TransformDiagonal(tfb.Exp())}
    transformations: ClassVar = (Transformation.NONE, Transformation.PRECISION_MATRIX)
    has_cholesky: ClassVar = True
    has_matrix_parameter: ClassVar = True

    def parameter_shapes(self, shape: Shape) -> Mapping[str, Shape]:
        """Return the shapes: one number of degrees of freedom for each matrix."""
        return {"excess": shape[:-2], "mean_tril": shape}

    def coordinates(self) -> tfb.Bijector:
        """Take the entries of the lower Cholesky factor, with the log of its diagonal."""
        return bijectors.matrix_coordinates()

    def cholesky_coordinates(self) -> tfb.Bijector:
        """Map the same coordinates to the Cholesky factor."""
        return bijectors.cholesky_coordinates()

    def distribution(self, p: Parameters) -> tfd.Distribution:
        """Make a Wishart distribution by its degrees of freedom and mean."""
        return wishart.Wishart(self._degrees(p), p["mean_tril"])

    def training_distribution(self, p: Parameters) -> tfd.Distribution:
        """Make the same by its Cholesky factors, from normal draws in antithetic pairs."""
        return wishart.AntitheticWishart(
            self._degrees(p), p["mean_tril"], input_output_cholesky=True
        )

    def tfp_parameters(self, p: Parameters) -> Parameters:
        """Return the degrees of freedom and the lower Cholesky factor of mean / df."""
        df = self._degrees(p)
        return {"df": df, "scale_tril": p["mean_tril"] / df[..., tf.newaxis, tf.newaxis] ** 0.5}

    def from_moments(self, mean: tf.Tensor, sd: tf.Tensor) -> Parameters:
        """Solve var[d, d] = 2 mean[d, d]^2 / df for df, on average over d."""
        relative = tf.linalg.diag_part(sd) / tf.linalg.diag_part(mean)
        df = 2.0 / tf.reduce_mean(relative**2, axis=-1)
        return {
            "excess": tf.maximum(df - (mean.shape[-1] - 1.0), 1.0),
            "mean_tril": tf.linalg.cholesky(mean),
        }

    def moments(self, p: Parameters) -> tuple[Any, Any]:
        """Return mean and sd, with var[i, j] = (mean[i, j]^2 + mean[i, i] mean[j, j]) / df."""
        mean = p["mean_tril"] @ p["mean_tril"].swapaxes(-1, -2)
        diagonal = np.diagonal(mean, axis1=-2, axis2=-1)
        square = mean**2 + diagonal[..., :, np.newaxis] * diagonal[..., np.newaxis, :]
        return mean, (square / self._degrees(p)[..., np.newaxis, np.newaxis]) ** 0.5

    def unstandardize(self, p: Parameters, to_data_units: AffineMap) -> Parameters:
        """Apply X -> F X F^T, with F lower triangular, to the mean, and so F to its factor."""
        return {**p, "mean_tril": forward_cholesky(to_data_units, p["mean_tril"])}

    def natural_gradient(self, p: Parameters, gradient: Parameters) -> Parameters:
        """Use the Fisher information of a Wishart: see `wishart_natural_gradient`."""
        excess, tril = wishart.wishart_natural_gradient(
            self._degrees(p), p["mean_tril"], gradient["excess"], gradient["mean_tril"]
        )
        return {"excess": excess, "mean_tril": tril}

    def _degrees(self, p: Parameters) -> Any:
        return p["excess"] + (p["mean_tril"].shape[-1] - 1.0)
