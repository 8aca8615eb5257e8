"""Reading a table of numbers from a parquet file."""

import sys

import numpy as np
import pandas as pd
import pytest

from bgmm_jd.cli.parquet_file import is_parquet, read_parquet
from bgmm_jd.cli.table import BadInput, table_of

pytestmark = pytest.mark.contract


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "name": ["x", "y", "z"],
            "a": [1.5, None, 3.5],
            "n": pd.array([1, 2, None], dtype="Int64"),
            "day": pd.to_datetime(["2024-01-05"] * 3),
        }
    )


@pytest.fixture
def path(frame, tmp_path):
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "rows")
    return tmp_path / "rows"


def test_numbers_are_read_with_their_names_and_the_rest_is_left_out(path):
    assert is_parquet(path)
    table = table_of(read_parquet(path), None, allow_missing=True)
    np.testing.assert_array_equal(table.X, [[1.5, 1.0], [np.nan, 2.0], [3.5, np.nan]])
    assert table.columns == ("a", "n")
    assert table.notes == ("left out 2 columns with fewer than half numbers: name, day.",)


def test_missing_value_is_named_by_its_row(path):
    with pytest.raises(BadInput, match=r"'a' has no value in row 2.*--missing marginalize"):
        table_of(read_parquet(path), None, allow_missing=False)


def test_other_files_are_not_taken_for_parquet(tmp_path):
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    assert not is_parquet(tmp_path / "data.csv")
    assert not is_parquet(tmp_path / "absent")


def test_damaged_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(BadInput, match="cannot read"):
        read_parquet(path)


def test_small_file_of_very_many_equal_values_is_refused(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "equal.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(2**20, np.int8)), pa.array([1.0]))
    table = pa.table({"a": pa.chunked_array([column] * 40)})
    parquet.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 10**6
    with pytest.raises(BadInput, match="what it holds would take 335,544,320 or more"):
        read_parquet(path)


def test_without_pyarrow_the_message_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    path.write_bytes(b"PAR1")
    assert is_parquet(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BadInput, match="pip install pyarrow"):
        read_parquet(path)
