"""Proposals of the calibrated distribution, and their importance weights."""

from dataclasses import replace

import numpy as np
import pytest
from builders import with_settings
from mean_fields import PRIORS, empty_in, mean_field_near

from bgmm_jd.calibration import importance_sampling
from bgmm_jd.calibration.importance_sampling import (
    WeightedDraws,
    draw_proposal,
    draw_weighted,
    normal_from_weighted,
    refine_proposal,
    surrogate_khat,
)
from bgmm_jd.settings import MemorySettings
from bgmm_jd.variational.approximation import (
    AVERAGED,
    Calibration,
    MultivariateNormal,
    draw_mean_field,
)
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.surrogate import surrogate_in_data_units


@pytest.fixture
def calibrated(two_clusters_posterior):
    """The calibrated approximation of two clusters: 9 parameters."""
    return two_clusters_posterior.approximation


# --- Proposals -----------------------------------------------------------------------------------


def test_proposal_and_surrogate_estimate_the_same_evidence(calibrated):
    """E_q[joint / q] is the evidence for any q: proposal and surrogate must agree on it.

    Within five standard errors of both, a false alarm once in two million runs. An error of half a
    log K in the log-det-Jacobian, 0.35, is twenty of them.
    """
    problem = calibrated.problem
    logs = []
    for draws in (
        draw_mean_field(problem, calibrated.params, 20_000, 3),
        draw_proposal(calibrated, 20_000, np.random.default_rng(3)),
    ):
        log_ratio = log_joint_of_draws(problem, draws) - draws.log_q.numpy()
        weight = np.exp(log_ratio - log_ratio.max())
        error = weight.std() / weight.mean() / len(weight) ** 0.5
        logs.append((np.log(weight.mean()) + log_ratio.max(), error))
    (one, one_error), (other, other_error) = logs
    assert abs(one - other) < 5 * np.hypot(one_error, other_error)


@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("name", PRIORS)
def test_density_of_a_proposal_with_empty_components_has_mass_one(name, widened):
    """The mean of (density of the surrogate / density of the proposal) over proposals is 1.

    Widened ones have an empty component at a row in half of the draws. The normal distribution is
    that of the surrogate's informed coordinates, but half as wide again. Six standard errors of
    20,000 draws: a false alarm of 2e-9 each.
    """
    mean_field = mean_field_near(name)
    problem, params, empty = mean_field.problem, mean_field.params, empty_in(mean_field)
    points = draw_mean_field(problem, params, 5_000, seed=2).points[:, empty.informed]
    normal = MultivariateNormal(points.mean(axis=0), np.diag(1.5 * points.std(axis=0)))
    calibration = Calibration(AVERAGED, normal, empty, is_weighted=True)
    approximation = replace(mean_field, calibration=calibration)
    found = draw_proposal(approximation, 20_000, np.random.default_rng(3), widened=widened)
    surrogate = surrogate_in_data_units(problem.standardized_model, params)
    ratio = np.exp(surrogate.log_prob(list(found.theta.values())) - found.log_q)
    assert abs(ratio.mean() - 1.0) < 6.0 * ratio.std() / len(ratio) ** 0.5
    assert ratio.std() / len(ratio) ** 0.5 < 0.1  # or the test would show nothing


# --- Weights -------------------------------------------------------------------------------------


def test_weights_of_a_good_proposal_are_even(calibrated):
    found = draw_weighted(calibrated, 1_000, np.random.default_rng(0))
    assert found.weights.sum() == pytest.approx(1.0)
    assert found.khat < 0.5
    assert 1 / (found.weights**2).sum() > 0.5 * len(found.weights)


def test_khat_is_infinite_where_no_draw_has_a_density(calibrated):
    """A normal distribution far out of range: the worst k-hat and equal weights, no best k-hat."""
    far = MultivariateNormal(np.full(9, 1e6), np.eye(9))
    nowhere = replace(calibrated, calibration=calibrated.calibration._replace(normal=far))
    found = draw_weighted(nowhere, 100, np.random.default_rng(0))
    assert not np.isfinite(log_joint_of_draws(nowhere.problem, found.draws)).any()
    assert found.khat == np.inf
    np.testing.assert_array_equal(found.weights, 1 / 300)


def test_fewer_proposals_are_weighted_where_three_each_are_not_affordable(two_clusters_posterior):
    """At least one proposal for each draw, and it has its weight."""
    problem = two_clusters_posterior.problem
    numbers = problem.numbers_per_row * problem.data.shape[0]
    limited = with_settings(
        two_clusters_posterior.approximation, memory=MemorySettings(affordable=300 * numbers)
    )
    assert len(draw_weighted(limited, 250, np.random.default_rng(0)).weights) == 300
    assert len(draw_weighted(limited, 1_000, np.random.default_rng(0)).weights) == 1_000
    posterior = replace(two_clusters_posterior, approximation=limited)
    drawn = posterior.sample(1_000)["weights"]
    assert len(np.unique(drawn[:, 0])) < 1_000  # as weights repeat some


def test_khat_is_known_where_the_elbo_took_few_draws(calibrated):
    """As many more are drawn as the estimate needs."""
    few = draw_mean_field(calibrated.problem, calibrated.params, 32, seed=0)
    assert np.isfinite(surrogate_khat(calibrated, few, seed=0))


# --- Moments of weighted draws -------------------------------------------------------------------


def test_normal_from_weighted_draws_is_none_if_they_are_too_few(calibrated):
    """9 parameters: the noise of 40 draws of equal weight adds more variance than weights have."""
    calibration = calibrated.calibration
    draws = draw_mean_field(calibrated.problem, calibrated.params, 40, 0)
    few = WeightedDraws(draws, np.full(40, 1 / 40), 0.5)
    assert normal_from_weighted(few, calibration) is None
    found = draw_weighted(calibrated, 2_000, np.random.default_rng(0))
    assert len(normal_from_weighted(found, calibration).mean) == 9


@pytest.mark.parametrize(
    ("before", "after", "is_adopted"),
    [
        ((0.4, 0.5), (0.2, 0.6), True),
        ((0.4, 0.5), (0.2, 0.3), False),
        ((0.4, 0.5), (0.45, 0.6), False),
        ((0.8, 0.5), (0.2, 0.3), True),  # above 0.7 the efficiency is not known
    ],
    ids=["better", "less efficient", "higher k-hat", "unusable before"],
)
def test_moments_of_weighted_draws_are_adopted_where_they_are_better(
    calibrated, monkeypatch, before, after, is_adopted
):
    """Each proposal is a k-hat and the fraction of its draws that have weight."""
    found = draw_weighted(calibrated, 1_000, np.random.default_rng(0))
    n, proposals = len(found.weights), iter([before, after])

    def weighted(*_):
        khat, fraction = next(proposals, after)
        weights = (np.arange(n) < fraction * n) / (fraction * n)
        return WeightedDraws(found.draws, weights, khat)

    monkeypatch.setattr(importance_sampling, "draw_weighted", weighted)
    chosen, khat = refine_proposal(calibrated, calibrated.calibration, seed=0)
    assert (chosen is not calibrated.calibration) == is_adopted
    assert khat == (after if is_adopted else before)[0]


def test_draws_out_of_range_take_no_part_in_the_moments(calibrated):
    """They have no weight, and infinite coordinates."""
    found = draw_weighted(calibrated, 2_000, np.random.default_rng(0))
    expected = normal_from_weighted(found, calibrated.calibration)
    points = np.concatenate([found.draws.points, np.full((5, found.draws.points.shape[1]), np.inf)])
    weights = np.append(found.weights, np.zeros(5))
    more = found._replace(draws=found.draws._replace(points=points), weights=weights)
    normal = normal_from_weighted(more, calibrated.calibration)
    np.testing.assert_array_equal(normal.mean, expected.mean)
    np.testing.assert_array_equal(normal.factor, expected.factor)
