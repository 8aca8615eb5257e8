"""Particles of the posterior, by tempered sequential Monte Carlo from the prior.

They are drawn from the prior, and the likelihood is raised to powers that grow from 0 to 1 (Del
Moral, Doucet and Jasra 2006, *Sequential Monte Carlo samplers*). At each power particles are
resampled by their weights and moved by Hamiltonian Monte Carlo. They do not depend on any optimum,
and reach all labellings.
"""

import itertools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.data.units import standardize_value
from bgmm_jd.model.prior_draws import draw_prior
from bgmm_jd.sampling.hamiltonian import Particles, Trajectory, move, particles_at
from bgmm_jd.settings import AnnealingSettings, ScoutSettings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.tempered import TemperedDensity

_LONGEST_STEP, _SHORTEST_STEP = 1.0, 1e-3
_FEWEST_POSSIBLE = 0.1  # fraction of the particles that must have a finite likelihood
_MOST_POWERS = 600  # some 60 are usual; no end is in sight where a row is 1e7 sds from others


class Annealed(NamedTuple):
    """Particles of the posterior, in independent groups.

    points : [groups, n, P], in unconstrained coordinates. n is 0 where the prior's draws have no
        likelihood that is finite, or the posterior is too far from them.
    log_evidence : [groups], the estimate of each, with all labellings; -inf where n is 0.
    """

    points: np.ndarray
    log_evidence: np.ndarray


def anneal(
    posterior: TemperedDensity,
    rng: np.random.Generator,
    settings: ScoutSettings | AnnealingSettings,
    groups: int = 1,
) -> Annealed:
    """Move particles from the prior to the posterior.

    The groups have their powers and the lengths of their moves in common, but no particles.

    Parameters
    ----------
    posterior : with the likelihood to the power of 1.
    rng : np.random.Generator
    settings : ScoutSettings or AnnealingSettings
    groups : int
    """
    points = prior_points(posterior.problem, groups * settings.particles, rng)
    particles = particles_at(posterior, points)
    temperature, step, log_evidence = 0.0, settings.first_step, np.zeros(groups)
    powers = itertools.count(1)
    while temperature < 1.0:
        likelihood = particles.density.log_likelihood
        possible = np.isfinite(likelihood).reshape(groups, -1).mean(axis=1)
        if possible.min() < _FEWEST_POSSIBLE or next(powers) > _MOST_POWERS:
            return Annealed(np.empty((groups, 0, points.shape[1])), np.full(groups, -np.inf))
        before, temperature = temperature, _next_temperature(likelihood, temperature, settings)
        weight, log_mean = weights_after_rise(likelihood.reshape(groups, -1), temperature - before)
        log_evidence += log_mean
        particles = particles.chosen(_resampled_in_groups(weight, rng))
        particles, step = move_all(posterior.at(temperature), particles, step, rng, settings)
    return Annealed(particles.points.reshape(groups, -1, points.shape[1]), log_evidence)


def prior_points(problem: Problem, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of the prior [n, P]; a coordinate out of the dtype's range becomes zero."""
    model = problem.standardized_model
    first, second = rng.integers(2**31, size=2).tolist()
    draws = draw_prior(model.prior, n, (first, second))
    theta = {}
    for site in model.sites:
        value = tf.cast(draws[site.name], model.dtype)
        theta[site.name] = standardize_value(site.transformation, value, site.bound_standardization)
    points = flatten(model, theta).numpy().astype(np.float64)
    return np.where(np.isfinite(points), points, 0.0)


def _next_temperature(
    log_likelihood: np.ndarray, temperature: float, settings: ScoutSettings | AnnealingSettings
) -> float:
    """Return the next power, at which so many of all particles are still effective."""

    def is_degenerate(power: float) -> bool:
        weight, _ = weights_after_rise(log_likelihood, power - temperature)
        return 1.0 / (weight**2).sum() < settings.effective * len(weight)

    if not is_degenerate(1.0):
        return 1.0
    lower, upper = temperature, 1.0
    for _ in range(40):
        middle = (lower + upper) / 2.0
        lower, upper = (lower, middle) if is_degenerate(middle) else (middle, upper)
    return upper


def weights_after_rise(
    log_likelihood: np.ndarray, difference: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return weights of particles [..., n] after a rise of the power, and the log of their mean.

    The weights sum to 1 along the last axis. A likelihood that is not finite has none.
    """
    possible = np.where(np.isfinite(log_likelihood), log_likelihood, -np.inf)
    most = possible.max(axis=-1, keepdims=True)
    weight = np.exp(difference * (possible - most))
    total = weight.sum(axis=-1, keepdims=True)
    log_mean = difference * most + np.log(total / weight.shape[-1])
    return weight / total, log_mean[..., 0]


def _resampled_in_groups(weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the numbers of the particles that are chosen by weights [groups, n], within each.

    In their order, so that those with a common ancestor stay beside each other.
    """
    groups, n = weight.shape
    chosen = [g * n + resample_systematically(weight[g], n, rng) for g in range(groups)]
    return np.concatenate(chosen)


def move_all(
    target: TemperedDensity,
    particles: Particles,
    step: float,
    rng: np.random.Generator,
    settings: ScoutSettings | AnnealingSettings,
) -> tuple[Particles, float]:
    """Move all particles by Hamiltonian Monte Carlo; return them and the step size adapted."""
    for _ in range(settings.moves):
        scale = np.diag(curvature_scale(particles, target.temperature))
        trajectory = Trajectory(step, settings.leapfrogs, scale)
        particles, acceptance = move(target, particles, trajectory, rng)
        step = adapted_step(step, acceptance, settings.acceptance)
    return particles, step


def curvature_scale(particles: Particles, temperature: float) -> np.ndarray:
    """Return the scale [P] of the coordinates of particles that may be at several modes.

    That of the mean squared gradient, which is the mean curvature of the log density, and not the
    spread of the points, which is that between modes.
    """
    slope = particles.density.slope(temperature)
    return 1.0 / np.sqrt(np.nanmean(slope**2, axis=0) + 1e-6)


def adapted_step(step: float, acceptance: np.ndarray, wanted: float) -> float:
    """Return the step size after a move with these probabilities of acceptance [n]."""
    changed = step * np.exp(acceptance.mean() - wanted)
    return float(np.clip(changed, _SHORTEST_STEP, _LONGEST_STEP))
