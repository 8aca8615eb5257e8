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

# Draws that each step averages over, half of them the mirror images of the others. The first
# steps only have to come near; the last ones decide how well the weights behave.
CALIBRATION_DRAWS = (8, 16, 32, 32, 32)
# A step that changes no direction's precision by more than this factor, and the mean by no more
# than this in sds, is the last.
_SETTLED = 0.1
# Of the new precision, in units of the old: a step at most doubles or halves an sd, and moves the
# mean by at most two sds. Far from a normal posterior longer ones leave it for good.
_LEAST_CURVATURE, _MOST_CURVATURE = 0.25, 4.0
_LONGEST_SHIFT = 2.0
_FLATTEST = 0.01


class Normal(NamedTuple):
    """N(mean, factor factor^T) over P unconstrained coordinates: arrays [P] and [P, P]."""

    mean: np.ndarray
    factor: np.ndarray


Gradient = Callable[[np.ndarray], np.ndarray]  # points [S, P] -> gradients of log joint [S, P]


@functools.lru_cache(maxsize=32)
def _program(model: Model, rows: int, execution: str) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def gradient(points: tf.Tensor, rows: Rows, units: Units) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(points)
            theta, volume = unflatten(model.sites, points, units)
            density = log_joint(model, theta, units, rows) + volume
        return tape.gradient(density, points)

    return compiled(gradient, execution)


def gradient_of_log_joint(
    model: Model,
    rows: Rows,
    units: Units,
    points_at_once: int,
    execution: str,
) -> Gradient:
    """The gradient of the log joint density of all rows, in unconstrained coordinates."""
    program = _program(model, len(rows.values), execution)
    dtype = rows.values.dtype.as_numpy_dtype

    def gradient(points: np.ndarray) -> np.ndarray:
        found = in_chunks(
            lambda part: program(part, rows, units), points.astype(dtype), points_at_once
        )
        return found.astype(np.float64)

    return gradient


def calibrate(gradient: Gradient, start: Normal, rng: np.random.Generator) -> Normal:
    """Move a normal distribution to the posterior's location and dependence.

    Parameters
    ----------
    start : its factor may be diagonal, as a mean-field surrogate's is.
    """
    normal = start
    for draws in CALIBRATION_DRAWS:
        points = _points(normal, draws, rng)
        slope = gradient(points)
        if not np.isfinite(slope).all():
            break  # the normal reaches out of the dtype's range: the weights will tell how bad
        moved, settled = _step(normal, slope.reshape(draws, 2, *normal.factor.shape))
        if not np.isfinite(moved.factor).all():
            break
        normal = moved
        if settled:
            break
    return normal


def _points(normal: Normal, draws: int, rng: np.random.Generator) -> np.ndarray:
    """One sd to either side along each axis of mirrored draws: [draws * 2 * P, P]."""
    P = len(normal.mean)
    half = rng.standard_normal((draws // 2, P))
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    whitened = np.concatenate([half, -half])[:, np.newaxis] + sides
    return normal.mean + whitened.reshape(-1, P) @ normal.factor.T


def _step(normal: Normal, slope: np.ndarray) -> tuple[Normal, bool]:
    """One step, in coordinates where the old distribution is standard normal.

    Parameters
    ----------
    slope : [draws, 2, P, P], the gradient at each draw, side and axis.
    """
    slope = slope @ normal.factor
    curvature = (slope[:, 1] - slope[:, 0]).mean(axis=0) / 2.0
    eigenvalues, vectors = np.linalg.eigh((curvature + curvature.T) / 2.0)
    bounded = np.clip(eigenvalues, _LEAST_CURVATURE, _MOST_CURVATURE)
    root = vectors / np.sqrt(bounded)
    shift = root @ (root.T @ slope.mean(axis=(0, 1, 2)))
    shift *= min(1.0, _LONGEST_SHIFT / max(np.abs(shift).max(), 1e-30))
    settled = np.abs(np.log(bounded)).max() < _SETTLED and np.abs(shift).max() < _SETTLED
    return Normal(normal.mean + normal.factor @ shift, normal.factor @ root), bool(settled)


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
    half = rng.standard_normal((draws // 2, len(normal.mean)))
    points = normal.mean + np.concatenate([half, -half]) @ normal.factor.T
    shift = normal.factor.T @ gradient(points).mean(axis=0)
    if not np.isfinite(shift).all():
        return normal
    shift *= min(1.0, _LONGEST_SHIFT / max(np.abs(shift).max(), 1e-30))
    return normal._replace(mean=normal.mean + normal.factor @ shift)
