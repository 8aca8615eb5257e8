"""Labels, densities, quantiles and draws of normal mixtures against scipy and exact answers.

Statistical tests state their false-alarm rate; the seeds are fixed.
"""

from collections import Counter

import numpy as np
import pytest
from known_components import make_components, select_components
from scipy import optimize, stats

from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    average_component_densities,
    component_densities,
    draw_labels,
    draw_labels_by_component,
    marginal_components,
    mixture_quantile,
    normal_log_density,
    replicate_data,
    sample_rows,
)

FALSE_ALARM = 1e-6
EPS = np.finfo(float).eps
# Some tens of operations on numbers of at most some hundreds, and on factors whose condition is at
# most some thousands.
ROUNDING = 1e-9
TWO = ComponentDraws(
    weights=np.array([[0.3, 0.7]]),
    means=np.array([[[0.0, 1.0], [-2.0, 3.0]]]),
    covariances=np.array([[[[2.0, 0.9], [0.9, 1.0]], 0.1 * np.eye(2)]]),
)


def test_marginal_components_have_the_blocks_of_the_chosen_features():
    components = make_components(S=3, K=2, D=4)
    found = marginal_components(components, [2, 0])
    expected = select_components(components, D=[2, 0])
    for name, array in found._asdict().items():
        np.testing.assert_array_equal(array, getattr(expected, name))


# --- Labels -------------------------------------------------------------------------------------


def test_labels_are_the_inverse_of_their_distribution_function():
    probabilities = np.array([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    u = np.array([0.0, 0.1, 0.25, 0.74, 0.75, np.nextafter(1.0, 0.0)])
    np.testing.assert_array_equal(draw_labels(probabilities, u), [1, 1, 3, 3, 4, 4])
    several = np.stack([probabilities, probabilities[::-1]])
    expected = np.array([[1, 1, 3, 3, 4, 4], [1, 1, 2, 2, 4, 4]])
    np.testing.assert_array_equal(draw_labels(several, u[:, np.newaxis]), expected.T)
    by_component = draw_labels_by_component(several[:, :, np.newaxis], np.stack([u, u]))
    np.testing.assert_array_equal(by_component, expected)


def test_both_ways_to_draw_labels_agree():
    rng = np.random.default_rng(0)
    probabilities, u = rng.dirichlet(np.ones(12), size=(5, 40)), rng.random((5, 40))
    expected = draw_labels(probabilities, u)
    found = draw_labels_by_component(probabilities.swapaxes(1, 2), u)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rare_labels_keep_their_probability(dtype):
    """A probability of 1e-8, which float32 cannot add to 1, is neither lost nor enlarged."""
    r = np.array([0.6, 0.4, 1e-8], dtype)
    share = r.astype(float) / r.sum(dtype=float)
    # Uniform numbers on either side of the two edges.
    first, last = share[0], 1 - share[2]
    u = np.array([0.0, first - 1e-9, first + 1e-9, last - 1e-9, last + 1e-9, 1 - 2.0**-53])
    probabilities = np.repeat(r[np.newaxis, :, np.newaxis], len(u), axis=2)
    labels = draw_labels_by_component(probabilities, u[np.newaxis])
    np.testing.assert_array_equal(labels, [[0, 0, 1, 1, 2, 2]])


# --- Densities ----------------------------------------------------------------------------------


def test_normal_log_density_and_whitened_residuals_agree_with_scipy():
    covariances = make_components(S=1, K=4, D=3).covariances[0]
    factors = np.linalg.cholesky(covariances)
    residual = np.random.default_rng(2).normal(scale=3.0, size=(5, 4, 3))
    log_density, z = normal_log_density(factors, residual)
    for j, covariance in enumerate(covariances):
        normal = stats.multivariate_normal(cov=covariance)
        np.testing.assert_allclose(log_density[:, j], normal.logpdf(residual[:, j]), rtol=ROUNDING)
        np.testing.assert_allclose(z[:, j] @ factors[j].T, residual[:, j], rtol=ROUNDING)


def test_component_densities_agree_with_scipy():
    points = np.random.default_rng(0).normal(size=(50, 2))
    expected = [
        weight * stats.multivariate_normal(mean, covariance).pdf(points)
        for weight, mean, covariance in zip(*(v[0] for v in TWO), strict=True)
    ]
    np.testing.assert_allclose(component_densities(TWO, 0, points), expected, rtol=1e-10)
    np.testing.assert_allclose(average_component_densities(TWO, points), expected, rtol=1e-10)


def test_average_component_densities_is_the_mean_over_draws():
    components = make_components(S=4, K=3, D=2)
    points = np.random.default_rng(0).normal(scale=3.0, size=(50, 2))
    expected = np.mean([component_densities(components, s, points) for s in range(4)], axis=0)
    found = average_component_densities(components, points)
    np.testing.assert_allclose(found, expected, rtol=16 * EPS)


# --- Quantiles ----------------------------------------------------------------------------------


HARD = {
    "far apart": ([0.5, 0.5], [-1e6, 1e6], [1.0, 1.0]),
    "an outlier of small weight": ([1 - 1e-12, 1e-12], [0.0, 1e8], [1.0, 1.0]),
    "a spike in a plain": ([0.3, 0.7], [0.0, 0.1], [1e-9, 1.0]),
    "many": (np.full(50, 0.02), np.linspace(-9, 9, 50), np.geomspace(1e-3, 10, 50)),
    "a weight of zero": ([0.0, 1.0], [-1e9, 2.0], [1.0, 3.0]),
    "far from zero": ([0.4, 0.6], [1e9, 1e9 + 3], [1.0, 2.0]),
}


@pytest.mark.parametrize("case", HARD)
def test_quantiles_of_hard_mixtures_agree_with_another_root_finder(case):
    weights, means, sds = (np.array(part, float) for part in HARD[case])
    p = np.array([1e-9, 0.003, 0.29, 0.5, 0.5 + 1e-9, 0.65, 0.997, 1 - 1e-9])
    wide = [np.broadcast_to(part, (len(p), len(part))) for part in (weights, means, sds)]
    found = mixture_quantile(*wide, p)
    assert (np.diff(found) >= 0).all()
    law = stats.norm(means, sds)

    def excess(y, level):
        if level <= 0.5:
            return weights @ law.cdf(y) - level
        return (1.0 - level) - weights @ law.sf(y)

    for level, y in zip(p, found, strict=True):
        ends = law.ppf(level)
        root = optimize.brentq(
            excess, ends.min() - 1e-3, ends.max() + 1e-3, args=(level,), xtol=1e-300, rtol=4 * EPS
        )
        # Rounding of the cdf limits both: its error divided by the density.
        density = weights @ law.pdf(root)
        level_error = 16 * EPS * min(level, 1 - level) * (1 + np.log(min(level, 1 - level)) ** 2)
        known = level_error / density if density > 0 else np.inf
        known += 16 * EPS * (abs(root) + np.abs(means[weights > 0]).max() + sds[weights > 0].max())
        if case == "far apart" and level == 0.5:  # any value between the two is a median
            assert excess(y, level) == 0
        else:
            assert abs(y - root) <= known


def test_quantiles_in_one_call_do_not_depend_on_each_other():
    """Easy and hard ones, some of which converge long before others."""
    pairs = [HARD[case] for case in HARD if case != "many"]
    weights, means, sds = (np.array(part, float) for part in zip(*pairs, strict=True))
    p = np.array([1e-9, 0.29, 0.5, 0.997])
    together = mixture_quantile(*(part[:, np.newaxis] for part in (weights, means, sds)), p)
    assert together.shape == (5, 4)
    for row, alone in zip(together, zip(weights, means, sds, strict=True), strict=True):
        for y, level in zip(row, p, strict=True):
            found = mixture_quantile(*alone, np.array(level))
            np.testing.assert_allclose(y, found, rtol=ROUNDING, atol=1e-18)


# --- Draws --------------------------------------------------------------------------------------


def test_sampled_rows_have_the_moments_of_the_mixture():
    n = 100_000
    weights, means, covariances = (v[0] for v in TWO)
    alike = [
        np.broadcast_to(v, (n, *v.shape)) for v in (weights, means, np.linalg.cholesky(covariances))
    ]
    rows = sample_rows(*alike, np.random.default_rng(4))
    mean = weights @ means
    off = means - mean
    covariance = np.tensordot(weights, covariances + off[:, :, None] * off[:, None], 1)
    error = np.sqrt(np.diag(covariance) / n)
    assert (np.abs(rows.mean(axis=0) - mean) < 5.0 * error).all()
    np.testing.assert_allclose(np.cov(rows.T), covariance, rtol=0.05)


@pytest.mark.contract
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_replicated_data_follow_the_mixture_of_their_own_draw(dtype):
    """Labels, means and sds of data sets under draws that have nothing in common."""
    weights = np.array([[0.2, 0.5, 0.3], [0.6, 0.0, 0.4]], dtype)
    means = np.array([[[0, 1], [100, 2], [200, 3]], [[-50, 4], [-150, 5], [-250, 6]]], dtype)
    sds = np.array([[[1, 2], [3, 4], [5, 6]], [[6, 5], [4, 3], [2, 1]]], dtype)
    N = 20_000
    x = replicate_data(weights, means, sds, N, np.random.default_rng(1))
    assert x.shape == (2, N, 2)
    assert x.dtype == dtype
    for s in range(2):
        # Means are 100 apart in the first feature, 17 sds and more from the midpoint.
        nearest = np.abs(x[s, :, :1] - means[s, :, 0]).argmin(axis=1)
        count = Counter(nearest.tolist())
        for k in range(3):
            assert stats.binomtest(count[k], N, float(weights[s, k])).pvalue > FALSE_ALARM
            for d in range(2):
                if count[k]:
                    law = stats.norm(means[s, k, d], sds[s, k, d])
                    assert stats.kstest(x[s, nearest == k, d], law.cdf).pvalue > FALSE_ALARM
        # Rows are exchangeable: their order is independent of the component.
        first, second = nearest[: N // 2], nearest[N // 2 :]
        table = [[(half == k).sum() for k in count] for half in (first, second)]
        assert stats.chi2_contingency(table).pvalue > FALSE_ALARM


@pytest.mark.contract
def test_replicated_data_have_the_covariances_of_their_cholesky_factors():
    rng = np.random.default_rng(2)
    weights = np.array([[0.3, 0.7], [0.5, 0.5]])
    means = 100.0 * np.arange(8).reshape(2, 2, 2)
    factors = np.tril(rng.uniform(0.5, 1.5, size=(2, 2, 2, 2)))
    N = 20_000
    x = replicate_data(weights, means, factors, N, np.random.default_rng(1))
    assert x.shape == (2, N, 2)
    for s in range(2):
        nearest = np.abs(x[s, :, :1] - means[s, :, 0]).argmin(axis=1)
        for k in range(2):
            z = np.linalg.solve(factors[s, k], (x[s, nearest == k] - means[s, k]).T)
            # Whitened, so independent standard normals: 4 components, 4 tests each.
            assert stats.binomtest(z.shape[1], N, weights[s, k]).pvalue > FALSE_ALARM
            for d in range(2):
                assert stats.kstest(z[d], stats.norm.cdf).pvalue > FALSE_ALARM
            assert stats.pearsonr(*z).pvalue > FALSE_ALARM
