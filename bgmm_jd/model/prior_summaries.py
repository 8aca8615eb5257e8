"""Summaries of a prior, estimated from its draws."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.model.per_prior import cached_per_prior
from bgmm_jd.model.prior_draws import draw_prior

PRIOR_DRAWS = 200  # a median is then known to a tenth of the sd


@cached_per_prior
def _summaries(
    prior: tfd.JointDistributionCoroutine,
) -> tuple[dict[str, tuple[Any, Any]], tf.Tensor | None]:
    """Return `prior_moments` and the draws of the weights, if the prior has weights.

    Draws are made once, because a prior may have to run a Gibbs sampler for them.
    """
    draws = draw_prior(prior, PRIOR_DRAWS, seed=(0, 0))
    moments = {}
    for name, values in draws.items():
        lower, median, upper = np.quantile(values.numpy(), (0.25, 0.5, 0.75), axis=0)
        moments[name] = (median, 0.1 * (upper - lower) / 1.349)
    return moments, draws.get("weights")


def prior_moments(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[Any, Any]]:
    """Return an initial location and scale for each variable, by name, from the prior alone.

    They start the variables that the data do not inform directly, such as hyperparameters. The
    location is the prior median, because heavy tails have no moments. The scale is a tenth of the
    scaled interquartile range: a narrow start widens within a few steps, while a wide one may reach
    values of next to no density.
    """
    return _summaries(prior)[0]


def smallest_weight(prior: tfd.JointDistributionCoroutine) -> float:
    """Return the prior median of the smallest weight: how empty the prior lets a component be."""
    _, weights = _summaries(prior)
    return float(np.median(np.min(weights, axis=-1)))
