"""Reading a table of numbers from a text file."""

import numpy as np
import pytest

from bgmm_jd.cli.csv_file import BadInput, read_csv


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "file.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4.5\n",
        "a, b\r\n1, 2\r\n3, 4.5\r\n",
        '"a","b"\n"1","2"\n3,4.5',
        "\na;b\n\n1;2\n\n3;4.5\n\n",
        "a\tb\n1\t2\n3\t4.5\n",
        "# a b\n1 2\n 3  4.5\n",
        "\ufeffa,b\n1,2\n3,4.5\n",
    ],
)
def test_separators_blanks_and_quotes_do_not_change_the_table(csv, text):
    table = read_csv(csv(text))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.5]])
    assert table.columns == ("a", "b")
    assert table.X.dtype == np.float64


def test_columns_without_names_are_numbered(csv):
    table = read_csv(csv("1,2\n3,4.5\n"))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.5]])
    assert table.columns == ("column 1", "column 2")


def test_single_column_keeps_a_name_of_two_words(csv):
    table = read_csv(csv("waiting time\n79\n54\n"))
    np.testing.assert_array_equal(table.X, [[79.0], [54.0]])
    assert table.columns == ("waiting time",)


@pytest.mark.parametrize("columns", ["c,a", "3, 1"])
def test_selected_columns_come_in_the_order_asked_for(csv, columns):
    table = read_csv(csv("a,b,c\n1,x,2\n3,,4\n"), columns)
    np.testing.assert_array_equal(table.X, [[2.0, 1.0], [4.0, 3.0]])
    assert table.columns == ("c", "a")


def test_selected_column_without_a_name_is_numbered(csv):
    table = read_csv(csv(",a\n1,2\n2,3\n"), "a,1")
    assert table.columns == ("a", "column 1")
    assert list(table.frame) == ["a", "column 1"]
    np.testing.assert_array_equal(table.frame.to_numpy(), table.X)


def test_numbers_are_read_to_the_last_digits(tmp_path):
    X = np.random.default_rng(5).normal([0.0, 6.0], 1.0, (60, 2))
    np.savetxt(tmp_path / "data.csv", X, delimiter=",", header="length,width", comments="")
    np.testing.assert_allclose(read_csv(tmp_path / "data.csv").X, X, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\n1,x\n", "column 'b' has 'x' in line 2"),
        ("a,b\n\n1,2\n\n3,\n", "column 'b' has no value in line 5"),
        ("a,b\n1,2\nNA,4\n", "column 'a' has no value in line 3"),
        ("a,b\n1,2\n3,inf\n", "column 'b' has 'inf' in line 3"),
        ("1,2\n3\n", "column 'column 2' has no value in line 2"),
        ("a,b\n1,2\n3,4,5\n", "3 values in line 3, not 2"),
        ("a,b\n1,2,3\n4,5,6\n", "2 names above 3 columns"),
        (",a\n1,2\n2,3\n", "no name for column 1"),
        ("a,b,a\n1,2,3\n", "columns of the same name: a, b, a"),
        ("1,2\nthree,4\n", "column 'column 1' has 'three' in line 2"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_line_and_column(csv, text, message):
    with pytest.raises(BadInput, match=message):
        read_csv(csv(text))


@pytest.mark.parametrize("columns", ["d", "0", "4", "a,a", "a,1", ""])
def test_selection_of_absent_or_repeated_columns_is_refused(csv, columns):
    with pytest.raises(BadInput, match="column"):
        read_csv(csv("a,b,c\n1,x,2\n3,,4\n"), columns)


def test_file_that_is_not_utf_8_is_refused(csv):
    with pytest.raises(BadInput, match="UTF-8"):
        read_csv(csv("größe\n1\n", encoding="latin-1"))
