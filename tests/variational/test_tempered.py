"""The tempered density: its parts, its gradient, and trajectories through it."""

import numpy as np
import pytest
import tensorflow as tf
from small_problems import overlapping_start

from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.model.quadratic_likelihood import ROUNDING_TOLERANCE
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.log_joint import log_likelihood, log_prior
from bgmm_jd.variational.tempered import Tempered, TemperedDensity

S, TEMPERATURE = 5, 0.3


def begun(form, **options):
    """Return a problem, points near its posterior, and the tempered density."""
    approximation = overlapping_start(form, **options)
    problem = approximation.problem
    points = draw_mean_field(problem, approximation.params, S, seed=0).points
    return problem, points, TemperedDensity(problem, TEMPERATURE)


@pytest.mark.parametrize("form", ["diag", "full", "tied", "spherical"])
def test_density_has_the_prior_over_points_the_likelihood_and_the_slopes_of_both(form):
    problem, points, target = begun(form)
    found = target.density(points)
    model = problem.standardized_model
    theta, log_det_jacobian = unflatten(model, tf.constant(points))
    prior = log_prior(model, theta) + log_det_jacobian
    np.testing.assert_allclose(found.log_prior, prior, rtol=1e-12)
    likelihood = log_likelihood(model, theta, as_row_tensors(problem.data.rows))
    np.testing.assert_allclose(found.log_likelihood, likelihood, rtol=1e-12)
    step = 1e-5
    # Differences of a sum near 1e3 in float64 are good to 1e-13 * 1e3 / 1e-5.
    tolerance = {"rtol": 1e-5, "atol": 1e-3}
    for place in range(points.shape[1]):
        aside = step * np.eye(points.shape[1])[place]
        above, below = (target.density(points + sign * aside) for sign in (1.0, -1.0))
        change = (above.log_prior - below.log_prior) / (2 * step)
        np.testing.assert_allclose(found.prior_slope[:, place], change, **tolerance)
        change = (above.log_likelihood - below.log_likelihood) / (2 * step)
        np.testing.assert_allclose(found.likelihood_slope[:, place], change, **tolerance)


def test_slope_is_that_of_the_prior_and_the_power_of_the_likelihood():
    found = Tempered(np.zeros(1), np.zeros(1), np.array([[1.0, 2.0]]), np.array([[10.0, -20.0]]))
    np.testing.assert_array_equal(found.slope(0.5), [[6.0, -8.0]])


@pytest.mark.parametrize("form", ["diag", "full"])
def test_density_by_statistics_in_float32_is_rounded_by_no_more_than_rows_may_be(form):
    problem, points, target = begun(form)
    expected = target.density(points)
    found = target._replace(statistics=tf.float32).density(points)
    assert not np.array_equal(found.log_likelihood, expected.log_likelihood)
    limit = len(problem.data.rows.values) * ROUNDING_TOLERANCE
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, rtol=0, atol=limit)
    np.testing.assert_array_equal(found.log_prior, expected.log_prior)
    # A product of N rows has a relative error of N epsilons at most.
    largest = np.abs(expected.likelihood_slope).max()
    np.testing.assert_allclose(
        found.likelihood_slope, expected.likelihood_slope, atol=1e-4 * largest
    )


@pytest.mark.parametrize("options", [{}, {"weights": True}, {"missing": True}])
def test_trajectory_is_that_of_leapfrogs_one_by_one(options):
    _, points, target = begun("full", **options)
    rng, P = np.random.default_rng(1), points.shape[1]
    velocity, lengths = rng.standard_normal((S, P)), rng.uniform(0.01, 0.03, (S, 1))
    scale = np.tril(rng.normal(size=(P, P))) / P + 0.1 * np.eye(P)
    start = target.density(points).slope(TEMPERATURE)
    found_points, found_velocity, density = target.follow(
        points, velocity, start, lengths, scale, 3
    )
    slope = start
    for _ in range(3):
        velocity = velocity + 0.5 * lengths * (slope @ scale)
        points = points + lengths * (velocity @ scale.T)
        slope = target.density(points).slope(TEMPERATURE)
        velocity = velocity + 0.5 * lengths * (slope @ scale)
    np.testing.assert_allclose(found_points, points, rtol=1e-9)
    np.testing.assert_allclose(found_velocity, velocity, rtol=1e-8)
    np.testing.assert_allclose(density.slope(TEMPERATURE), slope, rtol=1e-7, atol=1e-7)


def test_calls_of_few_points_give_what_one_call_gives():
    problem, points, target = begun("diag")
    in_pairs = TemperedDensity(problem, TEMPERATURE, most_points=2).density(points)
    for one, other in zip(in_pairs, target.density(points), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
