"""Reading a table of numbers from a text file."""

import gzip

import numpy as np
import pytest

from bgmm_jd.cli.csv_file import read_csv
from bgmm_jd.cli.table import BadInput, as_names, table_of

nan = np.nan


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "file.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def read(path, columns=None, missing=False, **options):
    asked = None if columns is None else as_names(columns)
    return table_of(read_csv(path, **options), asked, missing)


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4.5\n",
        "a, b\r\n1, 2\r\n3, 4.5\r\n",
        '"a","b"\n"1","2"\n3,4.5',
        "\na;b\n\n1;2\n\n3;4.5\n\n",
        "a\tb\n1\t2\n3\t4.5\n",
        "a|b\n1|2\n3|4.5\n",
        "# a b\n1 2\n 3  4.5\n",
        "#a,b\n1,2\n3,4.5\n",
        "\ufeffa,b\n1,2\n3,4.5\n",
        "a,b\r1,2\r3,4.5\r",
        "# made by hand\n# on a Monday\na,b\n# half of it\n1,2\n3,4.5\n# the end\n",
        "a,b,\n1,2,\n3,4.5,\n",
        "a,b\n1,2,\n3,4.5,\n",
        "a,b\n1,2\n3,4.5,\n",
        "a,b,\n1,2,\n3,4.5\n",
        "a,b,,\n1,2,,\n3,4.5,,\n,,,\n,,,\n",
        "a;b\n1;2\n3;4,5\n",
        "a\tb\n1\t2\n3\t4,5\n",
        "a b\n1 2\n3 4,5\n",
        "a;b\n1,0;2,0\n3,0;4,5\n",
        "a b\n1 2\n3 4.50e0\n",
    ],
)
def test_ways_of_writing_do_not_change_the_table(csv, text):
    table = read(csv(text))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.5]])
    assert table.columns == ("a", "b")
    assert table.X.dtype == np.float64
    assert table.notes == ()


@pytest.mark.parametrize(
    "text",
    [
        'a,b\n"1,234",2.5\n"12,345,678",3\n',
        "a;b\n1.234;2,5\n12.345.678;3\n",
        "a;b\n1 234;2,5\n12 345 678;3\n",
        "a;b\n1\u202f234;2,5\n12\u00a0345\u00a0678;3,0\n",
        "a;b\n1'234;2.5\n12'345'678;3\n",
        "a\tb\n1,234\t2.5\n12,345,678\t3\n",
    ],
)
def test_thousands_are_put_together_whatever_separates_them(csv, text):
    table = read(csv(text))
    np.testing.assert_array_equal(table.X, [[1234.0, 2.5], [12345678.0, 3.0]])
    assert table.notes == ()


def test_comma_that_may_be_either_is_told_and_decided_by_an_option(csv):
    path = csv('a,b\n"1,234",2\n"5,678",3\n')
    table = read(path)
    np.testing.assert_array_equal(table.X, [[1234.0, 2.0], [5678.0, 3.0]])
    (note,) = table.notes
    assert note.startswith("the comma in '1,234' is read as a thousands separator")
    table = read(path, decimal=",")
    np.testing.assert_array_equal(table.X, [[1.234, 2.0], [5.678, 3.0]])
    assert table.notes == ()


def test_decimal_mark_that_is_said_holds_where_no_number_shows_it(csv):
    table = read(csv("a;b\n1.234;2\n5.678;3\n"), decimal=",")
    np.testing.assert_array_equal(table.X, [[1234.0, 2.0], [5678.0, 3.0]])


@pytest.mark.parametrize("names", ["", "a b\n"])
def test_decimal_comma_that_is_said_separates_no_values(csv, names):
    table = read(csv(names + "1,250 300,125\n2,500 400,250\n"), decimal=",")
    np.testing.assert_array_equal(table.X, [[1.25, 300.125], [2.5, 400.25]])
    np.testing.assert_array_equal(read(csv("1,5\n2,5\n"), decimal=",").X, [[1.5], [2.5]])
    table = read(csv('a,b\n1,"2,5"\n3,4\n'), decimal=",")  # but beside quotes it may
    np.testing.assert_array_equal(table.X, [[1.0, 2.5], [3.0, 4.0]])


@pytest.mark.parametrize("missing", [False, True])
def test_short_line_is_refused_also_where_values_may_be_missing(csv, missing):
    with pytest.raises(BadInput, match="2 values in line 3, not 3"):
        read(csv("a,b,c\n1,2,3\n4,5\n6,7,8\n"), missing=missing)


def test_comments_that_look_like_rows_are_told(csv):
    table = read(csv("id,a,b\nx1,1,2\n#x2,3,4\n# a remark\n#x3,5,6\nx4,7,8\n"))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [7.0, 8.0]])
    assert "left out 2 lines that begin with #, with as many values as a row has." in table.notes


def test_lines_within_quotes_are_no_comments(csv):
    table = read(csv('a,"b\n# of it"\n1,2\n# 5" wide\n3,4\n'))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.0]])
    assert table.columns == ("a", "b # of it")
    table = read(csv('a,b,c\n1,2,"x\n# y\n"\n3,4,"z"\n'))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.0]])


def test_numbers_of_columns_count_the_labels_of_the_rows(csv):
    """As a spreadsheet and `cut -f` do."""
    text = ",x,y,z\n1,1.5,2.5,3.5\n2,4.5,5.5,6.5\n"
    table = read(csv(text), "2,4")
    assert table.columns == ("x", "z")
    np.testing.assert_array_equal(table.X, [[1.5, 3.5], [4.5, 6.5]])
    with pytest.raises(BadInput, match="no column '1'; the file has x, y, z"):
        read(csv(text), "1,2")


def test_names_of_digits_are_no_numbers_of_columns_unless_these_are_asked_for(csv):
    sheet = read_csv(csv("a,b\n1,2\n3,4\n"))
    assert table_of(sheet, ["2"], False).columns == ("b",)
    with pytest.raises(BadInput, match="no column '2'; the file has a, b"):
        table_of(sheet, ["2"], False, by_number=False)


def test_name_of_several_columns_cannot_be_asked_for(csv):
    path = csv("a,b,a\n1,2,3\n4,5,6\n")
    with pytest.raises(BadInput, match="several columns of the name 'a'"):
        read(path, "a,b")
    assert read(path, "2,3").columns == ("b", "a")


def test_beside_semicolons_such_a_comma_is_a_decimal_one(csv):
    table = read(csv("a;b\n1,234;2\n5,678;3\n"))
    np.testing.assert_array_equal(table.X, [[1.234, 2.0], [5.678, 3.0]])
    assert "a decimal comma" in table.notes[0]


def test_line_of_units_is_left_out_and_told(csv):
    table = read(csv("length,width,species\nmm,%,\n1,2,x\n3,4.5,y\n"))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.5]])
    assert table.columns == ("length", "width")
    assert table.notes[0] == "the line under the names, 'mm,%,', is read as units."


@pytest.mark.parametrize(
    "text",
    [
        '"","a","b"\n"1",1,2\n"2",3,4.5\n',
        '"a" "b"\n"x" 1 2\n"y" 3 4.5\n',
        '"a","b"\n"17",1,2\n"23",3,4.5\n',
        ",a,b\n0,1,2\n1,3,4.5\n",
        "#,a,b\n1,1,2\n2,3,4.5\n",
    ],
)
def test_row_names_of_r_and_pandas_are_left_out_and_told(csv, text):
    table = read(csv(text))
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [3.0, 4.5]])
    assert table.columns == ("a", "b")
    assert table.notes == ("the first column, which has no name, is read as labels of the rows.",)


def test_first_line_of_numbers_is_data_unless_an_option_says_names(csv):
    path = csv("2019,2020\n1.5,2.5\n3.5,4.5\n")
    table = read(path)
    assert table.X.shape == (3, 2)
    assert table.columns == ("column 1", "column 2")
    assert "'2019,2020', is read as data. If it has the names, say --header" in table.notes[0]
    table = read(path, header=True)
    np.testing.assert_array_equal(table.X, [[1.5, 2.5], [3.5, 4.5]])
    assert (table.columns, table.notes) == (("2019", "2020"), ())


def test_names_of_which_some_are_numbers_are_found_by_the_text_above_numbers(csv):
    table = read(csv("id,2019\n1,2.5\n2,3.5\n"))
    assert table.columns == ("id", "2019")


def test_names_may_have_separators_and_line_breaks(csv):
    table = read(csv('"length, in\nmm";"a ""b"""\n1,5;2\n2,5;3\n'))
    assert table.columns == ("length, in mm", 'a "b"')
    np.testing.assert_array_equal(table.X, [[1.5, 2.0], [2.5, 3.0]])
    assert read(csv('"x, y",z\n1,2\n'), '"x, y"').columns == ("x, y",)


def test_single_column_keeps_a_name_of_two_words(csv):
    table = read(csv("waiting time\n79\n54\n"))
    np.testing.assert_array_equal(table.X, [[79.0], [54.0]])
    assert table.columns == ("waiting time",)


def test_single_column_of_decimal_commas_is_not_split(csv):
    table = read(csv("length\n1,5\n2,5\n3,7\n"))
    np.testing.assert_array_equal(table.X, [[1.5], [2.5], [3.7]])
    assert (table.columns, table.notes) == (("length",), ())


def test_points_before_three_digits_are_decimal_where_no_comma_says_otherwise(csv):
    """Also beside semicolons, and beside a text with a comma."""
    table = read(csv('a;name\n1.234;"Doe, J."\n5.678;"Roe, R."\n'))
    np.testing.assert_array_equal(table.X, [[1.234], [5.678]])


def test_columns_of_text_are_left_out_in_one_line(csv):
    table = read(csv("id,a,day,ok\nx1,1,2024-01-05,TRUE\nx2,3,2024-01-06,FALSE\n"))
    np.testing.assert_array_equal(table.X, [[1.0], [3.0]])
    assert table.notes == ("left out 3 columns with fewer than half numbers: id, day, ok.",)


MISSING = [
    "",
    "NA",
    "na",
    "N/A",
    "NaN",
    "nan",
    "NULL",
    "null",
    "None",
    ".",
    "-",
    "?",
    "#N/A",
    "<NA>",
]


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("spelling", MISSING)
def test_usual_spellings_of_no_value_are_missing(csv, separator, spelling):
    mark = "," if separator == ";" else "."
    text = f"a,b\n1,2\n{spelling},3@5\n".replace(",", separator).replace("@", mark)
    table = read(csv(text), missing=True)
    np.testing.assert_array_equal(table.X, [[1.0, 2.0], [nan, 3.5]])
    with pytest.raises(BadInput, match=r"'a' has no value in line 3.*--missing marginalize"):
        read(csv(text))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(csv, encoding):
    assert read(csv("größe,b\n1,2\n", encoding)).columns == ("größe", "b")


def test_gzip_is_read_whatever_the_name(csv):
    assert read(csv(gzip.compress(b"a,b\n1,2\n"))).columns == ("a", "b")
    with pytest.raises(BadInput, match="no complete gzip file"):
        read(csv(gzip.compress(b"a,b\n1,2\n" * 99)[:20]))


def test_gzip_files_that_follow_each_other_are_one_table(csv):
    data = gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n") + bytes(9)
    np.testing.assert_array_equal(read(csv(data)).X, [[1, 2], [3, 4]])


def test_gzip_file_that_would_fill_the_memory_is_refused(csv):
    """A megabyte that claims a gigabyte, of which no more than a quarter is decompressed."""
    path = csv(gzip.compress(bytes(2**24)) * 64)
    with pytest.raises(BadInput, match=r"would take 268,\d+,\d+ or more"):
        read(path)


@pytest.mark.parametrize("columns", ["c,a", "3, 1"])
def test_selected_columns_come_in_the_order_asked_for(csv, columns):
    table = read(csv("a,b,c\n1,x,2\n3,,4\n"), columns)
    np.testing.assert_array_equal(table.X, [[2.0, 1.0], [4.0, 3.0]])
    assert table.columns == ("c", "a")


def test_numbers_are_read_to_the_last_digits(tmp_path):
    X = np.random.default_rng(5).normal([0.0, 6.0], 1.0, (60, 2))
    np.savetxt(tmp_path / "data.csv", X, delimiter=",", header="length,width", comments="")
    np.testing.assert_allclose(read(tmp_path / "data.csv").X, X, rtol=1e-15)
    text = (tmp_path / "data.csv").read_text().replace(",", ";").replace(".", ",")
    (tmp_path / "comma.csv").write_text(text)
    np.testing.assert_allclose(read(tmp_path / "comma.csv").X, X, rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("# only a remark\n", "is empty"),
        ("a,b\n", "no rows"),
        ("a,b\nx,y\nz,w\n", "no column of numbers"),
        ("a,b\n\n1,2\n\n3,\n", "column 'b' has no value in line 5"),
        ("# note\na,b\n1,2\n# note\n3,x\n5,6\n7,8\n", "column 'b' has 'x' in line 5"),
        ('a,"b\nc"\n1,2\n"x",4\n3,5\n', "column 'a' has 'x' in line 4"),
        ("a,b\n1,2\n3,inf\n", "column 'b' has 'inf' in line 3"),
        ("a,b\n1,2\n,\n3,x\n4,5\n", "column 'a' has no value in line 3"),
        ("a,b,c\n1,2,3\n,5,NA\n\n3,x,7\n4,5,6\n", "column 'a' has no value in line 3"),
        ("a;b\n1,5;2\n1.5;3\n2,5;4\n", "column 'a' has '1.5' in line 3"),
        ("1,2\n3\n", "has 1 value in line 2, not 2"),
        ("a,b\n1,2\n3,4,5\n", "3 values in line 3, not 2"),
        ("a,b,c\n1,2,3\n4,5\n6,7,8\n", "2 values in line 3, not 3"),
        ("a,b,c\n1,2\n4,5,6\n7,8,9\n", "2 values in line 2, not 3"),
        ("a b c\n1 2 3\n4 5\n6 7 8\n", "2 values in line 3, not 3"),
        ('x\n1\n2\n""\n', "column 'x' has no value in line 4"),
        ('x\n1\n""\n2\n3\n', "column 'x' has no value in line 3"),
        ("a,b\n4,2,3\n1,5,6\n", "2 names above 3 columns.*begin them with #"),
        (",a\n2,2\n1,3\n", "no name for column 1"),
        ("a,b,a\n1,2,3\n", "columns of the same name: a, b, a"),
        ("1,2\nthree,4\n", "column 'column 1' has 'three' in line 2"),
        ('a,b\n1,"2\n3,4\n', "cannot read"),
        pytest.param('a,b\n1,"2\n' + "3,4\n" * 60_000, "may not be closed", id="unclosed quote"),
    ],
)
def test_file_that_cannot_be_used_is_refused_with_line_and_column(csv, text, message):
    with pytest.raises(BadInput, match=message):
        read(csv(text))


def test_column_without_any_value_is_left_out_or_refused_by_name(csv):
    text = "a,b,c\n1,,2\n3,,4\n"
    assert read(csv(text), missing=True).notes == (
        "left out a column with fewer than half numbers: b.",
    )
    with pytest.raises(BadInput, match="'b' has no value at all"):
        read(csv(text), "a,b", missing=True)


@pytest.mark.parametrize("columns", ["d", "0", "4", "a,a", "a,1", ""])
def test_selection_of_absent_or_repeated_columns_is_refused(csv, columns):
    with pytest.raises(BadInput, match="column"):
        read(csv("a,b,c\n1,x,2\n3,,4\n"), columns)


def test_file_that_is_not_utf_8_is_refused(csv):
    with pytest.raises(BadInput, match="UTF-8"):
        read(csv("größe\n1\n", encoding="latin-1"))


def test_file_that_is_absent_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        read(tmp_path / "absent.csv")
