"""Sources of files, data sets and batches: the rows they yield, and errors at the door."""

import pickle

import numpy as np
import pytest
from rows_in_parts import mixed_rows

import bgmm_jd
from bgmm_jd.sources.chunks import chunks_of
from bgmm_jd.sources.row_file import ArrayRows, RowFile
from bgmm_jd.sources.table import table
from bgmm_jd.sources.weighted import WeightedRows

pytestmark = pytest.mark.contract


def rows_of(source):
    return np.concatenate([block.values for block in source.blocks()])


def weights_of(source):
    return np.concatenate([block.weight for block in source.blocks()])


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, mixed_rows(dtype=np.float32))
    return path


# --- .npy files and memmaps -----------------------------------------------------------------------


def test_npy_file_yields_its_rows_in_its_dtype(npy):
    source = table(npy)
    assert (source.count, source.features, source.dtype) == (5_000, 3, np.float32)
    np.testing.assert_array_equal(rows_of(source), np.load(npy))
    np.testing.assert_array_equal(rows_of(source), np.load(npy))  # as often as asked


def test_columns_and_weight_of_npy_file_are_chosen_by_number(npy):
    source = table(npy, columns=[2, 0], weight=1)
    np.testing.assert_array_equal(rows_of(source), np.load(npy)[:, [2, 0]])
    np.testing.assert_array_equal(weights_of(source), np.load(npy)[:, 1])
    assert table(npy, weight=1).features == 2


@pytest.mark.parametrize(
    ("dtype", "expected"), [(np.int16, np.float32), (np.int64, np.float64), (">f4", np.float32)]
)
def test_numbers_of_other_types_are_converted_as_those_of_arrays(tmp_path, dtype, expected):
    X = np.arange(12, dtype=dtype).reshape(6, 2)
    np.save(tmp_path / "x.npy", X)
    source = table(str(tmp_path / "x.npy"))
    assert source.dtype == expected == rows_of(source).dtype
    assert rows_of(source).dtype.isnative
    np.testing.assert_array_equal(rows_of(source), X)


def test_part_of_a_file_yields_its_rows_and_can_be_pickled(npy):
    part = pickle.loads(pickle.dumps(table(npy).part(100, 230))).part(10, 1_000)
    np.testing.assert_array_equal(rows_of(part), np.load(npy)[110:230])


def test_npy_file_that_claims_more_rows_than_it_has_is_refused(tmp_path, npy):
    path = tmp_path / "claims.npy"
    path.write_bytes(npy.read_bytes().replace(b"(5000, 3), }      ", b"(5000000000, 3), }"))
    assert b"5000000000" in path.read_bytes()
    with pytest.raises(ValueError, match=r"is not a whole \.npy file"):
        table(path)


def test_npy_file_of_objects_is_refused_and_not_unpickled(tmp_path):
    np.save(tmp_path / "objects.npy", np.array([[print]]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"is not a whole \.npy file of numbers"):
        table(tmp_path / "objects.npy")


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize(
    "view",
    [np.s_[:], np.s_[1_000:], np.s_[3:4_000:2], np.s_[:, 1:]],
    ids=["all", "tail", "every other", "columns"],
)
def test_views_of_a_memmap_yield_their_rows(npy, view, mode):
    mapped = np.load(npy, mmap_mode=mode)[2:][view]
    source = table(mapped)
    assert isinstance(source, RowFile) == (mode != "c" and mapped.flags.c_contiguous)
    np.testing.assert_array_equal(rows_of(source), mapped)
    np.testing.assert_array_equal(rows_of(source.part(1, 2)), mapped[1:2])


def test_changes_of_a_memmap_are_seen(npy):
    for mode in ("r+", "c"):
        mapped = np.load(npy, mmap_mode=mode)
        mapped[3, 1] = 17.0
        assert rows_of(table(mapped))[3, 1] == 17.0


def test_file_in_fortran_order_is_read(tmp_path):
    X = np.asfortranarray(mixed_rows())
    np.save(tmp_path / "x.npy", X)
    source = table(tmp_path / "x.npy")
    assert isinstance(source, ArrayRows)
    np.testing.assert_array_equal(rows_of(source), X)


def test_file_that_was_cut_off_is_an_error(npy):
    source = table(npy)
    npy.write_bytes(npy.read_bytes()[:-4])
    with pytest.raises(ValueError, match="ends before its row 4999"):
        rows_of(source)


def test_bad_arguments_of_npy_files_are_errors(npy, tmp_path):
    with pytest.raises(ValueError, match="columns must be from 0 to 2; got 3"):
        table(npy, columns=[0, 3])
    with pytest.raises(TypeError, match="columns of an array have numbers; got 'a'"):
        table(npy, columns=["a"])
    for columns, weight in (([1, 1], None), ([0, 1], 1)):
        with pytest.raises(ValueError, match="columns and weight must be distinct"):
            table(npy, columns=columns, weight=weight)
    with pytest.raises(ValueError, match="columns must be at least one"):
        table(npy, columns=[])
    np.save(tmp_path / "weights.npy", np.ones((4, 1)))
    with pytest.raises(ValueError, match="none of 1 is left beside the weights"):
        table(tmp_path / "weights.npy", weight=0)
    np.save(tmp_path / "flat.npy", np.arange(3.0))
    with pytest.raises(ValueError, match=r"must hold rows \[N, D\]; got an array of shape"):
        table(tmp_path / "flat.npy")
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(TypeError, match="X must hold real numbers"):
        table(tmp_path / "text.npy")


def test_array_in_memory_is_refused_with_advice():
    with pytest.raises(TypeError, match="Pass arrays and data frames in memory to fit"):
        table(np.zeros((3, 2)))


# --- Parquet and data sets ------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path):
    """Return a glob of three files, of several row groups, with the columns b, w, a."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    X = mixed_rows(dtype=np.float32)
    for number, part in enumerate(np.split(X, [1_500, 1_600])):
        columns = dict(zip("bwa", part.T, strict=True))
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet", row_group_size=700)
    return str(tmp_path / "*.parquet"), X


def test_parquet_files_yield_columns_by_name(parquet):
    where, X = parquet
    source = table(where, columns=["a", "b"], weight="w")
    assert (source.count, source.names, source.dtype) == (5_000, ("a", "b"), np.float32)
    np.testing.assert_array_equal(rows_of(source), X[:, [2, 0]])
    np.testing.assert_array_equal(weights_of(source), X[:, 1])
    assert table(where).names == ("b", "w", "a")


@pytest.mark.parametrize(
    ("first", "last"), [(0, 5_000), (699, 701), (1_450, 2_300), (4_999, 5_000)]
)
def test_part_of_parquet_files_reads_its_row_groups_only(parquet, first, last):
    where, X = parquet
    part = table(where).part(first, last)
    groups = pickle.loads(pickle.dumps(part)).pieces
    assert sum(piece.count for piece in groups) < last - first + 2 * 700
    np.testing.assert_array_equal(rows_of(part), X[first:last])
    last_row = part.part(last - first - 1, last)
    np.testing.assert_array_equal(rows_of(last_row), X[last - 1 : last])


def test_nulls_of_parquet_are_missing_and_integers_become_float64(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1, None, 3], "b": [True, False, None]}), tmp_path / "x.parquet")
    source = table(tmp_path / "x.parquet")
    assert source.dtype == np.float64
    np.testing.assert_array_equal(rows_of(source), [[1, 1], [np.nan, 0], [3, np.nan]])


def test_names_that_parquet_does_not_have_are_an_error(parquet):
    where, _ = parquet
    with pytest.raises(ValueError, match=r"among \['b', 'w', 'a'\]; got columns \['c'\]"):
        table(where, columns=["c"])
    with pytest.raises(ValueError, match=r"must be distinct names.* got columns .* and weight 'w'"):
        table(where, columns=["a", "w"], weight="w")


def test_files_that_do_not_exist_are_an_error(parquet, tmp_path):
    where, _ = parquet
    with pytest.raises(FileNotFoundError, match="there is none at"):
        table(where.replace(".parquet", ".nothing"))
    with pytest.raises(FileNotFoundError):
        table(tmp_path / "nothing.npy")


def test_columns_of_text_are_an_error_at_once(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"a": [1.0], "name": ["x"]}), tmp_path / "x.parquet")
    with pytest.raises(TypeError, match="'name' is of type string"):
        table(tmp_path / "x.parquet")
    assert table(tmp_path / "x.parquet", columns=["a"]).features == 1


def test_dask_collections_yield_their_rows(tmp_path):
    da = pytest.importorskip("dask.array")
    X = mixed_rows()
    source = table(da.from_array(X, chunks=(1_300, 2)), columns=[2, 1], weight=0)
    assert source.count == 5_000
    np.testing.assert_array_equal(rows_of(source), X[:, [2, 1]])
    np.testing.assert_array_equal(weights_of(source), X[:, 0])
    np.testing.assert_array_equal(rows_of(source.part(1_250, 2_650)), X[1_250:2_650, [2, 1]])


@pytest.mark.parametrize(
    ("dtype", "expected"), [("f2", np.float32), ("i2", np.float32), ("i8", np.float64)]
)
def test_numbers_of_dask_arrays_are_converted_as_those_of_arrays(dtype, expected):
    da = pytest.importorskip("dask.array")
    X = np.arange(12, dtype=dtype).reshape(6, 2)
    source = table(da.from_array(X, chunks=(4, 2)))
    assert source.dtype == expected == rows_of(source).dtype
    np.testing.assert_array_equal(rows_of(source), X)


@pytest.mark.parametrize("dtype", ["c16", "U1", "M8[s]", "O"])
def test_dask_arrays_of_other_values_are_an_error_at_once(dtype):
    da = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="X must hold real numbers"):
        table(da.from_array(np.zeros((3, 2), int).astype(dtype), chunks=(2, 2)))


def test_bad_columns_of_dask_arrays_are_errors():
    da = pytest.importorskip("dask.array")
    with pytest.raises(ValueError, match="none of 1 is left beside the weights"):
        table(da.ones((4, 1)), weight=0)
    with pytest.raises(ValueError, match="columns must be from 0 to 2; got 3"):
        table(da.ones((4, 3)), weight=3)


def test_masked_entries_of_dask_arrays_are_missing():
    da = pytest.importorskip("dask.array")
    X = np.ma.masked_less(mixed_rows(), 0.0)
    source = table(da.from_array(X, chunks=(1_300, 3)), columns=[1, 2])
    np.testing.assert_array_equal(rows_of(source), X.filled(np.nan)[:, 1:])


def test_integer_names_of_dask_frames_become_strings():
    dd, pd = pytest.importorskip("dask.dataframe"), pytest.importorskip("pandas")
    X = mixed_rows(dtype=np.float32)
    source = table(dd.from_pandas(pd.DataFrame(X), npartitions=3), weight="1")
    assert (source.names, source.dtype) == (("0", "2"), np.float32)
    np.testing.assert_array_equal(rows_of(source), X[:, [0, 2]])
    np.testing.assert_array_equal(weights_of(source), X[:, 1])


# --- Batches --------------------------------------------------------------------------------------


def test_generator_is_refused_with_advice():
    def rows():
        yield np.zeros((3, 2))

    with pytest.raises(TypeError, match=r"pass g and not g\(\)"):
        bgmm_jd.batches(rows())
    with pytest.raises(TypeError, match=r"can be read more than once.*bgmm_jd\.batches"):
        bgmm_jd.fit(rows(), 2)
    iterator = rows()
    with pytest.raises(ValueError, match="the same iterator twice"):
        bgmm_jd.batches(lambda: iterator)


def test_batches_of_other_shapes_are_errors():
    with pytest.raises(ValueError, match=r"two-dimensional \[n, D\]; got one of shape \(3,\)"):
        bgmm_jd.batches(lambda: [np.zeros(3)])
    with pytest.raises(ValueError, match="at least one batch"):
        bgmm_jd.batches(lambda: [])
    source = bgmm_jd.batches(lambda: [np.zeros((3, 2)), np.zeros((3, 1))])
    with pytest.raises(ValueError, match=r"must have 2 columns.*shape \(3, 1\)"):
        rows_of(source)
    with pytest.raises(ValueError, match="3 rows must have as many weights"):
        bgmm_jd.batches(lambda: [(np.zeros((3, 2)), np.ones(2))])


def test_batches_in_one_array_that_is_filled_again_are_copied():
    X, weight = mixed_rows(N=60), np.arange(60.0)

    def scan():
        values, weights = np.empty((20, 3)), np.empty(20)
        for first in (0, 20, 40):
            values[:], weights[:] = X[first : first + 20], weight[first : first + 20]
            yield values, weights

    chunk = next(chunks_of(bgmm_jd.batches(scan), 60))
    np.testing.assert_array_equal(chunk.values, X)
    np.testing.assert_array_equal(chunk.weight, weight)


def test_masked_entries_of_batches_are_missing():
    X = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]], dtype=np.int16)
    source = bgmm_jd.batches(lambda: [X])
    assert source.dtype == np.float32
    np.testing.assert_array_equal(rows_of(source), [[1, np.nan], [3, 4]])


def test_masked_weight_is_an_error_with_its_row():
    weight = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    source = bgmm_jd.batches(lambda: [(np.zeros((3, 2)), weight)])
    with pytest.raises(ValueError, match=r"weights must be finite.* got nan in row 1"):
        bgmm_jd.sample_rows(source, 2)


# --- Weights in memory, and samples ---------------------------------------------------------------


def test_weights_in_memory_follow_their_rows(npy):
    weight = np.arange(5_000.0)
    source = WeightedRows(table(npy), weight)
    np.testing.assert_array_equal(weights_of(source), weight)
    np.testing.assert_array_equal(weights_of(source.part(40, 60)), weight[40:60])


def test_sample_of_a_source_is_of_its_rows_in_order(npy):
    X = np.load(npy)
    found = bgmm_jd.sample_rows(table(npy), 200, seed=1)
    places = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in found]
    assert len(places) == 200
    assert places == sorted(set(places))
    np.testing.assert_array_equal(bgmm_jd.sample_rows(table(npy), 9_999), X)
    with pytest.raises(TypeError, match=r"source must come from bgmm_jd\.table"):
        bgmm_jd.sample_rows(X, 3)
