"""Mixtures of t distributions against SciPy's, and fits that recover a known mixture."""

import numpy as np
import pytest
from scipy import special, stats

from bgmm_jd.sampling import student_mixture
from bgmm_jd.variational.approximation import StudentMixture

Z_ALARM = 4.5  # false alarms: 7e-6 for each number compared

MIXTURE = StudentMixture(
    weights=np.array([0.3, 0.7]),
    means=np.array([[-3.0, 0.0, 1.0], [2.0, 1.0, -1.0]]),
    factors=np.array(
        [
            [[0.5, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.3, 0.1, 0.4]],
            [[1.0, 0.0, 0.0], [0.0, 0.3, 0.0], [0.5, 0.2, 2.0]],
        ]
    ),
    df=8.0,
)


def log_density(mixture, points):
    maps = student_mixture.whitening(mixture)
    distances = student_mixture.squared_distances(maps, points)
    return special.logsumexp(student_mixture.log_terms(maps, distances, mixture.df), axis=1)


def test_density_is_that_of_scipy():
    points = np.random.default_rng(0).normal(scale=3.0, size=(20, 3))
    expected = np.zeros(20)
    for weight, mean, factor in zip(*MIXTURE[:3], strict=True):
        expected += weight * stats.multivariate_t(mean, factor @ factor.T, df=8.0).pdf(points)
    np.testing.assert_allclose(log_density(MIXTURE, points), np.log(expected), rtol=1e-10)


def test_draws_have_the_moments_of_the_mixture():
    n = 200_000
    points = student_mixture.draw(MIXTURE, n, np.random.default_rng(1))
    mean = MIXTURE.weights @ MIXTURE.means
    covariance = -np.outer(mean, mean)
    for weight, centre, factor in zip(*MIXTURE[:3], strict=True):
        own = factor @ factor.T * MIXTURE.df / (MIXTURE.df - 2.0)
        covariance += weight * (own + np.outer(centre, centre))
    se = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(points.mean(axis=0) - mean) < Z_ALARM * se).all()
    products = (points - mean)[:, :, np.newaxis] * (points - mean)[:, np.newaxis]
    se = products.std(axis=0) / n**0.5
    assert (np.abs(products.mean(axis=0) - covariance) < Z_ALARM * se).all()


def test_each_member_has_its_share_of_the_draws():
    far = MIXTURE._replace(means=MIXTURE.means * [[1000.0], [1000.0]])
    points = student_mixture.draw(far, 1_000, np.random.default_rng(2))
    assert (points[:, 0] < 0.0).sum() in (300, 301)  # stratified


def test_a_fit_to_weighted_draws_recovers_the_mixture():
    """Draws of wide t distributions, weighted by mixture / t, are draws of the mixture.

    They are worth more than 5,000, so that the limits are at least four standard errors.
    """
    rng = np.random.default_rng(3)
    points = stats.t(5, scale=2.0).rvs((100_000, 3), random_state=rng)
    log_weight = log_density(MIXTURE, points) - stats.t.logpdf(points, 5, scale=2.0).sum(axis=1)
    weight = np.exp(log_weight) / np.exp(log_weight).sum()
    assert 1.0 / (weight**2).sum() > 5_000
    start = MIXTURE._replace(
        weights=np.array([0.5, 0.5]), means=MIXTURE.means + 0.5, factors=1.5 * MIXTURE.factors
    )
    found = student_mixture.refit(start, points, weight, steps=40)
    np.testing.assert_allclose(found.weights, MIXTURE.weights, atol=0.03)
    np.testing.assert_allclose(found.means, MIXTURE.means, atol=0.15)
    for factor, expected in zip(found.factors, MIXTURE.factors, strict=True):
        scale = expected @ expected.T
        np.testing.assert_allclose(factor @ factor.T, scale, atol=0.15 * scale.max())


def test_members_without_draws_are_dropped():
    start = MIXTURE._replace(means=np.array([[-1e6, 0.0, 0.0], [2.0, 1.0, -1.0]]))
    points = student_mixture.draw(MIXTURE, 500, np.random.default_rng(4))
    found = student_mixture.refit(start, points, np.full(500, 1.0 / 500), steps=2)
    assert len(found.weights) == 1


@pytest.mark.parametrize("members", [1, 5])
def test_a_cloud_is_covered(members):
    """The fitted mixture gives the cloud a higher density than one normal with its moments."""
    points = student_mixture.draw(MIXTURE, 2_000, np.random.default_rng(5))
    found = student_mixture.fit_cloud(points, members, 8.0, np.random.default_rng(6))
    normal = stats.multivariate_normal(points.mean(axis=0), np.cov(points.T)).logpdf(points)
    assert len(found.weights) == members
    assert log_density(found, points).mean() > normal.mean()
