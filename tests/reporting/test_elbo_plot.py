"""The contents of a plot of the elbo."""

import dataclasses

import numpy as np
import pytest
from figures import draw, fit_of_groups, legend_texts
from matplotlib.figure import Figure

from bgmm_jd.reporting.elbo_plot import plot_elbo


@pytest.fixture(scope="module")
def posterior():
    return fit_of_groups(2)


def line(ax, label):
    (found,) = (one for one in ax.lines if one.get_label() == label)
    return found.get_data()


def test_line_is_the_elbo_of_each_step_relative_to_that_of_the_fit(posterior):
    ax = plot_elbo(posterior)
    steps, elbo = line(ax, "each step")
    np.testing.assert_array_equal(steps, np.arange(1, len(posterior.elbo_trace) + 1))
    np.testing.assert_allclose(elbo, posterior.elbo_trace - posterior.elbo)
    middle, median = line(ax, "median of 25 steps")
    assert middle[0] == 13
    assert median[0] == pytest.approx(np.median(posterior.elbo_trace[:25]) - posterior.elbo)
    assert ax.get_ylabel() == f"elbo relative to {posterior.elbo:,.2f} (nats)"
    assert f"elbo {posterior.elbo:,.2f} ± {posterior.elbo_se:.2g}" in legend_texts(ax)
    (band,) = ax.patches
    assert band.get_y() == pytest.approx(-2.0 * posterior.elbo_se)
    assert band.get_height() == pytest.approx(4.0 * posterior.elbo_se)
    draw(ax)


def test_runs_are_where_they_ended(posterior):
    best = posterior.restarts[0]
    other = best._replace(elbo=best.elbo - 40.0, steps=50, agrees=False, starts=3)
    ax = plot_elbo(dataclasses.replace(posterior, restarts=(best, other)))
    agreeing, elsewhere = ax.collections
    np.testing.assert_allclose(agreeing.get_offsets(), [[best.steps, best.elbo - posterior.elbo]])
    np.testing.assert_allclose(elsewhere.get_offsets(), [[50, other.elbo - posterior.elbo]])
    assert len(elsewhere.get_facecolor()) == 0  # hollow
    assert legend_texts(ax)[-2:] == [
        f"runs that agree with the best: 1 ({best.starts} starts)",
        "runs that ended elsewhere: 1 (3 starts)",
    ]


def test_axis_is_logarithmic_only_where_the_run_began_far_below(posterior):
    near = posterior.elbo + np.linspace(-20.0, 0.0, 100)
    far = posterior.elbo - 5_000.0 * np.exp(-np.arange(100) / 5.0)
    scales = [
        plot_elbo(dataclasses.replace(posterior, elbo_trace=trace)).get_yscale()
        for trace in (near, far)
    ]
    assert scales == ["linear", "symlog"]


def test_an_elbo_without_error_is_drawn_without_a_band(posterior):
    ax = plot_elbo(dataclasses.replace(posterior, elbo_se=np.nan))
    assert len(ax.patches) == 0
    assert f"elbo {posterior.elbo:,.2f}, error not known" in legend_texts(ax)


def test_a_fit_that_diverged_is_drawn_relative_to_its_highest_step(posterior):
    trace = np.array([-300.0, -200.0, np.nan])
    ax = plot_elbo(dataclasses.replace(posterior, elbo=-np.inf, elbo_trace=trace, restarts=()))
    np.testing.assert_array_equal(line(ax, "each step")[1], [-100.0, 0.0, np.nan])
    assert legend_texts(ax) == ["each step"]
    draw(ax)


def test_a_fit_without_any_elbo_is_refused(posterior):
    empty = dataclasses.replace(posterior, elbo=-np.inf, elbo_trace=np.empty(0), restarts=())
    with pytest.raises(ValueError, match="a finite elbo in some step"):
        plot_elbo(empty)


def test_given_axes_are_drawn_on_and_returned(posterior):
    mine = Figure().add_subplot()
    assert plot_elbo(posterior, ax=mine) is mine


def test_something_else_than_axes_is_refused(posterior):
    with pytest.raises(TypeError, match="got Figure"):
        plot_elbo(posterior, ax=Figure())
