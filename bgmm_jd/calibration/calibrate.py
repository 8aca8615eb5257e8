"""Choose and run the calibration that is affordable.

Averaged curvature, curvature at the mean, or none.
"""

from dataclasses import replace

import numpy as np

from bgmm_jd.calibration.averaged_curvature import (
    fit_normal,
    normal_from_curvature,
    shift_mean,
)
from bgmm_jd.calibration.empty_components import find_empty_components
from bgmm_jd.calibration.gradients import informed_gradient
from bgmm_jd.calibration.importance_sampling import refine_proposal, surrogate_khat
from bgmm_jd.calibration.observed_information import observed_information
from bgmm_jd.data.standardize import rows_in_memory, subsample
from bgmm_jd.variational.approximation import (
    AT_THE_MEAN,
    AVERAGED,
    Approximation,
    Calibration,
    Draws,
    EmptyComponents,
    MultivariateNormal,
    draw_mean_field,
    informed_coordinates,
)
from bgmm_jd.variational.evaluation import affordable_draws


def calibrate_approximation(
    approximation: Approximation, surrogate: Draws, seed: int
) -> tuple[Approximation, float]:
    """Return the approximation with its calibration, and the k-hat of its proposal.

    Parameters
    ----------
    approximation : Approximation
        Without a calibration.
    surrogate : draws of the mean-field surrogate, whose k-hat it is if there is no calibration.
    seed : int
    """
    return with_refined_calibration(with_calibration(approximation, seed), surrogate, seed)


def with_calibration(approximation: Approximation, seed: int) -> Approximation:
    """Return the approximation with its calibration, None where that is not affordable.

    Before its weights are known: see `with_refined_calibration`.
    """
    return replace(approximation, calibration=_calibration_of(approximation, seed))


def with_refined_calibration(
    approximation: Approximation, surrogate: Draws, seed: int
) -> tuple[Approximation, float]:
    """Return the approximation with the better of two calibrations, and its k-hat.

    Parameters
    ----------
    surrogate : draws of the mean-field surrogate, whose k-hat it is if there is no calibration.
    """
    if approximation.calibration is None:
        return approximation, surrogate_khat(approximation, surrogate, seed)
    calibration, khat = refine_proposal(approximation, approximation.calibration, seed)
    return replace(approximation, calibration=calibration), khat


def _calibration_of(approximation: Approximation, seed: int) -> Calibration | None:
    """Return the calibrated normal distribution, starting from the surrogate's moments.

    The curvature is averaged over the distribution where that is affordable, and taken at the mean
    where it is not, as with many parameters or very many rows. There is none beyond
    `most_parameters`, nor for many parameters where the prior's support ties components together.
    """
    problem, params = approximation.problem, approximation.params
    settings = problem.settings.calibration
    surrogate = draw_mean_field(problem, params, settings.start_draws, seed)
    points = surrogate.points.astype(np.float64)
    points = points[np.isfinite(points).all(axis=1)]  # some weights are too small for the dtype
    mean, sd = points.mean(axis=0), points.std(axis=0)
    rng = np.random.default_rng(seed)
    in_memory = problem.on(rows_in_memory(problem.data))
    empty = find_empty_components(in_memory, params, surrogate, rng)
    informed = informed_coordinates(empty)
    P, others = len(mean[informed]), points[: settings.slope_draws]
    affordable = affordable_draws(problem)
    few = P * len(mean) <= settings.most_averaged_parameters**2
    if few and affordable >= 2 * P * settings.affordable_curvature_draws:
        start = MultivariateNormal(mean[informed], np.diag(sd[informed]))
        N = problem.data.shape[0]
        slices = int(np.clip(N // settings.slice_rows, 1, settings.most_slices))
        gradient = informed_gradient(approximation, empty, others, slices)
        most = min(settings.most_gradients, affordable)
        normal = fit_normal(gradient, start, rng, settings, most, slices)
        return Calibration(AVERAGED, normal, empty, is_weighted=True)
    if len(mean) <= settings.most_parameters and problem.model.has_separate_components:
        normal = _normal_at_the_mean(approximation, empty, others, seed, rng)
        return Calibration(AT_THE_MEAN, normal, empty, is_weighted=True)
    return None


def _normal_at_the_mean(
    approximation: Approximation,
    empty: EmptyComponents | None,
    others: np.ndarray,
    seed: int,
    rng: np.random.Generator,
) -> MultivariateNormal:
    """Return the normal distribution with the curvature at the surrogate's mean.

    It reads a subsample of the rows if there are too many.
    """
    problem, settings = approximation.problem, approximation.problem.settings.calibration
    draws = draw_mean_field(problem, approximation.params, settings.moment_draws, seed)
    points = draws.points.astype(np.float64)
    mean, sd = points.mean(axis=0), points.std(axis=0)
    most = min(settings.curvature_rows, settings.curvature_products // len(mean) ** 2)
    problem = problem.on(rows_in_memory(problem.data))
    if problem.data.shape[0] > most:
        problem = problem.on(subsample(problem.data, most, rng))
    information = observed_information(problem, mean, sd)
    at = informed_coordinates(empty)
    normal = normal_from_curvature(mean[at], sd[at], information[at][:, at], settings)
    affordable = affordable_draws(approximation.problem) >= settings.shift_draws
    if approximation.problem.data.total_weight < settings.normal_rows and affordable:
        gradient = informed_gradient(approximation, empty, others)
        normal = shift_mean(gradient, normal, rng, settings)
    return normal
