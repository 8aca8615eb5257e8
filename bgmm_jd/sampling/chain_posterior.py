"""The posterior by Hamiltonian Monte Carlo, where no proposal has good importance weights.

Chains begin at draws of each mode and stay there, because they rarely cross between modes. What
they cannot say, the probability of each mode, is in its evidence, which is estimated by bridge
sampling within the part of the posterior that is nearer to this mode than to the others.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import softmax

from bgmm_jd.calibration.psis import KHAT_LIMIT, resample_systematically
from bgmm_jd.sampling.bridge import evidence_of_mode
from bgmm_jd.sampling.chain_modes import (
    ModeDraws,
    affordable_gradients,
    draw_mode,
    modes_that_hold,
    starts_of_modes,
)
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import OUT_OF_REACH, Evidence, sum_of_evidences
from bgmm_jd.sampling.modes import LEAST_SHARE
from bgmm_jd.sampling.relabelling import Labels, labels_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Approximation, Bank, Mixing, Problem
from bgmm_jd.variational.evaluation import dtype_for_moves
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.tempered import TemperedDensity

_USUAL_LEAPFROGS = 5  # of a move
_LEAST_PART = 0.25  # of the number of draws of one mode: the least size of a bank of several


def are_affordable(problem: Problem) -> bool:
    """Return whether as many gradients as chains usually take are affordable."""
    settings = problem.settings.chains
    moves = sum(settings.warm_up) + settings.moves
    return affordable_gradients(problem) >= settings.chains * moves * _USUAL_LEAPFROGS


def draw_chains(
    approximation: Approximation,
    rivals: Sequence[VariationalParameters],
    whole: WholePosterior | None,
    khat: float,
    seed: int,
) -> WholePosterior | None:
    """Return draws of Markov chains at each mode, and the probability of each.

    A mode that reliable weights have found to be negligible keeps its share, without chains. The
    probability is NaN for any other mode without chains, and for all where an evidence is out of
    reach; the draws are then of the best mode alone. None where no chains can be run, because
    draws are out of the dtype's range.

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
    starts = starts_of_modes(approximation, rivals, whole, labels, seed, rng)
    if not starts:
        return None
    target = accurate_density(approximation)._replace(most_points=problem.settings.chains.chains)
    most = affordable_gradients(problem) / len(starts)
    try:
        drawn = [draw_mode(target, m, starts[m], labels, rng, most) for m in sorted(starts)]
    except (FloatingPointError, np.linalg.LinAlgError):
        return None
    held = modes_that_hold(drawn, labels)
    mixed = _worst([one.mixing for one in held])
    evidences = _evidences(problem, held, mixed, labels, rng)
    shares = _known_shares(whole, 1 + len(rivals))
    shares[[one.mode for one in drawn]] = 0.0
    left = 1.0 - float(np.nansum(shares))
    shares[[one.mode for one in held]] = left * _softmax([one.log for one in evidences])
    if np.isnan(shares).any():
        held, evidence = held[:1], OUT_OF_REACH
    else:
        evidence = sum_of_evidences(evidences)
        evidence = evidence._replace(log=evidence.log - float(np.log(left)))
    return WholePosterior(
        proposal=None,
        evidence=evidence,
        khat=khat,
        centres=tuple(one.centre for one in held),
        shares=shares,
        khats=np.full(len(shares), np.nan),
        is_scouted=whole is not None and whole.is_scouted,
        bank=_bank(held, shares, mixed, rng),
    )


def accurate_density(approximation: Approximation) -> TemperedDensity:
    """Return the posterior density, by a matrix product where that is accurate enough for draws."""
    problem = approximation.problem
    return TemperedDensity(problem, statistics=dtype_for_moves(problem, approximation.params))


def _evidences(
    problem: Problem,
    held: list[ModeDraws],
    mixed: Mixing,
    labels: Labels,
    rng: np.random.Generator,
) -> list[Evidence]:
    """Return the evidence of each mode; out of reach if some chains have not mixed."""
    if not is_sound(mixed, problem.settings.chains):
        return [OUT_OF_REACH] * len(held)
    centres = [one.centre for one in held]
    return [evidence_of_mode(problem, labels, one, centres, rng) for one in held]


def _known_shares(whole: WholePosterior | None, modes: int) -> np.ndarray:
    """Return the shares of negligible modes, where weights tell them, and NaN for all others."""
    if whole is None or whole.khat > KHAT_LIMIT:
        return np.full(modes, np.nan)
    return np.where(whole.shares < LEAST_SHARE, whole.shares, np.nan)


def _softmax(log_evidences: list[float]) -> np.ndarray:
    """Return probabilities in proportion to evidences; 1 for a single one, known or not."""
    return np.ones(1) if len(log_evidences) == 1 else softmax(log_evidences)


def _bank(
    held: list[ModeDraws], shares: np.ndarray, mixed: Mixing, rng: np.random.Generator
) -> Bank:
    """Return the draws of one mode, chain after chain, or of several in proportion to them.

    Of several there are as many as leave no draw repeated, but at least a quarter of those of one
    mode; draws of a mode with too few are then repeated.
    """
    inside = [one.points[one.is_inside] for one in held]
    counts = [len(part) for part in inside]
    points, mode = np.concatenate(inside), np.repeat([one.mode for one in held], counts)
    if len(held) == 1:
        is_whole = bool(held[0].is_inside.all())
        order = np.arange(len(points)) if is_whole else rng.permutation(len(points))
        return Bank(points[order], len(held[0].points) if is_whole else 1, mode, mixed)
    own = shares[[one.mode for one in held]]
    own = own / own.sum()
    size = max(int((counts / own).min()), int(_LEAST_PART * held[0].is_inside.size))
    chosen = resample_systematically(np.repeat(own / counts, counts), size, rng)
    return Bank(points[chosen], 1, mode[chosen], mixed)


def _worst(mixings: list[Mixing]) -> Mixing:
    rhats, effective = zip(*mixings, strict=True)
    return Mixing(float(np.max(rhats)), float(np.min(effective)))  # NaN if one of them is
