"""The modes of the posterior: the distinct optima, and the draws that belong to each."""

from collections.abc import Sequence

import numpy as np

from bgmm_jd.calibration.importance_sampling import draw_proposal
from bgmm_jd.calibration.psis import pareto_smooth
from bgmm_jd.sampling.proposal import Weighted
from bgmm_jd.sampling.relabelling import Labels, align_together, centre_of, distance_from
from bgmm_jd.variational.approximation import Approximation, Centre, draw_mean_field
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.points import as_log_ratios

# Of a mode: less is negligible beside the others, and too little to make draws of it alone.
LEAST_SHARE = 0.01


def draws_at_modes(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    labels: Labels,
    rng: np.random.Generator,
    n: int,
) -> list[np.ndarray]:
    """Return draws [S, P] at each mode, with the labels of the first.

    n of the calibrated posterior at the best, and a few of the surrogate at each of its rivals.
    """
    problem = approximation.problem
    best = draw_proposal(approximation, n, rng, widened=False)
    found = [as_log_ratios(problem, best.points)]
    for params in rivals:
        few, seed = problem.settings.proposal.mode_draws, int(rng.integers(2**31))
        draws = draw_mean_field(problem, params, few, seed)
        points = as_log_ratios(problem, draws.points)
        found.append(align_together(points, centre_of(found[0]), labels))
    return found


def nearest_mode(points: np.ndarray, centres: Sequence[Centre], labels: Labels) -> np.ndarray:
    """Return the number [S] of the mode whose centre each point is nearest to.

    In units of the modes' mean variances, and under the nearest labelling.
    """
    sd = np.sqrt(np.mean([centre.sd**2 for centre in centres], axis=0))
    apart = [distance_from(points, centre._replace(sd=sd), labels) for centre in centres]
    return np.argmin(apart, axis=0)


def shares_of_modes(
    found: Weighted, centres: Sequence[Centre], labels: Labels
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior probability of being nearest to each of J modes, and k-hat there: [J].

    k-hat is that of the weights of the draws there; infinite where there are too few of them.
    """
    if len(centres) == 1:
        return np.ones(1), np.array([found.khat])
    nearest = nearest_mode(found.points, centres, labels)
    khats = np.full(len(centres), np.inf)
    for mode in range(len(centres)):
        there = found.log_ratio[nearest == mode]
        if len(there) > 1:
            khats[mode] = pareto_smooth(there)[1]
    return np.bincount(nearest, found.weights, minlength=len(centres)), khats
