"""The generalized Pareto distribution of what exceeds a threshold.

Of shape k and scale sigma, its quantile function is sigma ((1 - p)^-k - 1) / k.
"""

import math
from typing import NamedTuple

import numpy as np

_PRIOR_SHAPE, _PRIOR_WORTH = 0.5, 10.0  # of the shape, and how many excesses that is worth


class Pareto(NamedTuple):
    """A generalized Pareto distribution, of location zero."""

    shape: float
    scale: float


def fit(excess: np.ndarray) -> Pareto:
    """Fit by the quasi-Bayesian estimator of Zhang and Stephens (2009, *Technometrics* 51(3)).

    With b = -k / sigma, the likelihood is largest for k = mean log(1 - b x), and one of b alone;
    b is averaged over it, at the quantiles of a prior of its own. The shape that comes of it is
    pulled to 1/2 by a prior, as Vehtari et al. (2024, appendix C) have it, who also take ten points
    more. Shape and scale are NaN where the excesses are too small for a float.

    Parameters
    ----------
    excess : [n], positive, in ascending order.
    """
    n = len(excess)
    points = 30 + math.isqrt(n)
    with np.errstate(all="ignore"):
        spread = 1.0 - np.sqrt(points / (np.arange(points) + 0.5))
        b = 1.0 / excess[-1] + spread / (3.0 * excess[int(n / 4.0 + 0.5) - 1])
        k = np.log1p(-b[:, np.newaxis] * excess).mean(axis=1)
        log_likelihood = n * (np.log(-b / k) - k - 1.0)
        weight = np.exp(log_likelihood - np.max(log_likelihood))
        b = (weight @ b) / weight.sum()
        k = np.log1p(-b * excess).mean()
        scale = -k / b
    shape = (n * k + _PRIOR_WORTH * _PRIOR_SHAPE) / (n + _PRIOR_WORTH)
    return Pareto(float(shape), float(scale))


def quantile(distribution: Pareto, p: np.ndarray) -> np.ndarray:
    """The excesses below which shares p of the distribution are."""
    exponential = -np.log1p(-p)  # of mean 1: the quantiles of shape zero
    if distribution.shape == 0.0:
        return distribution.scale * exponential
    return distribution.scale * np.expm1(distribution.shape * exponential) / distribution.shape
