"""A scout for modes that no start finds: tempered sequential Monte Carlo from the prior.

Particles are drawn from the prior, and the likelihood is raised to powers that grow from 0 to 1
(Del Moral, Doucet and Jasra 2006, *Sequential Monte Carlo samplers*). At each power particles are
resampled by their weights and moved by Hamiltonian Monte Carlo. What is left at the end shows where
the posterior has its mass; it serves as a cloud to which a proposal is fitted, and need not be
exact.
"""

import numpy as np
import tensorflow as tf

from bgmm_jd.calibration.psis import resample_systematically
from bgmm_jd.data.units import standardize_value
from bgmm_jd.model.prior_draws import draw_prior
from bgmm_jd.sampling.hamiltonian import Particles, Trajectory, move, particles_at
from bgmm_jd.settings import ScoutSettings
from bgmm_jd.variational.approximation import Approximation, Problem
from bgmm_jd.variational.coordinates import flatten
from bgmm_jd.variational.evaluation import dtype_of_statistics
from bgmm_jd.variational.tempered import TemperedDensity

_LONGEST_STEP, _SHORTEST_STEP = 1.0, 1e-3
_ROUNDING = 1e-2  # nats of a row's log density
_FEWEST_POSSIBLE = 0.1  # fraction of the particles that must have a finite likelihood


def is_affordable(problem: Problem) -> bool:
    """Return whether moves by Hamiltonian Monte Carlo are affordable for the rows of a problem."""
    numbers = problem.numbers_per_row * problem.data.shape[0]
    return numbers <= problem.settings.scout.most_numbers


def density_for_moves(approximation: Approximation) -> TemperedDensity:
    """Return the posterior density that particles move by.

    The likelihood is a matrix product, which is several times faster, where the rounding of a row's
    log density changes nothing that a cloud of particles shows.
    """
    problem = approximation.problem
    statistics = dtype_of_statistics(problem, approximation.params, _ROUNDING, may_be_narrower=True)
    return TemperedDensity(problem, statistics=statistics)


def scout(
    posterior: TemperedDensity, rng: np.random.Generator, settings: ScoutSettings
) -> np.ndarray:
    """Return particles of the posterior [n, P], in unconstrained coordinates.

    An empty array where the prior's draws have no likelihood that is finite.
    """
    points = prior_points(posterior.problem, settings.particles, rng)
    likelihood = posterior.at(0.0).density(points).log_likelihood
    temperature, step = 0.0, settings.first_step
    while temperature < 1.0:
        if np.isfinite(likelihood).sum() < _FEWEST_POSSIBLE * settings.particles:
            return points[:0]
        temperature, weight = _next_temperature(likelihood, temperature, settings)
        chosen = resample_systematically(weight, settings.particles, rng)
        target = posterior.at(temperature)
        (points, density), step = _move(target, points[chosen], step, rng, settings)
        likelihood = density.log_likelihood
    return points


def moved(
    posterior: TemperedDensity,
    points: np.ndarray,
    rng: np.random.Generator,
    settings: ScoutSettings,
) -> np.ndarray:
    """Return approximate draws of the posterior [n, P] after moves that leave it invariant."""
    step = settings.first_step
    for _ in range(settings.rejuvenations):
        (points, _), step = _move(posterior, points, step, rng, settings)
    return points


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
    target: TemperedDensity,
    points: np.ndarray,
    step: float,
    rng: np.random.Generator,
    settings: ScoutSettings,
) -> tuple[Particles, float]:
    """Move all points by Hamiltonian Monte Carlo; return them and the step size adapted."""
    particles = particles_at(target, points)
    for _ in range(settings.moves):
        trajectory = Trajectory(step, settings.leapfrogs, np.diag(curvature_scale(particles)))
        particles, acceptance = move(target, particles, trajectory, rng)
        step = adapted_step(step, acceptance, settings.acceptance)
    return particles, step


def curvature_scale(particles: Particles) -> np.ndarray:
    """Return the scale [P] of the coordinates of particles that may be at several modes.

    That of the mean squared gradient, which is the mean curvature of the log density, and not the
    spread of the points, which is that between modes.
    """
    return 1.0 / np.sqrt(np.nanmean(particles.density.slope**2, axis=0) + 1e-6)


def adapted_step(step: float, acceptance: np.ndarray, wanted: float) -> float:
    """Return the step size after a move with these probabilities of acceptance [n]."""
    changed = step * np.exp(acceptance.mean() - wanted)
    return float(np.clip(changed, _SHORTEST_STEP, _LONGEST_STEP))
