"""Passes over float32 rows whose weights add up to more than float32 can count."""

import numpy as np
import pytest
from builders import ONE_SEEDING, problem_for, started

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.optimization.convergence import parameter_moments, standardized_difference
from bgmm_jd.optimization.data_pass import dtype_of_draws
from bgmm_jd.optimization.full_data import optimize_full_data
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.evaluation import surrogate_statistics_are_accurate

ROWS, WEIGHT = 300, 4e6  # together 1.2e9


def start_for(dtype, covariance, weight=WEIGHT):
    """Return the start of a fit to two groups that overlap, the same numbers in each dtype."""
    rng = np.random.default_rng(5)
    label = rng.random(ROWS) < 0.4
    X = rng.normal(size=(ROWS, 2)) * [1.0, 0.7] + 3.0 * label[:, np.newaxis]
    X = X.astype(np.float32).astype(dtype)
    options = {"weight": np.full(ROWS, weight), "execution": "graph", "settings": ONE_SEEDING}
    return started(problem_for(X, 2, covariance, **options))


def end_of(start):
    """Return the means and sds at the end of passes, as a `MomentVectors`."""
    elbos = np.zeros(1)
    found = optimize_full_data(
        start.problem, start.params, stateless_seed(3), lambda _: None, elbos, 200
    )
    assert found.status is Status.CONVERGED
    assert all(
        leaf.dtype == start.problem.data.dtype for p in found.params.values() for leaf in p.values()
    )
    return parameter_moments(start.problem.model.sites, found.params)


@pytest.mark.parametrize("covariance", ["diag", "full"])
def test_float32_passes_end_where_float64_passes_do(covariance):
    """Under the same draws: within three times the 0.03 sds at which each has converged."""
    wide, narrow = start_for(np.float64, covariance), start_for(np.float32, covariance)
    assert surrogate_statistics_are_accurate(narrow.problem, narrow.params)
    apart = standardized_difference(end_of(wide), end_of(narrow))
    assert np.abs(apart).max() < 0.09


def test_draws_are_in_float64_only_where_float32_has_too_few_digits():
    """2^23 = 8.4 million: 300 rows of weight 1e4 are fewer."""
    cases = [(np.float32, 1e4, "float32"), (np.float32, 4e6, "float64"), (np.float64, 1, "float64")]
    for dtype, weight, expected in cases:
        assert dtype_of_draws(start_for(dtype, "diag", weight).problem) == expected
