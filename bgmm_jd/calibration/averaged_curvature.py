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

from typing import NamedTuple

import numpy as np

from bgmm_jd.calibration.gradients import Gradient
from bgmm_jd.settings import CalibrationSettings
from bgmm_jd.variational.approximation import MultivariateNormal


def fit_normal(
    gradient: Gradient,
    start: MultivariateNormal,
    rng: np.random.Generator,
    settings: CalibrationSettings,
    most_gradients: int,
    slices: int = 1,
) -> MultivariateNormal:
    """Move a normal distribution to the posterior's location and dependence.

    Parameters
    ----------
    gradient : if the rows are in slices, draw s reads slice s mod `slices`.
    start : its factor may be diagonal, as a mean-field surrogate's is.
    most_gradients : limit for the curvature of one step, in gradients that read all rows; the least
        number of draws may exceed it.
    slices : number of slices of the rows.
    """
    fewest, most = _limits(len(start.mean), most_gradients, settings, slices)
    normal, draws = start, fewest
    for _ in range(settings.most_steps):
        with np.errstate(all="ignore"):  # numbers out of the dtype's range are found below
            curvature, slope = _averages(gradient, normal, draws, settings.slope_draws, rng, slices)
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
        draws = _whole_pairs(np.clip(wanted, fewest, most), slices)
    return normal


def _limits(
    P: int, most_gradients: int, settings: CalibrationSettings, slices: int
) -> tuple[int, int]:
    """Return the smallest and the largest number of draws for the curvature.

    Each slice has two pairs at least, from which the noise is estimated.
    """
    fewest = max(settings.fewest_draws, 4 * slices)

    def limited(gradients: int, limit: int) -> int:
        return max(min(gradients * slices // (2 * P), limit), fewest)

    most = limited(most_gradients, settings.most_draws)
    cheap = limited(settings.cheap_gradients, settings.fewest_cheap_draws)
    return _whole_pairs(min(cheap, most), slices), _whole_pairs(most, slices)


def _whole_pairs(draws: float, slices: int) -> int:
    """Round a number of draws down to pairs, as many for each slice."""
    return 2 * slices * (int(draws) // (2 * slices))


class Estimate(NamedTuple):
    """An average over a normal distribution, in coordinates where that is standard normal.

    value : of minus the Hessian [P, P], or of the gradient [P].
    noise : the variance that its Monte Carlo error gives to log weights, in nats^2.
    """

    value: np.ndarray
    noise: float


def _averages(
    gradient: Gradient,
    normal: MultivariateNormal,
    draws: int,
    slope_draws: int,
    rng: np.random.Generator,
    slices: int,
) -> tuple[Estimate, Estimate]:
    """Estimate minus the averaged Hessian, and the averaged gradient, from one call.

    An error E of C^-1 adds z^T E z / 2 to log weights, whose variance is |E|^2 / 2. An error e of
    the gradient moves the mean, and adds z^T e, whose variance is |e|^2.

    Parameters
    ----------
    draws : for the Hessian; the gradient has points of its own beside each of them.
    slope_draws : for the gradient, about.
    """
    P = len(normal.mean)
    centres = _antithetic_normals(draws, 1, P, rng)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    beside = _antithetic_normals(draws, -(-slope_draws // draws), P, rng)
    found = _whitened_gradient(gradient, normal, np.concatenate([centres + sides, beside], axis=1))
    hessian = _average((found[:, P : 2 * P] - found[:, :P]) / 2.0, slices)
    slope = _average(found[:, 2 * P :].mean(axis=1), slices)
    curvature = Estimate((hessian.value + hessian.value.T) / 2.0, hessian.noise / 2.0)
    return curvature, slope


def _average(draws: np.ndarray, slices: int) -> Estimate:
    """Average [draws, ...], and estimate the expected square of its error.

    The error is that of independent antithetic pairs. With slices these differ by their rows too,
    but averages over one pair of each slice do not.
    """
    half = len(draws) // 2
    pairs = (draws[:half] + draws[half:]) / 2.0
    whole = pairs.reshape(half // slices, slices, *pairs.shape[1:]).mean(axis=1)
    return Estimate(whole.mean(axis=0), whole.var(axis=0, ddof=1).sum() / len(whole))


def _antithetic_normals(draws: int, each: int, P: int, rng: np.random.Generator) -> np.ndarray:
    half = rng.standard_normal((draws // 2, each, P))
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
    points = _antithetic_normals(settings.shift_draws, 1, len(normal.mean), rng)
    shift = _whitened_gradient(gradient, normal, points).mean(axis=(0, 1))
    if not np.isfinite(shift).all():
        return normal
    shift = _limit_shift(shift, settings.longest_shift)
    return normal._replace(mean=normal.mean + normal.factor @ shift)
