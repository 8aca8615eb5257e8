"""The predictive distribution of some features: one mixture of the components of all draws.

Under each draw s of the posterior, a row is distributed as a mixture of K normals. The average over
S draws is a mixture of J = S K normals with weights w_sk / S. Given x, it is a mixture of the J
conditional normals of y given x, each weighted by the density that it gives to x: see
`normal_regression`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp, ndtr

from bgmm_jd.backend.numerics import block_size, blocks
from bgmm_jd.backend.process_state import with_numpy_defaults
from bgmm_jd.data.validation import as_count, as_probability, as_real_array, as_seed
from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    draw_labels,
    mixture_quantile,
    normal_log_density,
)
from bgmm_jd.posterior.normal_regression import (
    PartitionedNormals,
    normalize_log_weights,
    partition_normals,
    regress_normals,
)
from bgmm_jd.settings import MemorySettings


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class PredictiveMixture:
    """The predictive distribution of some features, a mixture of S K normals for each given row.

    If the given values are arrays of length M, each result has a leading axis [M], written `[*M]`
    below. If they are scalars, or if nothing is given, it has none. All results are float64, in the
    units of X.

    Means and weights are computed when they are needed, some rows at a time, so that M may be
    large.

    Attributes
    ----------
    features : tuple of int
        The d columns of X that this is the distribution of, in the order of the last axis.
    given : tuple of int
        The g columns that are given; empty for a marginal.
    values : array `[*M, g]`
        The values of the given columns.
    draws, K : int
        S, the number of draws of the posterior, and K, the number of components.
    parts : PartitionedNormals
        The S K normals of x and y together.
    feature_names, given_names : tuple of str, or None
        The names of these columns, if the fit was to a data frame.
    budget : int
        Numbers in the largest array of a block of rows; about ten such arrays exist at once.
    """

    features: tuple[int, ...]
    given: tuple[int, ...]
    values: np.ndarray
    draws: int
    K: int
    parts: PartitionedNormals
    feature_names: tuple[str, ...] | None = None
    given_names: tuple[str, ...] | None = None
    budget: int = MemorySettings().mixture

    @property
    def weights(self) -> np.ndarray:
        """Return the weights of the normals `[*M, S, K]`, with sum 1 over draws and components.

        Their sum over draws is the probability of each component, given the values.
        """
        found = self._by_row(lambda weights, means: weights)
        return found.reshape(*self._batch, self.draws, self.K)

    @property
    def means(self) -> np.ndarray:
        """Return the means of the normals: array `[*M, S, K, d]`."""
        found = self._by_row(lambda weights, means: means)
        return found.reshape(*self._batch, self.draws, self.K, -1)

    @property
    def covariances(self) -> np.ndarray:
        """Return the covariances of the normals: array [S, K, d, d], the same for all values."""
        factors = self.parts.y_factors
        return (factors @ factors.swapaxes(1, 2)).reshape(self.draws, self.K, *factors.shape[1:])

    @with_numpy_defaults
    def mean(self) -> np.ndarray:
        """Return the mean of the features: array `[*M, d]`."""
        return self._by_row(lambda weights, means: np.einsum("rj,rjd->rd", weights, means))

    @with_numpy_defaults
    def covariance(self) -> np.ndarray:
        """Return the covariance of the features: array `[*M, d, d]`.

        It is the sum of the covariance within the components and of that between their means.
        """
        return self._by_row(self._covariance)

    @with_numpy_defaults
    def sd(self) -> np.ndarray:
        """Return the standard deviation of each feature: array `[*M, d]`."""
        return self._by_row(lambda *block: np.sqrt(np.einsum("rii->ri", self._covariance(*block))))

    @with_numpy_defaults
    def log_density(self, Y: Any) -> np.ndarray:
        """Return the log joint density of the features, in nats.

        For a conditional distribution it equals the log predictive density of x and y, minus that
        of x.

        Parameters
        ----------
        Y : array-like [..., d], or data frame of these features
            The axes [...] are broadcast against `[*M]`.

        Returns
        -------
        array, whose shape is that of [...] broadcast against `[*M]`

        Raises
        ------
        TypeError, ValueError
            If Y is not real, its last axis is not d, it is not finite, or it cannot be broadcast
            against the given values.
        """
        Y = as_real_array(Y, "Y", self.feature_names)
        if not np.isfinite(Y).all():
            raise ValueError("Y must be finite; it has NaN or infinity. Drop such points.")
        points, lead = self._as_points(Y)
        found = np.empty(points.shape[:2])
        for some, rows, log_weights, means in self._blocks(len(points), self.parts.y_means.size):
            residual = points[some, rows, np.newaxis] - means
            log_density, _ = normal_log_density(self.parts.y_factors, residual)
            found[some, rows] = logsumexp(log_weights + log_density, axis=-1)
        return found.reshape(lead)[()]  # a number, not an array without axes

    @with_numpy_defaults
    def cdf(self, Y: Any) -> np.ndarray:
        """Return the marginal cumulative distribution function of each feature.

        Parameters
        ----------
        Y : array-like [..., d], or data frame of these features
            The axes [...] are broadcast against `[*M]`. May be infinite.

        Returns
        -------
        array [..., d], of the axes [...] broadcast against `[*M]`

        Raises
        ------
        TypeError, ValueError
            If Y is not real, its last axis is not d, it has NaN, or it cannot be broadcast against
            the given values.
        """
        Y = as_real_array(Y, "Y", self.feature_names)
        if np.isnan(Y).any():
            raise ValueError("Y must be numbers; it has NaN. Drop such points.")
        points, lead = self._as_points(Y)
        found, sds = np.empty(points.shape), _sds(self.parts.y_factors)
        for some, rows, log_weights, means in self._blocks(len(points), sds.size):
            below = ndtr((points[some, rows, np.newaxis] - means) / sds)
            found[some, rows] = np.einsum("rj,qrjd->qrd", np.exp(log_weights), below)
        return np.minimum(found.reshape(*lead, points.shape[-1]), 1.0)

    @with_numpy_defaults
    def quantile(self, p: Any) -> np.ndarray:
        """Return the marginal quantiles of each feature, by solving `cdf(y) = p` for y.

        Parameters
        ----------
        p : array-like [...]
            Probabilities greater than 0 and less than 1.

        Returns
        -------
        array `[*M, d, ...]`

        Raises
        ------
        TypeError, ValueError
            If p is not real, or not within these bounds.
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

    @with_numpy_defaults
    def interval(self, level: float = 0.9) -> np.ndarray:
        """Return the marginal equal-tailed interval of each feature that has probability `level`.

        Parameters
        ----------
        level : float
            Greater than 0 and less than 1.

        Returns
        -------
        array `[*M, d, 2]`, the lower and upper ends

        Raises
        ------
        TypeError, ValueError
            If `level` is not one real number within these bounds.
        """
        probability = as_probability(level, "level")
        return self.quantile([(1 - probability) / 2, (1 + probability) / 2])

    @with_numpy_defaults
    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """Draw the features jointly, n times for each given row.

        Parameters
        ----------
        n : int
            The number of draws.
        seed : int
            Equal seeds give equal draws.

        Returns
        -------
        array `[n, *M, d]`
        """
        n, rng = as_count(n, "n"), np.random.default_rng([as_seed(seed), 5])
        J, d = self.parts.y_means.shape
        M = len(self._x)
        u, found = rng.random((M, n)).T, rng.standard_normal((M, n, d)).swapaxes(0, 1)
        for some, rows, log_weights, means in self._blocks(n, max(J, d * d)):
            label = draw_labels(np.exp(log_weights), u[some, rows])
            noise = np.einsum("qrik,qrk->qri", self.parts.y_factors[label], found[some, rows])
            found[some, rows] = means[np.arange(len(means)), label] + noise
        return found.reshape(n, *self._batch, d)

    def __repr__(self) -> str:
        def listed(columns: Sequence[Any]) -> str:
            return f"feature{'s'[: len(columns) != 1]} {', '.join(map(str, columns))}"

        given = f" given {listed(self.given_names or self.given)}" if self.given else ""
        rows = f" in {self._batch[0]:,} rows" if self._batch else ""
        return (
            f"<PredictiveMixture: {listed(self.feature_names or self.features)}{given}{rows}, "
            f"{self.draws} draws of {self.K} components>"
        )

    @property
    def _batch(self) -> tuple[int, ...]:
        """Return the axes `[*M]`."""
        return self.values.shape[:-1]

    @property
    def _x(self) -> np.ndarray:
        """Return the given values as rows [M, g]: a single row where there is no axis [M]."""
        return np.atleast_2d(self.values)

    def _blocks(
        self, points: int = 1, numbers: int = 1
    ) -> Iterator[tuple[slice, slice, np.ndarray, np.ndarray]]:
        """Go through the given rows, and for each of them through some points, in blocks.

        Parameters
        ----------
        points : int
            Number of points for each row.
        numbers : int
            Entries that each point of each row adds to the largest array.

        Yields
        ------
        some : slice of the points
        rows : slice of R rows
        log_weights : array [R, J]
        means : array [R, J, d]
        """
        J, d, g = self.parts.slopes.shape
        numbers_each = max(J * d, J * g, points * numbers)
        R = block_size(numbers_each, self.budget)
        for rows in blocks(len(self._x), numbers_each, self.budget):
            x = self._x[rows]
            log_joint_label, means = regress_normals(self.parts, x)
            log_weights = normalize_log_weights(log_joint_label, x)
            for some in blocks(points, R * numbers, self.budget):
                yield some, rows, log_weights, means

    def _by_row(self, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
        """Apply a function of weights [R, J] and means [R, J, d] to all rows: `[*M, ...]`."""
        found = np.concatenate(
            [function(np.exp(log_weights), means) for _, _, log_weights, means in self._blocks()]
        )
        return found.reshape(*self._batch, *found.shape[1:])

    def _covariance(self, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
        """Return the covariance of the features in R rows: [R, d, d]."""
        d = means.shape[-1]
        within = np.tensordot(weights, self.covariances.reshape(-1, d, d), axes=1)
        mean = np.einsum("rj,rjd->rd", weights, means)
        between = np.sqrt(weights)[..., np.newaxis] * (means - mean[:, np.newaxis])
        return within + between.swapaxes(1, 2) @ between

    def _as_points(self, Y: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """Return points [..., d] as [Q, M, d], and the shape [...] that the results will have."""
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
                f"Y must have the shape [..., {self._batch[0]}, {d}], one point for each of the "
                f"{self._batch[0]} given rows, or one that can be broadcast to it; got shape "
                f"{Y.shape}."
            ) from error
        return np.broadcast_to(Y, (*lead, d)).reshape(-1, len(self._x), d), lead


def predictive_mixture(
    components: ComponentDraws,
    given: Sequence[int],
    values: np.ndarray,
    wanted: Sequence[int],
    *,
    names: Sequence[str] | None = None,
    budget: int = MemorySettings().mixture,
) -> PredictiveMixture:
    """Return the distribution of the columns `wanted`, given `values` `[*M, g]` of those `given`.

    `names` are those of all D columns. The values, and everything that is kept, become read-only.
    """
    parts = partition_normals(*components, given, wanted)
    for array in (values, *parts):
        array.flags.writeable = False
    S, K = components.weights.shape
    return PredictiveMixture(
        features=tuple(wanted),
        given=tuple(given),
        values=values,
        draws=S,
        K=K,
        parts=parts,
        feature_names=None if names is None else tuple(names[i] for i in wanted),
        given_names=None if names is None else tuple(names[i] for i in given),
        budget=budget,
    )


def _sds(factors: np.ndarray) -> np.ndarray:
    """Return the standard deviations [J, d] of normals with the Cholesky factors [J, d, d]."""
    return np.sqrt((factors**2).sum(axis=2))
