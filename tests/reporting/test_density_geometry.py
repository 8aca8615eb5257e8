"""Axes, grids, levels and ellipses of a density plot against exact answers."""

import math

import numpy as np
from scipy import stats

from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.reporting.density_geometry import (
    aspect_ratio,
    axis_limits,
    axis_points,
    ellipse_outlines,
    have_little_weight,
    have_similar_lengths,
    region_levels,
    sample_predictive_rows,
)


def one_draw(weights, means, covariances):
    return ComponentDraws(
        *(np.asarray(v, np.float64)[np.newaxis] for v in (weights, means, covariances))
    )


STANDARD = one_draw([1.0], [[0.0, 0.0]], [np.eye(2)])


def test_limits_leave_a_margin_around_all_values():
    low, high = axis_limits(np.array([3.0, -1.0, 2.0]), STANDARD, 0)
    assert -1.5 < low < -1.0
    assert 3.0 < high < 3.5


def test_limits_of_equal_values_are_not_equal():
    low, high = axis_limits(np.full(5, 7.0), STANDARD, 0)
    assert low < 7.0 < high


def test_limits_of_equal_values_far_from_zero_are_not_equal():
    """Six standard deviations of 1 are below the last digit of 1e30."""
    low, high = axis_limits(np.full(5, -1e30), STANDARD, 0)
    assert low < -1e30 < high


def test_the_narrowest_component_has_grid_points():
    narrow = one_draw([0.5, 0.5], [[0.0], [1e4]], [[[1e-6]], [[1.0]]])
    points = axis_points((-1.0, 2e4), narrow, 0)
    assert (np.abs(points) < 3e-3).sum() > 10


def test_axes_of_similar_length_have_the_same_scale():
    alike, unlike = [(0.0, 2.0), (1.0, 4.0)], [(0.0, 2.0), (1.0, 40.0)]
    assert have_similar_lengths(alike)
    assert aspect_ratio(alike) == 1.5
    assert not have_similar_lengths(unlike)
    assert aspect_ratio(unlike) == 0.8


def test_levels_of_a_standard_normal_are_those_of_its_regions():
    predicted = np.random.default_rng(3).standard_normal((4_000, 2))
    probabilities = np.array([0.95, 0.8, 0.5])
    # In the plane, 2 pi times the density at draws from it is uniform on (0, 1).
    expected = (1.0 - probabilities) / (2.0 * math.pi)
    error = np.abs(region_levels(STANDARD, predicted, probabilities) - expected)
    assert (error < 5.0 * 0.5 / math.sqrt(4_000) / (2.0 * math.pi)).all()


def test_predictive_rows_come_from_each_draw_in_turn():
    components = ComponentDraws(
        weights=np.ones((3, 1)),
        means=np.array([[[-1e3]], [[0.0]], [[1e3]]]),
        covariances=np.ones((3, 1, 1, 1)),
    )
    rows = sample_predictive_rows(components, 300, np.random.default_rng(0))
    noise = rows.reshape(100, 3) - components.means[:, 0, 0]
    assert stats.kstest(noise.ravel(), stats.norm.cdf).pvalue > 1e-6


def test_ellipses_lie_at_one_and_two_standard_deviations():
    mean, covariance = np.array([0.0, 1.0]), np.array([[2.0, 0.9], [0.9, 1.0]])
    one, two = ellipse_outlines(mean[np.newaxis], covariance[np.newaxis])
    inverse = np.linalg.inv(covariance)
    for outline, distance in ((one, 1.0), (two, 2.0)):
        residual = outline - mean
        squares = np.einsum("ni,ij,nj->n", residual, inverse, residual)
        np.testing.assert_allclose(squares, distance**2)


def test_components_of_less_than_a_twentieth_of_an_equal_share_have_little_weight():
    components = one_draw([0.6, 0.38, 0.02], np.zeros((3, 1)), np.ones((3, 1, 1)))
    assert not have_little_weight(components).any()
    components = one_draw([0.6, 0.39, 0.01], np.zeros((3, 1)), np.ones((3, 1, 1)))
    np.testing.assert_array_equal(have_little_weight(components), [False, False, True])
