"""Standardised rows: shift, scale, weights and missing entries, against other computations."""

import statistics

import numpy as np
import pytest

from bgmm_jd.data import standardize, validation
from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.data.units import Standardization

EPS = np.finfo(np.float64).eps
NORMAL = np.random.default_rng(2).standard_normal((200, 2))
UNEQUAL = Standardization(np.array([3.0, -1.0]), np.array([10.0, 0.2]))


def memory_map(array, path):
    """Return the array from a file that cannot be written to."""
    np.save(path / "rows.npy", array)
    return np.load(path / "rows.npy", mmap_mode="r")


@pytest.mark.parametrize("layout", ["C", "F", "every other row", "backwards", "memory map"])
def test_memory_layout_of_x_does_not_matter_and_x_is_left_alone(layout, tmp_path):
    X = np.random.default_rng(0).normal(3.0, 2.0, (6, 3))
    given = {
        "C": lambda: X.copy(),
        "F": lambda: np.asfortranarray(X),
        "every other row": lambda: np.repeat(X, 2, axis=0)[::2],
        "backwards": lambda: X[::-1].copy()[::-1],
        "memory map": lambda: memory_map(X, tmp_path),
    }[layout]()
    found = standardize.standardize(validation.as_rows(given))
    expected = standardize.standardize(validation.as_rows(X.copy()))
    # Sums over another memory order round otherwise: 6 numbers, each half an ulp.
    np.testing.assert_allclose(found.rows.values, expected.rows.values, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(given, X)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_x_is_not_changed_in_place(dtype):
    X = np.arange(12).reshape(6, 2).astype(dtype)
    before = X.copy()
    standardize.standardize(validation.as_rows(X)).rows.values[:] = 7.0
    np.testing.assert_array_equal(X, before)


# --- Centre and scale -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "X",
    [
        NORMAL,
        NORMAL[:, :1],
        NORMAL.astype(np.float32),
        (1e6 + NORMAL).astype(np.float32),
        (1e-6 * NORMAL).astype(np.float32),
        (1e15 + NORMAL).round(),
        1e140 * NORMAL,
        1e-140 * NORMAL,
        np.float32(1e12) * NORMAL.astype(np.float32),
        NORMAL > 0,
        (10 * NORMAL).astype(np.int16),
    ],
    ids=[
        "normal",
        "one feature",
        "float32",
        "around 1e6",
        "of size 1e-6",
        "around 1e15",
        "of size 1e140",
        "of size 1e-140",
        "float32 of size 1e12",
        "booleans",
        "integers",
    ],
)
def test_shift_and_scale_are_the_mean_and_sd_of_each_column(X):
    """Against Python's statistics module, which computes with fractions."""
    X = validation.as_rows(X)
    found = standardize.standardize(X)
    columns = X.T.astype(np.float64).tolist()
    mean = np.array([statistics.mean(column) for column in columns])
    sd = np.array([statistics.pstdev(column) for column in columns])
    N, eps = len(X), np.finfo(X.dtype).eps
    # A float64 sum of N terms, and one rounding at the size of the mean.
    mean_error = 2 * EPS * np.abs(mean) + N * EPS * np.ptp(X, axis=0).astype(np.float64)
    assert np.all(np.abs(found.standardization.shift - mean) <= mean_error)
    np.testing.assert_allclose(found.standardization.scale, sd, rtol=N * EPS)
    assert found.dtype == found.rows.values.dtype == X.dtype
    assert found.shape == X.shape
    assert found.total_weight == N
    assert found.rows.weight is found.rows.missing is None
    expected = (X - mean) / sd
    # One rounding to the dtype on top.
    allowed = (eps + 2 * N * EPS) * np.abs(expected) + 2 * mean_error / sd
    assert np.all(np.abs(found.rows.values - expected) <= allowed)
    np.testing.assert_array_equal(
        standardize.standardize_values(X, found.standardization), found.rows.values
    )
    # A sum of N equal numbers.
    np.testing.assert_allclose(
        found.log_det_jacobian, N * np.log(sd).sum(), rtol=N * EPS, atol=N * N * EPS
    )


@pytest.mark.parametrize("value", [0.0, 5.0, 1e30, -1e-30])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_column_is_only_centred(value, dtype):
    X = np.stack([np.arange(5.0), np.full(5, value)], axis=1).astype(dtype)
    found = standardize.standardize(X)
    assert found.standardization.shift[1] == X[0, 1]
    assert found.standardization.scale[1] == 1
    np.testing.assert_array_equal(found.rows.values[:, 1], 0)


def test_single_row_is_only_centred():
    found = standardize.standardize(np.array([[3.0, -7.0]]))
    np.testing.assert_array_equal(found.rows.values, [[0.0, 0.0]])
    np.testing.assert_array_equal(found.standardization.shift, [3.0, -7.0])
    np.testing.assert_array_equal(found.standardization.scale, [1.0, 1.0])


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        ([0.0, 1e30], np.float32),
        ([0.0, 1e-30], np.float32),
        ([0.0, 1e300], np.float64),
        ([0.0, 5e-324], np.float64),
        ([-1.7e308, 1.7e308], np.float64),  # the range itself overflows
        ([0.0, 1.7e308], np.float64),
    ],
)
def test_column_whose_squares_leave_the_range_of_the_dtype_is_refused(column, dtype):
    """Precisions are inverse squares of the sd: these would be zero or infinite."""
    X = np.stack([np.arange(2.0), column], axis=1).astype(dtype)
    with pytest.raises(ValueError, match=r"column 1 has .*outside the range of float"):
        standardize.standardize(X)


# --- Row weights ------------------------------------------------------------------------------

WEIGHT = np.random.default_rng(3).integers(0, 4, 200)


def test_integer_weights_standardize_as_repeated_rows_do():
    found = standardize.standardize(NORMAL, WEIGHT.astype(np.float64))
    repeated = standardize.standardize(np.repeat(NORMAL, WEIGHT, axis=0))
    # Sums of a few hundred numbers.
    np.testing.assert_allclose(
        found.standardization.shift, repeated.standardization.shift, rtol=0, atol=1e-13
    )
    np.testing.assert_allclose(
        found.standardization.scale, repeated.standardization.scale, rtol=1e-13
    )
    assert found.total_weight == repeated.total_weight == WEIGHT.sum()
    np.testing.assert_allclose(found.log_det_jacobian, repeated.log_det_jacobian, rtol=1e-12)
    # Rows of weight 0 are left out.
    np.testing.assert_array_equal(found.rows.weight, WEIGHT[WEIGHT > 0])
    expected = standardize.standardize_values(NORMAL[WEIGHT > 0], found.standardization)
    np.testing.assert_array_equal(found.rows.values, expected)


@pytest.mark.parametrize("units", ["columns", "common", "upper", "lower"])
def test_rows_of_weight_zero_are_left_out_to_the_last_bit_whatever_they_hold(units):
    weight = np.random.default_rng(5).gamma(1.0, size=len(NORMAL)) * (WEIGHT > 0)
    counts = weight > 0
    found = standardize.standardize(np.where(counts[:, None], NORMAL, 1e9), weight, units)
    expected = standardize.standardize(NORMAL[counts], weight[counts], units)
    np.testing.assert_array_equal(found.rows.values, expected.rows.values)
    np.testing.assert_array_equal(found.rows.weight, expected.rows.weight)
    np.testing.assert_equal(tuple(found.standardization), tuple(expected.standardization))


def test_rows_and_weights_have_the_dtype_of_x():
    found = standardize.standardize(NORMAL.astype(np.float32), WEIGHT.astype(np.float64))
    assert found.rows.values.dtype == found.rows.weight.dtype == found.dtype == np.float32


def test_weights_whose_sum_leaves_the_range_of_the_dtype_are_refused():
    """As the squares of a column are: no infinity may come of them."""
    weight = np.full(len(NORMAL), 1e39)
    with pytest.raises(ValueError, match=r"sample_weight .*range of float32"):
        standardize.standardize(NORMAL.astype(np.float32), weight)


# --- Missing entries --------------------------------------------------------------------------


def with_missing(X=NORMAL, share=0.3):
    X = X.copy()
    X[np.random.default_rng(4).random(X.shape) < share] = np.nan
    return X


def test_column_without_any_value_is_refused():
    X = with_missing()
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="column 1 has no value at all"):
        standardize.standardize(X)
    X[5, 1] = 2.0
    weight = np.ones(len(X))
    weight[5] = 0.0
    with pytest.raises(ValueError, match="column 1 has no value at all"):
        standardize.standardize(X, weight)


@pytest.mark.parametrize("weight", [None, WEIGHT.astype(np.float64)])
def test_shift_and_scale_are_those_of_the_observed_entries(weight):
    X = with_missing()
    found = standardize.standardize(X, weight)
    repeated = X if weight is None else np.repeat(X, WEIGHT, axis=0)
    np.testing.assert_allclose(
        found.standardization.shift, np.nanmean(repeated, axis=0), atol=1e-13
    )
    np.testing.assert_allclose(found.standardization.scale, np.nanstd(repeated, axis=0), rtol=1e-13)
    logs = np.log(found.standardization.scale)
    expected = (~np.isnan(repeated)).sum(axis=0) @ logs
    np.testing.assert_allclose(found.log_det_jacobian, expected, rtol=1e-12)


def test_missing_entries_become_zeros_and_a_pattern():
    X = with_missing()
    X[3], X[4], X[5], X[6] = (np.nan, np.nan), (np.nan, 1.0), (1.0, np.nan), (1.0, 1.0)
    found = standardize.standardize(X)
    there = ~np.isnan(X)
    values, (observed, pattern) = found.rows.values, found.rows.missing
    np.testing.assert_array_equal(observed[pattern] > 0, there)
    np.testing.assert_array_equal(
        values[there], standardize.standardize_values(X, found.standardization)[there]
    )
    np.testing.assert_array_equal(values[~there], 0)
    assert len(observed) == 4  # each pattern once
    assert observed.dtype == X.dtype
    assert pattern.dtype == np.int32
    logs = np.log(found.standardization.scale)
    by_row = standardize.row_log_det_jacobian(found.rows, found.standardization)
    np.testing.assert_allclose(by_row, there @ logs, rtol=1e-14, atol=1e-15)


def test_rows_without_missing_entries_have_no_pattern():
    rows = standardize.as_standardized_rows(NORMAL, UNEQUAL)
    assert rows.missing is rows.weight is None
    np.testing.assert_array_equal(rows.values, standardize.standardize_values(NORMAL, UNEQUAL))
    by_row = standardize.row_log_det_jacobian(rows, UNEQUAL)
    np.testing.assert_allclose(by_row, np.full(len(NORMAL), np.log(UNEQUAL.scale).sum()))


# --- One scale for all columns ----------------------------------------------------------------


def test_common_scale_is_the_root_mean_square_of_the_scales():
    X = UNEQUAL.shift + UNEQUAL.scale * NORMAL
    own = standardize.standardize(X).standardization
    common = standardize.standardize(X, units="common").standardization
    np.testing.assert_array_equal(common.shift, own.shift)
    expected = np.sqrt(np.mean(own.scale**2))
    np.testing.assert_allclose(common.scale, [expected, expected], rtol=1e-14)


def test_common_scale_leaves_out_constant_columns():
    X = np.column_stack([NORMAL[:, :1], np.full(len(NORMAL), 5.0), 3 * NORMAL[:, 1:]])
    own = standardize.standardize(X).standardization
    common = standardize.standardize(X, units="common").standardization
    expected = np.sqrt((own.scale[0] ** 2 + own.scale[2] ** 2) / 2)
    np.testing.assert_allclose(common.scale, np.full(3, expected), rtol=1e-14)
    constant = standardize.standardize(np.full((4, 2), 7.0), units="common")
    np.testing.assert_array_equal(constant.standardization.scale, [1.0, 1.0])


@pytest.mark.parametrize("size", [1e140, 1e-140])
def test_common_scale_of_large_or_small_columns_does_not_overflow(size):
    """No square leaves the range on the way."""
    found = standardize.standardize(size * NORMAL, units="common").standardization
    expected = standardize.standardize(NORMAL, units="common").standardization
    np.testing.assert_allclose(found.scale / size, expected.scale, rtol=1e-12)


# --- Whitened rows ----------------------------------------------------------------------------

either_triangle = pytest.mark.parametrize("units", ["upper", "lower"])
SKEWED = NORMAL @ [[1.0, 0.6], [0.0, 0.8]]


def triangle_of(units):
    return np.triu if units == "upper" else np.tril


@either_triangle
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ([1.0, 1.0], np.float64),
        ([1e30, 1e-30], np.float64),
        ([1e-30, 1e30], np.float64),
        ([1e140, 1e-140], np.float64),
        ([1.0, 1.0], np.float32),
        ([1e12, 1e-12], np.float32),
    ],
)
def test_whitened_rows_have_mean_zero_and_the_robust_scatter_is_the_identity(units, size, dtype):
    X = (SKEWED * size).astype(dtype)
    found = standardize.standardize(X, units=units)
    scale, values = found.standardization.scale, found.rows.values.astype(np.float64)
    np.testing.assert_array_equal(scale, triangle_of(units)(scale))
    assert (np.diagonal(scale) > 0).all()
    assert found.dtype == dtype
    assert found.far_scatter is None
    # A sum of N numbers of at most some sds, each rounded to the dtype.
    N, eps = len(X), np.finfo(dtype).eps
    np.testing.assert_allclose(values.mean(axis=0), 0, atol=10 * (eps + N * EPS))
    moments = robust_moments(X)
    sd = np.sqrt(np.diag(moments.scatter))
    np.testing.assert_allclose(
        scale @ scale.T / np.outer(sd, sd), moments.scatter / np.outer(sd, sd), rtol=1e-12
    )
    # (1 - delta) of the covariances of the rows is in the scatter, and all of their variances.
    correlation = np.corrcoef(X.T.astype(np.float64) / np.array(size)[:, np.newaxis])
    covariance = np.linalg.inv(scale / sd[:, np.newaxis]) @ correlation
    covariance = covariance @ np.linalg.inv(scale / sd[:, np.newaxis]).T
    np.testing.assert_allclose(np.cov(values.T, bias=True), covariance, atol=50 * eps)


def test_far_rows_do_not_count_for_shift_and_scale_and_their_scatter_is_kept():
    far = np.array([[1e4, -2e4], [1e4, 3e4]])
    found = standardize.standardize(np.concatenate([NORMAL, far]), units="upper")
    expected = standardize.standardize(NORMAL, units="upper")
    for mine, other in zip(found.standardization, expected.standardization, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)
    z = standardize.standardize_values(far, found.standardization)
    np.testing.assert_allclose(found.far_scatter, z.T @ z / (len(NORMAL) + 2), rtol=1e-9)


@pytest.mark.parametrize("units", ["columns", "common", "upper", "lower"])
def test_row_whose_square_leaves_the_range_of_the_dtype_is_refused_by_its_place_in_x(units):
    X, weight = SKEWED.copy(), np.ones(len(SKEWED))
    X[7, 1], weight[:3] = 1e200, 0.0
    with pytest.raises(ValueError, match=r"column 1 has 1e\+200 in row 7.*outside the range"):
        standardize.standardize(X, weight, units)


@pytest.mark.parametrize("units", ["columns", "common", "upper", "lower"])
def test_constant_columns_that_are_not_read_are_missing_in_every_row(units):
    X = np.column_stack([NORMAL[:, 0], np.full(len(NORMAL), 5.0), NORMAL[:, 1]])
    found = standardize.standardize(X, units=units, read_constant_columns=False)
    np.testing.assert_array_equal(found.unread, [False, True, False])
    np.testing.assert_array_equal(found.rows.missing.observed, [[1.0, 0.0, 1.0]])
    without = standardize.standardize(NORMAL, units=units)
    np.testing.assert_allclose(found.rows.values[:, [0, 2]], without.rows.values, atol=1e-12)
    np.testing.assert_allclose(found.log_det_jacobian, without.log_det_jacobian, rtol=1e-12)
    new = standardize.standardize_new_rows(np.array([[0.1, np.nan, 0.3]]), found)
    np.testing.assert_array_equal(new.missing.observed, [[1.0, 0.0, 1.0]])


def test_constant_columns_are_read_where_there_is_no_other():
    found = standardize.standardize(np.full((4, 2), 7.0), read_constant_columns=False)
    assert found.unread is found.rows.missing is None


@either_triangle
def test_whitened_rows_come_back_by_the_matrix(units):
    found = standardize.standardize(1e3 + SKEWED * [10.0, 0.2], units=units)
    shift, scale, inverse = found.standardization
    # Numbers of 1e3 in units of 0.2.
    np.testing.assert_allclose(
        shift + found.rows.values @ scale.T, 1e3 + SKEWED * [10.0, 0.2], rtol=1e-13
    )
    np.testing.assert_allclose(scale @ inverse, np.eye(2), atol=1e-14)
    expected = len(SKEWED) * np.linalg.slogdet(scale)[1]
    np.testing.assert_allclose(found.log_det_jacobian, expected, rtol=1e-13)


@either_triangle
def test_shift_and_column_scale_of_whitened_rows_are_the_mean_and_sd_of_each_column(units):
    X = UNEQUAL.shift + UNEQUAL.scale * SKEWED
    own = standardize.standardize(X).standardization
    found = standardize.standardize(X, units=units).standardization
    np.testing.assert_array_equal(found.shift, own.shift)
    np.testing.assert_allclose(found.column_scale, own.scale, rtol=1e-14)


@either_triangle
def test_integer_weights_whiten_as_repeated_rows_do(units):
    found = standardize.standardize(SKEWED, WEIGHT.astype(np.float64), units)
    repeated = standardize.standardize(np.repeat(SKEWED, WEIGHT, axis=0), units=units)
    # Sums of a few hundred numbers.
    for mine, other in zip(found.standardization, repeated.standardization, strict=True):
        np.testing.assert_allclose(mine, other, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.log_det_jacobian, repeated.log_det_jacobian, rtol=1e-11)


@either_triangle
def test_constant_and_repeated_columns_are_whitened_to_finite_rows(units):
    """A constant column keeps its scale of 1; a repeated one is left with what delta adds."""
    X = np.column_stack([SKEWED, np.full(len(SKEWED), 5.0), SKEWED[:, 0]])
    found = standardize.standardize(X, units=units)
    scale = found.standardization.scale
    np.testing.assert_array_equal(found.rows.values[:, 2], 0)
    np.testing.assert_array_equal(scale[2], [0.0, 0.0, 1.0, 0.0])
    assert np.isfinite(found.standardization.inverse).all()
    # The repeated columns have the correlation matrix [[1, 1 - delta], [1 - delta, 1]]: rows
    # scatter by at most 2 / (2 - delta) sds along any axis.
    delta = robust_moments(X).shrinkage
    assert np.linalg.norm(np.cov(found.rows.values.T, bias=True), 2) < 2 / (2 - delta) + 0.1


@either_triangle
def test_single_row_and_a_single_column_are_whitened(units):
    single = standardize.standardize(np.array([[3.0, -7.0]]), units=units)
    np.testing.assert_array_equal(single.rows.values, [[0.0, 0.0]])
    np.testing.assert_array_equal(single.standardization.scale, np.eye(2))
    column = standardize.standardize(SKEWED[:, :1], units=units)
    own = standardize.standardize(SKEWED[:, :1])
    np.testing.assert_allclose(column.rows.values, own.rows.values, rtol=1e-6)
