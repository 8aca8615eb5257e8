"""Where the fit starts: k-means++ on a subsample, then a conjugate update of each component.

The update makes the surrogate's concentrations right to a few per cent from the first step. A
start from the prior is what kept the published example from converging: its concentrations have
to grow with the number of rows.
"""

from dataclasses import dataclass, replace

import numpy as np

_SUBSAMPLE = 10_000  # rows: enough for a start, whatever N
_LLOYD_ITERATIONS = 25

Moments = tuple[np.ndarray, np.ndarray]  # mean and standard deviation, of a variable's shape


@dataclass(frozen=True)
class Clusters:
    """A hard clustering, in internal units.

    count [K] : rows in each cluster, scaled up from the subsample to all of X.
    mean, variance [K, D]
    """

    count: np.ndarray
    mean: np.ndarray
    variance: np.ndarray


def cluster(
    rows: np.ndarray,
    K: int,
    rng: np.random.Generator,
    init: np.ndarray | None = None,
    trials: int = 1,
) -> Clusters:
    """Cluster a subsample of the rows, in the order of the first feature's means.

    Parameters
    ----------
    rows : [N, D]
    K : int
    rng : np.random.Generator
    init : [K, D], optional
        Means to start from instead, whose order is kept.
    trials : int
        k-means++ seedings, of which the tightest clustering is kept.
    """
    sample = _subsample(rows, max(_SUBSAMPLE, 20 * K), rng)
    if init is None:
        centres = min(
            (_lloyd(sample, _kmeans_plus_plus(sample, K, rng)) for _ in range(trials)),
            key=lambda centres: _squared_distances(sample, centres).min(axis=1).sum(),
        )
        centres = centres[np.lexsort(centres.T[::-1])]
    else:
        centres = init.astype(np.float64)
    label = _squared_distances(sample, centres).argmin(axis=1)
    found = _summarise(sample, label, centres)
    return replace(found, count=found.count * (len(rows) / len(sample)))


def _subsample(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    if len(rows) > most:
        rows = rows[rng.choice(len(rows), most, replace=False)]
    return rows.astype(np.float64)


def _squared_distances(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """[n, K]; by the expanded form, whose rounding does not matter for a start."""
    cross = rows @ centres.T
    squares = (rows**2).sum(axis=1)[:, None] - 2.0 * cross + (centres**2).sum(axis=1)
    return np.maximum(squares, 0.0)


def _kmeans_plus_plus(rows: np.ndarray, K: int, rng: np.random.Generator) -> np.ndarray:
    """Seeds drawn by squared distance (Arthur and Vassilvitskii 2007): [K, D]."""
    chosen = [int(rng.integers(len(rows)))]
    nearest = _squared_distances(rows, rows[chosen])[:, 0]
    for _ in range(1, K):
        total = nearest.sum()
        # Fewer distinct rows than K: the remaining seeds fall on any row.
        p = nearest / total if total > 0 else None
        chosen.append(int(rng.choice(len(rows), p=p)))
        nearest = np.minimum(nearest, _squared_distances(rows, rows[chosen[-1:]])[:, 0])
    return rows[chosen]


def _lloyd(rows: np.ndarray, centres: np.ndarray) -> np.ndarray:
    label = None
    for _ in range(_LLOYD_ITERATIONS):
        previous, label = label, _squared_distances(rows, centres).argmin(axis=1)
        if previous is not None and (label == previous).all():
            break
        centres = _summarise(rows, label, centres).mean
    return centres


def _summarise(rows: np.ndarray, label: np.ndarray, centres: np.ndarray) -> Clusters:
    """Counts, means and variances by label; an empty cluster keeps its centre."""
    K = len(centres)
    member = (label[:, None] == np.arange(K)).astype(np.float64)
    count = member.sum(axis=0)
    n = np.maximum(count, 1.0)[:, None]
    mean = np.where(count[:, None] > 0, member.T @ rows / n, centres)
    variance = np.maximum(member.T @ rows**2 / n - (member.T @ rows / n) ** 2, 0.0)
    return Clusters(count, mean, variance)


def moments(clusters: Clusters) -> dict[str, Moments]:
    """Mean and standard deviation of each variable of the model, in internal units.

    A conjugate update with a prior worth one row: a component has the variance that K equal
    clusters would have, K^(-2/D), until its own rows say otherwise; a cluster of one row, or of
    equal rows, is therefore no singularity.
    """
    K, D = clusters.mean.shape
    n = clusters.count[:, None]
    variance = (n * clusters.variance + K ** (-2.0 / D)) / (n + 1.0)
    sd = np.sqrt(variance)
    total = clusters.count.sum() + K
    weights = (clusters.count + 1.0) / total
    relative = 1.0 / np.sqrt(2.0 * (n + 1.0))  # of a standard deviation estimated from n rows
    return {
        "weights": (weights, np.sqrt(weights * (1.0 - weights) / (total + 1.0))),
        "means": (clusters.mean, sd / np.sqrt(n + 1.0)),
        "precisions": (1.0 / variance, 2.0 * relative / variance),
        "scales": (sd, relative * sd),
    }
