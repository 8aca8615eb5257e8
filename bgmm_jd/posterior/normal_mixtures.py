"""Mixtures of normals as NumPy arrays: labels, densities and draws."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from bgmm_jd.model import covariances as covariances_module

_LOG_2PI = math.log(2.0 * math.pi)


def draw_labels_by_cdf(probabilities: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draw labels by the inverse of their distribution function.

    Parameters
    ----------
    probabilities : [..., J]
    u : [...], uniform numbers between 0 and 1; broadcast against the probabilities.

    Returns
    -------
    int array [...], from 0 to J - 1.
    """
    below = np.cumsum(probabilities, axis=-1)
    passed = u[..., np.newaxis] * below[..., -1:] >= below[..., :-1]
    return np.count_nonzero(passed, axis=-1)


def normal_log_density(factors: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of J centred normals, and the residuals in their sds.

    By forward substitution, for all J at once.

    Parameters
    ----------
    factors : [J, g, g], lower Cholesky factors L of covariances.
    residual : [..., J, g]

    Returns
    -------
    log_density : [..., J], log N(residual; 0, L L^T) in nats
    z : [..., J, g], L^-1 residual
    """
    z = np.empty_like(residual)
    for i in range(z.shape[-1]):
        known = np.einsum("...jk,jk->...j", z[..., :i], factors[:, i, :i])
        z[..., i] = (residual[..., i] - known) / factors[:, i, i]
    log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * (z**2).sum(axis=-1) - log_scale - 0.5 * z.shape[-1] * _LOG_2PI, z


def average_component_densities(mixture: ComponentDraws, points: np.ndarray) -> np.ndarray:
    """Each component's share of each draw's density at points [G, d], summed over draws / S.

    Returns
    -------
    array [K, G]
    """
    S = len(mixture.weights)
    return sum(component_densities(mixture, s, points) for s in range(S)) / S  # type: ignore[return-value]


def component_densities(mixture: ComponentDraws, s: int, points: np.ndarray) -> np.ndarray:
    """weights[k] Normal(points given component k) of draw s: [K, G]."""
    factor = np.linalg.cholesky(mixture.covariances[s])
    residual = (points - mixture.means[s][:, np.newaxis]).swapaxes(1, 2)
    squares = (np.linalg.solve(factor, residual) ** 2).sum(axis=1)
    sds = np.diagonal(factor, axis1=1, axis2=2) * np.sqrt(2.0 * np.pi)
    return (mixture.weights[s] / sds.prod(axis=1))[:, np.newaxis] * np.exp(-0.5 * squares)


def sample_mixture(mixture: ComponentDraws, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draws [n, d] from the posterior predictive distribution."""
    S, _, d = mixture.means.shape
    draw = np.arange(n) % S
    below = np.cumsum(mixture.weights, axis=1)[draw]
    label = (rng.random((n, 1)) * below[:, -1:] >= below[:, :-1]).sum(axis=1)
    factor = np.linalg.cholesky(mixture.covariances[draw, label])
    noise = rng.standard_normal((n, d, 1))
    return mixture.means[draw, label] + (factor @ noise)[..., 0]


def draw_labels(probability: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Labels [S, N] by the inverse of the distribution function; probability is [S, K, N].

    The sums are in float64. In float32 they would round a probability of 1e-8 away, or make more
    of it; over a hundred million rows it adds up to one, and a spare component may have no more.
    """
    reach = uniform * probability.sum(axis=1, dtype=np.float64)
    below, labels = np.zeros_like(reach), np.zeros(reach.shape, int)
    # A component at a time: ten times as fast as sums along the axis in the middle.
    for k in range(probability.shape[1] - 1):
        below += probability[:, k]
        labels += reach >= below
    return labels


class ComponentDraws(NamedTuple):
    """Draws of the components in the units of X, whatever the form of the covariance: float64.

    weights [S, K], means [S, K, D], covariances [S, K, D, D]
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def replicate_data(
    weights: np.ndarray,
    means: np.ndarray,
    roots: np.ndarray,
    rows: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a data set under each draw of the parameters.

    Parameters
    ----------
    weights : array [S, K], rows summing to 1 to rounding.
    means : array [S, K, D]
    roots : array [S, K, D] of standard deviations or [S, K, D, D] of lower Cholesky factors.
    rows : int
        N, how many rows each data set has.
    rng : np.random.Generator

    Returns
    -------
    array [S, N, D], in the dtype of `means`.
    """
    S, K, D = means.shape
    below = np.cumsum(weights, axis=1, dtype=np.float64)
    place = rng.random((S, rows)) * below[:, -1:]
    label = np.zeros((S, rows), np.intp)
    for k in range(K - 1):  # an array [S, N, K] could be many times the result
        label += place >= below[:, k, np.newaxis]
    result = rng.standard_normal((S, rows, D), dtype=means.dtype)
    for s in range(S):  # matrices [S, N, D, D] could be as many times it
        result[s] = means[s, label[s]] + covariances_module.correlated_noise(
            roots[s, label[s]], result[s]
        )
    return result
