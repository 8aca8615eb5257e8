"""The first pass: counts, extremes, sample and errors, for any cut of the rows."""

import numpy as np
import pytest
from rows_in_parts import cut, mixed_rows, reader_of

from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.census import take_census

CUTS = [[], [0, 1, 0], [7] * 20, [4_999]]


def census(source, missing=False, **options):
    return take_census(reader_of(source, **options), sample_rows=400, seed=2, missing=missing)


@pytest.mark.parametrize("sizes", CUTS, ids=["whole", "empty", "sevens", "last"])
def test_census_does_not_depend_on_how_rows_are_cut(sizes):
    X = mixed_rows(missing=True)
    found = census(cut(X, sizes), missing=True)
    assert (found.rows, found.counted, found.weight) == (5_000, 5_000, 5_000.0)
    assert not found.is_complete
    np.testing.assert_array_equal(found.observed, np.isfinite(X).sum(axis=0))
    np.testing.assert_array_equal(found.extremes.least, np.nanmin(X, axis=0))
    np.testing.assert_array_equal(found.extremes.greatest_row, np.nanargmax(X, axis=0))
    whole = census(cut(X, []), missing=True, chunk_rows=5_000).sample
    np.testing.assert_array_equal(found.sample.number, whole.number)
    np.testing.assert_array_equal(found.sample.values, X[whole.number])
    assert len(found.sample.number) == 400


def test_rows_of_weight_zero_are_counted_apart_and_not_sampled():
    X, weight = mixed_rows(), np.tile([0.0, 2.0], 2_500)
    found = census(batches(lambda: [(X, weight)]))
    assert (found.rows, found.counted, found.weight) == (5_000, 2_500, 5_000.0)
    assert (found.sample.number % 2 == 1).all()
    assert (found.sample.weight == 2.0).all()
    np.testing.assert_array_equal(found.extremes.greatest, X[1::2].max(axis=0))


def test_value_that_is_not_finite_is_an_error_with_its_row():
    X = mixed_rows()
    X[4_321, 1] = np.nan
    with pytest.raises(ValueError, match=r"column 1 has nan \(first in row 4321\)"):
        census(cut(X, [100]))
    X[4_321, 1] = np.inf
    with pytest.raises(ValueError, match=r"column 1 has inf \(first in row 4321\)"):
        census(cut(X, [100]), missing=True)


@pytest.mark.parametrize(("value", "row"), [(-1.0, 3_210), (np.nan, 3_210)])
def test_bad_weight_is_an_error_with_its_row(value, row):
    weight = np.ones(5_000)
    weight[row] = value
    with pytest.raises(ValueError, match=f"weights must be finite.* in row {row}"):
        census(batches(lambda: [(mixed_rows(), weight)]))


def test_weights_that_are_all_zero_are_an_error():
    with pytest.raises(ValueError, match="all are zero"):
        census(batches(lambda: [(mixed_rows(), np.zeros(5_000))]))


def test_source_without_rows_is_an_error():
    with pytest.raises(ValueError, match="at least one row; the source has none"):
        census(cut(np.zeros((0, 3)), [0]))
