"""`bgmm-jd compare`."""

import shutil

import pandas as pd
import pytest
from builders import with_data
from terminal import run

import bgmm_jd
from bgmm_jd.data.standardize import standardize


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
    other = with_data(posterior, standardize(rows.to_numpy() + 1.0))
    bgmm_jd.save(other, "other.fit.nc")
    outcome = run("compare", "rows.fit.nc", "other.fit.nc")
    assert outcome.code == 2
    assert "was fitted to other rows" in outcome.err
