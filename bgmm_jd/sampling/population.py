"""The posterior by draws of a proposal that are moved by Hamiltonian Monte Carlo.

The importance weights of a proposal that covers all modes may be too poor to draw by, because it
lacks their shape, and still tell how probable each mode is. Its draws are therefore resampled by
their weights and moved. There are several groups, each from proposals of its own; if the weights
were too poor, the groups differ.
"""

import numpy as np

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.bridge import evidence_of_mode
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import OUT_OF_REACH
from bgmm_jd.sampling.moved_groups import Moves, as_one_mode, move_groups, posterior_of_groups
from bgmm_jd.sampling.proposal import propose_in_parts
from bgmm_jd.sampling.relabelling import Labels, TooManyLabellings, align, centre_of, labels_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Problem, StudentMixture
from bgmm_jd.variational.tempered import TemperedDensity


def draw_population(
    target: TemperedDensity, whole: WholePosterior, mixture: StudentMixture, seed: int
) -> WholePosterior | None:
    """Return draws of the whole posterior, and its evidence by bridge sampling if groups agree.

    None where draws are out of the dtype's range, or have too many labellings.

    Parameters
    ----------
    target : the posterior density.
    whole : what is known of it by importance weights.
    mixture : the proposal for all modes.
    seed : int
    """
    problem, settings = target.problem, target.problem.settings.population
    labels, rng = labels_of(problem), np.random.default_rng([seed, 6])
    moves = Moves(
        settings.warm_up,
        settings.moves,
        settings.leapfrogs,
        settings.first_step,
        settings.acceptance,
    )
    try:
        groups = range(settings.groups)
        start = np.stack([_resampled(problem, mixture, labels, rng) for _ in groups])
        points = move_groups(target, start, moves, rng)
        flat = points.reshape(-1, points.shape[-1])
        aligned = align(flat, centre_of(flat), labels).reshape(points.shape)
        drawn = as_one_mode(aligned, moves.kept)
        evidence = OUT_OF_REACH
        if is_sound(drawn.mixing, problem.settings.chains):
            evidence = evidence_of_mode(problem, labels, drawn, [drawn.centre], rng)
    except (FloatingPointError, TooManyLabellings, np.linalg.LinAlgError):
        return None
    known = whole.khat, whole.centres, whole.is_scouted
    return posterior_of_groups(drawn, evidence, *known, labels, rng)


def _resampled(
    problem: Problem, mixture: StudentMixture, labels: Labels, rng: np.random.Generator
) -> np.ndarray:
    """Return the particles of one group [n, P], in the coordinates of the calibration."""
    settings = problem.settings.population
    found = propose_in_parts(problem, mixture, labels, settings.proposals, rng)
    chosen = resample_systematically(found.weights, settings.particles, rng)
    return found.draws.points[chosen].astype(np.float64)
