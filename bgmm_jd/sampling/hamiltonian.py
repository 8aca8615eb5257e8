"""Moves by Hamiltonian Monte Carlo, of many points at once (Neal 2011)."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.variational.tempered import Tempered, TemperedDensity


class Particles(NamedTuple):
    """Points [n, P] and the densities there."""

    points: np.ndarray
    density: Tempered

    def log_density(self, temperature: float) -> np.ndarray:
        """Return the log density of a target, [n]."""
        return self.density.log_prior + temperature * self.density.log_likelihood

    def chosen(self, numbers: np.ndarray) -> "Particles":
        """Return the particles of these numbers."""
        return Particles(self.points[numbers], Tempered(*(part[numbers] for part in self.density)))


def particles_at(target: TemperedDensity, points: np.ndarray) -> Particles:
    """Return points [n, P] with the densities there."""
    return Particles(points, target.density(points))


class Trajectory(NamedTuple):
    """How far a move goes.

    step : of one leapfrog, in units of the scale.
    leapfrogs : their number.
    scale : [P, P], a matrix M for which the points have unit scale in the coordinates
        M^-1 x; the mass matrix is (M M^T)^-1.
    """

    step: float
    leapfrogs: int
    scale: np.ndarray


# Each point takes steps of another length, so that no trajectory is periodic for all of them.
_SHORTEST, _LONGEST = 0.7, 1.3


def move(
    target: TemperedDensity, particles: Particles, trajectory: Trajectory, rng: np.random.Generator
) -> tuple[Particles, np.ndarray]:
    """Move each particle once; return them, and the probabilities [n] of their acceptance."""
    velocity = rng.standard_normal(particles.points.shape)
    length = trajectory.step * rng.uniform(_SHORTEST, _LONGEST, (len(velocity), 1))
    before = particles.log_density(target.temperature) - 0.5 * (velocity**2).sum(axis=1)
    with np.errstate(all="ignore"):  # a trajectory may leave the range of the dtype
        points, velocity, density = target.follow(
            particles.points,
            velocity,
            particles.density.slope(target.temperature),
            length,
            trajectory.scale,
            trajectory.leapfrogs,
        )
        proposed = Particles(points, density)
        after = proposed.log_density(target.temperature) - 0.5 * (velocity**2).sum(axis=1)
        log_ratio = after - before
    is_possible = np.isfinite(after) & ~np.isnan(log_ratio)
    log_ratio = np.where(is_possible, np.minimum(log_ratio, 0.0), -np.inf)
    accepted = np.log(rng.random(len(log_ratio))) < log_ratio
    return _merge(accepted, proposed, particles), np.exp(log_ratio)


def _merge(accepted: np.ndarray, proposed: Particles, before: Particles) -> Particles:
    """Return the proposed particles where they are accepted, and those before elsewhere."""

    def pick(new: np.ndarray, old: np.ndarray) -> np.ndarray:
        return np.where(accepted.reshape(-1, *[1] * (new.ndim - 1)), new, old)

    density = Tempered(*(pick(n, o) for n, o in zip(proposed.density, before.density, strict=True)))
    return Particles(pick(proposed.points, before.points), density)
