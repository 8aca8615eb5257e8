"""`bgmm-jd select`, on the crabs."""

import functools

import pandas as pd
import pytest
from real_rows import REAL
from terminal import run

import bgmm_jd


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """Return what the command printed, and the folder of its files."""
    folder = tmp_path_factory.mktemp("crabs")
    # What the comparison costs does not matter here: graphs compile in a fraction of XLA's time.
    quick = {"execution": "graph", "restarts": 1, "finish": "none", "progress": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(bgmm_jd, "select", functools.partial(bgmm_jd.select, **quick))
        argv = ["select", REAL / "crabs.csv", "-k", "1:2", "--covariance", "full,full"]
        outcome = run(*argv, "--report", "crabs.html")
    return outcome, folder


def test_best_fit_is_kept_where_ctrl_c_ends_what_follows_it(folder, posterior, monkeypatch):
    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    table = bgmm_jd.compare({"2 diag": posterior})
    selection = bgmm_jd.Selection(table=table, posteriors={(2, "diag"): posterior}, best=posterior)
    monkeypatch.setattr(bgmm_jd, "select", lambda X, K, forms, **options: selection)
    monkeypatch.setattr(bgmm_jd, "plot_selection", interrupt)
    outcome = run("select", "rows.csv", "-k", "2")
    assert outcome.code == 130
    assert bgmm_jd.load(folder / "rows.selection.fit.nc").K == 2


def test_column_of_classes_is_left_out_in_one_line(selected):
    outcome, _ = selected
    assert outcome.err == "bgmm_jd: note: left out a column with fewer than half numbers: class.\n"
    first, second = outcome.out.splitlines()[:2]
    assert first == "crabs.csv: 200 rows x 5 features, K = 1, 2, covariance = full"
    assert second == "features: FL, RW, CL, CW, BD"


def test_best_fit_is_kept_with_its_table_and_report(selected):
    outcome, folder = selected
    assert {path.name for path in folder.iterdir()} == {
        "crabs.selection.csv",
        "crabs.selection.png",
        "crabs.selection.fit.nc",
        "crabs.html",
    }
    table = pd.read_csv(folder / "crabs.selection.csv", index_col=0)
    assert sorted(table.index) == ["1 full", "2 full"]
    best = bgmm_jd.load(folder / "crabs.selection.fit.nc")
    assert f"The best is {table.index[0]}. How far to trust it: {best.status}" in outcome.out
    assert f"{best.K} {best.covariance}" == table.index[0]
    assert table["log_evidence"].is_monotonic_decreasing
    assert best.feature_names == ("FL", "RW", "CL", "CW", "BD")
    assert outcome.code == (0 if best.status.good else 1)
    page = (folder / "crabs.html").read_text("utf-8")
    assert f"<h1>crabs.csv: {table.index[0]}</h1>" in page
    assert "Comparison with other fits" in page
