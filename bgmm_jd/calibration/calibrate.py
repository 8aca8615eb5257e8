"""The dependence between parameters that a posterior has, by the means that are within reach."""

import numpy as np

from bgmm_jd.calibration.averaged_curvature import (
    MEAN_DRAWS,
    MOST_GRADIENTS,
    Gradient,
    fit_normal,
    gradient_of_log_joint,
    normal_from_curvature,
    shift_mean,
)
from bgmm_jd.calibration.empty_components import find_empty_components
from bgmm_jd.calibration.importance_sampling import refine_proposal, surrogate_khat
from bgmm_jd.calibration.observed_information import observed_information
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import subsample
from bgmm_jd.variational.approximation import (
    AT_THE_MEAN,
    AVERAGED,
    Approximation,
    Draws,
    MultivariateNormal,
    draw_mean_field,
    points_of,
)
from bgmm_jd.variational.coordinates import components_are_separate
from bgmm_jd.variational.evaluation import (
    affordable_draws,
    points_at_once,
    statistics_are_accurate,
    statistics_fit_in_memory,
)

# A full covariance of more parameters takes minutes of eigenvalues, and the draws of the first
# steps of an averaged one, at 2 P points each, the time of their gradients.
_MOST_AVERAGED = 500
_MOST_PARAMETERS = 3_000
_CURVATURE_DRAWS = 24
# The most products (rows x P^2) that the curvature at the mean may take, some ten seconds, and the
# most rows: of so many its sds are good to 1 % even for a component with 2 % of the rows.
_PRODUCTS = 2**37
_CURVATURE_ROWS = 2**18
# With so many rows the posterior is so nearly normal that the mean field has its mean.
_NORMAL_ROWS = 100_000
_SHIFT_DRAWS = 16
# Draws of the surrogate for its moments: means that the steps of the averaged curvature begin at,
# and correct, are good to 0.03 sds, those that stay to 0.01.
_START_DRAWS, _MOMENT_DRAWS = 1_000, 10_000


def calibrate_approximation(
    inside: Approximation, surrogate: Draws, seed: int
) -> tuple[Approximation, float]:
    """The same with the distribution to draw from, and the k-hat of that.

    Parameters
    ----------
    surrogate : draws of the mean-field surrogate, whose k-hat it is if there is no other.
    """
    found = with_calibrated_normal(inside, seed)
    if found.normal is None:
        return inside, surrogate_khat(inside, surrogate, seed)
    return refine_proposal(found, seed)


def with_calibrated_normal(inside: Approximation, seed: int) -> Approximation:
    """The same with its calibrated distribution, starting from the surrogate's moments.

    The curvature is averaged over the distribution where that is within reach, and taken at the
    mean where it is not, as with many parameters or very many rows. Beyond 3,000 parameters there
    is none, nor for so many where the prior's support ties components together.
    """
    draws = draw_mean_field(inside, _START_DRAWS, seed)
    points = points_of(inside, draws)
    mean, sd = points.mean(axis=0), points.std(axis=0)
    units, rng = inside.standardization, np.random.default_rng(seed)
    spare = find_empty_components(
        inside.model, inside.values, units, mean, draws.theta, inside.data, rng
    )
    inside, beside = inside._replace(spare=spare), points[:MEAN_DRAWS]
    at = inside.informed
    P = len(mean[at])
    if P * len(mean) <= _MOST_AVERAGED**2 and affordable_draws(inside) >= 2 * P * _CURVATURE_DRAWS:
        start = MultivariateNormal(mean[at], np.diag(sd[at]))
        most = min(MOST_GRADIENTS, affordable_draws(inside))
        normal = fit_normal(_gradient(inside, beside), start, rng, most)
        return inside._replace(calibration=AVERAGED, normal=normal, weigh=True)
    if len(mean) <= _MOST_PARAMETERS and components_are_separate(inside.model, units, mean):
        normal = _normal_at_the_mean(inside, beside, seed, rng)
        return inside._replace(calibration=AT_THE_MEAN, normal=normal, weigh=True)
    return inside._replace(spare=None)


def _gradient(inside: Approximation, beside: np.ndarray) -> Gradient:
    """Of the log joint density, by the informed coordinates.

    Parameters
    ----------
    beside : points of the mean field [S, P], whose other coordinates are used.
    """
    use_statistics = statistics_fit_in_memory(inside) and statistics_are_accurate(inside)
    at_once = points_at_once(inside, use_statistics)
    gradient = gradient_of_log_joint(
        inside.model,
        as_row_tensors(inside.data.rows),
        inside.standardization,
        at_once,
        use_statistics,
        inside.execution,
    )
    if inside.spare is None:
        return gradient
    informed = inside.spare.informed

    def of_informed(points: np.ndarray) -> np.ndarray:
        draws, together, _ = points.shape
        size = max(1, at_once // together)  # more would be whole in memory at once
        found = []
        for first in range(0, draws, size):
            some = slice(first, min(first + size, draws))
            whole = np.repeat(beside[some, np.newaxis], together, axis=1)
            whole[..., informed] = points[some]
            found.append(gradient(whole)[..., informed])
        return np.concatenate(found)

    return of_informed


def _normal_at_the_mean(
    inside: Approximation, beside: np.ndarray, seed: int, rng: np.random.Generator
) -> MultivariateNormal:
    """From the curvature at the surrogate's mean; of a sample of the rows if there are too many."""
    points = points_of(inside, draw_mean_field(inside, _MOMENT_DRAWS, seed))
    mean, sd = points.mean(axis=0), points.std(axis=0)
    most = min(_CURVATURE_ROWS, _PRODUCTS // len(mean) ** 2)
    data = inside.data if inside.data.shape[0] <= most else subsample(inside.data, most, rng)
    found = observed_information(
        inside.model, data.rows, inside.standardization, mean, sd, inside.execution
    )
    at = inside.informed
    normal = normal_from_curvature(mean[at], sd[at], found[at][:, at])
    if inside.data.total_weight < _NORMAL_ROWS and affordable_draws(inside) >= _SHIFT_DRAWS:
        normal = shift_mean(_gradient(inside, beside), normal, _SHIFT_DRAWS, rng)
    return normal
