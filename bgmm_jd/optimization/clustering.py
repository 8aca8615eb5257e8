"""Hard clusterings of a subsample, and the conjugate update that makes moments of them.

Missing entries are left out: a distance is over the observed features, and a mean is over the
observed entries (Chi, Chi and Baraniuk 2016, *k-POD*).
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.rows import Rows, row_weights
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.settings import OptimizationSettings

_TINY = 1e-300  # in place of a count of zero
# Of a variable's entries, each of its shape; or with the Cholesky factors of vectors' covariances.
MeanAndSd = tuple[np.ndarray, np.ndarray]


class ClusteringSample(NamedTuple):
    """Rows in float64: values [n, D], 1 where one is observed [n, D], and row weights [n]."""

    values: np.ndarray
    observed: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class Clusters:
    """Hard clusters, or soft ones of variational EM, in standardised units.

    count [K] : rows in each cluster, or their expected number, scaled up from the subsample to all
        of X.
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
    settings: OptimizationSettings,
    init: np.ndarray | None = None,
    seedings: int = 1,
) -> Clusters:
    """Cluster a subsample of the rows, in the order of the first feature's means.

    Parameters
    ----------
    rows : Rows
        N of them, as arrays.
    K : int
    rng : np.random.Generator
    settings : OptimizationSettings
    init : array [K, D], optional
        Means to start from instead, whose order is kept.
    seedings : int
        k-means++ seedings, of which the tightest clustering is kept.
    """
    sample = _subsample(rows, max(settings.clustering_rows, 20 * K), rng)
    if init is None:
        centres = min(
            (
                lloyd(sample, kmeans_plus_plus(sample, K, rng), settings.lloyd_iterations)
                for _ in range(seedings)
            ),
            key=lambda centres: sample.weight @ squared_distances(sample, centres).min(axis=1),
        )
        centres = centres[np.lexsort(centres.T[::-1])]
    else:
        centres = init.astype(np.float64)
    label = squared_distances(sample, centres).argmin(axis=1)
    found = _summarise(sample, _member(sample, label, K), centres)
    total = _clustering_weights(rows).sum()
    return replace(found, count=found.count * (total / sample.weight.sum()))


def cluster_as_needed(
    rows: Rows,
    K: int,
    form: str,
    rng: np.random.Generator,
    settings: OptimizationSettings,
    extra: int = 0,
) -> Clusters:
    """Describe the rows by as few clusters as BIC selects, the largest first; leave the rest empty.

    BIC is that of hard clusterings (as in Fraley and Raftery 2002), which underestimates the number
    of overlapping clusters. The optimiser merges duplicate clusters slowly or never, so that it
    should start with few.

    Parameters
    ----------
    extra : int
        Clusters beyond the number that BIC selects.
    """
    found = [cluster_rows(rows, 1, rng, settings)]
    scores = [_criterion(found[0], form)]
    while len(found) < K and len(found) - np.argmax(scores) <= settings.bic_patience + extra:
        clusters = cluster_rows(rows, len(found) + 1, rng, settings, seedings=settings.bic_seedings)
        found.append(clusters)
        scores.append(_criterion(clusters, form))
    best = found[min(int(np.argmax(scores)) + extra, K - 1)]
    order = np.argsort(-best.count)
    empty = K - len(order)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array[order], np.zeros((empty, *array.shape[1:]))])

    return Clusters(padded(best.count), padded(best.mean), padded(best.covariance))


def _criterion(clusters: Clusters, form: str) -> float:
    """Return minus half the BIC, in nats: log likelihood with labels less parameters log(N) / 2."""
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
    return _sample(rows, rng.choice(N, most, replace=False) if most < N else np.arange(N))


def _sample(rows: Rows, chosen: np.ndarray) -> ClusteringSample:
    values = rows.values[chosen].astype(np.float64)
    observed = np.ones_like(values)
    if rows.missing is not None:
        observed = rows.missing.observed[rows.missing.pattern[chosen]].astype(np.float64)
    return ClusteringSample(values, observed, _clustering_weights(rows)[chosen])


def _clustering_weights(rows: Rows) -> np.ndarray:
    """Return the weight of each row, zero where no entry is observed: [N]."""
    if rows.missing is None:
        return row_weights(rows)
    return row_weights(rows) * rows.missing.observed.any(axis=1)[rows.missing.pattern]


def squared_distances(sample: ClusteringSample, centres: np.ndarray) -> np.ndarray:
    """Return squared distances [n, K], expanded: rounding does not matter for a start."""
    values, observed, _ = sample  # a missing value is 0
    cross = values @ centres.T
    squares = (values**2).sum(axis=1)[:, None] - 2.0 * cross + observed @ (centres**2).T
    return np.maximum(squares, 0.0)


def kmeans_plus_plus(sample: ClusteringSample, K: int, rng: np.random.Generator) -> np.ndarray:
    """Draw seeds [K, D] by squared distance (Arthur and Vassilvitskii 2007)."""
    weight = sample.weight / sample.weight.sum()
    chosen = [int(rng.choice(len(weight), p=weight))]
    nearest = squared_distances(sample, sample.values[chosen])[:, 0]
    for _ in range(1, K):
        share = weight * nearest
        # Fewer distinct rows than K: the remaining seeds fall on any row.
        p = share / share.sum() if share.sum() > 0 else weight
        chosen.append(int(rng.choice(len(weight), p=p)))
        nearest = np.minimum(nearest, squared_distances(sample, sample.values[chosen[-1:]])[:, 0])
    return sample.values[chosen]


def lloyd(sample: ClusteringSample, centres: np.ndarray, iterations: int) -> np.ndarray:
    """Return the centres [K, D] after at most so many iterations of k-means."""
    label = None
    for _ in range(iterations):
        previous, label = label, squared_distances(sample, centres).argmin(axis=1)
        if previous is not None and (label == previous).all():
            break
        centres = _means(sample, _member(sample, label, len(centres)), centres)
    return centres


def _member(sample: ClusteringSample, label: np.ndarray, K: int) -> np.ndarray:
    """Return the weight of each row in its cluster, 0 elsewhere: [n, K]."""
    return (label[:, None] == np.arange(K)) * sample.weight[:, None]


def _means(sample: ClusteringSample, member: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return means of the observed entries; where there are none, the centre stays."""
    count = member.T @ sample.observed
    total = member.T @ (sample.values * sample.observed)
    return np.where(count > 0, total / np.maximum(count, _TINY), centres)


def clusters_of_memberships(rows: Rows, probability: np.ndarray) -> Clusters:
    """Describe clusters to which each row belongs with given probabilities, [N, K].

    A cluster without rows is at the centre of the data.
    """
    sample = _sample(rows, np.arange(len(rows.values)))
    centres = np.zeros((probability.shape[1], sample.values.shape[1]))
    return _summarise(sample, probability * sample.weight[:, None], centres)


def _summarise(sample: ClusteringSample, member: np.ndarray, centres: np.ndarray) -> Clusters:
    """Return counts, means and covariances; an empty cluster keeps its centre.

    Parameters
    ----------
    member : [n, K], the weight of each row in each cluster.
    """
    K, D = centres.shape
    mean = _means(sample, member, centres)
    count = member.sum(axis=0)
    covariance = np.empty((K, D, D))
    for k in range(K):
        share = member[:, k, None]
        deviation = (sample.values - mean[k]) * sample.observed
        covariance[k] = (share * deviation).T @ deviation / max(count[k], _TINY)
        # Missing entries contribute zero deviations, so covariances are divided by the size of the
        # cluster. Variances are divided by the smaller observed count, which only enlarges the
        # diagonal: the matrix stays positive semi-definite.
        observed = np.maximum((share * sample.observed).sum(axis=0), _TINY)
        np.fill_diagonal(covariance[k], (share * deviation**2).sum(axis=0) / observed)
    return Clusters(count, mean, covariance)


def moments_from_clusters(
    clusters: Clusters, form: str, *, is_optimum: bool = False
) -> dict[str, MeanAndSd]:
    """Return the mean and the standard deviation of each variable, in standardised units.

    Of means in the matrix forms it is the lower Cholesky factor of their covariance: where features
    are correlated, independent means of their standard deviations lie far from the rows.

    A conjugate update with a prior that counts as one row: without rows of its own a component has
    the variance that K equal clusters would have, K^(-2/D). A cluster of one row, or of equal rows,
    is therefore no singularity.

    Parameters
    ----------
    form : str
        Of the covariance.
    is_optimum : bool
        Whether the covariances already contain a prior, as those of variational EM do.
    """
    K, D = clusters.mean.shape
    n = clusters.count
    total = n.sum() + K
    weights = (n + 1.0) / total
    prior = K ** (-2.0 / D) * np.eye(D)
    if is_optimum:
        covariance = clusters.covariance
    else:
        covariance = _shrunk(n[:, None, None], clusters.covariance, prior)
    spread = _spread_of_means(n, covariance, form)
    if form == "tied":
        covariance = _tied(clusters, prior, is_optimum)
    return {
        "weights": (weights, np.sqrt(weights * (1.0 - weights) / (total + 1.0))),
        "means": (clusters.mean, spread),
        **_scale_moments(n, covariance, form),
    }


def _spread_of_means(n: np.ndarray, covariance: np.ndarray, form: str) -> np.ndarray:
    """Return the sds [K, D] of the means of n rows each, or Cholesky factors [K, D, D]."""
    if form in MATRIX_FORMS:
        return np.linalg.cholesky(covariance) / np.sqrt(n + 1.0)[:, None, None]
    return np.sqrt(np.diagonal(covariance, axis1=1, axis2=2) / (n + 1.0)[:, None])


def _tied(clusters: Clusters, prior: np.ndarray, is_optimum: bool) -> np.ndarray:
    """Return the common covariance of all clusters: [1, D, D]."""
    if is_optimum:  # all are the same
        return clusters.covariance[:1]
    n = clusters.count
    pooled = (n[:, None, None] * clusters.covariance).sum(axis=0) / max(n.sum(), _TINY)
    return _shrunk(n.sum(), pooled, prior)[None]


def _shrunk(n: np.ndarray, covariance: np.ndarray, prior: np.ndarray) -> np.ndarray:
    return (n * covariance + prior) / (n + 1.0)


def _scale_moments(n: np.ndarray, covariance: np.ndarray, form: str) -> dict[str, MeanAndSd]:
    """Return the moments of `precisions` and of `scales`, of which the prior has one.

    Parameters
    ----------
    n : [K]
    covariance : [K, D, D], or [1, D, D] in the form "tied"
    """
    D = covariance.shape[-1]
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
        covariance, n = covariance[0], n.sum()
    relative = _relative_sd(n)[..., None, None]
    precision = np.linalg.inv(covariance)
    lower = np.linalg.cholesky(covariance)
    length = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))[..., None]
    # var[i, j] of a Wishart matrix with n + 1 degrees of freedom, as in `WishartFamily.moments`.
    own = np.diagonal(precision, axis1=-2, axis2=-1)
    sd = np.sqrt((precision**2 + own[..., :, None] * own[..., None, :]) / 2.0)
    return {
        "precisions": (precision, 2.0 * relative * sd),
        "scales": (lower, relative * np.broadcast_to(length, lower.shape)),
    }


def _relative_sd(n: np.ndarray) -> np.ndarray:
    """Return the relative standard error of a standard deviation estimated from n rows."""
    return np.asarray(1.0 / np.sqrt(2.0 * (n + 1.0)))
