"""Fits of one data set from several seeds: which optimum they reach, and how quickly."""

import collections
import time
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import comb

import bgmm_jd

ENOUGH = 0.5  # nats that no reader would notice


class Fit(NamedTuple):
    """One fit: its elbo with standard error, ARI, steps of all runs, status and seconds."""

    elbo: float
    elbo_se: float
    ari: float
    steps: int
    status: str
    seconds: float


def fit_once(X: np.ndarray, classes: np.ndarray | None, K: int, **options: Any) -> Fit:
    """Fit rows X [N, D] with the options of `bgmm_jd.fit`; ARI is NaN without classes [N]."""
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        posterior = bgmm_jd.fit(X, K, progress=False, **options)
    seconds = time.perf_counter() - begun
    ari = np.nan
    if classes is not None:
        ari = adjusted_rand_index(classes, bgmm_jd.predict(posterior, X))
    steps = sum(restart.steps for restart in posterior.restarts)
    return Fit(
        posterior.elbo, posterior.elbo_se, ari, steps, posterior.status.name, round(seconds, 2)
    )


def adjusted_rand_index(a: np.ndarray, b: np.ndarray) -> float:
    """Return the index of Hubert and Arabie (1985): 1 for equal partitions, 0 by chance."""
    _, a = np.unique(a, return_inverse=True)
    _, b = np.unique(b, return_inverse=True)
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    together = comb(counts, 2).sum()
    rows, columns = comb(counts.sum(axis=1), 2).sum(), comb(counts.sum(axis=0), 2).sum()
    expected = rows * columns / comb(len(a), 2)
    return float((together - expected) / (0.5 * (rows + columns) - expected))


def number_reaching(fits: Sequence[Fit], optimum: Fit) -> int:
    """Count the fits whose elbo is not lower than that of another fit, but for noise."""
    return sum(
        optimum.elbo - fit.elbo < ENOUGH + 3.0 * np.hypot(optimum.elbo_se, fit.elbo_se)
        for fit in fits
    )


def cells(fits: Sequence[Fit]) -> tuple[str, str]:
    """Return seconds, of the first fit and the median of the others, and statuses as cells."""
    statuses = collections.Counter(fit.status for fit in fits if fit.status != "CONVERGED")
    return (
        f"{fits[0].seconds:.1f}, {np.median([fit.seconds for fit in fits[1:] or fits]):.1f}",
        ", ".join(f"{status} {count}" for status, count in statuses.items()),
    )
