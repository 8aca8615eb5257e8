"""The posterior by Hamiltonian Monte Carlo, where no proposal has good importance weights.

Chains begin at draws of each mode and stay there, because they rarely cross between modes. What
they cannot say, the probability of each mode, is in its evidence, which is estimated by bridge
sampling within the part of the posterior that is nearer to this mode than to the others.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.special import softmax

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.bridge import ModeDraws, evidence_of_mode
from bgmm_jd.sampling.chains import Mixing, advance, is_sound, leapfrogs_per_move, mixing, warm_up
from bgmm_jd.sampling.draws import draw_whole
from bgmm_jd.sampling.evidence import OUT_OF_REACH, sum_of_evidences
from bgmm_jd.sampling.hamiltonian import Target
from bgmm_jd.sampling.modes import draws_at_modes, nearest_mode
from bgmm_jd.sampling.relabelling import Labels, align, centre_of, labels_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Approximation, Bank, Problem
from bgmm_jd.variational.coordinates import components_are_separate
from bgmm_jd.variational.evaluation import (
    affordable_draws,
    statistics_fit_in_memory,
    surrogate_statistics_are_accurate,
)
from bgmm_jd.variational.log_ratios import as_log_ratios, draws_at_log_ratios
from bgmm_jd.variational.parameters import VariationalParameters

_COST_OF_GRADIENT = 3  # densities; times D where each row has a matrix product
_USUAL_LEAPFROGS = 5  # of a move
_DRAWS_PER_COORDINATE, _FEWEST_DRAWS = 10, 1_000  # for the covariance matrix at the beginning
_LEAST_STAYING = 0.5  # fraction of draws in the part of the posterior where their chains began


def are_affordable(problem: Problem) -> bool:
    """Return whether as many gradients as chains usually take are affordable."""
    settings = problem.settings.chains
    moves = sum(settings.warm_up) + settings.moves
    return _affordable_gradients(problem) >= settings.chains * moves * _USUAL_LEAPFROGS


def _affordable_gradients(problem: Problem) -> int:
    features = problem.data.shape[1] if problem.model.has_covariance_matrices else 1
    return affordable_draws(problem) // (_COST_OF_GRADIENT * features)


def draw_chains(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    whole: WholePosterior | None,
    khat: float,
    seed: int,
) -> WholePosterior | None:
    """Return draws of Markov chains at each mode, and the probability of each.

    The probability is NaN for a mode without chains, and for all where an evidence is out of reach;
    the draws are then of the best mode alone. None where no chain can begin, because most draws are
    out of the dtype's range.

    Parameters
    ----------
    approximation : at the best optimum.
    rivals : parameters at the other optima that may have a share in the posterior.
    whole : a proposal for all modes, where there is one.
    khat : of the importance weights of the best proposal.
    seed : int
    """
    problem = approximation.problem
    labels, rng = labels_of(problem), np.random.default_rng([seed, 5])
    starts = _starts(approximation, rivals, whole, labels, seed, rng)
    target, fewest = _target(approximation), problem.settings.chains.chains
    drawn: list[ModeDraws] = []
    for mode, points in enumerate(starts):
        if len(points) < fewest:
            continue
        drawn.append(_draw_mode(target, mode, points, labels, rng))
        if not is_sound(drawn[-1].mixing, problem.settings.chains):
            starts = starts[: mode + 1]  # nothing is gained by the others
            break
    if not drawn:
        return None
    held = _modes_that_hold(drawn, labels)
    centres = [one.centre for one in held]
    evidences = [evidence_of_mode(problem, labels, one, centres, rng) for one in held]
    shares = np.zeros(1 + len(rivals))
    shares[len(starts) :] = np.nan
    shares[[one.mode for one in held]] = _softmax([one.log for one in evidences])
    mixed, evidence = _worst([one.mixing for one in held]), OUT_OF_REACH
    if np.isnan(shares).any():
        held = held[:1]
    elif is_sound(mixed, problem.settings.chains):
        evidence = sum_of_evidences(evidences)
    return WholePosterior(
        proposal=None,
        evidence=evidence,
        khat=khat,
        centres=tuple(centres),
        shares=shares,
        khats=np.full(len(shares), np.nan),
        is_scouted=whole is not None and whole.is_scouted,
        bank=_bank(held, shares, rng),
        mixing=mixed,
    )


def _target(approximation: Approximation) -> Target:
    problem = approximation.problem
    use_statistics = statistics_fit_in_memory(problem) and surrogate_statistics_are_accurate(
        problem, approximation.params
    )
    chains = problem.settings.chains.chains
    return Target(problem, use_statistics=use_statistics, most_points=chains)


def _starts(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    whole: WholePosterior | None,
    labels: Labels,
    seed: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """Return draws [S, P] at each mode, in coordinates with log ratios."""
    problem = approximation.problem
    P, most = labels.layout.size, problem.settings.chains.most_modes
    n = max(_DRAWS_PER_COORDINATE * P, _FEWEST_DRAWS)
    if whole is None:
        # Without variables of its own for each component a mode is not told from its labellings.
        separate = components_are_separate(problem.standardized_model, np.zeros(P))
        return draws_at_modes(approximation, rivals[: most - 1] if separate else (), labels, rng, n)
    draws = draw_whole(replace(approximation, proposal=whole.proposal), n, seed)
    points = as_log_ratios(problem, draws.points)
    nearest = nearest_mode(points, whole.centres, labels)
    return [points[nearest == mode] for mode in range(len(whole.centres))]


def _draw_mode(
    target: Target, mode: int, points: np.ndarray, labels: Labels, rng: np.random.Generator
) -> ModeDraws:
    """Run chains from some of the points [S, P] of a mode until they have mixed, or to a limit."""
    problem, settings = target.problem, target.problem.settings.chains
    coordinates = draws_at_log_ratios(problem, points)[1].astype(np.float64)
    start = rng.permutation(coordinates)[: settings.chains]
    chains = warm_up(target, start, _factor(coordinates), rng, settings)
    gradients = leapfrogs_per_move(chains, settings) * settings.chains
    affordable = _affordable_gradients(problem) / gradients - sum(settings.warm_up)
    most = min(affordable, settings.most_moves)
    centre, parts, moves = centre_of(points), [], settings.moves
    while True:
        chains, drawn = advance(target, chains, moves, rng, settings)
        flat = as_log_ratios(problem, drawn.reshape(-1, drawn.shape[-1]))
        parts.append(align(flat, centre, labels).reshape(drawn.shape))
        together = np.concatenate(parts, axis=1)
        mixed = mixing(together)
        is_enough = mixed.rhat < settings.rhat and mixed.effective > settings.effective
        moves = together.shape[1]  # twice as many in all the next time, as a look takes time too
        if is_enough or 2 * moves > most:
            return ModeDraws(mode, centre, together, np.ones(together.shape[:2], bool), mixed)


def _factor(points: np.ndarray) -> np.ndarray:
    """Return a factor of the covariance matrix of points [S, P], with small correlations shrunk.

    Towards a diagonal matrix, by as many draws as there are coordinates.
    """
    S, P = points.shape
    covariance = np.atleast_2d(np.cov(points.T))
    shrunk = (S * covariance + P * np.diag(np.diagonal(covariance))) / (S + P)
    return np.linalg.cholesky(shrunk)


def _modes_that_hold(drawn: list[ModeDraws], labels: Labels) -> list[ModeDraws]:
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


def _softmax(log_evidences: list[float]) -> np.ndarray:
    """Return probabilities in proportion to evidences; 1 for a single one, known or not."""
    return np.ones(1) if len(log_evidences) == 1 else softmax(log_evidences)


def _bank(held: list[ModeDraws], shares: np.ndarray, rng: np.random.Generator) -> Bank:
    """Return the draws of one mode, chain after chain, or of several in proportion to them."""
    inside = [one.points[one.is_inside] for one in held]
    points = np.concatenate(inside)
    mode = np.repeat([one.mode for one in held], [len(part) for part in inside])
    if len(held) == 1:
        return Bank(points, len(held[0].points), mode)
    each = np.repeat(
        [shares[one.mode] / len(part) for one, part in zip(held, inside, strict=True)],
        [len(part) for part in inside],
    )
    chosen = resample_systematically(each, held[0].is_inside.size, rng)
    return Bank(points[chosen], 1, mode[chosen])


def _worst(mixings: list[Mixing]) -> Mixing:
    return Mixing(max(one.rhat for one in mixings), min(one.effective for one in mixings))
