"""The contents of a plot of modes."""

import dataclasses

import numpy as np
import pytest
from figures import draw, fit_of_groups, note
from matplotlib.figure import Figure

from bgmm_jd.posterior.mode import Mode
from bgmm_jd.reporting.modes_plot import plot_modes

TWO = (Mode(0.7, -810.25, -815.0, 0.3, 22), Mode(0.3, -811.1, -816.0, 0.4, 1))


def with_modes(modes):
    return dataclasses.replace(fit_of_groups(2), modes=tuple(modes))


def texts_beside(ax):
    return [tick.get_text() for tick in ax.get_yticklabels()]


def test_bars_are_the_shares_with_evidence_and_starts_beside_them():
    ax = plot_modes(with_modes(TWO))
    assert [bar.get_width() for bar in ax.patches] == [0.7, 0.3]
    assert texts_beside(ax) == [
        "mode 0, 22 starts\nlog evidence -810.25",
        "mode 1, 1 start\nlog evidence -811.10",
    ]
    assert [text.get_text() for text in ax.texts] == ["70.0%", "30.0%"]
    draw(ax)


def test_a_single_mode_of_unknown_share_has_no_bar_and_its_elbo():
    """As a fit without the whole posterior has it."""
    posterior = fit_of_groups(2)
    (mode,) = posterior.modes
    assert np.isnan(mode.share)
    ax = plot_modes(posterior)
    assert [bar.get_width() for bar in ax.patches] == [0.0]
    starts = f"{mode.starts} start{'s' if mode.starts > 1 else ''}"
    assert texts_beside(ax) == [f"mode 0, {starts}\nelbo {mode.elbo:,.2f}"]
    assert [text.get_text() for text in ax.texts] == ["share not known"]


def test_of_many_modes_the_first_twelve_are_shown():
    ax = plot_modes(with_modes([TWO[0]] * 15))
    assert len(ax.patches) == 12
    assert note(ax) == "3 more left out"


def test_a_fit_without_modes_is_refused():
    with pytest.raises(ValueError, match="no run of this fit converged"):
        plot_modes(with_modes([]))


def test_given_axes_are_drawn_on_and_returned():
    mine = Figure().add_subplot()
    assert plot_modes(with_modes(TWO), ax=mine) is mine
