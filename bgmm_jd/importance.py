"""Pareto-smoothed importance weights, by ArviZ, under either of its lines."""

import numpy as np

from bgmm_jd.arviz_line import arviz_line, import_arviz

KHAT_LIMIT = 0.7  # beyond it weights are of no use (Vehtari et al. 2024)


def smooth(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    """Smooth importance weights and say how far they can be trusted.

    Parameters
    ----------
    log_ratio : [S]
        Log target density less log proposal density of draws of the proposal, in nats; a constant
        does not matter.

    Returns
    -------
    weights : [S], summing to 1
    khat : float
        Shape of the generalized Pareto distribution fitted to the largest weights (Vehtari et al.
        2024, *Pareto smoothed importance sampling*): below 0.5 the weights have a variance, above
        0.7 they are of no use.
    """
    if np.ptp(log_ratio) == 0.0:  # equal weights have no tail to fit
        return np.full(len(log_ratio), 1.0 / len(log_ratio)), 0.0
    with np.errstate(all="ignore"):  # hopeless weights overflow in the fit of their tail
        log_weights, khat = _psis(log_ratio)
    weights = np.exp(log_weights - np.max(log_weights))
    return weights / weights.sum(), float(khat) if np.isfinite(khat) else np.inf


def _psis(log_ratio: np.ndarray) -> tuple[np.ndarray, float]:
    if arviz_line() == 0:
        return import_arviz().psislw(log_ratio)
    from arviz_stats.base import array_stats

    # The array version takes the negated log ratio, as leave-one-out wants it.
    return array_stats.psislw(-log_ratio)


def resample(weights: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Indices [n] of a systematic resample, in random order.

    A weight w appears floor(n w) or ceil(n w) times: no draw is repeated whose weight is below
    1 / n (Douc and Cappe 2005).
    """
    edges = np.cumsum(weights)
    places = (rng.random() + np.arange(n)) / n * edges[-1]
    return rng.permutation(np.searchsorted(edges, places, side="right").clip(max=len(weights) - 1))
