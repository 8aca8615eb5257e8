"""Proposals in which an empty component is moved onto a row of the data.

Under the mean field an empty component rarely lies where it would explain one or two rows, although
such configurations may be almost as probable. They would be missing from the draws, or dominate the
importance weights. So in a fraction of the proposals an empty component k, chosen by its expected
weight, is moved onto a row x:

    q(w) w[k] / E w[k],      q(mean[k]) N(x; mean[k], C[k]) / N(x; loc[k], S[k] + C[k]),

with q the mean field, N(loc, S) that of the means, and C the covariances, which are drawn first.
The probability of x is largest where the other components explain a row poorly. Whichever k and x
were chosen, the density of all proposals is that of the mean field times

    1 - f + f sum_k w[k] sum_x p[x] N(x; mean[k], C[k]) / N(x; loc[k], S[k] + C[k]) / W

with f the fraction, p the probabilities of the rows, W = sum_k E w[k], and w[k] the factor of a
weight that is left to the mean field: see `empty_components`.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from bgmm_jd.backend.numerics import blocks
from bgmm_jd.distributions.bijectors import log_sticks_from_weights, log_weights_from_sticks
from bgmm_jd.model.covariances import diagonal_matrices, selected_precisions
from bgmm_jd.variational.approximation import EmptyComponents
from bgmm_jd.variational.family import Parameters

# Terms below this are dropped: the sum they belong to is at least 1 - f, 0.5 by default.
_LEAST_TERM = math.log(1e-6)


class Relocations(NamedTuple):
    """Which draws [M] have which component [M] on a row."""

    draws: np.ndarray
    components: np.ndarray


class MeanField(NamedTuple):
    """The mean field of the means, N(loc, S) with S^-1 = precision: float64 [K, D], [K, D, D].

    log_det [K] : log |S|.
    """

    loc: np.ndarray
    precision: np.ndarray
    log_det: np.ndarray


def mean_field_of_means(means: Parameters) -> MeanField:
    """Return the mean field of the means from the parameters of a normal family."""
    loc = np.asarray(means["loc"], np.float64)
    if "scale" in means:
        scale = np.asarray(means["scale"], np.float64)
        return MeanField(loc, diagonal_matrices(scale**-2), 2.0 * np.log(scale).sum(axis=-1))
    inverse = np.linalg.inv(np.asarray(means["scale_tril"], np.float64))
    diagonal = np.diagonal(inverse, axis1=-2, axis2=-1)
    return MeanField(loc, inverse.swapaxes(-1, -2) @ inverse, -2.0 * np.log(diagonal).sum(axis=-1))


def choose_relocations(
    empty: EmptyComponents, n: int, fraction: float, rng: np.random.Generator
) -> Relocations:
    """Choose a fraction of n draws, and an empty component in each of them."""
    draws = np.flatnonzero(rng.random(n) < fraction)
    expected = np.exp(_log_weights(empty, _log_expected_sticks(empty)))
    components = np.flatnonzero(empty.components)
    return Relocations(draws, rng.choice(components, len(draws), p=expected / expected.sum()))


def draw_stick_coordinates(
    empty: EmptyComponents, chosen: Relocations, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Draw the `StickCoordinates` of n draws [n, K - 1], each chosen component with one more row.

    logit v is the difference of the logs of two Gammas. The log of a Gamma(a), which may be below
    all floats, is the log of a Gamma(a + 1) plus log(U) / a.
    """
    beta = np.tile(empty.beta, (n, 1, 1))
    k, j = chosen.components[:, np.newaxis], np.arange(beta.shape[1])
    beta[chosen.draws] += np.stack([k == j, k > j], axis=-1)
    logs = np.log(rng.standard_gamma(beta + 1.0)) + np.log(rng.random(beta.shape)) / beta
    return logs[..., 0] - logs[..., 1]


def relocate_means(
    empty: EmptyComponents,
    chosen: Relocations,
    theta: Mapping[str, np.ndarray],
    form: str,
    means: MeanField,
    rng: np.random.Generator,
    budget: int,
) -> np.ndarray:
    """Return means [n, K, D], those of chosen components given that they hold one of the rows.

    Parameters
    ----------
    theta : draws by name [n, ...], float64.
    form : of the covariance.
    budget : numbers in the largest array.
    """
    found = theta["means"].copy()
    x = empty.rows[rng.choice(len(empty.rows), len(chosen.draws), p=empty.probability)]
    for part in blocks(len(x), x.shape[1] ** 2, budget):
        draws, components = (which[part] for which in chosen)
        precision = selected_precisions(theta, form, draws, components)
        z = rng.standard_normal(x[part].shape)
        found[draws, components] = _means_given_row(
            x[part], precision, means.loc[components], means.precision[components], z
        )
    return found


def _means_given_row(
    x: np.ndarray, precision: np.ndarray, loc: np.ndarray, prior: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Draw means given a row x each [Q, D]: N(A^-1 (S^-1 loc + P x), A^-1), A = S^-1 + P.

    Parameters
    ----------
    prior : S^-1 [Q, D, D], of the mean field.
    """
    A = precision + prior
    # A draw out of the dtype's range has no density, and gets no weight wherever it is moved.
    A[~np.isfinite(A).all(axis=(1, 2))] = np.eye(x.shape[1])
    values, vectors = np.linalg.eigh(A)
    # At least those of S^-1, apart from the rounding errors of a narrow component.
    values = np.maximum(values, np.linalg.eigvalsh(prior)[:, :1])
    root = vectors / np.sqrt(values)[:, np.newaxis]
    linear = _times(prior, loc) + _times(precision, x)
    return _times(root, _times(root.swapaxes(1, 2), linear) + z)


def log_density_ratio(
    empty: EmptyComponents,
    theta: Mapping[str, np.ndarray],
    form: str,
    means: MeanField,
    fraction: float,
    budget: int,
) -> np.ndarray:
    """Return log(density of the proposals / density of the mean field) [n]: see the file's head.

    Parameters
    ----------
    theta : draws by name [n, ...], float64.
    form : of the covariance.
    fraction : of proposals with a relocation.
    budget : numbers in the largest array.
    """
    sticks, _ = log_sticks_from_weights(tf.constant(theta["weights"]))
    log_weights = _log_weights(empty, sticks.numpy())
    log_weights -= logsumexp(_log_weights(empty, _log_expected_sticks(empty)))
    log_rows = _log_row_ratios(empty, theta, form, means, log_weights, budget)
    relocated = logsumexp(log_weights + log_rows, axis=1)
    return np.logaddexp(np.log1p(-fraction), np.log(fraction) + relocated)


def _log_row_ratios(
    empty: EmptyComponents,
    theta: Mapping[str, np.ndarray],
    form: str,
    means: MeanField,
    log_weights: np.ndarray,
    budget: int,
) -> np.ndarray:
    """Return log sum_x p[x] N(x; mean[k], C[k]) / N(x; loc[k], S[k] + C[k]): [n, empty].

    Minus infinity where the term is too small to matter.
    """
    D = means.loc.shape[1]
    statistics, log_probability = _row_statistics(empty.rows), np.log(empty.probability)
    labels = np.flatnonzero(empty.components)
    farthest = _farthest_candidate(empty, means)
    draws, which = np.nonzero(np.isfinite(log_weights))
    log_rows = np.full(log_weights.shape, -np.inf)
    for part in blocks(len(draws), max(D**2, len(statistics)), budget):
        n, j, k = draws[part], which[part], labels[which[part]]
        precision = selected_precisions(theta, form, n, k)
        A = precision + means.precision[k]
        height = 0.5 * (np.linalg.slogdet(A)[1] + means.log_det[k])
        matters = log_weights[n, j] + height + 0.5 * farthest[k] > _LEAST_TERM
        n, j, k = n[matters], j[matters], k[matters]
        ratio = _ratio_coefficients(
            precision[matters], A[matters], theta["means"][n, k], means.loc[k], means.precision[k]
        )
        ratio[:, -1] += height[matters]
        exponents = tf.matmul(ratio, statistics, transpose_b=True) + log_probability
        log_rows[n, j] = tf.reduce_logsumexp(exponents, axis=1)
    return log_rows


def _farthest_candidate(empty: EmptyComponents, means: MeanField) -> np.ndarray:
    """Return the largest squared Mahalanobis distance of any candidate row: [K].

    The ratio of the two densities is at most that of their heights times exp(distance / 2).
    """
    residual = empty.rows[:, np.newaxis] - means.loc
    return np.einsum("mkd,kde,mke->mk", residual, means.precision, residual).max(axis=0)


def _ratio_coefficients(
    precision: np.ndarray, A: np.ndarray, mean: np.ndarray, loc: np.ndarray, prior: np.ndarray
) -> np.ndarray:
    """Return the coefficients [Q, ...] of log N(x; mean, C) - log N(x; loc, S + C).

    They multiply the statistics of x; the heights of the densities are left out. The precision of
    S + C is S^-1 - S^-1 A^-1 S^-1, with `prior` for S^-1.
    """
    wide = prior - prior @ np.linalg.inv(A) @ prior
    near, far = _times(precision, mean), _times(wide, loc)
    constant = (mean * near).sum(axis=1) - (loc * far).sum(axis=1)
    flat = (precision - wide).reshape(len(mean), -1)
    return np.concatenate([-0.5 * flat, near - far, -0.5 * constant[:, np.newaxis]], axis=1)


def _row_statistics(rows: np.ndarray) -> np.ndarray:
    """Return products of features, features and 1: [M, D^2 + D + 1]."""
    products = (rows[:, :, np.newaxis] * rows[:, np.newaxis]).reshape(len(rows), -1)
    return np.concatenate([products, rows, np.ones((len(rows), 1))], axis=1)


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., np.newaxis])[..., 0]


def _log_expected_sticks(empty: EmptyComponents) -> np.ndarray:
    """Return the logs of E v[k] and E[1 - v[k]]: [K - 1, 2]."""
    return np.log(empty.beta / empty.beta.sum(axis=-1, keepdims=True))


def _log_weights(empty: EmptyComponents, log_sticks: np.ndarray) -> np.ndarray:
    """Return the factors of the empty components' log weights that are left to the mean field.

    [..., number of empty components]
    """
    kept = np.where(empty.breaks[:, np.newaxis], log_sticks, 0.0)
    return log_weights_from_sticks(tf.constant(kept)).numpy()[..., empty.components]
