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

from bgmm_jd.compiled import compiled, in_chunks
from bgmm_jd.coordinates import unflatten
from bgmm_jd.objective import Model, log_joint
from bgmm_jd.rows import Rows
from bgmm_jd.units import Units

# Draws that a step averages over, half of them mirror images of the others: of the curvature, where
# each takes 2 P gradients, as many as keep its noise small, within limits; of the gradient itself.
# Where they cost little they are not too few: noise is not always what it looks like.
_FEWEST_DRAWS, _FEWEST_CHEAP, _MOST_DRAWS = 8, 32, 128
_CHEAP_GRADIENTS, _MOST_GRADIENTS = 2**11, 2**15
MEAN_DRAWS = 256
_MOST_STEPS = 6
# The variance of log weights, in nats^2, that a change may have which is the last, and noise.
_SETTLED, _QUIET = 0.2, 0.05
# Of the new precision, in units of the old: a step at most doubles or halves an sd, and moves the
# mean by at most two sds. Far from a normal posterior longer ones leave it for good.
_LEAST_CURVATURE, _MOST_CURVATURE = 0.25, 4.0
_LONGEST_SHIFT = 2.0
_FLATTEST = 0.01


class Normal(NamedTuple):
    """N(mean, factor factor^T) over P unconstrained coordinates: arrays [P] and [P, P]."""

    mean: np.ndarray
    factor: np.ndarray


# Points [S, G, P] -> gradients of log joint [S, G, P]; what is not among the P coordinates is the
# same for the G points of each draw.
Gradient = Callable[[np.ndarray], np.ndarray]


@functools.lru_cache(maxsize=32)
def _program(model: Model, rows: int, expanded: bool, execution: str) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def gradient(points: tf.Tensor, rows: Rows, units: Units) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(points)
            theta, volume = unflatten(model.sites, points, units)
            density = log_joint(model, theta, units, rows, expanded=expanded) + volume
        return tape.gradient(density, points)

    return compiled(gradient, execution)


def gradient_of_log_joint(
    model: Model,
    rows: Rows,
    units: Units,
    points_at_once: int,
    expanded: bool,
    execution: str,
) -> Gradient:
    """The gradient of the log joint density of all rows, in unconstrained coordinates.

    Parameters
    ----------
    expanded : whether the likelihood may be a matrix product: see `quadratic`.
    """
    program = _program(model, len(rows.values), expanded, execution)
    dtype = rows.values.dtype.as_numpy_dtype

    def gradient(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, points.shape[-1]).astype(dtype)
        found = in_chunks(lambda part: program(part, rows, units), flat, points_at_once)
        return found.astype(np.float64).reshape(points.shape)

    return gradient


def calibrate(gradient: Gradient, start: Normal, rng: np.random.Generator) -> Normal:
    """Move a normal distribution to the posterior's location and dependence.

    Parameters
    ----------
    start : its factor may be diagonal, as a mean-field surrogate's is.
    """
    normal, draws = start, _FEWEST_DRAWS
    for _ in range(_MOST_STEPS):
        found = _curvature(gradient, normal, draws, rng)
        slope = _slope(gradient, normal, MEAN_DRAWS, rng)
        if not (np.isfinite(found.mean).all() and np.isfinite(slope).all()):
            break  # the normal reaches out of the dtype's range: the weights will tell how bad
        moved, change = _moved(normal, found.mean, slope)
        if not np.isfinite(moved.factor).all():
            break
        normal, before = moved, draws
        draws = _draws(draws * found.noise, len(normal.mean))
        # A step knows the noise of its own draws and of those before.
        only_noise = change < 4.0 * found.noise and draws <= before
        if change < _SETTLED or only_noise:
            break
    return normal


class Curvature(NamedTuple):
    """Minus the Hessian of the log density, averaged over a normal distribution that is 1 there.

    mean [P, P]
    noise : half the expected square of the error of all its entries: the variance of log weights
        that comes of it, in nats^2.
    """

    mean: np.ndarray
    noise: float


def _curvature(
    gradient: Gradient, normal: Normal, draws: int, rng: np.random.Generator
) -> Curvature:
    """In coordinates where the distribution is standard normal."""
    P = len(normal.mean)
    centres = _mirrored(draws, P, rng)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    slope = _at(gradient, normal, centres[:, np.newaxis] + sides)
    each = (slope[:, P:] - slope[:, :P]) / 2.0
    pairs = (each[: draws // 2] + each[draws // 2 :]) / 2.0
    pairs = (pairs + pairs.swapaxes(-1, -2)) / 2.0
    noise = pairs.var(axis=0, ddof=1).sum() / len(pairs)
    return Curvature(pairs.mean(axis=0), noise / 2.0)


def _slope(gradient: Gradient, normal: Normal, draws: int, rng: np.random.Generator) -> np.ndarray:
    """The mean gradient [P], in the same coordinates."""
    points = _mirrored(draws, len(normal.mean), rng)[:, np.newaxis]
    return _at(gradient, normal, points).mean(axis=(0, 1))


def _mirrored(draws: int, P: int, rng: np.random.Generator) -> np.ndarray:
    half = rng.standard_normal((draws // 2, P))
    return np.concatenate([half, -half])


def _at(gradient: Gradient, normal: Normal, whitened: np.ndarray) -> np.ndarray:
    return gradient(normal.mean + whitened @ normal.factor.T) @ normal.factor


def _draws(by_one: float, P: int) -> int:
    """As many as keep the noise of the curvature small, if one draw has that much; even."""
    fewest = np.clip(_CHEAP_GRADIENTS // (2 * P), _FEWEST_DRAWS, _FEWEST_CHEAP)
    most = np.clip(_MOST_GRADIENTS // (2 * P), _FEWEST_DRAWS, _MOST_DRAWS)
    return 2 * (int(np.clip(by_one / _QUIET, fewest, most)) // 2)


def _moved(normal: Normal, curvature: np.ndarray, slope: np.ndarray) -> tuple[Normal, float]:
    """The distribution after a step, and how much of a change it is, in nats^2 of log weights."""
    eigenvalues, vectors = np.linalg.eigh(curvature)
    bounded = np.clip(eigenvalues, _LEAST_CURVATURE, _MOST_CURVATURE)
    root = vectors / np.sqrt(bounded)
    shift = root @ (root.T @ slope)
    shift *= min(1.0, _LONGEST_SHIFT / max(np.abs(shift).max(), 1e-30))
    change = ((eigenvalues - 1.0) ** 2).sum() / 2.0 + (shift**2).sum()
    return Normal(normal.mean + normal.factor @ shift, normal.factor @ root), float(change)


def normal_of(mean: np.ndarray, sd: np.ndarray, information: np.ndarray) -> Normal:
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
    return Normal(mean, sd[:, np.newaxis] * vectors / np.sqrt(bounded))


def shifted(gradient: Gradient, normal: Normal, draws: int, rng: np.random.Generator) -> Normal:
    """The same distribution after one step of its mean: see the head of this file."""
    shift = _slope(gradient, normal, draws, rng)
    if not np.isfinite(shift).all():
        return normal
    shift *= min(1.0, _LONGEST_SHIFT / max(np.abs(shift).max(), 1e-30))
    return normal._replace(mean=normal.mean + normal.factor @ shift)
