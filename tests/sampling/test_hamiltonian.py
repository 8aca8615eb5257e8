"""Moves by Hamiltonian Monte Carlo, of a normal distribution whose moments are known."""

import numpy as np
import pytest
from normal_target import COVARIANCE, MEAN, NormalTarget, draw

from bgmm_jd.sampling.hamiltonian import Trajectory, move, particles_at

N = 20_000
Z_ALARM = 4.5  # false alarms: 7e-6
SCALES = {"sds": np.diag(np.sqrt(np.diag(COVARIANCE))), "factor": np.linalg.cholesky(COVARIANCE)}


def moved(points, trajectory, seed, moves=3, target=None):
    target = NormalTarget() if target is None else target
    rng, particles = np.random.default_rng(seed), particles_at(target, points)
    for _ in range(moves):
        particles, acceptance = move(target, particles, trajectory, rng)
    return particles.points, acceptance


@pytest.mark.parametrize("scale", SCALES)
def test_moves_leave_the_distribution_invariant(scale):
    """With steps so long that some of the moves are refused, but stable ones."""
    before, curvature = draw(N, seed=0), np.linalg.inv(COVARIANCE)
    M = SCALES[scale]
    stable = 2.0 / np.sqrt(np.linalg.eigvalsh(M.T @ curvature @ M).max())
    step = 0.9 * stable / 1.3  # the longest steps are 30 % longer
    after, acceptance = moved(before, Trajectory(step, 3, SCALES[scale]), seed=1)
    assert 0.2 < acceptance.mean() < 0.95
    assert (before != after).any(axis=1).mean() > 0.9
    sd = np.sqrt(np.diag(COVARIANCE))
    assert (np.abs(after.mean(axis=0) - MEAN) < Z_ALARM * sd / N**0.5).all()
    centred = (after - MEAN) / sd
    # The variance of a product of two standard normals with correlation r is 1 + r^2.
    correlation = COVARIANCE / np.outer(sd, sd)
    limit = Z_ALARM * np.sqrt((1.0 + correlation**2) / N)
    assert (np.abs(centred.T @ centred / N - correlation) < limit).all()


def test_short_steps_are_all_accepted():
    _, acceptance = moved(draw(1_000, seed=2), Trajectory(0.01, 5, SCALES["factor"]), seed=3)
    assert acceptance.min() > 0.999


def test_a_quarter_of_a_period_forgets_the_starting_point():
    """In units of the scale the coordinates turn by the angle of steps times their length."""
    before = draw(N, seed=4)
    after, _ = moved(before, Trajectory(np.pi / 2 / 20, 20, SCALES["factor"]), seed=5, moves=1)
    whitened = [np.linalg.solve(SCALES["factor"], (x - MEAN).T) for x in (before, after)]
    # The lengths vary by 30 % to either side, evenly: the mean of the cosine of the angle.
    edges = np.sin(np.pi / 2 * np.array([0.7, 1.3]))
    expected = (edges[1] - edges[0]) / (np.pi / 2 * 0.6)
    found = (whitened[0] * whitened[1]).mean(axis=1)
    assert (np.abs(found - expected) < Z_ALARM / N**0.5).all()


def test_no_point_moves_to_where_the_density_is_not_a_number():
    target = NormalTarget(wall=2.0)
    inside = draw(N, seed=6)
    inside = inside[inside[:, 0] < 2.0]
    after, _ = moved(inside, Trajectory(0.5, 3, SCALES["factor"]), seed=7, target=target)
    assert (after[:, 0] < 2.0).all()
    assert after[:, 0].max() > 1.9
