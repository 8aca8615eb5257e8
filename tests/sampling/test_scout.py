"""The scout: particles against a posterior by quadrature, and in all labellings."""

import numpy as np
import tensorflow as tf
from builders import problem_for

from bgmm_jd.sampling.scout import moved, scout
from bgmm_jd.settings import ScoutSettings
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.tempered import TemperedDensity

Z_ALARM = 4.5  # false alarms: 7e-6
SETTINGS = ScoutSettings(particles=2_000)


def theta_of(problem, points):
    model = problem.standardized_model
    theta, _ = unflatten(model, tf.constant(points.astype(problem.data.dtype)))
    return {name: v.numpy() for name, v in theta.items()}


def test_particles_have_the_posterior_of_two_equal_clusters_in_both_labellings():
    """The posterior is symmetric: each component is on the left in half of the particles."""
    rng = np.random.default_rng(1)
    rows = np.concatenate([rng.normal(-3.0, 1.0, 15), rng.normal(3.0, 1.0, 15)])[:, np.newaxis]
    problem = problem_for(rows, 2)
    theta = theta_of(problem, scout(TemperedDensity(problem), np.random.default_rng(2), SETTINGS))
    means = theta["means"][..., 0]
    separate = np.abs(means[:, 0] - means[:, 1]) > 1.0
    assert separate.mean() > 0.9
    first_left = (means[:, 0] < means[:, 1]).mean()
    # Particles have common ancestors, a few for each power of the likelihood: 2,000 are worth 200.
    assert abs(first_left - 0.5) < Z_ALARM * 0.5 / 200**0.5


def test_moves_leave_the_posterior_invariant():
    rows = np.random.default_rng(3).normal(size=(30, 1))
    problem = problem_for(rows, 1)
    posterior = TemperedDensity(problem, statistics=tf.float64)
    before = scout(posterior, np.random.default_rng(4), SETTINGS)
    after = moved(posterior, before, np.random.default_rng(5), SETTINGS)
    assert (before != after).any(axis=1).mean() > 0.9
    difference = after.mean(axis=0) - before.mean(axis=0)
    se = np.hypot(before.std(axis=0), after.std(axis=0)) / 200**0.5
    assert (np.abs(difference) < Z_ALARM * se).all()
    assert (np.abs(np.log(after.std(axis=0) / before.std(axis=0))) < Z_ALARM / 200**0.5).all()
