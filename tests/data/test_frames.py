"""Data frames of three libraries: their values, the order of their columns, what is refused."""

import ast
import decimal
import pathlib

import numpy as np
import pandas as pd
import pytest

from bgmm_jd.data import frames, validation

pytestmark = pytest.mark.contract


@pytest.fixture
def pl():
    return pytest.importorskip("polars")


@pytest.fixture
def pa():
    return pytest.importorskip("pyarrow")


# --- Columns of numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.array([1.5, pd.NA], dtype="Float64"), [1.5, np.nan]),
        (pd.array([1.5, pd.NA], dtype="Float32"), [1.5, np.nan]),
        (pd.array([2**60, pd.NA], dtype="Int64"), [2.0**60, np.nan]),
        (pd.array([2, 1], dtype="UInt8"), [2.0, 1.0]),
        (pd.array([True, pd.NA], dtype="boolean"), [1.0, np.nan]),
        ([True, False], [1.0, 0.0]),
        ([3, -4], [3.0, -4.0]),
        ([0.1, np.nan], [0.1, np.nan]),
        (np.array([1.0, 2.0], np.float16), [1.0, 2.0]),
        (np.array([1.0, 2.0], np.longdouble), [1.0, 2.0]),
        (np.array([1.0, 2.0], ">f8"), [1.0, 2.0]),
        (pd.arrays.SparseArray([1.0, 0.0]), [1.0, 0.0]),
    ],
    ids=lambda column: str(getattr(column, "dtype", column)),
)
def test_column_of_numbers_in_pandas_becomes_float64_with_nan_for_missing(column, expected):
    X = pd.DataFrame({"a": [0.5, 0.25], "b": column})
    rows = validation.as_rows(X, missing=True)
    assert rows.dtype == np.float64
    np.testing.assert_array_equal(rows, np.column_stack([[0.5, 0.25], expected]))


@pytest.mark.parametrize("dtype", ["double", "float", "int64", "uint8", "bool", "decimal128(5, 2)"])
def test_column_that_arrow_keeps_becomes_floats_with_nan_for_null(pa, dtype):
    known = {"bool": pa.bool_(), "decimal128(5, 2)": pa.decimal128(5, 2)}
    one = {"bool": True, "decimal128(5, 2)": decimal.Decimal(1)}.get(dtype, 1)
    kind = known.get(dtype) or pa.type_for_alias(dtype)
    table = pa.table({"a": pa.array([one, None], kind), "b": pa.array([0.5, 0.25])})
    in_pandas = table.to_pandas(types_mapper=pd.ArrowDtype)
    for X in (table, in_pandas):
        found = validation.as_rows(X, missing=True)
        np.testing.assert_array_equal(found, [[1.0, 0.5], [np.nan, 0.25]])


def test_frame_of_polars_becomes_floats_with_nan_for_null(pl):
    X = pl.DataFrame(
        {
            "float": [1.5, None],
            "nan": [1.5, float("nan")],
            "int": [2**60, None],
            "bool": [None, True],
            "decimal": [decimal.Decimal("0.25"), None],
        }
    )
    expected = [[1.5, 1.5, 2.0**60, np.nan, 0.25], [np.nan, np.nan, np.nan, 1.0, np.nan]]
    np.testing.assert_array_equal(validation.as_rows(X, missing=True), expected)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_column_of_nulls_alone_is_missing_in_every_row(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    X = make({"a": [0.5, 0.25], "b": [None, None]})
    found = validation.as_rows(X, missing=True)
    np.testing.assert_array_equal(found, [[0.5, np.nan], [0.25, np.nan]])


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_frame_is_float32_only_if_all_columns_are(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    narrow, wide = np.ones(3, np.float32), np.ones(3, np.int8)
    assert validation.as_rows(make({"a": narrow, "b": 2 * narrow})).dtype == np.float32
    assert validation.as_rows(make({"a": narrow, "b": wide})).dtype == np.float64


def test_null_is_refused_with_the_name_of_its_column_where_none_may_be_missing():
    X = pd.DataFrame({"a": [1.0, 2.0], "b": pd.array([1, pd.NA], dtype="Int64")})
    with pytest.raises(ValueError, match=r"column 'b' has nan \(first in row 1\)"):
        validation.as_rows(X)


def test_infinity_is_refused_with_the_name_of_its_column():
    with pytest.raises(ValueError, match="column 'b' has inf"):
        validation.as_rows(pd.DataFrame({"a": [1.0], "b": [np.inf]}), missing=True)


# --- Columns of something else --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "dtype"),
    [
        (pd.Categorical([1, 2]), "category"),
        (["one", "two"], "str|object"),
        (pd.Series([1, None], dtype=object), "object"),
        (pd.to_datetime(["2020-01-01", "2020-01-02"]), "datetime64"),
        (pd.to_timedelta([1, 2]), "timedelta64"),
        ([1j, 2.0], "complex128"),
    ],
    ids=["categories", "text", "objects", "dates", "durations", "complex"],
)
def test_column_without_real_numbers_is_refused_by_name_and_dtype(column, dtype):
    X = pd.DataFrame({"a": [1.0, 2.0], "kind": column})
    with pytest.raises(TypeError, match=rf"'kind' of dtype ({dtype}).*Leave such columns out"):
        validation.as_rows(X)


def test_all_columns_without_real_numbers_are_named(pl):
    X = pl.DataFrame({"a": [1.0], "day": ["Mon"], "b": [[1.0, 2.0]]})
    message = r"'day' of dtype String, 'b' of dtype List\(Float64\)"
    with pytest.raises(TypeError, match=message):
        validation.as_rows(X)


def test_of_many_refused_columns_ten_are_shown():
    X = pd.DataFrame({f"text {i}": ["a"] for i in range(12)})
    with pytest.raises(TypeError, match=r"'text 9' of dtype \w+, \.\.\. \(12 in all\)"):
        validation.as_rows(X)


def test_frame_that_is_not_in_memory_is_refused(pl):
    with pytest.raises(TypeError, match=r"in memory; got polars\.LazyFrame\. Collect it"):
        validation.as_rows(pl.LazyFrame({"a": [1.0]}))


def test_frame_of_an_unknown_library_is_refused():
    class Frame:
        columns = ("a", "b")

        def __array__(self, dtype=None, copy=None):
            return np.ones((2, 2))

    with pytest.raises(TypeError, match=r"of pandas, polars or pyarrow.*got .*\.Frame"):
        validation.as_rows(Frame())


def test_frame_without_columns_or_rows_is_refused():
    with pytest.raises(ValueError, match=r"one row and one column; got shape \(3, 0\)"):
        validation.as_rows(pd.DataFrame(index=range(3)))
    with pytest.raises(ValueError, match=r"one row and one column; got shape \(0, 1\)"):
        validation.as_rows(pd.DataFrame({"a": pd.Series(dtype=float)}))


# --- Names ----------------------------------------------------------------------------------------


def test_names_are_strings_and_arrays_have_none():
    assert frames.column_names(pd.DataFrame(np.ones((2, 3)))) == ("0", "1", "2")
    two = pd.MultiIndex.from_tuples([("a", "x"), ("b", "y")])
    found = frames.column_names(pd.DataFrame(np.ones((2, 2)), columns=two))
    assert found == ("('a', 'x')", "('b', 'y')")
    assert frames.column_names(np.ones((2, 3))) is None
    assert frames.column_names([[1.0, 2.0]]) is None
    assert frames.column_names(pd.Series([1.0])) is None


def test_names_are_those_of_polars_and_pyarrow(pl, pa):
    columns = {"b": [1.0], "a": [2.0]}
    assert frames.column_names(pl.DataFrame(columns)) == ("b", "a")
    assert frames.column_names(pa.table(columns)) == ("b", "a")


def test_array_with_dimension_names_is_taken_as_an_array():
    X = pd.DataFrame({"a": [1.0, 2.0]}).to_xarray().to_dataarray().T
    assert frames.column_names(X) is None
    np.testing.assert_array_equal(validation.as_rows(X), [[1.0], [2.0]])


@pytest.mark.parametrize("columns", [["a", "b", "a"], [1, "b", "1"]])
def test_repeated_names_are_refused(columns):
    X = pd.DataFrame(np.ones((2, 3)), columns=columns)
    with pytest.raises(ValueError, match=rf"distinct names; got '{columns[0]}' more than once"):
        validation.as_rows(X)
    with pytest.raises(ValueError, match="distinct names"):
        frames.column_names(X)


def test_repeated_names_are_refused_in_pyarrow(pa):
    with pytest.raises(ValueError, match="distinct names; got 'a' more than once"):
        validation.as_rows(pa.table([[1.0], [2.0]], names=["a", "a"]))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_are_put_in_the_order_of_the_names(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame
    X = make({"c": [3.0], "a": [1], "b": [2.0]})
    found = validation.as_rows(X, 3, names=("a", "b", "c"))
    np.testing.assert_array_equal(found, [[1.0, 2.0, 3.0]])


def test_array_is_taken_by_position_whatever_the_names():
    found = validation.as_rows([[3.0, 1.0]], 2, names=("a", "b"))
    np.testing.assert_array_equal(found, [[3.0, 1.0]])
    with pytest.raises(ValueError, match="must have 2 columns, as the fit had; got 3"):
        validation.as_rows(np.ones((2, 3)), 2, names=("a", "b"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["a"], "lacks 'b'. Rename or add columns"),
        (["a", "B"], "lacks 'b' and also has 'B'. Rename or add columns"),
        (["b", "c", "a"], r"also has 'c'\. Select them with X\[\['a', 'b'\]\]"),
    ],
    ids=["missing", "other", "additional"],
)
def test_frame_with_other_columns_is_refused_by_name(columns, message):
    X = pd.DataFrame(np.ones((2, len(columns))), columns=columns)
    with pytest.raises(
        ValueError, match=f"must have the columns 'a', 'b' and no others.*{message}"
    ):
        validation.as_rows(X, 2, names=("a", "b"))


# --- Single columns -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "int32", "boolean"])
def test_weights_may_be_a_column_of_pandas(dtype):
    weight = pd.Series([1, 0, 1], index=[7, 3, 5], dtype=dtype)
    found = validation.as_weights(weight, 3, np.dtype(np.float64))
    np.testing.assert_array_equal(found, [1.0, 0.0, 1.0])


def test_weights_may_be_a_column_of_polars_or_pyarrow(pl, pa):
    for column in (pl.Series([2, 0, 1]), pa.chunked_array([[2, 0], [1]])):
        found = validation.as_weights(column, 3, np.dtype(np.float64))
        np.testing.assert_array_equal(found, [2.0, 0.0, 1.0])


def test_missing_weight_and_weights_of_text_are_refused():
    with pytest.raises(ValueError, match="got nan in row 1"):
        validation.as_weights(pd.Series([1, pd.NA], dtype="Int64"), 2, np.dtype("f8"))
    with pytest.raises(TypeError, match="sample_weight must hold real numbers; got dtype"):
        validation.as_weights(pd.Series(["a", "b"]), 2, np.dtype("f8"))


def test_narwhals_is_not_imported_with_the_package():
    body = ast.parse(pathlib.Path(frames.__file__).read_text()).body
    imported = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("narwhals" in ast.unparse(node) for node in imported)
