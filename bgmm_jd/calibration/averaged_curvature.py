"""Averaged curvature: from the mean field to a normal distribution with the posterior's dependence.

A mean-field posterior is too narrow where parameters depend on each other. What it lacks is in
the curvature of the log joint density. Here a normal distribution N(m, C) in unconstrained
coordinates takes steps of the fixed-point iteration of variational inference with a full
covariance,

    C^-1  <-  -E[Hessian of log joint],        m  <-  m + C E[gradient of log joint]

(Opper and Archambeau 2009, section 2). The first step, from the mean-field surrogate, is a form
of linear response (Giordano, Broderick and Jordan 2018).

Because the Hessian is averaged over the distribution, its columns may be differences of gradients
one standard deviation to either side: exact for a quadratic, without second derivatives to compile,
and without loss of digits in float32.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.settings import CalibrationSettings
from bgmm_jd.variational.approximation import MultivariateNormal, Problem
from bgmm_jd.variational.tempered import TemperedDensity

# Points [S, G, P] -> gradients of log joint [S, G, P]; what is not among the P coordinates is the
# same for the G points of each draw.
Gradient = Callable[[np.ndarray], np.ndarray]


def gradient_of_log_joint(problem: Problem, statistics: tf.DType | None) -> Gradient:
    """Return the gradient of the log joint density of all rows, in unconstrained coordinates.

    Parameters
    ----------
    statistics : as in `TemperedDensity`.
    """
    target = TemperedDensity(problem, statistics=statistics)

    def gradient(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, points.shape[-1])
        slope = target.density(flat).slope
        return slope.reshape(points.shape)

    return gradient


def fit_normal(
    gradient: Gradient,
    start: MultivariateNormal,
    rng: np.random.Generator,
    settings: CalibrationSettings,
    most_gradients: int,
) -> MultivariateNormal:
    """Move a normal distribution to the posterior's location and dependence.

    Parameters
    ----------
    start : its factor may be diagonal, as a mean-field surrogate's is.
    most_gradients : limit for the curvature of one step; the least number of draws may exceed it.
    """
    fewest, most = _limits(len(start.mean), most_gradients, settings)
    normal, draws = start, fewest
    for _ in range(settings.most_steps):
        with np.errstate(all="ignore"):  # numbers out of the dtype's range are found below
            curvature = _curvature(gradient, normal, draws, rng)
            slope = _slope(gradient, normal, settings.slope_draws, rng)
        if not (np.isfinite(curvature.value).all() and np.isfinite(slope.value).all()):
            break  # the normal reaches out of the dtype's range: k-hat will show how bad it is
        moved, changes = _take_step(normal, curvature.value, slope.value, settings)
        if not np.isfinite(moved.factor).all():
            break
        normal, wanted = moved, draws * curvature.noise / settings.noise_variance
        has_settled = (
            changes.sum() < settings.settled_variance
            and changes.max() < settings.settled_variance_of_one
        )
        # A step contains the noise of its own draws and of those of the step before.
        noise = 4.0 * (curvature.noise + slope.noise)
        if has_settled or (changes.sum() < noise and draws == most):
            break
        draws = 2 * (int(np.clip(wanted, fewest, most)) // 2)
    return normal


def _limits(P: int, most_gradients: int, settings: CalibrationSettings) -> tuple[int, int]:
    """Return the smallest and the largest number of draws for the curvature, both even."""
    fewest = settings.fewest_draws
    most = np.clip(most_gradients // (2 * P), fewest, settings.most_draws)
    cheap = np.clip(settings.cheap_gradients // (2 * P), fewest, settings.fewest_cheap_draws)
    return 2 * (int(min(cheap, most)) // 2), 2 * (int(most) // 2)


class Estimate(NamedTuple):
    """An average over a normal distribution, in coordinates where that is standard normal.

    value : of minus the Hessian [P, P], or of the gradient [P].
    noise : the variance that its Monte Carlo error gives to log weights, in nats^2.
    """

    value: np.ndarray
    noise: float


def _curvature(
    gradient: Gradient, normal: MultivariateNormal, draws: int, rng: np.random.Generator
) -> Estimate:
    """Estimate minus the averaged Hessian.

    An error E of C^-1 adds z^T E z / 2 to log weights, whose variance is |E|^2 / 2.
    """
    P = len(normal.mean)
    centres = _antithetic_normals(draws, P, rng)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    slope = _whitened_gradient(gradient, normal, centres[:, np.newaxis] + sides)
    found = _average((slope[:, P:] - slope[:, :P]) / 2.0)
    return Estimate((found.value + found.value.T) / 2.0, found.noise / 2.0)


def _slope(
    gradient: Gradient, normal: MultivariateNormal, draws: int, rng: np.random.Generator
) -> Estimate:
    """Estimate the averaged gradient.

    An error e of it moves the mean, and adds z^T e to log weights, whose variance is |e|^2.
    """
    points = _antithetic_normals(draws, len(normal.mean), rng)[:, np.newaxis]
    return _average(_whitened_gradient(gradient, normal, points)[:, 0])


def _average(draws: np.ndarray) -> Estimate:
    """Average [draws, ...] in antithetic pairs, and estimate the expected square of its error."""
    half = len(draws) // 2
    pairs = (draws[:half] + draws[half:]) / 2.0
    return Estimate(pairs.mean(axis=0), pairs.var(axis=0, ddof=1).sum() / half)


def _antithetic_normals(draws: int, P: int, rng: np.random.Generator) -> np.ndarray:
    half = rng.standard_normal((draws // 2, P))
    return np.concatenate([half, -half])


def _whitened_gradient(
    gradient: Gradient, normal: MultivariateNormal, whitened: np.ndarray
) -> np.ndarray:
    """Return the gradient in coordinates where the normal distribution is standard."""
    return gradient(normal.mean + whitened @ normal.factor.T) @ normal.factor


def _take_step(
    normal: MultivariateNormal,
    curvature: np.ndarray,
    slope: np.ndarray,
    settings: CalibrationSettings,
) -> tuple[MultivariateNormal, np.ndarray]:
    """Return the distribution after a step, and the changes [2 P] that it makes.

    A change is the variance of log weights, in nats^2, that the step gives by C^-1 and by the mean
    in each direction.
    """
    eigenvalues, vectors = np.linalg.eigh(curvature)
    bounded = np.clip(eigenvalues, settings.least_curvature, settings.most_curvature)
    root = vectors / np.sqrt(bounded)
    shift = _limit_shift(root @ (root.T @ slope), settings.longest_shift)
    changes = np.concatenate([(eigenvalues - 1.0) ** 2 / 2.0, shift**2])
    mean = normal.mean + normal.factor @ shift
    return MultivariateNormal(mean, normal.factor @ root), changes


def _limit_shift(shift: np.ndarray, longest: float) -> np.ndarray:
    return shift * min(1.0, longest / max(np.abs(shift).max(), 1e-30))


def normal_from_curvature(
    mean: np.ndarray, sd: np.ndarray, information: np.ndarray, settings: CalibrationSettings
) -> MultivariateNormal:
    """Return the normal distribution with a given curvature at its mean.

    Parameters
    ----------
    mean, sd : [P], of the mean field.
    information : [P, P], minus the second derivatives of the log density in units of `sd`.
        Eigenvalues below `settings.flattest` are raised to it.
    """
    eigenvalues, vectors = np.linalg.eigh(information)
    bounded = np.maximum(eigenvalues, settings.flattest)
    return MultivariateNormal(mean, sd[:, np.newaxis] * vectors / np.sqrt(bounded))


def shift_mean(
    gradient: Gradient,
    normal: MultivariateNormal,
    rng: np.random.Generator,
    settings: CalibrationSettings,
) -> MultivariateNormal:
    """Return the distribution after one step of its mean: see the head of this file."""
    shift = _slope(gradient, normal, settings.shift_draws, rng).value
    if not np.isfinite(shift).all():
        return normal
    shift = _limit_shift(shift, settings.longest_shift)
    return normal._replace(mean=normal.mean + normal.factor @ shift)
