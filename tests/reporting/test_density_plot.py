"""The contents of a density plot, and that it does not change matplotlib's global state."""

import ast
import dataclasses
import pathlib

import matplotlib
import numpy as np
import pandas as pd
import pytest
from figures import fit_of_groups, groups
from matplotlib import pyplot
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd import reporting
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.normal_mixtures import average_component_densities, marginal_components
from bgmm_jd.reporting.density_plot import plot_density


@pytest.fixture(scope="module")
def line():
    return fit_of_groups(1)


@pytest.fixture(scope="module")
def space():
    return fit_of_groups(4)


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def pixels(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def test_density_of_the_marginal_is_the_posterior_predictive_density(line):
    points = np.linspace(-3.0, 9.0, 40)[:, np.newaxis]
    components = marginal_components(draw_components(line, 50, 3), [0])
    found = average_component_densities(components, points).sum(axis=0)
    expected = np.exp(bgmm_jd.log_density(line, points, draws=50, seed=3))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_two_features_are_drawn_with_rows_and_labels(space):
    ax = plot_density(space, groups(60, 4))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 0", "feature 1")
    assert "60 rows" in texts(ax)
    assert [text.get_text() for text in ax.texts] == ["0", "1"]
    assert pixels(ax).std() > 0


def test_chosen_features_have_their_names(space):
    names = ["a", "b", "c", "d"]
    ax = plot_density(space, groups(60, 4), features=(3, 1), names=names)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("d", "b")
    frame = pd.DataFrame(groups(60, 4), columns=names)
    assert plot_density(space, frame, features=2).get_xlabel() == "c"


def test_names_of_features_and_components_are_shown(space):
    names = ("a", "b", "c", "d")
    named = dataclasses.replace(space, feature_names=names)
    named = bgmm_jd.relabel(named, names=["low", "high"])
    frame = pd.DataFrame(groups(60, 4), columns=names)[["d", "c", "b", "a"]]
    ax = plot_density(named, frame, features=("d", 1))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("d", "b")
    assert [text.get_text() for text in ax.texts] == ["low", "high"]
    assert [text.partition(":")[0] for text in texts(ax)[:2]] == ["low", "high"]
    expected = plot_density(named, groups(60, 4), features=(3, 1))
    np.testing.assert_array_equal(pixels(ax), pixels(expected))
    assert plot_density(named, frame, features="c").get_xlabel() == "c"


@pytest.mark.parametrize("features", [2, (2,), np.int64(2)])
def test_one_feature_of_several_is_drawn_as_a_density(space, features):
    ax = plot_density(space, groups(60, 4), features=features)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 2", "density")


def test_one_feature_is_drawn_with_a_normalised_histogram(line):
    ax = plot_density(line, groups(60, 1), names=["length (cm)"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (cm)", "density")
    assert {"60 rows", "predictive density", "90% credible band"} <= set(texts(ax))
    heights = np.array([bar.get_height() for bar in ax.patches])
    widths = np.array([bar.get_width() for bar in ax.patches])
    assert heights @ widths == pytest.approx(1.0)


def test_of_many_rows_a_subset_is_shown(space):
    ax = plot_density(space, np.tile(groups(60, 4), (100, 1)))
    assert "4,000 of 6,000 rows" in texts(ax)


def test_rows_far_from_the_posterior_can_be_drawn(space):
    pixels(plot_density(space, groups(60, 4) + 1e6))


def test_given_axes_are_drawn_on_and_returned(space):
    mine = Figure().add_subplot()
    assert plot_density(space, groups(60, 4), ax=mine) is mine


def test_equal_seeds_draw_equal_figures(space):
    first, second = (pixels(plot_density(space, groups(60, 4), seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_global_state_of_matplotlib_does_not_change(space):
    before = dict(matplotlib.rcParams), matplotlib.get_backend()
    plot_density(space, groups(60, 4))
    assert (dict(matplotlib.rcParams), matplotlib.get_backend()) == before


def test_a_new_figure_is_one_that_pyplot_shows_and_given_axes_add_none(space):
    ax = plot_density(space, groups(60, 4))
    assert pyplot.get_fignums() == [ax.figure.number]
    plot_density(space, groups(60, 4), ax=ax.figure.add_subplot())
    assert len(pyplot.get_fignums()) == 1


def test_matplotlib_is_not_imported_with_the_package():
    for path in pathlib.Path(reporting.__file__).parent.glob("*.py"):
        body = ast.parse(path.read_text()).body
        imported = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("matplotlib" in ast.unparse(node) for node in imported), path.name


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"features": (0, 4)}, "from 0 to 3"),
        (ValueError, {"features": -1}, "from 0 to 3"),
        (ValueError, {"features": (1, 1)}, "each column once"),
        (ValueError, {"features": (0, 1, 2)}, "one or two"),
        (ValueError, {"features": ()}, "at least one column"),
        (TypeError, {"features": (0, 1.0)}, "integers"),
        (TypeError, {"features": True}, "integers"),
        (TypeError, {"features": "ab"}, "integers"),
        (ValueError, {"names": ["a"]}, "one name for each of the 4 columns"),
        (ValueError, {"names": "abcd"}, "one name for each of the 4 columns"),
        (ValueError, {"draws": 0}, "draws"),
    ],
)
def test_bad_arguments_of_plot_density_are_refused(space, error, arguments, message):
    with pytest.raises(error, match=message):
        plot_density(space, groups(60, 4), **arguments)


def test_rows_without_the_features_shown_are_an_error(space):
    missing = dataclasses.replace(space, missing="marginalize")
    X = groups(60, 4)
    X[:2, 1] = np.nan
    assert plot_density(missing, X).get_title(loc="right") == "2 rows with missing values left out"
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match="all features shown, feature 0, feature 1, are observed"):
        plot_density(missing, X)


def test_rows_with_other_columns_are_an_error(space):
    with pytest.raises(ValueError, match="4 columns"):
        plot_density(space, groups(60, 3))
