"""The rows that `bgmm-jd fit` fits of files as people have them, and what it says of them."""

import gzip

import numpy as np
import pandas as pd
import pytest
from terminal import run

import bgmm_jd

ROWS = pd.DataFrame({"length": [1.5, 2.25, 1234.5, -3.0], "width": [10.0, 20.5, 30.0, 40.25]})
CSV = ROWS.to_csv(index=False)
GERMAN = ROWS.to_csv(index=False, sep=";", decimal=",")


def body(text, names):
    """Return the lines of a file with other names, or none."""
    return names + text.partition("\n")[2]


LABELS = "note: the first column, which has no name, is read as labels of the rows."
NO_NAMES = "FILE has no names of columns: its first line, '{}', is read as data"

AWKWARD = {
    "decimal commas": (GERMAN, ""),
    "decimal commas and thousands": (GERMAN.replace("1234,5", "1.234,5"), ""),
    "thousands in quotes": (CSV.replace("1234.5", '"1,234.5"'), ""),
    "blanks between thousands": (GERMAN.replace("1234,5", "1\u00a0234,5"), ""),
    "units": (CSV.replace("width\n", "width\nmm,mm\n"), "line under the names, 'mm,mm', is read"),
    "comments": ("# by hand\n" + CSV.replace("2.25", "2.25") + "# end\n", ""),
    "separators at the ends": (CSV.replace("\n", ",\n"), ""),
    "empty lines of a spreadsheet": (CSV + ",\n,\n", ""),
    "row names of write.csv": (ROWS.set_axis(range(1, 5)).to_csv(), LABELS),
    "row names of write.table": ('"length" "width"\n' + ROWS.to_csv(sep=" ", header=False), LABELS),
    "names with separators": (body(CSV, '"length, mm","width; mm"\n'), ""),
    "names with line breaks": (body(CSV, '"length\n(mm)","width\n(mm)"\n'), ""),
    "no names": (body(CSV, ""), NO_NAMES.format("1.5,10.0")),
    "names in a comment": (body(CSV, "# length,width\n"), ""),
    "byte order mark": ("\ufeff" + CSV, ""),
    "UTF-16": (CSV.encode("utf-16"), ""),
    "gzip": (gzip.compress(CSV.encode()), ""),
    "ends of lines of Windows": (CSV.replace("\n", "\r\n"), ""),
    "tabs": (CSV.replace(",", "\t"), ""),
    "blanks": (CSV.replace(",", "   "), ""),
    "logical values with a gap": (
        ROWS.assign(ok=["TRUE", "NA", "FALSE", "TRUE"]).to_csv(index=False),
        "note: left out a column",
    ),
    "text columns": (
        ROWS.assign(species="crab", day="2024-01-05").to_csv(index=False),
        "note: left out 2 columns with fewer than half numbers: species, day.",
    ),
}


@pytest.fixture
def fitted(monkeypatch):
    """Return what was passed to the fit, which ends at once."""
    calls = []

    def stop(X, K, **options):
        calls.append((X, options))
        raise KeyboardInterrupt

    monkeypatch.setattr(bgmm_jd, "fit", stop)
    return calls


def written(folder, content):
    path = folder / "FILE"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("content", "note"), AWKWARD.values(), ids=AWKWARD)
def test_rows_of_an_awkward_file_are_fitted(tmp_path, monkeypatch, fitted, content, note):
    monkeypatch.chdir(tmp_path)
    outcome = run("fit", written(tmp_path, content).name, "-k", 2)
    assert outcome.code == 130
    ((X, _),) = fitted
    np.testing.assert_array_equal(X.to_numpy(), ROWS)
    said = outcome.err.replace("bgmm_jd: interrupted.\n", "")
    assert note in said
    assert said.count("\n") == (1 if note else 0)


def test_integers_beyond_64_bits_are_fitted(tmp_path, monkeypatch, fitted):
    """Pandas keeps them as Python's integers in a column of objects."""
    monkeypatch.chdir(tmp_path)
    ids = [12345678901234567890123 + 10**21 * n for n in range(4)]
    run("fit", written(tmp_path, ROWS.assign(id=ids).to_csv(index=False)).name, "-k", 2)
    ((X, _),) = fitted
    np.testing.assert_array_equal(X.to_numpy(), ROWS.assign(id=np.array(ids, np.float64)))


HOLES = CSV.replace("2.25", "NA").replace("40.25", "")


def test_missing_values_are_fitted_where_that_is_asked_for(tmp_path, monkeypatch, fitted):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, HOLES).name
    outcome = run("fit", file, "-k", 2)
    assert outcome.code == 2
    assert "column 'length' has no value in line 3" in outcome.err
    assert "pass --missing marginalize" in outcome.err
    run("fit", file, "-k", 2, "--missing", "marginalize")
    ((X, options),) = fitted
    expected = ROWS.to_numpy(copy=True)
    expected[1, 0] = expected[3, 1] = np.nan
    np.testing.assert_array_equal(X.to_numpy(), expected)
    assert options["missing"] == "marginalize"


def test_warnings_are_lines_without_the_code_that_issues_them(tmp_path, monkeypatch, fitted):
    import warnings

    def warn(X, K, **options):
        warnings.warn("rows are far away", UserWarning, stacklevel=2)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bgmm_jd, "fit", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        outcome = run("fit", written(tmp_path, CSV).name, "-k", 2)
    assert outcome.err == "bgmm_jd: warning: rows are far away\nbgmm_jd: interrupted.\n"
