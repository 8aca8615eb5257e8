"""Prior coroutines: the published model's, the default in the data's own units, a user's own."""

import functools
from typing import Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.startup_log import start_tensorflow
from bgmm_jd.data.units import Standardization
from bgmm_jd.data.validation import as_count
from bgmm_jd.distributions.stick_breaking import StickBreaking, dirichlet_process
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, check_covariance, scale_shape

# The default prior, in units where every column has mean 0 and standard deviation 1.
DEFAULT_MEAN_SCALE = 2.0
DEFAULT_PRECISION_CONCENTRATION = 1.0
DEFAULT_PRECISION_RATE = 0.1
DEFAULT_WEIGHT_CONCENTRATION = 2.0


def mixture_prior(
    K: int,
    D: int,
    covariance: str = "diag",
    mean_loc: Any = 0.0,
    mean_scale: Any = 1.0,
    precision_concentration: Any = 5.0,
    precision_rate: Any = 5.0,
    weight_concentration: Any = 2.0,
    dtype: Any = "float32",
) -> tfd.JointDistributionCoroutine:
    """The prior of a Gaussian mixture with K components in D dimensions.

    ::

        weights      ~ Dirichlet(weight_concentration)                    [K]
        means[k, d]  ~ Normal(mean_loc, mean_scale)                       [K, D]
        precisions   ~ Gamma(a, b)              "diag": [K, D], "spherical": [K, 1]
                     ~ Wishart(2 a + D - 1, diag(1 / (2 b)))
                                                "full": [K, D, D], "tied": [D, D]

    with a = `precision_concentration` and b = `precision_rate`. The Wishart distribution gives
    the inverse of each feature's variance the same Gamma(a, b) that it has in the other forms
    (Muirhead 1982, *Aspects of multivariate statistical theory*, theorem 3.2.10), so that the
    arguments mean the same in each form.

    The default values are those of the published example this library grew from: they suit data
    whose columns have a spread of about 1 to 3 around zero, and are not scaled to others. `fit`
    without a prior uses `mean_loc=X.mean(axis=0)`, `mean_scale=2 * X.std(axis=0)`,
    `precision_concentration=1`, `precision_rate=0.1 * K ** (-2 / D) * X.var(axis=0)` and
    `weight_concentration=2`.

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
    return _mixture_prior(
        weight_concentration=_as_key(weight_concentration, "weight_concentration", (K,)),
        weights_shape=(K,),
        **_component_arguments(
            K, D, covariance, mean_loc, mean_scale, precision_concentration, precision_rate, dtype
        ),
    )


def stick_breaking_prior(
    K_max: int,
    D: int,
    concentration: float = 1.0,
    covariance: str = "diag",
    mean_loc: Any = 0.0,
    mean_scale: Any = 1.0,
    precision_concentration: Any = 5.0,
    precision_rate: Any = 5.0,
    dtype: Any = "float32",
) -> tfd.JointDistributionCoroutine:
    """The prior of a mixture of as many components as the data need, at most K_max.

    As `mixture_prior`, with the weights of a Dirichlet process cut off after K_max components
    (Ishwaran and James 2001, *Gibbs sampling methods for stick-breaking priors*)::

        v[k] ~ Beta(1, concentration),    weights[k] = v[k] prod_{j < k} (1 - v[j])

    and what is left for the last. How many components hold rows is told by
    `occupied_components`; a sparse Dirichlet, `mixture_prior(K_max, D, weight_concentration=0.01)`
    say, is another prior that empties the components that are not needed.

    Parameters
    ----------
    K_max : int
        At least 1. The cost grows with it.
    concentration : float, positive
        The smaller, the fewer components: a priori some concentration * log(N) hold rows. With
        more than 0.1 the most probable number is easily one too many, as a component that takes
        a few rows of a large cluster costs little. For one
        with a prior of its own, `alpha` say, write a coroutine that yields
        `StickBreaking(bgmm_jd.sticks.dirichlet_process(K_max, alpha), name="weights")`.

    The other parameters, what is returned and the errors are those of `mixture_prior`.
    """
    K = as_count(K_max, "K_max")
    _as_key(concentration, "concentration", ())
    start_tensorflow()
    return _mixture_prior(
        weight_concentration=dirichlet_process(K, np.float64(concentration)).numpy().tobytes(),
        weights_shape=(K - 1, 2),
        **_component_arguments(
            K, D, covariance, mean_loc, mean_scale, precision_concentration, precision_rate, dtype
        ),
    )


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
    """The arguments that say where the components are, as hashable values."""
    D = as_count(D, "D")
    check_covariance(covariance)
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    spread = scale_shape(covariance, K, D)
    matrices = covariance in MATRIX_FORMS
    if matrices and np.min(precision_concentration) < 0.5:
        raise ValueError(
            f"precision_concentration must be at least 0.5 for covariance={covariance!r}, as a "
            f"Wishart distribution has at least D degrees of freedom; got "
            f"{precision_concentration}."
        )
    by_matrix, by_row = (spread[:-2], spread[:-1]) if matrices else (spread, spread)
    return {
        "mean_loc": _as_key(mean_loc, "mean_loc", (K, D), positive=False),
        "mean_scale": _as_key(mean_scale, "mean_scale", (K, D)),
        "concentration": _as_key(precision_concentration, "precision_concentration", by_matrix),
        "rate": _as_key(precision_rate, "precision_rate", by_row),
        "covariance": covariance,
        "shape": (K, D),
        "dtype": kind.name,
    }


def _as_key(value: Any, name: str, shape: tuple[int, ...], positive: bool = True) -> bytes:
    """The argument broadcast to its shape, as a hashable value."""
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
def _mixture_prior(
    mean_loc: bytes,
    mean_scale: bytes,
    concentration: bytes,
    rate: bytes,
    weight_concentration: bytes,
    weights_shape: tuple[int, ...],
    covariance: str,
    shape: tuple[int, int],
    dtype: str,
) -> tfd.JointDistributionCoroutine:
    start_tensorflow()

    def tensor(key: bytes, shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(key).reshape(shape).astype(dtype)

    weights = _weights_prior(tensor(weight_concentration, weights_shape), shape[0])
    loc, scale = tensor(mean_loc, shape), tensor(mean_scale, shape)
    spread = _precisions_prior(concentration, rate, covariance, shape, dtype)
    Root = tfd.JointDistributionCoroutine.Root

    def mixture():
        yield Root(weights)
        yield Root(tfd.Independent(tfd.Normal(loc, scale), 2, name="means"))
        yield Root(spread)

    return tfd.JointDistributionCoroutine(mixture)


def _weights_prior(concentration: np.ndarray, K: int) -> tfd.Distribution:
    if K == 1:  # TFP's Dirichlet has at least two components
        one = np.ones(1, concentration.dtype)
        return tfd.Independent(tfd.Deterministic(one), 1, name="weights")
    if concentration.ndim == 2:
        return StickBreaking(concentration, name="weights")
    return tfd.Dirichlet(concentration, name="weights")


def _precisions_prior(
    concentration: bytes, rate: bytes, covariance: str, shape: tuple[int, int], dtype: str
) -> tfd.Distribution:
    D = shape[1]
    spread = scale_shape(covariance, *shape)
    a, b = np.frombuffer(concentration), np.frombuffer(rate)
    if covariance not in MATRIX_FORMS:
        gamma = tfd.Gamma(a.reshape(spread).astype(dtype), b.reshape(spread).astype(dtype))
        return tfd.Independent(gamma, 2, name="precisions")
    df = (2.0 * a + D - 1.0).reshape(spread[:-2]).astype(dtype)
    root = np.sqrt(0.5 / b).reshape(spread[:-1])
    tril = (root[..., np.newaxis] * np.eye(D)).astype(dtype)
    return tfd.Independent(tfd.WishartTriL(df, tril), len(spread) - 2, name="precisions")


def default_prior(
    K: int, D: int, covariance: str, dtype: Any, units: Standardization | None = None
) -> tfd.JointDistributionCoroutine:
    """Weakly informative values, in the given units (default: centred and scaled ones).

    Per column, with m and s its mean and standard deviation: component means are within a few s
    of m, and component variances near s^2 / K^(2/D), the volume that each of K clusters has when
    they share the data's. That scaling is the one of Fraley and Raftery (2007), *Bayesian
    regularization for normal mixture estimation and model-based clustering*, section 3; here the
    precision has an exponential law with a tenth of that rate, so that clusters ten times
    narrower are not pulled out by it. Every quantity moves with the data's shift and scale.
    """
    shift, scale = (0.0, 1.0) if units is None else (units.shift, units.scale)
    return mixture_prior(
        K,
        D,
        covariance,
        mean_loc=shift,
        mean_scale=DEFAULT_MEAN_SCALE * scale,
        precision_concentration=DEFAULT_PRECISION_CONCENTRATION,
        precision_rate=DEFAULT_PRECISION_RATE * K ** (-2.0 / D) * _squared_scale(scale, covariance),
        weight_concentration=DEFAULT_WEIGHT_CONCENTRATION,
        dtype=dtype,
    )


def _squared_scale(scale: Any, covariance: str) -> Any:
    """Squares of the units, one for each number that a rate has; spherical has one for all."""
    square = np.square(scale)
    return square[:1] if covariance == "spherical" and np.ndim(square) else square
