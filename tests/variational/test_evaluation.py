"""Log joint densities of draws, by differences and by a matrix product."""

import numpy as np
import pytest
import tensorflow as tf

from bgmm_jd.data import rows as rows_module
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model import likelihood
from bgmm_jd.variational import approximation, evaluation
from bgmm_jd.variational.log_joint import log_prior

N = 2_000


def inside_of(D, sd, form="diag", dtype=np.float32):
    """Two clusters of that sd, one to each side of the centre."""
    noise = sd * np.random.default_rng(0).standard_normal((N, D))
    X = (noise + np.repeat([[-1.0], [1.0]], N // 2, axis=0)).astype(dtype)
    return start_at(problem_of(standardize(X), 2, form, None, "xla"), None, 1, [0, 0])


def exactly(inside, theta):
    """The log joint density by differences, the likelihood in float64."""
    rows = tf.constant(inside.data.rows.values, tf.float64)
    wide = {name: tf.cast(v, tf.float64) for name, v in theta.items()}
    label = likelihood.row_log_likelihood(wide, rows_module.Rows(rows), inside.model.covariance)
    prior = log_prior(inside.model, theta, inside.standardization)
    return tf.reduce_sum(label, axis=-1).numpy() + prior.numpy()


def expands(inside, theta):
    return evaluation.statistics_are_accurate(inside, evaluation._rounding(inside), theta)


@pytest.mark.parametrize("form", ["diag", "full"])
@pytest.mark.parametrize("D", [2, 20])
def test_rounding_is_small_where_a_matrix_product_is_taken(D, form):
    """At the narrowest clusters for which it is: the tolerance is that of all rows and features.

    A draw's constant and products round some D times, and each of its components for itself.
    """
    for sd in (0.02, 0.05, 0.1, 0.2, 0.4, 0.8):
        inside = inside_of(D, sd, form)
        draws = approximation.draw_mean_field(inside, 60, seed=0)
        if expands(inside, draws.theta):
            break
    assert expands(inside, draws.theta)
    assert sd > 0.02  # or nothing narrower was refused
    error = evaluation.log_joint_of_draws(inside, draws) - exactly(inside, draws.theta)
    assert np.abs(error - np.median(error)).max() < evaluation._ROUNDING


def test_draws_that_are_too_narrow_are_read_by_differences():
    """The draws themselves are asked, and not the surrogate that they may be far from."""
    inside = inside_of(2, 0.8)
    theta = dict(approximation.draw_mean_field(inside, 20, seed=0).theta)
    assert expands(inside, theta)
    one = np.ones((20, 1, 1), np.float32)
    one[7] = 1e6
    assert not expands(inside, theta | {"precisions": theta["precisions"] * one})


def test_terms_that_take_too_much_room_are_not_made(monkeypatch):
    inside = inside_of(2, 0.8)
    assert evaluation.statistics_fit_in_memory(inside)
    draws = approximation.draw_mean_field(inside, 20, seed=0)
    product = evaluation.log_joint_of_draws(inside, draws)
    monkeypatch.setattr(approximation, "_MOST_TERMS", N)
    assert not evaluation.statistics_fit_in_memory(inside)
    difference = evaluation.log_joint_of_draws(inside, draws)
    assert not np.array_equal(product, difference)
    np.testing.assert_allclose(product, difference, atol=evaluation._ROUNDING)
