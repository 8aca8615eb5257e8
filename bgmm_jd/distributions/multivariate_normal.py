"""A multivariate normal distribution whose draws do not depend on the mode of execution."""

from __future__ import annotations

import math
from typing import Any

import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.numerics import inverse_of_lower_triangular
from bgmm_jd.backend.random import normal, stateless_seed
from bgmm_jd.distributions.bijectors import cholesky_coordinates
from bgmm_jd.distributions.cholesky_tangent import change_by_tangent, gradient_by_tangent


class MultivariateNormal(tfd.Distribution):
    """Draw from N(loc, C C^T), with the same draws in eager mode, in a graph and under XLA.

    Draws are loc + C z with z standard normal, hence reparameterised; an integer `seed` determines
    them (see `random.stateless_seed`). The density multiplies by the inverse of C, where
    `tfd.MultivariateNormalTriL` solves for each draw, which compiles longer under XLA.

    Parameters
    ----------
    loc : tensor [..., D]
    scale_tril : tensor [..., D, D]
        C, the lower Cholesky factor of the covariance matrix, with a positive diagonal. Elements
        above the diagonal are ignored, and have no gradient.
    """

    _antithetic = False

    def __init__(self, loc: Any, scale_tril: Any, name: str = "MultivariateNormal") -> None:
        parameters = dict(locals())
        self._loc = tf.convert_to_tensor(loc)
        self._scale_tril = tf.linalg.band_part(tf.convert_to_tensor(scale_tril), -1, 0)
        super().__init__(
            dtype=self._loc.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {
            "loc": tfp.util.ParameterProperties(event_ndims=1),
            "scale_tril": tfp.util.ParameterProperties(
                event_ndims=2, default_constraining_bijector_fn=cholesky_coordinates
            ),
        }

    @property
    def loc(self) -> tf.Tensor:
        """Return the mean [..., D]."""
        return self._loc

    @property
    def scale_tril(self) -> tf.Tensor:
        """Return the lower Cholesky factor C [..., D, D] of the covariance matrix."""
        return self._scale_tril

    def _event_shape(self) -> tf.TensorShape:
        return self.loc.shape[-1:]

    def _default_event_space_bijector(self) -> tfb.Bijector:
        return tfb.Identity()

    def _mean(self) -> tf.Tensor:
        return tf.broadcast_to(self.loc, self._shape_of_draw())

    def _covariance(self) -> tf.Tensor:
        product = tf.matmul(self.scale_tril, self.scale_tril, transpose_b=True)
        shape = tf.concat([self._shape_of_draw(), self.event_shape_tensor()], axis=0)
        return tf.broadcast_to(product, shape)

    def _variance(self) -> tf.Tensor:
        return tf.broadcast_to(tf.reduce_sum(self.scale_tril**2, axis=-1), self._shape_of_draw())

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        shape = tf.concat([[n], self._shape_of_draw()], axis=0)
        seed = stateless_seed(seed, salt="MultivariateNormal")
        z = normal(shape, seed, self.dtype, self._antithetic)
        return self.loc + tf.linalg.matvec(self.scale_tril, z)

    def _shape_of_draw(self) -> tf.Tensor:
        # loc may have more batch axes than the factor, whose draws must not be shared along them.
        return tf.concat([self.batch_shape_tensor(), self.event_shape_tensor()], axis=0)

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        residual = x - self.loc
        whitened = tf.linalg.matvec(inverse_of_lower_triangular(self.scale_tril), residual)
        log_det = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(self.scale_tril)), axis=-1)
        features = self.loc.shape[-1]
        return (
            -0.5 * tf.reduce_sum(whitened**2, axis=-1)
            - log_det
            - 0.5 * features * math.log(2.0 * math.pi)
        )


class AntitheticMultivariateNormal(MultivariateNormal):
    """Draw antithetic pairs from a `MultivariateNormal`: partners are symmetric about the mean."""

    _antithetic = True


def multivariate_normal_natural_gradient(
    scale_tril: tf.Tensor, gradient_loc: tf.Tensor, gradient_tril: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiply a gradient by the inverse Fisher information of a multivariate normal distribution.

    The information of loc is the inverse of C C^T. In tangent coordinates T, dC = C T, the
    divergence between the distributions of C and C + dC is |T + T^T|^2 / 4 to second order, so the
    information is 2 for T_ii and 1 for T_ij: that of a Wishart distribution with df = 1 (see
    `wishart_natural_gradient`).

    Parameters
    ----------
    scale_tril : tensor [..., D, D]
        C.
    gradient_loc : tensor [..., D]
        Derivative by loc.
    gradient_tril : tensor [..., D, D]
        Derivatives by log C_ii on the diagonal and by C_ij below it.

    Returns
    -------
    tensor [..., D], tensor [..., D, D]
        The natural gradient in the same coordinates, with zeros above the diagonal.
    """
    covariance = tf.matmul(scale_tril, scale_tril, transpose_b=True)
    D = scale_tril.shape[-1]
    tangent = gradient_by_tangent(scale_tril, gradient_tril)
    tangent /= 1.0 + tf.eye(D, dtype=scale_tril.dtype)
    return tf.linalg.matvec(covariance, gradient_loc), change_by_tangent(scale_tril, tangent)
