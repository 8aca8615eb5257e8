"""Runs of variational EM, and which of their ends are taken for one optimum."""

import numpy as np
import pytest

from bgmm_jd.optimization.conjugate_em import feature_rows, maximise, take
from bgmm_jd.optimization.conjugate_prior import conjugate_prior
from bgmm_jd.optimization.em_runs import converge, distinct
from bgmm_jd.settings import DefaultPriorSettings

LEAST_CHANGE, MOST_ITERATIONS = 1e-3, 200


def groups_of(*arguments):
    return [group.tolist() for group in distinct(*arguments)]


def test_runs_with_nearly_equal_bounds_are_grouped_best_first():
    bounds = np.array([-5.0, -3.0, -4.95, -3.05, -np.inf])
    assert groups_of(bounds, 0.1) == [[1, 3], [2, 0], [4]]


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([[60.0, 40.0], [39.0, 61.0], [60.0, 40.0]], [[0, 1, 2]]),  # in another order
        ([[60.0, 40.0], [90.0, 10.0], [61.0, 39.0]], [[0, 2], [1]]),
        ([[60.0, 40.0], [90.0, 10.0], [11.0, 89.0]], [[0], [1, 2]]),
    ],
)
def test_equal_bounds_with_components_of_other_sizes_are_optima_of_their_own(counts, expected):
    bounds = np.array([-3.0, -3.01, -3.02])
    assert groups_of(bounds, 0.1, np.array(counts), 0.1) == expected


def test_runs_without_bounds_are_grouped_too():
    assert groups_of(np.array([-np.inf, -np.inf]), 0.1) == [[0], [1]]
    assert groups_of(np.empty(0), 0.1, np.empty((0, 2)), 0.1) == []


@pytest.fixture(params=["diag", "full"])
def begun(request):
    """Rows of two clusters 6 sds apart, their prior, and three mixtures begun otherwise.

    From the clusters, from them with a third of the labels at random, and from all rows in one
    component.
    """
    rng = np.random.default_rng(0)
    cluster = rng.integers(2, size=120)
    values = rng.normal(size=(120, 2)) + 6.0 * cluster[:, np.newaxis] - 3.0
    rows = feature_rows(values / values.std(), np.ones(120), request.param)
    prior = conjugate_prior(2, 2, request.param, DefaultPriorSettings())
    mostly = np.where(rng.random(120) < 1 / 3, rng.integers(2, size=120), cluster)
    labels = [cluster, mostly, np.zeros(120, int)]
    share = np.stack([(np.arange(2)[:, np.newaxis] == one).astype(float) for one in labels])
    return rows, prior, maximise(rows, prior, share)


def test_runs_end_together_where_each_ends_alone(begun):
    rows, prior, mixtures = begun
    together, values = converge(rows, prior, mixtures, LEAST_CHANGE, MOST_ITERATIONS)
    for s in range(3):
        one = take(mixtures, np.array([s]))
        alone, value = converge(rows, prior, one, LEAST_CHANGE, MOST_ITERATIONS)
        assert values[s] == pytest.approx(value[0], abs=1e-6)
        np.testing.assert_allclose(together.counts[s], alone.counts[0], atol=1e-6)
    # One component for all rows, which EM leaves as it is, is the worst.
    assert values.argmin() == 2


@pytest.mark.parametrize("begun", ["diag"], indirect=True)
def test_a_run_out_of_range_ends_at_once_and_leaves_the_others_alone(begun):
    rows, prior, mixtures = begun
    mean = mixtures.mean.copy()
    mean[1] = np.nan
    ends, values = converge(
        rows, prior, mixtures._replace(mean=mean), LEAST_CHANGE, MOST_ITERATIONS, -1e9
    )
    _, whole = converge(rows, prior, mixtures, LEAST_CHANGE, MOST_ITERATIONS)
    assert values[1] == -np.inf
    np.testing.assert_allclose(values[[0, 2]], whole[[0, 2]], atol=1e-6)
    assert len(ends.counts) == 3


def test_a_run_ends_early_where_it_would_not_come_as_high_as_needed(begun):
    rows, prior, mixtures = begun
    _, whole = converge(rows, prior, mixtures, LEAST_CHANGE, MOST_ITERATIONS)
    _, within_reach = converge(
        rows, prior, mixtures, LEAST_CHANGE, MOST_ITERATIONS, whole[1] - 10.0
    )
    np.testing.assert_allclose(within_reach[:2], whole[:2], atol=1e-6)
    _, out_of_reach = converge(rows, prior, mixtures, LEAST_CHANGE, MOST_ITERATIONS, 1e9)
    assert out_of_reach[1] < whole[1] - 1.0
