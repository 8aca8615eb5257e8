"""The default prior: weakly informative, and in the units of the rows."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.startup_log import start_tensorflow
from bgmm_jd.data.units import Standardization, identity_standardization
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.model.covariance_forms import CovarianceForm, scale_shape
from bgmm_jd.model.priors import IndependentVariables, weights_prior
from bgmm_jd.settings import DefaultPriorSettings


@dataclass(frozen=True, kw_only=True)
class WeaklyInformativeArguments:
    """The arguments of `weakly_informative_prior`, checked and hashable.

    shift, scale, scatter : float64 arrays as bytes; of a diagonal matrix, its diagonal.
    share : K^(-2/D), with D the number of features that are not constant.
    """

    K: int
    D: int
    covariance: CovarianceForm
    dtype: str
    shift: bytes
    scale: bytes
    scatter: bytes
    share: float
    settings: DefaultPriorSettings


def weakly_informative_prior(
    K: int,
    D: int,
    covariance: CovarianceForm,
    dtype: Any,
    standardization: Standardization | None = None,
    means_scatter: Any = None,
    informative: int | None = None,
    settings: DefaultPriorSettings | None = None,
) -> tfd.JointDistributionCoroutine:
    """Make the prior of a fit that is given none: weakly informative, and scaled to the data.

    With S the scatter of the rows, m their location and s[d]^2 the diagonal of S::

        weights         ~ Dirichlet(2)
        means[k]        ~ N(m, 16 S)                                   "full"
                        ~ N(m, 4 S)                                    "tied"
        means[k,d]      ~ N(m[d], 4 s[d]^2)                            "diag", "spherical"
        precisions      ~ ExchangeableWishart: see below               "full"
                        ~ W(D + 2, inverse scale K^(-2/D) S)           "tied"
        precisions[k,d] ~ Gamma(1.5, rate 0.25 K^(-2/D) s[d]^2)        "diag", "spherical"

    K^(-2/D) S is the covariance of components that together have the volume of the data (Fraley and
    Raftery 2007, *Bayesian regularization for normal mixture estimation and model-based
    clustering*, section 3). How much thinner than that clusters are differs between data sets. The
    form "full" therefore learns their common scale matrix B::

        B ~ W(D, inverse scale D / 4 S^-1),    precisions[k] | B ~ W(D + 4, inverse scale B)

    with B integrated out, times a factor that bounds the density for components on tied rows: see
    `ExchangeableWishart`. For K = 1 it is a matrix beta distribution of the second kind, with
    heavier tails than a Wishart of the same mean.

    An affine change of the data changes every quantity with it, as far as S follows it. The values
    are those of `DefaultPriorSettings`, with their reasons.

    Parameters
    ----------
    K, D : int
        Numbers of components and of features.
    covariance : {"diag", "full", "tied", "spherical"}
        The form of the components' covariances.
    dtype : {"float32", "float64"}
    standardization : Standardization, optional
        `shift` [D] is m. `scale` is s [D], or an upper triangular matrix [D, D] with a positive
        diagonal and S = scale scale^T ("full" and "tied"); for "spherical" all scales are equal. By
        default m = 0 and S = I, the prior for standardised data.
    means_scatter : array [D, D] or [D], optional
        M in standardised units, where S = I: the means have the covariance matrix 16 (or 4) times
        scale M scale^T. A vector is the diagonal of M; a matrix is for "full" and "tied". By
        default the identity matrix.
    informative : int, optional
        Number of features that are not constant, the D of K^(-2/D); by default all.
    settings : DefaultPriorSettings, optional

    Returns
    -------
    tfd.JointDistributionCoroutine
        In the units of X; without `standardization`, in standardised units. Equal arguments give
        the same object.
    """
    shift, scale, _ = identity_standardization(D) if standardization is None else standardization
    scatter = np.ones(D) if means_scatter is None else np.asarray(means_scatter, np.float64)
    arguments = WeaklyInformativeArguments(
        K=K,
        D=D,
        covariance=covariance,
        dtype=np.dtype(dtype).name,
        shift=np.asarray(shift, np.float64).tobytes(),
        scale=_diagonal_of(np.asarray(scale, np.float64)).tobytes(),
        scatter=_diagonal_of(scatter).tobytes(),
        share=K ** (-2.0 / (informative or D)),
        settings=settings or DefaultPriorSettings(),
    )
    return weakly_informative_prior_of(arguments)


def _diagonal_of(matrix: np.ndarray) -> np.ndarray:
    """Return the diagonal of a diagonal matrix, and any other array as it is."""
    if matrix.ndim < 2:
        return matrix
    diagonal = np.diag(matrix)
    return diagonal if np.array_equal(matrix, np.diag(diagonal)) else matrix


@functools.lru_cache(maxsize=64)
def weakly_informative_prior_of(
    arguments: WeaklyInformativeArguments,
) -> tfd.JointDistributionCoroutine:
    """Return the prior of `weakly_informative_prior` with these arguments."""
    start_tensorflow()
    K, D, dtype, settings = arguments.K, arguments.D, arguments.dtype, arguments.settings
    covariance = arguments.covariance
    factor, M = _vector_or_matrix(arguments.scale, D), _vector_or_matrix(arguments.scatter, D)
    variance = settings.means_variance if covariance == "full" else settings.shared_means_variance
    members = (
        weights_prior(np.full(K, settings.weight_concentration, dtype), K),
        _default_means(K, np.frombuffer(arguments.shift), factor, variance * M, dtype),
        _default_precisions(K, D, covariance, factor, arguments.share, dtype, settings),
    )
    return tfd.JointDistributionCoroutine(IndependentVariables(arguments, members))


def _vector_or_matrix(value: bytes, D: int) -> np.ndarray:
    """Return the float64 array [D] or [D, D] that was made hashable."""
    array = np.frombuffer(value)
    return array if len(array) == D else array.reshape(D, D)


def _default_means(
    K: int, shift: np.ndarray, factor: np.ndarray, M: np.ndarray, dtype: str
) -> tfd.Distribution:
    """Make N(shift, F M F^T) for each component; F and M may be given by their diagonals."""
    loc = np.broadcast_to(shift, (K, len(shift))).astype(dtype)
    if factor.ndim == M.ndim == 1:
        normal = tfd.Normal(loc, (factor * np.sqrt(M)).astype(dtype))
        return tfd.Independent(normal, 2, name="means")
    F = _as_matrix(factor)
    cholesky = np.linalg.cholesky(F @ _as_matrix(M) @ F.T)
    normal = tfd.MultivariateNormalTriL(loc, cholesky.astype(dtype))
    return tfd.Independent(normal, 1, name="means")


def _default_precisions(
    K: int,
    D: int,
    covariance: CovarianceForm,
    factor: np.ndarray,
    share: float,
    dtype: str,
    settings: DefaultPriorSettings,
) -> tfd.Distribution:
    """Make the default prior of the precisions in the units of S = F F^T.

    Parameters
    ----------
    share : K^(-2/D), the scale of components that together have the volume of the data.
    """
    if covariance == "full":
        return ExchangeableWishart(
            K,
            _as_matrix(factor).astype(dtype),
            df=D + settings.excess_df,
            scale_df=D,
            scale_mean=settings.scale_mean,
            floor=settings.floor * share,
            name="precisions",
        )
    if covariance == "tied":
        # The scale matrix is (share F F^T)^-1, and F^-T is lower triangular as F is upper.
        cholesky = np.linalg.inv(_as_matrix(factor)).T / np.sqrt(share)
        df = np.asarray(D + settings.tied_excess_df, dtype)
        return tfd.WishartTriL(df, cholesky.astype(dtype), name="precisions")
    shape = scale_shape(covariance, K, D)
    rate = np.broadcast_to(settings.precision_rate * share * factor[: shape[-1]] ** 2, shape)
    concentration = np.full(shape, settings.precision_concentration, dtype)
    return tfd.Independent(tfd.Gamma(concentration, rate.astype(dtype)), 2, name="precisions")


def _as_matrix(factor: np.ndarray) -> np.ndarray:
    return np.diag(factor) if factor.ndim == 1 else factor
