"""Importance weights on ratios whose answer is known.

A statistical test raises a false alarm with probability 1e-6; the seeds are fixed.
"""

import numpy as np
import pytest
from scipy import stats

from bgmm_jd.calibration.psis import pareto_smooth, resample_systematically
from bgmm_jd.reporting.arviz_version import arviz_major_version, import_arviz

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


@pytest.mark.skipif(arviz_major_version() != 0, reason="arviz 1.x smooths another tail")
@pytest.mark.parametrize("name", RATIOS)
@pytest.mark.parametrize("S", [50, 200, 3000])
def test_weights_and_khat_are_those_of_arviz(name, S):
    """Draws of equal weights may change places, and so the weights are sorted."""
    log_ratio = RATIOS[name](np.random.default_rng(S), S)
    with np.errstate(all="ignore"):
        expected, shape = import_arviz().psislw(log_ratio)
    weights, khat = pareto_smooth(log_ratio)
    expected = np.exp(expected - np.max(expected))
    expected = np.sort(expected / expected.sum())
    # ArviZ computes with logs, where smaller ones than that do not underflow on the way.
    np.testing.assert_allclose(np.sort(weights), expected, rtol=1e-10, atol=1e-200)
    np.testing.assert_allclose(khat, shape if np.isfinite(shape) else np.inf, rtol=1e-10)


@pytest.mark.parametrize("constant", [0.0, -3e4, 1e-12])
def test_constant_ratios_give_equal_weights_and_no_doubt(constant):
    weights, khat = pareto_smooth(np.full(1000, constant))
    np.testing.assert_allclose(weights, 1e-3, rtol=1e-12)
    assert khat < 0.5


def test_a_constant_does_not_matter():
    """Nor one so large that the weights themselves would overflow."""
    log_ratio = np.random.default_rng(0).normal(size=1000)
    weights, khat = pareto_smooth(log_ratio)
    for constant in (1e5, -1e5):
        shifted, other = pareto_smooth(log_ratio + constant)
        # Adding 1e5 costs five of sixteen digits.
        np.testing.assert_allclose(shifted, weights, rtol=1e-9)
        np.testing.assert_allclose(other, khat, atol=1e-8)


@pytest.mark.parametrize("sd", [200, 600, 1000])
def test_hopeless_ratios_are_no_warning(sd):
    """Which would end a fit where warnings are errors: the k-hat says it all."""
    for seed in range(20):
        weights, khat = pareto_smooth(sd * np.random.default_rng(seed).normal(size=3000))
        assert np.isfinite(weights).all()
        assert weights.sum() == pytest.approx(1)
        assert khat > 0.7


def test_the_input_is_left_alone():
    log_ratio = np.random.default_rng(0).normal(size=1000)
    before = log_ratio.copy()
    pareto_smooth(log_ratio)
    np.testing.assert_array_equal(log_ratio, before)


def test_weights_are_the_ratios_below_the_tail():
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
def test_khat_is_the_shape_of_a_pareto_tail(shape):
    """Ratios u^-k have a generalized Pareto tail of shape k, above any cut."""
    S = 100_000
    u = np.random.default_rng(0).random(S)
    _, khat = pareto_smooth(-shape * np.log(u))
    tail = 3 * np.sqrt(S)
    # Its maximum likelihood estimate has the standard error (1 + k) / sqrt(tail) (Smith 1987);
    # the fit's prior, worth 10 draws, pulls it towards 0.5.
    error = (1 + shape) / np.sqrt(tail)
    assert abs(khat - shape) < stats.norm.isf(5e-7) * error + 10 / tail * abs(shape - 0.5)


def test_smoothed_weights_estimate_a_known_mean():
    """N(0, 1) from draws of N(0.3, 1.3^2): its mean and second moment."""
    S = 20_000
    proposal, target = stats.norm(0.3, 1.3), stats.norm()
    x = proposal.rvs(S, random_state=0)
    ratio = target.logpdf(x) - proposal.logpdf(x)
    weights, khat = pareto_smooth(ratio)
    assert khat < 0.5  # the ratios are bounded
    for value, expected in ((x, 0.0), (x**2, 1.0)):
        error = np.sqrt(np.sum(weights**2 * (value - expected) ** 2))
        assert abs(np.sum(weights * value) - expected) < stats.norm.isf(5e-7) * error


@pytest.mark.parametrize("n", [1, 7, 100, 1000])
def test_resampling_takes_floor_or_ceiling_of_each_share(n):
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
    share = 3 * weights
    # A count is the floor or one more: its variance is that of a coin. 5 shares at 5.2 sds.
    error = np.sqrt((share % 1) * (1 - share % 1) / rounds)
    assert np.all(np.abs(counts / rounds - share) <= stats.norm.isf(1e-7) * error)


def test_resamples_come_in_random_order():
    """Or the first half of the draws would be of the first half of the proposals."""
    rng = np.random.default_rng(2)
    first = [resample_systematically(np.full(10, 0.1), 10, rng)[0] for _ in range(5000)]
    assert stats.chisquare(np.bincount(first, minlength=10)).pvalue > 1e-6


def test_weights_need_not_sum_to_one_exactly():
    """Rounding must not lead past the last draw."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        weights = np.full(3, 1 / 3).astype(np.float32).astype(np.float64)
        assert resample_systematically(weights, 1000, rng).max() <= 2
