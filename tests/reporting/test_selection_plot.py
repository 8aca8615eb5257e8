"""The contents of a plot of a selection, from a table as `select` makes it."""

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from figures import draw, legend_texts, symbols
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd.reporting.selection_plot import plot_selection

COLUMNS = ("K", "covariance", "log_evidence", "log_evidence_se", "elpd_loo", "dse", "warning")


class Selected(NamedTuple):
    table: pd.DataFrame


def selected(**changes):
    """Return the best of three numbers of components and two forms: 2 full."""
    rows = [
        (2, "full", -810.0, 0.1, -790.0, 0.0, False),
        (3, "full", -812.0, 0.2, -791.0, 1.5, False),
        (2, "diag", -815.0, 0.1, -796.0, 3.0, False),
        (1, "diag", -860.0, 0.1, -850.0, 9.0, False),
        (1, "full", -870.0, 0.1, -851.0, 8.0, False),
        (3, "diag", -880.0, 0.3, -797.0, 3.5, False),
    ]
    names = [f"{row[0]} {row[1]}" for row in rows]
    table = pd.DataFrame(rows, columns=COLUMNS, index=names)
    for column, values in changes.items():
        for name, value in values.items():
            table.loc[name, column] = value
    return Selected(table)


def line(ax, form):
    (found,) = (one for one in ax.lines if one.get_label() == form)
    return np.array(found.get_data())


def test_each_form_has_a_line_by_K_relative_to_the_highest():
    axes = plot_selection(selected())
    assert axes.shape == (2,)
    np.testing.assert_array_equal(line(axes[0], "full"), [[1, 2, 3], [-60.0, 0.0, -2.0]])
    np.testing.assert_array_equal(line(axes[0], "diag"), [[1, 2, 3], [-50.0, -5.0, -70.0]])
    np.testing.assert_array_equal(line(axes[1], "full"), [[1, 2, 3], [-61.0, 0.0, -1.0]])
    assert axes[0].get_ylabel() == "log evidence relative to -810.00 (nats)"
    assert axes[1].get_ylabel() == "elpd relative to -790.00 (nats)"
    assert legend_texts(axes[1]) == ["diag", "full", "chosen: 2 full"]
    draw(axes[0])


def test_error_bars_are_standard_errors():
    axes = plot_selection(selected())
    bars = {tuple(segment[:, 1]) for c in axes[0].containers for segment in c[2][0].get_segments()}
    assert (-2.2, -1.8) in {tuple(np.round(ends, 9)) for ends in bars}
    bars = {tuple(segment[:, 1]) for c in axes[1].containers for segment in c[2][0].get_segments()}
    assert (-2.5, 0.5) in {tuple(np.round(ends, 9)) for ends in bars}


def test_the_fit_that_was_chosen_has_a_ring():
    for ax in plot_selection(selected()):
        (ring,) = (one for one in symbols(ax) if len(one.get_facecolor()) == 0)
        np.testing.assert_array_equal(ring.get_offsets(), [[2, 0.0]])


def test_a_lower_bound_is_hollow_and_an_unknown_value_a_gap():
    found = selected(log_evidence_se={"3 full": np.nan}, log_evidence={"2 diag": np.nan})
    axes = plot_selection(found)
    assert np.isnan(line(axes[0], "diag")[1, 1])
    _, full = (one for one in symbols(axes[0]) if len(one.get_offsets()) == 3)  # diag comes first
    white = (full.get_facecolor()[:, :3] == 1.0).all(axis=1)
    np.testing.assert_array_equal(white, [False, False, True])
    bars = [segment for c in axes[0].containers for segment in c[2][0].get_segments()]
    assert len(bars) == 4
    assert legend_texts(axes[1])[3:] == [
        "hollow: lower bound of the evidence",
        "log evidence not known: 1 fit",
    ]
    draw(axes[0])


def test_an_elpd_that_is_not_reliable_is_hollow():
    axes = plot_selection(selected(warning={"3 full": True}))
    assert legend_texts(axes[1])[3:] == ["hollow: elpd not reliable"]


def test_evidence_is_alone_where_elpd_is_not_known():
    names = selected().table.index
    axes = plot_selection(selected(elpd_loo=dict.fromkeys(names, np.nan)))
    assert axes.shape == (1,)


def test_no_known_value_at_all_is_said_in_the_legend():
    names = selected().table.index
    (ax,) = plot_selection(
        selected(elpd_loo=dict.fromkeys(names, np.nan), log_evidence=dict.fromkeys(names, np.nan))
    )
    assert ax.get_ylabel() == "log evidence (nats)"
    assert "log evidence not known: 6 fits" in legend_texts(ax)
    draw(ax)


def test_axis_is_logarithmic_where_fits_differ_by_hundreds_of_nats():
    axes = plot_selection(selected(log_evidence={"1 full": -1_500.0}))
    assert [ax.get_yscale() for ax in axes] == ["symlog", "linear"]


def test_given_axes_are_drawn_on_and_returned():
    mine = Figure().subplots(1, 2)
    assert (plot_selection(selected(), ax=mine) == mine).all()
    alone = Figure().add_subplot()
    (found,) = plot_selection(selected(), ax=alone)
    assert found is alone
    assert found.get_ylabel().startswith("log evidence")


@pytest.mark.slow
def test_a_selection_of_real_fits_is_drawn(clustered_rows):
    chosen = bgmm_jd.select(
        clustered_rows, (1, 2), draws=100, execution="graph", calibrate=False, progress=False
    )
    axes = plot_selection(chosen)
    table = chosen.table.sort_values("K")
    expected = table["log_evidence"] - table["log_evidence"].max()
    np.testing.assert_allclose(line(axes[0], "diag")[1], expected)
    # Without calibration the evidence is out of reach.
    assert "hollow: lower bound of the evidence" in legend_texts(axes[-1])
    assert f"chosen: {chosen.table.index[0]}" in legend_texts(axes[-1])


@pytest.mark.parametrize("other", [None, 3, Selected(pd.DataFrame({"K": [1]}))])
def test_something_else_than_a_selection_is_refused(other):
    with pytest.raises(TypeError, match=r"as bgmm_jd.select returns it"):
        plot_selection(other)


def test_another_number_of_axes_is_refused():
    with pytest.raises(ValueError, match="2 axes, for the log evidence and elpd; got 3"):
        plot_selection(selected(), ax=Figure().subplots(1, 3))
