"""Partitions to start from: labels stand beside the rows that they belong to."""

import numpy as np
import pytest

from bgmm_jd.optimization.partitions import (
    kmeans_partition,
    nearest_of_random_rows,
    ward_partition,
    within_metric,
)

K, PER = 3, 50
CENTRES = 10.0 * np.arange(K)[:, np.newaxis] * [1.0, -1.0]
TRUTH = np.repeat(np.arange(K), PER)


def separated():
    """Return rows of clusters 14 sds apart, in a random order, and their clusters."""
    rng = np.random.default_rng(0)
    order = rng.permutation(K * PER)
    return (CENTRES[TRUTH] + rng.normal(size=(K * PER, 2)))[order], TRUTH[order]


def assert_same_partition(labels, truth):
    assert len({*zip(labels.tolist(), truth.tolist(), strict=True)}) == K
    assert len(set(labels)) == K


@pytest.mark.parametrize("read", [40, K * PER], ids=["some rows", "all rows"])
def test_ward_labels_belong_to_their_rows_in_whatever_order_these_are_read(read):
    X, truth = separated()
    rows = np.random.default_rng(1).permutation(len(X))[:read]
    assert_same_partition(ward_partition(X, np.ones(len(X)), K, rows), truth)


def test_kmeans_finds_separated_clusters():
    X, truth = separated()
    # A seed in each cluster: k-means++ misses one with a probability below (1 / 14)^2.
    labels = kmeans_partition(X, np.ones(len(X)), K, np.random.default_rng(2), 25)
    assert_same_partition(labels, truth)


def test_nearest_rows_are_those_by_hand():
    """The labels are those of K rows: each of these has a label of its own, and is the nearest."""
    X, _ = separated()
    labels = nearest_of_random_rows(X, np.ones(len(X)), K, np.random.default_rng(3))
    assert len(set(labels)) == K
    weight = np.full(len(X), 1e-12)
    weight[[4, 70, 120]] = 1.0  # others are drawn once in 1e10
    labels = nearest_of_random_rows(X, weight, K, np.random.default_rng(3))
    distance = np.linalg.norm(X[:, np.newaxis] - X[[4, 70, 120]], axis=2).argmin(axis=1)
    assert_same_partition(labels, distance)


def test_pooled_covariance_within_clusters_is_the_identity_in_its_metric():
    X, truth = separated()
    weight = np.random.default_rng(4).uniform(0.5, 2.0, len(X))
    z = within_metric(X, weight, truth)
    total = np.zeros((2, 2))
    for k in range(K):
        total += (
            np.cov(z[truth == k].T, bias=True, aweights=weight[truth == k])
            * weight[truth == k].sum()
        )
    np.testing.assert_allclose(total / weight.sum(), np.eye(2), atol=1e-9)
