"""What the user passes: what is refused, and what it is converted to."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from bgmm_jd.data import validation

# --- Rows that are refused ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_column_that_is_not_finite_is_named(value, dtype):
    X = np.zeros((5, 4), dtype)
    X[1, 3] = X[4, 2] = X[3, 2] = value
    with pytest.raises(ValueError, match=f"column 2 has {value} .*row 3"):
        validation.as_rows(X)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((), r"two-dimensional.*got shape \(\)"),
        ((7,), r"two-dimensional.*got shape \(7,\).*reshape\(-1, 1\)"),
        ((7, 2, 2), r"two-dimensional.*got shape \(7, 2, 2\)"),
        ((0, 3), r"at least one row.*got shape \(0, 3\)"),
        ((3, 0), r"at least one row and one column.*got shape \(3, 0\)"),
    ],
)
def test_array_that_is_empty_or_not_two_dimensional_is_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        validation.as_rows(np.ones(shape))


@pytest.mark.parametrize(
    "X",
    [
        np.ones((3, 2), complex),
        np.ones((3, 2), object),
        np.array([[1.0, None], [2.0, 3.0]]),
        np.array([["1.0", "2.0"]]),
        [[1.0, "two"]],
        np.array([["2020-01-01"]], "datetime64[D]"),
        np.ones((3, 2), "f4, f4"),
        None,
        "rows.csv",
        [[2**70]],
    ],
    ids=[
        "complex",
        "object",
        "None among numbers",
        "numbers as text",
        "text among numbers",
        "dates",
        "a record",
        "None",
        "text",
        "an integer beyond 64 bits",
    ],
)
def test_anything_but_real_numbers_is_refused(X):
    with pytest.raises(TypeError, match="must hold real numbers; got dtype"):
        validation.as_rows(X)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrix_is_refused(form, kind):
    X = getattr(scipy.sparse, f"{form}_{kind}")(np.eye(3))
    with pytest.raises(TypeError, match=rf"dense.*sparse {form}_{kind}.*toarray\(\)"):
        validation.as_rows(X)


def test_masked_entries_are_refused_and_a_mask_without_any_is_accepted():
    X = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(ValueError, match="masked"):
        validation.as_rows(X)
    np.testing.assert_array_equal(validation.as_rows(np.ma.array([[1.0, 2.0]])), [[1.0, 2.0]])


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="rows differ in length"):
        validation.as_rows([[1.0, 2.0], [3.0]])


def test_another_number_of_columns_is_refused():
    with pytest.raises(ValueError, match=r"must have 3 columns.*got 2"):
        validation.as_rows(np.ones((4, 2)), features=3)


def test_number_too_large_for_float64_is_refused():
    large = np.longdouble(np.finfo(np.float64).max) * 2
    if not np.isfinite(large):
        pytest.skip("longdouble is float64 on this machine")
    with pytest.raises(ValueError, match="column 0 has inf"):
        validation.as_rows(np.array([[large]]))


# --- Rows that are accepted ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("float32", "float32"),
        ("float64", "float64"),
        (">f4", "float32"),
        (">f8", "float64"),
        ("<f8", "float64"),
        ("float16", "float32"),
        ("longdouble", "float64"),
        ("bool", "float32"),
        ("int8", "float32"),
        ("uint16", "float32"),
        ("int32", "float64"),  # float32 has 24 bits
        ("int64", "float64"),
        (">i4", "float64"),
    ],
)
def test_real_dtype_becomes_float32_or_float64_without_loss(given, kept):
    X = np.array([[0, 1], [1, 0], [1, 1]]).astype(given)
    rows = validation.as_rows(X)
    assert rows.dtype == np.dtype(kept)  # in the machine's own byte order
    np.testing.assert_array_equal(rows, X)


def test_list_of_rows_becomes_an_array():
    np.testing.assert_array_equal(validation.as_rows([[1, 2], (3, 4)]), [[1.0, 2.0], [3.0, 4.0]])


# --- Missing entries ----------------------------------------------------------------------------


def test_nan_and_masked_entries_become_nan_where_they_may_be_missing():
    X = np.array([[1.0, np.nan], [3.0, 4.0]])
    np.testing.assert_array_equal(validation.as_rows(X, missing=True), X)
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    found = validation.as_rows(masked, missing=True)
    np.testing.assert_array_equal(found, X)
    assert found.dtype == np.float64
    assert validation.as_rows(np.ma.masked_invalid(X.astype("f")), missing=True).dtype == np.float32


@pytest.mark.parametrize(
    "given", [[[1.0, np.nan]], np.ma.array([[1.0, 2.0]], mask=[[True, False]])]
)
def test_missing_entries_are_refused_with_advice_by_default(given):
    with pytest.raises(ValueError, match="missing='marginalize'"):
        validation.as_rows(given)


def test_infinity_is_never_a_missing_entry():
    with pytest.raises(ValueError, match=r"column 1 has inf \(first in row 0\)"):
        validation.as_rows([[np.nan, np.inf], [1.0, 2.0]], missing=True)


def test_option_missing_is_none_or_marginalize():
    assert validation.as_missing_flag(None) is False
    assert validation.as_missing_flag("marginalize") is True


@pytest.mark.parametrize("value", ["sum_out", "drop", "", True, 1])
def test_unknown_option_missing_is_refused(value):
    message = f"missing must be None or 'marginalize'; got {value!r}"
    with pytest.raises(ValueError, match=message):
        validation.as_missing_flag(value)


# --- Row weights --------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, np.ones(5), [1] * 5, [True] * 5])
def test_weights_of_one_are_no_weights(given):
    assert validation.as_weights(given, 5, np.dtype("float64")) is None


@pytest.mark.parametrize("given", [[0, 2, 1], np.array([0, 2, 1], ">i4"), np.float32([0, 2, 1])])
def test_row_weights_of_other_types_become_float64(given):
    found = validation.as_weights(given, 3, np.dtype("float64"))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [0.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (["a", "b", "c"], TypeError, "real numbers; got dtype"),
        ([1.0, 2j, 1.0], TypeError, "real numbers; got dtype complex128"),
        ([1.0, 2.0], ValueError, r"each of the 3 rows.*got shape \(2,\)"),
        ([[1.0, 2.0, 3.0]], ValueError, r"got shape \(1, 3\)"),
        (2.0, ValueError, r"got shape \(\)"),
        ([1.0, -0.5, 1.0], ValueError, r"not negative; got -0.5 in row 1"),
        ([1.0, 1.0, np.nan], ValueError, r"finite.*got nan in row 2"),
        ([np.inf, 1.0, 1.0], ValueError, r"finite.*got inf in row 0"),
        ([0.0, 0.0, 0.0], ValueError, "all are zero"),
    ],
)
def test_weights_that_are_not_finite_non_negative_numbers_are_refused(given, error, message):
    with pytest.raises(error, match=message):
        validation.as_weights(given, 3, np.dtype("float64"))


COUNTS = np.random.default_rng(4).integers(0, 4, 90).astype(np.float64)


@pytest.mark.parametrize("kind", [list, tuple, pd.Series, np.float32])
def test_weights_of_any_array_like_become_the_same_array(kind):
    found = validation.as_weights(kind(COUNTS), len(COUNTS), np.dtype("float64"))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, COUNTS)


def test_series_of_weights_is_read_by_position_whatever_its_index():
    series = pd.Series(COUNTS, index=np.arange(len(COUNTS))[::-1])
    found = validation.as_weights(series, len(COUNTS), np.dtype("float64"))
    np.testing.assert_array_equal(found, COUNTS)


def test_weights_that_underflow_in_the_dtype_of_the_fit_become_zero():
    expected = np.random.default_rng(5).gamma(1.0, size=len(COUNTS)) * (COUNTS > 0)
    weight = np.where(expected > 0, expected, 1e-60)
    single, double = np.dtype("float32"), np.dtype("float64")
    np.testing.assert_array_equal(validation.as_weights(weight, len(COUNTS), single), expected)
    np.testing.assert_array_equal(validation.as_weights(weight, len(COUNTS), double), weight)
    with pytest.raises(ValueError, match="all are zero in float32"):
        validation.as_weights(np.full(5, 1e-60), 5, single)


# --- Counts -------------------------------------------------------------------------------------


def test_integer_of_any_type_becomes_an_int_count():
    assert validation.as_count(np.int32(3), "K") == 3
    assert type(validation.as_count(np.int32(3), "K")) is int
    assert validation.as_count(7, "batch_size", most=7) == 7


@pytest.mark.parametrize("value", [0, -1, np.int64(-3)])
def test_count_below_one_is_refused(value):
    with pytest.raises(ValueError, match=f"K must be at least 1; got {value}"):
        validation.as_count(value, "K")


def test_count_above_the_largest_allowed_is_refused():
    with pytest.raises(ValueError, match="batch_size must be from 1 to 7; got 8"):
        validation.as_count(8, "batch_size", most=7)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), np.array(0.5)])
def test_number_between_zero_and_one_becomes_a_float_probability(value):
    found = validation.as_probability(value, "level")
    assert type(found) is float
    assert found == 0.5


@pytest.mark.parametrize("value", [0, 1.0, -0.5, 94, np.nan, True, [0.5, 0.9]])
def test_value_that_is_not_one_number_between_zero_and_one_is_no_probability(value):
    with pytest.raises(ValueError, match=r"level must be one number between 0 and 1.*such as 0.9"):
        validation.as_probability(value, "level")


@pytest.mark.parametrize("value", ["0.9", None])
def test_probability_that_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="level must hold real numbers"):
        validation.as_probability(value, "level")


@pytest.mark.parametrize("value", [2.5, 3.0, True, np.True_, "3", None, [3]])
def test_count_that_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="K must be an integer"):
        validation.as_count(value, "K")
