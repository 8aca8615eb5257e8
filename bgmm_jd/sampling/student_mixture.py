"""Mixtures of multivariate Student t distributions: draws, densities and weighted fits.

The proposal for importance sampling. Its tails are heavier than those of a posterior that is
normal far out, so that importance weights stay bounded.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.sampling.sliced_products import squared_lengths, weighted_scatter
from bgmm_jd.variational.approximation import StudentMixture

_LEAST_WEIGHT = 0.002  # of a member: it keeps looking where the draws had little weight


def draw(mixture: StudentMixture, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw points [n, P], each member its share of them (stratified), in random order."""
    M, P = mixture.means.shape
    edges = np.cumsum(mixture.weights) / mixture.weights.sum()
    places = (np.arange(n) + rng.random()) / n
    members = rng.permutation(np.searchsorted(edges, places).clip(max=M - 1))
    scale = np.sqrt(mixture.df / rng.chisquare(mixture.df, n))
    z = rng.standard_normal((n, P)) * scale[:, np.newaxis]
    points = np.empty((n, P))
    for member in range(M):
        own = members == member
        points[own] = mixture.means[member] + z[own] @ mixture.factors[member].T
    return points


class Whitening(NamedTuple):
    """The linear maps under which each member is a standard t: z = inverse x - offset.

    inverse [M, P, P], offset [M, P], log_constant [M] : log weight and normaliser.
    """

    inverse: np.ndarray
    offset: np.ndarray
    log_constant: np.ndarray


def whitening(mixture: StudentMixture) -> Whitening:
    """Return the whitening maps of all members."""
    P, df = mixture.means.shape[1], mixture.df
    inverse = np.tril(np.linalg.inv(mixture.factors))
    offset = (inverse @ mixture.means[..., np.newaxis])[..., 0]
    log_det = np.log(np.diagonal(mixture.factors, axis1=1, axis2=2)).sum(axis=1)
    normaliser = math.lgamma((df + P) / 2) - math.lgamma(df / 2) - P / 2 * math.log(df * math.pi)
    return Whitening(inverse, offset, np.log(mixture.weights) + normaliser - log_det)


def squared_distances(maps: Whitening, points: np.ndarray) -> np.ndarray:
    """Return the squared Mahalanobis distances of points [S, P] from each member: [S, M]."""
    return squared_lengths(points, maps.inverse, maps.offset)


def log_terms(maps: Whitening, distances: np.ndarray, df: float) -> np.ndarray:
    """Return the log of each member's term of the density: [S, M]."""
    P = maps.offset.shape[1]
    return maps.log_constant - (df + P) / 2 * np.log1p(distances / df)


def refit(
    mixture: StudentMixture, points: np.ndarray, weight: np.ndarray, steps: int = 1
) -> StudentMixture:
    """Take steps of EM for a mixture of t distributions towards weighted points.

    Peel and McLachlan (2000, *Statistics and Computing* 10), with weights as in population Monte
    Carlo (Cappe et al. 2008, *Statistics and Computing* 18). Scale matrices are shrunk towards the
    pooled one by as many effective draws as there are coordinates, and members without draws are
    dropped.

    Parameters
    ----------
    points : [S, P]
    weight : [S], summing to 1.
    """
    for _ in range(steps):
        maps = whitening(mixture)
        distances = squared_distances(maps, points)
        terms = log_terms(maps, distances, mixture.df)
        share = np.exp(terms - logsumexp(terms, axis=1, keepdims=True)) * weight[:, np.newaxis]
        # The expected precision factor of a draw: far ones count less.
        P = points.shape[1]
        factor = (mixture.df + P) / (mixture.df + distances)
        mixture = _moments(mixture, points, share, share * factor, weight)
    return mixture


def _moments(
    mixture: StudentMixture,
    points: np.ndarray,
    share: np.ndarray,
    scaled: np.ndarray,
    weight: np.ndarray,
) -> StudentMixture:
    """Return the mixture with the weighted moments of its members' shares of the draws."""
    P, effective = points.shape[1], 1.0 / (weight**2).sum()
    total = share.sum(axis=0)
    kept = total * effective > 1.0
    if not kept.any():
        return mixture
    share, scaled, total = share[:, kept], scaled[:, kept], total[kept]
    means = (scaled.T @ points) / scaled.sum(axis=0)[:, np.newaxis]
    scatter = weighted_scatter(points, scaled, means)
    pooled = scatter.sum(axis=0) / total.sum()
    count = total * effective
    scatter = scatter * effective + P * pooled
    scale = scatter / (count + P)[:, np.newaxis, np.newaxis]
    factors = np.linalg.cholesky(scale + 1e-9 * _diagonals(pooled))
    weights = np.maximum(total / total.sum(), _LEAST_WEIGHT)
    return StudentMixture(weights / weights.sum(), means, factors, mixture.df)


def _diagonals(matrix: np.ndarray) -> np.ndarray:
    return np.diag(np.diagonal(matrix))


def single_member(points: np.ndarray, df: float) -> StudentMixture:
    """Return one t distribution with the location and, as its scale matrix, the covariance."""
    factor = np.linalg.cholesky(np.atleast_2d(np.cov(points.T)))
    return StudentMixture(np.ones(1), points.mean(axis=0)[np.newaxis], factor[np.newaxis], df)


def fit_cloud(
    points: np.ndarray, members: int, df: float, rng: np.random.Generator, steps: int = 10
) -> StudentMixture:
    """Fit a mixture to equally weighted points [S, P], from centres spread among them.

    The centres are chosen as those of k-means++ (Arthur and Vassilvitskii 2007), in units of the
    points' standard deviations.
    """
    scaled = points / np.maximum(points.std(axis=0), 1e-12)
    chosen = [int(rng.integers(len(points)))]
    nearest = ((scaled - scaled[chosen[0]]) ** 2).sum(axis=1)
    while len(chosen) < members and nearest.sum() > 0.0:
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
        nearest = np.minimum(nearest, ((scaled - scaled[chosen[-1]]) ** 2).sum(axis=1))
    means = points[chosen]
    share = _nearest(scaled, scaled[chosen])
    start = StudentMixture(
        np.full(len(chosen), 1.0 / len(chosen)), means, np.empty((len(chosen), 0, 0)), df
    )
    weight = np.full(len(points), 1.0 / len(points))
    start = _moments(start, points, share / len(points), share / len(points), weight)
    return refit(start, points, weight, steps)


def _nearest(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return which centre is nearest to each point, as an indicator [S, M]."""
    distances = ((points[:, np.newaxis] - centres) ** 2).sum(axis=2)
    return np.eye(len(centres))[distances.argmin(axis=1)]
