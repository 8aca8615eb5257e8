"""Fifty thousand rows of a source, cut in several ways, beside the same rows in memory."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING, started
from small_problems import unconstrained

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.standardize import as_standardized_rows, standardize
from bgmm_jd.fitting.given_rows import reader_of, rows_of_source, standardize_rows
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.model.covariance_forms import units_of_rows
from bgmm_jd.optimization.full_data import pass_evaluator
from bgmm_jd.settings import SourceSettings
from bgmm_jd.sources.batches import batches

N, K = 50_000, 2
UNITS = units_of_rows("diag", complete=True)
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


def of_source(X, sizes):
    """Return the rows and the problem of X in batches of these sizes, and one with the rest."""
    source = batches(lambda: np.split(X, np.cumsum(sizes)))
    rows = rows_of_source(reader_of(source, None, SETTINGS, None), K, False, 0, SETTINGS)
    data = standardize_rows(
        rows,
        UNITS,
        None,
        read_constant_columns=False,
        settings=SETTINGS.robust_moments,
        stacklevel=1,
    )
    return rows, problem_of(data, K, "diag", None, "graph", SETTINGS)


def pass_from_its_start(problem, X):
    """Return the parameters after a pass from a start that the rows in memory have."""
    in_memory = problem.on(problem.data._replace(kept_rows=standardized(problem, X)))
    start = started(in_memory)
    free, seed = unconstrained(start), stateless_seed(3)
    both = [pass_evaluator(p, start.params, seed)(free, 0) for p in (problem, in_memory)]
    return [np.concatenate([np.ravel(t) for t in tf.nest.flatten(found)]) for found in both]


def standardized(problem, X):
    return as_standardized_rows(X, problem.data.standardization)


@pytest.fixture(scope="module")
def whole(X):
    return of_source(X, [])


def test_moments_and_sample_are_those_of_the_rows_in_memory(X, whole):
    """Sums of 50,000 rows in another order differ by some 1e-12 of them."""
    rows, problem = whole
    in_memory = standardize(X, None, UNITS).standardization
    found = problem.data.standardization
    np.testing.assert_allclose(found.shift, in_memory.shift, rtol=1e-10)
    np.testing.assert_allclose(found.column_scale, in_memory.column_scale, rtol=1e-10)
    assert len(set(rows.places)) == 5_000
    np.testing.assert_array_equal(rows.values, X[rows.places])


def test_pass_is_that_over_the_rows_in_memory(X, whole):
    found, expected = pass_from_its_start(whole[1], X)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@pytest.mark.parametrize(
    "sizes",
    [[N // 7] * 6, [1, 12_345, 7, 20_001, 333], [25_000, 0]],
    ids=["seven", "odd sizes", "one empty"],
)
def test_cut_changes_no_bit(X, whole, sizes):
    rows, problem = of_source(X, sizes)
    np.testing.assert_array_equal(rows.places, whole[0].places)
    assert_same_bits(problem.data.standardization, whole[1].data.standardization)
    for one, other in zip(
        pass_from_its_start(problem, X), pass_from_its_start(whole[1], X), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def assert_same_bits(one, other):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_array_equal(a, b)
