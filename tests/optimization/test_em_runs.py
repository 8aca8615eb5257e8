"""Which ends of variational EM are taken for one optimum."""

import numpy as np
import pytest

from bgmm_jd.optimization.em_runs import distinct


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
