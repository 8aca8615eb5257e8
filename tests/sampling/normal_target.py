"""A target for moves and chains with a known density: a correlated normal distribution."""

import numpy as np

from bgmm_jd.sampling.hamiltonian import Particles
from bgmm_jd.variational.evaluation import Tempered

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.05], [0.0, 0.05, 0.01]])


class NormalTarget:
    """N(MEAN, COVARIANCE) as a prior without a likelihood, and without density beyond a wall."""

    temperature = 1.0

    def __init__(self, wall=np.inf):
        self.wall = wall

    def at(self, points):
        slope = -np.linalg.solve(COVARIANCE, (points - MEAN).T).T
        log_density = 0.5 * ((points - MEAN) * slope).sum(axis=1)
        log_density = np.where(points[:, 0] < self.wall, log_density, np.nan)
        return Particles(points, Tempered(log_density, np.zeros(len(points)), slope))


def draw(n, seed):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, n)
