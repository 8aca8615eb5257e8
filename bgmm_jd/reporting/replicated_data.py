"""Data sets under draws of the parameters, for predictive checks."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bgmm_jd.model.covariances import covariance_factors
from bgmm_jd.posterior.normal_mixtures import replicate_data
from bgmm_jd.posterior.posterior import Posterior


class ReplicatedData(NamedTuple):
    """Data sets of N rows under some draws of each chain.

    x : [chain, S, N, D], in the units and dtype of X.
    draw : [S], the number of the draw that each data set is of.
    """

    x: np.ndarray
    draw: np.ndarray


def replicated_data(
    posterior: Posterior, theta: Mapping[str, np.ndarray], N: int, rng: np.random.Generator
) -> ReplicatedData:
    """Draw a data set of N rows under each of the draws theta [chain, S, ...], in the units of X.

    Only under every second draw, or every third, ..., where all would need more than the memory
    budget; under one at least.
    """
    weights, means = theta["weights"], theta["means"]
    factors = covariance_factors(theta, posterior.covariance)
    chains, draws = weights.shape[:2]
    numbers = chains * draws * N * posterior.D
    every = max(1, -(-numbers // posterior.settings.memory.posterior_predictive))  # rounded up
    kept = np.arange(0, draws, every)
    x = [
        replicate_data(weights[c, kept], means[c, kept], factors[c, kept], N, rng)
        for c in range(chains)
    ]
    return ReplicatedData(np.stack(x), kept)
