"""Robust location and scatter: equivariance, fences, shrinkage, missing entries and weights."""

import numpy as np
import pytest
from scipy import stats

from bgmm_jd.data.robust_moments import robust_moments
from bgmm_jd.settings import RobustMomentsSettings

D = 4


def correlated_rows(n=300, columns=D, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, columns)) @ rng.normal(size=(columns, columns)) + 2.0


def with_sentinels(X, rows=3, columns=slice(None)):
    changed = X.copy()
    changed[:rows, columns] = -9999.0
    return changed


def regularised(X, delta):
    covariance = np.cov(X.T, bias=True)
    return (1 - delta) * covariance + delta * np.diag(np.diag(covariance))


# --- Plain rows ---------------------------------------------------------------------------------


def test_scatter_of_rows_without_far_ones_is_their_regularised_covariance():
    X = correlated_rows()
    found = robust_moments(X)
    assert not found.far.any()
    assert not found.constant.any()
    assert not found.far_scatter.any()
    np.testing.assert_allclose(found.location, X.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.scatter, regularised(X, found.shrinkage), rtol=1e-11)


@pytest.mark.parametrize("scale", [1e-30, 1e30, [1e-30, 1.0, 1e10, 1e30]])
def test_moments_scale_with_the_columns(scale):
    """Up to roundings, even where squares of the columns of float32 would overflow."""
    X, scale = with_sentinels(correlated_rows()), np.broadcast_to(scale, (D,))
    found, expected = robust_moments(X * scale), robust_moments(X)
    square = np.outer(scale, scale)
    np.testing.assert_array_equal(found.far, expected.far)
    assert found.shrinkage == expected.shrinkage
    np.testing.assert_allclose(found.location, expected.location * scale, rtol=1e-12)
    np.testing.assert_allclose(found.scatter, expected.scatter * square, rtol=1e-11)
    np.testing.assert_allclose(found.far_scatter, expected.far_scatter * square, rtol=1e-11)


def test_moments_shift_with_the_columns():
    """The shift of 2^20 takes 20 of 52 bits."""
    X = with_sentinels(correlated_rows())
    found, expected = robust_moments(X + 2.0**20), robust_moments(X)
    np.testing.assert_array_equal(found.far, expected.far)
    assert found.shrinkage == expected.shrinkage
    np.testing.assert_allclose(found.location - 2.0**20, expected.location, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=1e-7, atol=1e-8)


def test_moments_of_float32_rows_are_computed_in_float64():
    X = correlated_rows().astype(np.float32) + np.float32(1000)
    found, expected = robust_moments(X), robust_moments(X.astype(np.float64))
    assert found.scatter.dtype == np.float64
    np.testing.assert_array_equal(found.scatter, expected.scatter)


# --- Far rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [slice(None), 1])
def test_sentinels_do_not_change_the_moments_of_the_other_rows(columns):
    X = correlated_rows()
    found, expected = robust_moments(with_sentinels(X, 3, columns)), robust_moments(X[3:])
    np.testing.assert_array_equal(np.flatnonzero(found.far), [0, 1, 2])
    np.testing.assert_allclose(found.location, expected.location, rtol=1e-11)
    np.testing.assert_allclose(found.scatter, expected.scatter, rtol=1e-11)
    deviation = with_sentinels(X, 3, columns)[:3] - found.location
    np.testing.assert_allclose(found.far_scatter, deviation.T @ deviation / len(X), rtol=1e-10)


def test_digits_survive_sentinels_of_any_size():
    X = correlated_rows()
    X[0] = 1e150
    np.testing.assert_allclose(robust_moments(X).scatter, robust_moments(X[1:]).scatter, rtol=1e-10)


@pytest.mark.parametrize(
    ("extra", "far"), [(331.0, False), (332.0, True), (-231.0, False), (-232.0, True)]
)
def test_fences_are_five_interquartile_ranges_beyond_the_quartiles(extra, far):
    """Of 0, 1, ..., 100 and a number above them, the quartiles are 25 and 76; below, 24 and 75."""
    found = robust_moments(np.append(np.arange(101.0), extra)[:, np.newaxis])
    assert found.far[-1] == far
    assert not found.far[:-1].any()


def test_column_with_equal_quartiles_has_fences_from_quantiles_nearer_to_the_ends():
    x = np.zeros(100)
    x[:15] = np.arange(1.0, 16.0)  # 85 % ties; with one more, the 90 % quantile is 6
    for extra, far in ((36.0, False), (36.5, True)):
        assert robust_moments(np.append(x, extra)[:, np.newaxis]).far[-1] == far


def test_rows_are_not_far_if_they_are_more_than_half():
    """Each column has its own third of the rows far away."""
    X = correlated_rows(300, 3)
    for d in range(2):
        X[d * 100 : d * 100 + 70, d] = 1e4
    assert robust_moments(X).far.sum() == 140
    X[200:270, 2] = 1e4
    assert not robust_moments(X).far.any()


def test_column_that_varies_in_far_rows_only_keeps_them():
    X = correlated_rows(200, 2)
    X[:, 1] = 0.0
    X[:2, 1] = 1.0  # too few for any quantile: no fence there
    X[:2, 0] = 1e5  # far by the other column
    found = robust_moments(X)
    assert not found.far.any()
    assert found.scatter[1, 1] > 0


def test_constant_column_has_unit_variance_and_no_covariance():
    X = correlated_rows()
    X[:, 2] = 7.0
    found = robust_moments(X)
    np.testing.assert_array_equal(found.constant, [False, False, True, False])
    np.testing.assert_array_equal(found.scatter[2], [0.0, 0.0, 1.0, 0.0])
    assert found.location[2] == 7.0
    others = [0, 1, 3]
    expected = robust_moments(X[:, others])
    np.testing.assert_allclose(found.scatter[np.ix_(others, others)], expected.scatter, rtol=1e-3)


# --- Shrinkage ----------------------------------------------------------------------------------


def leave_one_out_loss(X, delta):
    """Minus twice the log likelihood of each row given the others, one after the other.

    The diagonal is that of all rows, with the factor n / (n - 1) that the covariance gets.
    """
    n = len(X)
    diagonal = np.diag(np.var(X, axis=0)) * n / (n - 1)
    total = 0.0
    for i in range(n):
        others = np.delete(X, i, axis=0)
        matrix = (1 - delta) * np.cov(others.T, bias=True) + delta * diagonal
        law = stats.multivariate_normal(others.mean(axis=0), matrix)
        total -= 2 * law.logpdf(X[i])
    return total


@pytest.mark.parametrize("n", [6, 20, 60])
def test_shrinkage_is_that_of_leaving_out_each_row(n):
    X = correlated_rows(n, seed=n)
    grid = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0)
    losses = [leave_one_out_loss(X, delta) for delta in grid]
    found = robust_moments(X, settings=RobustMomentsSettings(shrinkages=grid, fence_ranges=1e3))
    assert found.shrinkage == grid[int(np.argmin(losses))]


@pytest.mark.parametrize(("n", "columns"), [(20, 50), (30, 50), (5, 5), (2, 3)])
def test_scatter_of_fewer_rows_than_columns_is_positive_definite(n, columns):
    """The condition number is at most D / delta in units of the columns."""
    X = np.random.default_rng(n).normal(size=(n, columns))
    found = robust_moments(X)
    sd = np.sqrt(np.diag(found.scatter))
    eigenvalues = np.linalg.eigvalsh(found.scatter / np.outer(sd, sd))
    assert eigenvalues[0] >= 0.99 * min(found.shrinkage, 1 - 1e-9) > 0.01


def test_single_row_has_the_identity_as_scatter():
    found = robust_moments(np.array([[3.0, -2.0]]))
    assert found.constant.all()
    np.testing.assert_array_equal(found.location, [3.0, -2.0])
    np.testing.assert_array_equal(found.scatter, np.eye(2))


def test_many_nearly_collinear_rows_are_hardly_shrunk():
    rng = np.random.default_rng(2)
    x = rng.normal(size=2_000)
    X = np.stack([x, x + 0.01 * rng.normal(size=2_000)], axis=1)
    found = robust_moments(X)
    assert found.shrinkage < 1e-5
    assert np.linalg.eigvalsh(found.scatter)[0] == pytest.approx(0.5e-4, rel=0.3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scatter_of_equal_columns_is_positive_definite(dtype):
    """The least delta is that of the dtype: float32 rows are known to fewer digits."""
    X = correlated_rows(100, 2)[:, [0, 1, 0]].astype(dtype)
    found = robust_moments(X)
    assert np.linalg.eigvalsh(found.scatter)[0] > 0
    settings = RobustMomentsSettings()
    least = {np.float32: settings.least_of_float32, np.float64: min(settings.shrinkages)}
    assert found.shrinkage == least[dtype]


def test_scatter_follows_a_linear_map_of_many_rows():
    """As far as delta is near zero: here it is at most 1e-3, with correlations below 1."""
    X, A = correlated_rows(3_000, 3), np.array([[1.0, 0.5, 0.0], [0.0, 1.0, -0.4], [0.3, 0.0, 1.0]])
    own, moved = robust_moments(X), robust_moments(X @ A.T)
    largest = max(own.shrinkage, moved.shrinkage)
    assert largest <= 1e-3
    size = np.sqrt(np.outer(np.diag(moved.scatter), np.diag(moved.scatter)))
    bound = 2 * largest * np.abs(A).sum() ** 2 * own.scatter.max() / size.min()
    assert (np.abs(moved.scatter - A @ own.scatter @ A.T) / size).max() <= bound


# --- Weights and missing entries ----------------------------------------------------------------


def test_whole_weights_count_as_equal_rows():
    X = with_sentinels(correlated_rows(80))
    weight = np.random.default_rng(1).integers(0, 4, 80)
    weight[:3] = 1
    found, expected = robust_moments(X, weight), robust_moments(np.repeat(X, weight, axis=0))
    assert found.shrinkage == expected.shrinkage
    for name in ("location", "scatter", "far_scatter"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), rtol=1e-9, err_msg=name
        )
    np.testing.assert_array_equal(np.repeat(found.far, weight), expected.far)


def test_scale_of_large_weights_does_not_matter_but_for_the_number_of_rows():
    X = correlated_rows(3_000)
    one, three = robust_moments(X), robust_moments(X, np.full(3_000, 1 / 3))
    np.testing.assert_allclose(three.location, one.location, rtol=1e-12)
    np.testing.assert_allclose(np.diag(three.scatter), np.diag(one.scatter), rtol=1e-12)


def test_missing_entries_do_not_count():
    """Means and variances are those of the observed entries of each column."""
    X = correlated_rows(400)
    X[np.random.default_rng(3).uniform(size=X.shape) < 0.2] = np.nan
    found = robust_moments(X)
    assert not found.far.any()
    np.testing.assert_allclose(found.location, np.nanmean(X, axis=0), rtol=1e-12)
    np.testing.assert_allclose(np.diag(found.scatter), np.nanvar(X, axis=0), rtol=1e-11)
    assert found.shrinkage < 0.1
    assert np.linalg.eigvalsh(found.scatter)[0] > 0


def test_covariance_of_two_columns_comes_from_rows_with_both():
    X = correlated_rows(400, 2)
    X[:100, 0], X[100:150, 1] = np.nan, np.nan
    found = robust_moments(X)
    deviation = X[150:] - np.nanmean(X, axis=0)
    expected = (1 - found.shrinkage) * (deviation[:, 0] * deviation[:, 1]).mean()
    assert found.scatter[0, 1] == pytest.approx(expected, rel=1e-10)


def test_columns_without_complete_rows_have_variances_only():
    X = correlated_rows(90, 3)
    for d in range(3):
        X[d * 30 : d * 30 + 30, d] = np.nan
    found = robust_moments(X)
    assert found.shrinkage == 1.0
    np.testing.assert_allclose(found.scatter, np.diag(np.nanvar(X, axis=0)), rtol=1e-11)


def test_indefinite_pairwise_covariances_are_repaired():
    """Three pairs of columns with correlations 1, 1 and -1 fit no rows at all."""
    rng = np.random.default_rng(4)
    blocks = []
    for pair, sign in (((0, 1), 1), ((1, 2), 1), ((0, 2), -1)):
        block = np.full((40, 3), np.nan)
        x = rng.normal(size=40)
        block[:, pair[0]], block[:, pair[1]] = x, sign * x + 0.01 * rng.normal(size=40)
        blocks.append(block)
    complete = rng.normal(size=(5, 3))
    settings = RobustMomentsSettings(shrinkages=(1e-3,))
    found = robust_moments(np.vstack([*blocks, complete]), settings=settings)
    assert found.shrinkage == 1e-3
    assert np.linalg.eigvalsh(found.scatter)[0] > 0


def test_no_row_is_far_where_a_column_would_be_left_without_entries():
    """The only entry of the second column is in a row that is far in the first."""
    X = np.stack([np.arange(50.0), np.full(50, np.nan)], axis=1)
    X[7] = 1e9, 5.0
    found = robust_moments(X)
    assert not found.far.any()
    assert np.isfinite(found.location).all()
    np.testing.assert_array_equal(found.constant, [False, True])


def test_quantiles_of_equal_weights_are_those_of_the_weighted_rule():
    """By selection where weights are equal, by sorting where one differs by a rounding."""
    rng = np.random.default_rng(11)
    for n in (1, 2, 7, 40, 401):
        X = rng.integers(0, 30, size=(n, 2)).astype(float)
        weight = np.ones(n)
        nearly = weight.copy()
        nearly[0] += 1e-15 if n > 1 else 0.0
        found, expected = robust_moments(X, weight), robust_moments(X, nearly)
        np.testing.assert_array_equal(found.far, expected.far)
        np.testing.assert_allclose(found.scatter, expected.scatter, rtol=1e-12)


def test_delta_by_some_of_many_rows_is_near_zero_as_by_all():
    """Leaving out one of N rows changes a covariance matrix of D features by the fraction D / N."""
    rng = np.random.default_rng(12)
    N, D = 3_000, 4
    X = rng.normal(size=(N, D)) @ rng.normal(size=(D, D))
    few = RobustMomentsSettings(shrinkage_rows=1_000)
    found, expected = robust_moments(X, settings=few), robust_moments(X)
    assert max(found.shrinkage, expected.shrinkage) < D / N
    np.testing.assert_array_equal(found.location, expected.location)
