"""The expanded quadratic form: equal to the differences, and accurate where it says so."""

import numpy as np
import pytest
import tensorflow as tf
from known_covariances import either_scale_variable, every_form

from bgmm_jd.data.rows import Rows
from bgmm_jd.model import likelihood, quadratic_likelihood
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_shape

S, K, N = 4, 3, 50


def theta_of(form, name, D, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    shape = (S, *scale_shape(form, K, D))
    if form not in MATRIX_FORMS:
        value = rng.gamma(3.0, 0.5, shape)
    else:
        lower = np.tril(rng.normal(size=shape), -1) * 0.5
        lower += np.eye(D) * rng.uniform(0.5, 2.0, shape)
        value = lower if name == "scales" else lower @ lower.swapaxes(-1, -2)
    theta = {
        "weights": rng.dirichlet(np.ones(K), S),
        "means": rng.normal(size=(S, K, D)),
        name: value,
    }
    return {variable: tf.constant(v, dtype) for variable, v in theta.items()}


def log_joint_label(theta, values, form):
    statistics = quadratic_likelihood.sufficient_statistics(tf.transpose(values), form)
    number = quadratic_likelihood.number_of_statistics(values.shape[1], form)
    assert statistics.shape == (number, len(values))
    return quadratic_likelihood.log_joint_label_from_statistics(
        quadratic_likelihood.natural_parameters(theta, form), statistics
    )


@pytest.mark.parametrize("D", [1, 2, 4])
@either_scale_variable
@every_form
def test_log_joint_label_from_statistics_equals_that_from_differences(form, name, D):
    """In float64: 1e-16 of terms of some hundred nats."""
    theta = theta_of(form, name, D)
    values = np.random.default_rng(1).normal(size=(N, D))
    found = log_joint_label(theta, tf.constant(values), form)
    expected = likelihood.log_joint_label(theta, Rows(tf.constant(values)), form)
    assert found.shape == expected.shape == (S, K, N)
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def test_log_joint_label_of_a_component_without_weight_is_finite():
    theta = theta_of("diag", "precisions", 2)
    theta["weights"] = tf.constant(np.tile([0.0, 0.4, 0.6], (S, 1)))
    values = tf.constant(np.random.default_rng(1).normal(size=(N, 2)))
    found = log_joint_label(theta, tf.constant(values), "diag").numpy()
    expected = likelihood.log_joint_label(theta, Rows(values), "diag").numpy()
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def narrow(form, D, sd, distance):
    """Make one component with that sd in all features, that far from zero, and rows of its own."""
    rng = np.random.default_rng(3)
    means = np.full((1, 1, D), distance)
    if form in MATRIX_FORMS:
        correlated = 0.5 * np.eye(D) + 0.5
        precisions = np.linalg.inv(correlated * sd**2)
        precisions = precisions if form == "tied" else precisions[np.newaxis]
        rows = rng.multivariate_normal(np.zeros(D), correlated * sd**2, 500)
    else:
        precisions = np.full(scale_shape(form, 1, D), sd**-2.0)
        rows = sd * rng.normal(size=(500, D))
    theta = {"weights": np.ones((1, 1)), "means": means, "precisions": precisions[np.newaxis]}
    return theta, rows + distance


def diagonal(theta, form, D):
    if form in MATRIX_FORMS:
        return np.diagonal(theta["precisions"], axis1=-2, axis2=-1).reshape(1, 1, D)
    return np.broadcast_to(theta["precisions"], (1, 1, D))


@pytest.mark.parametrize("D", [1, 2, 5])
@every_form
def test_quadratic_form_stays_accurate_when_accepted(form, D):
    """Where it is accepted, the error in float32 is what roundings of the largest terms allow.

    With t = the stated tolerance, each feature's terms tau x^2 / 2, tau mu x and tau mu^2 / 2 are
    at most 2 t / eps near a component; products of features, at most the geometric mean of two of
    them times what correlation adds, which is in the diagonal. There are D (D + 3) / 2 products of
    two factors that are rounded twice each, with the sum that many times: 4 D (D + 3) roundings
    of eps / 2, each of 2 t / eps.
    """
    bound = 4 * D * (D + 3) * quadratic_likelihood.ROUNDING_TOLERANCE
    answers = []
    for sd in 10.0 ** np.arange(-4.0, 0.5, 0.5):
        theta, rows = narrow(form, D, sd, 1.5)
        single = {name: v.astype(np.float32) for name, v in theta.items()}
        accepted = quadratic_likelihood.is_accurate(
            diagonal(theta, form, D), theta["means"], np.dtype("float32")
        )
        answers.append(accepted)
        if not accepted:
            continue
        rows = rows.astype(np.float32)
        given = {name: tf.constant(v) for name, v in single.items()}
        same = {name: tf.constant(v.astype(np.float64)) for name, v in single.items()}
        found = log_joint_label(given, tf.constant(rows), form).numpy()
        exact = Rows(tf.constant(rows.astype(np.float64)))
        expected = likelihood.log_joint_label(same, exact, form).numpy()
        assert np.abs(found - expected).max() < bound
    # Narrow components are refused and wide ones accepted, with one change in between.
    assert answers == sorted(answers)
    assert answers[-1]
    assert not answers[0]


def test_component_that_is_narrow_for_its_distance_from_zero_is_refused():
    """The error is (distance / sd)^2 eps, where that of differences is (distance / sd) eps."""
    narrow_ones = np.full((1, 1, 2), 1e-2**-2)
    near, far = np.zeros((1, 1, 2)), np.full((1, 1, 2), 3.0)
    assert not quadratic_likelihood.is_accurate(narrow_ones, far, np.dtype("float32"))
    assert quadratic_likelihood.is_accurate(narrow_ones, far, np.dtype("float64"))
    assert quadratic_likelihood.is_accurate(np.ones((1, 1, 2)), far, np.dtype("float32"))
    # One of many components decides, and one of many draws.
    precisions = np.ones((5, 3, 2))
    assert quadratic_likelihood.is_accurate(precisions, np.ones((5, 3, 2)), np.dtype("float32"))
    precisions[3, 1, 0] = 1e4
    assert not quadratic_likelihood.is_accurate(precisions, np.ones((5, 3, 2)), np.dtype("float32"))
    # Narrow at zero: rows of other components are some sds of the data away.
    assert not quadratic_likelihood.is_accurate(np.full((1, 1, 2), 1e4), near, np.dtype("float32"))
