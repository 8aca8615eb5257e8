"""From the mean-field surrogate to a normal distribution with the posterior's own dependence.

A mean-field posterior is too narrow where parameters depend on each other. What it lacks is in
the curvature of the log joint density. Here a normal distribution N(m, C) in unconstrained
coordinates takes steps of the fixed point of variational inference with a full covariance,

    C^-1  <-  -E[Hessian of log joint],        m  <-  m + C E[gradient of log joint]

(Opper and Archambeau 2009, section 2). The first step, from the mean-field surrogate, is a form
of linear response (Giordano, Broderick and Jordan 2018).

The Hessian is averaged over the distribution anyway, so its columns are differences of gradients
at one standard deviation to either side: exact for a quadratic, with no second derivatives to
compile, and in float32 no digits are lost.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled, map_chunks
from bgmm_jd.data.rows import Rows
from bgmm_jd.data.units import Standardization
from bgmm_jd.variational.approximation import MultivariateNormal
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.log_joint import log_joint
from bgmm_jd.variational.structure import Model

# Draws that a step averages the curvature over, half of them mirror images of the others; each
# takes 2 P gradients. As many as keep its noise small, but never fewer than 8, nor than 32 where
# these are cheap: noise is not always what it looks like.
_FEWEST_DRAWS, _FEWEST_CHEAP, _MOST_DRAWS = 8, 32, 128
_CHEAP_GRADIENTS = 2**11
MOST_GRADIENTS = 2**15
# Draws that the gradient itself is averaged over, one gradient each.
MEAN_DRAWS = 256
_MOST_STEPS = 6
# A change is the last one if the variance that it gives to log weights, in nats^2, is less than
# this, and that of each direction less than that: an sd is then right to 8 %.
_SETTLED, _SETTLED_BY_ONE = 0.2, 0.0125
_QUIET = 0.05  # the variance that noise may give
# Of the new precision, in units of the old: a step at most doubles or halves an sd, and moves the
# mean by at most two sds. Far from a normal posterior longer ones leave it for good.
_LEAST_CURVATURE, _MOST_CURVATURE = 0.25, 4.0
_LONGEST_SHIFT = 2.0
_FLATTEST = 0.01


# Points [S, G, P] -> gradients of log joint [S, G, P]; what is not among the P coordinates is the
# same for the G points of each draw.
Gradient = Callable[[np.ndarray], np.ndarray]


@functools.lru_cache(maxsize=32)
def _program(
    model: Model, rows: int, use_statistics: bool, execution: str
) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def gradient(points: tf.Tensor, rows: Rows, units: Standardization) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(points)
            theta, volume = unflatten(model.sites, points, units)
            density = log_joint(model, theta, units, rows, use_statistics=use_statistics) + volume
        return tape.gradient(density, points)

    return compiled(gradient, execution)


def gradient_of_log_joint(
    model: Model,
    rows: Rows,
    units: Standardization,
    points_at_once: int,
    use_statistics: bool,
    execution: str,
) -> Gradient:
    """The gradient of the log joint density of all rows, in unconstrained coordinates.

    Parameters
    ----------
    expanded : whether the likelihood may be a matrix product: see `quadratic`.
    """
    program = _program(model, len(rows.values), use_statistics, execution)
    dtype = rows.values.dtype.as_numpy_dtype

    def gradient(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, points.shape[-1]).astype(dtype)
        found = map_chunks(lambda part: program(part, rows, units), flat, points_at_once)
        return found.astype(np.float64).reshape(points.shape)

    return gradient


def fit_normal(
    gradient: Gradient,
    start: MultivariateNormal,
    rng: np.random.Generator,
    most_gradients: int = MOST_GRADIENTS,
) -> MultivariateNormal:
    """Move a normal distribution to the posterior's location and dependence.

    Parameters
    ----------
    start : its factor may be diagonal, as a mean-field surrogate's is.
    most_gradients : of a step's curvature; the fewest draws there can be may take more.
    """
    fewest, most = _limits(len(start.mean), most_gradients)
    normal, draws = start, fewest
    for _ in range(_MOST_STEPS):
        curvature = _curvature(gradient, normal, draws, rng)
        slope = _slope(gradient, normal, MEAN_DRAWS, rng)
        if not (np.isfinite(curvature.value).all() and np.isfinite(slope.value).all()):
            break  # the normal reaches out of the dtype's range: the weights will tell how bad
        moved, changes = _take_step(normal, curvature.value, slope.value)
        if not np.isfinite(moved.factor).all():
            break
        normal, wanted = moved, draws * curvature.noise / _QUIET
        settled = changes.sum() < _SETTLED and changes.max() < _SETTLED_BY_ONE
        # A step knows the noise of its own draws and of those before.
        noise = 4.0 * (curvature.noise + slope.noise)
        if settled or (changes.sum() < noise and draws == most):
            break
        draws = 2 * (int(np.clip(wanted, fewest, most)) // 2)
    return normal


class Estimate(NamedTuple):
    """An average over a normal distribution, in coordinates where that is standard normal.

    value : of minus the Hessian [P, P], or of the gradient [P].
    noise : the variance of log weights, in nats^2, that comes of its error.
    """

    value: np.ndarray
    noise: float


def _curvature(
    gradient: Gradient, normal: MultivariateNormal, draws: int, rng: np.random.Generator
) -> Estimate:
    """An error E of C^-1 adds z^T E z / 2 to log weights, whose variance is |E|^2 / 2."""
    P = len(normal.mean)
    centres = _antithetic_normals(draws, P, rng)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    slope = _whitened_gradient(gradient, normal, centres[:, np.newaxis] + sides)
    found = _average((slope[:, P:] - slope[:, :P]) / 2.0)
    return Estimate((found.value + found.value.T) / 2.0, found.noise / 2.0)


def _slope(
    gradient: Gradient, normal: MultivariateNormal, draws: int, rng: np.random.Generator
) -> Estimate:
    """An error e of it moves the mean, and adds z^T e, whose variance is |e|^2."""
    points = _antithetic_normals(draws, len(normal.mean), rng)[:, np.newaxis]
    return _average(_whitened_gradient(gradient, normal, points)[:, 0])


def _average(draws: np.ndarray) -> Estimate:
    """Over [draws, ...] in mirrored pairs, and the expected square of its error."""
    half = len(draws) // 2
    pairs = (draws[:half] + draws[half:]) / 2.0
    return Estimate(pairs.mean(axis=0), pairs.var(axis=0, ddof=1).sum() / half)


def _antithetic_normals(draws: int, P: int, rng: np.random.Generator) -> np.ndarray:
    half = rng.standard_normal((draws // 2, P))
    return np.concatenate([half, -half])


def _whitened_gradient(
    gradient: Gradient, normal: MultivariateNormal, whitened: np.ndarray
) -> np.ndarray:
    return gradient(normal.mean + whitened @ normal.factor.T) @ normal.factor


def _limits(P: int, most_gradients: int) -> tuple[int, int]:
    """The fewest and the most draws of the curvature, even numbers."""
    most = np.clip(most_gradients // (2 * P), _FEWEST_DRAWS, _MOST_DRAWS)
    cheap = np.clip(_CHEAP_GRADIENTS // (2 * P), _FEWEST_DRAWS, _FEWEST_CHEAP)
    return 2 * (int(min(cheap, most)) // 2), 2 * (int(most) // 2)


def _take_step(
    normal: MultivariateNormal, curvature: np.ndarray, slope: np.ndarray
) -> tuple[MultivariateNormal, np.ndarray]:
    """The distribution after a step, and how much it changes in each direction.

    Of C^-1 and of the mean [2 P]: the variance of log weights, in nats^2.
    """
    eigenvalues, vectors = np.linalg.eigh(curvature)
    bounded = np.clip(eigenvalues, _LEAST_CURVATURE, _MOST_CURVATURE)
    root = vectors / np.sqrt(bounded)
    shift = _limit_shift(root @ (root.T @ slope))
    changes = np.concatenate([(eigenvalues - 1.0) ** 2 / 2.0, shift**2])
    return MultivariateNormal(normal.mean + normal.factor @ shift, normal.factor @ root), changes


def _limit_shift(shift: np.ndarray) -> np.ndarray:
    return shift * min(1.0, _LONGEST_SHIFT / max(np.abs(shift).max(), 1e-30))


def normal_from_curvature(
    mean: np.ndarray, sd: np.ndarray, information: np.ndarray
) -> MultivariateNormal:
    """The normal distribution with that curvature at its mean.

    Parameters
    ----------
    mean, sd : [P], of the mean field.
    information : [P, P], minus the second derivatives of the log density in units of `sd`.
    """
    eigenvalues, vectors = np.linalg.eigh(information)
    # No direction is more than ten times wider than the mean field: where the curvature says so,
    # or that there is no maximum, it is not that of a normal distribution.
    bounded = np.maximum(eigenvalues, _FLATTEST)
    return MultivariateNormal(mean, sd[:, np.newaxis] * vectors / np.sqrt(bounded))


def shift_mean(
    gradient: Gradient, normal: MultivariateNormal, draws: int, rng: np.random.Generator
) -> MultivariateNormal:
    """The same distribution after one step of its mean: see the head of this file."""
    shift = _slope(gradient, normal, draws, rng).value
    if not np.isfinite(shift).all():
        return normal
    return normal._replace(mean=normal.mean + normal.factor @ _limit_shift(shift))
