"""Leave-one-out against quadrature, repeated rows, and draws whose weights are known.

Statistical tests raise a false alarm with probability 1e-6 each; the seeds are fixed.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import with_data, with_memory
from scipy import special, stats

import bgmm_jd
from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.calibration import importance_sampling
from bgmm_jd.data.standardize import standardize
from bgmm_jd.posterior.densities import row_log_likelihood
from bgmm_jd.posterior.draws import draw_standardized
from bgmm_jd.reporting import leave_one_out as leave_one_out_module
from bgmm_jd.reporting.comparison import compare
from bgmm_jd.reporting.leave_one_out import (
    FEWEST_DRAWS,
    UNKNOWN_LOO,
    leave_one_out,
    limit_copies,
    loo_from_likelihood,
    suppress_known_warnings,
)
from bgmm_jd.variational.approximation import Draws

Z_ALARM = stats.norm.isf(1e-6 / 2)
S, SEED = 1000, 3


# --- Exact answers ------------------------------------------------------------------------------


def log_evidence_of_feature(x, shift, scale):
    """Return log p(x) of one column under one component and the default prior, by quadrature.

    mean ~ Normal(shift, 2 scale) integrated out in closed form; tau ~ Gamma(1, 0.1 scale^2) by the
    trapezoid rule in log tau, which converges like exp(-n) for so smooth a density.
    """
    log_tau = np.linspace(-12.0, 8.0, 2001) - 2.0 * np.log(scale)
    tau, n, r = np.exp(log_tau), len(x), x - shift
    s2 = (2.0 * scale) ** 2
    # x given tau has covariance I / tau + s2 11^T: determinant and inverse by Sherman-Morrison.
    log_det = -n * log_tau + np.log1p(n * s2 * tau)
    square = tau * ((r**2).sum() - s2 * tau * r.sum() ** 2 / (1.0 + n * s2 * tau))
    likelihood = -0.5 * (n * np.log(2 * np.pi) + log_det + square)
    prior = stats.gamma.logpdf(tau, 1.5, scale=1.0 / (0.25 * scale**2)) + log_tau
    return special.logsumexp(likelihood + prior) + np.log(log_tau[1] - log_tau[0])


@pytest.fixture(scope="module")
def exact(clustered_rows):
    """The exact log evidence and elpd of leave-one-out for K = 1."""
    X = clustered_rows
    shift, scale = X.mean(axis=0), X.std(axis=0)
    evidence = elpd = 0.0
    for d in range(2):
        whole = log_evidence_of_feature(X[:, d], shift[d], scale[d])
        without = [
            log_evidence_of_feature(np.delete(X[:, d], n), shift[d], scale[d])
            for n in range(len(X))
        ]
        evidence += whole
        elpd += len(X) * whole - sum(without)
    return evidence, elpd


def likelihood_of(theta, X):
    sds = theta["precisions"][:, np.newaxis] ** -0.5
    each = stats.norm.logpdf(X[:, np.newaxis], theta["means"][:, np.newaxis], sds)
    return special.logsumexp(each.sum(axis=-1), b=theta["weights"][:, np.newaxis], axis=-1)


def noise_of_elpd(posterior, X, effective):
    """Return the Monte Carlo sd of `elpd_loo` from that many independent draws.

    elpd = -sum_n log mean_s r_n(s), r_n = 1 / p(x_n given theta_s). To first order in the noise
    that is the mean over draws of sum_n r_n(s) / E[r_n].
    """
    likelihood = likelihood_of(posterior.sample(5000, seed=77), X)
    ratio = np.exp(likelihood.min(axis=0) - likelihood)
    return (ratio / ratio.mean(axis=0)).sum(axis=1).std() / np.sqrt(effective)


def effective_draws(posterior):
    """Return a lower bound of the effective sample size of S resampled draws."""
    rng = np.random.default_rng(9)
    weights = importance_sampling.draw_weighted(posterior.approximation, S, rng).weights
    return 1.0 / (1.0 / S + (weights**2).sum())


def test_elpd_and_evidence_of_one_component_agree_with_quadrature(
    calibrated, clustered_rows, exact
):
    evidence, elpd = exact
    posterior = calibrated(1)
    row = compare({"one": posterior}, clustered_rows, draws=S, seed=SEED).loc["one"]
    noise = noise_of_elpd(posterior, clustered_rows, effective_draws(posterior))
    assert abs(row["elpd_loo"] - elpd) < Z_ALARM * noise
    assert abs(row["log_evidence"] - evidence) < Z_ALARM * row["log_evidence_se"]
    assert row["log_evidence_se"] < 0.1
    # A mean-field surrogate of one component misses little of it: mean and precision are nearly
    # independent, with correlations of order 1 / N.
    assert evidence - 0.5 < posterior.evidence_bound < evidence + Z_ALARM * posterior.elbo_se


def test_a_poor_surrogate_is_corrected_by_its_weights(
    calibrated, uncalibrated, clustered_rows, exact
):
    """With sds of the means twice too large, az.loo of the plain draws would be wrong."""
    _, elpd = exact
    fit = uncalibrated(1)
    params = {name: dict(parameters) for name, parameters in fit.approximation.params.items()}
    params["means"]["scale"] = 2.0 * params["means"]["scale"]
    poor = replace(fit, approximation=replace(fit.approximation, params=params))
    assert not poor.calibrated
    found = leave_one_out(poor, clustered_rows, S, SEED)
    noise = noise_of_elpd(calibrated(1), clustered_rows, effective_draws(poor))
    assert abs(found.elpd - elpd) < Z_ALARM * noise
    idata = bgmm_jd.to_inference_data(poor, clustered_rows, draws=S, seed=SEED)
    with suppress_known_warnings():
        plain = import_arviz().loo(idata)
    plain_elpd = plain.elpd_loo if arviz_major_version() < 1 else plain.elpd
    assert abs(plain_elpd - elpd) > 2.0 * Z_ALARM * noise


def test_uncalibrated_and_calibrated_fits_agree(calibrated, uncalibrated, clustered_rows):
    posteriors = uncalibrated(2), calibrated(2)
    elpds = [leave_one_out(p, clustered_rows, S, SEED).elpd for p in posteriors]
    noise = [noise_of_elpd(calibrated(2), clustered_rows, effective_draws(p)) for p in posteriors]
    assert abs(elpds[0] - elpds[1]) < Z_ALARM * np.hypot(*noise)


# --- Row weights and missing entries ------------------------------------------------------------


def loo_of_rows(posterior, X, draws):
    """Return leave-one-out of any rows, whatever the rows of the fit."""
    sampled = importance_sampling.draw_calibrated(posterior.approximation, draws, 0, weighted=True)
    kept = limit_copies(sampled.log_q.numpy())
    likelihood = row_log_likelihood(posterior, sampled, X)[kept]
    return loo_from_likelihood(likelihood, sampled.theta["weights"].numpy()[kept])


def test_whole_weights_are_repeated_rows(uncalibrated, clustered_rows):
    weight = np.random.default_rng(5).integers(0, 4, len(clustered_rows))
    kept, counts = clustered_rows[weight > 0], weight[weight > 0]
    posterior = with_data(uncalibrated(2), standardize(clustered_rows, weight))
    found = leave_one_out(posterior, kept, 200, 0)
    expected = loo_of_rows(posterior, np.repeat(kept, counts, axis=0), draws=200)
    assert found.elpd == pytest.approx(expected.elpd, rel=1e-9)
    assert found.se == pytest.approx(expected.se, rel=1e-9)
    assert found.p == pytest.approx(expected.p, rel=1e-6)


def test_other_weights_have_no_leave_one_out(uncalibrated, clustered_rows):
    data = standardize(clustered_rows, np.linspace(0.5, 1.5, len(clustered_rows)))
    assert leave_one_out(with_data(uncalibrated(2), data), clustered_rows, 200, 0) is UNKNOWN_LOO


def test_millions_of_copies_have_no_leave_one_out(uncalibrated, clustered_rows):
    """Their log likelihoods under 100 draws would take 8 GB for each ten million."""
    data = standardize(clustered_rows, np.full(len(clustered_rows), 1e6))
    assert leave_one_out(with_data(uncalibrated(2), data), clustered_rows, 200, 0) is UNKNOWN_LOO


def test_rows_without_observed_entries_do_not_count(uncalibrated, clustered_rows):
    holes = clustered_rows.copy()
    holes[::7, 1] = np.nan
    holes[5] = np.nan
    posterior = with_data(uncalibrated(2), standardize(holes), missing="marginalize")
    found = leave_one_out(posterior, holes, 200, 0)
    expected = loo_of_rows(posterior, np.delete(holes, 5, axis=0), draws=200)
    assert found.elpd == pytest.approx(expected.elpd, rel=1e-9)
    assert found.k_max == pytest.approx(expected.k_max, rel=1e-6)


# --- Draws with much weight, and fewer draws ----------------------------------------------------


def test_draws_are_kept_at_most_sqrt_s_times():
    draws = np.random.default_rng(3).permutation(
        np.r_[np.zeros(400), np.ones(20), np.arange(2, 582)]
    )
    kept = limit_copies(draws)
    values, copies = np.unique(draws[kept], return_counts=True)
    assert dict(zip(values, copies, strict=True)) == {0: 31, 1: 20} | dict.fromkeys(
        range(2, 582), 1
    )
    assert (np.diff(kept) > 0).all()
    assert len(limit_copies(np.arange(50.0))) == 50


@pytest.mark.contract
@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_draw_with_much_weight_is_limited_and_reported(
    calibrated, clustered_rows, share, monkeypatch
):
    """With a fifth of the weight its copies are limited; with nearly all of it elpd is unknown."""

    def with_many_copies(*arguments, source=draw_standardized, **options):
        draws = source(*arguments, **options)
        n = len(draws.log_q)
        chosen = np.maximum(np.arange(n) - int(share * n), 0)
        theta = {name: tf.gather(v, chosen) for name, v in draws.theta.items()}
        return Draws(theta, draws.points[chosen], tf.gather(draws.log_q, chosen))

    expected = leave_one_out(calibrated(1), clustered_rows, S, 0)
    monkeypatch.setattr(leave_one_out_module, "draw_standardized", with_many_copies)
    found = leave_one_out(calibrated(1), clustered_rows, S, 0)
    assert found.warning
    assert not expected.warning
    if share > 0.5:
        assert math.isnan(found.elpd)
    else:
        assert abs(found.elpd - expected.elpd) < expected.p


def test_many_rows_have_fewer_draws(calibrated, clustered_rows, monkeypatch):
    taken = []

    def count_draws(posterior, n, *arguments, source=draw_standardized, **options):
        taken.append(n)
        return source(posterior, n, *arguments, **options)

    monkeypatch.setattr(leave_one_out_module, "draw_standardized", count_draws)
    N = len(clustered_rows)
    for draws_in_memory, draws in ((300, 1000), (300, 200), (7, 1000)):
        posterior = with_memory(calibrated(1), leave_one_out=draws_in_memory * N)
        leave_one_out(posterior, clustered_rows, draws, 0)
    assert taken == [300, 200, FEWEST_DRAWS]
