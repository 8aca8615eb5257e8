"""Draws of a posterior that has diverged: where they are returned, and where they are refused."""

from dataclasses import replace

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.posterior.draws import are_mixtures

X = np.zeros((3, 2))
REFUSING = {
    "predict": lambda posterior: bgmm_jd.predict(posterior, X),
    "log_density": lambda posterior: bgmm_jd.log_density(posterior, X),
    "sample_predictive": lambda posterior: bgmm_jd.sample_predictive(posterior, 5),
    "impute": lambda posterior: bgmm_jd.impute(posterior, [[np.nan, 0.0]]),
    "marginal": lambda posterior: bgmm_jd.marginal(posterior, [0]),
    "conditional": lambda posterior: bgmm_jd.conditional(posterior, {0: 0.0}),
    "occupied_components": bgmm_jd.occupied_components,
    "plot_components": bgmm_jd.plot_components,
    "plot_density": lambda posterior: bgmm_jd.plot_density(posterior, X),
    "report": bgmm_jd.report,
}


@pytest.fixture(scope="module")
def diverged(two_clusters_posterior):
    """Return a posterior whose means have an infinite standard deviation."""
    approximation = two_clusters_posterior.approximation
    means = approximation.params["means"]
    broken = {**approximation.params, "means": {**means, "scale": np.inf * means["scale"]}}
    return replace(
        two_clusters_posterior,
        approximation=replace(
            approximation, params=broken, calibration=None, proposal=None, bank=None
        ),
        elbo=-np.inf,
        log_evidence=np.nan,
        log_evidence_se=np.nan,
        status=bgmm_jd.Status.DIVERGED,
    )


@pytest.mark.parametrize("call", REFUSING.values(), ids=REFUSING)
def test_what_needs_mixtures_says_that_there_are_none(diverged, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"finite parameters .* diverged: .* float64"):
        call(diverged)
    assert not list(tmp_path.iterdir())


def test_draws_and_their_summary_are_as_they_are(diverged):
    assert not np.isfinite(diverged.sample(5)["means"]).any()
    assert not np.isfinite(diverged.summary(draws=5).loc["means", "mean"]).any()


def test_comparison_has_a_row_of_what_is_not_known(diverged, two_clusters_posterior):
    table = bgmm_jd.compare({"sound": two_clusters_posterior, "diverged": diverged})
    assert list(table.index) == ["sound", "diverged"]
    assert np.isnan(table.loc["diverged", "elpd_loo"])
    assert table.loc["diverged", "log_evidence"] == -np.inf
    assert diverged.evidence_bound == -np.inf


def test_mixtures_have_finite_parameters_and_positive_variances():
    weights, means = np.full((4, 2), 0.5), np.zeros((4, 2, 3))
    precisions = np.ones((4, 2, 3))
    precisions[1, 0, 2], precisions[2, 1, 1] = 0.0, np.inf
    means[3, 1, 1] = np.nan
    theta = {"weights": weights, "means": means, "precisions": precisions}
    np.testing.assert_array_equal(are_mixtures(theta, "diag"), [True, False, False, False])
    scales = np.zeros((4, 2, 3, 3)) + np.eye(3)
    scales[1, 1, 2, 2] = 0.0
    theta = {"weights": weights, "means": means, "scales": scales}
    np.testing.assert_array_equal(are_mixtures(theta, "full"), [True, False, True, False])
