"""Pareto-smoothed importance weights (Vehtari et al. 2024, *Pareto smoothed importance sampling*).

The largest weights become quantiles of a generalized Pareto distribution that is fitted to them.
Its quantile function, with shape k and scale sigma, is sigma ((1 - p)^-k - 1) / k. It is written
here because each fit needs the weights, and importing ArviZ takes half a second. The `psislw` of
arviz 0.23 gives the same numbers.
"""

import math
from typing import NamedTuple

import numpy as np

KHAT_LIMIT = 0.7  # above it the weights are unreliable (Vehtari et al. 2024)
_FEWEST_IN_TAIL = 5
_PRIOR_SHAPE, _PRIOR_COUNT = 0.5, 10.0  # of the shape, and the number of excesses it counts as


def importance_weights(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Return smoothed weights and k-hat as `pareto_smooth` does, of ratios that may not be finite.

    A draw whose ratio is not, because it is out of the dtype's range, has a negligible weight.
    Where no ratio is finite the weights are equal, and k-hat is infinite.
    """
    possible = np.isfinite(log_ratio)
    if not possible.any():
        return np.full(len(log_ratio), 1.0 / len(log_ratio)), math.inf
    lowest = np.min(log_ratio[possible], initial=0.0)
    return pareto_smooth(np.where(possible, log_ratio, lowest - 100.0))


class Pareto(NamedTuple):
    """A generalized Pareto distribution with location zero."""

    shape: float
    scale: float


def pareto_smooth(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Smooth importance weights, and estimate how reliable they are.

    The largest min(S / 5, 3 sqrt(S)) of them become quantiles of a generalized Pareto distribution
    that is fitted to them, but none becomes larger than the largest was.

    Parameters
    ----------
    log_ratio : array [S]
        Log target density less log proposal density of draws of the proposal, in nats; a constant
        does not matter.

    Returns
    -------
    weights : array [S], summing to 1
    khat : float
        Shape of that distribution: below 0.5 the weights have a finite variance, above 0.7 they are
        unreliable. Infinite where there is no tail to fit.
    """
    S = len(log_ratio)
    if np.ptp(log_ratio) == 0.0:  # equal weights have no tail
        return np.full(S, 1.0 / S), 0.0
    weights = np.exp(log_ratio - np.max(log_ratio))
    order = np.argsort(weights)
    size = math.ceil(min(S / 5.0, 3.0 * math.sqrt(S)))
    cut = max(weights[order[-size - 1]], np.finfo(np.float64).tiny)
    tail = order[weights[order] > cut]
    khat = math.inf
    if len(tail) >= _FEWEST_IN_TAIL:
        tail_fit = fit_pareto(weights[tail] - cut)
        if np.isfinite(tail_fit).all():
            khat = tail_fit.shape
            middles = (np.arange(len(tail)) + 0.5) / len(tail)
            with np.errstate(over="ignore"):  # a quantile that overflows is cut off at 1
                weights[tail] = np.minimum(cut + pareto_quantile(tail_fit, middles), 1.0)
    return weights / weights.sum(), khat


def fit_pareto(excess: np.ndarray) -> Pareto:
    """Fit by the quasi-Bayesian estimator of Zhang and Stephens (2009, *Technometrics* 51(3)).

    With b = -k / sigma: profile out k = mean log(1 - b x); average b over its profile likelihood on
    a grid of prior quantiles (30 + sqrt(n) points, ten more than in the paper); then shrink the
    shape towards 1/2. The last two follow Vehtari et al. (2024, appendix C). Shape and scale are
    NaN where the excesses are too small for a float.

    Parameters
    ----------
    excess : array [n], positive, in ascending order.
    """
    n = len(excess)
    points = 30 + math.isqrt(n)
    with np.errstate(all="ignore"):
        offset = 1.0 - np.sqrt(points / (np.arange(points) + 0.5))
        b = 1.0 / excess[-1] + offset / (3.0 * excess[int(n / 4.0 + 0.5) - 1])
        k = np.log1p(-b[:, np.newaxis] * excess).mean(axis=1)
        log_likelihood = n * (np.log(-b / k) - k - 1.0)
        weight = np.exp(log_likelihood - np.max(log_likelihood))
        b = (weight @ b) / weight.sum()
        k = np.log1p(-b * excess).mean()
        scale = -k / b
    shape = (n * k + _PRIOR_COUNT * _PRIOR_SHAPE) / (n + _PRIOR_COUNT)
    return Pareto(float(shape), float(scale))


def pareto_quantile(distribution: Pareto, p: np.ndarray) -> np.ndarray:
    """Return the quantiles of a generalized Pareto distribution at probabilities p."""
    exponential = -np.log1p(-p)  # quantiles of mean 1, those of shape zero
    if distribution.shape == 0.0:
        return distribution.scale * exponential
    return distribution.scale * np.expm1(distribution.shape * exponential) / distribution.shape


def resample_systematically(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices [n] of a systematic resample, in random order.

    A weight w appears floor(n w) or ceil(n w) times: no draw is repeated whose weight is below
    1 / n (Douc and Cappe 2005).
    """
    edges = np.cumsum(weights)
    places = (rng.random() + np.arange(n)) / n * edges[-1]
    return rng.permutation(np.searchsorted(edges, places, side="right").clip(max=len(weights) - 1))
