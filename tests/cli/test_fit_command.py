"""`bgmm-jd fit`: what is kept of a fit that has ended."""

import numpy as np
import pytest
from terminal import run

import bgmm_jd


@pytest.fixture
def finished(posterior, folder, monkeypatch):
    """Let the fit of the command be one that was made before, and return the folder."""
    monkeypatch.setattr(bgmm_jd, "fit", lambda X, K, **options: posterior)
    return folder


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_fit_is_kept_where_ctrl_c_ends_what_follows_it(finished, posterior, monkeypatch):
    monkeypatch.setattr(bgmm_jd, "to_inference_data", interrupt)
    outcome = run("fit", "rows.csv", "-k", 2, "-o", "kept.nc")
    assert (outcome.code, outcome.err) == (130, "bgmm_jd: interrupted.\n")
    assert "Wrote kept.fit.nc" in outcome.out
    np.testing.assert_array_equal(
        bgmm_jd.load(finished / "kept.fit.nc").sample(5)["means"], posterior.sample(5)["means"]
    )


def test_rows_that_cannot_be_drawn_cost_the_figure_only(finished, rows):
    """No row has both features, which the plot of a plane needs."""
    holes = rows.copy()
    holes.iloc[::2, 0] = np.nan
    holes.iloc[1::2, 1] = np.nan
    holes.to_csv("holes.csv", index=False)
    outcome = run("fit", "holes.csv", "-k", 2, "--missing", "marginalize")
    assert outcome.code in (0, 1)  # the status of the fit
    assert outcome.err.startswith("bgmm_jd: note: no figure: ")
    assert outcome.err.count("\n") == 1
    names = {path.name for path in finished.iterdir()}
    assert names >= {"holes.nc", "holes.fit.nc"}
    assert "holes.png" not in names
