"""Mixture regression and imputation: some features given others, averaged over the posterior.

Each draw s of the posterior is a mixture of K normals; the average over S draws is one of S K
normals, with weights w_sk / S. With the features of each cut in x, given, and y, wanted,

::

    y given x, s, k  ~  N(mu_y + B (x - mu_x), C),   B = S_yx S_xx^-1,   C = S_yy - B S_xy

(Mardia, Kent and Bibby 1979, *Multivariate Analysis*, theorem 3.2.4), with S_sk in four blocks.
All of it stands in one Cholesky factor, taken with x before y:

::

    L = [[L_x, 0], [A, L_y]],   z = L_x^-1 (x - mu_x),   B (x - mu_x) = A z,   C = L_y L_y^T

No covariance is inverted, and C cannot lose its sign to rounding. It does not depend on x.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy.special import logsumexp, ndtr, ndtri

from bgmm_jd.data import as_count, as_rows, as_seed
from bgmm_jd.posterior import Components, Posterior, component_draws

_CHUNK = 2**18  # numbers in the largest array of a block; some ten such exist at once
_LOG_2PI = math.log(2.0 * math.pi)

# Of a quantile. A Newton step this short, in sds of the narrowest component, leaves an error of
# its square; a bisection must go on to the last digits.
_SHORT_STEP = 1e-8
_LAST_DIGITS = 4 * np.finfo(np.float64).eps
# Bisection alone needs fewer, unless the bracket is 2^200 times the last digits.
_MOST_STEPS = 200


# --- Public ---------------------------------------------------------------------------------


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
    parts: "Parts" = field(repr=False)

    @property
    def weights(self) -> np.ndarray:
        """Array [*M, S, K], summing to 1 over draws and components together.

        The sum over draws is the probability of each component, given the values.
        """
        found = [log_weights for _, _, log_weights, _ in self._blocks(1, 1)]
        return np.exp(np.concatenate(found)).reshape(*self._batch, self.draws, self.K)

    @property
    def means(self) -> np.ndarray:
        """Array [*M, S, K, d]."""
        found = np.concatenate([means for _, _, _, means in self._blocks(1, 1)])
        return found.reshape(*self._batch, self.draws, self.K, self._d)

    @property
    def covariances(self) -> np.ndarray:
        """Array [S, K, d, d]: the same for all values given."""
        found = _squares(self.parts.y_factors)
        return found.reshape(self.draws, self.K, self._d, self._d)

    def mean(self) -> np.ndarray:
        """Array [*M, d]."""
        found = [
            np.einsum("mj,mjd->md", np.exp(log_weights), means)
            for _, _, log_weights, means in self._blocks(1, 1)
        ]
        return np.concatenate(found).reshape(*self._batch, self._d)

    def covariance(self) -> np.ndarray:
        """Array [*M, d, d]: within the components and between their means."""
        found = [
            within + np.einsum("mji,mjk->mik", between, between)
            for within, between in self._spread(_squares(self.parts.y_factors))
        ]
        return np.concatenate(found).reshape(*self._batch, self._d, self._d)

    def sd(self) -> np.ndarray:
        """Array [*M, d]: the standard deviation of each feature."""
        found = [
            np.sqrt(within + (between**2).sum(axis=1))
            for within, between in self._spread(_variances(self.parts.y_factors))
        ]
        return np.concatenate(found).reshape(*self._batch, self._d)

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
        Y = _as_real(Y, "Y")
        if not np.isfinite(Y).all():
            raise ValueError("Y must be finite; it holds NaN or infinity.")
        points, lead = self._by_row(Y)
        found = np.empty(points.shape[:2])
        flat, out = points.reshape(-1, self._d), found.reshape(-1)
        numbers = len(self.parts.log_weights) * self._d
        for where, row, log_weights, means in self._blocks(points.shape[1], numbers):
            residual = flat[where, np.newaxis] - means[row]
            log_normal, _ = _log_normal(self.parts.y_factors, residual)
            out[where] = logsumexp(log_weights[row] + log_normal, axis=1)
        return self._from_rows(found, lead)

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
        Y = _as_real(Y, "Y")
        if np.isnan(Y).any():
            raise ValueError("Y must be numbers; it holds NaN.")
        points, lead = self._by_row(Y)
        found = np.empty(points.shape)
        flat, out = points.reshape(-1, self._d), found.reshape(-1, self._d)
        sds = np.sqrt(_variances(self.parts.y_factors))
        for where, row, log_weights, means in self._blocks(points.shape[1], sds.size):
            below = ndtr((flat[where, np.newaxis] - means[row]) / sds)
            out[where] = np.einsum("tj,tjd->td", np.exp(log_weights)[row], below)
        return np.clip(self._from_rows(found, lead), 0.0, 1.0)

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
        p = _as_real(p, "p")
        if not ((p > 0) & (p < 1)).all():
            raise ValueError(f"p must be between 0 and 1, both excluded; got {p}.")
        d, J = self._d, len(self.parts.log_weights)
        sds = np.sqrt(_variances(self.parts.y_factors)).T  # [d, J]
        found = np.empty((len(np.atleast_2d(self.values)), d, p.size))
        out = found.reshape(-1)
        for where, row, log_weights, means in self._blocks(d * p.size, J):
            feature, level = np.divmod(np.arange(where.start, where.stop) % (d * p.size), p.size)
            weights, locs = np.exp(log_weights)[row], means[row, :, feature]
            out[where] = mixture_quantile(weights, locs, sds[feature], p.reshape(-1)[level])
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
        found = _as_real(level, "level")
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
        n, rng = as_count(n, "n"), np.random.default_rng([as_seed(seed), 2])
        d, M = self._d, len(np.atleast_2d(self.values))
        u, noise = rng.random(M * n), rng.standard_normal((M * n, d))
        found = np.empty((M * n, d))
        for where, row, log_weights, means in self._blocks(n, d * d):
            picked = _pick_sorted(np.exp(log_weights), row, u[where])
            moved = np.einsum("tik,tk->ti", self.parts.y_factors[picked], noise[where])
            found[where] = means[row, picked] + moved
        return np.moveaxis(found.reshape(M, n, d), 0, 1).reshape(n, *self._batch, d)

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
    def _d(self) -> int:
        return len(self.features)

    def _blocks(
        self, per_row: int, numbers: int
    ) -> Iterator[tuple[slice, np.ndarray, np.ndarray, np.ndarray]]:
        """Walk over `per_row` points for each row given, the points of a row one after another.

        Parameters
        ----------
        per_row : how many points each row has.
        numbers : how many numbers the largest array needs for each point.

        Yields
        ------
        where : slice of T points
        row : int [T], the row of each among those of this block
        log_weights : [R, J] of the rows of this block
        means : [R, J, d]
        """
        rows = np.atleast_2d(self.values)
        by_row = len(self.parts.log_weights) * max(self._d, len(self.given))
        size = max(1, min(_CHUNK // numbers, max(1, _CHUNK // by_row) * per_row))
        total = len(rows) * per_row
        for first in range(0, total, size):
            where = slice(first, min(first + size, total))
            row = np.arange(where.start, where.stop) // per_row
            yield where, row - row[0], *regress(self.parts, rows[row[0] : row[-1] + 1])

    def _spread(self, squares: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The average [R, ...] of `squares` [J, ...], and the weighted distances [R, J, d] of the
        means from the mean, whose squares add up to the spread between components."""
        for _, _, log_weights, means in self._blocks(1, 1):
            weights = np.exp(log_weights)[..., np.newaxis]
            distance = means - (weights * means).sum(axis=1, keepdims=True)
            yield np.tensordot(weights[..., 0], squares, axes=1), np.sqrt(weights) * distance

    def _by_row(self, Y: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
        """Points [..., d] as [M, Q, d], and the shape that their results will have."""
        if Y.ndim == 0 or Y.shape[-1] != self._d:
            raise ValueError(
                f"Y must have a last axis of {self._d}, one entry for each of the features "
                f"{self.features}; got shape {Y.shape}."
            )
        try:
            lead = np.broadcast_shapes(Y.shape[:-1], self._batch)
        except ValueError as error:
            raise ValueError(
                f"Y must go with the {self._batch[0]} rows given, [..., {self._batch[0]}, "
                f"{self._d}]; got shape {Y.shape}."
            ) from error
        wide = np.broadcast_to(Y, (*lead, self._d))
        if self._batch:
            wide = np.moveaxis(wide, -2, 0)
        return wide.reshape(len(np.atleast_2d(self.values)), -1, self._d), lead

    def _from_rows(self, found: np.ndarray, lead: tuple[int, ...]) -> np.ndarray:
        """Results [M, Q, ...] in the shape [*lead, ...]."""
        tail = found.shape[2:]
        if not self._batch:
            return found.reshape((*lead, *tail))[()]
        return np.moveaxis(found.reshape((lead[-1], *lead[:-1], *tail)), 0, len(lead) - 1)


def marginal(
    posterior: Posterior, features: Sequence[int], draws: int = 200, seed: int = 0
) -> PredictiveMixture:
    """The posterior predictive distribution of some of the features, the others summed out.

    Parameters
    ----------
    posterior : Posterior
    features : sequence of int
        Columns of X, counted from 0, in the order wanted.
    draws : int
        S, how many draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture, without a leading axis.

    Raises
    ------
    TypeError, ValueError
        If `features` are not columns of X, or name none, or one twice.

    See Also
    --------
    conditional : given values of the others.
    """
    columns = _as_columns(features, posterior.D, "features")
    return cut(_components(posterior, draws, seed), (), np.zeros(0), columns)


def conditional(
    posterior: Posterior, given: Mapping[int, Any], draws: int = 200, seed: int = 0
) -> PredictiveMixture:
    """The posterior predictive distribution of the other features, given values of some.

    Mixture regression: the distribution of y in a new row whose x is known,

    ::

        p(y given x) = p(x, y) / p(x),   p(x, y) = (1/S) sum_s p(x, y given theta_s)
                     = sum_s sum_k pi_sk(x) N(y; m_sk(x), C_sk)
        pi_sk(x) proportional to w_sk N(x; mu_sk, S_sk), over s and k together

    A draw of the posterior under which x is more probable counts for more: x is a part of the new
    row, and tells about theta as a row of the data would. Hence, of the same draws,
    `log_density` of x and y together, less that of x, is exactly that of y given x.
    Where x is an input set from outside, that tells nothing about theta, each draw would count the
    same; the difference is small unless the rows of the fit left theta in doubt near x.

    Parameters
    ----------
    posterior : Posterior
    given : mapping of int to number or array-like [M]
        Column of X, counted from 0, to its value or values, in the units of X. Arrays have one
        length, and are read row by row; a scalar beside them counts for all rows.
    draws : int
        S, how many draws of the posterior to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    PredictiveMixture of the columns not given, in ascending order; with a leading axis [M] if any
    value is an array.

    Raises
    ------
    TypeError, ValueError
        If `given` is not a mapping from columns of X to finite numbers, or names none or all of
        them, or its arrays differ in length. From the methods of the result, if a value is so far
        from all components that its density cannot be told from zero.
    """
    if not isinstance(given, Mapping):
        raise TypeError(
            f"given must be a mapping of columns to values, as {{0: 1.5}}; got {given!r}."
        )
    columns = _as_columns(given, posterior.D, "given")
    wanted = tuple(column for column in range(posterior.D) if column not in columns)
    if not wanted:
        raise ValueError(f"given must leave a feature out; it names all {posterior.D}.")
    values = _as_values(columns, list(given.values()))
    return cut(_components(posterior, draws, seed), columns, values, wanted)


def impute(posterior: Posterior, X: Any, draws: int = 100, seed: int = 0) -> np.ndarray:
    """Multiple imputation: X with its missing entries drawn from the posterior, several times.

    Each imputation is made under one draw of the posterior of its own: for each row a label from
    the responsibilities given what is observed in it, then what is missing from the conditional
    normal of that component. So the imputations differ by as much as is not known. The entries are
    taken to be missing at random: that they are missing tells nothing about their values beyond
    what is observed in the row (Rubin 1987, *Multiple Imputation for Nonresponse in Surveys*).

    Parameters
    ----------
    posterior : Posterior
    X : array-like [N, D]
        NaN where an entry is missing; a row may be missing as a whole.
    draws : int
        How many imputations to make.
    seed : int
        Equal seeds give equal imputations.

    Returns
    -------
    array [draws, N, D]
        In the units of X and the dtype of the fit; what was observed is in each as it came.

    Raises
    ------
    TypeError, ValueError
        If X is not of the fit's columns, or holds infinity, or a row's observed entries are so far
        from all components that their density cannot be told from zero.
    """
    X = as_rows(X, posterior.D, missing=True)
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is told as infinity
        X = as_rows(X.astype(posterior.dtype), missing=True)
    components = _components(posterior, draws, seed)
    return complete(components, X, np.random.default_rng([seed, 3]))


def _components(posterior: Posterior, draws: int, seed: int) -> Components:
    return component_draws(posterior, as_count(draws, "draws"), as_seed(seed))


# --- Of mixtures ----------------------------------------------------------------------------


class Parts(NamedTuple):
    """J = S K normals with their features cut in x [g] and y [d]; the blocks of the module's head.

    log_weights : [J], log w_sk
    x_means, y_means : [J, g], [J, d]
    x_factors : [J, g, g], L_x
    slopes : [J, d, g], A
    y_factors : [J, d, d], L_y
    """

    log_weights: np.ndarray
    x_means: np.ndarray
    y_means: np.ndarray
    x_factors: np.ndarray
    slopes: np.ndarray
    y_factors: np.ndarray


def cut(
    components: Components, given: tuple[int, ...], values: np.ndarray, wanted: tuple[int, ...]
) -> PredictiveMixture:
    """The distribution of the columns `wanted`, those `given` having `values` [*M, g]."""
    parts = parts_of(components, given, wanted)
    for array in (values, *parts):
        array.flags.writeable = False
    S, K = components.weights.shape
    return PredictiveMixture(features=wanted, given=given, values=values, draws=S, K=K, parts=parts)


def parts_of(components: Components, given: tuple[int, ...], wanted: tuple[int, ...]) -> Parts:
    """Factor each covariance with the columns `given` before those `wanted`."""
    g, columns = len(given), [*given, *wanted]
    J = components.weights.size
    means = components.means.reshape(J, -1)[:, columns]
    covariances = components.covariances.reshape(J, *components.covariances.shape[2:])
    factors = np.linalg.cholesky(covariances[:, columns][:, :, columns])
    with np.errstate(divide="ignore"):  # an emptied component may have weight zero
        log_weights = np.log(components.weights.reshape(J))
    return Parts(
        log_weights=log_weights,
        x_means=means[:, :g],
        y_means=means[:, g:],
        x_factors=factors[:, :g, :g],
        slopes=factors[:, g:, :g],
        y_factors=factors[:, g:, g:],
    )


def regress(parts: Parts, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mixture of y given each row of x.

    Parameters
    ----------
    x : [R, g]

    Returns
    -------
    log_weights : [R, J], normalised over J
    means : [R, J, d]
    """
    log_joint, z = _log_joint_label(parts, x)
    means = parts.y_means + np.einsum("rjg,jdg->rjd", z, parts.slopes)
    return _normalised(log_joint, x), means


def complete(components: Components, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill the NaN of X [N, D] in, once under each draw: array [S, N, D] in the dtype of X."""
    result = np.repeat(X[np.newaxis], len(components.weights), axis=0)
    patterns, which = np.unique(np.isnan(X), axis=0, return_inverse=True)
    which = which.reshape(-1)  # NumPy 2.0 kept an axis more
    for number, missing in enumerate(patterns):
        if missing.any():
            _fill_in(result, components, missing, np.flatnonzero(which == number), rng)
    return result


def _fill_in(
    result: np.ndarray,
    components: Components,
    missing: np.ndarray,
    rows: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Draw the columns `missing` (bool [D]) of the given rows of `result` [S, N, D], in place."""
    given, wanted = np.flatnonzero(~missing), np.flatnonzero(missing)
    parts = parts_of(components, tuple(given), tuple(wanted))
    S, K = components.weights.shape
    first_label = K * np.arange(S)
    by_row = S * max(K * max(1, len(given)), len(wanted) * len(missing))
    size = max(1, _CHUNK // by_row)
    for here in (rows[first : first + size] for first in range(0, len(rows), size)):
        x = result[0, here[:, np.newaxis], given].astype(np.float64)
        log_joint, z = _log_joint_label(parts, x)
        share = np.exp(_normalised(log_joint.reshape(-1, S, K), x))
        picked = first_label + _pick(share, rng.random((len(here), S)))
        noise = rng.standard_normal((*picked.shape, len(wanted)))
        z = z[np.arange(len(here))[:, np.newaxis], picked]
        y = parts.y_means[picked] + np.einsum("rsdg,rsg->rsd", parts.slopes[picked], z)
        y += np.einsum("rsik,rsk->rsi", parts.y_factors[picked], noise)
        result[:, here[:, np.newaxis], wanted] = np.moveaxis(y, 0, 1)


def mixture_quantile(
    weights: np.ndarray, means: np.ndarray, sds: np.ndarray, p: np.ndarray
) -> np.ndarray:
    """Quantiles of T mixtures of J normals in one dimension each.

    The quantile lies between the least and the greatest of the components' own. In that bracket
    by Newton's method, on the normal scale of probabilities, where a single normal is a straight
    line and tails are no steeper than the middle; by bisection where a step would leave the
    bracket or is not half the last one. Probabilities are counted from the nearer tail.

    Parameters
    ----------
    weights, means, sds : [T, J], weights summing to 1 over J.
    p : [T], between 0 and 1.

    Returns
    -------
    array [T]
    """
    side = np.where(p > 0.5, -1.0, 1.0)
    tail = np.where(p > 0.5, 1.0 - p, p)
    goal = ndtri(tail)
    own = means + sds * (side * goal)[:, np.newaxis]
    low, high = own.min(axis=1), own.max(axis=1)
    y = np.clip((weights * own).sum(axis=1), low, high)
    narrowest, typical = sds.min(axis=1), (weights * sds).sum(axis=1)
    last = high - low
    left = np.arange(len(p))  # the mixtures that are not settled yet
    for _ in range(_MOST_STEPS):
        now = y[left]
        reached, slope = _tail_and_density(weights[left], means[left], sds[left], now, side[left])
        beyond = side[left] * (reached - tail[left]) >= 0  # cdf(y) >= p
        high[left] = np.where(beyond, now, high[left])
        low[left] = np.where(beyond, low[left], now)
        with np.errstate(all="ignore"):  # a tail of zero is no place to go on from: bisection
            place = ndtri(reached)
            bell = np.exp(-0.5 * (place**2 + _LOG_2PI))
            newton = now - side[left] * (place - goal[left]) * bell / slope
            good = (newton >= low[left]) & (newton <= high[left])
            good &= np.abs(newton - now) <= 0.5 * last[left]
        y[left] = np.where(good, newton, low[left] + 0.5 * (high[left] - low[left]))
        last[left] = np.abs(y[left] - now)
        digits = _LAST_DIGITS * np.maximum(np.abs(now), typical[left])
        enough = np.where(good, np.maximum(_SHORT_STEP * narrowest[left], digits), digits)
        left = left[last[left] > enough]
        if not len(left):
            break
    return y


def _tail_and_density(
    weights: np.ndarray, means: np.ndarray, sds: np.ndarray, y: np.ndarray, side: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Probability [T] below y (side 1) or above (side -1), and the density [T] there."""
    place = (y[:, np.newaxis] - means) / sds
    tail = (weights * ndtr(side[:, np.newaxis] * place)).sum(axis=1)
    density = (weights / sds * np.exp(-0.5 * (place**2 + _LOG_2PI))).sum(axis=1)
    return tail, density


def _log_joint_label(parts: Parts, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log w_j N(x; mu_j, S_j) [R, J] of rows x [R, g], and z [R, J, g]."""
    with np.errstate(over="ignore", invalid="ignore"):  # told by `_normalised`
        log_normal, z = _log_normal(parts.x_factors, x[:, np.newaxis] - parts.x_means)
    return parts.log_weights + log_normal, z


def _log_normal(factors: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log N(r; 0, L L^T) [..., J] of r [..., J, g] with L [J, g, g], and L^-1 r [..., J, g].

    By forward substitution, for all J at once.
    """
    z = np.empty_like(residual)
    for i in range(z.shape[-1]):
        known = np.einsum("...jk,jk->...j", z[..., :i], factors[:, i, :i])
        z[..., i] = (residual[..., i] - known) / factors[:, i, i]
    log_scale = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    constant = log_scale + 0.5 * z.shape[-1] * _LOG_2PI
    return -0.5 * (z**2).sum(axis=-1) - constant, z


def _normalised(log_joint: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log probabilities [R, ..., J] that sum to 1 over the last axis."""
    total = logsumexp(log_joint, axis=-1, keepdims=True)
    if not np.isfinite(total).all():
        row = int(np.flatnonzero(~np.isfinite(total).reshape(len(x), -1).all(axis=1))[0])
        raise ValueError(
            f"The values {x[row].tolist()} are so far from all components that their density "
            "cannot be told from zero. Check them, and their units."
        )
    return log_joint - total


def _pick(share: np.ndarray, u: np.ndarray) -> np.ndarray:
    """A label [...] for each uniform number u [...], by the probabilities `share` [..., K]."""
    below = np.cumsum(share, axis=-1)
    return (u[..., np.newaxis] * below[..., -1:] >= below[..., :-1]).sum(axis=-1)


def _pick_sorted(share: np.ndarray, row: np.ndarray, u: np.ndarray) -> np.ndarray:
    """The same for many labels: u [T], by `share` [R, J] of the row [T], in ascending order."""
    below = np.cumsum(share, axis=1)
    edges = np.searchsorted(row, np.arange(len(share) + 1))
    picked = [
        np.searchsorted(b[:-1], u[first:end] * b[-1], side="right")
        for b, first, end in zip(below, edges[:-1], edges[1:], strict=True)
    ]
    return np.concatenate(picked)


def _squares(factors: np.ndarray) -> np.ndarray:
    """L L^T: [J, d, d]."""
    return factors @ np.swapaxes(factors, 1, 2)


def _variances(factors: np.ndarray) -> np.ndarray:
    """The diagonal of L L^T: [J, d]."""
    return (factors**2).sum(axis=2)


# --- At the door ----------------------------------------------------------------------------


def _as_columns(columns: Any, D: int, name: str) -> tuple[int, ...]:
    """Return distinct column numbers from 0 to D - 1, at least one, or raise."""
    if isinstance(columns, str) or not hasattr(columns, "__iter__"):
        raise TypeError(f"{name} must be a sequence of column numbers; got {columns!r}.")
    found = tuple(columns)
    for column in found:
        if isinstance(column, bool | np.bool_) or not isinstance(column, int | np.integer):
            raise TypeError(f"{name} must name columns by integers; got {column!r}.")
        if not 0 <= column < D:
            raise ValueError(f"{name} must be columns from 0 to {D - 1}; got {column}.")
    if not found:
        raise ValueError(f"{name} must name at least one column from 0 to {D - 1}; got none.")
    if len(set(found)) < len(found):
        raise ValueError(f"{name} must name each column once; got {found}.")
    return tuple(int(column) for column in found)


def _as_values(columns: tuple[int, ...], values: list[Any]) -> np.ndarray:
    """Return the values given as an array [*M, g], or raise."""
    arrays = [
        _as_real(value, f"given[{column}]") for column, value in zip(columns, values, strict=True)
    ]
    for column, array in zip(columns, arrays, strict=True):
        if array.ndim > 1 or array.size == 0:
            raise ValueError(
                f"given[{column}] must be a number or an array [M]; got shape {array.shape}."
            )
        if not np.isfinite(array).all():
            raise ValueError(f"given[{column}] must be finite; it holds NaN or infinity.")
    lengths = {column: len(a) for column, a in zip(columns, arrays, strict=True) if a.ndim}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"given must have arrays of one length; got {lengths} by column.")
    return np.stack(np.broadcast_arrays(*arrays), axis=-1)


def _as_real(value: Any, name: str) -> np.ndarray:
    """Return real numbers as a float64 array, or raise."""
    if np.ma.is_masked(value):
        raise ValueError(f"{name} must have no masked entries.")
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers; got dtype {array.dtype}.")
    return array.astype(np.float64)
