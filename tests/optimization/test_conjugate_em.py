"""Variational EM: its bound against Monte Carlo and exact answers, weights, and monotony."""

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.optimization.conjugate_em import (
    bound,
    expect,
    expect_without_own_row,
    feature_rows,
    maximise,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior, conjugate_prior
from bgmm_jd.settings import DefaultPriorSettings

every_form = pytest.mark.parametrize("form", FORMS)


def overlapping_rows(n=60, D=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, D)) + 1.5 * rng.integers(2, size=(n, 1))


def responsibilities(S, K, n, seed=1):
    """Return random responsibilities [S, K, n]."""
    return np.random.default_rng(seed).dirichlet(np.ones(K), size=(S, n)).swapaxes(1, 2)


def after_em(X, K, form, iterations, weight=None, S=1, prior=None, shares=None):
    """Return rows, prior, mixtures and every iteration's bounds [iterations, S]."""
    rows = feature_rows(X, np.ones(len(X)) if weight is None else weight, form)
    prior = prior or conjugate_prior(K, X.shape[1], form, DefaultPriorSettings())
    shares = responsibilities(S, K, len(X)) if shares is None else shares
    mixtures, trace = maximise(rows, prior, shares), []
    for _ in range(iterations):
        shares, log_sums = expect(rows, mixtures)
        trace.append(bound(rows, prior, mixtures, log_sums))
        mixtures = maximise(rows, prior, shares, mixtures)
    return rows, prior, mixtures, np.array(trace)


@every_form
@pytest.mark.parametrize("weighted", [False, True])
def test_bound_never_falls(form, weighted):
    """By more than rounding, 1e-15 of the terms of 60 rows; five mixtures at once."""
    X = overlapping_rows()
    weight = np.random.default_rng(2).uniform(0.0, 3.0, len(X)) if weighted else None
    *_, trace = after_em(X, 3, form, 60, weight, S=5)
    assert np.diff(trace, axis=0).min() > -1e-9
    assert (trace[-1] - trace[0]).min() > 1.0


@every_form
def test_bound_is_the_mean_of_log_joint_less_log_q(form):
    """Against SciPy's densities at draws of q, labels summed at q's own responsibilities.

    5 standard errors of the mean of 300 draws: a false alarm of 6e-7 for each form.
    """
    K, D, draws = 2, 2, 300
    rows, prior, mixtures, _ = after_em(overlapping_rows(30, D), K, form, 5)
    shares, log_sums = expect(rows, mixtures)
    exact = bound(rows, prior, mixtures, log_sums)[0]
    rng = np.random.default_rng(3)
    values = np.array([log_ratio(rows, prior, mixtures, shares[0], rng) for _ in range(draws)])
    assert abs(values.mean() - exact) < 5 * values.std() / np.sqrt(draws)


def log_ratio(rows, prior, mixtures, share, rng):
    """Return log p(rows, labels, theta) - log q(labels, theta) at one draw of q(theta)."""
    form, D = rows.form, rows.values.shape[1]
    concentration, means = mixtures.concentration[0], mixtures.mean[0]
    K = len(concentration)
    weights = rng.dirichlet(concentration)
    value = stats.dirichlet.logpdf(weights, np.full(K, prior.weights))
    value -= stats.dirichlet.logpdf(weights, concentration)
    drawn = np.empty((K, D))
    for k in range(K):
        spread = mixtures.mean_covariance[0, k]
        q = stats.multivariate_normal(means[k], spread if spread.ndim == 2 else np.diag(spread))
        drawn[k] = q.rvs(random_state=rng)
        p = stats.multivariate_normal(np.zeros(D), prior.mean_variance * np.eye(D))
        value += p.logpdf(drawn[k]) - q.logpdf(drawn[k])
    scale = mixtures.inverse_scale[0]
    if form in ("full", "tied"):
        shared = np.zeros((D, D))
        if prior.shared_df:
            q = stats.wishart(prior.shared_df + K * prior.df, np.linalg.inv(mixtures.shared[0, 0]))
            shared = q.rvs(random_state=rng)
            p = stats.wishart(prior.shared_df, np.eye(D) / prior.shared_scale)
            value += p.logpdf(shared) - q.logpdf(shared)
        precisions = []
        for df, inverse in zip(mixtures.df[0], scale, strict=True):
            q = stats.wishart(df, np.linalg.inv(inverse))
            precision = q.rvs(random_state=rng)
            value += log_prior_of_matrix(precision, prior, shared) - q.logpdf(precision)
            precisions.append(precision)
        precisions = precisions * (K if form == "tied" else 1)
    else:
        df = np.broadcast_to(mixtures.df[0][:, None], scale.shape)
        drawn_precisions = rng.gamma(df / 2, 2 / scale)
        q = stats.gamma(df / 2, scale=2 / scale).logpdf(drawn_precisions)
        p = stats.gamma(prior.df / 2, scale=2 / prior.scale).logpdf(drawn_precisions)
        value += (p - q).sum()
        precisions = [np.diag(np.broadcast_to(row, D)) for row in drawn_precisions]
    for k in range(K):
        likelihood = stats.multivariate_normal.logpdf(
            rows.values, drawn[k], np.linalg.inv(precisions[k])
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            entropy = np.where(share[k] > 0, share[k] * np.log(share[k]), 0.0)
        value += rows.weight @ (share[k] * (np.log(weights[k]) + likelihood) - entropy)
    return value


def log_prior_of_matrix(precision, prior, shared):
    """Return the Wishart density; with a shared scale, tilted by the floor and not normalised."""
    D = len(precision)
    if not prior.shared_df:
        return stats.wishart(prior.df, np.eye(D) / prior.scale).logpdf(precision)
    tilt = 0.5 * prior.scale * np.trace(precision)
    return stats.wishart(prior.df, np.linalg.inv(shared)).logpdf(precision) - tilt


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_bound_of_one_component_is_near_its_exact_evidence(form):
    """One feature, by quadrature over mean and log precision; q leaves out their dependence.

    The gap of a mean field of N rows is about 1 / (2 N) nats and positive: between 0 and 0.05.
    """
    X = overlapping_rows(40, 1)
    *_, prior, _, trace = after_em(X, 1, form, 50)
    mean, log_precision = np.meshgrid(np.linspace(-2, 4, 801), np.linspace(-4, 3, 801))
    precision = np.exp(log_precision)
    residual = ((X[:, 0, None, None] - mean) ** 2).sum(axis=0)
    log_joint = (
        20 * (log_precision - np.log(2 * np.pi))
        - 0.5 * precision * residual
        + stats.norm.logpdf(mean, 0, np.sqrt(prior.mean_variance))
        + stats.gamma.logpdf(precision, prior.df / 2, scale=2 / prior.scale)
        + log_precision
    )
    evidence = logsumexp(log_joint) + np.log(6 / 800) + np.log(7 / 800)
    assert 0.0 < evidence - trace[-1, 0] < 0.05


@every_form
def test_one_component_has_the_conjugate_posterior(form):
    """Degrees of freedom, and the fixed point of mean and scale, written out by hand."""
    X = overlapping_rows()
    N, D = X.shape
    _, prior, mixtures, _ = after_em(X, 1, form, 200)
    df = prior.df + (D * N if form == "spherical" else N)
    np.testing.assert_allclose(mixtures.df, df)
    scale, mean, spread = (v[0, 0] for v in mixtures[5:6] + mixtures[2:4])
    precision = df * np.linalg.inv(scale) if scale.ndim == 2 else df / scale * np.eye(D)
    expected = np.linalg.inv(N * precision + np.eye(D) / prior.mean_variance)
    spread = spread if spread.ndim == 2 else np.diag(spread)
    np.testing.assert_allclose(spread, expected, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(mean, expected @ precision @ X.sum(axis=0), rtol=1e-8)


@every_form
def test_weights_count_as_repeated_rows(form):
    """Also in responsibilities that leave a row out: one of its repetitions remains there."""
    X = overlapping_rows(20)
    times = np.random.default_rng(4).integers(1, 4, len(X))
    shares = responsibilities(1, 2, len(X))
    repeated = np.repeat(X, times, axis=0), np.repeat(shares, times, axis=2)
    own = after_em(X, 2, form, 10, times.astype(float), shares=shares)
    other = after_em(repeated[0], 2, form, 10, shares=repeated[1])
    np.testing.assert_allclose(own[3], other[3], rtol=1e-10)
    if form in ("full", "tied"):
        left_out = [expect_without_own_row(found[0], found[1], found[2]) for found in (own, other)]
        np.testing.assert_allclose(np.repeat(left_out[0], times, axis=2), left_out[1], atol=1e-9)


def test_responsibilities_without_the_own_row_are_those_after_its_removal():
    """Against Student's t densities of components from which each row is removed in turn.

    The prior of the means is flat. The formula keeps the uncertainty of the means in the scale,
    which the densities have not: what is left is less than half of what EM's responsibilities are
    off by, on the average over the rows.
    """
    X, K = overlapping_rows(30, 3), 2
    prior = ConjugatePrior(weights=2.0, mean_variance=1e8, df=5.0, scale=1.0)
    rows, _, mixtures, _ = after_em(X, K, "full", 30, prior=prior)
    plain, _ = expect(rows, mixtures)
    exact = np.array([share_without(i, X, plain[0], prior) for i in range(len(X))]).T
    found = expect_without_own_row(rows, prior, mixtures)[0]
    assert np.abs(found - exact).mean() < 0.5 * np.abs(plain[0] - exact).mean()


def share_without(i, X, share, prior):
    """Return the responsibilities [K] of row i under components of all other rows."""
    D, logs = X.shape[1], []
    for r in np.delete(share, i, axis=1):
        others, n = np.delete(X, i, axis=0), r.sum()
        mean = r @ others / n
        scale = prior.scale * np.eye(D) + (r[:, None] * (others - mean)).T @ (others - mean)
        df = prior.df + n + 1 - D
        density = stats.multivariate_t.logpdf(X[i], mean, scale * (n + 1) / n / df, df)
        logs.append(np.log(prior.weights + n) + density)
    return np.exp(logs - logsumexp(logs))
