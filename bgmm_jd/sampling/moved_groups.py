"""Independent groups of draws that are moved by Hamiltonian Monte Carlo and compared as chains are.

The moves leave the posterior invariant, give the draws its shape, and need not cross from mode to
mode. That the draws were in the wrong proportions between modes shows in R-hat between the groups,
and that they have not arrived in R-hat between early and late moves.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from bgmm_jd.sampling.annealing import adapted_step, curvature_scale
from bgmm_jd.sampling.chain_modes import ModeDraws
from bgmm_jd.sampling.chains import effective_draws, rhat
from bgmm_jd.sampling.evidence import Evidence
from bgmm_jd.sampling.hamiltonian import Trajectory, move, particles_at
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.relabelling import Labels, centre_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Bank, Centre, Mixing
from bgmm_jd.variational.points import as_log_ratios
from bgmm_jd.variational.tempered import TemperedDensity


class Moves(NamedTuple):
    """How draws are moved.

    warm_up, kept : moves while the step size and the scale adapt, which are discarded, and those
        after which the draws are kept.
    leapfrogs : gradients of a move.
    first_step : in units of the curvature.
    acceptance : to which the step size adapts.
    """

    warm_up: int
    kept: int
    leapfrogs: int
    first_step: float
    acceptance: float


def move_groups(
    target: TemperedDensity, start: np.ndarray, moves: Moves, rng: np.random.Generator
) -> np.ndarray:
    """Return the points of each group, draw after draw: [groups, draws x moves, P].

    In coordinates with log ratios.

    Parameters
    ----------
    start : [groups, draws, P], in the coordinates of the calibration.

    Raises
    ------
    FloatingPointError
        If a point is out of the range of the dtype.
    """
    groups, _, P = start.shape
    moved = np.stack(list(_moved(target, start.reshape(-1, P), moves, rng)), axis=1)
    flat = as_log_ratios(target.problem, moved.reshape(-1, P))
    if len(flat) < moved.shape[0] * moved.shape[1]:
        raise FloatingPointError("A point is out of the range of the dtype.")
    return flat.reshape(groups, -1, flat.shape[1])


def _moved(
    target: TemperedDensity, points: np.ndarray, moves: Moves, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    """Yield the points [n, P] after each move that follows the warm-up."""
    particles, step = particles_at(target, points), moves.first_step
    scale = curvature_scale(particles, target.temperature)
    for number in range(moves.warm_up + moves.kept):
        trajectory = Trajectory(step, moves.leapfrogs, np.diag(scale))
        particles, acceptance = move(target, particles, trajectory, rng)
        if number < moves.warm_up:
            step = adapted_step(step, acceptance, moves.acceptance)
            scale = curvature_scale(particles, target.temperature)
        else:
            yield particles.points


def as_one_mode(points: np.ndarray, moves: int) -> ModeDraws:
    """Return the points of `move_groups` as those of chains at one mode, the whole posterior.

    Parameters
    ----------
    points : [groups, draws x moves, P]
    moves : that each draw has made.
    """
    centre = centre_of(points.reshape(-1, points.shape[-1]))
    worst = np.maximum(rhat(points), rhat(_by_time(points, moves)))  # NaN if either is
    mixed = Mixing(float(worst), effective_draws(points))
    return ModeDraws(0, centre, points, np.ones(points.shape[:2], bool), mixed)


def _by_time(points: np.ndarray, moves: int) -> np.ndarray:
    """Return the points of early and of late moves as groups of their own [2 groups, S, P].

    Groups that are all on their way to the same place agree with each other at any time.
    """
    groups, _, P = points.shape
    by_move = points.reshape(groups, -1, moves, P)
    half = max(moves // 2, 1)
    return np.concatenate(
        [part.reshape(groups, -1, P) for part in (by_move[:, :, :half], by_move[:, :, -half:])]
    )


def posterior_of_groups(
    drawn: ModeDraws,
    evidence: Evidence,
    khat: float,
    centres: tuple[Centre, ...],
    is_scouted: bool,
    labels: Labels,
    rng: np.random.Generator,
) -> WholePosterior:
    """Return what the points tell: a bank of draws, and the share of each mode.

    Parameters
    ----------
    drawn : all points.
    evidence, khat, centres, is_scouted : see `WholePosterior`.
    """
    points = rng.permutation(drawn.points.reshape(-1, drawn.points.shape[-1]))
    mode = nearest_mode(points, centres, labels)
    shares = np.bincount(mode, minlength=len(centres)) / len(mode)
    return WholePosterior(
        proposal=None,
        evidence=evidence,
        khat=khat,
        centres=centres,
        shares=shares,
        khats=np.full(len(shares), np.nan),
        is_scouted=is_scouted,
        bank=Bank(points, 1, mode, drawn.mixing),
    )
