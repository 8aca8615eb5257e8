"""Wishart distributions of precision matrices, by their degrees of freedom and their mean.

The usual parameters of a Wishart distribution are its degrees of freedom df and a scale matrix V.
Here they are df and the mean M = df V: these two are orthogonal, that is, their Fisher information
has no terms between them, and a fit can learn the one without the other. M is given by its lower
Cholesky factor C, so M = C C^T.

All else follows from Bartlett's decomposition of a draw. With indices from 0 to D - 1,

    X = C L L^T C^T,    L lower triangular with a positive diagonal, its elements independent:
    L_ii^2 ~ Gamma((df - i) / 2, rate df / 2),    L_ij ~ Normal(0, 1 / df) for i > j.

As df grows, L tends to the identity, so that no numbers of the size of df have to cancel.

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
from bgmm_jd.distributions.bijectors import cholesky_coordinates, matrix_coordinates
from bgmm_jd.distributions.gamma import AntitheticGamma, Gamma
from bgmm_jd.distributions.standard_gamma import trigamma_excess

_SEED_OFFSET = 1 << 30  # from the numbers across which a joint distribution has its seeds


class Wishart(tfd.Distribution):
    """Wishart distribution with loop-free draws and a log density right for large df.

    Draws are the same in eager mode, in a graph and under XLA; an integer `seed` is taken as it is
    (see `draws.stateless_seed`). They are reparameterized to first order: their second derivatives
    are not those of the path.

    A matrix that is too near a singular one for its dtype gets some roundings added to its
    diagonal, so that it has a Cholesky factor: see `outer`.

    Parameters
    ----------
    df : tensor or variable [...]
        Degrees of freedom, above D - 1.
    mean_tril : tensor or variable [..., D, D]
        C, the lower Cholesky factor of the mean: its diagonal positive. What is above is not looked
        at. D is static.
    input_output_cholesky : bool
        Whether draws, and what `log_prob` takes, are the lower Cholesky factors C L of the
        matrices. The density stays that of the matrices, as in `tfd.WishartTriL`, and mean and
        variance are theirs.
    """

    _antithetic = False

    def __init__(
        self,
        df: Any,
        mean_tril: Any,
        input_output_cholesky: bool = False,
        name: str = "Wishart",
    ):
        parameters = dict(locals())
        self._of_factors = input_output_cholesky
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
        """Degrees of freedom [...]."""
        return self._df

    @property
    def mean_tril(self) -> Any:
        """Lower Cholesky factor [..., D, D] of the mean."""
        return self._mean_tril

    def _event_shape(self) -> tf.TensorShape:
        return self.mean_tril.shape[-2:]

    def _event_shape_tensor(self) -> tf.Tensor:
        return tf.constant(self._event_shape().as_list(), tf.int32)

    def _default_event_space_bijector(self) -> tfb.Bijector:
        return cholesky_coordinates() if self._of_factors else matrix_coordinates()

    def _mean(self) -> tf.Tensor:
        _, C = self._values()
        return tf.matmul(C, C, transpose_b=True)

    def _variance(self) -> tf.Tensor:
        """(M_ij^2 + M_ii M_jj) / df, elementwise."""
        df, _ = self._values()
        mean = self._mean()
        diagonal = tf.linalg.diag_part(mean)
        products = diagonal[..., tf.newaxis] * diagonal[..., tf.newaxis, :]
        return (tf.square(mean) + products) / df[..., tf.newaxis, tf.newaxis]

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        df, C = self._values()
        D = self._event_shape()[-1]
        seed = random.stateless_seed(seed, salt="Wishart")
        squares = self._squares(df).sample(n, seed=seed)
        # A single square, D = 1, may be so small that C^2 times it would be zero.
        squares = tf.maximum(squares, math.sqrt(np.finfo(self.dtype.as_numpy_dtype).tiny))
        below = self._below(n, df, C, random.offset_seed(seed, across=_SEED_OFFSET))
        root = C * tf.sqrt(squares)[..., tf.newaxis, :] + below
        return root if self._of_factors else product_with_transpose(root, D)

    def _below(self, n: Any, df: tf.Tensor, C: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """C times what of L is below its diagonal: [n, ..., D, D]."""
        shape = tf.concat([[n], tf.shape(C)], axis=0)
        # Of all D^2, as half of them left unused costs less than to put the others in their places.
        drawn = random.half_shape(shape) if self._antithetic else shape
        below = _below_diagonal(self._event_shape()[-1], self.dtype)
        normals = random.normal(drawn, seed, self.dtype) * below
        turned = tf.matmul(C, normals / tf.sqrt(df)[..., tf.newaxis, tf.newaxis])
        return random.join_pairs(turned, -turned, n) if self._antithetic else turned

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """The density of L over the Jacobian of x, dx = 2^D prod_i C_ii^(D + 1) L_ii^(D - i) dL.

        The density of L_ii is 2 L_ii times that of its square.
        """
        df, C = tf.convert_to_tensor(self.df), tf.convert_to_tensor(self.mean_tril)
        D = self._event_shape()[-1]
        below = _below_diagonal(D, self.dtype)
        L = tf.matmul(
            inverse_of_lower_triangular(C), x if self._of_factors else tf.linalg.cholesky(x)
        )
        roots = tf.linalg.diag_part(L)

        powers = tf.range(D - 1, -1, -1, dtype=self.dtype)
        squares = self._squares(df).log_prob(tf.square(roots)) - powers * tf.math.log(roots)
        normalizer = D * (D - 1) / 4 * tf.math.log(df / (2.0 * math.pi))
        normals = normalizer - 0.5 * df * tf.reduce_sum(tf.square(L * below), axis=[-2, -1])
        scale = (D + 1.0) * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(C)), axis=-1)
        return tf.reduce_sum(squares, axis=-1) + normals - scale

    def _squares(self, df: tf.Tensor) -> Gamma:
        """The distribution of the L_ii^2, batch shape [..., D]."""
        family = AntitheticGamma if self._antithetic else Gamma
        df = df[..., tf.newaxis]
        return family(0.5 * (df - _indices(self._event_shape()[-1], df.dtype)), rate=0.5 * df)

    def _values(self) -> tuple[tf.Tensor, tf.Tensor]:
        """df and C, each of the full batch shape."""
        df, C = tf.convert_to_tensor(self.df), tf.linalg.band_part(self.mean_tril, -1, 0)
        batch = tf.broadcast_dynamic_shape(tf.shape(df), tf.shape(C)[:-2])
        full = tf.concat([batch, tf.shape(C)[-2:]], axis=0)
        return tf.broadcast_to(df, batch), tf.broadcast_to(C, full)


class AntitheticWishart(Wishart):
    """`Wishart` whose draws come in pairs, from normal draws that are mirror images."""

    _antithetic = True


class WishartTriLOfCholesky(tfd.WishartTriL):
    """`tfd.WishartTriL` with `input_output_cholesky=True`, its density in fewer operations."""

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """For V = S S^T, the trace of V^-1 x x^T is the sum of squares of S^-1 x."""
        squares = tf.reduce_sum(
            tf.square(tf.matmul(inverse_of_lower_triangular(self.scale_tril), x)), axis=[-2, -1]
        )
        log_roots = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(x)), axis=-1)
        log_roots *= self.df - (self.event_shape[-1] + 1.0)
        return log_roots - 0.5 * squares - self.log_normalization()


def wishart_natural_gradient(
    df: tf.Tensor, mean_tril: tf.Tensor, gradient_df: tf.Tensor, gradient_tril: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Inverse Fisher information of a Wishart times a gradient, in unconstrained coordinates.

    These are u = log(df - (D - 1)), the logs of the C_ii, and the C_ij below them. The information
    of u stands alone. For C it is diagonal in local coordinates, dC = C T with T lower triangular:
    the divergence of means C and C + dC is df |T + T^T|^2 / 4 to second order, so the information
    is 2 df for T_ii and df for T_ij.

    Parameters
    ----------
    df : tensor [...]
    mean_tril : tensor [..., D, D]
        C.
    gradient_df : tensor [...]
        Derivative by u.
    gradient_tril : tensor [..., D, D]
        Derivatives by log C_ii on the diagonal, by C_ij below; what is above is not looked at.

    Returns
    -------
    tensor [...], tensor [..., D, D]
        Of the same coordinates; zeros above the diagonal.
    """
    D = mean_tril.shape[-1]
    roots = tf.linalg.diag_part(mean_tril)
    by_C = tf.linalg.band_part(gradient_tril, -1, 0)
    by_C = tf.linalg.set_diag(by_C, tf.linalg.diag_part(by_C) / roots)
    by_T = tf.linalg.band_part(tf.matmul(mean_tril, by_C, transpose_a=True), -1, 0)
    information = df[..., tf.newaxis, tf.newaxis] * (1.0 + tf.eye(D, dtype=df.dtype))
    T = by_T / information
    moved = tf.linalg.band_part(tf.matmul(mean_tril, T), -1, 0)
    return (
        gradient_df / _information_of_log_excess(df, D),
        tf.linalg.set_diag(moved, tf.linalg.diag_part(T)),
    )


def _information_of_log_excess(df: tf.Tensor, D: int) -> tf.Tensor:
    """Fisher information of u = log(df - (D - 1)) at a fixed mean: (df - (D - 1))^2 times

        1/4 sum_i trigamma((df - i) / 2) - D / (2 df).

    These two differ by little when df is large. With trigamma(a) = (a + e(a)) / a^2, e as in
    `trigamma_excess`, and v = df - i, the difference is

        sum_i (e(v / 2) + i v / (2 df)) / v^2.
    """
    i = _indices(D, df.dtype)
    df = df[..., tf.newaxis]
    v = df - i
    share = (df - (D - 1.0)) / v
    return tf.reduce_sum(share**2 * (trigamma_excess(0.5 * v) + 0.5 * i * (v / df)), axis=-1)


def product_with_transpose(root: tf.Tensor, D: int) -> tf.Tensor:
    """X = root root^T, raised on the diagonal by D eps X_ii where X might round to singular.

    Scaled to a unit diagonal, X has the determinant p = prod_i root_ii^2 / X_ii, and no eigenvalue
    below p / 2.718: the others add up to less than D, so that their product is at most
    (D / (D - 1))^(D - 1). Cholesky's decomposition fails only if the least eigenvalue is some
    roundings or less (Higham 2002, *Accuracy and Stability of Numerical Algorithms*, theorem 10.7).
    Left as it is, X has no factor in float32 in one draw of a thousand at df = D, and in one of
    three at df = D - 0.9.

    Parameters
    ----------
    root : tensor [..., D, D]
        Lower triangular.
    """
    ridge = tf.constant(D * np.finfo(root.dtype.as_numpy_dtype).eps, root.dtype)
    size = tf.reduce_sum(tf.square(root), axis=-1)
    shares = tf.stop_gradient(tf.square(tf.linalg.diag_part(root)) / size)
    singular = tf.reduce_prod(shares, axis=-1, keepdims=True) < math.e * ridge
    raised = tf.where(singular, ridge * size, tf.zeros_like(size))
    return tf.matmul(root, root, transpose_b=True) + tf.linalg.diag(raised)


def _indices(D: int, dtype: tf.DType) -> tf.Tensor:
    return tf.range(D, dtype=dtype)


def _below_diagonal(D: int, dtype: tf.DType) -> tf.Tensor:
    """Ones below the diagonal, [D, D]."""
    return tf.linalg.band_part(tf.ones([D, D], dtype), -1, 0) - tf.eye(D, dtype=dtype)


def _as_tensor(value: Any, dtype: Any = None) -> Any:
    """A tensor; but variables as they are, to be read at each use."""
    if isinstance(value, tf.Variable | tfp.util.DeferredTensor):
        return value
    return tf.convert_to_tensor(value, dtype=dtype)
