"""The normal distribution of the posterior after more rows, with that before them as their prior.

With N(m, C) the calibrated normal distribution of the rows so far, in unconstrained coordinates
phi, the target is

    log density(phi) = log likelihood of the new rows + log N(phi; m, C).

The prior of the model is in N(m, C) already, and so is the Jacobian of the coordinates. The new
normal distribution takes the steps of averaged curvature, from the old one.
"""

import math

import numpy as np

from bgmm_jd.calibration.averaged_curvature import fit_normal
from bgmm_jd.calibration.gradients import Gradient
from bgmm_jd.calibration.psis import importance_weights
from bgmm_jd.variational.approximation import MultivariateNormal, Problem
from bgmm_jd.variational.evaluation import affordable_draws, dtype_of_statistics
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.tempered import TemperedDensity


def updated_normal(
    problem: Problem, params: VariationalParameters, before: MultivariateNormal, seed: int
) -> tuple[MultivariateNormal, float]:
    """Return the normal distribution after the rows of a problem, and its k-hat.

    Parameters
    ----------
    problem : Problem
        With the new rows.
    params : of a surrogate of the rows so far, which decides whether sufficient statistics are
        accurate.
    before : over all P coordinates.
    seed : int
    """
    settings, rng = problem.settings.calibration, np.random.default_rng(seed)
    density = TemperedDensity(problem, statistics=dtype_of_statistics(problem, params))
    most = min(settings.most_gradients, affordable_draws(problem))
    normal = fit_normal(_gradient(density, before), before, rng, settings, most)
    return normal, _khat(density, before, normal, rng)


def most_rows(problem: Problem, P: int) -> int:
    """Return the largest number of new rows for which all draws are affordable.

    Those of k-hat, and those of the curvature with their 2 P gradients.
    """
    settings = problem.settings.calibration
    draws = max(settings.khat_draws, 2 * P * settings.affordable_curvature_draws)
    return problem.settings.memory.affordable // (draws * problem.numbers_per_row)


def _gradient(density: TemperedDensity, before: MultivariateNormal) -> Gradient:
    inverse = np.linalg.inv(before.factor)
    precision = inverse.T @ inverse

    def gradient(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, points.shape[-1])
        of_likelihood = density.density(flat).likelihood_slope
        return (of_likelihood - (flat - before.mean) @ precision).reshape(points.shape)

    return gradient


def _khat(
    density: TemperedDensity,
    before: MultivariateNormal,
    normal: MultivariateNormal,
    rng: np.random.Generator,
) -> float:
    """Return the k-hat of draws of a normal distribution, which is widened as in any calibration.

    Constants of the log ratio do not matter.
    """
    settings, P = density.problem.settings.calibration, len(normal.mean)
    z = rng.standard_normal((settings.khat_draws, P))
    points = normal.mean + (1.0 + settings.widening / math.sqrt(P)) * z @ normal.factor.T
    from_before = np.linalg.solve(before.factor, (points - before.mean).T)
    log_prior = -0.5 * (from_before**2).sum(axis=0)
    log_ratio = density.density(points).log_likelihood + log_prior + 0.5 * (z**2).sum(axis=1)
    return importance_weights(log_ratio)[1]
