"""Partitions of the rows for EM to start from, of several kinds and in several metrics.

No kind of start finds the best optimum of every data set, and starts in one metric miss clusters
that only another shows: thin ones side by side are apart in whitened rows, and clusters along a
common direction are apart in columns that are merely scaled.
"""

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist

from bgmm_jd.optimization.clustering import (
    ClusteringSample,
    kmeans_plus_plus,
    lloyd,
    squared_distances,
)


def kmeans_partition(
    values: np.ndarray, weight: np.ndarray, K: int, rng: np.random.Generator, iterations: int
) -> np.ndarray:
    """Return the clusters of k-means from k-means++ seeds: labels [n]."""
    sample = complete_rows_sample(values, weight)
    centres = lloyd(sample, kmeans_plus_plus(sample, K, rng), iterations)
    return squared_distances(sample, centres).argmin(axis=1)


def nearest_of_random_rows(
    values: np.ndarray, weight: np.ndarray, K: int, rng: np.random.Generator
) -> np.ndarray:
    """Return which of K rows, drawn by weight, is the nearest to each row: labels [n]."""
    # K largest of log(u) / weight: a weighted draw without replacement (Efraimidis and Spirakis
    # 2006).
    keys = np.log(rng.random(len(values))) / weight
    centres = values[np.argsort(-keys)[:K]]
    return squared_distances(complete_rows_sample(values, weight), centres).argmin(axis=1)


def ward_partition(values: np.ndarray, weight: np.ndarray, K: int, rows: np.ndarray) -> np.ndarray:
    """Return the clusters of Ward's method on some rows; others join the nearest mean: labels [n].

    Parameters
    ----------
    rows : indices of the rows to cluster, in any order. Their weights do not enter the tree.
    """
    # By distances: two rows of zeros would be taken for those, with a warning.
    label = fcluster(linkage(pdist(values[rows]), "ward"), K, "maxclust") - 1
    centres = np.array([values[rows[label == k]].mean(axis=0) for k in range(label.max() + 1)])
    if len(rows) == len(values):  # all of them, in any order
        return label[np.argsort(rows)]
    return squared_distances(complete_rows_sample(values, weight), centres).argmin(axis=1)


def within_metric(values: np.ndarray, weight: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the rows in the metric in which the pooled covariance within clusters is one."""
    total = np.zeros((values.shape[1],) * 2)
    for k in np.unique(label):
        member = label == k
        share = weight[member] / weight[member].sum()
        deviation = values[member] - share @ values[member]
        total += (weight[member, None] * deviation).T @ deviation
    return values @ inverse_root(total / weight.sum())


def inverse_root(covariance: np.ndarray) -> np.ndarray:
    """Return the symmetric inverse root W of a covariance, with its smallest eigenvalues raised.

    To 1e-8 of the mean variance: a column that is a combination of the others gives no metric.
    """
    size = np.trace(covariance) / len(covariance)
    if not size > 0:
        return np.eye(len(covariance))
    values, vectors = np.linalg.eigh(covariance)
    return vectors / np.sqrt(np.maximum(values, 1e-8 * size)) @ vectors.T


def complete_rows_sample(values: np.ndarray, weight: np.ndarray) -> ClusteringSample:
    """Return rows without missing entries as k-means takes them."""
    return ClusteringSample(values, np.ones_like(values), weight)
