"""Summaries of a prior, estimated from its draws."""

from typing import Any

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.execution import cached_per_prior

_PRIOR_DRAWS = 200


@cached_per_prior
def prior_moments(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[Any, Any]]:
    """Where a variable starts of which the rows say nothing directly: a centre and a spread.

    The prior's median, as heavy tails have no moments, and a tenth of its scaled interquartile
    range: a narrow start widens in a few steps, a wide one may reach where the density is nil.
    """
    draws = prior.sample(_PRIOR_DRAWS, seed=(0, 0))._asdict()
    moments = {}
    for name, values in draws.items():
        low, middle, high = np.quantile(values.numpy(), (0.25, 0.5, 0.75), axis=0)
        moments[name] = (middle, 0.1 * (high - low) / 1.349)
    return moments


@cached_per_prior
def smallest_weight(prior: tfd.JointDistributionCoroutine) -> float:
    """The prior median of the smallest weight: how empty the prior lets a component be."""
    weights = prior.sample(_PRIOR_DRAWS, seed=(0, 0)).weights.numpy()
    return float(np.median(weights.min(axis=-1)))
