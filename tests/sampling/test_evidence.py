"""The pieces of the log evidence: permanents, errors, and the bound by the surrogate."""

import itertools
import math

import numpy as np
import pytest
from builders import problem_for, started
from scipy import special, stats

from bgmm_jd.sampling.evidence import (
    Evidence,
    evidence_of_weights,
    log_labellings_of_surrogate,
    log_permanent,
    with_error_of_other,
)
from bgmm_jd.variational.approximation import draw_mean_field

Z_ALARM = 4.5  # false alarms: 7e-6


def permanent_by_enumeration(gains):
    K = len(gains)
    orders = itertools.permutations(range(K))
    return special.logsumexp([gains[np.arange(K), list(order)].sum() for order in orders])


@pytest.mark.parametrize("K", [1, 2, 5, 7])
def test_permanent_is_the_sum_over_all_permutations(K):
    gains = np.random.default_rng(K).normal(scale=5.0, size=(K, K))
    assert log_permanent(gains) == pytest.approx(permanent_by_enumeration(gains), rel=1e-12)


def test_permanent_of_a_matrix_of_ones_is_a_factorial():
    assert log_permanent(np.zeros((10, 10))) == pytest.approx(math.lgamma(11))


def test_evidence_is_the_mean_of_the_weights_with_its_error():
    """Weights of a normal density under a wider normal proposal: their mean is 1."""
    errors = []
    for seed in range(200):
        x = 1.5 * np.random.default_rng(seed).standard_normal(2_000)
        log_ratio = stats.norm.logpdf(x) - stats.norm.logpdf(x, scale=1.5)
        found = evidence_of_weights(log_ratio, khat=0.0)
        errors.append(found.log / found.se)
    # The larger of two estimates of the error: the quotients have an sd a little below 1.
    assert abs(np.mean(errors)) < Z_ALARM / 200**0.5
    assert 0.6 < np.std(errors) < 1.0 + Z_ALARM / 400**0.5


def test_error_grows_with_khat():
    log_ratio = np.random.default_rng(0).normal(size=10_000)
    good, bad = (evidence_of_weights(log_ratio, khat) for khat in (0.5, 0.7))
    assert bad.log == good.log
    assert bad.se == pytest.approx(good.se * 10_000**0.2)


def added_by_labellings(centres, K):
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(c, 1.0, size=(50, 1)) for c in centres])
    problem = problem_for(rows, K)
    params = started(problem).params
    draws = draw_mean_field(problem, params, 100, seed=1)
    return log_labellings_of_surrogate(problem, params, draws)


def test_components_far_apart_add_all_labellings():
    assert added_by_labellings([-50.0, 0.0, 50.0], 3) == pytest.approx(math.log(6.0), abs=1e-6)


def test_overlapping_components_add_less():
    found = added_by_labellings([0.0, 0.1], 2)
    assert 0.0 <= found < math.log(2.0)


def test_one_component_adds_nothing():
    assert added_by_labellings([0.0], 1) == 0.0


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (Evidence(-5.1, 0.1), 0.2),
        (Evidence(-5.1, 0.3), 0.3),
        (Evidence(-5.8, 0.1), 0.4),
        (Evidence(-6.2, 0.1), np.nan),
        (Evidence(np.nan, np.nan), np.nan),
    ],
)
def test_two_evidences_have_the_largest_error_that_either_or_their_difference_shows(
    other, expected
):
    found = with_error_of_other(Evidence(-5.0, 0.2), other)
    assert found.se == pytest.approx(expected, nan_ok=True)
    assert found.log == -5.0 or np.isnan(found.se)
