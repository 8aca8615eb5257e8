"""Annealed particles: what they begin with, how they are weighted, and their groups."""

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for

import bgmm_jd
from bgmm_jd.sampling.annealing import anneal, prior_points, weights_after_rise
from bgmm_jd.sampling.evidence import evidence_of_groups
from bgmm_jd.settings import AnnealingSettings
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.tempered import Tempered, TemperedDensity

Z_ALARM = 4.5  # false alarms: 7e-6


def test_prior_points_are_draws_of_the_prior():
    prior = bgmm_jd.mixture_prior(2, 1, dtype="float64")
    problem = problem_for(np.linspace(-1.0, 1.0, 10)[:, np.newaxis], 2, prior=prior)
    points = prior_points(problem, 20_000, np.random.default_rng(0))
    theta, _ = unflatten(problem.standardized_model, tf.constant(points))
    precisions = theta["precisions"].numpy() / problem.data.standardization.scale[0] ** 2
    # Gamma(5, 5) has mean 1 and sd 1 / sqrt(5).
    assert abs(precisions.mean() - 1.0) < Z_ALARM * (0.2 / 40_000) ** 0.5
    # Dirichlet(2, 2): the first weight has mean 1 / 2 and variance 1 / 20.
    first = theta["weights"].numpy()[:, 0]
    assert abs(first.mean() - 0.5) < Z_ALARM * (0.05 / 20_000) ** 0.5
    assert abs(first.var() / 0.05 - 1.0) < Z_ALARM * (2.0 / 20_000) ** 0.5


def test_weights_are_powers_of_the_likelihood_in_each_group():
    likelihood = np.array([[0.0, -2.0, np.nan], [-900.0, np.inf, -904.0]])
    weight, log_mean = weights_after_rise(likelihood, 0.5)
    first, second = np.exp([0.0, -1.0]), np.exp([0.0, -2.0])
    np.testing.assert_allclose(weight[0], [*first / first.sum(), 0.0])
    np.testing.assert_allclose(weight[1], [second[0] / second.sum(), 0.0, second[1] / second.sum()])
    np.testing.assert_allclose(log_mean, [np.log(first.sum() / 3), np.log(second.sum() / 3) - 450])


def test_evidence_of_groups_is_their_mean_with_its_error_by_hand():
    found = evidence_of_groups(np.log([1.0, 2.0, 3.0]) - 900.0)
    assert found.log == pytest.approx(np.log(2.0) - 900.0)
    assert found.se == pytest.approx(1.0 / 2.0 / 3.0**0.5)
    assert np.isnan(evidence_of_groups(np.array([0.0, -50.0, -50.0]))).all()
    assert np.isnan(evidence_of_groups(np.full(4, -np.inf))).all()


def test_each_group_has_the_posterior():
    """One normal distribution: the mean of its draws is known from the rows."""
    rows = np.random.default_rng(3).normal(size=(30, 1))
    problem, settings = problem_for(rows, 1), AnnealingSettings(particles=400)
    groups = anneal(TemperedDensity(problem), np.random.default_rng(4), settings, groups=3).points
    assert groups.shape == (3, 400, 2)
    together = groups.reshape(-1, 2)
    # Particles have common ancestors: 400 are worth 100 at the least.
    error = np.abs(groups.mean(axis=1) - together.mean(axis=0)) / together.std(axis=0)
    assert (error < Z_ALARM / 100**0.5).all()
    assert len(np.unique(together, axis=0)) > 1_000


@pytest.mark.filterwarnings("error")
def test_no_particles_where_the_likelihood_is_not_finite(monkeypatch):
    problem = problem_for(np.zeros((5, 1)), 1)
    posterior = TemperedDensity(problem)
    found = TemperedDensity.density(posterior, np.zeros((8, 2)))
    nowhere = found._replace(log_likelihood=np.full(8, -np.inf))
    monkeypatch.setattr(TemperedDensity, "density", lambda *_: nowhere)
    settings = AnnealingSettings(particles=4)
    found = anneal(posterior, np.random.default_rng(0), settings, groups=2)
    assert found.points.shape == (2, 0, 2)
    assert (found.log_evidence == -np.inf).all()


def test_no_particles_where_the_posterior_is_too_far_from_the_prior(monkeypatch):
    """So far that the power of the likelihood would have to grow in thousands of steps."""

    def density(target, points):
        n = len(points)
        likelihood = -1e12 * np.linspace(1.0, 2.0, n)
        still = np.zeros_like(points)
        return Tempered(np.zeros(n), likelihood, still, still)

    problem = problem_for(np.linspace(-1.0, 1.0, 10)[:, np.newaxis], 2)
    monkeypatch.setattr(TemperedDensity, "density", density)
    monkeypatch.setattr(
        TemperedDensity,
        "follow",
        lambda target, points, velocity, *_: (points, velocity, target.density(points)),
    )
    found = anneal(
        TemperedDensity(problem), np.random.default_rng(0), AnnealingSettings(particles=20), 2
    )
    assert found.points.shape[:2] == (2, 0)
    np.testing.assert_array_equal(found.log_evidence, [-np.inf, -np.inf])
