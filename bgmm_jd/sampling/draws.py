"""Draws of the whole posterior, resampled from a proposal by importance weights."""

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.sampling.modes import nearest_mode
from bgmm_jd.sampling.proposal import Weighted, propose, weighted
from bgmm_jd.sampling.relabelling import Labels, labels_of
from bgmm_jd.variational.approximation import Approximation, Draws, Proposal
from bgmm_jd.variational.evaluation import affordable_draws


def draw_whole(approximation: Approximation, n: int, seed: int) -> Draws:
    """Draw n times from the posterior, all of its modes.

    There are as many proposals as make some n effective ones; fewer if that is not affordable.
    """
    proposal = approximation.proposal
    if proposal is None:
        raise RuntimeError("The approximation has no proposal for the whole posterior.")
    rng = np.random.default_rng([seed, 3])
    settings = approximation.problem.settings.proposal
    wanted = int(n * np.clip(1.0 / proposal.efficiency, 1.0, settings.most_per_draw))
    proposals = max(min(wanted, affordable_draws(approximation.problem)), n, settings.fewest)
    labels = labels_of(approximation.problem)
    found = propose(approximation.problem, proposal.mixture, labels, proposals, rng)
    weights = _within_region(found, proposal, labels).weights
    chosen = resample_systematically(weights, n, rng)
    return Draws(
        {name: tf.gather(v, chosen) for name, v in found.draws.theta.items()},
        found.draws.points[chosen],
        tf.gather(found.draws.log_q, chosen),
    )


def _within_region(found: Weighted, proposal: Proposal, labels: Labels) -> Weighted:
    """Return the draws with no weight outside the region that is drawn from."""
    region = proposal.region
    if region is None:
        return found
    inside = nearest_mode(found.points, region.centres, labels) == region.chosen
    if not inside.any():
        return found
    return weighted(found.draws, found.points, np.where(inside, found.log_ratio, -np.inf))
