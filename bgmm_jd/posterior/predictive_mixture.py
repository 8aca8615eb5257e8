"""The predictive distribution of some features: a mixture of all draws' components.

Each draw s of the posterior is a mixture of K normals; the average over S draws is one of J = S K
normals with weights w_sk / S. Given x it is one of the J normals of y given x, each counting as it
explains x: see `regression`.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.posterior.normal_mixtures import ComponentDraws, draw_labels_by_cdf, normal_log_density
from bgmm_jd.posterior.normal_regression import (
    PartitionedNormals,
    normalize_log_weights,
    partition_normals,
    regress_normals,
)

_BLOCK_NUMBERS = 2**18  # numbers in the largest array of a block; some ten such exist at once

# Of a quantile. A Newton step this short, in sds of the narrowest component, leaves an error of
# its square; a bisection must go on to the last digits.
_SHORT_STEP = 1e-8
_LAST_DIGITS = 4 * np.finfo(np.float64).eps
# Bisection alone needs fewer, unless the bracket is 2^200 times the last digits.
_MOST_STEPS = 200


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PredictiveMixture:
    """The predictive distribution of some features: a mixture of S K normals, for each row given.

    Shapes follow the values given: with arrays of M values each result has a leading axis [M],
    written [*M] below; with scalars, and where nothing is given, it has none. All results are
    float64, in the units of X.

    Means and weights are computed where they are needed, some rows at a time, so that M may be
    large.

    Attributes
    ----------
    features : tuple of int
        The d columns of X that this is a distribution of, in the order of the last axis.
    given : tuple of int
        The g columns that were given; empty for a marginal.
    values : array [*M, g]
        What they were given as.
    draws, K : int
        S and K.
    """

    features: tuple[int, ...]
    given: tuple[int, ...]
    values: np.ndarray
    draws: int
    K: int
    parts: PartitionedNormals

    @property
    def weights(self) -> np.ndarray:
        """Array [*M, S, K], summing to 1 over draws and components together.

        The sum over draws is the probability of each component, given the values.
        """
        found = self._by_row(lambda weights, means: weights)
        return found.reshape(*self._batch, self.draws, self.K)

    @property
    def means(self) -> np.ndarray:
        """Array [*M, S, K, d]."""
        found = self._by_row(lambda weights, means: means)
        return found.reshape(*self._batch, self.draws, self.K, -1)

    @property
    def covariances(self) -> np.ndarray:
        """Array [S, K, d, d]: the same for all values given."""
        factors = self.parts.y_factors
        return (factors @ factors.swapaxes(1, 2)).reshape(self.draws, self.K, *factors.shape[1:])

    def mean(self) -> np.ndarray:
        """Array [*M, d]."""
        return self._by_row(lambda weights, means: np.einsum("rj,rjd->rd", weights, means))

    def covariance(self) -> np.ndarray:
        """Array [*M, d, d]: within the components and between their means."""
        return self._by_row(self._covariance)

    def sd(self) -> np.ndarray:
        """Array [*M, d]: the standard deviation of each feature."""
        return self._by_row(lambda *block: np.sqrt(np.einsum("rii->ri", self._covariance(*block))))

    def log_density(self, Y: Any) -> np.ndarray:
        """Log density of all the features together, in nats.

        Of a conditional distribution it is the log predictive density of x and y together, less
        that of x.

        Parameters
        ----------
        Y : array-like [..., d]
            Where values were given, the axes [...] are broadcast against [*M].

        Returns
        -------
        array of the shape of [...] and [*M] broadcast.

        Raises
        ------
        ValueError
            If Y has another last axis, is not finite, or does not go with the values given.
        """
        Y = as_real_array(Y, "Y")
        if not np.isfinite(Y).all():
            raise ValueError("Y must be finite; it holds NaN or infinity.")
        points, lead = self._as_points(Y)
        found = np.empty(points.shape[:2])
        for some, rows, log_weights, means in self._blocks(len(points), self.parts.y_means.size):
            residual = points[some, rows, np.newaxis] - means
            log_density, _ = normal_log_density(self.parts.y_factors, residual)
            found[some, rows] = logsumexp(log_weights + log_density, axis=-1)
        return found.reshape(lead)[()]

    def cdf(self, Y: Any) -> np.ndarray:
        """The probability that each feature, by itself, is no greater than Y.

        Parameters
        ----------
        Y : array-like [..., d]
            Where values were given, the axes [...] are broadcast against [*M]. May be infinite.

        Returns
        -------
        array [..., d]

        Raises
        ------
        ValueError
            If Y has another last axis, holds NaN, or does not go with the values given.
        """
        Y = as_real_array(Y, "Y")
        if np.isnan(Y).any():
            raise ValueError("Y must be numbers; it holds NaN.")
        points, lead = self._as_points(Y)
        found, sds = np.empty(points.shape), _sds(self.parts.y_factors)
        for some, rows, log_weights, means in self._blocks(len(points), sds.size):
            below = ndtr((points[some, rows, np.newaxis] - means) / sds)
            found[some, rows] = np.einsum("rj,qrjd->qrd", np.exp(log_weights), below)
        return np.minimum(found.reshape(*lead, points.shape[-1]), 1.0)

    def quantile(self, p: Any) -> np.ndarray:
        """The value of each feature, by itself, whose `cdf` is p: by root finding, not by draws.

        Parameters
        ----------
        p : array-like [...], each between 0 and 1, both excluded.

        Returns
        -------
        array [*M, d, ...]

        Raises
        ------
        ValueError
            If p is outside.
        """
        p = as_real_array(p, "p")
        if not ((p > 0) & (p < 1)).all():
            raise ValueError(f"p must be between 0 and 1, both excluded; got {p}.")
        levels, sds = p.reshape(-1), _sds(self.parts.y_factors)
        J, d = sds.shape
        found = np.empty((len(self._x), d, p.size))
        for some, rows, log_weights, means in self._blocks(p.size, J):
            weights = np.exp(log_weights)[:, np.newaxis]
            for i in range(d):
                locs = means[:, np.newaxis, :, i]
                found[rows, i, some] = mixture_quantile(weights, locs, sds[:, i], levels[some])
        return found.reshape(*self._batch, d, *p.shape)

    def interval(self, level: float = 0.9) -> np.ndarray:
        """The equal-tailed interval of each feature, by itself, that has probability `level`.

        Parameters
        ----------
        level : float between 0 and 1, both excluded.

        Returns
        -------
        array [*M, d, 2], lower and upper end.

        Raises
        ------
        ValueError
            If `level` is outside.
        """
        found = as_real_array(level, "level")
        if found.ndim != 0 or not 0 < found < 1:
            raise ValueError(f"level must be one number between 0 and 1; got {level!r}.")
        return self.quantile([(1 - found) / 2, (1 + found) / 2])

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw all the features together, n times for each row given.

        Parameters
        ----------
        n : int
        seed : int
            Equal seeds give equal draws.

        Returns
        -------
        array [n, *M, d]
        """
        n, rng = as_count(n, "n"), np.random.default_rng([as_seed(seed), 5])
        J, d = self.parts.y_means.shape
        M = len(self._x)
        u, found = rng.random((M, n)).T, rng.standard_normal((M, n, d)).swapaxes(0, 1)
        for some, rows, log_weights, means in self._blocks(n, max(J, d * d)):
            label = draw_labels_by_cdf(np.exp(log_weights), u[some, rows])
            moved = np.einsum("qrik,qrk->qri", self.parts.y_factors[label], found[some, rows])
            found[some, rows] = means[np.arange(len(means)), label] + moved
        return found.reshape(n, *self._batch, d)

    def __repr__(self) -> str:
        def listed(columns: tuple[int, ...]) -> str:
            return f"feature{'s'[: len(columns) != 1]} {', '.join(map(str, columns))}"

        given = f" given {listed(self.given)}" if self.given else ""
        rows = f" in {self._batch[0]:,} rows" if self._batch else ""
        return (
            f"<PredictiveMixture: {listed(self.features)}{given}{rows}, "
            f"{self.draws} draws of {self.K} components>"
        )

    @property
    def _batch(self) -> tuple[int, ...]:
        """[*M]."""
        return self.values.shape[:-1]

    @property
    def _x(self) -> np.ndarray:
        """The values as rows, [M, g]: one row where there is no axis [M]."""
        return np.atleast_2d(self.values)

    def _blocks(
        self, points: int = 1, numbers: int = 1
    ) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Walk over the rows given, and at each over so many points, some at a time.

        Parameters
        ----------
        points : how many there are for each row.
        numbers : how many numbers the largest array needs for each point of each row.

        Yields
        ------
        some : slice of the points
        rows : slice of R rows
        log_weights : [R, J]
        means : [R, J, d]
        """
        J, d, g = self.parts.slopes.shape
        R = max(1, _BLOCK_NUMBERS // max(J * d, J * g, points * numbers))
        size = max(1, _BLOCK_NUMBERS // (R * numbers))
        for row in range(0, len(self._x), R):
            rows = slice(row, row + R)
            x = self._x[rows]
            log_joint_label, means = regress_normals(self.parts, x)
            log_weights = normalize_log_weights(log_joint_label, x)
            for point in range(0, points, size):
                yield slice(point, point + size), rows, log_weights, means

    def _by_row(self, answer: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """What `answer` makes of the weights [R, J] and means [R, J, d] of R rows, for all."""
        found = np.concatenate(
            [answer(np.exp(log_weights), means) for _, _, log_weights, means in self._blocks()]
        )
        return found.reshape(*self._batch, *found.shape[1:])

    def _covariance(self, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Of R rows: [R, d, d]."""
        d = means.shape[-1]
        within = np.tensordot(weights, self.covariances.reshape(-1, d, d), axes=1)
        mean = np.einsum("rj,rjd->rd", weights, means)
        between = np.sqrt(weights)[..., np.newaxis] * (means - mean[:, np.newaxis])
        return within + between.swapaxes(1, 2) @ between

    def _as_points(self, Y: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """Points [..., d] as [Q, M, d], and the shape [...] that their results will have."""
        d = len(self.features)
        if Y.ndim == 0 or Y.shape[-1] != d:
            raise ValueError(
                f"Y must have a last axis of {d}, one entry for each of the features "
                f"{self.features}; got shape {Y.shape}."
            )
        try:
            lead = np.broadcast_shapes(Y.shape[:-1], self._batch)
        except ValueError as error:
            raise ValueError(
                f"Y must go with the {self._batch[0]} rows given, [..., {self._batch[0]}, "
                f"{d}]; got shape {Y.shape}."
            ) from error
        return np.broadcast_to(Y, (*lead, d)).reshape(-1, len(self._x), d), lead


def predictive_mixture(
    components: ComponentDraws, given: tuple[int, ...], values: np.ndarray, wanted: tuple[int, ...]
) -> PredictiveMixture:
    """The distribution of the columns `wanted`, those `given` having `values` [*M, g]."""
    parts = partition_normals(*components, given, wanted)
    for array in (values, *parts):
        array.flags.writeable = False
    S, K = components.weights.shape
    return PredictiveMixture(features=wanted, given=given, values=values, draws=S, K=K, parts=parts)


def mixture_quantile(
    weights: np.ndarray, means: np.ndarray, sds: np.ndarray, p: np.ndarray
) -> np.ndarray:
    """Quantiles of mixtures of J normals in one dimension each.

    The quantile lies between the least and the greatest of the components' own. In that bracket
    by Newton's method, on the normal scale of probabilities, where a single normal is a straight
    line and tails are no steeper than the middle; by bisection where a step would leave the
    bracket or is not half the last one. Probabilities are counted from the nearer tail.

    Parameters
    ----------
    weights, means, sds : [..., J], weights summing to 1 over J.
    p : [...], between 0 and 1.

    Returns
    -------
    array [...]
    """
    sign = np.where(p > 0.5, -1.0, 1.0)  # mirrored, the upper tail is the lower
    p = np.minimum(p, 1.0 - p)
    weights, means, sds = np.broadcast_arrays(weights, sign[..., np.newaxis] * means, sds)
    goal, narrowest, typical = ndtri(p), sds.min(axis=-1), (weights * sds).sum(axis=-1)
    own = means + sds * goal[..., np.newaxis]
    low, high, y = own.min(axis=-1), own.max(axis=-1), (weights * own).sum(axis=-1)
    step, left = high - low, np.ones(y.shape, bool)  # those that are not settled yet
    below, density = np.empty_like(y), np.empty_like(y)
    for _ in range(_MOST_STEPS):
        place = (y[left, np.newaxis] - means[left]) / sds[left]
        below[left] = (weights[left] * ndtr(place)).sum(axis=-1)
        density[left] = (weights[left] / sds[left] * _bell(place)).sum(axis=-1)
        low, high = np.where(below < p, y, low), np.where(below < p, high, y)
        with np.errstate(all="ignore"):  # a tail of zero is no place to go on from: bisection
            reached = ndtri(below)
            newton = y - (reached - goal) * _bell(reached) / density
            good = (newton >= low) & (newton <= high) & (np.abs(newton - y) <= 0.5 * step)
        new = np.where(good, newton, low + 0.5 * (high - low))
        new = np.where(left, new, y)
        step, y = np.abs(new - y), new
        digits = _LAST_DIGITS * np.maximum(np.abs(y), typical)
        left &= step > np.where(good, np.maximum(_SHORT_STEP * narrowest, digits), digits)
        if not left.any():
            break
    return sign * y


def _bell(z: np.ndarray) -> np.ndarray:
    """The standard normal density."""
    return np.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi)


def _sds(factors: np.ndarray) -> np.ndarray:
    """The square roots of the diagonal of L L^T: [J, d]."""
    return np.sqrt((factors**2).sum(axis=2))


def as_real_array(value: Any, name: str) -> np.ndarray:
    """Return real numbers as a float64 array, or raise."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array.astype(np.float64)
