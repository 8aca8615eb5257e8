"""Rows in slices: which slice a row is in, and the rows that fill the last places."""

import numpy as np
import pytest

from bgmm_jd.data.missing import separate_missing
from bgmm_jd.data.rows import Rows, as_shared_tensors, deal_to_slices, pad_to_slices

N = 23


def numbered_rows(weighted=True):
    """Return rows whose first value is their number, from 1, with weights and missing entries."""
    number = np.arange(1.0, N + 1)
    X = np.stack([number, np.where(number % 3 == 0, np.nan, -number)], axis=1)
    values, missing = separate_missing(X)
    return Rows(values, number / 2.0 if weighted else None, missing)


@pytest.mark.parametrize(("slices", "parts", "size"), [(7, 1, 4), (5, 2, 3), (23, 1, 1)])
def test_row_n_is_dealt_to_slice_n_mod_slices(slices, parts, size):
    rows = numbered_rows()
    dealt = deal_to_slices(rows, slices, parts, size)
    assert dealt.values.shape == (parts * slices, size, 2)
    assert dealt.weight.shape == dealt.missing.pattern.shape == (parts * slices, size)
    places = {}
    for i, part in enumerate(dealt.values):
        for j, (number, _) in enumerate(part):
            if number > 0:
                places[int(number) - 1] = (i, j)
    assert sorted(places) == list(range(N))  # each row once
    for n, (i, j) in places.items():
        assert i % slices == n % slices
        np.testing.assert_array_equal(dealt.values[i, j], rows.values[n])
        assert dealt.weight[i, j] == rows.weight[n]
        assert dealt.missing.pattern[i, j] == rows.missing.pattern[n]
    assert dealt.weight.sum() == rows.weight.sum()  # the other places have weight 0


def test_rows_without_weights_are_dealt_with_weight_one_and_padding_with_zero():
    dealt = deal_to_slices(numbered_rows(weighted=False), 7, 1, 4)
    np.testing.assert_array_equal(dealt.weight, dealt.values[..., 0] > 0)


def test_padded_slices_are_consecutive_rows():
    rows = numbered_rows()
    cut = pad_to_slices(rows, 3, 8)
    assert cut.values.shape == (3, 8, 2)
    np.testing.assert_array_equal(cut.values.reshape(-1, 2)[:N], rows.values)
    np.testing.assert_array_equal(cut.weight.ravel(), np.append(rows.weight, 0.0))
    np.testing.assert_array_equal(cut.missing.pattern.ravel()[:N], rows.missing.pattern)


@pytest.mark.parametrize("parts", [1, 3])
def test_transposed_slices_have_the_columns_before_the_rows(parts):
    rows = numbered_rows()
    dealt, transposed = (
        deal_to_slices(rows, 5, parts, 5, transposed=transposed) for transposed in (False, True)
    )
    np.testing.assert_array_equal(transposed.values, dealt.values.swapaxes(1, 2))
    np.testing.assert_array_equal(transposed.weight, dealt.weight)


def test_dealt_rows_are_read_in_place_by_tensorflow():
    dealt = deal_to_slices(numbered_rows(), 7, 1, 4)
    shared = as_shared_tensors(dealt)
    np.testing.assert_array_equal(shared.values, dealt.values)
    np.testing.assert_array_equal(shared.missing.pattern, dealt.missing.pattern)
    dealt.values[0, 0, 0] = 77.0
    assert shared.values[0, 0, 0].numpy() == 77.0
