"""A scout for modes that no start finds: tempered sequential Monte Carlo from the prior.

Particles are drawn from the prior, and the likelihood is raised to powers that grow from 0 to 1
(Del Moral, Doucet and Jasra 2006, *Sequential Monte Carlo samplers*). At each power particles are
resampled by their weights and moved by Hamiltonian Monte Carlo. What is left at the end shows where
the posterior has its mass; it serves as a cloud to which a proposal is fitted, and need not be
exact.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.data.units import standardize_value
from bgmm_jd.settings import ScoutSettings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.evaluation import Tempered, tempered_density

_LONGEST_STEP, _SHORTEST_STEP = 1.0, 1e-3
_FEWEST_POSSIBLE = 0.1  # fraction of the particles that must have a finite likelihood


class Particles(NamedTuple):
    """Points [n, P] and the densities there."""

    points: np.ndarray
    density: Tempered


def is_affordable(problem: Problem) -> bool:
    """Return whether moves by Hamiltonian Monte Carlo are affordable for the rows of a problem."""
    numbers = problem.numbers_per_row * problem.data.shape[0]
    return numbers <= problem.settings.scout.most_numbers


def scout(problem: Problem, rng: np.random.Generator, settings: ScoutSettings) -> np.ndarray:
    """Return particles of the posterior [n, P], in unconstrained coordinates.

    An empty array where the prior's draws have no likelihood that is finite.
    """
    points = prior_points(problem, settings.particles, rng)
    likelihood = tempered_density(problem, points, 0.0).log_likelihood
    temperature, step = 0.0, settings.first_step
    while temperature < 1.0:
        if np.isfinite(likelihood).sum() < _FEWEST_POSSIBLE * settings.particles:
            return points[:0]
        temperature, weight = _next_temperature(likelihood, temperature, settings)
        chosen = resample_systematically(weight, settings.particles, rng)
        (points, density), step = _move(problem, points[chosen], temperature, step, rng, settings)
        likelihood = density.log_likelihood
    return points


def moved(
    problem: Problem, points: np.ndarray, rng: np.random.Generator, settings: ScoutSettings
) -> np.ndarray:
    """Return approximate draws of the posterior [n, P] after moves that leave it invariant."""
    step = settings.first_step
    for _ in range(settings.rejuvenations):
        (points, _), step = _move(problem, points, 1.0, step, rng, settings)
    return points


def prior_points(problem: Problem, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points of the prior [n, P]; a coordinate out of the dtype's range becomes zero."""
    model = problem.standardized_model
    seed = rng.integers(2**31, size=2).tolist()
    draws = model.prior.sample(n, seed=seed)._asdict()
    theta = {}
    for site in model.sites:
        value = tf.cast(draws[site.name], model.dtype)
        theta[site.name] = standardize_value(site.transformation, value, site.bound_standardization)
    points = flatten(model, theta).numpy().astype(np.float64)
    return np.where(np.isfinite(points), points, 0.0)


def _next_temperature(
    log_likelihood: np.ndarray, temperature: float, settings: ScoutSettings
) -> tuple[float, np.ndarray]:
    """Return the next power, at which so many particles are still effective, and the weights."""
    finite = np.isfinite(log_likelihood)
    relative = np.where(finite, log_likelihood - log_likelihood[finite].max(), -np.inf)

    def weight_at(power: float) -> np.ndarray:
        weight = np.exp((power - temperature) * relative)
        return weight / weight.sum()

    def is_degenerate(power: float) -> bool:
        return 1.0 / (weight_at(power) ** 2).sum() < settings.effective * len(relative)

    if not is_degenerate(1.0):
        return 1.0, weight_at(1.0)
    lower, upper = temperature, 1.0
    for _ in range(40):
        middle = (lower + upper) / 2.0
        lower, upper = (lower, middle) if is_degenerate(middle) else (middle, upper)
    return upper, weight_at(upper)


def _move(
    problem: Problem,
    points: np.ndarray,
    temperature: float,
    step: float,
    rng: np.random.Generator,
    settings: ScoutSettings,
) -> tuple[Particles, float]:
    """Move all particles by Hamiltonian Monte Carlo; return them and the step size adapted.

    The mass of a coordinate is the particles' mean squared gradient, which is the mean curvature of
    the log density, and not their spread, which is that between modes.
    """
    particles = Particles(points, tempered_density(problem, points, temperature))
    for _ in range(settings.moves):
        mass = np.nanmean(particles.density.slope**2, axis=0) + 1e-6
        proposed, log_ratio = _leapfrogs(problem, particles, temperature, step, mass, rng, settings)
        accepted = np.log(rng.random(len(log_ratio))) < log_ratio
        particles = _merge(accepted, proposed, particles)
        step *= np.exp(accepted.mean() - settings.acceptance)
        step = float(np.clip(step, _SHORTEST_STEP, _LONGEST_STEP))
    return particles, step


def _leapfrogs(
    problem: Problem,
    particles: Particles,
    temperature: float,
    step: float,
    mass: np.ndarray,
    rng: np.random.Generator,
    settings: ScoutSettings,
) -> tuple[Particles, np.ndarray]:
    """Return where the particles go, and the log of the acceptance probabilities [n]."""
    points, density = particles
    # Steps of different length for each particle, so that none returns to where it began.
    length = step * rng.uniform(0.7, 1.3, (len(points), 1))
    momentum = rng.standard_normal(points.shape) * np.sqrt(mass)
    before = _energy(density, momentum, mass, temperature)
    with np.errstate(all="ignore"):
        for _ in range(settings.leapfrogs):
            momentum = momentum + 0.5 * length * density.slope
            points = points + length * momentum / mass
            density = tempered_density(problem, points, temperature)
            momentum = momentum + 0.5 * length * density.slope
        after = _energy(density, momentum, mass, temperature)
        log_ratio = before - after
    return Particles(points, density), np.where(np.isnan(log_ratio), -np.inf, log_ratio)


def _energy(
    density: Tempered, momentum: np.ndarray, mass: np.ndarray, temperature: float
) -> np.ndarray:
    potential = -density.log_prior - temperature * density.log_likelihood
    return potential + 0.5 * (momentum**2 / mass).sum(axis=1)


def _merge(accepted: np.ndarray, proposed: Particles, before: Particles) -> Particles:
    """Return the proposed particles where they are accepted, and those before elsewhere."""

    def pick(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    density = Tempered(*(pick(n, o) for n, o in zip(proposed.density, before.density, strict=True)))
    return Particles(pick(proposed.points, before.points), density)
