"""The calibrated normal distribution: exact where the posterior is normal, sane where it is not."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.calibration.averaged_curvature import fit_normal, gradient_of_log_joint
from bgmm_jd.calibration.importance_sampling import (
    WeightedDraws,
    draw_proposal,
    draw_weighted,
    surrogate_khat,
)
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.data.units import (
    MATRIX_TRANSFORMATIONS,
    as_standardization_tensors,
    identity_standardization,
)
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS
from bgmm_jd.model.priors import stick_breaking_prior
from bgmm_jd.variational import approximation
from bgmm_jd.variational.approximation import MultivariateNormal, draw_mean_field
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.structure import model_of
from bgmm_jd.variational.surrogate import without_cholesky


def test_normal_target_is_found_exactly():
    """log density -(x - m)^T H (x - m) / 2: its gradient is linear, so differences are exact."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    H, m = root @ root.T + np.eye(5), rng.normal(size=5)
    found = fit_normal(
        lambda points: -(points - m) @ H,
        MultivariateNormal(m + 1, np.eye(5)),
        np.random.default_rng(1),
    )
    np.testing.assert_allclose(found.mean, m, rtol=1e-8)
    np.testing.assert_allclose(found.factor @ found.factor.T, np.linalg.inv(H), rtol=1e-8)


@pytest.mark.parametrize("P", [3, 30, 100])
def test_fixed_point_of_a_posterior_that_is_not_normal(P):
    """log density -x^2 / 2 - a x^4 / 4 of each coordinate, turned by an orthogonal matrix.

    Differences one sd to either side of N(0, C) have the mean 1 + 4 a C, so C (1 + 4 a C) = 1. The
    last step may leave undone what gives log weights a variance of 0.2 nats^2, and as much again
    for its noise.
    """
    a, rng = 0.05, np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(P, P)))[0]

    def gradient(points):
        x = points @ turn
        return -(x + a * x**3) @ turn.T

    found = fit_normal(gradient, MultivariateNormal(0.3 * turn[0], np.eye(P)), rng)
    C = (np.sqrt(1 + 16 * a) - 1) / (8 * a)
    off = found.factor @ found.factor.T / C - np.eye(P)
    assert (off**2).sum() / 2 + found.mean @ found.mean / C < 0.4


def test_moments_of_too_few_draws_are_no_use(two_clusters_posterior):
    """9 parameters: 40 draws of equal weight give log weights a variance of 1; there is none."""
    inside = two_clusters_posterior.inside
    draws = draw_mean_field(inside, 40, 0)
    assert (
        importance_sampling.normal_from_weighted(
            inside, WeightedDraws(draws, np.full(40, 1 / 40), 0.5)
        )
        is None
    )
    found = draw_weighted(inside, 2_000, np.random.default_rng(0))
    assert len(importance_sampling.normal_from_weighted(inside, found).mean) == 9


def test_saddle_and_overflow_leave_finite_numbers():
    saddle = fit_normal(
        lambda points: points * [1.0, -1.0],
        MultivariateNormal(np.zeros(2), np.eye(2)),
        np.random.default_rng(0),
    )
    assert np.isfinite(saddle.mean).all()
    assert np.isfinite(saddle.factor).all()
    start = MultivariateNormal(np.ones(2), np.eye(2))
    broken = fit_normal(lambda points: points * np.nan, start, np.random.default_rng(0))
    assert broken is start


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("form", "spread"), [("diag", 6), ("full", 9), ("tied", 3), ("spherical", 3)]
)
def test_coordinates_go_and_come_back(form, spread, dtype):
    prior = bgmm_jd.mixture_prior(3, 2, covariance=form, dtype=dtype)
    sites = bgmm_jd.surrogate.sites_of(prior, form)
    units = as_standardization_tensors(identity_standardization(2), dtype)
    theta = prior.sample(6, seed=(0, 1))._asdict()
    points = flatten(sites, theta, units)
    assert points.shape == (6, 2 + 6 + spread)
    back, _ = unflatten(sites, points, units)
    eps = np.finfo(dtype).eps
    for name, v in theta.items():
        # What is off the diagonal of a matrix is as good as the diagonal, which is near 1.
        small = 10 * eps if name == "precisions" and form in MATRIX_FORMS else 0
        np.testing.assert_allclose(back[name], v, rtol=100 * eps, atol=small)


@pytest.mark.parametrize("expanded", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_gradient_of_log_joint(form, use_statistics):
    """Against differences of the density of theta and rows, with weights and missing entries."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 2))
    if not use_statistics:  # as a matrix product the likelihood takes complete rows only
        X[2, 0] = X[5, 1] = X[7, 1] = np.nan
    weight = rng.uniform(0.5, 2.0, 12)
    prior = bgmm_jd.mixture_prior(2, 2, covariance=form, dtype="float64")
    model = model_of(prior, form)
    rows = as_row_tensors(
        as_standardized_rows(X, identity_standardization(2))._replace(weight=weight)
    )
    units = as_standardization_tensors(identity_standardization(2), "float64")
    gradient = gradient_of_log_joint(model, rows, units, 3, use_statistics, "graph")
    point = flatten(model.sites, prior.sample(1, seed=(0, 1))._asdict(), units).numpy()[0]
    P = len(point)

    def density(points):
        theta, volume = unflatten(model.sites, tf.constant(points), units)
        theta = without_cholesky(model.sites, theta)  # by decompositions of its own
        likelihood = likelihood_module.row_log_likelihood(theta, rows, form).numpy() @ weight
        return prior.log_prob(**theta).numpy() + likelihood + volume.numpy()

    # Central differences: the third derivative times h^2 / 6, and eps of some hundred nats over h.
    h = 1e-4
    expected = (density(point + h * np.eye(P)) - density(point - h * np.eye(P))) / (2 * h)
    found = gradient(np.stack([point] * 4))  # more points than one call takes
    assert found.shape == (4, P)
    if use_statistics:  # a product of matrices may sum in another order for each
        np.testing.assert_allclose(found, np.tile(found[:1], (4, 1)), rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_array_equal(found, np.tile(found[:1], (4, 1)))
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def free_entries(site, value):
    """What can be chosen of a variable [1, ...]: K - 1 proportions, the triangle of a matrix."""
    if site.name == "weights":
        return value[0, :-1]
    if site.unit in MATRIX_TRANSFORMATIONS:
        return tf.boolean_mask(value[0], np.broadcast_to(np.tri(value.shape[-1]) > 0, site.shape))
    return tf.reshape(value, [-1])


@pytest.mark.parametrize("form", [*FORMS, "sticks"])
def test_volume_is_the_jacobian(form):
    """Against the determinant of the derivative by automatic differentiation, K - 1 proportions."""
    if form == "sticks":
        form, prior = "diag", stick_breaking_prior(3, 2, dtype="float64")
    else:
        prior = bgmm_jd.mixture_prior(3, 2, covariance=form, dtype="float64")
    sites = bgmm_jd.surrogate.sites_of(prior, form)
    units = as_standardization_tensors(identity_standardization(2), "float64")
    size = flatten(sites, prior.sample(1, seed=(0, 1))._asdict(), units).shape[1]
    point = tf.constant(np.random.default_rng(0).normal(size=(1, size)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        theta, volume = unflatten(sites, point, units)
        flat = tf.concat([free_entries(site, theta[site.name]) for site in sites], axis=0)
    jacobian = tape.jacobian(flat, point, experimental_use_pfor=False)[:, 0]
    np.testing.assert_allclose(volume[0], np.linalg.slogdet(jacobian)[1], rtol=1e-12)


def test_proposal_integrates_like_the_surrogate(two_clusters_posterior):
    """E_q[joint / q] is the evidence for any q: proposal and surrogate must agree on it.

    Within five standard errors of both, a false alarm once in two million runs; half a log K of
    misplaced volume, 0.35, is twenty of them.
    """
    inside = two_clusters_posterior.inside
    logs = []
    for draws in (
        draw_mean_field(inside, 20_000, 3),
        draw_proposal(inside, 20_000, np.random.default_rng(3)),
    ):
        log_ratio = log_joint_of_draws(inside, draws) - draws.log_q.numpy()
        weight = np.exp(log_ratio - log_ratio.max())
        error = weight.std() / weight.mean() / len(weight) ** 0.5
        logs.append((np.log(weight.mean()) + log_ratio.max(), error))
    (one, one_error), (other, other_error) = logs
    assert abs(one - other) < 5 * np.hypot(one_error, other_error)


def test_few_draws_are_no_trouble(two_clusters_posterior):
    for n in (1, 2, 7):
        assert len(two_clusters_posterior.sample(n)["weights"]) == n


def test_many_draws_are_weighted_too(two_clusters_posterior, monkeypatch):
    """Where three proposals for each draw are out of reach there is one, and it has its weight."""
    inside = two_clusters_posterior.inside
    monkeypatch.setattr(approximation, "_AFFORDABLE", 300 * inside.numbers)
    assert len(draw_weighted(inside, 250, np.random.default_rng(0)).weights) == 300
    assert len(draw_weighted(inside, 1_000, np.random.default_rng(0)).weights) == 1_000
    drawn = two_clusters_posterior.sample(1_000)["weights"]
    assert len(np.unique(drawn[:, 0])) < 1_000  # as weights repeat some


def test_no_draw_with_a_density(two_clusters_posterior, monkeypatch):
    """The worst k-hat, not the best."""
    nowhere = lambda inside, draws: np.full(len(draws.log_q), np.nan)  # noqa: E731
    monkeypatch.setattr(importance_sampling, "log_joint_of", nowhere)
    found = draw_weighted(two_clusters_posterior.inside, 100, np.random.default_rng(0))
    assert found.khat == np.inf
    np.testing.assert_array_equal(found.weights, 1 / 300)


def test_khat_where_the_elbo_took_few_draws(two_clusters_posterior):
    """Few are as many as it takes, not a k-hat that is not known."""
    inside = two_clusters_posterior.inside
    few = draw_mean_field(inside, 32, seed=0)
    assert np.isfinite(surrogate_khat(inside, few, seed=0))


def test_weights_of_a_good_proposal(two_clusters_posterior):
    found = draw_weighted(two_clusters_posterior.inside, 1_000, np.random.default_rng(0))
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.khat < 0.5
    assert 1 / (found.weights**2).sum() > 0.5 * len(found.weights)


def test_calibrated_draws_need_a_calibrated_fit(two_clusters):
    """The k-hat of a mean field of 20 rows each is near 0.7: on either side, the status says so."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        posterior = bgmm_jd.fit(two_clusters, 2, calibrate=False)
    too_high = posterior.khat > 0.7
    assert (posterior.status is bgmm_jd.Status.KHAT_TOO_HIGH) == too_high
    assert any("khat too high" in str(w.message) for w in told) == too_high
    with pytest.raises(ValueError, match="calibrate=True"):
        posterior.sample(5, calibrate=True)
