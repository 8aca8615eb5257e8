"""Moves by Hamiltonian Monte Carlo, of many points at once (Neal 2011)."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.evaluation import Tempered, tempered_density


class Target(NamedTuple):
    """The density that moves leave invariant: prior times likelihood to a power.

    use_statistics, most_points : see `tempered_density`.
    """

    problem: Problem
    temperature: float = 1.0
    use_statistics: bool = False
    most_points: int | None = None

    def at(self, points: np.ndarray) -> "Particles":
        """Return points [n, P], in unconstrained coordinates, with the densities there."""
        density = tempered_density(
            self.problem, points, self.temperature, self.use_statistics, self.most_points
        )
        return Particles(points, density)


class Particles(NamedTuple):
    """Points [n, P] and the densities there."""

    points: np.ndarray
    density: Tempered

    def log_density(self, temperature: float) -> np.ndarray:
        """Return the log density of a target, [n]."""
        return self.density.log_prior + temperature * self.density.log_likelihood


class Trajectory(NamedTuple):
    """How far a move goes.

    step : of one leapfrog, in units of the scale.
    leapfrogs : their number.
    scale : [P] or [P, P], a matrix M for which the points have unit scale in the coordinates
        M^-1 x; the mass matrix is (M M^T)^-1.
    """

    step: float
    leapfrogs: int
    scale: np.ndarray


# Each point takes steps of another length, so that no trajectory is periodic for all of them.
_SHORTEST, _LONGEST = 0.7, 1.3


def move(
    target: Target, particles: Particles, trajectory: Trajectory, rng: np.random.Generator
) -> tuple[Particles, np.ndarray]:
    """Move each particle once; return them, and the probabilities [n] of their acceptance."""
    velocity = rng.standard_normal(particles.points.shape)
    length = trajectory.step * rng.uniform(_SHORTEST, _LONGEST, (len(velocity), 1))
    before = particles.log_density(target.temperature) - 0.5 * (velocity**2).sum(axis=1)
    with np.errstate(all="ignore"):  # a trajectory may leave the range of the dtype
        proposed, velocity = _leapfrogs(target, particles, trajectory, length, velocity)
        after = proposed.log_density(target.temperature) - 0.5 * (velocity**2).sum(axis=1)
        log_ratio = after - before
    is_possible = np.isfinite(after) & ~np.isnan(log_ratio)
    log_ratio = np.where(is_possible, np.minimum(log_ratio, 0.0), -np.inf)
    accepted = np.log(rng.random(len(log_ratio))) < log_ratio
    return _merge(accepted, proposed, particles), np.exp(log_ratio)


def _leapfrogs(
    target: Target,
    particles: Particles,
    trajectory: Trajectory,
    length: np.ndarray,
    velocity: np.ndarray,
) -> tuple[Particles, np.ndarray]:
    """Follow trajectories from particles, with steps of the given lengths [n, 1]."""
    scale = trajectory.scale
    for _ in range(trajectory.leapfrogs):
        velocity = velocity + 0.5 * length * _times(particles.density.slope, scale)
        particles = target.at(particles.points + length * _times(velocity, scale.T))
        velocity = velocity + 0.5 * length * _times(particles.density.slope, scale)
    return particles, velocity


def _times(rows: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return rows * scale if scale.ndim == 1 else rows @ scale


def _merge(accepted: np.ndarray, proposed: Particles, before: Particles) -> Particles:
    """Return the proposed particles where they are accepted, and those before elsewhere."""

    def pick(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    density = Tempered(*(pick(n, o) for n, o in zip(proposed.density, before.density, strict=True)))
    return Particles(pick(proposed.points, before.points), density)
