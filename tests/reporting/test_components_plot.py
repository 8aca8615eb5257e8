"""The contents of a plot of the components' parameters."""

import numpy as np
import pytest
from figures import draw, fit_of_groups, legend_texts
from matplotlib.figure import Figure

from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.reporting.components_plot import plot_components


def sds_of(theta, covariance, K, D):
    """Return the standard deviations [S, K, D] from the precisions of draws."""
    precisions = theta["precisions"]
    if covariance in ("tied", "full"):
        variances = np.diagonal(np.linalg.inv(precisions), axis1=-2, axis2=-1)
        variances = variances[:, np.newaxis] if covariance == "tied" else variances
    else:
        variances = 1.0 / precisions
    return np.broadcast_to(np.sqrt(variances), (len(precisions), K, D))


def check_lines(ax, values, intervals):
    """Three lines for each component: the wide interval, the narrow one and the median."""
    assert len(ax.lines) == 3 * values.shape[1]
    for k, column in enumerate(values.T):
        drawn = [line.get_xdata() for line in ax.lines[3 * k : 3 * k + 3]]
        for ends, p in zip(drawn, intervals[::-1], strict=False):
            np.testing.assert_allclose(ends, np.quantile(column, [0.5 - p / 2, 0.5 + p / 2]))
        np.testing.assert_allclose(drawn[2], np.median(column))
        assert all((line.get_ydata() == k).all() for line in ax.lines[3 * k : 3 * k + 3])


@pytest.mark.parametrize("covariance", FORMS)
def test_lines_are_quantiles_of_the_draws(covariance):
    posterior = fit_of_groups(2, covariance)
    axes = plot_components(posterior, draws=200, seed=4, intervals=(0.4, 0.8))
    theta = posterior.sample(200, seed=4)
    sds = sds_of(theta, covariance, 2, 2)
    assert axes.shape == (2, 3)
    # The draws are in the fit's dtype, float64; variances are inverted in another way.
    check_lines(axes[0, 0], theta["weights"], (0.4, 0.8))
    for d in range(2):
        check_lines(axes[0, 1 + d], theta["means"][..., d], (0.4, 0.8))
        check_lines(axes[1, 1 + d], sds[..., d], (0.4, 0.8))
    assert legend_texts(axes[1, 0]) == ["posterior median", "40% interval", "80% interval"]
    draw(axes[0, 0])


def test_panels_have_the_names_of_features_and_components():
    axes = plot_components(fit_of_groups(2), names=["length", "width"], draws=20)
    assert [ax.get_xlabel() for ax in axes[0]] == ["weight", "mean of length", "mean of width"]
    assert [ax.get_xlabel() for ax in axes[1, 1:]] == ["sd of length", "sd of width"]
    labels = [tick.get_text() for tick in axes[0, 0].get_yticklabels()]
    assert labels == ["0", "1"]


def test_of_ten_features_the_first_six_are_shown():
    axes = plot_components(fit_of_groups(10), draws=20)
    assert axes.shape == (2, 7)
    assert axes[1, 0].get_legend().get_title().get_text() == "6 of 10 features"
    draw(axes[0, 0])


def test_one_feature_is_shown_alone():
    axes = plot_components(fit_of_groups(1), draws=20)
    assert axes.shape == (2, 2)
    assert axes[0, 1].get_xlabel() == "mean of feature 0"
    axes = plot_components(fit_of_groups(10), features=8, draws=20)
    assert axes[0, 1].get_xlabel() == "mean of feature 8"


def test_given_axes_are_drawn_on_and_returned():
    mine = Figure().subplots(2, 3)
    assert (plot_components(fit_of_groups(2), ax=mine, draws=20) == mine).all()


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"ax": Figure().subplots(1, 3)}, "2 x 3 axes, weights and 2 features; got 3"),
        (ValueError, {"intervals": (0.9, 0.5)}, "ascending"),
        (ValueError, {"intervals": (0.5, 1.0)}, "between 0 and 1"),
        (ValueError, {"intervals": 0.5}, "two probabilities"),
        (ValueError, {"intervals": ("a", "b")}, "two probabilities"),
        (ValueError, {"features": 2}, "from 0 to 1"),
        (ValueError, {"names": "ab"}, "one name"),
        (ValueError, {"draws": 0}, "draws"),
    ],
)
def test_bad_arguments_are_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        plot_components(fit_of_groups(2), **arguments)
