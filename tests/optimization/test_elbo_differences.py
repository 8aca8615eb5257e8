"""Differences of elbos under common random numbers, and valleys of the elbo between surrogates."""

import numpy as np
import pytest
from builders import problem_for, started, with_settings
from small_problems import overlapping_start, two_groups

from bgmm_jd.data.standardize import subsample
from bgmm_jd.optimization import elbo_differences
from bgmm_jd.settings import MemorySettings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.labels import permute_parameters
from bgmm_jd.variational.parameters import between, constrained_arrays, unconstrained_arrays

Z_ALARM = 5.0  # false alarms: 6e-7


@pytest.fixture(scope="module")
def approximation():
    return overlapping_start()


def moved(approximation, by):
    """Return the parameters with their means moved by so many sds."""
    means = approximation.params["means"]
    moved_means = means | {"loc": means["loc"] + by * means["scale"]}
    return {**approximation.params, "means": moved_means}


def independent_elbo(problem, params, seed):
    draws = draw_mean_field(problem, params, 20_000, seed)
    terms = log_joint_of_draws(problem, draws) - draws.log_q.numpy()
    return terms.mean(), terms.std() / len(terms) ** 0.5


def test_elbo_is_not_higher_than_itself(approximation):
    same = approximation.params
    assert elbo_differences.elbo_gain(approximation.problem, same, same) == (0.0, 0.0)


def test_gain_is_the_difference_of_independent_estimates_with_a_smaller_error(approximation):
    """The more alike the two surrogates, the more errors they have in common."""
    problem, here = approximation.problem, approximation.params
    first, first_se = independent_elbo(problem, here, seed=0)
    errors = []
    for seed, by in enumerate([0.2, 1.0], start=1):
        there = moved(approximation, by)
        gain = elbo_differences.elbo_gain(problem, here, there)
        second, second_se = independent_elbo(problem, there, seed)
        error = np.hypot(gain.se, np.hypot(first_se, second_se))
        assert abs(gain.gain - (second - first)) < Z_ALARM * error
        errors.append(gain.se)
    alone = np.hypot(first_se, second_se) * (20_000 / 400) ** 0.5
    assert errors[0] < errors[1] < alone


def test_a_difference_that_is_out_of_range_is_not_known():
    """Each elbo is finite, and the squares of their differences are not."""
    far = np.array([1e200, -1e200, 0.0])
    assert np.isnan(elbo_differences.difference(far, np.zeros(3))).all()
    assert np.isnan(elbo_differences.difference(far, np.array([0.0, np.inf, 0.0]))).all()


def test_there_is_a_valley_between_two_labellings_and_none_within_one():
    approximation = started(problem_for(two_groups(64), 2, execution="graph"))
    problem, params = approximation.problem, approximation.params
    sites = problem.model.sites
    swapped = permute_parameters(sites, params, np.array([1, 0]))
    assert elbo_differences.has_valley_between(problem, params, swapped)
    starts = [unconstrained_arrays(sites, one) for one in (params, moved(approximation, 1.0))]
    half = constrained_arrays(sites, between(*starts, 0.5))
    lower, higher = sorted(
        (params, half), key=lambda one: elbo_differences.elbo_terms(problem, one).mean()
    )
    assert not elbo_differences.has_valley_between(problem, higher, lower)


def test_elbos_out_of_range_are_behind_a_valley(approximation):
    far = moved(approximation, 1e200)
    assert elbo_differences.has_valley_between(approximation.problem, approximation.params, far)


def test_elbos_are_compared_on_all_rows_if_that_takes_little_time(approximation):
    problem = approximation.problem
    assert elbo_differences.are_affordable(problem)
    few = problem.on(subsample(problem.data, 50, np.random.default_rng(0)))
    assert not elbo_differences.are_affordable(few)
    draws = 100 * problem.settings.optimization.comparison_draws
    numbers = problem.numbers_per_row * problem.data.shape[0] * draws
    for affordable, expected in ((numbers, True), (numbers - 1, False)):
        limited = with_settings(approximation, memory=MemorySettings(affordable=affordable))
        assert elbo_differences.are_affordable(limited.problem) is expected
