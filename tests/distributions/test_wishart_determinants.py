"""Expected powers of determinant ratios against quadrature, closed forms and Monte Carlo."""

import itertools

import numpy as np
import pytest
from numerical_checks import STANDARD_ERRORS
from scipy import integrate, special, stats

from bgmm_jd.distributions.wishart_determinants import log_expected_determinant_ratio


@pytest.mark.parametrize("df", [1.0, 2.5])
@pytest.mark.parametrize(("power", "ridge"), [(0.5, 3.0), (7.5, 1e-3), (50.0, 1e-4)])
def test_ratio_in_one_dimension_is_that_of_quadrature(df, power, ridge):
    """B is a chi-square variable; integrated over its log, where the integrand is smooth."""

    def integrand(t):
        return stats.chi2(df).pdf(np.exp(t)) * np.exp(t - power * np.log1p(ridge * np.exp(-t)))

    parts = np.linspace(-60.0, 6.0, 67)
    expected = sum(integrate.quad(integrand, a, b)[0] for a, b in itertools.pairwise(parts))
    found = log_expected_determinant_ratio(1, df, power, ridge)
    np.testing.assert_allclose(found, np.log(expected), rtol=0, atol=1e-8)


@pytest.mark.parametrize(("D", "df"), [(2, 2.0), (3, 3.5), (5, 5.0)])
def test_ratio_is_that_of_draws_in_few_dimensions(D, df):
    """Within 5 standard errors, and these are small: a false alarm of 6e-7."""
    power, ridge = 6.0, 0.02
    draws = stats.wishart(df, np.eye(D)).rvs(40_000, random_state=np.random.default_rng(D))
    ratios = np.exp(-power * np.log1p(ridge / np.linalg.eigvalsh(draws)).sum(axis=1))
    error = ratios.std() / np.sqrt(len(ratios))
    found = np.exp(log_expected_determinant_ratio(D, df, power, ridge))
    assert abs(found - ratios.mean()) < STANDARD_ERRORS * error < 0.05 * found


@pytest.mark.parametrize("D", [1, 2, 7, 10, 31, 50, 100])
def test_ratio_without_ridge_is_one(D):
    """The Pfaffian against Selberg's integral, which is a product of gamma functions."""
    assert abs(log_expected_determinant_ratio(D, float(D), 3.0, 0.0)) < 1e-9


@pytest.mark.parametrize("D", [2, 9, 10, 50])
def test_small_ridge_has_the_derivative_of_a_known_moment(D):
    """The derivative at ridge 0 is -power E[tr B^-1] = -power D / (df - D - 1), Muirhead (1982)."""
    df, power, ridge = D + 6.0, 2.0, 1e-6
    found = log_expected_determinant_ratio(D, df, power, ridge) / ridge
    # The second-order term is some (power tr B^-1)^2 ridge; 1e-9 / ridge is the accuracy claimed.
    expected = -power * D / (df - D - 1.0)
    assert abs(found - expected) < 10 * expected**2 * ridge + 1e-9 / ridge


@pytest.mark.parametrize("D", [4, 50])
def test_ratio_with_a_large_ridge_is_that_of_draws_with_more_degrees_of_freedom(D):
    """|B|^power makes a W(df + 2 power) of W(df), up to the known moment E |B|^power.

    What is left to average, |B + ridge I|^-power, hardly varies if the ridge is large. Within 5
    standard errors, which are below 0.02 nats.
    """
    df, power, ridge = D + 1.0, 0.5, 0.3 * D
    rng = np.random.default_rng(D)
    draws = stats.wishart(df + 2 * power, np.eye(D)).rvs(4_000, random_state=rng)
    logs = -power * np.linalg.slogdet(draws + ridge * np.eye(D))[1]
    weights = np.exp(logs - logs.max())
    error = weights.std() / weights.mean() / np.sqrt(len(weights))
    log_moment = (
        special.multigammaln(df / 2 + power, D)
        - special.multigammaln(df / 2, D)
        + power * D * np.log(2)
    )
    expected = np.log(weights.mean()) + logs.max() + log_moment
    assert error < 0.02
    assert abs(log_expected_determinant_ratio(D, df, power, ridge) - expected) < 5 * error


def test_plain_draws_miss_the_ratio_in_many_dimensions():
    """By more than 5 nats, with the mean too small: why draws are not used."""
    D, power, ridge = 50, 81.0, 0.01
    draws = stats.wishart(D, np.eye(D) * 4 / D).rvs(500, random_state=np.random.default_rng(0))
    logs = -power * np.log1p(ridge / np.linalg.eigvalsh(draws)).sum(axis=1)
    plain = special.logsumexp(logs) - np.log(len(logs))
    exact = log_expected_determinant_ratio(D, float(D), power, ridge * D / 4)
    assert plain < exact - 5.0
