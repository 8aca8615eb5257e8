"""X at the door, and the rows of each minibatch.

A statistical test raises a false alarm with probability 1e-6; the seeds are fixed.
"""

import itertools

import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf
from scipy import stats

from bgmm_jd import data

FALSE_ALARM = 1e-6


def memory_map(array, path):
    """The same array in a file that cannot be written to."""
    np.save(path / "rows.npy", array)
    return np.load(path / "rows.npy", mmap_mode="r")


# --- What is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_first_column_that_is_not_finite_is_named(value, dtype):
    X = np.zeros((5, 4), dtype)
    X[1, 3] = X[4, 2] = X[3, 2] = value
    with pytest.raises(ValueError, match=f"column 2 has {value} .*row 3"):
        data.as_rows(X)


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
def test_shapes_that_are_refused(shape, message):
    with pytest.raises(ValueError, match=message):
        data.as_rows(np.ones(shape))


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
    ids=str,
)
def test_anything_but_real_numbers_is_refused(X):
    with pytest.raises(TypeError, match="must hold real numbers; got dtype"):
        data.as_rows(X)


@pytest.mark.parametrize("form", ["bsr", "coo", "csc", "csr", "dia", "dok", "lil"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_sparse_matrices_are_refused(form, kind):
    X = getattr(scipy.sparse, f"{form}_{kind}")(np.eye(3))
    with pytest.raises(TypeError, match=rf"dense.*sparse {form}_{kind}.*toarray\(\)"):
        data.as_rows(X)


def test_masked_entries_are_refused_and_a_mask_of_none_is_not():
    X = np.ma.array([[1.0, 2.0], [3.0, 4.0]], mask=[[False, True], [False, False]])
    with pytest.raises(ValueError, match="masked"):
        data.as_rows(X)
    np.testing.assert_array_equal(data.as_rows(np.ma.array([[1.0, 2.0]])), [[1.0, 2.0]])


def test_rows_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="rows differ in length"):
        data.as_rows([[1.0, 2.0], [3.0]])


def test_another_number_of_columns_is_refused():
    with pytest.raises(ValueError, match="must have 3 columns.*got 2"):
        data.as_rows(np.ones((4, 2)), features=3)


@pytest.mark.parametrize("value", [0, -1, np.int64(-3)])
def test_counts_below_one_are_refused(value):
    with pytest.raises(ValueError, match=f"K must be at least 1; got {value}"):
        data.as_count(value, "K")


@pytest.mark.parametrize("value", [2.5, 3.0, True, np.True_, "3", None, [3]])
def test_counts_that_are_no_integers_are_refused(value):
    with pytest.raises(TypeError, match="K must be an integer"):
        data.as_count(value, "K")


def test_counts():
    assert data.as_count(np.int32(3), "K") == 3
    assert type(data.as_count(np.int32(3), "K")) is int
    assert data.as_count(7, "batch_size", most=7) == 7
    with pytest.raises(ValueError, match="batch_size must be from 1 to 7; got 8"):
        data.as_count(8, "batch_size", most=7)


# --- What is taken ----------------------------------------------------------------------------


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
def test_dtypes(given, kept):
    X = np.array([[0, 1], [1, 0], [1, 1]]).astype(given)
    rows = data.as_rows(X)
    assert rows.dtype == np.dtype(kept)  # in the machine's own byte order
    np.testing.assert_array_equal(rows, X)


def test_a_list_of_rows():
    np.testing.assert_array_equal(data.as_rows([[1, 2], (3, 4)]), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize("layout", ["C", "F", "every other row", "backwards", "memory map"])
def test_layouts_give_the_same_rows_and_leave_x_alone(layout, tmp_path):
    X = np.random.default_rng(0).normal(3.0, 2.0, (6, 3))
    given = {
        "C": lambda: X.copy(),
        "F": lambda: np.asfortranarray(X),
        "every other row": lambda: np.repeat(X, 2, axis=0)[::2],
        "backwards": lambda: X[::-1].copy()[::-1],
        "memory map": lambda: memory_map(X, tmp_path),
    }[layout]()
    found = data.centre_and_scale(data.as_rows(given))
    expected = data.centre_and_scale(data.as_rows(X.copy()))
    # Sums over another memory order round otherwise: 6 numbers, each half an ulp.
    np.testing.assert_allclose(found.rows, expected.rows, rtol=0, atol=1e-14)
    np.testing.assert_array_equal(given, X)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4"])
def test_nothing_is_changed_in_place(dtype):
    X = np.arange(12).reshape(6, 2).astype(dtype)
    before = X.copy()
    data.centre_and_scale(data.as_rows(X)).rows[:] = 7.0
    np.testing.assert_array_equal(X, before)


# --- Centre and scale -------------------------------------------------------------------------


def moments(X):
    """Mean and sd of each column, exactly: X is a multiple of a power of two."""
    ratios = [[value.as_integer_ratio() for value in column] for column in X.T.tolist()]
    columns = [[stats_fraction(*r) for r in column] for column in ratios]
    means = [sum(c) / len(c) for c in columns]
    variances = [
        sum((v - m) ** 2 for v in c) / len(c) for c, m in zip(columns, means, strict=True)
    ]
    return np.array(means, float), np.sqrt(np.array(variances, float))
