"""The normal distribution after more rows, against quadrature of prior times likelihood."""

import numpy as np
from builders import problem_for, started
from scipy import stats

from bgmm_jd.calibration.sequential import most_rows, updated_normal
from bgmm_jd.settings import MemorySettings, Settings
from bgmm_jd.variational.approximation import MultivariateNormal

N = 200
BEFORE = MultivariateNormal(np.array([0.1, -0.2]), np.array([[0.1, 0.0], [0.06, 0.12]]))


def problem_of_one_component(settings=None):
    """Return 200 rows of one feature, whose coordinates are its mean and log precision."""
    rows = np.random.default_rng(2).normal(0.2, 1.2, size=(N, 1))
    return problem_for(rows, 1, execution="graph", settings=settings or Settings())


def moments_by_quadrature(problem):
    """Return means and covariance of N(m, C) times the likelihood, on a grid over 8 sds."""
    z = problem.data.rows.values[:, 0].astype(np.float64)
    sds = np.sqrt(np.diag(BEFORE.factor @ BEFORE.factor.T))
    axes = [np.linspace(m - 8 * s, m + 8 * s, 401) for m, s in zip(BEFORE.mean, sds, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    mean, log_precision = points.T
    log_density = stats.multivariate_normal(BEFORE.mean, BEFORE.factor @ BEFORE.factor.T).logpdf(
        points
    )
    squares = ((z[:, np.newaxis] - mean) ** 2).sum(axis=0)
    log_density += 0.5 * N * log_precision - 0.5 * np.exp(log_precision) * squares
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    centre = weights @ points
    return centre, ((points - centre).T * weights) @ (points - centre)


def test_updated_normal_has_the_moments_of_prior_times_likelihood():
    """Of a posterior close to normal: means within 0.1 sd, sds within 8 %, as a step settles.

    Correlations by N(m, C), which has one of 0.45, are within 0.1.
    """
    problem = problem_of_one_component()
    normal, khat = updated_normal(problem, started(problem).params, BEFORE, seed=0)
    centre, covariance = moments_by_quadrature(problem)
    found, sds = normal.factor @ normal.factor.T, np.sqrt(np.diag(covariance))
    assert np.all(np.abs(normal.mean - centre) < 0.1 * sds)
    assert np.all(np.abs(np.log(np.sqrt(np.diag(found)) / sds)) < 0.08)
    correlations = [c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]) for c in (found, covariance)]
    assert abs(np.subtract(*correlations)) < 0.1
    assert khat < 0.5


def test_most_rows_are_those_whose_draws_are_affordable():
    """P = 2: 2 P 24 = 96 gradients of the curvature, and the 1,000 of k-hat, which are more."""
    affordable = Settings(memory=MemorySettings(affordable=150_000))
    assert most_rows(problem_of_one_component(affordable), P=2) == 150
    assert most_rows(problem_of_one_component(affordable), P=100) == 150_000 // (2 * 100 * 24)
