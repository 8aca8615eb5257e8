"""The geometry of a density plot: axes, grids, contour levels and ellipses, as NumPy arrays."""

from collections.abc import Sequence

import numpy as np

from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    average_component_densities,
    sample_rows,
)

_GRID = 60  # points along an axis, and twice as many shared by the components
_MOST_UNEQUAL = 1.6  # ratio of the lengths of two axes up to which they have the same scale
_SHORTEST = 1e-12  # length of an axis, relative to its values, at which it still has ticks
_EMPTY = 0.05  # times 1 / K: the shape of a component with less weight is determined by the prior


def axis_limits(values: np.ndarray, components: ComponentDraws, i: int) -> tuple[float, float]:
    """Return limits of the axis of feature i that leave a margin around all values [N]."""
    low, high = values.min(), values.max()
    # Equal values have no range: six fitted standard deviations take its place. Of few rows some
    # draws have immense ones.
    length = high - low or 6.0 * np.sqrt(np.median(components.covariances[..., i, i]))
    length = max(length, _SHORTEST * max(abs(low), abs(high)))
    return low - 0.06 * length, high + 0.06 * length


def axis_points(limits: tuple[float, float], components: ComponentDraws, i: int) -> np.ndarray:
    """Return grid points along the axis of feature i: evenly spaced ones, and some at components.

    Components much narrower than the axis would otherwise fall between the points.
    """
    K = components.weights.shape[1]
    # An odd number, so that each component's mean is a point.
    steps = np.linspace(-3.5, 3.5, 2 * max(3, _GRID // K) + 1)
    means = components.means[..., i].mean(axis=0)
    sds = np.sqrt(components.covariances[..., i, i]).mean(axis=0)
    near = np.ravel(means + sds * steps[:, np.newaxis])
    within = near[(near > limits[0]) & (near < limits[1])]
    return np.union1d(np.linspace(*limits, _GRID), within)


def have_similar_lengths(limits: Sequence[tuple[float, float]]) -> bool:
    """Return whether two axes are of such similar length that they can have the same scale."""
    lengths = [high - low for low, high in limits]
    return max(lengths) <= _MOST_UNEQUAL * min(lengths)


def aspect_ratio(limits: Sequence[tuple[float, float]]) -> float:
    """Return the height of the axes divided by their width."""
    (left, right), (bottom, top) = limits
    return (top - bottom) / (right - left) if have_similar_lengths(limits) else 0.8


def sample_predictive_rows(
    components: ComponentDraws, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw n rows from the posterior predictive distribution, under each draw equally often."""
    weights, means, covariances = components
    draw = np.arange(n) % len(weights)
    factors = np.linalg.cholesky(covariances)
    return sample_rows(weights[draw], means[draw], factors[draw], rng)


def region_levels(
    components: ComponentDraws, predicted: np.ndarray, probabilities: Sequence[float]
) -> np.ndarray:
    """Return the densities above which the smallest regions of given probabilities lie.

    A region {density > level} has the probability p if level is the (1 - p) quantile of the
    density at draws from it (Hyndman 1996, *The American Statistician* 50).

    Parameters
    ----------
    components : ComponentDraws
    predicted : array [n, D]
        Draws of the posterior predictive distribution.
    probabilities : sequence of float
    """
    density = average_component_densities(components, predicted).sum(axis=0)
    return np.quantile(density, 1.0 - np.array(probabilities))


def ellipse_outlines(means: np.ndarray, covariances: np.ndarray) -> list[np.ndarray]:
    """Return ellipses at 1 and 2 standard deviations from each of S means.

    Parameters
    ----------
    means : array [S, 2]
    covariances : array [S, 2, 2]

    Returns
    -------
    list of 2 S arrays [91, 2], points on the two ellipses of each mean in turn
    """
    angle = np.linspace(0.0, 2.0 * np.pi, 91)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    outlines = (np.linalg.cholesky(covariances) @ circle).swapaxes(1, 2)
    return [mean + r * o for mean, o in zip(means, outlines, strict=True) for r in (1.0, 2.0)]


def have_little_weight(components: ComponentDraws) -> np.ndarray:
    """Return which components have next to no rows: bool [K]."""
    mean = components.weights.mean(axis=0)
    return mean < _EMPTY / len(mean)
