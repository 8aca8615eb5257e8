"""A scout for modes that no start finds: a few particles by tempered sequential Monte Carlo.

What they are in the end shows where the posterior has its mass; it serves as a cloud to which a
proposal is fitted, and need not be exact.
"""

import numpy as np

from bgmm_jd.sampling.annealing import anneal, move_all
from bgmm_jd.sampling.hamiltonian import particles_at
from bgmm_jd.settings import ScoutSettings
from bgmm_jd.variational.approximation import Approximation, Problem
from bgmm_jd.variational.evaluation import dtype_of_statistics
from bgmm_jd.variational.tempered import TemperedDensity

_ROUNDING = 1e-2  # nats of a row's log density


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
    statistics = dtype_of_statistics(problem, approximation.params, _ROUNDING, may_differ=True)
    return TemperedDensity(problem, statistics=statistics)


def scout(
    posterior: TemperedDensity, rng: np.random.Generator, settings: ScoutSettings
) -> np.ndarray:
    """Return particles of the posterior [n, P], in unconstrained coordinates.

    An empty array where the prior's draws have no likelihood that is finite.
    """
    return anneal(posterior, rng, settings).points[0]


def moved(
    posterior: TemperedDensity,
    points: np.ndarray,
    rng: np.random.Generator,
    settings: ScoutSettings,
) -> np.ndarray:
    """Return approximate draws of the posterior [n, P] after moves that leave it invariant."""
    particles, step = particles_at(posterior, points), settings.first_step
    for _ in range(settings.rejuvenations):
        particles, step = move_all(posterior, particles, step, rng, settings)
    return particles.points
