"""Draws of the whole posterior, resampled from a proposal by importance weights."""

import sys

import numpy as np

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import Weighted, propose_in_parts, weighted
from bgmm_jd.sampling.relabelling import Labels, labels_of
from bgmm_jd.variational.approximation import (
    Approximation,
    Draws,
    Problem,
    Proposal,
    Region,
    take_draws,
)
from bgmm_jd.variational.evaluation import affordable_draws


def draw_whole(approximation: Approximation, n: int, seed: int) -> Draws:
    """Draw n times from the posterior, all of its modes or the one that is chosen.

    There are as many proposals as make some n effective ones; fewer if that is not affordable.

    Raises
    ------
    ValueError
        If no proposal is in the part of the posterior that is drawn from.
    """
    proposal, problem = approximation.proposal, approximation.problem
    if proposal is None:
        raise RuntimeError("The approximation has no proposal for the whole posterior.")
    rng = np.random.default_rng([seed, 3])
    labels = labels_of(problem)._replace(budget=sys.maxsize)  # the fit has shown what it costs
    proposals = _number_of_proposals(problem, proposal, n)
    found = propose_in_parts(problem, proposal.mixture, labels, proposals, rng)
    if proposal.region is not None:
        found = _within(found, proposal.region, labels)
    return take_draws(found.draws, resample_systematically(found.weights, n, rng))


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
