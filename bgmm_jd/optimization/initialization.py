"""Where the fit starts: k-means++ on a subsample, then a conjugate update of each component.

The update makes the surrogate's concentrations right to a few per cent from the first step. A
start from the prior is what kept the published example from converging: its concentrations have
to grow with the number of rows.

Missing entries count nowhere: a distance is over what is observed, a mean is of what is observed
(Chi, Chi and Baraniuk 2016, *k-POD*).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.rows import Rows, row_weights
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_shape

_SUBSAMPLE = 10_000  # rows: enough for a start, whatever N
_LLOYD_ITERATIONS = 25
_TRIALS = 16  # seedings for each number of clusters
_IN_VAIN = 3  # larger numbers of clusters that are tried after the best

MeanAndSd = tuple[np.ndarray, np.ndarray]  # mean and standard deviation, of a variable's shape


class ClusteringSample(NamedTuple):
    """Rows in float64: values [n, D], 1 where one is observed [n, D], and row weights [n]."""

    values: np.ndarray
    there: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Clusters:
    """A hard clustering, in internal units.

    count [K] : rows in each cluster, scaled up from the subsample to all of X.
    mean [K, D]
    covariance [K, D, D]
    """

    count: np.ndarray
    mean: np.ndarray
    covariance: np.ndarray


def cluster_rows(
    rows: Rows,
    K: int,
    rng: np.random.Generator,
    init: np.ndarray | None = None,
    trials: int = 1,
) -> Clusters:
    """Cluster a subsample of the rows, in the order of the first feature's means.

    Parameters
    ----------
    rows : N of them, as arrays.
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
            key=lambda centres: sample.weight @ _squared_distances(sample, centres).min(axis=1),
        )
        centres = centres[np.lexsort(centres.T[::-1])]
    else:
        centres = init.astype(np.float64)
    label = _squared_distances(sample, centres).argmin(axis=1)
    found = _summarise(sample, label, centres)
    total = _clustering_weights(rows).sum()
    return replace(found, count=found.count * (total / sample.weight.sum()))


def cluster_as_needed(
    rows: Rows, K: int, form: str, rng: np.random.Generator, more: int = 0
) -> Clusters:
    """As few clusters as describe the rows, the largest first, and the rest of the K empty.

    Their number has the best Bayesian information criterion of hard clusterings (as in Fraley and
    Raftery 2002). A fit would merge clusters that are one only slowly, or not at all. Hard
    clusterings that overlap are described worse than they deserve, and too few of them found.

    Parameters
    ----------
    more : clusters beyond that number.
    """
    found = [cluster_rows(rows, 1, rng)]
    scores = [_criterion(found[0], form)]
    while len(found) < K and len(found) - np.argmax(scores) <= _IN_VAIN + more:
        found.append(cluster_rows(rows, len(found) + 1, rng, trials=_TRIALS))
        scores.append(_criterion(found[-1], form))
    best = found[min(int(np.argmax(scores)) + more, K - 1)]
    order = np.argsort(-best.count)
    empty = K - len(order)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array[order], np.zeros((empty, *array.shape[1:]))])

    return Clusters(padded(best.count), padded(best.mean), padded(best.covariance))


def _criterion(clusters: Clusters, form: str) -> float:
    """Log likelihood of the labelled rows less half the parameters times log N, in nats."""
    K, D = clusters.mean.shape
    n, N = clusters.count, clusters.count.sum()
    covariance = _shrunk(n[:, None, None], clusters.covariance, K ** (-2.0 / D) * np.eye(D))
    if form in MATRIX_FORMS:
        log_det, parameters = np.linalg.slogdet(covariance)[1], D * (D + 1) / 2
    else:
        log_det, parameters = np.log(np.diagonal(covariance, axis1=1, axis2=2)).sum(axis=1), D
    likelihood = n @ (np.log(np.maximum(n, 1.0) / N) - 0.5 * log_det)
    return float(likelihood - 0.5 * K * (1 + D + parameters) * np.log(N))


def _subsample(rows: Rows, most: int, rng: np.random.Generator) -> ClusteringSample:
    N = len(rows.values)
    chosen = rng.choice(N, most, replace=False) if most < N else np.arange(N)
    values = rows.values[chosen].astype(np.float64)
    there = np.ones_like(values)
    if rows.missing is not None:
        there = rows.missing.observed[rows.missing.pattern[chosen]].astype(np.float64)
    return ClusteringSample(values, there, _clustering_weights(rows)[chosen])


def _clustering_weights(rows: Rows) -> np.ndarray:
    """What each row counts for: its weight, and nothing where no entry is observed."""
    if rows.missing is None:
        return row_weights(rows)
    return row_weights(rows) * rows.missing.observed.any(axis=1)[rows.missing.pattern]


def _squared_distances(sample: ClusteringSample, centres: np.ndarray) -> np.ndarray:
    """[n, K]; by the expanded form, whose rounding does not matter for a start."""
    values, there, _ = sample  # a missing value is 0
    cross = values @ centres.T
    squares = (values**2).sum(axis=1)[:, None] - 2.0 * cross + there @ (centres**2).T
    return np.maximum(squares, 0.0)


def _kmeans_plus_plus(sample: ClusteringSample, K: int, rng: np.random.Generator) -> np.ndarray:
    """Seeds drawn by squared distance (Arthur and Vassilvitskii 2007): [K, D]."""
    weight = sample.weight / sample.weight.sum()
    chosen = [int(rng.choice(len(weight), p=weight))]
    nearest = _squared_distances(sample, sample.values[chosen])[:, 0]
    for _ in range(1, K):
        share = weight * nearest
        # Fewer distinct rows than K: the remaining seeds fall on any row.
        p = share / share.sum() if share.sum() > 0 else weight
        chosen.append(int(rng.choice(len(weight), p=p)))
        nearest = np.minimum(nearest, _squared_distances(sample, sample.values[chosen[-1:]])[:, 0])
    return sample.values[chosen]


def _lloyd(sample: ClusteringSample, centres: np.ndarray) -> np.ndarray:
    label = None
    for _ in range(_LLOYD_ITERATIONS):
        previous, label = label, _squared_distances(sample, centres).argmin(axis=1)
        if previous is not None and (label == previous).all():
            break
        centres = _means(sample, _member(sample, label, len(centres)), centres)
    return centres


def _member(sample: ClusteringSample, label: np.ndarray, K: int) -> np.ndarray:
    """The weight of each row in its cluster, 0 elsewhere: [n, K]."""
    return (label[:, None] == np.arange(K)) * sample.weight[:, None]


def _means(sample: ClusteringSample, member: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Means of what is observed; where nothing is, the centre stays."""
    count = member.T @ sample.there
    total = member.T @ (sample.values * sample.there)
    return np.where(count > 0, total / np.maximum(count, 1e-300), centres)


def _summarise(sample: ClusteringSample, label: np.ndarray, centres: np.ndarray) -> Clusters:
    """Counts, means and covariances by label; an empty cluster keeps its centre."""
    K, D = centres.shape
    member = _member(sample, label, K)
    mean = _means(sample, member, centres)
    deviation = (sample.values - mean[label]) * sample.there
    count = member.sum(axis=0)
    covariance = np.empty((K, D, D))
    for k in range(K):
        share = member[:, k, None]
        covariance[k] = (share * deviation).T @ deviation / max(count[k], 1e-300)
        # What is missing has no deviation: the diagonal is divided by what is there, which is
        # less, and stays the larger part.
        there = np.maximum((share * sample.there).sum(axis=0), 1e-300)
        np.fill_diagonal(covariance[k], (share * deviation**2).sum(axis=0) / there)
    return Clusters(count, mean, covariance)


def moments_from_clusters(clusters: Clusters, form: str) -> dict[str, MeanAndSd]:
    """Mean and standard deviation of each variable of the model, in internal units.

    A conjugate update with a prior worth one row: a component has the variance that K equal
    clusters would have, K^(-2/D), until its own rows say otherwise; a cluster of one row, or of
    equal rows, is therefore no singularity.

    Parameters
    ----------
    form : of the covariance.
    """
    K, D = clusters.mean.shape
    n = clusters.count
    total = n.sum() + K
    weights = (n + 1.0) / total
    prior = K ** (-2.0 / D) * np.eye(D)
    covariance = _shrunk(n[:, None, None], clusters.covariance, prior)
    sd = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    return {
        "weights": (weights, np.sqrt(weights * (1.0 - weights) / (total + 1.0))),
        "means": (clusters.mean, sd / np.sqrt(n + 1.0)[:, None]),
        **_scale_moments(clusters, covariance, prior, form),
    }


def _shrunk(n: np.ndarray, covariance: np.ndarray, prior: np.ndarray) -> np.ndarray:
    return (n * covariance + prior) / (n + 1.0)


def _scale_moments(
    clusters: Clusters, covariance: np.ndarray, prior: np.ndarray, form: str
) -> dict[str, MeanAndSd]:
    """Of `precisions` and `scales`, whichever the prior has."""
    K, D = clusters.mean.shape
    n = clusters.count
    if form in ("diag", "spherical"):
        variance = np.diagonal(covariance, axis1=1, axis2=2)
        rows = n[:, None]
        if form == "spherical":
            variance, rows = variance.mean(axis=1, keepdims=True), D * rows
        sd, relative = np.sqrt(variance), _relative_sd(rows)
        return {
            "precisions": (1.0 / variance, 2.0 * relative / variance),
            "scales": (sd, relative * sd),
        }
    if form == "tied":
        pooled = (n[:, None, None] * clusters.covariance).sum(axis=0) / max(n.sum(), 1e-300)
        covariance, n = _shrunk(n.sum(), pooled, prior), n.sum()
    assert covariance.shape == scale_shape(form, K, D)
    relative = _relative_sd(n)[..., None, None]
    precision = np.linalg.inv(covariance)
    lower = np.linalg.cholesky(covariance)
    length = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))[..., None]
    # var[i, j] of a Wishart matrix with n degrees of freedom, as `families` has it.
    own = np.diagonal(precision, axis1=-2, axis2=-1)
    spread = np.sqrt((precision**2 + own[..., :, None] * own[..., None, :]) / 2.0)
    return {
        "precisions": (precision, 2.0 * relative * spread),
        "scales": (lower, relative * np.broadcast_to(length, lower.shape)),
    }


def _relative_sd(n: np.ndarray) -> np.ndarray:
    """Of a standard deviation that is estimated from n rows."""
    return np.asarray(1.0 / np.sqrt(2.0 * (n + 1.0)))
