"""Chains of Hamiltonian Monte Carlo, of a normal distribution whose moments are known."""

import numpy as np
import pytest
from normal_target import COVARIANCE, MEAN, NormalTarget, draw

from bgmm_jd.sampling.chains import advance, mixing, warm_up
from bgmm_jd.settings import ChainSettings

SETTINGS = ChainSettings()
Z_ALARM = 4.5  # false alarms: 7e-6


def run(scale, start, seed=0, moves=200):
    rng = np.random.default_rng(seed)
    chains = warm_up(NormalTarget(), start, scale, rng, SETTINGS)
    return advance(NormalTarget(), chains, moves, rng, SETTINGS)


@pytest.mark.parametrize(
    "scale",
    [np.linalg.cholesky(COVARIANCE), 0.1 * np.eye(3), np.diag([30.0, 0.3, 0.03])],
    ids=["right", "round", "far off"],
)
def test_chains_find_the_distribution_whatever_scale_they_begin_with(scale):
    _, points = run(scale, draw(SETTINGS.chains, seed=1))
    assert points.shape == (SETTINGS.chains, 200, 3)
    found = mixing(points)
    assert found.rhat < SETTINGS.rhat
    assert found.effective > SETTINGS.effective
    flat, sd = points.reshape(-1, 3), np.sqrt(np.diag(COVARIANCE))
    assert (np.abs(flat.mean(axis=0) - MEAN) < Z_ALARM * sd / found.effective**0.5).all()
    # The log of an sd from n draws has an error of sqrt(1 / 2 n); squares mix more slowly.
    assert (np.abs(np.log(flat.std(axis=0) / sd)) < Z_ALARM / found.effective**0.5).all()


def test_the_scale_becomes_that_of_the_distribution():
    chains, _ = run(0.1 * np.eye(3), draw(SETTINGS.chains, seed=2))
    relative = np.linalg.solve(chains.scale, np.linalg.cholesky(COVARIANCE))
    # It is that of 32 chains in 40 moves, worth a draw for every four: a variance of theirs has a
    # relative error of sqrt(2 / 320).
    assert np.abs(relative @ relative.T - np.eye(3)).max() < Z_ALARM * (2.0 / 320.0) ** 0.5
    assert chains.step > SETTINGS.first_step  # of a standard normal nearly all would be accepted


def test_chains_that_begin_in_one_place_spread():
    start = np.tile(MEAN + 2.0 * np.sqrt(np.diag(COVARIANCE)), (SETTINGS.chains, 1))
    _, points = run(np.linalg.cholesky(COVARIANCE), start)
    assert mixing(points).rhat < SETTINGS.rhat


@pytest.mark.contract
def test_chains_that_are_apart_have_not_mixed():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(8, 200, 2))
    together = mixing(points)
    assert together.rhat < 1.05
    assert together.effective > 800  # of 1,600 independent draws
    points[:4, :, 1] += 3.0
    apart = mixing(points)
    assert apart.rhat > 1.5
    assert apart.effective < 50


def test_equal_seeds_give_equal_chains():
    start = draw(SETTINGS.chains, seed=4)
    first, second = (run(np.eye(3), start, seed=5, moves=5)[1] for _ in range(2))
    np.testing.assert_array_equal(first, second)
