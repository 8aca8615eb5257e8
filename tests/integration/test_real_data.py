"""Rows that people bring: correlated, far away, constant, tied, with several optima."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from real_rows import adjusted_rand_index, crabs

import bgmm_jd
from bgmm_jd.data.far_rows import FarRowsWarning
from bgmm_jd.settings import StartSettings

pytestmark = pytest.mark.slow


def within_noise(one, other):
    """Return whether two elbos are equal but for 0.05 nats of tolerance and 5 standard errors."""
    return abs(one.elbo - other.elbo) < 0.05 + 5.0 * np.hypot(one.elbo_se, other.elbo_se)


def test_crabs_are_told_apart_from_every_seed():
    """Correlations above 0.9: the published fit of the same form has 0.79 (mclust)."""
    X, classes = crabs()
    fits = [bgmm_jd.fit(X, 4, covariance="full", seed=seed, progress=False) for seed in range(3)]
    for posterior in fits:
        assert posterior.status is bgmm_jd.Status.CONVERGED
        assert adjusted_rand_index(classes, bgmm_jd.predict(posterior, X)) >= 0.80
        assert within_noise(posterior, fits[0])


def test_tied_covariance_of_correlated_columns_settles():
    X, _ = crabs()
    fits = [bgmm_jd.fit(X, 4, covariance="tied", seed=seed, progress=False) for seed in range(2)]
    assert all(r.status is bgmm_jd.Status.CONVERGED for p in fits for r in p.restarts)
    assert within_noise(*fits)


def test_one_component_of_nearly_collinear_features_has_the_sd_of_the_data():
    """sd of x2 given x1 of 300 rows: 1e-4, with a standard error of 4 %."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=300)
    X = np.stack([first, first + 1e-4 * rng.normal(size=300)], axis=1)
    posterior = bgmm_jd.fit(X, 1, covariance="full", progress=False)
    assert posterior.status is bgmm_jd.Status.CONVERGED
    precision = posterior.sample(1_000)["precisions"][:, 0, 1, 1]
    assert np.mean(precision**-0.5) == pytest.approx(1e-4, rel=0.2)


@pytest.mark.parametrize("columns", [1, 2])
def test_constant_columns_change_neither_the_evidence_nor_the_labels(columns):
    rng = np.random.default_rng(1)
    X = np.concatenate([rng.normal(0.0, 1.0, 100), rng.normal(8.0, 1.0, 100)])[:, np.newaxis]
    wide = np.hstack([X, np.full((200, columns), 5.0)])
    options = {"execution": "graph", "progress": False}
    for K in (1, 2):
        one, other = bgmm_jd.fit(X, K, **options), bgmm_jd.fit(wide, K, **options)
        assert within_noise(one, other)
        np.testing.assert_array_equal(bgmm_jd.predict(one, X), bgmm_jd.predict(other, wide))


def test_sentinels_are_named_and_leave_the_clusters_as_they_are():
    """3 of 1,003 rows are -9999: with a component for them, both clusters have an sd of 1."""
    rng = np.random.default_rng(2)
    clusters = [rng.normal(centre, 1.0, (500, 2)) for centre in (0.0, 6.0)]
    X = np.concatenate([*clusters, np.full((3, 2), -9999.0)])
    with pytest.warns(FarRowsWarning, match=r"3 of 1003 rows .*: 1000, 1001, 1002"):
        posterior = bgmm_jd.fit(X, 3, progress=False, execution="graph")
    assert posterior.status is bgmm_jd.Status.CONVERGED
    sds = posterior.sample(500)["precisions"].mean(axis=0) ** -0.5
    # Standard errors of 3 %; the sentinels come first.
    np.testing.assert_allclose(sds[1:], 1.0, atol=0.15)


def test_noise_has_one_optimum_from_every_seed():
    """Three components in rows of one normal distribution: the optima lie close together."""
    X = np.random.default_rng(3).normal(size=(500, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # several modes, with good reason
        fits = [bgmm_jd.fit(X, 3, seed=seed, progress=False) for seed in range(4)]
    best = max(fits, key=lambda posterior: posterior.elbo)
    # Optima that differ by less are not told apart.
    same = StartSettings().same_optimum
    assert all(best.elbo - p.elbo < same + 5.0 * np.hypot(best.elbo_se, p.elbo_se) for p in fits)


def test_more_features_than_rows_leave_a_posterior_near_the_prior():
    """8 rows of 10 features: means are within the reach of the prior, some sds of the rows."""
    X = np.random.default_rng(4).normal(size=(8, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # whatever the verdict on so few rows
        posterior = bgmm_jd.fit(
            X, 2, covariance="full", max_steps=2_000, progress=False, calibrate=False
        )
    means = posterior.sample(200)["means"]
    assert np.isfinite(posterior.elbo)
    assert np.abs(means).max() < 8 * 4.0 * X.std()


@pytest.mark.parametrize("form", ["tied", "full"])
def test_thirty_correlated_features_have_a_finite_elbo(form):
    """The breast cancer data of Wolberg et al. (1995) [569, 30]: correlations up to 0.998."""
    datasets = pytest.importorskip("sklearn.datasets")
    X, _ = datasets.load_breast_cancer(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of k-hat, among so many parameters
        posterior = bgmm_jd.fit(X, 2, covariance=form, progress=False, finish="none")
    assert np.isfinite(posterior.elbo)
    assert all(r.status is bgmm_jd.Status.CONVERGED for r in posterior.restarts)


def test_both_modes_of_the_galaxies_are_found_from_every_seed():
    """Velocities of Roeder (1990), K = 4: evidences would differ by 0.5 nats without a mode."""
    hard = json.loads((Path(__file__).parents[1] / "hard" / "gal_std_K3.json").read_text())
    X = np.array(hard["data"]).reshape(-1, 1)
    fits = [bgmm_jd.fit(X, 4, seed=seed, progress=False) for seed in range(3)]
    assert all(posterior.status.good for posterior in fits)
    evidence = [posterior.log_evidence for posterior in fits]
    error = 5.0 * max(posterior.log_evidence_se for posterior in fits)
    assert max(evidence) - min(evidence) < 0.15 + error < 0.5
