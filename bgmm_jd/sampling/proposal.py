"""The proposal for draws of the whole posterior: a mixture adapted by population Monte Carlo.

A mixture of t distributions is fitted to a cloud of points. Its draws get importance weights, by
which it is fitted again, until they are good enough (Cappe et al. 2008, *Adaptive importance
sampling in general mixture classes*, Statistics and Computing 18). The weights of a draw are the
joint density over the density of the mixture, averaged over all labellings: see `relabelling`.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import importance_weights, resample_systematically
from bgmm_jd.sampling import student_mixture
from bgmm_jd.sampling.relabelling import (
    Labels,
    align,
    centre_of,
    symmetrised_log_density,
)
from bgmm_jd.sampling.scout import is_affordable, moved
from bgmm_jd.settings import ProposalSettings
from bgmm_jd.variational.approximation import Draws, Problem, StudentMixture
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.points import as_log_ratios, draws_at_log_ratios
from bgmm_jd.variational.tempered import TemperedDensity

_FALL_OF_POWER = 0.7  # by which weights are tempered until enough of them are effective
_LEAST_POWER = 0.01
_STEPS_OF_EM = 2
_NEGLIGIBLE = 0.01  # weight of a draw, relative to the mean, below which it is left out of a fit


class Weighted(NamedTuple):
    """Draws of a proposal and their importance weights.

    draws : Draws
    points [S, P] : the same in coordinates with log ratios.
    log_ratio [S] : log joint density less the proposal's, averaged over labellings, in nats.
    weights [S] : smoothed, summing to 1.
    khat : float
    """

    draws: Draws
    points: np.ndarray
    log_ratio: np.ndarray
    weights: np.ndarray
    khat: float

    @property
    def effective(self) -> float:
        """Return the effective number of draws."""
        return float(1.0 / (self.weights**2).sum())

    @property
    def efficiency(self) -> float:
        """Return the effective number of draws for each draw."""
        return self.effective / len(self.weights)


def propose(
    problem: Problem, mixture: StudentMixture, labels: Labels, n: int, rng: np.random.Generator
) -> Weighted:
    """Draw from a mixture, and weight the draws by the joint density of all rows."""
    return weigh(problem, mixture, labels, student_mixture.draw(mixture, n, rng))


def weigh(
    problem: Problem, mixture: StudentMixture, labels: Labels, points: np.ndarray
) -> Weighted:
    """Weight points [S, P] by the joint density of all rows over the density of a mixture."""
    theta, coordinates, log_det_jacobian = draws_at_log_ratios(problem, points)
    log_q = symmetrised_log_density(mixture, points, labels) - log_det_jacobian
    draws = Draws(theta, coordinates, tf.constant(log_q.astype(problem.data.dtype)))
    return weighted(draws, points, log_joint_of_draws(problem, draws) - log_q)


def propose_in_parts(
    problem: Problem, mixture: StudentMixture, labels: Labels, n: int, rng: np.random.Generator
) -> Weighted:
    """Return what `propose` does for any n, in the memory of one adaptation."""
    size = problem.settings.proposal.draws
    sizes = [len(part) for part in np.array_split(np.empty(n), -(-n // size))]
    return joined([propose(problem, mixture, labels, one, rng) for one in sizes])


def weighted(draws: Draws, points: np.ndarray, log_ratio: np.ndarray) -> Weighted:
    """Smooth the importance weights of draws; one out of the dtype's range has none."""
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    return Weighted(draws, points, log_ratio, *importance_weights(log_ratio))


def joined(parts: list[Weighted]) -> Weighted:
    """Return the draws of several parts as one."""
    theta = {
        name: tf.concat([part.draws.theta[name] for part in parts], axis=0)
        for name in parts[0].draws.theta
    }
    draws = Draws(
        theta,
        np.concatenate([part.draws.points for part in parts]),
        tf.concat([part.draws.log_q for part in parts], axis=0),
    )
    points = np.concatenate([part.points for part in parts])
    return weighted(draws, points, np.concatenate([part.log_ratio for part in parts]))


def degrees_of_freedom(P: int, settings: ProposalSettings) -> float:
    """Return the degrees of freedom of the members.

    The distance of a t distribution's draws from its centre varies by a factor that all coordinates
    share. With many of them it has to vary less, or few draws are at the right distance.
    """
    return max(settings.df, P / 2.0)


class Cloud(NamedTuple):
    """Points that a proposal begins with, in one labelling.

    sample [S, P] : approximate draws of the whole posterior, possibly none.
    modes [R, P] : draws of the approximations at its modes, whose shares are not known.
    """

    sample: np.ndarray
    modes: np.ndarray


def adapt(
    posterior: TemperedDensity,
    cloud: Cloud,
    labels: Labels,
    rng: np.random.Generator,
    settings: ProposalSettings,
) -> StudentMixture:
    """Fit a mixture to a cloud, and adapt it to the posterior.

    Each adaptation fits the mixture to all draws so far, those of the cloud among them, and each
    part counts as its effective number of draws.

    Parameters
    ----------
    posterior : the density by which draws are moved: see `density_for_moves`.
    """
    problem = posterior.problem
    points = np.concatenate([cloud.sample, cloud.modes])
    P = points.shape[1]
    members = number_of_members(len(points), P, labels, settings)
    df = degrees_of_freedom(P, settings)
    mixture = student_mixture.fit_cloud(points, members, df, rng)
    parts = [cloud.sample]
    weights = [np.full(len(cloud.sample), settings.worth_of_sample)]
    for number in range(settings.most_adaptations):
        found = propose(problem, mixture, labels, settings.draws, rng)
        is_reliable = found.khat < settings.khat
        is_efficient = found.effective > settings.efficiency * settings.draws
        if is_reliable and (is_efficient or number >= settings.adaptations):
            break
        part = _tempered_weights(found, settings.effective_per_coordinate * P)
        parts.append(found.points)
        weights.append(part / (part**2).sum())
        if not is_reliable and is_affordable(problem):
            parts.append(_rejuvenated(posterior, found, part, labels, rng))
            weights.append(np.full(len(parts[-1]), settings.worth_of_sample))
        mixture = _refitted(mixture, parts, weights)
    return mixture


def refitted_to_draws(
    mixture: StudentMixture, found: list[Weighted], settings: ProposalSettings
) -> StudentMixture:
    """Fit a mixture again to draws of mixtures before it, of which there are many."""
    fewest = settings.effective_per_coordinate * mixture.means.shape[1]
    weights = [_tempered_weights(one, fewest) for one in found]
    worth = [weight / (weight**2).sum() for weight in weights]
    return _refitted(mixture, [one.points for one in found], worth)


def _rejuvenated(
    posterior: TemperedDensity,
    found: Weighted,
    weights: np.ndarray,
    labels: Labels,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return draws [n, P] moved from weighted ones to where the proposal may not reach."""
    problem, settings = posterior.problem, posterior.problem.settings.scout
    chosen = resample_systematically(weights, settings.particles, rng)
    points = moved(posterior, found.draws.points[chosen].astype(np.float64), rng, settings)
    return align(as_log_ratios(problem, points), centre_of(found.points[chosen]), labels)


def _refitted(
    mixture: StudentMixture, parts: list[np.ndarray], weights: list[np.ndarray]
) -> StudentMixture:
    """Return the mixture fitted to parts of draws, without those of negligible weight."""
    points, weight = np.concatenate(parts), np.concatenate(weights)
    kept = weight > _NEGLIGIBLE * weight.sum() / len(weight)
    weight = weight[kept] / weight[kept].sum()
    return student_mixture.refit(mixture, points[kept], weight, _STEPS_OF_EM)


def number_of_members(points: int, P: int, labels: Labels, settings: ProposalSettings) -> int:
    """Return how many members the points can support, and all labellings of them are affordable."""
    most = points / (settings.points_per_coordinate * (P + 1))
    labellings = math.exp(min(labels.log_count, 50.0))
    most = min(most, settings.most_members, settings.most_labelled_members / labellings)
    return int(max(most, min(settings.fewest_members, points / (P + 1)), 1))


def _tempered_weights(found: Weighted, fewest: float) -> np.ndarray:
    """Return the weights, raised to a power at which enough draws are effective."""
    weights, power = found.weights, 1.0
    fewest = min(fewest, 0.3 * len(weights))
    while 1.0 / (weights**2).sum() < fewest and power > _LEAST_POWER:
        power *= _FALL_OF_POWER
        weights = np.exp(power * (found.log_ratio - found.log_ratio.max()))
        weights /= weights.sum()
    return weights
