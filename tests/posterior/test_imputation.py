"""Imputations against the normals and mixtures that they are drawn from.

Statistical tests state their false-alarm rate; the seeds are fixed.
"""

from types import SimpleNamespace

import numpy as np
import pytest
from known_components import make_components, select_components
from scipy import stats

from bgmm_jd.posterior import imputation
from bgmm_jd.posterior.imputation import impute, impute_rows
from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.posterior.predictive_mixture import predictive_mixture
from bgmm_jd.settings import MemorySettings, Settings

FALSE_ALARM = 1e-6
BUDGET = MemorySettings().mixture

PATTERNS = np.array(
    [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], bool
)


def uniform_pvalue(u):
    return stats.kstest(u, stats.uniform.cdf).pvalue


@pytest.mark.parametrize("missing", [[0], [1, 3], [0, 1, 2, 3]])
def test_imputed_values_of_one_normal_have_its_conditional_mean_and_covariance(missing):
    components = make_components(S=1, K=1, D=4)
    rest = [d for d in range(4) if d not in missing]
    N, d = 40_000, len(missing)
    row = np.array([0.3, -0.8, 1.9, 0.4])
    X = np.tile(row, (N, 1))
    X[:, missing] = np.nan
    found = impute_rows(components, X, np.random.default_rng(7), budget=BUDGET)[0]
    np.testing.assert_array_equal(found[:, rest], X[:, rest])
    mean, C = components.means[0, 0], components.covariances[0, 0]
    B = C[np.ix_(missing, rest)] @ np.linalg.inv(C[np.ix_(rest, rest)])
    location = mean[missing] + B @ (row[rest] - mean[rest])
    scale = C[np.ix_(missing, missing)] - B @ C[np.ix_(rest, missing)]
    z = np.linalg.solve(np.linalg.cholesky(scale), (found[:, missing] - location).T)
    # N |mean z|^2 is chi-squared with d degrees of freedom. The mean of z_i z_j is nearly normal
    # with variance (1 + [i = j]) / N. Both have a false alarm of 1e-6, shared among the entries.
    assert stats.chi2.sf(N * (z.mean(axis=1) ** 2).sum(), d) > FALSE_ALARM
    limit = stats.norm.isf(FALSE_ALARM / (d * (d + 1))) * np.sqrt((1 + np.eye(d)) / N)
    assert (np.abs(z @ z.T / N - np.eye(d)) < limit).all()


def test_imputed_values_follow_the_mixture_of_their_draw():
    """Rosenblatt's transform: the cdf of each value given the observed and the earlier ones."""
    components = make_components(S=3, K=3, D=3, apart=1.5)
    rng = np.random.default_rng(8)
    X = rng.normal(scale=2.0, size=(8_000, 3))
    missing = PATTERNS[rng.integers(len(PATTERNS), size=len(X))]
    X[missing] = np.nan
    found = impute_rows(components, X, rng, budget=BUDGET)
    assert found.shape == (3, 8_000, 3)
    kept = np.broadcast_to(~missing, found.shape)
    np.testing.assert_array_equal(found[kept], np.broadcast_to(X, found.shape)[kept])
    pvalues = []
    for s in range(3):
        draw = select_components(components, S=[s])
        for pattern in PATTERNS[1:]:
            rows = found[s, (missing == pattern).all(axis=1)]
            known = list(np.flatnonzero(~pattern))
            for feature in np.flatnonzero(pattern):
                values = rows[:, known] if known else np.zeros(0)
                law = predictive_mixture(draw, tuple(known), values, (feature,))
                pvalues.append(uniform_pvalue(law.cdf(rows[:, [feature]])[:, 0]))
                known.append(feature)
    # 3 draws x 12 filled features, each with a false alarm of 1e-6.
    assert len(pvalues) == 36
    assert min(pvalues) > FALSE_ALARM


def test_each_imputation_is_made_under_a_single_draw():
    """The draws are far apart, with one component each, so that a mixture of them would show."""
    components = ComponentDraws(
        weights=np.ones((3, 1)),
        means=np.array([-1e6, 0.0, 1e6])[:, np.newaxis, np.newaxis] * np.ones(2),
        covariances=np.broadcast_to(np.eye(2), (3, 1, 2, 2)),
    )
    X = np.array([[np.nan, np.nan], [0.5, np.nan], [np.nan, -0.5]])
    found = impute_rows(components, X, np.random.default_rng(0), budget=BUDGET)
    # Nine standard normals, none beyond 7: a false alarm of 3e-11.
    filled = found[:, np.isnan(X)] - components.means[:, 0, :1]
    assert (np.abs(filled) < 7).all()


@pytest.mark.parametrize("budget", [1, 100])
def test_imputed_values_follow_the_mixture_in_blocks_of_few_rows(budget):
    """Rosenblatt's transform again, for one pattern."""
    components = make_components(S=2, K=3, D=2)
    X = np.column_stack([np.linspace(-4, 4, 1500), np.full(1500, np.nan)])
    found = impute_rows(components, X, np.random.default_rng(9), budget=budget)
    for s in range(2):
        law = predictive_mixture(select_components(components, S=[s]), (0,), X[:, :1], (1,))
        assert uniform_pvalue(law.cdf(found[s, :, 1:])[:, 0]) > FALSE_ALARM


def test_rows_whose_density_underflows_are_an_error():
    X = np.array([[0.0, 1.0], [1e200, np.nan]])
    with pytest.raises(ValueError, match=r"\[1e\+200\] are so far from all components"):
        impute_rows(make_components(S=2, K=2, D=2), X, np.random.default_rng(0), budget=BUDGET)


# --- From a posterior -------------------------------------------------------------------------


@pytest.fixture
def fitted(monkeypatch):
    """A stand-in for a float32 posterior of three features, whose draws of components are known."""

    def draw_known_components(posterior, draws, seed):
        return make_components(S=draws, K=2, D=posterior.D, seed=seed)

    monkeypatch.setattr(imputation, "draw_components", draw_known_components)
    dtype, settings = np.dtype(np.float32), Settings()
    return SimpleNamespace(D=3, dtype=dtype, feature_names=None, settings=settings)


def test_imputations_keep_observed_entries_and_repeat_with_the_seed(fitted):
    X = np.random.default_rng(10).normal(size=(8, 3)).astype(np.float32)
    X[PATTERNS] = np.nan
    before = X.copy()
    found = impute(fitted, X, draws=6, seed=1)
    np.testing.assert_array_equal(X, before)
    assert found.shape == (6, 8, 3)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[:, ~PATTERNS], np.tile(X[~PATTERNS], (6, 1)))
    assert len(np.unique(found[:, PATTERNS])) == 6 * PATTERNS.sum()
    np.testing.assert_array_equal(found, impute(fitted, X, draws=6, seed=1))
    other = impute(fitted, X, draws=6, seed=2)
    assert (found[:, PATTERNS] != other[:, PATTERNS]).all()
    masked = np.ma.masked_invalid(X)
    np.testing.assert_array_equal(found, impute(fitted, masked, draws=6, seed=1))


def test_complete_rows_are_copied(fitted):
    X = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    found = impute(fitted, X, draws=2)
    np.testing.assert_array_equal(found, [X, X])
    found[:] = 0.0
    assert X[1, 2] == 5.0


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros((2, 2)), ValueError, "3 columns, as the fit had; got 2"),
        ([[0.0, np.inf, np.nan]], ValueError, "column 1 has inf"),
        ([[0.0, 1e300, np.nan]], ValueError, "column 1 has inf"),  # in float32
        (np.zeros(3), ValueError, "two-dimensional"),
        ([["a", "b", "c"]], TypeError, "real numbers"),
    ],
)
def test_bad_rows_for_impute_are_refused(fitted, X, error, message):
    with pytest.raises(error, match=message):
        impute(fitted, X)


def test_bad_numbers_of_draws_are_errors(fitted):
    X = [[0.0, 1.0, np.nan]]
    with pytest.raises(ValueError, match="draws must be at least 1; got 0"):
        impute(fitted, X, draws=0)
    with pytest.raises(TypeError, match=r"draws must be an integer; got 2\.5"):
        impute(fitted, X, draws=2.5)


def test_imputations_of_a_fit_fill_both_clusters_equally(two_clusters, two_clusters_posterior):
    X = two_clusters.copy()
    X[:, 0] = np.nan
    X[:20, 1] = np.nan
    found = impute(two_clusters_posterior, X, draws=50, seed=1)
    assert found.dtype == two_clusters.dtype
    np.testing.assert_array_equal(found[:, 20:, 1], np.broadcast_to(X[20:, 1], (50, 20)))
    # Clusters at -4 and 4 of 20 rows each: 2,000 labels, and proportions of an sd below 0.1.
    assert abs((found[:, :, 0] < 0).mean() - 0.5) < 0.25
    with pytest.raises(ValueError, match="seed must not be negative"):
        impute(two_clusters_posterior, X, seed=-1)
