"""Prior coroutines: the published model's, the default in the data's own units, a user's own."""

import functools
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.data import as_count
from bgmm_jd.native_log import start_tensorflow
from bgmm_jd.units import Units

# The default prior, in units where every column has mean 0 and standard deviation 1.
DEFAULT_MEAN_SCALE = 2.0
DEFAULT_PRECISION_CONCENTRATION = 1.0
DEFAULT_PRECISION_RATE = 0.1
DEFAULT_WEIGHT_CONCENTRATION = 2.0

_PRIOR_DRAWS = 200

_COVARIANCES = ("diag",)


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

        weights           ~ Dirichlet(weight_concentration)                       [K]
        means[k, d]       ~ Normal(mean_loc, mean_scale)                          [K, D]
        precisions[k, d]  ~ Gamma(precision_concentration, precision_rate)        [K, D]

    The default values are those of the published example this library grew from: they suit data
    whose columns have a spread of about 1 to 3 around zero. `fit` without a prior uses values in
    the data's own units instead.

    Parameters
    ----------
    K, D : int
        Numbers of components and of features.
    covariance : {"diag"}
        The form of each component's covariance.
    mean_loc, mean_scale : float or array, broadcast to [K, D]
        In the units of X.
    precision_concentration, precision_rate : float or array, broadcast to [K, D]
        Shape (no unit) and rate (squared units of X) of the precisions, the inverse variances.
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
    K, D = as_count(K, "K"), as_count(D, "D")
    check_covariance(covariance)
    kind = np.dtype(dtype)
    if kind not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64; got {dtype!r}.")
    return _mixture_prior(
        mean_loc=_as_key(mean_loc, "mean_loc", (K, D), positive=False),
        mean_scale=_as_key(mean_scale, "mean_scale", (K, D)),
        concentration=_as_key(precision_concentration, "precision_concentration", (K, D)),
        rate=_as_key(precision_rate, "precision_rate", (K, D)),
        weight_concentration=_as_key(weight_concentration, "weight_concentration", (K,)),
        shape=(K, D),
        dtype=kind.name,
    )


def check_covariance(covariance: str) -> None:
    """Raise unless `covariance` names a form that is known."""
    if covariance not in _COVARIANCES:
        raise ValueError(f"covariance must be one of {_COVARIANCES}; got {covariance!r}.")


def _as_key(value: Any, name: str, shape: tuple[int, ...], positive: bool = True) -> bytes:
    """The argument broadcast to its shape, as a hashable value."""
    array = np.asarray(value, np.float64)
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
    shape: tuple[int, int],
    dtype: str,
) -> tfd.JointDistributionCoroutine:
    start_tensorflow()

    def tensor(key: bytes, shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(key).reshape(shape).astype(dtype)

    weight_c = tensor(weight_concentration, shape[:1])
    loc, scale = tensor(mean_loc, shape), tensor(mean_scale, shape)
    c, r = tensor(concentration, shape), tensor(rate, shape)
    Root = tfd.JointDistributionCoroutine.Root

    def mixture():
        if len(weight_c) > 1:
            yield Root(tfd.Dirichlet(weight_c, name="weights"))
        else:  # of one component: TFP's Dirichlet has at least two
            yield Root(tfd.Independent(tfd.Deterministic(weight_c / weight_c), 1, name="weights"))
        yield Root(tfd.Independent(tfd.Normal(loc, scale), 2, name="means"))
        yield Root(tfd.Independent(tfd.Gamma(c, r), 2, name="precisions"))

    return tfd.JointDistributionCoroutine(mixture)


def default_prior(
    K: int, D: int, covariance: str, dtype: Any, units: Units | None = None
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
        precision_rate=DEFAULT_PRECISION_RATE * K ** (-2.0 / D) * scale**2,
        weight_concentration=DEFAULT_WEIGHT_CONCENTRATION,
        dtype=dtype,
    )


def check_prior(prior: Any, K: int, D: int) -> None:
    """Raise unless `prior` is a coroutine whose variables describe K components in D dimensions.

    Raises
    ------
    TypeError
        If it is not a `tfd.JointDistributionCoroutine`.
    ValueError
        If a variable is missing, or the shape or type of one does not match.
    """
    if not isinstance(prior, tfd.JointDistributionCoroutine):
        raise TypeError(
            f"prior must be a tfd.JointDistributionCoroutine; got {type(prior).__name__}. "
            "bgmm_jd.mixture_prior(K, D) makes one."
        )
    for name, batch_shape in prior.batch_shape._asdict().items():
        if batch_shape != []:
            raise ValueError(
                f"prior's variable '{name}' must have batch shape []; got {batch_shape}. "
                "Wrap its distribution in tfd.Independent or tfd.Sample."
            )
    shapes = variable_shapes(prior)
    spread = [name for name in ("precisions", "scales") if name in shapes]
    missing = [name for name in ("weights", "means") if name not in shapes]
    if missing or len(spread) != 1:
        raise ValueError(
            "prior must have the variables 'weights' [K], 'means' [K, D] and one of 'precisions' "
            f"and 'scales' [K, D]; it has {sorted(shapes)}. name= of a distribution names it."
        )
    for name, expected in (("weights", (K,)), ("means", (K, D)), (spread[0], (K, D))):
        if shapes[name] != expected:
            raise ValueError(
                f"prior's variable '{name}' must have shape {list(expected)} for K={K} and X with "
                f"{D} columns; it has {list(shapes[name])}."
            )
    _check_several_draws(prior)


def _check_several_draws(prior: tfd.JointDistributionCoroutine) -> None:
    """A distribution that depends on another variable must take several draws of it at once."""
    advice = (
        "prior must take several draws at once. Where a distribution depends on a variable v, "
        "give v[..., tf.newaxis] as many new axes as the distribution has of its own."
    )
    try:
        density = prior.log_prob(prior.sample(3, seed=(0, 0)))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(advice) from error
    if density.shape != (3,):
        raise ValueError(f"{advice} The density of 3 draws has shape {list(density.shape)}.")


def variable_shapes(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[int, ...]]:
    """The event shape of each variable, by name, in the coroutine's order."""
    shapes = prior.event_shape_tensor()._asdict()
    return {name: tuple(int(n) for n in tf.get_static_value(s)) for name, s in shapes.items()}


@functools.lru_cache(maxsize=64)
def prior_moments(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[Any, Any]]:
    """Where a variable starts of which the rows say nothing directly: a centre and a spread.

    The prior's median, as heavy tails have no moments, and a tenth of its scaled interquartile
    range: a narrow start widens in a few steps, a wide one may reach where the density is nil.
    """
    draws = prior.sample(_PRIOR_DRAWS, seed=(0, 0))._asdict()
    moments = {}
    for name, values in draws.items():
        low, middle, high = np.quantile(values.numpy(), (0.25, 0.5, 0.75), axis=0)
        moments[name] = (middle, 0.1 * (high - low) / 1.349)
    return moments
