"""Draws of the whole posterior, resampled from a proposal by importance weights or from chains."""

import sys
from dataclasses import replace

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import Weighted, propose_in_parts, weighted
from bgmm_jd.sampling.relabelling import Labels, labels_of
from bgmm_jd.variational.approximation import (
    Approximation,
    Bank,
    Draws,
    Problem,
    Proposal,
    Region,
    take_draws,
)
from bgmm_jd.variational.evaluation import affordable_draws
from bgmm_jd.variational.points import draws_at_log_ratios


def has_whole_posterior(approximation: Approximation) -> bool:
    """Return whether draws of the whole posterior can be made."""
    return approximation.bank is not None or approximation.proposal is not None


def only_mode(approximation: Approximation, region: Region) -> Approximation:
    """Return what draws from one part of the posterior only."""
    bank, proposal = approximation.bank, approximation.proposal
    return replace(
        approximation,
        bank=None if bank is None else bank._replace(chosen=region.chosen),
        proposal=None if proposal is None else proposal._replace(region=region),
    )


def draw_whole(approximation: Approximation, n: int, seed: int) -> Draws:
    """Draw n times from the posterior, all of its modes or the one that is chosen.

    From the draws of chains where there are such, each equally often, but for one. Otherwise from
    as many proposals as make some n effective draws; fewer if that is not affordable.

    Raises
    ------
    ValueError
        If no proposal is in the part of the posterior that is drawn from.
    """
    rng = np.random.default_rng([seed, 3])
    problem, bank, proposal = approximation.problem, approximation.bank, approximation.proposal
    if bank is not None:
        return draws_of_bank(problem, bank.points[_choose(bank, n, rng)])
    if proposal is None:
        raise RuntimeError("The approximation has no draws of the whole posterior.")
    labels = labels_of(problem)._replace(budget=sys.maxsize)  # the fit has shown what it costs
    proposals = _number_of_proposals(problem, proposal, n)
    found = propose_in_parts(problem, proposal.mixture, labels, proposals, rng)
    if proposal.region is not None:
        found = _within(found, proposal.region, labels)
    return take_draws(found.draws, resample_systematically(found.weights, n, rng))


def draws_of_bank(problem: Problem, points: np.ndarray) -> Draws:
    """Return points [S, P] of a bank as draws; log q is NaN, as nothing has proposed them."""
    theta, coordinates, _ = draws_at_log_ratios(problem, points)
    return Draws(theta, coordinates, tf.constant(np.full(len(points), np.nan, problem.data.dtype)))


def draws_by_chain(problem: Problem, bank: Bank, most: int) -> list[Draws]:
    """Return the draws of each chain, thinned evenly to at most so many."""
    length = len(bank.points) // bank.chains
    kept = np.linspace(0, length - 1, min(most, length)).round().astype(int)
    by_chain = bank.points.reshape(bank.chains, length, -1)[:, kept]
    return [draws_of_bank(problem, points) for points in by_chain]


def _choose(bank: Bank, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of n draws, none of them more often than once more than another."""
    possible = np.arange(len(bank.points))
    if bank.chosen is not None:
        possible = possible[bank.mode == bank.chosen]
    rounds = [rng.permutation(possible) for _ in range(-(-n // len(possible)))]
    return np.concatenate(rounds)[:n]


def _number_of_proposals(problem: Problem, proposal: Proposal, n: int) -> int:
    settings = problem.settings.proposal
    share = 1.0 if proposal.region is None else proposal.region.share
    wanted = int(n / share * min(1.0 / proposal.efficiency, settings.most_per_draw))
    return max(min(wanted, affordable_draws(problem)), n, settings.fewest)


def _within(found: Weighted, region: Region, labels: Labels) -> Weighted:
    """Return the draws with no weight outside of one part of the posterior."""
    inside = nearest_mode(found.points, region.centres, labels) == region.chosen
    if not np.isfinite(found.log_ratio[inside]).any():
        raise ValueError(
            f"none of {len(inside):,} proposals belongs to this mode, whose share is "
            f"{region.share:.3f}. Ask for more draws."
        )
    return weighted(found.draws, found.points, np.where(inside, found.log_ratio, -np.inf))
