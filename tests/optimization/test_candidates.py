"""Starts by variational EM: the best optimum for any seed, in any order of the rows, once."""

from dataclasses import replace

import numpy as np
import pytest
from real_rows import adjusted_rand_index, crabs

from bgmm_jd.data.missing import separate_missing
from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.data.rows import Rows
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.optimization.block_algebra import Diagonals
from bgmm_jd.optimization.candidates import find_starts
from bgmm_jd.optimization.conjugate_em import expect, feature_rows, maximise
from bgmm_jd.optimization.conjugate_prior import conjugate_prior
from bgmm_jd.optimization.em_runs import converge
from bgmm_jd.optimization.partitions import inverse_root
from bgmm_jd.optimization.swaps import improve_by_swaps
from bgmm_jd.settings import DefaultPriorSettings, StartSettings

SETTINGS = StartSettings()


def three_clusters(n=150, D=2, seed=0):
    """Return rows in clusters 6 sds apart, with columns of sd near 1."""
    rng = np.random.default_rng(seed)
    label = np.arange(n) % 3
    centres = np.zeros((3, D))
    centres[:, 0], centres[:, 1] = [-3.0, 0.0, 3.0], [0.0, 5.2, 0.0]
    return (rng.normal(size=(n, D)) + centres[label]) / 2.6, label


def found_in(rows, K, form, *, seed=0, settings=SETTINGS, restarts=4, columns=None):
    """Search under the prior that a fit with default settings has."""
    prior = conjugate_prior(K, rows.values.shape[1], form, DefaultPriorSettings())
    return find_starts(
        rows,
        K,
        form,
        seed=seed,
        settings=settings,
        restarts=restarts,
        prior=prior,
        columns=columns,
    )


def labels_under(X, clusters):
    """Return the most probable cluster of each row, by normal densities."""
    logs = []
    for n, mean, covariance in zip(clusters.count, clusters.mean, clusters.covariance, strict=True):
        z = np.linalg.solve(np.linalg.cholesky(covariance), (X - mean).T)
        logs.append(np.log(n) - 0.5 * (z**2).sum(axis=0) - 0.5 * np.linalg.slogdet(covariance)[1])
    return np.argmax(logs, axis=0)


@pytest.mark.parametrize("form", FORMS)
def test_separated_clusters_are_one_candidate_in_the_units_of_the_rows(form):
    """Also where the rows are whitened inside: 50 rows of sd 1 / 2.6, so 5 standard errors."""
    X, label = three_clusters()
    found = found_in(Rows(X), 3, form)
    best = found.candidates[0]
    assert adjusted_rand_index(labels_under(X, best.clusters), label) > 0.95
    expected = np.array([X[label == k].mean(axis=0) for k in range(3)])
    np.testing.assert_allclose(best.clusters.mean, expected, atol=5 / 2.6 / np.sqrt(50))
    assert best.clusters.count.sum() == pytest.approx(150)
    assert best.starts >= 2


@pytest.mark.parametrize(
    ("agreeing_starts", "searches"), [(1, 1), (10_000, 3)], ids=["starts", "searches"]
)
def test_searches_end_when_enough_of_them_or_of_their_starts_agree(agreeing_starts, searches):
    """Clusters 6 sds apart: each search ends at the same optimum."""
    X, _ = three_clusters()
    stages = replace(SETTINGS.few, agreeing_starts=agreeing_starts)
    found = found_in(Rows(X), 3, "diag", settings=replace(SETTINGS, few=stages))
    assert found.searches == searches


@pytest.mark.parametrize("seed", range(5))
def test_crabs_are_found_for_every_seed_where_their_columns_are_correlated(seed):
    """Four thin clusters along a common direction, which k-means in columns does not see.

    The classes and the best mixture of four agree to an index of 0.81.
    """
    X, label = crabs()
    X = X - X.mean(axis=0)
    white = X @ inverse_root(np.cov(X, rowvar=False))
    found = found_in(Rows(white), 4, "full", seed=seed)
    assert adjusted_rand_index(labels_under(white, found.candidates[0].clusters), label) >= 0.80


def test_rows_that_come_whitened_have_the_same_candidates():
    """`columns` then gives the other metric."""
    X, _ = crabs()
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    moments = robust_moments(X)
    X, root = X - moments.location, inverse_root(moments.scatter)
    inside, outside = (
        found_in(rows, 4, "full", columns=columns).candidates[0]
        for rows, columns in ((Rows(X), None), (Rows(X @ root), np.linalg.inv(root)))
    )
    assert inside.bound == pytest.approx(outside.bound, abs=SETTINGS.same_optimum)
    same = labels_under(X, inside.clusters), labels_under(X @ root, outside.clusters)
    assert adjusted_rand_index(*same) > 0.95


def test_best_bound_does_not_depend_on_the_order_of_rows_or_the_seed():
    X, _ = three_clusters()
    shuffled = np.random.default_rng(1).permutation(X)
    bounds = [
        found_in(Rows(rows), 3, "full", seed=seed).candidates[0].bound
        for rows, seed in ((X, 0), (shuffled, 0), (X, 1))
    ]
    np.testing.assert_allclose(bounds, bounds[0], atol=SETTINGS.same_optimum)


def test_equal_seeds_give_equal_candidates():
    X = np.random.default_rng(0).normal(size=(120, 2))  # no clusters to find
    first, second = (found_in(Rows(X), 4, "diag", seed=3) for _ in range(2))
    assert len(first.candidates) == len(second.candidates)
    for a, b in zip(first.candidates, second.candidates, strict=True):
        np.testing.assert_array_equal(a.clusters.mean, b.clusters.mean)
        assert a[1:] == b[1:]


def test_candidates_are_distinct_close_to_the_best_and_at_most_as_many_as_asked_for():
    X = np.random.default_rng(0).normal(size=(120, 2))  # no clusters, many optima
    many = found_in(Rows(X), 4, "diag", seed=0, restarts=10).candidates
    bounds = np.array([candidate.bound for candidate in many])
    assert len(many) > 2
    assert np.all(np.diff(bounds) <= -SETTINGS.same_optimum)
    assert bounds[0] - bounds[-1] < SETTINGS.candidate_nats
    few = found_in(Rows(X), 4, "diag", seed=0, restarts=2).candidates
    np.testing.assert_array_equal([candidate.bound for candidate in few], bounds[:2])


def test_weights_of_rows_that_are_left_out_count_in_the_size_of_clusters():
    """3,000 rows of weight 2, of which 2,000 are read."""
    X, _ = three_clusters(3_000)
    rows = Rows(X, np.full(3_000, 2.0))
    clusters = (
        found_in(rows, 3, "diag", settings=replace(SETTINGS, rows=2_000)).candidates[0].clusters
    )
    assert clusters.count.sum() == pytest.approx(6_000)
    # 2,000 of the 3,000 rows: a share of 1/3 within 5 standard errors, and 3 rows misclassified.
    np.testing.assert_allclose(clusters.count / 6_000, 1 / 3, atol=5 * np.sqrt(2 / 9 / 2_000))


@pytest.mark.parametrize("form", FORMS)
def test_missing_entries_leave_the_clusters_found(form):
    X, label = three_clusters(300, 3)
    X[np.random.default_rng(2).random(X.shape) < 0.1] = np.nan
    values, missing = separate_missing(X)
    found = found_in(Rows(values, missing=missing), 3, form)
    whole = ~np.isnan(X).any(axis=1)
    labels = labels_under(X[whole], found.candidates[0].clusters)
    assert adjusted_rand_index(labels, label[whole]) > 0.9


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "rows",
    [np.zeros((20, 2)), np.repeat(np.eye(2), 8, axis=0), np.arange(5.0)[:, None]],
    ids=["all rows equal", "fewer distinct rows than components", "as many rows as components"],
)
def test_degenerate_rows_give_finite_clusters(form, rows):
    for candidate in found_in(Rows(rows), 5, form).candidates:
        assert candidate.clusters.count.sum() == pytest.approx(len(rows))
        assert np.isfinite(candidate.clusters.mean).all()
        assert np.linalg.eigvalsh(candidate.clusters.covariance).min() > 0


def grid_of_clusters(K=20, n=2_000):
    """Return rows in K clusters around the points of a grid, 8 sds apart."""
    rng = np.random.default_rng(0)
    label = rng.integers(K, size=n)
    centres = np.stack(np.divmod(np.arange(K), 5), axis=1) * 8.0
    X = centres[label] + rng.normal(size=(n, 2))
    return (X - X.mean(axis=0)) / X.std(axis=0), label


def start_from(X, label, K, form="full"):
    rows = feature_rows(X, np.ones(len(X)), form)
    prior = conjugate_prior(K, X.shape[1], form, DefaultPriorSettings())
    share = (label == np.arange(K)[:, None])[None].astype(float)
    mixtures, bounds = converge(rows, prior, maximise(rows, prior, share), 3e-3, 500)
    return rows, prior, mixtures, bounds[0]


@pytest.mark.parametrize("seed", range(3))
def test_twenty_clusters_are_all_found(seed):
    """Not worse than EM from the labels that made the rows."""
    X, label = grid_of_clusters()
    *_, bound = start_from(X, label, 20)
    found = found_in(Rows(X), 20, "full", seed=seed, columns=np.eye(2))
    assert found.candidates[0].bound > bound - SETTINGS.same_optimum
    assert adjusted_rand_index(labels_under(X, found.candidates[0].clusters), label) > 0.95


def test_swaps_repair_a_shared_cluster_and_a_merged_pair():
    """EM from two clusters merged and another cut in two stays there; swaps repair it."""
    rng = np.random.default_rng(3)
    label = np.arange(200) % 4
    X = np.array([[-3.0, 0], [-1, 0], [1, 0], [3, 0]])[label] / 2.3 + 0.1 * rng.normal(
        size=(200, 2)
    )
    wrong = np.select([label == 3, label == 2, label < 2], [3, 2, 0])
    wrong[(label == 3) & (X[:, 1] > 0)] = 1
    rows, prior, mixture, value = start_from(X, wrong, 4)
    *_, best = start_from(X, label, 4)
    assert value < best - 10.0
    improved, higher = improve_by_swaps(
        rows, prior, mixture, value, np.random.default_rng(0), SETTINGS
    )
    assert higher >= best - SETTINGS.same_optimum
    assert adjusted_rand_index(expect(rows, improved)[0][0].argmax(axis=0), label) == 1.0


@pytest.mark.parametrize("K", [3, 10])
def test_swaps_never_lower_the_bound(K):
    """From the optimum of random labels, on rows without clusters."""
    X = np.random.default_rng(4).normal(size=(150, 2))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        rows, prior, mixture, value = start_from(X, rng.integers(K, size=150), K, "diag")
        _, higher = improve_by_swaps(rows, prior, mixture, value, rng, SETTINGS)
        assert higher >= value


@pytest.mark.parametrize("form", FORMS)
def test_search_among_rows_that_are_all_zero_ends_without_a_warning(form):
    """SciPy takes a square table of zeros for a table of distances."""
    rows = Rows(np.zeros((2, 2)), np.ones(2), None)
    assert found_in(rows, 2, form).candidates


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_search_ends_with_a_candidate_where_sums_of_squares_lose_all_digits(form):
    """One row is 1e12 sds from the others, which all weigh 1e9."""
    X = np.random.default_rng(0).normal(size=(30, 2))
    X[0] = 1e12
    found = found_in(Rows(X, np.full(30, 1e9), None), 2, form)
    for candidate in found.candidates:
        assert np.isfinite(candidate.bound)
        assert (np.linalg.eigvalsh(candidate.clusters.covariance) > 0).all()
    assert found.candidates


def test_scatter_is_not_negative_where_terms_cancel():
    """1e16 + 1 is rounded to 1e16, and the squares of three such rows add up to less."""
    x = np.array([1e8 + 1.0, 1e8 + 2.0, 1e8 + 4.0])
    count, first, second = np.array([3.0]), x.sum()[None, None], (x**2).sum()[None, None]
    for mean in x.mean() + np.linspace(-1e-6, 1e-6, 21):
        found = Diagonals.scatter(count, first, second, np.array([[mean]]))
        assert found.min() >= 0.0
