"""`predict`, `report` and `compare`, on one fit that is shared."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
from terminal import run

import bgmm_jd

OPTIONS = {"execution": "graph", "restarts": 1, "finish": "none", "progress": False}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(5)
    X = 6.0 * (np.arange(40) % 2)[:, np.newaxis] + rng.standard_normal((40, 2))
    return pd.DataFrame(X, columns=["length, mm", "width"])


@pytest.fixture(scope="module")
def posterior(rows):
    found = bgmm_jd.fit(rows, 2, missing="marginalize", **OPTIONS)
    return bgmm_jd.relabel(found, names=["small", "large"])


@pytest.fixture
def folder(rows, posterior, tmp_path, monkeypatch):
    """Work in a folder with a file of rows and a fit."""
    monkeypatch.chdir(tmp_path)
    rows.to_csv("rows.csv", index=False)
    bgmm_jd.save(posterior, "rows.fit.nc")
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_labels_and_probabilities_are_those_of_the_library(rows, posterior):
    outcome = run("predict", "rows.fit.nc", "rows.csv")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("Wrote rows.predicted.csv ")
    found = pd.read_csv("rows.predicted.csv")
    assert list(found) == ["component", "probability_small", "probability_large"]
    expected = bgmm_jd.predict_proba(posterior, rows)
    np.testing.assert_allclose(found.iloc[:, 1:], expected, rtol=1e-5, atol=1e-12)  # six digits
    names = np.array(["small", "large"])
    assert list(found["component"]) == list(names[expected.argmax(axis=1)])


@pytest.mark.usefixtures("folder")
def test_columns_are_found_by_name_or_taken_in_the_order_asked_for(rows):
    expected = run("predict", "rows.fit.nc", "rows.csv", "-o", "-").out
    other = rows.assign(remark="text")[["width", "remark", "length, mm"]]
    other.to_csv("other.csv", index=False, sep=";", decimal=",")
    outcome = run("predict", "rows.fit.nc", "other.csv", "-o", "-")
    assert (outcome.code, outcome.err, outcome.out) == (0, "", expected)
    renamed = other.set_axis(["b", "c", "a"], axis=1)
    renamed.to_csv("renamed.csv", index=False)
    assert run("predict", "rows.fit.nc", "renamed.csv", "-o", "-").code == 2
    outcome = run("predict", "rows.fit.nc", "renamed.csv", "-o", "-", "--columns", "a,b")
    assert outcome.out == expected


@pytest.mark.usefixtures("folder")
def test_missing_values_are_integrated_out_as_in_the_fit(rows, posterior):
    rows.assign(width="NA").to_csv("part.csv", index=False)
    outcome = run("predict", "rows.fit.nc", "part.csv", "-o", "-")
    assert outcome.code == 2
    assert "no value at all" in outcome.err
    part = rows.copy()
    part.loc[::3, "width"] = np.nan
    part.to_csv("part.csv", index=False, na_rep="NA")
    found = pd.read_csv(io.StringIO(run("predict", "rows.fit.nc", "part.csv", "-o", "-").out))
    expected = bgmm_jd.predict_proba(posterior, part)
    np.testing.assert_allclose(found.iloc[:, 1:], expected, rtol=1e-5, atol=1e-12)


@pytest.mark.usefixtures("folder")
def test_report_shows_the_rows_of_the_fit_and_the_comparison():
    shutil.copy("rows.fit.nc", "again.fit.nc")
    outcome = run("report", "rows.fit.nc", "--compare", "again.fit.nc", "--title", "A & B")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == "Wrote rows.html (report)\n"
    with open("rows.html", encoding="utf-8") as file:
        text = file.read()
    assert "<h1>A &amp; B</h1>" in text
    assert text.count("<img ") == 5  # parameters, components, density, uncertainty, elbo
    assert '<span class="name">again</span>' in text


@pytest.mark.usefixtures("folder")
def test_comparison_is_printed_and_written():
    shutil.copy("rows.fit.nc", "again.fit.nc")
    outcome = run("compare", "rows.fit.nc", "again.fit.nc", "-o", "table.csv")
    assert (outcome.code, outcome.err) == (0, "")
    table = pd.read_csv("table.csv", index_col=0)
    assert sorted(table.index) == ["again", "rows"]
    assert table["elpd_diff"].abs().max() == 0.0  # the same fit
    assert outcome.out.splitlines()[0].split()[0] == "log_evidence"
    assert outcome.out.endswith("Wrote table.csv (the table)\n")


@pytest.mark.usefixtures("folder")
def test_fits_of_other_rows_are_not_compared(rows, posterior):
    from builders import with_data

    from bgmm_jd.data.standardize import standardize

    other = with_data(posterior, standardize(rows.to_numpy() + 1.0))
    bgmm_jd.save(other, "other.fit.nc")
    outcome = run("compare", "rows.fit.nc", "other.fit.nc")
    assert outcome.code == 2
    assert "was fitted to other rows" in outcome.err
