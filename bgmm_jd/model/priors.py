"""Priors as TFP coroutines: the published one, and one with stick-breaking weights."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.backend.startup_log import start_tensorflow
from bgmm_jd.data.validation import as_count
from bgmm_jd.distributions.stick_breaking import StickBreaking, dirichlet_process
from bgmm_jd.model.covariance_forms import (
    MATRIX_FORMS,
    CovarianceForm,
    check_covariance,
    scale_shape,
)
from bgmm_jd.model.covariances import diagonal_matrices


@dataclass(frozen=True, kw_only=True)
class PriorArguments:
    """The arguments of `mixture_prior` or `stick_breaking_prior`, checked, broadcast and hashable.

    mean_loc, mean_scale, concentration, rate, weight_concentration : float64 arrays, as bytes.
    weights_shape : of the concentration of the weights: [K], or [K - 1, 2] of broken sticks.
    covariance : the form of the components' covariances.
    shape : (K, D)
    dtype : the name of the prior's dtype.
    """

    mean_loc: bytes
    mean_scale: bytes
    concentration: bytes
    rate: bytes
    weight_concentration: bytes
    weights_shape: tuple[int, ...]
    covariance: str
    shape: tuple[int, int]
    dtype: str


@dataclass(frozen=True, eq=False)
class IndependentVariables:
    """The coroutine of a prior whose variables are independent, which knows how it was made.

    arguments : what the prior is made of again, in another process. It is found at `prior.model`.
    members : the distributions that are yielded.
    """

    arguments: Any
    members: tuple[tfd.Distribution, ...]

    @property
    def variables(self) -> tuple[tf.Variable, ...]:
        """Return the TensorFlow variables that the members read."""
        return tuple(v for member in self.members for v in member.variables)

    def __call__(self) -> Iterator[Any]:
        """Yield each variable's distribution."""
        for member in self.members:
            yield tfd.JointDistributionCoroutine.Root(member)


@runs_tensorflow
def mixture_prior(
    K: int,
    D: int,
    *,
    covariance: CovarianceForm = "diag",
    mean_loc: Any = 0.0,
    mean_scale: Any = 1.0,
    precision_concentration: Any = 5.0,
    precision_rate: Any = 5.0,
    weight_concentration: Any = 2.0,
    dtype: Any = "float32",
) -> tfd.JointDistributionCoroutine:
    """Make the prior of a Gaussian mixture with K components in D dimensions.

    ::

        weights      ~ Dirichlet(weight_concentration)                    [K]
        means[k, d]  ~ Normal(mean_loc, mean_scale)                       [K, D]
        precisions   ~ Gamma(a, b)              "diag": [K, D], "spherical": [K, 1]
                     ~ Wishart(2 a + D - 1, diag(1 / (2 b)))
                                                "full": [K, D, D], "tied": [D, D]

    with a = `precision_concentration` and b = `precision_rate`. Under the Wishart distribution the
    inverse of each feature's variance has the same Gamma(a, b) distribution as in the other forms
    (Muirhead 1982, *Aspects of multivariate statistical theory*, theorem 3.2.10), so that the
    arguments mean the same in each form.

    The default values are those of the published example from which this library grew. They suit
    data whose columns have a mean near 0 and a standard deviation of about 1 to 3, and are not
    scaled to other data. `fit` without a prior uses one that is, which for "diag" is that of
    `mean_loc=X.mean(axis=0)`, `mean_scale=2 * X.std(axis=0)`, `precision_concentration=1.5`,
    `precision_rate=0.25 * K ** (-2 / D) * X.var(axis=0)` and `weight_concentration=2`, with mean
    and variance of the rows that are not far from the others: `bgmm_jd.default_prior` returns it.

    Parameters
    ----------
    K, D : int
        Numbers of components and of features.
    covariance : {"diag", "full", "tied", "spherical"}
        The form of the components' covariances: a variance for each feature, a matrix for each
        component, one matrix for all components, one variance for each component.
    mean_loc, mean_scale : float or array, broadcast to [K, D]
        In the units of X.
    precision_concentration, precision_rate : float or array
        Shape (no unit) and rate (squared units of X) of the inverse variances, broadcast to
        [K, D] ("diag") or [K, 1] ("spherical"); to [K] and [K, D] ("full"), [] and [D] ("tied").
    weight_concentration : float or array, broadcast to [K]
    dtype : {"float32", "float64"}

    Returns
    -------
    tfd.JointDistributionCoroutine
        Equal arguments give the same object, so that fits under it share one compiled program.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range or does not broadcast.
    """
    K = as_count(K, "K")
    arguments = PriorArguments(
        weight_concentration=_as_hashable(weight_concentration, "weight_concentration", (K,)),
        weights_shape=(K,),
        **_component_arguments(
            K, D, covariance, mean_loc, mean_scale, precision_concentration, precision_rate, dtype
        ),
    )
    return prior_of_arguments(arguments)


@runs_tensorflow
def stick_breaking_prior(
    K_max: int,
    D: int,
    *,
    concentration: float = 1.0,
    covariance: CovarianceForm = "diag",
    mean_loc: Any = 0.0,
    mean_scale: Any = 1.0,
    precision_concentration: Any = 5.0,
    precision_rate: Any = 5.0,
    dtype: Any = "float32",
) -> tfd.JointDistributionCoroutine:
    """Make the prior of a mixture with as many components as the data need, at most K_max.

    It is that of `mixture_prior`, but with the weights of a Dirichlet process truncated to K_max
    components (Ishwaran and James 2001, *Gibbs sampling methods for stick-breaking priors*)::

        v[k] ~ Beta(1, concentration),    weights[k] = v[k] prod_{j < k} (1 - v[j])

    and the remainder for the last component. `occupied_components` counts the components that hold
    rows. A sparse Dirichlet distribution, such as
    `mixture_prior(K_max, D, weight_concentration=0.01)`, is another prior that empties superfluous
    components.

    Parameters
    ----------
    K_max : int
        At least 1. The cost of a fit grows with it.
    D : int
        Number of features.
    concentration : float, positive
        The smaller, the fewer components: a priori about concentration * log(N) of them hold rows.
        Above 0.1 the most probable number is easily one too large, because a component that takes
        a few rows of a large cluster costs little. For a concentration with a prior of its own,
        `alpha` say, write a coroutine that yields
        `bgmm_jd.StickBreaking(bgmm_jd.dirichlet_process(K_max, alpha), name="weights")`.
    covariance, mean_loc, mean_scale, precision_concentration, precision_rate, dtype
        As in `mixture_prior`.

    Returns
    -------
    tfd.JointDistributionCoroutine
        Equal arguments give the same object, so that fits under it share one compiled program.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of its range or does not broadcast.
    """
    K = as_count(K_max, "K_max")
    _as_hashable(concentration, "concentration", ())
    start_tensorflow()
    arguments = PriorArguments(
        weight_concentration=dirichlet_process(K, np.float64(concentration)).numpy().tobytes(),
        weights_shape=(K - 1, 2),
        **_component_arguments(
            K, D, covariance, mean_loc, mean_scale, precision_concentration, precision_rate, dtype
        ),
    )
    return prior_of_arguments(arguments)


def _component_arguments(
    K: int,
    D: Any,
    covariance: str,
    mean_loc: Any,
    mean_scale: Any,
    precision_concentration: Any,
    precision_rate: Any,
    dtype: Any,
) -> dict[str, Any]:
    """Check and broadcast the arguments of means and precisions, and make them hashable."""
    D = as_count(D, "D")
    check_covariance(covariance)
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    shape = scale_shape(covariance, K, D)
    has_matrices = covariance in MATRIX_FORMS
    if has_matrices and np.min(precision_concentration) < 0.5:
        raise ValueError(
            f"precision_concentration must be at least 0.5 for covariance={covariance!r}, because "
            f"a Wishart distribution has at least D degrees of freedom; got "
            f"{precision_concentration}."
        )
    concentration_shape, rate_shape = (shape[:-2], shape[:-1]) if has_matrices else (shape, shape)
    return {
        "mean_loc": _as_hashable(mean_loc, "mean_loc", (K, D), positive=False),
        "mean_scale": _as_hashable(mean_scale, "mean_scale", (K, D)),
        "concentration": _as_hashable(
            precision_concentration, "precision_concentration", concentration_shape
        ),
        "rate": _as_hashable(precision_rate, "precision_rate", rate_shape),
        "covariance": covariance,
        "shape": (K, D),
        "dtype": kind.name,
    }


def _as_hashable(value: Any, name: str, shape: tuple[int, ...], positive: bool = True) -> bytes:
    """Return an argument broadcast to its shape, as the bytes of a float64 array."""
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number or an array of them; got {value!r}.") from None
    try:
        full = np.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} must broadcast to shape {list(shape)}; got shape {list(array.shape)}."
        ) from None
    if not np.isfinite(full).all() or (positive and (full <= 0).any()):
        raise ValueError(
            f"{name} must be finite{' and positive' if positive else ''}; got {value}."
        )
    return full.tobytes()


@functools.lru_cache(maxsize=64)
def prior_of_arguments(arguments: PriorArguments) -> tfd.JointDistributionCoroutine:
    """Return the prior of `mixture_prior` or `stick_breaking_prior` with these arguments."""
    start_tensorflow()
    shape, dtype = arguments.shape, arguments.dtype

    def array(value: bytes, shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(value).reshape(shape).astype(dtype)

    concentration = array(arguments.weight_concentration, arguments.weights_shape)
    loc, scale = array(arguments.mean_loc, shape), array(arguments.mean_scale, shape)
    members = (
        weights_prior(concentration, shape[0]),
        tfd.Independent(tfd.Normal(loc, scale), 2, name="means"),
        _precisions_prior(
            arguments.concentration, arguments.rate, arguments.covariance, shape, dtype
        ),
    )
    return tfd.JointDistributionCoroutine(IndependentVariables(arguments, members))


def weights_prior(concentration: np.ndarray, K: int) -> tfd.Distribution:
    """Make the prior of the weights: Dirichlet [K], or broken sticks [K - 1, 2]."""
    if K == 1:  # TFP's Dirichlet distribution needs at least two components
        one = np.ones(1, concentration.dtype)
        return tfd.Independent(tfd.Deterministic(one), 1, name="weights")
    if concentration.ndim == 2:
        return StickBreaking(concentration, name="weights")
    return tfd.Dirichlet(concentration, name="weights")


def _precisions_prior(
    concentration: bytes, rate: bytes, covariance: str, shape: tuple[int, int], dtype: str
) -> tfd.Distribution:
    D = shape[1]
    own_shape = scale_shape(covariance, *shape)
    a, b = np.frombuffer(concentration), np.frombuffer(rate)
    if covariance not in MATRIX_FORMS:
        gamma = tfd.Gamma(a.reshape(own_shape).astype(dtype), b.reshape(own_shape).astype(dtype))
        return tfd.Independent(gamma, 2, name="precisions")
    df = (2.0 * a + D - 1.0).reshape(own_shape[:-2]).astype(dtype)
    diagonal = np.sqrt(0.5 / b).reshape(own_shape[:-1])
    cholesky = diagonal_matrices(diagonal).astype(dtype)
    return tfd.Independent(tfd.WishartTriL(df, cholesky), len(own_shape) - 2, name="precisions")
