"""The contents of a plot of the components' regions."""

import matplotlib.path
import numpy as np
import pytest
from figures import draw, fit_of_groups, groups, in_order, legend_texts, note, points
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

import bgmm_jd
from bgmm_jd.reporting.boundaries_plot import plot_boundaries


def regions(ax):
    """Return the filled surfaces and the hatched ones."""
    filled = [c for c in ax.collections if isinstance(c, ContourSet) and c.filled]
    plain = [c for c in filled if not any(c.hatches)]
    return plain, [c for c in filled if any(c.hatches)]


def is_inside(surface, at):
    """Return which points are inside of a surface: an odd number of its outlines is around each."""
    (path,) = surface.get_paths()
    outlines = [matplotlib.path.Path(polygon) for polygon in path.to_polygons()]
    return np.sum([outline.contains_points(at) for outline in outlines], axis=0) % 2 == 1


def test_regions_and_band_are_those_of_predict_proba():
    posterior, X = fit_of_groups(2), groups(60, 2)
    ax = plot_boundaries(posterior, X, level=0.95)
    rng = np.random.default_rng(2)
    at = rng.uniform(
        [ax.get_xlim()[0], ax.get_ylim()[0]], [ax.get_xlim()[1], ax.get_ylim()[1]], (400, 2)
    )
    probabilities = bgmm_jd.predict_proba(posterior, at, draws=100)
    # A grid of some 180 x 180 points: at the border of a region its line may be a cell off.
    clear = np.abs(probabilities[:, 0] - 0.5) > 0.2
    surfaces, (band,) = regions(ax)
    assert len(surfaces) == 2
    for k, surface in enumerate(surfaces):
        inside = is_inside(surface, at)
        np.testing.assert_array_equal(inside[clear], probabilities[clear].argmax(axis=1) == k)
    highest = probabilities.max(axis=1)
    in_band = is_inside(band, at)
    assert in_band[highest < 0.75].all()
    assert not in_band[highest > 0.995].any()
    assert (highest < 0.75).any()
    np.testing.assert_allclose(points(ax), in_order(X))
    assert legend_texts(ax) == ["0", "1", "most probable below 0.95"]
    assert ax.get_legend().get_title().get_text() == ""
    draw(ax)


def test_more_features_are_marginal_and_the_legend_says_so():
    ax = plot_boundaries(fit_of_groups(10), groups(60, 10), features=(4, 9))
    assert ax.get_legend().get_title().get_text() == "marginal over 8 other features"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 4", "feature 9")
    draw(ax)


def test_one_feature_shows_the_probabilities_as_curves():
    posterior, X = fit_of_groups(1), groups(60, 1)
    ax = plot_boundaries(posterior, X, level=0.8)
    for k, line in enumerate(ax.lines[:2]):
        x, probability = line.get_data()
        expected = bgmm_jd.predict_proba(posterior, x[:, np.newaxis], draws=100)[:, k]
        np.testing.assert_allclose(probability, expected, atol=1e-8)
    assert [text.get_text() for text in ax.texts] == ["0", "1"]
    spans = [(p.get_x(), p.get_x() + p.get_width(), bool(p.get_hatch())) for p in ax.patches]
    middle = 3.0  # between the groups
    assert [low < middle < high for low, high, hatched in spans if hatched] == [True]
    assert sum(not hatched for _, _, hatched in spans) == 2
    assert (points(ax)[:, 1] < 0.0).all()
    np.testing.assert_allclose(np.sort(points(ax)[:, 0]), np.sort(X[:, 0]))
    draw(ax)


def test_a_single_component_has_no_boundary():
    X = groups(60, 2)
    posterior = bgmm_jd.fit(X, 1, execution="graph", progress=False, calibrate=False)
    surfaces, bands = regions(plot_boundaries(posterior, X))
    assert (len(surfaces), len(bands)) == (1, 0)


def test_rows_without_the_features_shown_are_counted():
    posterior, X = fit_of_groups(3, missing=True), groups(60, 3, missing=True)
    ax = plot_boundaries(posterior, X, features=(0, 1))
    assert note(ax) == "6 rows with missing values left out"
    assert len(points(ax)) == 54


def test_given_axes_are_drawn_on_and_returned():
    mine = Figure().add_subplot()
    assert plot_boundaries(fit_of_groups(2), groups(60, 2), ax=mine) is mine


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"level": 1.0}, "between 0 and 1"),
        (ValueError, {"level": float("nan")}, "between 0 and 1"),
        (TypeError, {"level": "high"}, "level must hold real numbers"),
        (ValueError, {"features": (0, 2)}, "from 0 to 1"),
        (ValueError, {"names": ["a"]}, "one name"),
    ],
)
def test_bad_arguments_are_refused(error, arguments, message):
    with pytest.raises(error, match=message):
        plot_boundaries(fit_of_groups(2), groups(60, 2), **arguments)


def test_rows_with_other_columns_are_refused():
    with pytest.raises(ValueError, match="must have 2 columns"):
        plot_boundaries(fit_of_groups(2), groups(60, 3))
