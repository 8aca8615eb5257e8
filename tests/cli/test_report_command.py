"""`bgmm-jd report`."""

import pathlib
import shutil

import pytest
from terminal import run


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
def test_fits_to_compare_with_are_not_overwritten():
    shutil.copy("rows.fit.nc", "again.fit.nc")
    before = pathlib.Path("again.fit.nc").read_bytes()
    outcome = run("report", "rows.fit.nc", "--compare", "again.fit.nc", "-o", "again.fit.nc")
    assert outcome.code == 2
    assert "must all be different files" in outcome.err
    assert pathlib.Path("again.fit.nc").read_bytes() == before
