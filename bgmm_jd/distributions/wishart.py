"""Wishart distributions of precision matrices, by their degrees of freedom and their mean.

The usual parameters of a Wishart distribution are its degrees of freedom df and a scale matrix V.
Here they are df and the mean M = df V. These two are orthogonal: their Fisher information is block
diagonal, so that a fit can learn one without the other. M is given by its lower Cholesky factor C,
M = C C^T.

Draws and density follow from Bartlett's decomposition. With indices from 0 to D - 1,

    X = C L L^T C^T,    L lower triangular with a positive diagonal, its elements independent:
    L_ii^2 ~ Gamma((df - i) / 2, rate df / 2),    L_ij ~ Normal(0, 1 / df) for i > j.

As df grows, L tends to the identity, so that no numbers of size df have to cancel.

References
----------
M. S. Bartlett (1933). On the theory of statistical regression. Proceedings of the Royal Society of
    Edinburgh 53.
R. J. Muirhead (1982). Aspects of Multivariate Statistical Theory. Wiley. Sections 2.1 and 3.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend import random
from bgmm_jd.backend.numerics import inverse_of_lower_triangular
from bgmm_jd.backend.small_matrices import cholesky, product_with_own_transpose
from bgmm_jd.distributions.bijectors import cholesky_coordinates, matrix_coordinates
from bgmm_jd.distributions.cholesky_tangent import change_by_tangent, gradient_by_tangent
from bgmm_jd.distributions.gamma import AntitheticGamma, Gamma
from bgmm_jd.distributions.standard_gamma import trigamma_excess

# Separates the seed of the elements below the diagonal from the seeds that a joint distribution
# derives for its variables by small offsets.
_SEED_OFFSET = 1 << 30


class Wishart(tfd.Distribution):
    """Draw from a Wishart without loops; the log density is accurate for large df.

    Draws are the same in eager mode, in a graph and under XLA; an integer `seed` determines them
    (see `random.stateless_seed`). They are reparameterised to first order only: their second
    derivatives are not those of the path.

    The diagonal of a draw that is singular to the accuracy of its dtype is raised by some
    roundings, so that it has a Cholesky factor: see `product_with_transpose`.

    Parameters
    ----------
    df : tensor or variable [...]
        Degrees of freedom, above D - 1.
    mean_tril : tensor or variable [..., D, D]
        C, the lower Cholesky factor of the mean, with a positive diagonal. Elements above the
        diagonal are ignored. D is static.
    input_output_cholesky : bool
        Whether draws, and the arguments of `log_prob`, are the lower Cholesky factors C L of the
        matrices. As in `tfd.WishartTriL`, density, mean and variance remain those of the matrices.
    """

    _antithetic = False

    def __init__(
        self,
        df: Any,
        mean_tril: Any,
        input_output_cholesky: bool = False,
        name: str = "Wishart",
    ) -> None:
        parameters = dict(locals())
        self._input_output_cholesky = input_output_cholesky
        self._mean_tril = _as_tensor(mean_tril)
        self._df = _as_tensor(df, self._mean_tril.dtype)
        super().__init__(
            dtype=self._mean_tril.dtype,
            reparameterization_type=tfd.FULLY_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {
            "df": tfd.WishartTriL.parameter_properties(dtype)["df"],
            "mean_tril": tfp.util.ParameterProperties(
                event_ndims=2, default_constraining_bijector_fn=cholesky_coordinates
            ),
        }

    @property
    def df(self) -> Any:
        """Return the degrees of freedom [...]."""
        return self._df

    @property
    def mean_tril(self) -> Any:
        """Return the lower Cholesky factor C [..., D, D] of the mean."""
        return self._mean_tril

    def _event_shape(self) -> tf.TensorShape:
        return self.mean_tril.shape[-2:]

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._event_shape().as_list(), tf.int32)

    def _default_event_space_bijector(self) -> tfb.Bijector:
        return cholesky_coordinates() if self._input_output_cholesky else matrix_coordinates()

    def _mean(self) -> tf.Tensor:
        _, C = self._broadcast_parameters()
        return tf.matmul(C, C, transpose_b=True)

    def _variance(self) -> tf.Tensor:
        """Compute (M_ij^2 + M_ii M_jj) / df elementwise."""
        df, _ = self._broadcast_parameters()
        mean = self._mean()
        diagonal = tf.linalg.diag_part(mean)
        products = diagonal[..., tf.newaxis] * diagonal[..., tf.newaxis, :]
        return (tf.square(mean) + products) / df[..., tf.newaxis, tf.newaxis]

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        df, C = self._broadcast_parameters()
        D = self._event_shape()[-1]
        seed = random.stateless_seed(seed, salt="Wishart")
        squares = self._diagonal_squares(df).sample(n, seed=seed)
        # For D = 1 a square may be so small that its product with C^2 would underflow.
        squares = tf.maximum(squares, math.sqrt(np.finfo(self.dtype.as_numpy_dtype).tiny))
        seed_below = random.offset_seed(seed, across=_SEED_OFFSET)
        factor = C * tf.sqrt(squares)[..., tf.newaxis, :]
        factor += self._draw_below_diagonal(n, df, C, seed_below)
        return factor if self._input_output_cholesky else product_with_transpose(factor, D)

    def _draw_below_diagonal(
        self, n: Any, df: tf.Tensor, C: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Draw C times the part of L below its diagonal, [n, ..., D, D]."""
        shape = tf.concat([[n], tf.shape(C)], axis=0)
        drawn = random.half_shape(shape) if self._antithetic else shape
        # All D^2 elements are drawn: leaving half of them unused costs less than scattering the
        # others to their places.
        below = _ones_below_diagonal(self._event_shape()[-1], self.dtype)
        normals = random.normal(drawn, seed, self.dtype) * below
        product = tf.matmul(C, normals / tf.sqrt(df)[..., tf.newaxis, tf.newaxis])
        return random.join_pairs(product, -product, n) if self._antithetic else product

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """Divide the density of L by the Jacobian, dx = 2^D prod_i C_ii^(D + 1) L_ii^(D - i) dL.

        The density of L_ii is 2 L_ii times that of its square.
        """
        df, C = tf.convert_to_tensor(self.df), tf.convert_to_tensor(self.mean_tril)
        D = self._event_shape()[-1]
        below = _ones_below_diagonal(D, self.dtype)
        L = tf.matmul(
            inverse_of_lower_triangular(C),
            x if self._input_output_cholesky else cholesky(x),
        )
        diagonal = tf.linalg.diag_part(L)

        powers = tf.range(D - 1, -1, -1, dtype=self.dtype)
        squares = self._diagonal_squares(df).log_prob(tf.square(diagonal))
        squares -= powers * tf.math.log(diagonal)
        normalizer = D * (D - 1) / 4 * tf.math.log(df / (2.0 * math.pi))
        normals = normalizer - 0.5 * df * tf.reduce_sum(tf.square(L * below), axis=[-2, -1])
        scale = (D + 1.0) * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(C)), axis=-1)
        return tf.reduce_sum(squares, axis=-1) + normals - scale

    def _diagonal_squares(self, df: tf.Tensor) -> Gamma:
        """Return the distribution of the L_ii^2, with batch shape [..., D]."""
        family = AntitheticGamma if self._antithetic else Gamma
        df = df[..., tf.newaxis]
        return family(0.5 * (df - _indices(self._event_shape()[-1], df.dtype)), rate=0.5 * df)

    def _broadcast_parameters(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Return df and the lower triangle of C, both with the full batch shape."""
        df, C = tf.convert_to_tensor(self.df), tf.linalg.band_part(self.mean_tril, -1, 0)
        batch = tf.broadcast_dynamic_shape(tf.shape(df), tf.shape(C)[:-2])
        full = tf.concat([batch, tf.shape(C)[-2:]], axis=0)
        return tf.broadcast_to(df, batch), tf.broadcast_to(C, full)


class AntitheticWishart(Wishart):
    """Draw antithetic pairs from a `Wishart`, made from normal draws x and -x."""

    _antithetic = True


class WishartTriLOfCholesky(tfd.WishartTriL):
    """Compute the density of `tfd.WishartTriL(input_output_cholesky=True)` in fewer operations."""

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """Use that for V = S S^T the trace of V^-1 x x^T is the sum of squares of S^-1 x."""
        squares = tf.reduce_sum(
            tf.square(tf.matmul(inverse_of_lower_triangular(self.scale_tril), x)), axis=[-2, -1]
        )
        log_diagonal = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(x)), axis=-1)
        log_diagonal *= self.df - (self.event_shape[-1] + 1.0)
        return log_diagonal - 0.5 * squares - self.log_normalization()


def wishart_natural_gradient(
    df: tf.Tensor, mean_tril: tf.Tensor, gradient_log_excess: tf.Tensor, gradient_tril: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Multiply a gradient by the inverse Fisher information of a Wishart.

    The coordinates are unconstrained: u = log(df - (D - 1)), log C_ii on the diagonal, and C_ij
    below it. The information has no terms between u and C. For C it is diagonal in the local
    coordinates T, dC = C T with T lower triangular: to second order the divergence between the
    distributions of C and C + dC is df |T + T^T|^2 / 4, so the information is 2 df for T_ii and
    df for T_ij.

    Parameters
    ----------
    df : tensor [...]
    mean_tril : tensor [..., D, D]
        C, the lower Cholesky factor of the mean.
    gradient_log_excess : tensor [...]
        Derivative by u.
    gradient_tril : tensor [..., D, D]
        Derivatives by log C_ii on the diagonal and by C_ij below it. Elements above the diagonal
        are ignored.

    Returns
    -------
    tensor [...], tensor [..., D, D]
        The natural gradient in the same coordinates, with zeros above the diagonal.
    """
    D = mean_tril.shape[-1]
    by_T = gradient_by_tangent(mean_tril, gradient_tril)
    information = df[..., tf.newaxis, tf.newaxis] * (1.0 + tf.eye(D, dtype=df.dtype))
    T = by_T / information
    return (
        gradient_log_excess / _information_of_log_excess(df, D),
        change_by_tangent(mean_tril, T),
    )


def _information_of_log_excess(df: tf.Tensor, D: int) -> tf.Tensor:
    """Return the Fisher information of u = log(df - (D - 1)) at a fixed mean.

    It is (df - (D - 1))^2 times

        1/4 sum_i trigamma((df - i) / 2) - D / (2 df).

    The two terms nearly cancel when df is large. With trigamma(a) = (a + e(a)) / a^2, e as in
    `trigamma_excess`, and v = df - i, their difference is

        sum_i (e(v / 2) + i v / (2 df)) / v^2.
    """
    i = _indices(D, df.dtype)
    df = df[..., tf.newaxis]
    v = df - i
    ratio = (df - (D - 1.0)) / v
    return tf.reduce_sum(ratio**2 * (trigamma_excess(0.5 * v) + 0.5 * i * (v / df)), axis=-1)


def product_with_transpose(factor: tf.Tensor, D: int) -> tf.Tensor:
    """Return X = L L^T, with a diagonal raised by D eps X_ii where X might round to singular.

    Scaled to a unit diagonal, X has the determinant p = prod_i L_ii^2 / X_ii and no eigenvalue
    below p / 2.718: the other eigenvalues sum to less than D, so their product is at most
    (D / (D - 1))^(D - 1). Cholesky's decomposition fails only if the smallest eigenvalue is of the
    size of some roundings (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, theorem
    10.7). Without the correction, X has no Cholesky factor in float32 in one draw of 1,000 at
    df = D, and in one of three at df = D - 0.9.

    Parameters
    ----------
    factor : tensor [..., D, D]
        L, lower triangular.
    D : int
    """
    relative_ridge = tf.constant(D * np.finfo(factor.dtype.as_numpy_dtype).eps, factor.dtype)
    diagonal = tf.reduce_sum(tf.square(factor), axis=-1)
    shares = tf.stop_gradient(tf.square(tf.linalg.diag_part(factor)) / diagonal)
    singular = tf.reduce_prod(shares, axis=-1, keepdims=True) < math.e * relative_ridge
    ridge = tf.where(singular, relative_ridge * diagonal, tf.zeros_like(diagonal))
    return product_with_own_transpose(factor) + tf.linalg.diag(ridge)


def _indices(D: int, dtype: tf.DType) -> tf.Tensor:
    """Return 0, ..., D - 1."""
    return tf.range(D, dtype=dtype)


def _ones_below_diagonal(D: int, dtype: tf.DType) -> tf.Tensor:
    """Return a matrix [D, D] of ones below the diagonal and zeros elsewhere."""
    return tf.linalg.band_part(tf.ones([D, D], dtype), -1, 0) - tf.eye(D, dtype=dtype)


def _as_tensor(value: Any, dtype: Any = None) -> Any:
    """Convert to a tensor, but keep variables, so that their values are read at each use."""
    if isinstance(value, tf.Variable | tfp.util.DeferredTensor):
        return value
    return tf.convert_to_tensor(value, dtype=dtype)
