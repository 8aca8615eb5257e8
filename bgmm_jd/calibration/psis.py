"""Pareto-smoothed importance weights (Vehtari et al. 2024, *Pareto smoothed importance sampling*).

The weights that exceed a threshold become quantiles of a generalized Pareto distribution; of shape
k and scale sigma, its quantile function is sigma ((1 - p)^-k - 1) / k. Written here because each
fit needs the weights, and importing ArviZ takes half a second. The `psislw` of arviz 0.23 gives the
same numbers.
"""

import math
from typing import NamedTuple

import numpy as np

_PRIOR_SHAPE, _PRIOR_WORTH = 0.5, 10.0  # of the shape, and how many excesses that is worth


class Pareto(NamedTuple):
    """A generalized Pareto distribution, of location zero."""

    shape: float
    scale: float


def fit_pareto(excess: np.ndarray) -> Pareto:
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


def pareto_quantile(distribution: Pareto, p: np.ndarray) -> np.ndarray:
    """The excesses below which shares p of the distribution are."""
    exponential = -np.log1p(-p)  # of mean 1: the quantiles of shape zero
    if distribution.shape == 0.0:
        return distribution.scale * exponential
    return distribution.scale * np.expm1(distribution.shape * exponential) / distribution.shape


KHAT_LIMIT = 0.7  # beyond it weights are of no use (Vehtari et al. 2024)
_FEWEST_IN_TAIL = 5


def pareto_smooth(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Smooth importance weights and say how far they can be trusted.

    The largest min(S / 5, 3 sqrt(S)) of them become quantiles of a generalized Pareto distribution
    that is fitted to them, but none becomes larger than the largest was.

    Parameters
    ----------
    log_ratio : [S]
        Log target density less log proposal density of draws of the proposal, in nats; a constant
        does not matter.

    Returns
    -------
    weights : [S], summing to 1
    khat : float
        Shape of that distribution: below 0.5 the weights have a variance, above 0.7 they are of no
        use. Infinite where there is no tail to fit.
    """
    S = len(log_ratio)
    if np.ptp(log_ratio) == 0.0:  # equal weights have no tail, and leave no doubt
        return np.full(S, 1.0 / S), 0.0
    weights = np.exp(log_ratio - np.max(log_ratio))
    order = np.argsort(weights)
    size = math.ceil(min(S / 5.0, 3.0 * math.sqrt(S)))
    cut = max(weights[order[-size - 1]], np.finfo(np.float64).tiny)
    tail = order[weights[order] > cut]
    khat = math.inf
    if len(tail) >= _FEWEST_IN_TAIL:
        excess = fit_pareto(weights[tail] - cut)
        if np.isfinite(excess).all():
            khat = excess.shape
            middles = (np.arange(len(tail)) + 0.5) / len(tail)
            with np.errstate(over="ignore"):  # of hopeless weights, to be cut
                weights[tail] = np.minimum(cut + pareto_quantile(excess, middles), 1.0)
    return weights / weights.sum(), khat


def resample_systematically(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices [n] of a systematic resample, in random order.

    A weight w appears floor(n w) or ceil(n w) times: no draw is repeated whose weight is below
    1 / n (Douc and Cappe 2005).
    """
    edges = np.cumsum(weights)
    places = (rng.random() + np.arange(n)) / n * edges[-1]
    return rng.permutation(np.searchsorted(edges, places, side="right").clip(max=len(weights) - 1))
