"""The calibrated normal distribution: exact where the posterior is normal, sane where it is not."""

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.calibrate import Normal, calibrate
from bgmm_jd.coordinates import flatten, unflatten
from bgmm_jd.sampling import log_joint_of, mean_field, proposal, weighted
from bgmm_jd.units import as_tensors, unit


def test_normal_target_is_found_exactly():
    """log density -(x - m)^T H (x - m) / 2: its gradient is linear, so differences are exact."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    H, m = root @ root.T + np.eye(5), rng.normal(size=5)
    found = calibrate(
        lambda points: -(points - m) @ H, Normal(m + 1, np.eye(5)), np.random.default_rng(1)
    )
    np.testing.assert_allclose(found.mean, m, rtol=1e-8)
    np.testing.assert_allclose(found.factor @ found.factor.T, np.linalg.inv(H), rtol=1e-8)


def test_saddle_and_overflow_leave_finite_numbers():
    saddle = calibrate(
        lambda points: points * [1.0, -1.0],
        Normal(np.zeros(2), np.eye(2)),
        np.random.default_rng(0),
    )
    assert np.isfinite(saddle.mean).all()
    assert np.isfinite(saddle.factor).all()
    start = Normal(np.ones(2), np.eye(2))
    broken = calibrate(lambda points: points * np.nan, start, np.random.default_rng(0))
    assert broken is start


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_coordinates_go_and_come_back(dtype):
    prior = bgmm_jd.mixture_prior(3, 2, dtype=dtype)
    sites = bgmm_jd.surrogate.sites_of(prior)
    units = as_tensors(unit(2), dtype)
    theta = prior.sample(6, seed=(0, 1))._asdict()
    points = flatten(sites, theta, units)
    assert points.shape == (6, 2 + 6 + 6)
    back, _ = unflatten(sites, points, units)
    for name, v in theta.items():
        np.testing.assert_allclose(back[name], v, rtol=100 * np.finfo(dtype).eps)


def test_volume_is_the_jacobian():
    """Against the determinant of the derivative by automatic differentiation, K - 1 proportions."""
    prior = bgmm_jd.mixture_prior(3, 1, dtype="float64")
    sites = bgmm_jd.surrogate.sites_of(prior)
    units = as_tensors(unit(1), "float64")
    point = tf.constant(np.random.default_rng(0).normal(size=(1, 8)))
    with tf.GradientTape() as tape:
        tape.watch(point)
        theta, volume = unflatten(sites, point, units)
        free = [theta["weights"][:, :2], theta["means"][..., 0], theta["precisions"][..., 0]]
        flat = tf.concat(free, axis=1)
    jacobian = tape.jacobian(flat, point)[0, :, 0]
    np.testing.assert_allclose(volume[0], np.linalg.slogdet(jacobian)[1], rtol=1e-12)


def test_proposal_integrates_like_the_surrogate(two_clusters_posterior):
    """E_q[joint / q] is the evidence for any q: proposal and surrogate must agree on it.

    Within five standard errors of both, a false alarm once in two million runs; half a log K of
    misplaced volume, 0.35, is twenty of them.
    """
    inside = two_clusters_posterior.inside
    logs = []
    for draws in (
        mean_field(inside, 20_000, 3),
        proposal(inside, 20_000, np.random.default_rng(3)),
    ):
        log_ratio = log_joint_of(inside, draws) - draws.log_q.numpy()
        weight = np.exp(log_ratio - log_ratio.max())
        error = weight.std() / weight.mean() / len(weight) ** 0.5
        logs.append((np.log(weight.mean()) + log_ratio.max(), error))
    (one, one_error), (other, other_error) = logs
    assert abs(one - other) < 5 * np.hypot(one_error, other_error)


def test_few_draws_are_no_trouble(two_clusters_posterior):
    for n in (1, 2, 7):
        assert len(two_clusters_posterior.sample(n)["weights"]) == n


def test_weights_of_a_good_proposal(two_clusters_posterior):
    found = weighted(two_clusters_posterior.inside, 1_000, np.random.default_rng(0))
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.khat < 0.5
    assert 1 / (found.weights**2).sum() > 0.5 * len(found.weights)


def test_calibrated_draws_need_a_calibrated_fit(two_clusters):
    with pytest.warns(RuntimeWarning, match="khat too high"):  # mean field of 20 rows each: honest
        posterior = bgmm_jd.fit(two_clusters, 2, calibrate=False)
    with pytest.raises(ValueError, match="calibrate=True"):
        posterior.sample(5, calibrate=True)
