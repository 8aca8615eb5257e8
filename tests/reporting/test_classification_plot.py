"""The contents of a plot of classified rows."""

import numpy as np
import pandas as pd
import pytest
from figures import draw, ellipses, fit_of_groups, groups, in_order, legend_texts, note, points
from figures import symbols as symbols_of
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.reporting.classification_plot import plot_classification


def test_two_features_show_each_row_with_the_colour_of_its_most_probable_component():
    posterior, X = fit_of_groups(2), groups(60, 2)
    ax = plot_classification(posterior, X)
    labels = bgmm_jd.predict(posterior, X)
    for k, drawn in enumerate(symbols_of(ax)):
        np.testing.assert_allclose(in_order(drawn.get_offsets()), in_order(X[labels == k]))
    colours = {tuple(drawn.get_facecolor()[0]) for drawn in symbols_of(ax)}
    shapes = {len(drawn.get_paths()[0]) for drawn in symbols_of(ax)}
    assert len(colours) == len(shapes) == 2
    assert legend_texts(ax) == ["0: 30 rows", "1: 30 rows"]
    assert note(ax) == ""
    draw(ax)


@pytest.mark.parametrize("covariance", FORMS)
def test_ellipses_are_of_the_posterior_mean_of_each_form(covariance):
    posterior = fit_of_groups(2, covariance)
    ax = plot_classification(posterior, groups(60, 2), draws=40, seed=2)
    theta = posterior.sample(40, seed=2)
    precisions = theta["precisions"]
    matrices = {
        "diag": lambda: np.einsum("skd,de->skde", 1 / precisions, np.eye(2)),
        "spherical": lambda: np.einsum("skd,de->skde", 1 / precisions[..., [0, 0]], np.eye(2)),
        "tied": lambda: np.repeat(np.linalg.inv(precisions)[:, np.newaxis], 2, axis=1),
        "full": lambda: np.linalg.inv(precisions),
    }
    covariances = matrices[covariance]().mean(axis=0)
    assert len(ellipses(ax)) == 2
    for k, lines in enumerate(ellipses(ax)):
        assert len(lines.get_segments()) == 2
        inverse = np.linalg.inv(covariances[k])
        for outline, distance in zip(lines.get_segments(), (1.0, 2.0), strict=True):
            residual = outline - theta["means"][:, k].mean(axis=0)
            squares = np.einsum("ni,ij,nj->n", residual, inverse, residual)
            np.testing.assert_allclose(squares, distance**2, rtol=1e-6)


def test_one_feature_shows_a_height_and_two_intervals_for_each_component():
    posterior, X = fit_of_groups(1), groups(60, 1)
    ax = plot_classification(posterior, X, draws=40)
    labels = bgmm_jd.predict(posterior, X)
    for k, drawn in enumerate(symbols_of(ax)):
        x, height = np.asarray(drawn.get_offsets()).T
        np.testing.assert_allclose(np.sort(x), np.sort(X[labels == k, 0]))
        assert (np.abs(height - k) <= 0.3).all()
    theta = posterior.sample(40)
    mean = theta["means"][..., 0].mean(axis=0)
    sd = np.sqrt((1.0 / theta["precisions"][..., 0]).mean(axis=0))
    expected = [(m - r * s, m + r * s) for m, s in zip(mean, sd, strict=True) for r in (2.0, 1.0)]
    np.testing.assert_allclose([line.get_xdata() for line in ax.lines], expected, rtol=1e-6)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 0", "component")
    draw(ax)


def test_ten_features_show_the_lower_triangle_of_the_first_six():
    posterior, X = fit_of_groups(10), groups(60, 10)
    axes = plot_classification(posterior, X)
    assert axes.shape == (5, 5)
    for (row, column), ax in np.ndenumerate(axes):
        assert len(ellipses(ax)) == (2 if column <= row else 0)
        if column <= row:
            np.testing.assert_allclose(points(ax), in_order(X[:, [column, row + 1]]))
    assert [ax.get_xlabel() for ax in axes[-1]] == [f"feature {d}" for d in range(5)]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == [f"feature {d}" for d in range(1, 6)]
    assert axes[1, 1].get_ylabel() == axes[0, 0].get_xlabel() == ""
    assert legend_texts(axes[0, -1]) == ["0: 30 rows", "1: 30 rows"]
    assert axes[0, -1].get_legend().get_title().get_text() == "6 of 10 features"
    draw(axes[0, 0])


def test_chosen_features_have_the_names_of_a_data_frame():
    names = [f"length {d}" for d in range(10)]
    frame = pd.DataFrame(groups(60, 10), columns=names)
    ax = plot_classification(fit_of_groups(10), frame, features=(7, 2))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length 7", "length 2")
    axes = plot_classification(fit_of_groups(10), frame, features=(7, 2, 4))
    assert [ax.get_xlabel() for ax in axes[-1]] == ["length 7", "length 2"]


def test_rows_without_the_features_shown_are_counted():
    posterior, X = fit_of_groups(3, missing=True), groups(60, 3, missing=True)
    ax = plot_classification(posterior, X, features=(0, 1))
    assert note(ax) == "6 rows with missing values left out"
    assert len(points(ax)) == 54
    axes = plot_classification(posterior, X)
    assert [note(axes[place]) for place in ((0, 0), (1, 0), (1, 1))] == [
        "6 missing",
        "4 missing",
        "3 missing",
    ]
    assert [len(points(axes[place])) for place in ((0, 0), (1, 0), (1, 1))] == [54, 56, 57]


def test_of_many_rows_a_subset_is_drawn_and_counted():
    ax = plot_classification(fit_of_groups(2), np.tile(groups(60, 2), (100, 1)))
    assert note(ax) == "4,000 of 6,000 rows drawn"
    assert len(points(ax)) == 4_000


def test_components_without_rows_are_left_out():
    X = groups(60, 2)
    ax = plot_classification(fit_of_groups(2), X[::2])
    assert len(ellipses(ax)) == 1
    assert legend_texts(ax)[1:] == ["1 component without rows"]


def test_given_axes_are_drawn_on_and_returned():
    X = groups(60, 10)
    mine = Figure().add_subplot()
    assert plot_classification(fit_of_groups(10), X, features=(0, 1), ax=mine) is mine
    several = Figure().subplots(2, 2)
    found = plot_classification(fit_of_groups(10), X, features=(0, 1, 2), ax=several)
    assert (found == several).all()


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"features": (0, 10)}, "from 0 to 9"),
        (ValueError, {"features": range(7)}, "at most 6 columns"),
        (TypeError, {"features": "ab"}, "integers"),
        (ValueError, {"names": ["a"]}, "one name for each of the 10 columns"),
        (ValueError, {"ax": Figure().subplots(2, 2)}, r"5 x 5 axes.* got 2 x 2"),
        (ValueError, {"ax": Figure().add_subplot()}, r"5 x 5 axes.* got one"),
        (TypeError, {"features": 0, "ax": "axes"}, r"matplotlib.axes.Axes; got str"),
        (ValueError, {"draws": 0}, "draws"),
        (ValueError, {"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        plot_classification(fit_of_groups(10), groups(60, 10), **arguments)


def test_rows_with_other_columns_are_refused():
    with pytest.raises(ValueError, match="must have 10 columns"):
        plot_classification(fit_of_groups(10), groups(60, 9))


def test_a_feature_without_values_is_refused():
    X = groups(60, 3)
    X[:, 2] = np.nan
    with pytest.raises(ValueError, match="'feature 2' has none"):
        plot_classification(fit_of_groups(3, missing=True), X)
    with pytest.raises(ValueError, match="all features shown, feature 2, are observed"):
        plot_classification(fit_of_groups(3, missing=True), X, features=2)
