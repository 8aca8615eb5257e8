"""Proposals in which a component that holds no rows is put at one of them.

The mean field shows a spare component anywhere, with next to no weight: seldom where it would take
a row or two, although that may be nearly as probable. Such draws are then missing, or a few of them
have all the weight. So some proposals see a component k, chosen by its expected weight, at a row x:

    q(w) w[k] / E w[k],      q(mean[k]) N(x; mean[k], C[k]) / N(x; loc[k], S[k] + C[k]),

q the mean field, N(loc, S) that of the means, and C the covariances, which are drawn first. Chances
of x are largest where the other components leave a row nearly alone. Whichever k and x were chosen,
the density of all proposals is that of the mean field times

    1 - share + share sum_k w[k] sum_x chance[x] N(x; mean[k], C[k]) / N(x; loc[k], S[k] + C[k]) / W

with W = sum_k E w[k], and w[k] the factor of a weight that is left to the mean field: see `spare`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from bgmm_jd.distributions.bijectors import log_sticks_from_weights, log_weights_from_sticks
from bgmm_jd.model.covariances import Arrays, diagonal_matrices, selected_precisions
from bgmm_jd.variational.approximation import EmptyComponents
from bgmm_jd.variational.surrogate import Parameters

_AT_ONCE = 2**22  # numbers in the largest array
_LEAST = math.log(1e-6)  # of what adds to a half or more


class Relocations(NamedTuple):
    """Which draws [M] have which component [M] at a row."""

    draws: np.ndarray
    components: np.ndarray


def choose_relocations(
    spare: EmptyComponents, n: int, share: float, rng: np.random.Generator
) -> Relocations:
    """A share of n draws, with a spare component each."""
    draws = np.flatnonzero(rng.random(n) < share)
    expected = np.exp(_log_weights(spare, _log_expected(spare)))
    components = np.flatnonzero(spare.components)
    return Relocations(draws, rng.choice(components, len(draws), p=expected / expected.sum()))


def draw_stick_coordinates(
    spare: EmptyComponents, choice: Relocations, n: int, rng: np.random.Generator
) -> np.ndarray:
    """The `StickCoordinates` of n draws, each chosen component having one more row: [n, K - 1].

    logit v is the difference of the logs of two Gammas. That of a Gamma(a), which may be below all
    floats, is the log of a Gamma(a + 1) plus log(U) / a.
    """
    pairs = np.tile(spare.pairs, (n, 1, 1))
    k, j = choice.components[:, np.newaxis], np.arange(pairs.shape[1])
    pairs[choice.draws] += np.stack([k == j, k > j], axis=-1)
    logs = np.log(rng.standard_gamma(pairs + 1.0)) + np.log(rng.random(pairs.shape)) / pairs
    return logs[..., 0] - logs[..., 1]


def relocate_means(
    spare: EmptyComponents,
    choice: Relocations,
    theta: Arrays,
    form: str,
    means: Parameters,
    rng: np.random.Generator,
) -> np.ndarray:
    """Means [n, K, D], those of chosen components given that they hold one of the rows.

    Parameters
    ----------
    means : loc and scale of the mean field's, [K, D].
    """
    found = theta["means"].copy()
    loc, square = _moments(means)
    x = spare.rows[rng.choice(len(spare.rows), len(choice.draws), p=spare.chance)]
    for part in _parts(len(x), x.shape[1] ** 2):
        draws, components = (which[part] for which in choice)
        precision = selected_precisions(theta, form, draws, components)
        z = rng.standard_normal(x[part].shape)
        found[draws, components] = _given(
            x[part], precision, loc[components], square[components], z
        )
    return found


def _given(
    x: np.ndarray, precision: np.ndarray, loc: np.ndarray, square: np.ndarray, z: np.ndarray
) -> np.ndarray:
    """Draws of means given a row x each [Q, D]: N(A^-1 (loc / S + P x), A^-1), A = 1 / S + P."""
    A = precision + diagonal_matrices(1.0 / square)
    # A draw out of the dtype's range has no density, and gets no weight wherever it is put.
    A[~np.isfinite(A).all(axis=(1, 2))] = np.eye(x.shape[1])
    values, vectors = np.linalg.eigh(A)
    # At least 1 / S, but for the roundings of a narrow component.
    values = np.maximum(values, (1.0 / square).min(axis=1, keepdims=True))
    root = vectors / np.sqrt(values)[:, np.newaxis]
    pull = loc / square + _times(precision, x)
    return _times(root, _times(root.swapaxes(1, 2), pull) + z)


def log_density_ratio(
    spare: EmptyComponents, theta: Arrays, form: str, means: Parameters, share: float
) -> np.ndarray:
    """Log of the density of all draws over that of the mean field (the head of this file): [n]."""
    sticks, _ = log_sticks_from_weights(tf.constant(theta["weights"]))
    log_weights = _log_weights(spare, sticks.numpy())
    log_weights -= logsumexp(_log_weights(spare, _log_expected(spare)))
    loc, square = _moments(means)
    columns, log_chance = _columns(spare.rows), np.log(spare.chance)
    # How far out a row is, at most, in sds squared: the ratio of the two densities is at most that
    # of their heights times exp(out / 2).
    out = ((spare.rows[:, np.newaxis] - loc) ** 2 / square).sum(axis=-1).max(axis=0)
    at = np.flatnonzero(spare.components)
    draws, which = np.nonzero(np.isfinite(log_weights))
    log_rows = np.full(log_weights.shape, -np.inf)
    for part in _parts(len(draws), max(loc.shape[1] ** 2, len(columns))):
        n, j, k = draws[part], which[part], at[which[part]]
        precision = selected_precisions(theta, form, n, k)
        A = precision + diagonal_matrices(1.0 / square[k])
        height = 0.5 * (np.linalg.slogdet(A)[1] + np.log(square[k]).sum(axis=1))
        counts = log_weights[n, j] + height + 0.5 * out[k] > _LEAST
        n, j, k, A, precision = (v[counts] for v in (n, j, k, A, precision))
        ratio = _coefficients(precision, A, theta["means"][n, k], loc[k], square[k])
        ratio[:, -1] += height[counts]
        exponents = tf.matmul(ratio, columns, transpose_b=True) + log_chance
        log_rows[n, j] = tf.reduce_logsumexp(exponents, axis=1)
    return np.logaddexp(np.log1p(-share), np.log(share) + logsumexp(log_weights + log_rows, axis=1))


def _coefficients(
    precision: np.ndarray, A: np.ndarray, mean: np.ndarray, loc: np.ndarray, square: np.ndarray
) -> np.ndarray:
    """Of the columns in log N(x; mean, C) - log N(x; loc, S + C), but for their heights: [Q, ...].

    The precision of S + C is 1 / S - 1 / S A^-1 1 / S.
    """
    S = square[:, :, np.newaxis]
    wide = diagonal_matrices(1.0 / square) - np.linalg.inv(A) / (S * S.swapaxes(1, 2))
    near, far = _times(precision, mean), _times(wide, loc)
    constant = (mean * near).sum(axis=1) - (loc * far).sum(axis=1)
    flat = (precision - wide).reshape(len(mean), -1)
    return np.concatenate([-0.5 * flat, near - far, -0.5 * constant[:, np.newaxis]], axis=1)


def _columns(rows: np.ndarray) -> np.ndarray:
    """Products of features, features and 1: [M, D^2 + D + 1]."""
    products = (rows[:, :, np.newaxis] * rows[:, np.newaxis]).reshape(len(rows), -1)
    return np.concatenate([products, rows, np.ones((len(rows), 1))], axis=1)


def _moments(means: Parameters) -> tuple[np.ndarray, np.ndarray]:
    """loc and the squares of the scales S, each [K, D]."""
    loc, scale = (np.asarray(means[name], np.float64) for name in ("loc", "scale"))
    return loc, scale**2


def _parts(count: int, numbers: int) -> Iterator[slice]:
    """Slices of so many things of so many numbers, each of which fits."""
    size = max(1, _AT_ONCE // numbers)
    return (slice(first, first + size) for first in range(0, count, size))


def _times(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return (matrices @ vectors[..., np.newaxis])[..., 0]


def _log_expected(spare: EmptyComponents) -> np.ndarray:
    """Logs of E v[k] and E[1 - v[k]]: [K - 1, 2]."""
    return np.log(spare.pairs / spare.pairs.sum(axis=-1, keepdims=True))


def _log_weights(spare: EmptyComponents, log_sticks: np.ndarray) -> np.ndarray:
    """Of the spare components, as far as their breaks are the mean field's: [..., spare]."""
    kept = np.where(spare.breaks[:, np.newaxis], log_sticks, 0.0)
    return log_weights_from_sticks(tf.constant(kept)).numpy()[..., spare.components]
