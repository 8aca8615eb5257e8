"""Importance weights and the generalized Pareto distribution, against SciPy, ArviZ and theory.

A statistical test raises a false alarm with probability 1e-6; the seeds are fixed.
"""

import numpy as np
import pytest
from scipy import stats

from bgmm_jd.backend.arviz_version import arviz_major_version, import_arviz
from bgmm_jd.calibration.psis import (
    Pareto,
    fit_pareto,
    pareto_quantile,
    pareto_smooth,
    resample_systematically,
)

RATIOS = {
    "normal": lambda rng, S: rng.normal(size=S),
    "hopeless": lambda rng, S: 200 * rng.normal(size=S),
    "heavy": lambda rng, S: 2 * rng.standard_t(2, size=S),
    "shape 1.5": lambda rng, S: -1.5 * np.log(rng.random(S)),
    "shape 0.3": lambda rng, S: -0.3 * np.log(rng.random(S)),
    "nearly equal": lambda rng, S: 1e-9 * rng.normal(size=S),
    "ties": lambda rng, S: np.round(rng.normal(size=S), 1),
    "few values": lambda rng, S: np.round(rng.normal(size=S)),
    "impossible": lambda rng, S: np.where(rng.random(S) < 0.5, -100.0, rng.normal(size=S)),
    "no tail": lambda rng, S: np.repeat([0.0, 1.0], [1, S - 1]),
}


# --- Smoothed weights and k-hat ------------------------------------------------------------------


@pytest.mark.skipif(arviz_major_version() != 0, reason="arviz 1.x smooths another tail")
@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("S", [50, 200, 3000])
def test_weights_and_khat_equal_those_of_arviz(name, S):
    """Draws of equal weight may be in another order, so the weights are sorted."""
    log_ratio = RATIOS[name](np.random.default_rng(S), S)
    with np.errstate(all="ignore"):
        expected, shape = import_arviz().psislw(log_ratio)
    weights, khat = pareto_smooth(log_ratio)
    expected = np.exp(expected - np.max(expected))
    expected = np.sort(expected / expected.sum())
    # ArviZ computes with logarithms, in which smaller weights than 1e-200 do not underflow.
    np.testing.assert_allclose(np.sort(weights), expected, rtol=1e-10, atol=1e-200)
    np.testing.assert_allclose(khat, shape if np.isfinite(shape) else np.inf, rtol=1e-10)


@pytest.mark.parametrize("constant", [0.0, -3e4, 1e-12])
def test_constant_ratios_give_equal_weights_and_a_low_khat(constant):
    weights, khat = pareto_smooth(np.full(1000, constant))
    np.testing.assert_allclose(weights, 1e-3, rtol=1e-12)
    assert khat < 0.5


def test_adding_a_constant_to_the_log_ratios_changes_nothing():
    """Not even a constant so large that the weights themselves would overflow."""
    log_ratio = np.random.default_rng(0).normal(size=1000)
    weights, khat = pareto_smooth(log_ratio)
    for constant in (1e5, -1e5):
        shifted, other = pareto_smooth(log_ratio + constant)
        # Adding 1e5 costs five of sixteen digits.
        np.testing.assert_allclose(shifted, weights, rtol=1e-9)
        np.testing.assert_allclose(other, khat, atol=1e-8)


@pytest.mark.parametrize("sd", [200, 600, 1000])
def test_very_dispersed_ratios_give_a_high_khat_and_no_warning(sd):
    """A warning would end a fit where warnings are errors."""
    for seed in range(20):
        weights, khat = pareto_smooth(sd * np.random.default_rng(seed).normal(size=3000))
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1)
        assert khat > 0.7


def test_smoothing_does_not_change_its_input():
    log_ratio = np.random.default_rng(0).normal(size=1000)
    before = log_ratio.copy()
    pareto_smooth(log_ratio)
    np.testing.assert_array_equal(log_ratio, before)


def test_weights_below_the_tail_equal_the_ratios():
    """PSIS changes the largest min(S / 5, 3 sqrt(S)) weights and no others."""
    log_ratio = np.random.default_rng(0).normal(size=1000)
    weights, _ = pareto_smooth(log_ratio)
    assert weights.sum() == pytest.approx(1, abs=1e-13)
    body = np.argsort(log_ratio)[: -int(3 * np.sqrt(1000)) - 1]
    relative = weights[body] / np.exp(log_ratio[body])
    np.testing.assert_allclose(relative, relative[0], rtol=1e-12)
    # The order stays, and no weight is above the largest raw one.
    assert np.all(np.diff(weights[np.argsort(log_ratio)]) >= 0)
    assert weights.max() <= np.exp(log_ratio.max()) * relative[0] * (1 + 1e-12)


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_khat_of_a_pareto_tail_is_its_shape(shape):
    """Ratios u^-k have a generalized Pareto tail of shape k, above any cut."""
    S = 100_000
    u = np.random.default_rng(0).random(S)
    _, khat = pareto_smooth(-shape * np.log(u))
    tail = 3 * np.sqrt(S)
    # Its maximum likelihood estimate has the standard error (1 + k) / sqrt(tail) (Smith 1987);
    # the prior of the fit counts as 10 draws and pulls it towards 0.5.
    error = (1 + shape) / np.sqrt(tail)
    assert abs(khat - shape) < stats.norm.isf(5e-7) * error + 10 / tail * abs(shape - 0.5)


def test_smoothed_weights_estimate_known_moments():
    """The mean and second moment of N(0, 1) from draws of N(0.3, 1.3^2)."""
    S = 20_000
    proposal, target = stats.norm(0.3, 1.3), stats.norm()
    x = proposal.rvs(S, random_state=0)
    ratio = target.logpdf(x) - proposal.logpdf(x)
    weights, khat = pareto_smooth(ratio)
    assert khat < 0.5  # the ratios are bounded
    for value, expected in ((x, 0.0), (x**2, 1.0)):
        error = np.sqrt(np.sum(weights**2 * (value - expected) ** 2))
        assert abs(np.sum(weights * value) - expected) < stats.norm.isf(5e-7) * error


# --- The generalized Pareto distribution ---------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.4, 0.0, 1e-9, 0.3, 1.2])
def test_pareto_quantiles_equal_those_of_scipy(shape):
    p = np.array([1e-9, 0.1, 0.5, 0.99, 1 - 1e-9])
    found = pareto_quantile(Pareto(shape, 2.5), p)
    np.testing.assert_allclose(found, stats.genpareto(shape, scale=2.5).ppf(p), rtol=1e-7)


@pytest.mark.parametrize("shape", [-0.3, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("scale", [1e-3, 50.0])
def test_pareto_fit_recovers_shape_and_scale(shape, scale):
    n = 20_000
    known = stats.genpareto(shape, scale=scale)
    found = fit_pareto(np.sort(known.rvs(n, random_state=0)))
    # The maximum likelihood estimates have variances (1 + k)^2 / n, and 2 (1 + k) / n of the log
    # scale (Smith 1987). Those of this estimator are hardly larger: 10 % are allowed. The prior of
    # the shape counts as 10 draws and pulls it towards 0.5.
    allowed = 1.1 * stats.norm.isf(2.5e-7)
    error = allowed * (1 + shape) / np.sqrt(n)
    assert abs(found.shape - shape) < error + 10 / n * abs(shape - 0.5)
    assert abs(np.log(found.scale / scale)) < allowed * np.sqrt(2 * (1 + shape) / n)


def test_prior_of_the_pareto_shape_counts_as_ten_draws():
    """Of five excesses the shape is mostly that of the prior, 1/2 with the weight of ten."""
    excess = stats.genpareto(-0.4).ppf((np.arange(5) + 0.5) / 5)
    found = fit_pareto(excess)
    unshrunk = 1.5 * found.shape - 10 * 0.5 / 10
    assert unshrunk < found.shape < 0.5


def test_tail_of_fewer_than_five_weights_has_no_khat():
    """A fifth of the weights is the tail: four of 20 are too few, and five of 25 are enough."""
    ratios = np.random.default_rng(0).normal(size=25)
    assert pareto_smooth(ratios[:20])[1] == np.inf
    assert np.isfinite(pareto_smooth(ratios)[1])


def test_pareto_fit_to_excesses_of_zero_is_nan_without_a_warning():
    assert not np.isfinite(fit_pareto(np.zeros(10))).any()


# --- Resampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 7, 100, 1000])
def test_resampling_repeats_a_draw_floor_or_ceiling_times(n):
    rng = np.random.default_rng(0)
    for _ in range(20):
        weights = rng.dirichlet(np.full(50, 0.3))
        chosen = resample_systematically(weights, n, rng)
        assert chosen.shape == (n,)
        counts = np.bincount(chosen, minlength=50)
        # Up to the rounding of the cumulated weights.
        assert np.all(counts >= np.floor(n * weights - 1e-9))
        assert np.all(counts <= np.ceil(n * weights + 1e-9))


def test_resampling_is_unbiased():
    rng = np.random.default_rng(1)
    weights = np.array([0.05, 0.5, 0.0, 0.27, 0.18])
    rounds = 20_000
    counts = sum(
        np.bincount(resample_systematically(weights, 3, rng), minlength=5) for _ in range(rounds)
    )
    assert counts[2] == 0
    expected = 3 * weights
    # A count is the floor or one more: its variance is that of a coin. Five counts at 5.2 sds.
    error = np.sqrt((expected % 1) * (1 - expected % 1) / rounds)
    assert np.all(np.abs(counts / rounds - expected) <= stats.norm.isf(1e-7) * error)


def test_resampled_draws_are_in_random_order():
    """Otherwise the first half of the draws would come from the first half of the proposals."""
    rng = np.random.default_rng(2)
    first = [resample_systematically(np.full(10, 0.1), 10, rng)[0] for _ in range(5000)]
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-6


def test_resampling_by_weights_with_rounding_errors_stays_within_the_draws():
    """Weights that do not sum to one exactly must not lead past the last draw."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        weights = np.full(3, 1 / 3).astype(np.float32).astype(np.float64)
        assert resample_systematically(weights, 1000, rng).max() <= 2
