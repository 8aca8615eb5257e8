"""Averaged curvature: exact where the posterior is normal, finite where it is far from normal."""

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.calibration.averaged_curvature import (
    fit_normal,
    normal_from_curvature,
    shift_mean,
)
from bgmm_jd.calibration.gradients import gradient_of_log_joint, slices_of
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import Data, as_standardized_rows
from bgmm_jd.data.units import identity_standardization
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.model.likelihood import row_log_likelihood
from bgmm_jd.settings import CalibrationSettings, MemorySettings, Settings
from bgmm_jd.variational.approximation import MultivariateNormal
from bgmm_jd.variational.coordinates import coordinate_layout, flatten, unflatten
from bgmm_jd.variational.surrogate import without_cholesky

SETTINGS = CalibrationSettings()


def fitted_normal(gradient, start, rng):
    return fit_normal(gradient, start, rng, SETTINGS, SETTINGS.most_gradients)


def positive_definite(P, seed=0):
    root = np.random.default_rng(seed).normal(size=(P, P))
    return root @ root.T + np.eye(P)


# --- Steps of the averaged curvature -------------------------------------------------------------


def test_fit_normal_finds_a_normal_target_exactly():
    """log density -(x - m)^T H (x - m) / 2: its gradient is linear, so differences are exact."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    H, m = root @ root.T + np.eye(5), rng.normal(size=5)
    found = fitted_normal(
        lambda points: -(points - m) @ H,
        MultivariateNormal(m + 1, np.eye(5)),
        np.random.default_rng(1),
    )
    np.testing.assert_allclose(found.mean, m, rtol=1e-8)
    np.testing.assert_allclose(found.factor @ found.factor.T, np.linalg.inv(H), rtol=1e-8)


@pytest.mark.parametrize("slices", [2, 9, 16])
def test_fit_normal_finds_the_sum_of_normal_slices_exactly(slices):
    """Each slice has a curvature and an optimum of its own; draw s reads slice s mod `slices`."""
    rng = np.random.default_rng(0)
    H = np.stack([positive_definite(5, seed) for seed in range(slices)])
    m = rng.normal(size=(slices, 5))

    def gradient(points):
        own = np.arange(len(points)) % slices
        return -np.einsum("sgp,spq->sgq", points - m[own, np.newaxis], H[own])

    found = fit_normal(
        gradient,
        MultivariateNormal(m.mean(axis=0) + 0.5, np.eye(5)),
        np.random.default_rng(1),
        SETTINGS,
        SETTINGS.most_gradients,
        slices,
    )
    expected = np.linalg.solve(H.mean(axis=0), np.einsum("spq,sp->q", H, m) / slices)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-8)
    covariance = found.factor @ found.factor.T
    np.testing.assert_allclose(covariance, np.linalg.inv(H.mean(axis=0)), rtol=1e-8)


@pytest.mark.parametrize("P", [3, 30, 100])
def test_fit_normal_finds_the_fixed_point_of_a_target_that_is_not_normal(P):
    """log density -x^2 / 2 - a x^4 / 4 of each coordinate, turned by an orthogonal matrix.

    Differences one sd to either side of N(0, C) have the mean 1 + 4 a C, so C (1 + 4 a C) = 1. The
    last step may leave an error that gives log weights a variance of 0.2 nats^2, and as much again
    for its noise.
    """
    a, rng = 0.05, np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(P, P)))[0]

    def gradient(points):
        x = points @ turn
        return -(x + a * x**3) @ turn.T

    found = fitted_normal(gradient, MultivariateNormal(0.3 * turn[0], np.eye(P)), rng)
    C = (np.sqrt(1 + 16 * a) - 1) / (8 * a)
    off = found.factor @ found.factor.T / C - np.eye(P)
    assert (off**2).sum() / 2 + found.mean @ found.mean / C < 0.4


def test_fit_normal_stays_finite_at_a_saddle_and_at_nan():
    saddle = fitted_normal(
        lambda points: points * [1.0, -1.0],
        MultivariateNormal(np.zeros(2), np.eye(2)),
        np.random.default_rng(0),
    )
    assert np.isfinite(saddle.mean).all()
    assert np.isfinite(saddle.factor).all()
    start = MultivariateNormal(np.ones(2), np.eye(2))
    broken = fitted_normal(lambda points: points * np.nan, start, np.random.default_rng(0))
    assert broken is start


# --- The gradient of the log joint density -------------------------------------------------------


def weighted_problem(N, form, *, missing):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(N, 2))
    if missing:
        X[2, 0] = X[5, 1] = X[7, 1] = np.nan
    prior = bgmm_jd.mixture_prior(2, 2, covariance=form, dtype="float64")
    unscaled = identity_standardization(2)
    rows = as_standardized_rows(X, unscaled)._replace(weight=rng.uniform(0.5, 2.0, N))
    settings = Settings(memory=MemorySettings(most_points=3))
    return problem_of(Data(rows, unscaled), 2, form, prior, "graph", settings)


@pytest.mark.parametrize("statistics", [None, tf.float64])
@pytest.mark.parametrize("form", FORMS)
def test_gradient_of_log_joint_equals_differences_of_the_density(form, statistics):
    """With weights and missing entries, in more points than one call takes."""
    # As a matrix product the likelihood takes complete rows only.
    problem = weighted_problem(12, form, missing=statistics is None)
    model, prior = problem.standardized_model, problem.model.prior
    weight = problem.data.rows.weight
    gradient = gradient_of_log_joint(problem, statistics)
    point = flatten(model, prior.sample(1, seed=(0, 1))._asdict()).numpy()[0]
    P = len(point)

    def density(points):
        theta, log_det_jacobian = unflatten(model, tf.constant(points))
        theta = without_cholesky(model, theta)  # by decompositions of its own
        likelihood = (
            row_log_likelihood(theta, as_row_tensors(problem.data.rows), form).numpy() @ weight
        )
        return prior.log_prob(**theta).numpy() + likelihood + log_det_jacobian.numpy()

    # Central differences: the third derivative times h^2 / 6, and eps of some hundred nats over h.
    h = 1e-4
    expected = (density(point + h * np.eye(P)) - density(point - h * np.eye(P))) / (2 * h)
    found = gradient(np.stack([point] * 4))
    assert found.shape == (4, P)
    if statistics is not None:  # a product of matrices may sum in another order for each
        np.testing.assert_allclose(found, np.tile(found[:1], (4, 1)), rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(found, np.tile(found[:1], (4, 1)))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


@pytest.mark.parametrize("N", [12, 13])
def test_gradients_of_slices_have_that_of_all_rows_as_their_average(N):
    """With weights and missing entries; 13 rows leave places that weigh nothing."""
    problem = weighted_problem(N, "full", missing=True)
    P = coordinate_layout(problem.standardized_model).size
    points = np.random.default_rng(1).normal(size=(1, 3, P))
    found = [gradient_of_log_joint(part, None)(points) for part in slices_of(problem, 4)]
    expected = gradient_of_log_joint(problem, None)(points)
    np.testing.assert_allclose(np.mean(found, axis=0), expected, rtol=1e-10)
    assert np.std(found, axis=0).min() > 1e-3  # other rows were read


# --- The normal distribution of a curvature, and one step of its mean ----------------------------


def test_normal_from_curvature_has_the_inverse_information_as_covariance():
    """In the units given."""
    sd, H = np.array([1.0, 10.0, 0.1]), positive_definite(3)
    found = normal_from_curvature(np.arange(3.0), sd, H, SETTINGS)
    expected = np.linalg.inv(H) * np.outer(sd, sd)
    np.testing.assert_allclose(found.factor @ found.factor.T, expected, rtol=1e-10)
    np.testing.assert_array_equal(found.mean, np.arange(3.0))


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e308])
def test_normal_stays_where_gradients_are_out_of_range(value):
    """Without a warning, which the tests make an error."""
    start = MultivariateNormal(np.zeros(2), np.diag([10.0, 20.0]))
    gradients = np.array([value, -value])
    found = fit_normal(
        lambda x: np.broadcast_to(gradients, x.shape),
        start,
        np.random.default_rng(0),
        SETTINGS,
        100,
    )
    np.testing.assert_array_equal(found.factor, start.factor)


@pytest.mark.parametrize("smallest", [1e-9, 0.0, -5.0])
def test_normal_from_curvature_is_at_most_ten_times_wider_than_the_mean_field(smallest):
    """In flat and in saddle directions: ten sds of the mean field, never infinite."""
    information = np.diag([4.0, smallest])
    found = normal_from_curvature(np.zeros(2), np.ones(2), information, SETTINGS)
    np.testing.assert_allclose(found.factor @ found.factor.T, np.diag([0.25, 100.0]))


def test_shift_of_the_mean_is_exact_for_a_normal_target():
    """With the target's own covariance it is a Newton step; half the draws are antithetic."""
    H, m = positive_definite(3), np.array([0.3, -0.5, 0.2])
    factor = np.linalg.cholesky(np.linalg.inv(H))
    start = MultivariateNormal(m + factor @ [0.4, -1.0, 1.9], factor)
    settings = CalibrationSettings(shift_draws=6)
    found = shift_mean(lambda x: -(x - m) @ H, start, np.random.default_rng(0), settings)
    np.testing.assert_allclose(found.mean, m, atol=1e-12)
    assert found.factor is factor


def test_shift_of_the_mean_is_limited_and_not_made_if_it_is_nan():
    start = MultivariateNormal(np.zeros(2), np.eye(2))
    settings, rng = CalibrationSettings(shift_draws=4), np.random.default_rng(0)
    far = shift_mean(lambda x: np.array([30.0, -60.0]) - x, start, rng, settings)
    np.testing.assert_allclose(far.mean, [1.0, -2.0])
    broken = shift_mean(lambda x: x * np.nan, start, np.random.default_rng(0), settings)
    assert broken is start
