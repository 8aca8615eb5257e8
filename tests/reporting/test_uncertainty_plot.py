"""The contents of a plot of uncertainty."""

import numpy as np
import pytest
from figures import draw, ellipses, fit_of_groups, groups, legend_texts, note, symbols
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd.reporting.uncertainty_plot import plot_uncertainty


def between(D):
    """Return rows from the one group to the other."""
    return np.linspace(-1.0, 7.0, 401)[:, np.newaxis] * np.ones(D)


def uncertainty(posterior, X):
    return 1.0 - bgmm_jd.predict_proba(posterior, X, draws=100).max(axis=1)


@pytest.mark.parametrize("D", [2, 10])
def test_size_and_shade_are_those_of_the_uncertainty_from_all_features(D):
    posterior, X = fit_of_groups(D), between(D)
    ax = plot_uncertainty(posterior, X)
    (drawn,) = symbols(ax)
    expected = np.sort(uncertainty(posterior, X))
    np.testing.assert_allclose(drawn.get_array(), expected, atol=1e-12)
    sizes = drawn.get_sizes()
    assert (np.diff(sizes) >= 0.0).all()
    assert sizes[-1] > 3.0 * sizes[0]
    assert len(ellipses(ax)) == 2
    assert legend_texts(ax) == ["0", "0.1", "0.3", "0.5"]
    draw(ax)


def test_one_feature_has_the_uncertainty_as_height():
    posterior, X = fit_of_groups(1), between(1)
    ax = plot_uncertainty(posterior, X)
    x, height = np.asarray(symbols(ax)[0].get_offsets()).T
    order = np.argsort(x)
    np.testing.assert_allclose(x[order], X[:, 0])
    np.testing.assert_allclose(height[order], uncertainty(posterior, X), atol=1e-12)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 0", "1 - largest probability")
    draw(ax)


def test_rows_without_the_features_shown_are_counted():
    posterior, X = fit_of_groups(3, missing=True), groups(60, 3, missing=True)
    ax = plot_uncertainty(posterior, X, features=(0, 2), names=["a", "b", "c"])
    assert note(ax) == "4 rows with missing values left out"
    assert len(symbols(ax)[0].get_offsets()) == 56
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("a", "c")


def test_given_axes_are_drawn_on_and_returned():
    mine = Figure().add_subplot()
    assert plot_uncertainty(fit_of_groups(2), groups(60, 2), ax=mine) is mine


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"features": (0, 1, 2)}, "one or two"),
        (ValueError, {"features": 10}, "from 0 to 9"),
        (TypeError, {"ax": [1]}, "matplotlib.axes.Axes; got list"),
        (ValueError, {"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_are_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        plot_uncertainty(fit_of_groups(10), groups(60, 10), **arguments)


def test_rows_with_other_columns_are_refused():
    with pytest.raises(ValueError, match="must have 2 columns"):
        plot_uncertainty(fit_of_groups(2), groups(60, 3))
