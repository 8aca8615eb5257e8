"""Draws of the posterior, in internal units: proposals, their weights, and what is kept of them.

Calibrated draws come from the calibrated normal distribution, a little widened, and are resampled
by Pareto-smoothed importance weights, so that what is left of its error is corrected too.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration import relocation
from bgmm_jd.calibration.empty_components import log_prob_of_empty
from bgmm_jd.calibration.psis import KHAT_LIMIT, pareto_smooth, resample_systematically
from bgmm_jd.variational.approximation import (
    AT_THE_MEAN,
    Approximation,
    Draws,
    EmptyComponents,
    MultivariateNormal,
    draw_mean_field,
    points_of,
)
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.evaluation import affordable_draws, log_joint_of_draws
from bgmm_jd.variational.surrogate import without_cholesky

# Draws of the proposal for each one that is kept: nearly all are then different.
_PROPOSALS = 3
_FEWEST_PROPOSALS = 200  # fewer have no tail that could be smoothed
# The proposal is wider than the posterior by this over sqrt(P): the weights stay bounded where
# the posterior's tails are heavier than normal, and about a quarter of their worth is lost.
_WIDER = 0.4
# Of proposals, that have a spare component at a row: see `placed`. The others are the mean field's.
_PLACED = 0.5
_KHAT_DRAWS = 1_000
# 0.5 is where draws begin to be in doubt.
_REFINE_ABOVE = 0.3
_REFINEMENTS = 3


def draw_proposal(
    inside: Approximation, n: int, rng: np.random.Generator, to_weigh: bool = True
) -> Draws:
    """Draws of the calibrated normal distribution; of the surrogate if there is none.

    Parameters
    ----------
    to_weigh : whether to widen the normal distribution, for weights that stay bounded.
    """
    if inside.normal is None:
        return draw_mean_field(inside, n, int(rng.integers(2**31)))
    points, log_q = _normal_points(inside.normal, n, rng, to_weigh)
    if inside.spare is not None:
        share = _PLACED if to_weigh and len(inside.spare.rows) else 0.0
        return _with_empty_components(inside, inside.spare, points, log_q, share, rng)
    theta, volume = _unflatten(inside, points)
    return Draws(theta, _as(inside, log_q) - volume)


def _normal_points(
    normal: MultivariateNormal, n: int, rng: np.random.Generator, to_weigh: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Points [n, P] and their log density [n]."""
    P = len(normal.mean)
    wider = 1.0 + _WIDER / math.sqrt(P) if to_weigh else 1.0
    z = rng.standard_normal((n, P))
    log_det_jacobian = np.linalg.slogdet(wider * normal.factor)[1]
    log_q = -0.5 * (z**2).sum(axis=1) - 0.5 * P * math.log(2.0 * math.pi) - log_det_jacobian
    return normal.mean + wider * z @ normal.factor.T, log_q


def _with_empty_components(
    inside: Approximation,
    spare: EmptyComponents,
    points: np.ndarray,
    log_q: np.ndarray,
    share: float,
    rng: np.random.Generator,
) -> Draws:
    """Points of the informed coordinates with the others from the mean field.

    Parameters
    ----------
    share : of the draws that have a spare component at one of the rows.
    """
    model, units, n = inside.model, inside.standardization, len(points)
    whole = points_of(inside, draw_mean_field(inside, n, int(rng.integers(2**31))))
    whole[:, spare.informed] = points
    choice = relocation.choose_relocations(spare, n, share, rng)
    if share:
        whole[:, spare.places] = relocation.draw_stick_coordinates(spare, choice, n, rng)[
            :, spare.breaks
        ]
    theta, _ = _unflatten(inside, whole)
    gain = np.zeros(n)
    if share:
        form, means = model.covariance, inside.values["means"]
        arrays = {name: v.numpy().astype(np.float64) for name, v in theta.items()}
        with np.errstate(invalid="ignore", over="ignore"):  # a draw out of range gets no weight
            arrays["means"] = relocation.relocate_means(spare, choice, arrays, form, means, rng)
            gain = relocation.log_density_ratio(spare, arrays, form, means, share)
        theta["means"] = _as(inside, arrays["means"])
    # The volume where the draws are: weights below the least have been raised to it, which a
    # bijector that remembers where they came from would not see.
    raised = tf.nest.map_structure(tf.identity, theta)
    _, volume = unflatten(model.sites, flatten(model.sites, raised, units), units)
    beside = log_prob_of_empty(model, inside.values, units, theta, spare)
    return Draws(theta, _as(inside, log_q + gain) + beside - volume)


def _unflatten(inside: Approximation, points: np.ndarray) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    sites = inside.model.sites
    theta, volume = unflatten(sites, _as(inside, points), inside.standardization)
    return without_cholesky(sites, theta), volume


def _as(inside: Approximation, numbers: np.ndarray) -> tf.Tensor:
    """In the dtype of the fit."""
    return tf.constant(numbers.astype(inside.data.dtype))


class WeightedDraws(NamedTuple):
    """Draws of the proposal with their smoothed weights [S], and the k-hat of these."""

    draws: Draws
    weights: np.ndarray
    khat: float


def draw_weighted(inside: Approximation, n: int, rng: np.random.Generator) -> WeightedDraws:
    """Proposals for n draws, weighted by the log joint density of all rows.

    Three for each draw, or fewer, but one at least, where so many are out of reach.
    """
    proposals = int(np.clip(affordable_draws(inside), n, _PROPOSALS * n))
    return _weigh(inside, draw_proposal(inside, max(proposals, _FEWEST_PROPOSALS), rng))


def _weigh(inside: Approximation, draws: Draws) -> WeightedDraws:
    log_ratio = log_joint_of_draws(inside, draws) - draws.log_q.numpy()
    possible = np.isfinite(log_ratio)
    if not possible.any():
        return WeightedDraws(draws, np.full(len(log_ratio), 1.0 / len(log_ratio)), math.inf)
    # A draw out of the dtype's range gets a weight of nothing.
    log_ratio[~possible] = np.min(log_ratio[possible], initial=0.0) - 100.0
    return WeightedDraws(draws, *pareto_smooth(log_ratio))


def surrogate_khat(inside: Approximation, draws: Draws, seed: int) -> float:
    """The k-hat of the mean-field surrogate; NaN where it is out of reach.

    Parameters
    ----------
    draws : of the surrogate; where they are too few, others are drawn.
    """
    if len(draws.log_q) < _FEWEST_PROPOSALS:
        n = int(np.clip(affordable_draws(inside), _FEWEST_PROPOSALS, _KHAT_DRAWS))
        draws = draw_mean_field(inside, n, seed)
    if len(draws.log_q) > affordable_draws(inside):
        return math.nan
    return _weigh(inside, draws).khat


def refine_proposal(inside: Approximation, seed: int) -> tuple[Approximation, float]:
    """The distribution to draw from, and its k-hat.

    Where the posterior is skew, a normal distribution with its moments, which the weighted draws
    tell, covers it better than one with the curvature at its centre. Where it is far from normal
    in any coordinates, as with components that hold no rows, the surrogate itself may be the
    better one. The lowest k-hat decides.
    """
    rng = np.random.default_rng([seed, 1])  # not the draws of the calibration again
    if affordable_draws(inside) < _PROPOSALS * _KHAT_DRAWS:
        return inside._replace(weigh=False), math.nan  # of unknown worth
    found = draw_weighted(inside, _KHAT_DRAWS, rng)
    if inside.calibration == AT_THE_MEAN:
        # Weights in so many dimensions, if bad, are worse than none.
        return inside._replace(weigh=found.khat < KHAT_LIMIT), found.khat
    choices = [(found.khat, inside)]
    for _ in range(_REFINEMENTS):
        best = min(khat for khat, _ in choices)
        # A round that was no better is the last, if what there is will do.
        if found.khat < _REFINE_ABOVE or best < min(found.khat, KHAT_LIMIT):
            break
        normal = normal_from_weighted(inside, found)
        if normal is None:
            break
        inside = inside._replace(normal=normal)
        found = draw_weighted(inside, 2 * _KHAT_DRAWS, rng)
        choices.append((found.khat, inside))
    khat, chosen = min(choices, key=lambda choice: choice[0])
    if khat > KHAT_LIMIT:
        surrogate = inside._replace(normal=None)
        choices.append((draw_weighted(surrogate, _KHAT_DRAWS, rng).khat, surrogate))
        khat, chosen = min(choices, key=lambda choice: choice[0])
    return chosen, khat


def normal_from_weighted(inside: Approximation, found: WeightedDraws) -> MultivariateNormal | None:
    """The normal distribution with the moments of weighted draws; None if they are too few.

    A covariance of P parameters from n draws has a noise that gives log weights a variance of
    P^2 / 2 n. That must not be more than what they have.
    """
    points = points_of(inside, found.draws)[:, inside.informed]
    effective = 1.0 / (found.weights**2).sum()
    spread = math.log(len(points) / effective)  # of weights that are log-normal
    if points.shape[1] ** 2 / (2.0 * effective) > spread:
        return None
    mean = found.weights @ points
    centred = points - mean
    covariance = (centred.T * found.weights) @ centred
    try:
        return MultivariateNormal(mean, np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        return None


def draw_calibrated(inside: Approximation, n: int, seed: int) -> Draws:
    """Draws of the calibrated posterior; unweighted where weights are out of reach, or no use."""
    rng = np.random.default_rng([seed, 2])
    if not inside.weigh:
        return draw_proposal(inside, n, rng, to_weigh=False)
    found = draw_weighted(inside, n, rng)
    chosen = resample_systematically(found.weights, n, rng)
    return Draws(
        {name: tf.gather(v, chosen) for name, v in found.draws.theta.items()},
        tf.gather(found.draws.log_q, chosen),
    )
