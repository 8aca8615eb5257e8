"""The log evidence by bridge sampling, from draws of the posterior and of a proposal.

With r = joint / q, draws x_i of the posterior and y_j of a proposal q, the evidence Z solves

    Z = mean_j [r(y_j) / (a r(y_j) + b Z)] / mean_i [1 / (a r(x_i) + b Z)],

where a and b are the fractions of effective draws that are of the posterior and of q (Meng and Wong
1996, *Statistica Sinica* 6). Neither average has heavy tails, and so the two distributions need
only overlap, where importance sampling needs q to have the heavier tails. It is the estimate of
choice for mixtures, with a q that has all labellings (Fruehwirth-Schnatter 2004, *Econometrics
Journal* 7).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.sampling import student_mixture
from bgmm_jd.sampling.chain_modes import ModeDraws
from bgmm_jd.sampling.evidence import MOST_SE, OUT_OF_REACH, Evidence
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import (
    degrees_of_freedom,
    number_of_members,
    propose,
    weigh,
)
from bgmm_jd.sampling.relabelling import Labels, TooManyLabellings
from bgmm_jd.variational.approximation import Centre, Problem, StudentMixture

_MOST_ITERATIONS, _TOLERANCE = 1_000, 1e-6
# The proposal need only overlap with the draws: a few members, fitted to few draws, are enough.
_MOST_FITTED, _MOST_MEMBERS = 4_000, 12


def evidence_of_mode(
    problem: Problem,
    labels: Labels,
    drawn: ModeDraws,
    centres: Sequence[Centre],
    rng: np.random.Generator,
) -> Evidence:
    """Return the log evidence of the part of the posterior that is nearest to a mode.

    The proposal is fitted to the draws of one half of the chains, and bridged to those of the
    other; then the halves change places. The error is the larger of the one that the averages show
    and the one that the two results show.

    Parameters
    ----------
    centres : of all modes.
    """
    if problem.model.is_stick_breaking:  # each labelling has a density of its own
        return OUT_OF_REACH
    fewest = drawn.points.shape[-1]  # for a covariance matrix
    first, second = np.array_split(np.arange(len(drawn.points)), 2)
    effective = min(drawn.mixing.effective, drawn.is_inside.size) * drawn.is_inside.mean() / 2.0
    logs, errors = [], []
    for fitted, bridged in ((first, second), (second, first)):
        points = [drawn.points[half][drawn.is_inside[half]] for half in (fitted, bridged)]
        if min(len(part) for part in points) <= fewest:
            return OUT_OF_REACH
        try:
            mixture = _proposal_for(problem, labels, points[0], rng)
            few = problem.settings.chains.bridge_draws // 2
            of_chains = weigh(problem, mixture, labels, rng.permutation(points[1])[:few])
            of_proposal = propose(problem, mixture, labels, few, rng)
        except (TooManyLabellings, np.linalg.LinAlgError):
            return OUT_OF_REACH
        nearest = nearest_mode(of_proposal.points, centres, labels)
        is_inside = [centres[number] is drawn.centre for number in nearest]
        log_ratio = np.where(is_inside, of_proposal.log_ratio, -np.inf)
        found = bridge_evidence(of_chains.log_ratio, log_ratio, min(effective, few))
        logs.append(found.log)
        errors.append(found.se)
    se = max(math.hypot(*errors), abs(logs[0] - logs[1])) / 2.0
    return Evidence(float(np.mean(logs)), se)


def _proposal_for(
    problem: Problem, labels: Labels, points: np.ndarray, rng: np.random.Generator
) -> StudentMixture:
    """Return a mixture of t distributions fitted to points [S, P]."""
    P, settings = points.shape[1], problem.settings.proposal
    df = degrees_of_freedom(P, settings)
    if settings.most_coordinates < P:
        return student_mixture.single_member(points, df)
    few = rng.permutation(points)[:_MOST_FITTED]
    members = min(number_of_members(len(few), P, labels, settings), _MOST_MEMBERS)
    return student_mixture.fit_cloud(few, members, df, rng)


def bridge_evidence(
    log_ratio: np.ndarray, log_ratio_of_proposal: np.ndarray, effective: float
) -> Evidence:
    """Return the log evidence and its standard error, by the delta method; NaN if that is large.

    Parameters
    ----------
    log_ratio : [S], log joint less log q at draws of the posterior.
    log_ratio_of_proposal : [R], the same at independent draws of q; -inf where the posterior is
        restricted to a part that they are not in.
    effective : effective number of the draws of the posterior.
    """
    n = float(effective) + len(log_ratio_of_proposal)
    log_a, log_b = math.log(effective / n), math.log(len(log_ratio_of_proposal) / n)
    log_Z = float(np.median(log_ratio))
    for _ in range(_MOST_ITERATIONS):
        of_q = log_ratio_of_proposal - np.logaddexp(log_a + log_ratio_of_proposal, log_b + log_Z)
        of_p = -np.logaddexp(log_a + log_ratio, log_b + log_Z)
        before, log_Z = log_Z, _log_mean(of_q) - _log_mean(of_p)
        if not math.isfinite(log_Z):
            return OUT_OF_REACH
        if abs(log_Z - before) < _TOLERANCE:
            break
    variance = _relative_variance(of_q) / len(of_q) + _relative_variance(of_p) / effective
    se = math.sqrt(variance)
    return Evidence(log_Z, se) if se < MOST_SE else OUT_OF_REACH


def _log_mean(log_values: np.ndarray) -> float:
    return float(logsumexp(log_values) - math.log(len(log_values)))


def _relative_variance(log_values: np.ndarray) -> float:
    """Return the variance of values over their squared mean."""
    values = np.exp(log_values - log_values.max())
    return float(values.var() / values.mean() ** 2)
