"""Mixtures of normal distributions as NumPy arrays: labels, densities, quantiles and draws."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from bgmm_jd.model.covariances import correlated_noise

_LOG_2PI = math.log(2.0 * math.pi)

# A quantile has converged after a Newton step this short, in sds of the narrowest component,
# because the error that it leaves is of the order of its square. Bisection has to continue down to
# rounding.
_SHORT_STEP = 1e-8
_ROUNDING = 4 * np.finfo(np.float64).eps
# Bisection alone needs fewer steps, unless the bracket is 2^200 times as wide as rounding.
_MOST_STEPS = 200


class ComponentDraws(NamedTuple):
    """Draws of all components in the units of X, whatever the form of the covariance: float64.

    weights : [S, K]
    means : [S, K, D]
    covariances : [S, K, D, D]
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray


def marginal_components(components: ComponentDraws, features: Sequence[int]) -> ComponentDraws:
    """Marginalise all components over the features that are not listed."""
    columns = list(features)
    covariances = components.covariances[..., columns, :][..., columns]
    return ComponentDraws(components.weights, components.means[..., columns], covariances)


def draw_labels(probabilities: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draw labels by the inverse of their cumulative distribution function.

    Needs an array of the broadcast shape [..., J]: see `draw_labels_by_component` where that would
    be too large.

    Parameters
    ----------
    probabilities : array [..., J]
        Need not sum to exactly 1.
    u : array [...]
        Uniform numbers in [0, 1), broadcast against the axes [...] of the probabilities.

    Returns
    -------
    int array [...], from 0 to J - 1
    """
    below = np.cumsum(probabilities, axis=-1)
    passed = u[..., np.newaxis] * below[..., -1:] >= below[..., :-1]
    return np.count_nonzero(passed, axis=-1)


def draw_labels_by_component(probabilities: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draw labels as `draw_labels` does, for few components and many uniform numbers.

    A loop over the components needs no array [S, N, K], which could be many times the result, and
    is also faster there. The sums are in float64: in float32 a probability of 1e-8 would be
    rounded to zero or to several times its value. Over a hundred million rows it adds up to one
    row, which decides whether a component is empty.

    Parameters
    ----------
    probabilities : array [S, K, N], or [S, K, 1] for all rows alike
        Need not sum to exactly 1 over K.
    u : array [S, N]
        Uniform numbers in [0, 1).

    Returns
    -------
    int array [S, N], from 0 to K - 1
    """
    by_component = [probabilities[:, k] for k in range(probabilities.shape[1])]
    total = np.zeros(by_component[0].shape)
    for probability in by_component:
        total += probability
    reach = u * total
    below, labels = np.zeros_like(total), np.zeros(reach.shape, int)
    for probability in by_component[:-1]:
        below += probability
        labels += reach >= below
    return labels


def normal_log_density(factors: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Evaluate J normal log densities of mean zero, and whiten the residuals.

    By forward substitution, for all J at once.

    Parameters
    ----------
    factors : array [J, g, g]
        Lower Cholesky factors L of the covariances.
    residual : array [..., J, g]

    Returns
    -------
    log_density : array [..., J]
        log N(residual; 0, L L^T), in nats.
    z : array [..., J, g]
        L^-1 residual.
    """
    z = np.empty_like(residual)
    for i in range(z.shape[-1]):
        known = np.einsum("...jk,jk->...j", z[..., :i], factors[:, i, :i])
        z[..., i] = (residual[..., i] - known) / factors[:, i, i]
    log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * (z**2).sum(axis=-1) - log_scale - 0.5 * z.shape[-1] * _LOG_2PI, z


def component_densities(components: ComponentDraws, s: int, points: np.ndarray) -> np.ndarray:
    """Evaluate weight times density of each component of draw s at points [G, D]: [K, G]."""
    factors = np.linalg.cholesky(components.covariances[s])
    log_density, _ = normal_log_density(factors, points[:, np.newaxis] - components.means[s])
    return components.weights[s][:, np.newaxis] * np.exp(log_density).T


def average_component_densities(components: ComponentDraws, points: np.ndarray) -> np.ndarray:
    """Average `component_densities` at points [G, D] over all draws: [K, G]."""
    S, K = components.weights.shape
    total = np.zeros((K, len(points)))
    for s in range(S):
        total += component_densities(components, s, points)
    return total / S


def mixture_quantile(
    weights: np.ndarray, means: np.ndarray, sds: np.ndarray, p: np.ndarray
) -> np.ndarray:
    """Find quantiles of mixtures of J one-dimensional normals.

    The quantile lies between the smallest and the largest of the components' own quantiles. Within
    that bracket it is found by Newton's method for ndtri(cdf(y)) = ndtri(p): on the scale of
    normal quantiles a single normal is a straight line, and the tails are no steeper than the
    centre. A step that would leave the bracket, or is not at most half as long as the one before,
    is replaced by bisection. Probabilities are counted from the nearer tail.

    Parameters
    ----------
    weights, means, sds : array [..., J]
        The weights sum to 1 over J.
    p : array [...]
        Greater than 0 and less than 1.

    Returns
    -------
    array [...]
    """
    sign = np.where(p > 0.5, -1.0, 1.0)  # reflected, so that the upper tail becomes the lower
    p = np.minimum(p, 1.0 - p)
    weights, means, sds = np.broadcast_arrays(weights, sign[..., np.newaxis] * means, sds)
    goal, narrowest, typical = ndtri(p), sds.min(axis=-1), (weights * sds).sum(axis=-1)
    own = means + sds * goal[..., np.newaxis]
    low, high, y = own.min(axis=-1), own.max(axis=-1), (weights * own).sum(axis=-1)
    step, active = high - low, np.ones(y.shape, bool)  # active: not yet converged
    below, density = np.empty_like(y), np.empty_like(y)
    for _ in range(_MOST_STEPS):
        z = (y[active, np.newaxis] - means[active]) / sds[active]
        below[active] = (weights[active] * ndtr(z)).sum(axis=-1)
        density[active] = (weights[active] / sds[active] * _standard_density(z)).sum(axis=-1)
        low, high = np.where(below < p, y, low), np.where(below < p, high, y)
        with np.errstate(all="ignore"):  # where the tail underflows to zero: bisection
            reached = ndtri(below)
            newton = y - (reached - goal) * _standard_density(reached) / density
            good = (newton >= low) & (newton <= high) & (np.abs(newton - y) <= 0.5 * step)
        new = np.where(good, newton, low + 0.5 * (high - low))
        new = np.where(active, new, y)
        step, y = np.abs(new - y), new
        rounding = _ROUNDING * np.maximum(np.abs(y), typical)
        active &= step > np.where(good, np.maximum(_SHORT_STEP * narrowest, rounding), rounding)
        if not active.any():
            break
    return sign * y


def _standard_density(z: np.ndarray) -> np.ndarray:
    """Return the density of the standard normal distribution."""
    return np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)


def sample_rows(
    weights: np.ndarray, means: np.ndarray, factors: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw one row under each draw of the parameters: see `sample_labelled_rows`."""
    return sample_labelled_rows(weights, means, factors, rng)[0]


def sample_labelled_rows(
    weights: np.ndarray, means: np.ndarray, factors: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one row, and the component that it is from, under each draw of the parameters.

    Parameters
    ----------
    weights : array [S, K]
    means : array [S, K, D]
    factors : array [S, K, D] of standard deviations or [S, K, D, D] of lower Cholesky factors
    rng : np.random.Generator

    Returns
    -------
    rows : array [S, D], float64
    labels : int array [S]
    """
    S, _, D = means.shape
    labels = draw_labels(weights, rng.random((S,)))
    chosen = np.arange(S), labels
    noise = correlated_noise(factors[chosen], rng.standard_normal((S, D)))
    return means[chosen] + noise, labels


def replicate_data(
    weights: np.ndarray,
    means: np.ndarray,
    factors: np.ndarray,
    N: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Draw a data set of N rows under each draw of the parameters.

    Parameters
    ----------
    weights : array [S, K]
        Summing to 1 over K, up to rounding.
    means : array [S, K, D]
    factors : array [S, K, D] of standard deviations or [S, K, D, D] of lower Cholesky factors
    N : int
    rng : np.random.Generator

    Returns
    -------
    array [S, N, D], in the dtype of `means`
    """
    S, _, D = means.shape
    label = draw_labels_by_component(weights[:, :, np.newaxis], rng.random((S, N)))
    result = rng.standard_normal((S, N, D), dtype=means.dtype)
    for s in range(S):  # Cholesky factors [S, N, D, D] could be many times the result
        result[s] = means[s, label[s]] + correlated_noise(factors[s, label[s]], result[s])
    return result
