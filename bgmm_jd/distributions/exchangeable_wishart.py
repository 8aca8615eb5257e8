"""Precision matrices of K components that share an unknown scale matrix, which is integrated out.

With S a covariance matrix of all rows,

    B ~ W(g, inverse scale (g / c) S^-1),    Lam_k | B ~ W(nu, inverse scale B),    k = 1, ..., K,

so that the components have similar shapes, which the data tell (Malsiner-Walli et al. 2016). The
density of the Lam_k without B has a closed form. It is multiplied by the floor

    exp(-floor / 2 tr(S sum_k Lam_k)) / Z,

without which it has no bound as one Lam_k grows along a direction: rows in a plane, such as ties in
a column, would then make the posterior improper. In units where S = I and with h = g / c,

    log p(Lam) = const + (nu - D - 1) / 2 sum_k log|Lam_k|
                 - (g + K nu) / 2 log|h I + sum_k Lam_k| - floor / 2 tr sum_k Lam_k.

Given B the floor makes of Lam_k a W(nu, inverse scale B + floor S), so that

    Z = E_B[(|B| / |B + floor S|)^(K nu / 2)],

a constant: see `wishart_determinants`.

References
----------
G. Malsiner-Walli, S. Fruehwirth-Schnatter, B. Gruen (2016). Model-based clustering based on sparse
    finite Gaussian mixtures. Statistics and Computing 26.
A. K. Gupta, D. K. Nagar (2000). Matrix Variate Distributions. Chapman and Hall. Chapters 3 and 5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from scipy.special import multigammaln
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend import random
from bgmm_jd.backend.numerics import lower_factor
from bgmm_jd.backend.small_matrices import cholesky, product_with_own_transpose
from bgmm_jd.distributions.bijectors import cholesky_coordinates, matrix_coordinates
from bgmm_jd.distributions.wishart import product_with_transpose
from bgmm_jd.distributions.wishart_determinants import log_expected_determinant_ratio

# Sweeps of the Gibbs sampler, in units of K nu / g, in which its autocorrelation time hardly
# depends on D and K: some six such times, after which little is left of where it began.
_RELATIVE_SWEEPS = 12


class ExchangeableWishart(tfd.Distribution):
    """Distribution of K precision matrices with a common random scale matrix and a floor.

    See the module's docstring for the density. Draws are those of a Gibbs sampler that alternates
    between B and sum_k Lam_k, which is NumPy code, because a graph of it takes seconds to trace.
    They are the same in eager mode and in a graph, cannot be made under XLA, and have no gradient.
    An integer `seed` determines them (see `random.stateless_seed`).

    Parameters
    ----------
    components : int
        K.
    covariance_factor : tensor [D, D]
        F, triangular with a nonzero diagonal: S = F F^T, in squared units of X. D is static.
    df : float
        nu, the degrees of freedom of each matrix given B, above D - 1.
    scale_df : float
        g, the degrees of freedom of B, above D - 1.
    scale_mean : float
        c, so that the mean of B is c S without the floor.
    floor : float
        Not negative, without unit.
    input_output_cholesky : bool
        Whether draws, and the arguments of `log_prob`, are the lower Cholesky factors of the
        matrices. As in `tfd.WishartTriL`, the density remains that of the matrices.
    """

    def __init__(
        self,
        components: int,
        covariance_factor: Any,
        df: float,
        scale_df: float,
        scale_mean: float,
        floor: float,
        input_output_cholesky: bool = False,
        name: str = "ExchangeableWishart",
    ) -> None:
        parameters = dict(locals())
        self._components = components
        self._factor = tf.convert_to_tensor(covariance_factor)
        self._df, self._scale_df = float(df), float(scale_df)
        self._scale_mean, self._floor = float(scale_mean), float(floor)
        self._input_output_cholesky = input_output_cholesky
        super().__init__(
            dtype=self._factor.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name=name,
        )

    @classmethod
    def _parameter_properties(cls, dtype: Any, num_classes: Any = None) -> dict[str, Any]:
        return {
            "covariance_factor": tfp.util.ParameterProperties(
                event_ndims=2, default_constraining_bijector_fn=cholesky_coordinates
            )
        }

    @property
    def covariance_factor(self) -> tf.Tensor:
        """Return the triangular factor F [D, D] of S."""
        return self._factor

    @property
    def input_output_cholesky(self) -> bool:
        """Return whether Cholesky factors stand for the matrices."""
        return self._input_output_cholesky

    def _event_shape(self) -> tf.TensorShape:
        return tf.TensorShape([self._components]).concatenate(self._factor.shape)

    def _default_event_space_bijector(self) -> tfb.Bijector:
        return cholesky_coordinates() if self._input_output_cholesky else matrix_coordinates()

    def _log_prob(self, x: tf.Tensor) -> tf.Tensor:
        """Take x to units where S = I; there the matrices are F^T Lam_k F = W_k W_k^T."""
        K, D = self._count(), self._factor.shape[-1]
        lower = x if self._input_output_cholesky else cholesky(x)
        log_factor = tf.reduce_sum(tf.math.log(tf.abs(tf.linalg.diag_part(self._factor))))
        log_diagonals = tf.reduce_sum(tf.math.log(tf.linalg.diag_part(lower)), axis=-1)
        log_dets = 2.0 * (self._sum(log_diagonals) + K * log_factor)

        W = tf.matmul(self._factor, lower, transpose_a=True)
        total = self._sum(product_with_own_transpose(W), axis=-3)
        root = cholesky(total + self._inverse_scale * tf.eye(D, dtype=self.dtype))
        log_det_total = 2.0 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(root)), axis=-1)
        kernel = (
            0.5 * (self._df - D - 1.0) * log_dets
            - 0.5 * (self._scale_df + K * self._df) * log_det_total
            - 0.5 * self._floor * tf.linalg.trace(total)
        )
        # Lam -> F^T Lam F has the Jacobian |F|^(D + 1) (Muirhead 1982, theorem 2.1.6).
        return kernel + self.log_constant() + K * (D + 1.0) * log_factor

    def _count(self) -> Any:
        """Return the number of matrices that the density counts: K."""
        return self._components

    def _sum(self, values: tf.Tensor, axis: int = -1) -> tf.Tensor:
        """Sum over the components that the density counts: all."""
        return tf.reduce_sum(values, axis=axis)

    def log_constant(self) -> Any:
        """Return the constant of the module's formula, without the factors of the change of units.

        See Gupta and Nagar (2000), section 5.2, for floor = 0.
        """
        K, D = self._components, self._factor.shape[-1]
        h = self._inverse_scale
        ratio = log_expected_determinant_ratio(
            D, self._scale_df, 0.5 * K * self._df, self._floor * h
        )
        return float(
            0.5 * self._scale_df * D * math.log(h)
            + multigammaln(0.5 * self._posterior_df, D)
            - multigammaln(0.5 * self._scale_df, D)
            - K * multigammaln(0.5 * self._df, D)
            - ratio
        )

    @property
    def _inverse_scale(self) -> float:
        """Return h, where h I is the inverse scale matrix of B in units where S = I."""
        return self._scale_df / self._scale_mean

    @property
    def _posterior_df(self) -> float:
        """Return the degrees of freedom of B given the matrices."""
        return self._scale_df + self._components * self._df

    def _sample_n(self, n: Any, seed: Any = None) -> tf.Tensor:
        K, D = self._components, self._factor.shape[-1]

        def draw(size: np.ndarray, key: np.ndarray) -> np.ndarray:
            rng = np.random.Generator(np.random.Philox(key=key.view(np.uint64)[0]))
            return self._standard_roots(int(size), rng)

        key = random.stateless_seed(seed, salt="ExchangeableWishart")
        roots = tf.numpy_function(draw, [n, key], tf.float64)
        roots = tf.ensure_shape(roots, [None, K, D, D])
        inverse = tf.linalg.inv(tf.cast(self._factor, tf.float64))
        lower = tf.cast(lower_factor(tf.matmul(inverse, roots, transpose_a=True)), self.dtype)
        return lower if self._input_output_cholesky else product_with_transpose(lower, D)

    def _standard_roots(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw R_k [n, K, D, D]: R_k R_k^T are the matrices in units where S = I.

        The sum of K independent Wishart matrices of one scale is Wishart, so that a sweep does not
        draw each of them. In float64 throughout, because B may be nearly singular.
        """
        K, D = self._components, self._factor.shape[-1]
        h, floor = self._inverse_scale * np.eye(D), self._floor * np.eye(D)
        B = _square(_wishart_roots(rng, self._scale_df, np.broadcast_to(h, (n, D, D))))
        for _ in range(math.ceil(_RELATIVE_SWEEPS * K * self._df / self._scale_df)):
            total = _square(_wishart_roots(rng, K * self._df, B + floor))
            B = _square(_wishart_roots(rng, self._posterior_df, total + h))
        return _wishart_roots(rng, self._df, np.repeat((B + floor)[:, np.newaxis], K, axis=1))


def _wishart_roots(rng: np.random.Generator, df: float, inverse_scale: np.ndarray) -> np.ndarray:
    """Draw R with R R^T ~ W(df, inverse scale), by Bartlett's decomposition: both [..., D, D]."""
    D = inverse_scale.shape[-1]
    standard = np.tril(rng.standard_normal(inverse_scale.shape), -1)
    i = np.arange(D)
    standard[..., i, i] = np.sqrt(rng.chisquare(df - i, inverse_scale.shape[:-1]))
    root = np.linalg.cholesky(inverse_scale)
    return np.linalg.solve(root.swapaxes(-1, -2), standard)


def _square(root: np.ndarray) -> np.ndarray:
    return root @ root.swapaxes(-1, -2)
