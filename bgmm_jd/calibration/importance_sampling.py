"""Draws of the posterior in standardised units: proposals, importance weights and resampling.

Calibrated draws come from the calibrated normal distribution, slightly widened, and are resampled
by Pareto-smoothed importance weights, which correct what is left of its error.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration import relocation
from bgmm_jd.calibration.empty_components import log_prob_of_empty
from bgmm_jd.calibration.psis import (
    KHAT_LIMIT,
    importance_weights,
    resample_systematically,
)
from bgmm_jd.variational.approximation import (
    AT_THE_MEAN,
    Approximation,
    Calibration,
    Draws,
    EmptyComponents,
    MultivariateNormal,
    draw_mean_field,
    take_draws,
)
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.evaluation import affordable_draws, log_joint_of_draws
from bgmm_jd.variational.points import draws_at_points


def draw_proposal(
    approximation: Approximation, n: int, rng: np.random.Generator, widened: bool = True
) -> Draws:
    """Draw from the calibrated normal distribution, or from the surrogate if there is none.

    Parameters
    ----------
    widened : whether to widen the normal distribution, so that importance weights stay bounded, and
        to move empty components onto rows.
    """
    problem, calibration = approximation.problem, approximation.calibration
    if calibration is None:
        return draw_mean_field(problem, approximation.params, n, int(rng.integers(2**31)))
    widening = problem.settings.calibration.widening if widened else 0.0
    points, log_q = _draw_normal(calibration.normal, n, rng, widening)
    if calibration.empty is not None:
        relocated = problem.settings.calibration.relocated_fraction
        fraction = relocated if widened and len(calibration.empty.rows) else 0.0
        return _with_empty_components(
            approximation, calibration.empty, points, log_q, fraction, rng
        )
    points = points.astype(problem.data.dtype)
    theta, log_det_jacobian = draws_at_points(problem, points)
    return Draws(theta, points, _as_tensor(approximation, log_q) - log_det_jacobian)


def _draw_normal(
    normal: MultivariateNormal, n: int, rng: np.random.Generator, widening: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return points [n, P] and their log density [n]."""
    P = len(normal.mean)
    wider = 1.0 + widening / math.sqrt(P)
    z = rng.standard_normal((n, P))
    log_det = np.linalg.slogdet(wider * normal.factor)[1]
    log_q = -0.5 * (z**2).sum(axis=1) - 0.5 * P * math.log(2.0 * math.pi) - log_det
    return normal.mean + wider * z @ normal.factor.T, log_q


def _with_empty_components(
    approximation: Approximation,
    empty: EmptyComponents,
    points: np.ndarray,
    log_q: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
) -> Draws:
    """Complete points of the informed coordinates with mean-field draws of the others.

    Parameters
    ----------
    fraction : of the draws in which an empty component is moved onto one of the rows.
    """
    problem, params, n = approximation.problem, approximation.params, len(points)
    mean_field = draw_mean_field(problem, params, n, int(rng.integers(2**31)))
    whole = mean_field.points.astype(np.float64)
    whole[:, empty.informed] = points
    chosen = relocation.choose_relocations(empty, n, fraction, rng)
    if fraction:
        sticks = relocation.draw_stick_coordinates(empty, chosen, n, rng)
        whole[:, empty.places] = sticks[:, empty.breaks]
    theta, _ = draws_at_points(problem, whole)
    log_ratio = np.zeros(n)
    if fraction:
        theta, log_ratio = _relocate(approximation, empty, chosen, theta, fraction, rng)
    # The log-det-Jacobian is taken at the draws themselves: weights below the least float have been
    # raised to it, and `tf.identity` defeats TFP's bijector cache, which would return the points
    # from before that.
    model = problem.standardized_model
    draws_themselves = tf.nest.map_structure(tf.identity, theta)
    final = flatten(model, draws_themselves).numpy()
    _, log_det_jacobian = draws_at_points(problem, final)
    log_q_of_empty = log_prob_of_empty(problem, params, theta, empty)
    total = _as_tensor(approximation, log_q + log_ratio) + log_q_of_empty - log_det_jacobian
    return Draws(theta, final, total)


def _relocate(
    approximation: Approximation,
    empty: EmptyComponents,
    chosen: relocation.Relocations,
    theta: dict[str, tf.Tensor],
    fraction: float,
    rng: np.random.Generator,
) -> tuple[dict[str, tf.Tensor], np.ndarray]:
    """Move the chosen components onto rows; return the draws and their log density ratio [n]."""
    problem = approximation.problem
    form, budget = problem.model.covariance, problem.settings.memory.relocation
    means = relocation.mean_field_of_means(approximation.params["means"])
    arrays = {name: v.numpy().astype(np.float64) for name, v in theta.items()}
    with np.errstate(invalid="ignore", over="ignore"):  # a draw out of range gets no weight
        arrays["means"] = relocation.relocate_means(empty, chosen, arrays, form, means, rng, budget)
        log_ratio = relocation.log_density_ratio(empty, arrays, form, means, fraction, budget)
    return theta | {"means": _as_tensor(approximation, arrays["means"])}, log_ratio


def _as_tensor(approximation: Approximation, numbers: np.ndarray) -> tf.Tensor:
    """Convert to a tensor in the dtype of the fit."""
    return tf.constant(numbers.astype(approximation.problem.data.dtype))


class WeightedDraws(NamedTuple):
    """Draws of the proposal with their smoothed importance weights [S], and k-hat."""

    draws: Draws
    weights: np.ndarray
    khat: float

    @property
    def efficiency(self) -> float:
        """Return the effective number of draws for each draw."""
        return float(1.0 / ((self.weights**2).sum() * len(self.weights)))


def draw_weighted(approximation: Approximation, n: int, rng: np.random.Generator) -> WeightedDraws:
    """Draw proposals for n draws, and weight them by the log joint density of all rows.

    There are `proposals_per_draw * n` proposals; fewer if that is not affordable, but never fewer
    than n or `fewest_proposals`.
    """
    problem, settings = approximation.problem, approximation.problem.settings.calibration
    proposals = int(np.clip(affordable_draws(problem), n, settings.proposals_per_draw * n))
    proposals = max(proposals, settings.fewest_proposals)
    return _weight(approximation, draw_proposal(approximation, proposals, rng))


def _weight(approximation: Approximation, draws: Draws) -> WeightedDraws:
    log_ratio = log_joint_of_draws(approximation.problem, draws) - draws.log_q.numpy()
    return WeightedDraws(draws, *importance_weights(log_ratio))


def surrogate_khat(approximation: Approximation, draws: Draws, seed: int) -> float:
    """Return the k-hat of the mean-field surrogate; NaN where it is not affordable.

    Parameters
    ----------
    draws : of the surrogate; where they are too few, others are drawn.
    """
    problem, settings = approximation.problem, approximation.problem.settings.calibration
    affordable = affordable_draws(problem)
    if len(draws.log_q) < settings.fewest_proposals:
        n = int(np.clip(affordable, settings.fewest_proposals, settings.khat_draws))
        draws = draw_mean_field(problem, approximation.params, n, seed)
    if len(draws.log_q) > affordable:
        return math.nan
    return _weight(approximation, draws).khat


def refine_proposal(
    approximation: Approximation, calibration: Calibration, seed: int
) -> tuple[Calibration, float]:
    """Return the calibration with the better proposal, and its k-hat.

    Where the posterior is skew, a normal distribution with the moments of the weighted draws covers
    it better than one with the curvature at its centre. With many parameters the noise of these
    moments spoils it: see `_is_better`. The surrogate itself is no candidate: it may have a low
    k-hat from draws that miss a part of the posterior.
    """
    problem, settings = approximation.problem, approximation.problem.settings.calibration
    rng = np.random.default_rng([seed, 1])  # a stream apart from the calibration's
    if affordable_draws(problem) < settings.proposals_per_draw * settings.khat_draws:
        # Too few affordable draws to estimate k-hat.
        return calibration._replace(is_weighted=False), math.nan

    def weighted(candidate: Calibration, n: int) -> WeightedDraws:
        return draw_weighted(replace(approximation, calibration=candidate), n, rng)

    found = weighted(calibration, settings.khat_draws)
    if calibration.kind == AT_THE_MEAN:
        # Unreliable weights in so many dimensions are worse than none.
        return calibration._replace(is_weighted=found.khat < KHAT_LIMIT), found.khat
    chosen, best = calibration, found
    for _ in range(settings.refinements):
        # Stop after a round without improvement, if the best is usable.
        if found.khat < settings.refine_above or (found is not best and best.khat < KHAT_LIMIT):
            break
        normal = normal_from_weighted(found, calibration)
        if normal is None:
            break
        calibration = calibration._replace(normal=normal)
        found = weighted(calibration, 2 * settings.khat_draws)
        if _is_better(found, best):
            chosen, best = calibration, found
    return chosen, best.khat


def _is_better(found: WeightedDraws, best: WeightedDraws) -> bool:
    """Return whether a proposal has a lower k-hat than the best, and no less efficient draws.

    Noise in its moments makes its draws less efficient before k-hat shows it. Where the k-hat of
    the best is above 0.7, its efficiency is not known.
    """
    is_no_worse = best.khat >= KHAT_LIMIT or found.efficiency >= best.efficiency
    return found.khat < best.khat and is_no_worse


def normal_from_weighted(
    found: WeightedDraws, calibration: Calibration
) -> MultivariateNormal | None:
    """Return the normal distribution with the moments of weighted draws; None if too few.

    A covariance of P parameters from n draws has a noise that gives log weights a variance of
    P^2 / 2 n. That must not exceed the variance that they have.
    """
    has_weight = found.weights > 0.0  # draws out of range have none
    weights = found.weights[has_weight]
    points = found.draws.points[has_weight].astype(np.float64)[:, calibration.informed]
    effective = 1.0 / (weights**2).sum()
    log_weight_variance = math.log(len(found.weights) / effective)  # of log-normal weights
    if points.shape[1] ** 2 / (2.0 * effective) > log_weight_variance:
        return None
    mean = weights @ points
    centred = points - mean
    covariance = (centred.T * weights) @ centred
    try:
        return MultivariateNormal(mean, np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        return None


def draw_calibrated(
    approximation: Approximation, n: int, seed: int, weighted: bool | None = None
) -> Draws:
    """Draw from the calibrated posterior.

    Parameters
    ----------
    weighted : bool, optional
        Whether to resample by importance weights; by default as the calibration says, which leaves
        them out where they are not affordable or unreliable.
    """
    rng = np.random.default_rng([seed, 2])
    if weighted is None:
        weighted = approximation.calibration is not None and approximation.calibration.is_weighted
    if not weighted:
        return draw_proposal(approximation, n, rng, widened=False)
    found = draw_weighted(approximation, n, rng)
    chosen = resample_systematically(found.weights, n, rng)
    return take_draws(found.draws, chosen)
