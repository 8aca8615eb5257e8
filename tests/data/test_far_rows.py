"""Rows so far from all others that they may be codes."""

import warnings

import numpy as np
import pytest

from bgmm_jd.data.far_rows import FarRowsWarning, warn_of_very_far_rows
from bgmm_jd.data.standardize import standardize

NORMAL = np.random.default_rng(0).normal(size=(200, 3)) @ [[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]]


@pytest.mark.parametrize("units", ["columns", "common", "upper", "lower"])
def test_warning_names_the_rows_and_an_entry_in_the_units_of_x(units):
    X = NORMAL.copy()
    X[[3, 50], 1] = -9999.0
    with pytest.warns(
        FarRowsWarning, match=r"2 of 200 rows are .*: 3, 50 \(row 3 has -9999 in co.* 1"
    ):
        warn_of_very_far_rows(standardize(X, units=units), np.arange(200), 100.0, stacklevel=1)


def test_rows_are_named_by_their_numbers_in_x_where_some_have_weight_zero():
    X = NORMAL.copy()
    X[7, 0] = 1e6
    weight = np.arange(200.0) % 2  # even rows have weight 0
    data = standardize(X, weight)
    with pytest.warns(FarRowsWarning, match=r"1 of 100 rows are .*: 7 \(row 7 has 1e\+06"):
        warn_of_very_far_rows(data, np.flatnonzero(weight), 100.0, stacklevel=1)


def test_warning_has_the_name_of_the_column():
    X = NORMAL.copy()
    X[3, 1] = -9999.0
    names = ("height", "width", "depth")
    with pytest.warns(FarRowsWarning, match=r"row 3 has -9999 in column 'width'"):
        warn_of_very_far_rows(standardize(X), np.arange(200), 100.0, names, stacklevel=1)


@pytest.mark.parametrize("df", [3.0, 5.0, np.inf])
def test_heavy_tails_are_no_reason_to_warn(df):
    """A t with 3 degrees of freedom passes the limit with probability 6e-7, 0.002 for all rows."""
    rng = np.random.default_rng(1)
    X = rng.standard_t(df, (1_000, 3)) if np.isfinite(df) else rng.normal(size=(1_000, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_very_far_rows(standardize(X), np.arange(1_000), 100.0, stacklevel=1)
