"""Variational EM of many Gaussian mixtures at once, under a conjugate prior, in NumPy.

The approximation is q(z) q(weights) q(means) q(precisions) q(B), with a Dirichlet distribution, and
a normal and a Wishart distribution for each component (Bishop 2006, *Pattern recognition and
machine learning*, section 10.2; there the means' prior depends on the precisions, here not). It
costs milliseconds, where a run of the optimiser costs seconds, and is only used to find starts.

S mixtures of K components are updated together. Each iteration is two matrix products with the
features of the rows: [x_i x_j, x_i, 1] for the matrix forms, [x_i^2, x_i, 1] for the others.
"""

import functools
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.block_algebra import Algebra, algebra_of, expected_log_det
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior

_LOG_2 = float(np.log(2.0))
_LOG_PI = float(np.log(np.pi))
_LOG_2_PI = float(np.log(2.0 * np.pi))
_FEWEST_ROWS = 1e-3  # left in a component that a row is taken out of


class FeatureRows(NamedTuple):
    """Rows of which all entries are observed, and the features of their sufficient statistics.

    values [n, D], weight [n]
    features [F, n] : products of two entries, entries, and 1.
    form : of the covariance.
    """

    values: np.ndarray
    weight: np.ndarray
    features: np.ndarray
    form: str


class Mixtures(NamedTuple):
    """The approximate posteriors of S mixtures; G is K, or 1 in the form "tied".

    counts [S, K] : expected weight of the rows of each component.
    concentration [S, K] : of the Dirichlet distribution of the weights.
    mean [S, K, D]
    mean_covariance [S, K, D, D], or variances [S, K, D] in the forms "diag" and "spherical".
    df [S, G]
    inverse_scale [S, G, D, D], [S, K, D] (diag) or [S, K, 1] (spherical) : of the Wishart
        distributions.
    shared [S, 1, ...] : the inverse scale of q(B); 0 without B.
    """

    counts: np.ndarray
    concentration: np.ndarray
    mean: np.ndarray
    mean_covariance: np.ndarray
    df: np.ndarray
    inverse_scale: np.ndarray
    shared: np.ndarray


def feature_rows(values: np.ndarray, weight: np.ndarray, form: str) -> FeatureRows:
    """Return rows with the features that their sufficient statistics are sums of."""
    i, j = _pairs(values.shape[1], form)
    features = np.concatenate([values[:, i] * values[:, j], values, np.ones((len(values), 1))], 1)
    return FeatureRows(values, weight, np.ascontiguousarray(features.T), form)


def take(mixtures: Mixtures, which: np.ndarray) -> Mixtures:
    """Return some of the mixtures."""
    return Mixtures(*(field[which] for field in mixtures))


def concatenate(parts: list[Mixtures]) -> Mixtures:
    """Return the mixtures of all parts."""
    return Mixtures(*(np.concatenate(fields) for fields in zip(*parts, strict=True)))


def maximise(
    rows: FeatureRows,
    prior: ConjugatePrior,
    share: np.ndarray,
    before: Mixtures | None = None,
) -> Mixtures:
    """Update every factor of q(theta) in turn, given the responsibilities.

    Parameters
    ----------
    share : [S, K, n]
        Responsibilities, without row weights.
    before : Mixtures, optional
        From the iteration before, for the precisions that the update of the means needs. Without
        it, the means are those of the rows alone.
    """
    algebra = algebra_of(rows.form)
    (S, K, n), D = share.shape, rows.values.shape[1]
    sums = (share.reshape(S * K, n) @ (rows.features * rows.weight).T).reshape(S, K, -1)
    counts, first, second = sums[..., -1], sums[..., -1 - D : -1], sums[..., : -1 - D]
    if before is None:
        mean = first / np.maximum(counts, _FEWEST_ROWS)[..., None]
        mean_covariance = algebra.identity(D) / algebra.widen(counts + 1.0 / prior.mean_variance)
        shared = _first_shared(prior, algebra, S, K, algebra.scale_shape(D, rows.form))
    else:
        precision = algebra.widen(before.df) * algebra.inverse(before.inverse_scale)
        mean_covariance = algebra.inverse(
            algebra.identity(D) / prior.mean_variance + algebra.widen(counts) * precision
        )
        mean = algebra.apply(mean_covariance, algebra.apply(precision, first))
        shared = before.shared
    scatter = algebra.scatter(counts, first, second, mean)
    scatter = scatter + algebra.widen(counts) * mean_covariance
    scatter, numbers = _pooled(scatter, counts, rows.form)
    df = prior.df + numbers
    inverse_scale = scatter + _prior_inverse_scale(prior, algebra, shared, df.shape[1])
    if prior.shared_df:
        expected = algebra.widen(df) * algebra.inverse(inverse_scale)
        identity = algebra.identity(expected.shape[-1])
        shared = prior.shared_scale * identity + expected.sum(axis=1, keepdims=True)
    concentration = prior.weights + counts
    return Mixtures(counts, concentration, mean, mean_covariance, df, inverse_scale, shared)


def _first_shared(
    prior: ConjugatePrior, algebra: Algebra, S: int, K: int, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the inverse scale of q(B) of a start, with E[B] near I: [S, 1, ...].

    The first covariances are then those of the clusters, with about one row of the covariance of
    all rows. The prior's mean of B would widen them all.
    """
    zero = np.zeros((S, 1, *shape))
    if not prior.shared_df:
        return zero
    return zero + (prior.shared_scale + K * prior.df) * algebra.identity(shape[-1])


def _pooled(scatter: np.ndarray, counts: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of squares over what shares a precision, and how many of them there are."""
    if form == "tied":
        return scatter.sum(axis=1, keepdims=True), counts.sum(axis=1, keepdims=True)
    if form == "spherical":
        return scatter.sum(axis=2, keepdims=True), scatter.shape[-1] * counts
    return scatter, counts


def expect(rows: FeatureRows, mixtures: Mixtures) -> tuple[np.ndarray, np.ndarray]:
    """Return the responsibilities [S, K, n], and the log of their normalising sums [S, n]."""
    return normalise(log_shares(rows, mixtures))


def log_shares(rows: FeatureRows, mixtures: Mixtures) -> np.ndarray:
    """Return the logs of the responsibilities before they are normalised: [S, K, n]."""
    algebra = algebra_of(rows.form)
    D = rows.values.shape[1]
    precision = algebra.inverse(mixtures.inverse_scale)
    weight = digamma(mixtures.concentration)
    weight = weight - digamma(mixtures.concentration.sum(axis=1, keepdims=True))
    log_det = algebra.expected_log_det(mixtures.df, mixtures.inverse_scale, D)
    spread = mixtures.df * algebra.trace(precision, mixtures.mean_covariance)
    constant = weight + 0.5 * (log_det - spread - D * _LOG_2_PI)
    log_share = -0.5 * mixtures.df[..., None] * squared_distances(rows, mixtures.mean, precision)
    log_share += constant[..., None]
    return log_share


def expect_without_own_row(
    rows: FeatureRows, prior: ConjugatePrior, mixtures: Mixtures
) -> np.ndarray:
    """Return responsibilities [S, K, n] of which each is computed without the row itself.

    In EM a row helps to make its own component, and so it stays there: its leverage is about
    D / n_k. Here its share is taken out of the component first, as in the collapsed method CVB0
    (Teh, Newman and Welling 2006; Asuncion et al. 2009; for mixtures Kurihara, Welling and Teh
    2007). EM from there reaches good optima far more often. With r the row's share, n the count,
    n' = n - r, f = n / n', q = (x - m)^T L^-1 (x - m), u = 1 - r f q, q' = f^2 q / u, nu' = nu - r
    and kappa = n' / (n' + 1), the rank-one update of a Student-t density is::

        log rho = log(alpha + n') + lgamma((nu' + 1) / 2) - lgamma((nu' + 1 - D) / 2)
                  + D / 2 log kappa - (log |L| + log u) / 2 - (nu' + 1) / 2 log(1 + kappa q')

    In the form "tied" the row is taken out of the mean alone, because the common covariance has
    all rows; the forms "diag" and "spherical" have small leverages and are left to plain EM.
    """
    D = rows.values.shape[1]
    share, _ = expect(rows, mixtures)
    own = share * np.minimum(rows.weight, 1.0)  # a row of weight w stands for w equal rows
    others = np.maximum(mixtures.counts[..., None] - own, _FEWEST_ROWS)
    ratio = (others + own) / others
    precision = np.linalg.inv(mixtures.inverse_scale)
    q = squared_distances(rows, mixtures.mean, precision)
    kappa = others / (others + 1.0)
    log_share = np.log(prior.weights + others) + 0.5 * D * np.log(kappa)
    if rows.form == "tied":
        log_share -= 0.5 * mixtures.df[..., None] * kappa * ratio**2 * q
    else:
        left = np.maximum(1.0 - own * ratio * q, _FEWEST_ROWS)
        log_share -= 0.5 * (np.linalg.slogdet(mixtures.inverse_scale)[1][..., None] + np.log(left))
        df = mixtures.df[..., None]
        # Between a row outside of the component and a row inside, linear in the share.
        outside, inside = _log_gamma_ratio(df + 1.0, D), _log_gamma_ratio(df, D)
        log_share += outside + own * (inside - outside)
        log_share -= 0.5 * (df + 1.0 - own) * np.log1p(kappa * ratio**2 * q / left)
    return normalise(log_share)[0]


def bound(
    rows: FeatureRows, prior: ConjugatePrior, mixtures: Mixtures, log_sums: np.ndarray
) -> np.ndarray:
    """Return the evidence lower bound [S] in nats, at the responsibilities of `expect`.

    Parameters
    ----------
    log_sums : [S, n]
        From `expect`, at these mixtures.
    """
    algebra = algebra_of(rows.form)
    K, D = mixtures.mean.shape[1:]
    concentration = mixtures.concentration
    log_weight = digamma(concentration) - digamma(concentration.sum(axis=1, keepdims=True))
    of_weights = (
        gammaln(concentration.sum(axis=1))
        - gammaln(K * prior.weights)
        + K * gammaln(prior.weights)
        - gammaln(concentration).sum(axis=1)
        + ((concentration - prior.weights) * log_weight).sum(axis=1)
    )
    square = algebra.total(mixtures.mean_covariance) + (mixtures.mean**2).sum(axis=2)
    log_det = algebra.log_det(mixtures.mean_covariance)
    of_means = 0.5 * (
        square / prior.mean_variance - D - log_det + D * np.log(prior.mean_variance)
    ).sum(axis=1)
    of_precisions = _divergence_of_precisions(prior, algebra, mixtures)
    total: np.ndarray = log_sums @ rows.weight - of_weights - of_means - of_precisions
    return total


def squared_distances(rows: FeatureRows, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Return (x - m)^T P (x - m) of each row and component: [S, K, n].

    Parameters
    ----------
    mean : [S, K, D]
    precision : [S, G, D, D], [S, K, D] or [S, K, 1]
    """
    algebra = algebra_of(rows.form)
    (S, K, D), n = mean.shape, len(rows.values)
    moved = algebra.apply(precision, mean)
    i, j = _pairs(D, rows.form)
    quadratic = algebra.packed(precision, i, j)
    coefficients = np.concatenate(
        [
            np.broadcast_to(quadratic, (S, K, len(i))),
            -2.0 * moved,
            (moved * mean).sum(axis=2, keepdims=True),
        ],
        axis=2,
    )
    found = coefficients.reshape(S * K, -1) @ rows.features
    return np.maximum(found, 0.0, out=found).reshape(S, K, n)


def normalise(log_share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return responsibilities [S, K, n] that add up to 1, and the logs of their sums [S, n]."""
    largest = log_share.max(axis=1, keepdims=True)
    share = np.exp(log_share - largest)
    total = share.sum(axis=1, keepdims=True)
    share /= total
    return share, (largest + np.log(total))[:, 0]


def _log_gamma_ratio(df: np.ndarray, D: int) -> np.ndarray:
    return gammaln(df / 2.0) - gammaln((df - D) / 2.0)


def _prior_inverse_scale(
    prior: ConjugatePrior, algebra: Algebra, shared: np.ndarray, G: int
) -> np.ndarray:
    """Return E[B] + scale I: [S, 1, ...]."""
    identity = algebra.identity(shared.shape[-1])
    if not prior.shared_df:
        return prior.scale * identity
    df = prior.shared_df + G * prior.df
    return df * algebra.inverse(shared) + prior.scale * identity


def _divergence_of_precisions(
    prior: ConjugatePrior, algebra: Algebra, mixtures: Mixtures
) -> np.ndarray:
    """Return KL(q || p) of the precisions and of B: [S]."""
    scale, G = mixtures.inverse_scale, mixtures.inverse_scale.shape[1]
    df = algebra.beside(mixtures.df)
    p = algebra.size(scale)
    expected = algebra.widen(mixtures.df) * algebra.inverse(scale)
    log_det = algebra.block_log_det(scale)
    mean_log_det = expected_log_det(df, log_det, p)
    before = _prior_inverse_scale(prior, algebra, mixtures.shared, G)
    divergence = (
        0.5 * df * log_det
        - _log_constant(df, p)
        + _log_constant(prior.df, p)
        + 0.5 * (df - prior.df) * mean_log_det
        - 0.5 * (df * p - algebra.block_trace(before, expected))
    )
    if not prior.shared_df:
        log_det_before = p * np.log(prior.scale)
        return algebra.sum_blocks(divergence - 0.5 * prior.df * log_det_before)
    shared_df = prior.shared_df + G * prior.df
    shared_log_det = algebra.block_log_det(mixtures.shared)
    expected_shared = expected_log_det(shared_df, shared_log_det, p)
    of_shared = (
        0.5 * shared_df * shared_log_det
        - _log_constant(shared_df, p)
        - 0.5 * prior.shared_df * p * np.log(prior.shared_scale)
        + _log_constant(prior.shared_df, p)
        + 0.5 * (shared_df - prior.shared_df) * expected_shared
    )
    shared_mean = shared_df * algebra.inverse(mixtures.shared)
    of_shared = of_shared - 0.5 * (
        shared_df * p - prior.shared_scale * algebra.block_sum(shared_mean)
    )
    return algebra.sum_blocks(divergence - 0.5 * prior.df * expected_shared) + algebra.sum_blocks(
        of_shared
    )


def _log_constant(df: np.ndarray | float, p: int) -> np.ndarray:
    """Return the log normalising constant of a Wishart density, but for its scale matrix."""
    half = 0.5 * np.asarray(df)
    gammas = gammaln(half[..., None] - 0.5 * np.arange(p)).sum(axis=-1)
    constant: np.ndarray = half * p * _LOG_2 + 0.25 * p * (p - 1) * _LOG_PI + gammas
    return constant


@functools.lru_cache(maxsize=64)
def _pairs(D: int, form: str) -> tuple[np.ndarray, np.ndarray]:
    if form in MATRIX_FORMS:
        return np.triu_indices(D)
    return np.arange(D), np.arange(D)
