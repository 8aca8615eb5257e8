"""A target for moves and chains with a known density: a correlated normal distribution."""

import numpy as np

from bgmm_jd.variational.tempered import Tempered

MEAN = np.array([1.0, -2.0, 0.5])
COVARIANCE = np.array([[4.0, 1.5, 0.0], [1.5, 1.0, 0.05], [0.0, 0.05, 0.01]])


class NormalTarget:
    """N(MEAN, COVARIANCE) as a prior without a likelihood, and without density beyond a wall."""

    temperature = 1.0

    def __init__(self, wall=np.inf):
        self.wall = wall

    def density(self, points):
        slope = -np.linalg.solve(COVARIANCE, (points - MEAN).T).T
        log_density = 0.5 * ((points - MEAN) * slope).sum(axis=1)
        log_density = np.where(points[:, 0] < self.wall, log_density, np.nan)
        return Tempered(log_density, np.zeros(len(points)), slope, np.zeros_like(slope))

    def follow(self, points, velocity, slope, lengths, scale, leapfrogs):
        for _ in range(leapfrogs):
            velocity = velocity + lengths / 2 * slope @ scale
            points = points + lengths * velocity @ scale.T
            slope = self.density(points).slope(self.temperature)
            velocity = velocity + lengths / 2 * slope @ scale
        return points, velocity, self.density(points)


def draw(n, seed):
    return np.random.default_rng(seed).multivariate_normal(MEAN, COVARIANCE, n)
