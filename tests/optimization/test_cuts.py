"""Fifty thousand rows of a source, cut in several ways, beside the same rows in memory."""

from dataclasses import replace

import numpy as np
import pytest
from builders import ONE_SEEDING
from source_problems import (
    assert_same,
    assert_same_bits,
    in_batches,
    pass_of,
    sample_and_problem,
    started_in_memory,
)

from bgmm_jd.data.standardize import standardize
from bgmm_jd.model.covariance_forms import units_of_rows
from bgmm_jd.settings import SourceSettings

N = 50_000
# Chunks of 2,032 rows and parts of 6,096; 5,000 rows are in memory.
SETTINGS = replace(
    ONE_SEEDING,
    sources=SourceSettings(numbers_in_memory=15_000, rows_per_slice=16, chunks_per_part=3),
)


@pytest.fixture(scope="module")
def X():
    """Return two groups of correlated rows in other units, in float64."""
    rng = np.random.default_rng(7)
    group = rng.random(N) < 0.3
    X = rng.normal(size=(N, 3)) @ [[1.0, 0.5, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 2.0]]
    return (X + 4.0 * group[:, np.newaxis]) * [1.0, 0.01, 30.0] + [100.0, 0.0, -5.0]


@pytest.fixture(scope="module")
def whole(X):
    return sample_and_problem(in_batches(X, []), SETTINGS)


def test_moments_and_sample_are_those_of_the_rows_in_memory(X, whole):
    """Sums of 50,000 rows in another order differ by some 1e-12 of them."""
    rows, problem = whole
    in_memory = standardize(X, None, units_of_rows("diag", complete=True)).standardization
    found = problem.data.standardization
    np.testing.assert_allclose(found.shift, in_memory.shift, rtol=1e-10)
    np.testing.assert_allclose(found.column_scale, in_memory.column_scale, rtol=1e-10)
    assert len(set(rows.places)) == 5_000
    np.testing.assert_array_equal(rows.values, X[rows.places])


def test_pass_is_that_over_the_rows_in_memory(X, whole):
    _, problem = whole
    start = started_in_memory(problem, X)
    assert_same(pass_of(problem, start), pass_of(start.problem, start), rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    "sizes",
    [[N // 7] * 6, [1, 12_345, 7, 20_001, 333], [25_000, 0]],
    ids=["seven", "odd sizes", "one empty"],
)
def test_cut_changes_no_bit(X, whole, sizes):
    rows, problem = sample_and_problem(in_batches(X, sizes), SETTINGS)
    np.testing.assert_array_equal(rows.places, whole[0].places)
    assert_same_bits(problem.data.standardization, whole[1].data.standardization)
    start = started_in_memory(whole[1], X)
    assert_same_bits(pass_of(problem, start), pass_of(whole[1], start))
