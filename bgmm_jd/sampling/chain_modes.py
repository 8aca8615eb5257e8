"""Chains at each mode of the posterior: where they begin, what they draw, and whether they stay."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.sampling.chains import advance, leapfrogs_per_move, mixing, warm_up
from bgmm_jd.sampling.draws import draw_whole
from bgmm_jd.sampling.hamiltonian import particles_at
from bgmm_jd.sampling.modes import LEAST_SHARE, draws_at_modes, nearest_mode
from bgmm_jd.sampling.relabelling import Labels, align, centre_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.settings import ChainSettings
from bgmm_jd.variational.approximation import Approximation, Centre, Mixing, Problem
from bgmm_jd.variational.evaluation import affordable_draws
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.points import as_log_ratios, draws_at_log_ratios
from bgmm_jd.variational.tempered import TemperedDensity

_COST_OF_GRADIENT = 3  # densities; times D where each row has a matrix of its own
_DRAWS_PER_COORDINATE, _FEWEST_DRAWS = 10, 1_000  # for the covariance matrix at the beginning
_FEWEST_AT_MODE = 200  # weighted draws of it; otherwise those of its own approximation
_HOPE = 2.0  # times as fast as so far effective draws may come
_LEAST_STAYING = 0.5  # fraction of draws in the part of the posterior where their chains began


class ModeDraws(NamedTuple):
    """What the chains of one mode have drawn.

    mode : its number.
    centre : of the draws that the chains began with.
    points [C, T, P] : in coordinates with log ratios, and in the labelling of the mode.
    is_inside [C, T] : whether they are in the part of the posterior that is nearest to the mode.
    mixing : of all of them.
    """

    mode: int
    centre: Centre
    points: np.ndarray
    is_inside: np.ndarray
    mixing: Mixing


def affordable_gradients(problem: Problem) -> int:
    """Return the number of gradients that chains may take in all."""
    has_own_matrices = problem.model.has_covariance_matrices and not problem.data.is_complete
    features = problem.data.shape[1] if has_own_matrices else 1
    return affordable_draws(problem) // (_COST_OF_GRADIENT * features)


def starts_of_modes(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    whole: WholePosterior | None,
    labels: Labels,
    seed: int,
    rng: np.random.Generator,
) -> dict[int, np.ndarray]:
    """Return draws [S, P] at the modes that get chains, in coordinates with log ratios.

    From a proposal for all modes, where there is one, and otherwise from the approximation at each.
    """
    problem = approximation.problem
    P, settings = labels.layout.size, problem.settings.chains
    n = max(_DRAWS_PER_COORDINATE * P, _FEWEST_DRAWS)
    # Without variables of its own for each component a mode is not told from its labellings.
    others = rivals if problem.model.has_separate_components else ()
    found = dict(enumerate(draws_at_modes(approximation, others, labels, rng, n)))
    chosen = list(found)
    if whole is not None:
        draws = draw_whole(replace(approximation, proposal=whole.proposal), n, seed)
        points = as_log_ratios(problem, draws.points)
        nearest = nearest_mode(points, whole.centres, labels)
        chosen = _likely_modes(whole)
        for mode in chosen:
            there = np.unique(points[nearest == mode], axis=0)  # without copies of heavy draws
            if len(there) >= _FEWEST_AT_MODE:
                found[mode] = align(there, whole.centres[mode], labels)
    begun = {mode: found[mode] for mode in chosen[: settings.most_modes]}
    return {mode: points for mode, points in begun.items() if len(points) >= settings.chains}


def _likely_modes(whole: WholePosterior) -> list[int]:
    """Return the numbers of the modes by their share, without negligible ones that are known."""
    by_share = [int(mode) for mode in np.argsort(-whole.shares)]
    if whole.khat > KHAT_LIMIT:
        return by_share
    return [mode for mode in by_share if whole.shares[mode] >= LEAST_SHARE]


def draw_mode(
    target: TemperedDensity,
    mode: int,
    points: np.ndarray,
    labels: Labels,
    rng: np.random.Generator,
    most_gradients: float,
) -> ModeDraws:
    """Run chains from some of the points [S, P] of a mode until they have mixed, or to a limit.

    Or until the number of effective draws, which grows with that of the moves, shows that they will
    not have mixed there.

    Raises
    ------
    FloatingPointError
        If a point has no coordinates in the range of the dtype.
    numpy.linalg.LinAlgError
        If the points have no covariance matrix.
    """
    problem, settings = target.problem, target.problem.settings.chains
    coordinates = draws_at_log_ratios(problem, points)[1].astype(np.float64)
    possible = np.isfinite(particles_at(target, coordinates).log_density(target.temperature))
    coordinates = coordinates[possible]
    if len(coordinates) < settings.chains:
        raise FloatingPointError("Too few points have a density.")
    start = rng.permutation(coordinates)[: settings.chains]
    chains = warm_up(target, start, _factor(coordinates), rng, settings)
    most = _most_moves(leapfrogs_per_move(chains, settings), most_gradients, settings)
    centre, moves = centre_of(points), settings.moves
    parts: list[np.ndarray] = []
    while True:
        chains, drawn = advance(target, chains, moves, rng, settings)
        parts.append(_labelled(problem, drawn, centre, labels))
        together = np.concatenate(parts, axis=1)
        mixed = mixing(together)
        is_enough = mixed.rhat < settings.rhat and mixed.effective > settings.effective
        moves = together.shape[1]  # twice as many in all the next time, as a look takes time too
        is_hopeless = _HOPE * mixed.effective * most < settings.fewest_effective * moves
        if is_enough or is_hopeless or 2 * moves > most:
            return ModeDraws(mode, centre, together, np.ones(together.shape[:2], bool), mixed)


def _most_moves(leapfrogs: float, most_gradients: float, settings: ChainSettings) -> float:
    """Return how many moves after the warm-up are affordable."""
    affordable = most_gradients / (leapfrogs * settings.chains) - sum(settings.warm_up)
    return min(affordable, settings.most_moves)


def _factor(points: np.ndarray) -> np.ndarray:
    """Return a factor of the covariance matrix of points [S, P], with small correlations shrunk.

    Towards a diagonal matrix, by as many draws as there are coordinates.
    """
    S, P = points.shape
    covariance = np.atleast_2d(np.cov(points.T))
    shrunk = (S * covariance + P * np.diag(np.diagonal(covariance))) / (S + P)
    return np.linalg.cholesky(shrunk)


def _labelled(problem: Problem, drawn: np.ndarray, centre: Centre, labels: Labels) -> np.ndarray:
    """Return points [C, T, P] in coordinates with log ratios and the labelling of a centre."""
    flat = as_log_ratios(problem, drawn.reshape(-1, drawn.shape[-1]))
    if len(flat) < drawn.shape[0] * drawn.shape[1]:
        raise FloatingPointError("A point is out of the range of the dtype.")
    return align(flat, centre, labels).reshape(drawn.shape)


def modes_that_hold(drawn: list[ModeDraws], labels: Labels) -> list[ModeDraws]:
    """Return the modes whose chains stay near them, with marks of the draws that do.

    Chains that leave show that their mode is not apart from the others.
    """
    if len(drawn) == 1:
        return drawn
    marked = _marked(drawn, labels)
    kept = [one for one in marked if one.is_inside.mean() >= _LEAST_STAYING]
    return _marked(kept, labels) if 0 < len(kept) < len(drawn) else marked


def _marked(drawn: list[ModeDraws], labels: Labels) -> list[ModeDraws]:
    """Return the draws with marks of those that are nearest to their own mode."""
    centres, found = [one.centre for one in drawn], []
    for number, one in enumerate(drawn):
        chains, moves, P = one.points.shape
        nearest = nearest_mode(one.points.reshape(-1, P), centres, labels)
        found.append(one._replace(is_inside=(nearest == number).reshape(chains, moves)))
    return found
