"""Many short chains of Hamiltonian Monte Carlo, from draws that are near the posterior already.

The coordinates are scaled by a covariance matrix, first that of the draws and then that of the
chains themselves, so that a trajectory of a quarter of a period ends at a nearly independent point.
The step size follows the acceptance probability. Moves of this warm-up are discarded.
"""

import math
import warnings
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.backend.arviz_version import import_arviz
from bgmm_jd.sampling.hamiltonian import Particles, Trajectory, move, particles_at
from bgmm_jd.settings import ChainSettings
from bgmm_jd.variational.approximation import Mixing
from bgmm_jd.variational.tempered import TemperedDensity

_QUARTER_PERIOD = math.pi / 2.0  # of a coordinate whose distribution is standard normal
_LEAST_STEP, _MOST_STEP = 1e-3, 2.0
# Of ArviZ 0.23 and 1.x, where there are more chains than draws of each.
_MORE_CHAINS = "More chains|Found chain dimension to be longer"
_DRAWS_EACH = 4  # draws of a chain that tell as much of a covariance matrix as an independent one


class Chains(NamedTuple):
    """The present points of chains, and the step size and the scale [P, P] of their moves."""

    particles: Particles
    step: float
    scale: np.ndarray


def warm_up(
    target: TemperedDensity,
    start: np.ndarray,
    scale: np.ndarray,
    rng: np.random.Generator,
    settings: ChainSettings,
) -> Chains:
    """Return chains that have left their starting points [C, P] and adapted their moves.

    Parameters
    ----------
    scale : [P, P], a factor of an approximate covariance matrix.
    """
    chains = Chains(particles_at(target, start), settings.first_step, scale)
    points: list[np.ndarray] = []
    for moves in settings.warm_up:
        if points:
            chains = chains._replace(scale=_rescaled(chains.scale, points))
        points = []
        for t in range(moves):
            chains, acceptance = _moved(target, chains, rng, settings)
            change = (acceptance - settings.acceptance) / math.sqrt(1.0 + t)
            step = np.clip(chains.step * math.exp(change), _LEAST_STEP, _MOST_STEP)
            chains = chains._replace(step=float(step))
            points.append(chains.particles.points)
    return chains


def advance(
    target: TemperedDensity,
    chains: Chains,
    moves: int,
    rng: np.random.Generator,
    settings: ChainSettings,
) -> tuple[Chains, np.ndarray]:
    """Return chains after so many moves each, and their points on the way: [C, moves, P]."""
    points = []
    for _ in range(moves):
        chains, _ = _moved(target, chains, rng, settings)
        points.append(chains.particles.points)
    return chains, np.stack(points, axis=1)


def leapfrogs_per_move(chains: Chains, settings: ChainSettings) -> float:
    """Return the expected number of gradients of a move."""
    return min(_QUARTER_PERIOD / chains.step + 0.5, settings.most_leapfrogs)


def _moved(
    target: TemperedDensity, chains: Chains, rng: np.random.Generator, settings: ChainSettings
) -> tuple[Chains, float]:
    """Return chains after one move each, and their mean acceptance probability.

    The length of the trajectories varies from move to move, so that no coordinate returns to where
    it began each time; that of single chains varies about it: see `move`.
    """
    length = _QUARTER_PERIOD * rng.uniform(0.5, 1.5)
    leapfrogs = min(math.ceil(length / chains.step), settings.most_leapfrogs)
    trajectory = Trajectory(chains.step, leapfrogs, chains.scale)
    particles, acceptance = move(target, chains.particles, trajectory, rng)
    return chains._replace(particles=particles), float(acceptance.mean())


def _rescaled(scale: np.ndarray, points: list[np.ndarray]) -> np.ndarray:
    """Return a factor of the points' covariance matrix, shrunk towards that of the present scale.

    By as many effective draws as there are coordinates. The first third of the moves is left out.

    Parameters
    ----------
    points : [C, P] after each move.
    """
    kept = np.concatenate(points[len(points) // 3 :])
    P, count = len(scale), len(kept) / _DRAWS_EACH
    whitened = np.linalg.solve(scale, (kept - kept.mean(axis=0)).T)
    covariance = whitened @ whitened.T / len(kept)
    shrunk = (count * covariance + P * np.eye(P)) / (count + P)
    return scale @ np.linalg.cholesky(shrunk)


def mixing(points: np.ndarray) -> Mixing:
    """Compare chains [C, T, P]."""
    return Mixing(rhat(points), effective_draws(points))


def rhat(points: np.ndarray) -> float:
    """Return the rank-normalised split R-hat of chains [C, T, P], in the worst coordinate."""
    arviz = import_arviz()
    data = _as_dataset(points)
    with np.errstate(divide="ignore", invalid="ignore"):  # where a coordinate does not vary
        return float(arviz.rhat(data)["x"].max(skipna=False))


def effective_draws(points: np.ndarray) -> float:
    """Return the smaller of bulk and tail effective sample size, in the worst coordinate."""
    arviz = import_arviz()
    data = _as_dataset(points)
    with np.errstate(divide="ignore", invalid="ignore"):
        return min(
            float(arviz.ess(data, method=one)["x"].min(skipna=False)) for one in ("bulk", "tail")
        )


def _as_dataset(points: np.ndarray) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _MORE_CHAINS, UserWarning)  # that is how they are run
        return import_arviz().convert_to_dataset({"x": points})


def is_sound(mixing: Mixing, settings: ChainSettings) -> bool:
    """Return whether chains have mixed well enough to be believed."""
    return mixing.rhat <= settings.worst_rhat and mixing.effective >= settings.fewest_effective
