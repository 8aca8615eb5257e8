"""Log joint densities of draws, by differences and by a matrix product."""

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started, with_settings

from bgmm_jd.data.rows import Rows
from bgmm_jd.model.likelihood import row_log_likelihood
from bgmm_jd.settings import MemorySettings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.evaluation import (
    JOINT_ROUNDING,
    affordable_draws,
    dtype_for_moves,
    dtype_of_statistics,
    log_joint_of_draws,
    points_per_call,
    rounding_per_entry,
    statistics_are_accurate,
    statistics_fit_in_memory,
    surrogate_statistics_are_accurate,
)
from bgmm_jd.variational.log_joint import log_likelihood, log_prior

N = 2_000


def approximation_of(D, sd, form="diag", dtype=np.float32):
    """Return the start of a fit to two clusters of that sd, one to each side of the centre."""
    noise = sd * np.random.default_rng(0).standard_normal((N, D))
    X = (noise + np.repeat([[-1.0], [1.0]], N // 2, axis=0)).astype(dtype)
    return started(problem_for(X, 2, form))


def drawn(approximation, n):
    return draw_mean_field(approximation.problem, approximation.params, n, seed=0)


def log_joint_in_float64(problem, theta):
    """Return the log joint density by differences, the likelihood in float64."""
    rows = Rows(tf.constant(problem.data.rows.values, tf.float64))
    wide = {name: tf.cast(v, tf.float64) for name, v in theta.items()}
    likelihood = row_log_likelihood(wide, rows, problem.model.covariance)
    prior = log_prior(problem.standardized_model, theta)
    return tf.reduce_sum(likelihood, axis=-1).numpy() + prior.numpy()


def uses_statistics(problem, theta):
    return statistics_are_accurate(problem, theta, rounding_per_entry(problem))


def problem_with_memory(approximation, **budgets):
    return with_settings(approximation, memory=MemorySettings(**budgets)).problem


@pytest.mark.parametrize("form", ["diag", "full"])
@pytest.mark.parametrize("D", [2, 20])
def test_rounding_is_small_where_a_matrix_product_is_used(D, form):
    """For the narrowest clusters for which it is: the tolerance is that of all rows and features.

    A draw's constant and products are rounded some D times, in each of its components. Whitened
    clusters are narrow in the direction between them alone, where that is the mean of D columns.
    """
    narrowest = 0.02 if form == "diag" else 0.002
    for sd in narrowest * 2.0 ** np.arange(10):
        approximation = approximation_of(D, sd, form)
        problem, draws = approximation.problem, drawn(approximation, 60)
        if uses_statistics(problem, draws.theta):
            break
    assert uses_statistics(problem, draws.theta)
    assert sd > narrowest  # otherwise no narrower clusters were refused
    error = log_joint_of_draws(problem, draws) - log_joint_in_float64(problem, draws.theta)
    assert np.abs(error - np.median(error)).max() < JOINT_ROUNDING


def test_statistics_are_refused_for_draws_that_are_too_narrow():
    """The draws themselves decide, not the surrogate, from which they may be far."""
    approximation = approximation_of(2, 0.8)
    problem, theta = approximation.problem, dict(drawn(approximation, 20).theta)
    assert uses_statistics(problem, theta)
    one = np.ones((20, 1, 1), np.float32)
    one[7] = 1e6
    assert not uses_statistics(problem, theta | {"precisions": theta["precisions"] * one})


def test_surrogate_statistics_are_accurate_for_complete_rows_only():
    rng = np.random.default_rng(5)
    X = rng.normal(size=(300, 2)) + 3.0 * (rng.random(300) < 0.4)[:, np.newaxis]
    for form in ("diag", "full"):
        approximation = started(problem_for(X, 2, form, execution="graph"))
        assert surrogate_statistics_are_accurate(approximation.problem, approximation.params)
    X[rng.random(300) < 0.1, 0] = np.nan
    approximation = started(problem_for(X, 2, execution="graph"))
    assert not surrogate_statistics_are_accurate(approximation.problem, approximation.params)


@pytest.mark.parametrize(
    ("sd", "tolerance", "expected"),
    [(0.8, 1e-4, tf.float32), (1e-3, 1e-4, tf.float64), (0.8, 1e-16, None)],
)
def test_dtype_of_statistics_is_the_first_that_is_accurate(sd, tolerance, expected):
    approximation = approximation_of(2, sd, dtype=np.float64)
    problem, params = approximation.problem, approximation.params
    assert dtype_of_statistics(problem, params, tolerance, may_differ=True) == expected
    of_rows = None if expected is None else tf.float64
    assert dtype_of_statistics(problem, params, tolerance) == of_rows


@pytest.mark.parametrize(("sd", "expected"), [(0.8, tf.float32), (1e-3, tf.float64)])
def test_rows_in_float32_may_have_statistics_in_float64(sd, expected):
    approximation = approximation_of(2, sd, dtype=np.float32)
    problem, params = approximation.problem, approximation.params
    assert dtype_of_statistics(problem, params, 1e-4, may_differ=True) == expected
    assert dtype_of_statistics(problem, params, 1e-4) == (expected if sd == 0.8 else None)


def test_moves_have_statistics_in_float32_where_their_errors_are_small():
    """Though the bound of the errors, of the worst case, is not: at other draws they are small."""
    approximation = approximation_of(2, 0.2, "full", dtype=np.float64)
    problem, params = approximation.problem, approximation.params
    bound = rounding_per_entry(problem)
    assert dtype_of_statistics(problem, params, bound, may_differ=True) == tf.float64
    assert dtype_for_moves(problem, params) == tf.float32
    theta = draw_mean_field(problem, params, 200, seed=1).theta
    model, rows = problem.standardized_model, Rows(tf.constant(problem.data.rows.values))
    found = log_likelihood(model, theta, rows, tf.float64, tf.float32)
    expected = tf.reduce_sum(row_log_likelihood(theta, rows, "full"), axis=-1)
    assert np.abs(found - expected).max() < JOINT_ROUNDING


@pytest.mark.parametrize(("sd", "expected"), [(0.8, tf.float32), (1e-3, tf.float64)])
def test_moves_have_no_statistics_that_round_too_much(sd, expected):
    approximation = approximation_of(2, sd, dtype=np.float64)
    assert dtype_for_moves(approximation.problem, approximation.params) == expected


@pytest.mark.parametrize("form", ["diag", "full", "tied", "spherical"])
def test_statistics_in_float64_have_all_digits_of_draws_in_float32(form):
    """As differences in float64 of the same draws have them, in clusters that are very narrow."""
    approximation = approximation_of(2, 1e-3, form)
    problem, points = approximation.problem, drawn(approximation, 20).points
    model, rows = problem.standardized_model, Rows(tf.constant(problem.data.rows.values))
    theta, _ = unflatten(model, tf.constant(points))
    assert theta["means"].dtype == tf.float32
    found = log_likelihood(model, theta, rows, tf.float64, tf.float64)
    wide = {name: tf.cast(value, tf.float64) for name, value in theta.items()}
    wide_rows = Rows(tf.cast(rows.values, tf.float64))
    expected = tf.reduce_sum(row_log_likelihood(wide, wide_rows, form), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


def test_no_statistics_of_incomplete_rows_or_beyond_the_memory_budget():
    approximation = approximation_of(2, 0.8)
    small = problem_with_memory(approximation, statistics=N)
    assert dtype_of_statistics(small, approximation.params) is None
    X = np.random.default_rng(5).normal(size=(300, 2))
    X[::7, 0] = np.nan
    approximation = started(problem_for(X, 2, execution="graph"))
    assert dtype_of_statistics(approximation.problem, approximation.params) is None


def test_statistics_beyond_the_memory_budget_are_not_made():
    approximation = approximation_of(2, 0.8)
    problem, draws = approximation.problem, drawn(approximation, 20)
    assert statistics_fit_in_memory(problem)
    product = log_joint_of_draws(problem, draws)
    small = problem_with_memory(approximation, statistics=N)
    assert not statistics_fit_in_memory(small)
    difference = log_joint_of_draws(small, draws)
    assert not np.array_equal(product, difference)
    np.testing.assert_allclose(product, difference, atol=JOINT_ROUNDING)


def test_numbers_of_points_and_draws_follow_the_memory_budgets():
    """Two components of two features in 2,000 rows: 8,000 numbers per draw.

    Programs are compiled for four components and 2,048 rows: 16,384 numbers per draw.
    """
    approximation = approximation_of(2, 0.8)
    budget = problem_with_memory(
        approximation, density=3 * 16_384, most_points=5, affordable=9 * 8_000 + 1
    )
    assert points_per_call(budget) == 3
    assert points_per_call(budget, use_statistics=True) == 5  # of 6, which have no feature axis
    assert points_per_call(problem_with_memory(approximation, density=1)) == 1
    assert affordable_draws(budget) == 9
