"""Which rows are read from a source, and what is kept of them."""

from dataclasses import replace

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting.given_rows import (
    as_source,
    reader_of,
    rows_of_array,
    rows_of_source,
    with_enough_digits,
)
from bgmm_jd.settings import FullDataSettings, OptimizationSettings, Settings, SourceSettings

N = 3_000
SMALL = Settings(
    sources=SourceSettings(numbers_in_memory=2_000, rows_per_slice=3),
    optimization=OptimizationSettings(subsample_rows=500, subsample_rows_per_component=1),
)


@pytest.fixture
def path(tmp_path):
    """Return a file of rows [3000, 2] and a column of weights, 0, 1 and 2 in turn."""
    X = np.random.default_rng(0).normal(size=(N, 2))
    np.save(tmp_path / "x.npy", np.column_stack([X, np.arange(N) % 3]))
    return tmp_path / "x.npy"


def given(source, sample_weight=None, settings=SMALL):
    reader = reader_of(source, sample_weight, settings, None)
    return rows_of_source(reader, 2, False, 0, settings)


def test_large_memmap_is_a_source_and_a_small_one_is_an_array(path):
    mapped = np.load(path, mmap_mode="r")
    assert as_source(mapped, SMALL).count == N
    assert as_source(mapped[:600], SMALL) is None
    assert as_source(np.array(mapped), SMALL) is None


def test_sample_has_the_numbers_that_are_kept_in_memory(path):
    rows = given(bgmm_jd.table(path, columns=[0, 1]))
    assert not rows.are_in_memory
    assert rows.values.shape == (1_000, 2)
    assert (rows.shape, rows.count) == ((N, 2), N)
    np.testing.assert_array_equal(rows.values, np.load(path)[rows.places, :2])


def test_chunk_of_many_features_has_fewer_rows(path):
    source = bgmm_jd.table(path)  # of 3 columns; 127 slices of up to 3 rows
    for numbers, rows in ((10_000, 3), (127 * 3 * 2, 2), (1, 1)):
        sizes = replace(SMALL.sources, numbers_per_chunk=numbers)
        reader = reader_of(source, None, replace(SMALL, sources=sizes), None)
        assert reader.chunk_rows == 127 * rows


def test_small_source_is_in_memory_with_all_its_rows(path):
    rows = given(bgmm_jd.table(path, columns=[0, 1]), settings=Settings())
    assert rows.are_in_memory
    assert rows.weight is None
    np.testing.assert_array_equal(rows.values, np.load(path)[:, :2])


def test_weights_in_memory_count_as_a_column_of_weights(path):
    by_column = given(bgmm_jd.table(path, weight=2))
    in_memory = given(bgmm_jd.table(path, columns=[0, 1]), np.load(path)[:, 2])
    assert by_column.count == in_memory.count == 2_000
    assert by_column.census.weight == in_memory.census.weight == 3_000.0
    for rows in (by_column, in_memory):
        np.testing.assert_array_equal(rows.weight, rows.places % 3)
    np.testing.assert_array_equal(by_column.places, in_memory.places)


def test_weights_that_are_given_twice_or_to_batches_are_errors(path):
    weight = np.ones(N)
    for source in (bgmm_jd.table(path, weight=2), bgmm_jd.batches(lambda: [np.load(path)])):
        with pytest.raises(ValueError, match="sample_weight must be None for a source that has"):
            given(source, weight)


@pytest.mark.parametrize(
    ("weight", "most", "expected"),
    [
        (1.0, 2**22, "float32"),
        (2e4, 2**22, "float32"),
        (1e5, 2**22, "float64"),
        (1e5, 199, "float32"),
    ],
    ids=["without weights", "8 million", "more", "too many rows"],
)
def test_few_rows_of_large_weights_become_float64(weight, most, expected):
    """100 rows of two features, whose weights add up to less than 2^23 = 8.4e6, or to more."""
    X = np.random.default_rng(1).normal(size=(100, 2)).astype(np.float32)
    settings = FullDataSettings(widened_numbers=most)
    rows = with_enough_digits(rows_of_array(X, np.full(100, weight)), settings)
    assert rows.values.dtype == expected
    np.testing.assert_array_equal(rows.values, X)
