"""The posterior by draws of a proposal that are moved by Hamiltonian Monte Carlo.

The importance weights of a proposal that covers all modes may be too poor to draw by, because it
lacks their shape, and still tell how probable each mode is. Its draws are therefore resampled by
their weights and moved: the moves leave the posterior invariant, give the draws its shape, and need
not cross from mode to mode. There are several groups, each from proposals of its own; if the
weights were too poor, the groups differ, which R-hat between them shows.
"""

from collections.abc import Iterator

import numpy as np

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.bridge import evidence_of_mode
from bgmm_jd.sampling.chain_modes import ModeDraws
from bgmm_jd.sampling.chains import mixing
from bgmm_jd.sampling.evidence import Evidence
from bgmm_jd.sampling.hamiltonian import Trajectory, move, particles_at
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import propose_in_parts
from bgmm_jd.sampling.relabelling import Labels, TooManyLabellings, align, centre_of, labels_of
from bgmm_jd.sampling.scout import adapted_step, curvature_scale
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.settings import PopulationSettings
from bgmm_jd.variational.approximation import Bank, Problem, StudentMixture
from bgmm_jd.variational.points import as_log_ratios
from bgmm_jd.variational.tempered import TemperedDensity


def draw_population(
    target: TemperedDensity, whole: WholePosterior, mixture: StudentMixture, seed: int
) -> WholePosterior | None:
    """Return draws of the whole posterior, and its evidence by bridge sampling.

    None where draws are out of the dtype's range, or have too many labellings.

    Parameters
    ----------
    target : the posterior density.
    whole : what is known of it by importance weights.
    mixture : the proposal for all modes.
    seed : int
    """
    problem = target.problem
    labels, rng = labels_of(problem), np.random.default_rng([seed, 6])
    try:
        points = _moved_groups(target, mixture, labels, rng)
        drawn = _as_one_mode(points)
        evidence = evidence_of_mode(problem, labels, drawn, [drawn.centre], rng)
    except (FloatingPointError, TooManyLabellings, np.linalg.LinAlgError):
        return None
    return _population_of(drawn, evidence, whole, labels, rng)


def _moved_groups(
    target: TemperedDensity, mixture: StudentMixture, labels: Labels, rng: np.random.Generator
) -> np.ndarray:
    """Return the points of each group, particle after particle: [groups, particles x moves, P].

    In coordinates with log ratios, and in one labelling.
    """
    problem, settings = target.problem, target.problem.settings.population
    groups = range(settings.groups)
    start = np.concatenate([_resampled(problem, mixture, labels, rng) for _ in groups])
    steps = list(_moves(target, start, rng, settings))
    moved = np.stack(steps, axis=1)  # [groups x particles, moves, P]
    flat = as_log_ratios(problem, moved.reshape(-1, moved.shape[-1]))
    if len(flat) < moved.shape[0] * moved.shape[1]:
        raise FloatingPointError("A point is out of the range of the dtype.")
    return align(flat, centre_of(flat), labels).reshape(settings.groups, -1, flat.shape[1])


def _resampled(
    problem: Problem, mixture: StudentMixture, labels: Labels, rng: np.random.Generator
) -> np.ndarray:
    """Return the particles of one group [n, P], in the coordinates of the calibration."""
    settings = problem.settings.population
    found = propose_in_parts(problem, mixture, labels, settings.proposals, rng)
    chosen = resample_systematically(found.weights, settings.particles, rng)
    return found.draws.points[chosen].astype(np.float64)


def _moves(
    target: TemperedDensity,
    points: np.ndarray,
    rng: np.random.Generator,
    settings: PopulationSettings,
) -> Iterator[np.ndarray]:
    """Yield the points [n, P] after each move that follows the warm-up."""
    particles, step = particles_at(target, points), settings.first_step
    scale = curvature_scale(particles)
    for number in range(settings.warm_up + settings.moves):
        trajectory = Trajectory(step, settings.leapfrogs, np.diag(scale))
        particles, acceptance = move(target, particles, trajectory, rng)
        if number < settings.warm_up:
            step = adapted_step(step, acceptance, settings.acceptance)
            scale = curvature_scale(particles)
        else:
            yield particles.points


def _as_one_mode(points: np.ndarray) -> ModeDraws:
    """Return the points of groups as those of chains at a single mode, the whole posterior."""
    centre = centre_of(points.reshape(-1, points.shape[-1]))
    return ModeDraws(0, centre, points, np.ones(points.shape[:2], bool), mixing(points))


def _population_of(
    drawn: ModeDraws,
    evidence: Evidence,
    whole: WholePosterior,
    labels: Labels,
    rng: np.random.Generator,
) -> WholePosterior:
    """Return what the points tell: a bank of draws, and the share of each mode."""
    points = rng.permutation(drawn.points.reshape(-1, drawn.points.shape[-1]))
    mode = nearest_mode(points, whole.centres, labels)
    shares = np.bincount(mode, minlength=len(whole.centres)) / len(mode)
    return whole._replace(
        proposal=None,
        evidence=evidence,
        shares=shares,
        khats=np.full(len(shares), np.nan),
        bank=Bank(points, 1, mode, drawn.mixing),
    )
