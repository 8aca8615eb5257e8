import ast
import dataclasses
import math
import pathlib

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure
from scipy import stats

import bgmm_jd
from bgmm_jd.posterior import normal_mixtures
from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.reporting import density_plot
from bgmm_jd.reporting.density_plot import plot_density


def clusters(D, N=60):
    rng = np.random.default_rng(5)
    far = 6.0 * (np.arange(N) % 2)[:, np.newaxis]
    return far + rng.standard_normal((N, D))


@pytest.fixture(scope="module")
def line():
    return bgmm_jd.fit(clusters(1), 2, calibrate=False)


@pytest.fixture(scope="module")
def space():
    return bgmm_jd.fit(clusters(4), 2, calibrate=False)


def mixture(weights, means, covariances):
    """One draw."""
    return ComponentDraws(
        *(np.asarray(v, np.float64)[np.newaxis] for v in (weights, means, covariances))
    )


STANDARD = mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
TWO = mixture([0.3, 0.7], [[0.0, 1.0], [-2.0, 3.0]], [[[2.0, 0.9], [0.9, 1.0]], 0.1 * np.eye(2)])


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def pixels(ax):
    ax.figure.canvas.draw()
    return np.asarray(ax.figure.canvas.buffer_rgba())


def test_density_is_that_of_scipy():
    points = np.random.default_rng(0).normal(size=(50, 2))
    expected = [
        weight * stats.multivariate_normal(mean, covariance).pdf(points)
        for weight, mean, covariance in zip(*(v[0] for v in TWO), strict=True)
    ]
    np.testing.assert_allclose(
        normal_mixtures.average_component_densities(TWO, points), expected, rtol=1e-10
    )


def test_density_is_the_posterior_predictive_one(line):
    points = np.linspace(-3.0, 9.0, 40)[:, np.newaxis]
    mine = normal_mixtures.average_component_densities(
        density_plot._mixture(line, [0], draws=50, seed=3), points
    ).sum(axis=0)
    expected = np.exp(bgmm_jd.log_density(line, points, draws=50, seed=3))
    np.testing.assert_allclose(mine, expected, rtol=1e-6)


def test_predicted_rows_have_the_moments_of_the_mixture():
    rows = normal_mixtures.sample_mixture(TWO, 100_000, np.random.default_rng(4))
    weights, means, covariances = (v[0] for v in TWO)
    mean = weights @ means
    off = means - mean
    covariance = np.tensordot(weights, covariances + off[:, :, None] * off[:, None], 1)
    error = np.sqrt(np.diag(covariance) / len(rows))
    assert (np.abs(rows.mean(axis=0) - mean) < 5.0 * error).all()
    np.testing.assert_allclose(np.cov(rows.T), covariance, rtol=0.05)


def test_regions_hold_what_they_say():
    predicted = np.random.default_rng(3).standard_normal((4_000, 2))
    # Of a standard normal in the plane, 2 pi density is uniform on (0, 1).
    expected = (1.0 - np.array(density_plot._REGIONS)) / (2.0 * math.pi)
    error = np.abs(density_plot._levels(STANDARD, predicted) - expected)
    assert (error < 5.0 * 0.5 / math.sqrt(4_000) / (2.0 * math.pi)).all()


def test_ellipses_lie_at_one_and_two_standard_deviations():
    one, two = density_plot._ellipses(TWO.means[0, :1], TWO.covariances[0, :1])
    inverse = np.linalg.inv(TWO.covariances[0, 0])
    for outline, distance in ((one, 1.0), (two, 2.0)):
        residual = outline - TWO.means[0, 0]
        squares = np.einsum("ni,ij,nj->n", residual, inverse, residual)
        np.testing.assert_allclose(squares, distance**2)


def test_the_narrowest_component_has_grid_points():
    narrow = mixture([0.5, 0.5], [[0.0], [1e4]], [[[1e-6]], [[1.0]]])
    points = density_plot._axis_points((-1.0, 2e4), narrow, 0)
    assert (np.abs(points) < 3e-3).sum() > 10


def test_equal_values_still_have_a_view():
    low, high = density_plot._view(np.full(5, 7.0), STANDARD, 0)
    assert low < 7.0 < high


def test_two_features(space):
    ax = plot_density(space, clusters(4))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 0", "feature 1")
    assert "60 rows" in texts(ax)
    assert [text.get_text() for text in ax.texts] == ["0", "1"]
    assert pixels(ax).std() > 0


def test_chosen_features_with_names(space):
    names = ["a", "b", "c", "d"]
    ax = plot_density(space, clusters(4), features=(3, 1), names=names)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("d", "b")
    frame = pd.DataFrame(clusters(4), columns=names)
    assert plot_density(space, frame, features=2).get_xlabel() == "c"


@pytest.mark.parametrize("features", [2, (2,), np.int64(2)])
def test_one_feature_of_several(space, features):
    ax = plot_density(space, clusters(4), features)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("feature 2", "density")


def test_one_feature(line):
    ax = plot_density(line, clusters(1), names=["length (cm)"])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("length (cm)", "density")
    assert {"60 rows", "predictive density", "90% credible band"} <= set(texts(ax))
    heights = np.array([bar.get_height() for bar in ax.patches])
    widths = np.array([bar.get_width() for bar in ax.patches])
    assert heights @ widths == pytest.approx(1.0)


def test_of_many_rows_some_are_shown(space):
    ax = plot_density(space, np.tile(clusters(4), (100, 1)))
    assert "4,000 of 6,000 rows" in texts(ax)


def test_rows_far_from_the_posterior(space):
    pixels(plot_density(space, clusters(4) + 1e6))


def test_the_axes_of_the_user(space):
    mine = Figure().add_subplot()
    assert plot_density(space, clusters(4), ax=mine) is mine


def test_equal_seeds_draw_equal_figures(space):
    first, second = (pixels(plot_density(space, clusters(4), seed=1)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_global_state_stays_as_it_is(space):
    before = dict(matplotlib.rcParams), matplotlib.get_backend()
    plot_density(space, clusters(4))
    assert (dict(matplotlib.rcParams), matplotlib.get_backend()) == before
    assert pyplot.get_fignums() == []


def test_matplotlib_is_not_imported_with_the_package():
    body = ast.parse(pathlib.Path(density_plot.__file__).read_text()).body
    imported = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not any("matplotlib" in ast.unparse(node) for node in imported)


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
        (ValueError, {"names": ["a"]}, "each of the 4 columns"),
        (ValueError, {"names": "abcd"}, "each of the 4 columns"),
        (ValueError, {"draws": 0}, "draws"),
    ],
)
def test_bad_arguments(space, error, arguments, message):
    with pytest.raises(error, match=message):
        plot_density(space, clusters(4), **arguments)


def test_no_row_has_the_features(space):
    missing = dataclasses.replace(space, missing="marginalize")
    X = clusters(4)
    X[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"all features shown, \[0, 1\]"):
        plot_density(missing, X)


def test_bad_rows(space):
    with pytest.raises(ValueError, match="4 columns"):
        plot_density(space, clusters(3))
