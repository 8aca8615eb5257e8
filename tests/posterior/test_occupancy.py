"""The number of occupied components against enumeration of all labellings of a few rows.

Statistical tests have a false alarm of 1e-6 each; the seeds are fixed.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from builders import with_data
from scipy import stats

from bgmm_jd.data.rows import Rows
from bgmm_jd.posterior.occupancy import components_with_rows, occupied_components

FALSE_ALARM = 1e-6


def responsibilities(weights, means, precisions, rows):
    """Responsibilities [N, K] by scipy."""
    sd = np.asarray(precisions) ** -0.5
    density = stats.norm.pdf(rows[:, np.newaxis], means, sd).prod(axis=2) * weights
    return density / density.sum(axis=1, keepdims=True)


def enumerated(r):
    """Probabilities of the numbers of occupied components, from all K^N labellings: [K + 1]."""
    N, K = r.shape
    result = np.zeros(K + 1)
    for labels in itertools.product(range(K), repeat=N):
        result[len(set(labels))] += r[np.arange(N), labels].prod()
    return result


def blocks_of(r, size):
    """Blocks [S, K, size] of probabilities r [S, N, K]."""
    for first in range(0, r.shape[1], size):
        yield r[:, first : first + size].swapaxes(1, 2)


TWO = responsibilities([0.7, 0.3], [[0.0], [1.0]], [[1.0], [2.0]], np.array([[-0.3], [0.4], [1.2]]))
THREE = responsibilities(
    [0.5, 0.45, 0.05],
    [[0.0, 1.0], [0.5, 0.0], [4.0, 4.0]],
    [[1.0, 0.5], [2.0, 1.0], [0.1, 0.3]],
    np.random.default_rng(0).normal(size=(4, 2)),
)


@pytest.mark.parametrize("r", [TWO, THREE])
def test_numbers_of_occupied_components_agree_with_enumeration(r):
    S, K = 40_000, r.shape[1]
    exact = enumerated(r)
    numbers = components_with_rows(blocks_of(np.tile(r, (S, 1, 1)), size=2), S, K, seed=3).sum(
        axis=1
    )
    counts = np.bincount(numbers, minlength=K + 1)
    assert counts[0] == 0 == exact[0]
    assert stats.chisquare(counts[1:], S * exact[1:]).pvalue > FALSE_ALARM


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_component_is_as_often_empty_as_all_rows_are_elsewhere(k):
    S = 40_000
    empty = (1 - THREE[:, k]).prod()
    found = components_with_rows(blocks_of(np.tile(THREE, (S, 1, 1)), size=3), S, 3, seed=4)[:, k]
    assert stats.binomtest(int((~found).sum()), S, empty).pvalue > FALSE_ALARM


def test_occupied_components_do_not_depend_on_the_sizes_of_blocks():
    r = np.random.default_rng(5).dirichlet([1.0, 0.5, 0.02], size=(20, 50))
    whole = components_with_rows(blocks_of(r, size=50), 20, 3, seed=6)
    np.testing.assert_array_equal(components_with_rows(blocks_of(r, size=7), 20, 3, seed=6), whole)
    assert 0 < whole.sum() < whole.size  # otherwise the test would be empty


def test_no_more_blocks_are_read_than_needed():
    r = np.tile(np.eye(2), (5, 10, 1))  # rows belong to either component in turn
    blocks = blocks_of(r, size=2)
    assert components_with_rows(blocks, 5, 2, seed=0).all()
    assert len(list(blocks)) == 9


@pytest.fixture(scope="module")
def with_doubtful_rows(two_clusters_posterior):
    """A fit whose rows are replaced by three between the components; and these rows."""
    values = np.array([[-0.1, 0.0], [0.0, 0.3], [0.05, -0.2]])
    data = two_clusters_posterior.problem.data._replace(kept_rows=Rows(values))
    posterior = with_data(two_clusters_posterior, data)
    calibration = posterior.approximation.calibration._replace(is_weighted=False)
    approximation = dataclasses.replace(
        posterior.approximation, calibration=calibration, proposal=None
    )
    posterior = dataclasses.replace(posterior, approximation=approximation)
    return posterior, data.standardization.shift + data.standardization.scale * values


def test_occupied_components_of_a_posterior_agree_with_enumeration(with_doubtful_rows):
    """Against the mean over draws of the exact probabilities given each theta."""
    posterior, X = with_doubtful_rows
    S = 2_000
    found = occupied_components(posterior, draws=S, seed=8)
    draws = posterior.sample(S, seed=8)
    thetas = zip(*(draws[name] for name in ("weights", "means", "precisions")), strict=True)
    exact = np.mean([enumerated(responsibilities(*theta, X)) for theta in thetas], axis=0)
    # Hoeffding's inequality: labels are independent given the draws of theta.
    allowed = np.sqrt(np.log(2 / FALSE_ALARM) / (2 * S))
    np.testing.assert_allclose(found, exact, atol=allowed)
    assert allowed < exact[1] < 1 - allowed  # otherwise the test would be empty
    assert found.shape == (3,)
    assert found[0] == 0
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-12)


def test_a_row_of_weight_zero_does_not_occupy_a_component(with_doubtful_rows):
    posterior, _ = with_doubtful_rows
    data = posterior.problem.data
    weighted = data._replace(kept_rows=data.rows._replace(weight=np.array([0.0, 1.5, 0.0])))
    found = occupied_components(with_data(posterior, weighted), draws=50)
    np.testing.assert_array_equal(found, [0, 1, 0])


def test_equal_seeds_give_equal_results(with_doubtful_rows):
    posterior, _ = with_doubtful_rows
    first = occupied_components(posterior, seed=1)
    np.testing.assert_array_equal(occupied_components(posterior, seed=1), first)
    assert not np.array_equal(occupied_components(posterior, seed=2), first)


def test_separate_clusters_are_all_occupied(two_clusters_posterior):
    np.testing.assert_array_equal(occupied_components(two_clusters_posterior, draws=50), [0, 0, 1])


def test_bad_arguments_of_occupied_components_are_refused(two_clusters_posterior):
    with pytest.raises(ValueError, match="draws must be at least 1"):
        occupied_components(two_clusters_posterior, draws=0)
    with pytest.raises(TypeError, match="draws must be an integer"):
        occupied_components(two_clusters_posterior, draws=2.5)
    with pytest.raises(ValueError, match="seed must not be negative"):
        occupied_components(two_clusters_posterior, seed=-1)
