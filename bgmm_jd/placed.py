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
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from bgmm_jd import quadratic, spread
from bgmm_jd.spare import Spare
from bgmm_jd.sticks import log_pieces, log_sticks_of
from bgmm_jd.surrogate import Parameters

_AT_ONCE = 2**22  # numbers in the largest array
_LEAST = math.log(1e-6)  # of what adds to a half or more


class Choice(NamedTuple):
    """Which draws [M] have which component [M] at a row."""

    draws: np.ndarray
    components: np.ndarray


def choose(spare: Spare, n: int, share: float, rng: np.random.Generator) -> Choice:
    """A share of n draws, with a spare component each."""
    draws = np.flatnonzero(rng.random(n) < share)
    expected = np.exp(_log_weights(spare, _log_expected(spare)))
    components = np.flatnonzero(spare.components)
    return Choice(draws, rng.choice(components, len(draws), p=expected / expected.sum()))


def break_sticks(spare: Spare, choice: Choice, n: int, rng: np.random.Generator) -> np.ndarray:
    """The `StickCoordinates` of n draws, each chosen component having one more row: [n, K - 1].

    logit v is the difference of the logs of two Gammas. That of a Gamma(a), which may be below all
    floats, is the log of a Gamma(a + 1) plus log(U) / a.
    """
    pairs = np.tile(spare.pairs, (n, 1, 1))
    k, j = choice.components[:, np.newaxis], np.arange(pairs.shape[1])
    pairs[choice.draws] += np.stack([k == j, k > j], axis=-1)
    logs = np.log(rng.standard_gamma(pairs + 1.0)) + np.log(rng.random(pairs.shape)) / pairs
    return logs[..., 0] - logs[..., 1]


def put(
    spare: Spare,
    choice: Choice,
    theta: spread.Arrays,
    form: str,
    means: Parameters,
    rng: np.random.Generator,
) -> np.ndarray:
    """Means [n, K, D], those of chosen components given that they hold one of the rows.

    From draws of the mean field and of the row's distance from its mean: m + G (x - m - e) has the
    law of the mean given x, with G = S (S + C)^-1.

    Parameters
    ----------
    means : loc and scale of the mean field's, [K, D].
    """
    found, at = theta["means"].copy(), tuple(choice)
    x = spare.rows[rng.choice(len(spare.rows), len(choice.draws), p=spare.chance)]
    covariance = spread.by_component(theta, form)[at]
    square = np.asarray(means["scale"], np.float64)[choice.components] ** 2
    e = spread.noise(spread.roots(theta, form)[at], rng.standard_normal(x.shape))
    apart = np.linalg.solve(_plus(covariance, square), (x - found[at] - e)[..., np.newaxis])
    found[at] += square * apart[..., 0]
    return found


def log_gain(
    spare: Spare, theta: spread.Arrays, form: str, means: Parameters, share: float
) -> np.ndarray:
    """Log of the density of all draws over that of the mean field (the head of this file): [n]."""
    sticks, _ = log_sticks_of(tf.constant(theta["weights"]))
    log_weights = _log_weights(spare, sticks.numpy())
    log_weights -= logsumexp(_log_weights(spare, _log_expected(spare)))
    n, _, D = theta["means"].shape
    size = max(1, _AT_ONCE // (len(spare.components) * D * D))
    parts = [slice(first, first + size) for first in range(0, n, size)]
    placed = np.empty(n)
    for part in parts:
        some = {name: v[part] for name, v in theta.items()}
        placed[part] = _log_placed(spare, some, log_weights[part], form, means)
    return np.logaddexp(np.log1p(-share), np.log(share) + placed)


def _log_placed(
    spare: Spare, theta: spread.Arrays, log_weights: np.ndarray, form: str, means: Parameters
) -> np.ndarray:
    """Log of the sum over k and x, of so few draws that all their covariances are at hand: [n]."""
    at = np.flatnonzero(spare.components)
    loc, scale = (np.asarray(means[name], np.float64)[at] for name in ("loc", "scale"))
    covariance = spread.by_component(theta, form)[:, at]
    wide = _plus(covariance, scale**2)
    # The ratio of the two densities is at most that of their heights, as far as the row is out.
    out = (((spare.rows[:, np.newaxis] - loc) / scale) ** 2).sum(axis=-1).max(axis=0)
    heights = np.linalg.slogdet(wide)[1] - np.linalg.slogdet(covariance)[1]
    counts = log_weights + 0.5 * (heights + out) > _LEAST
    log_rows = np.full(log_weights.shape, -np.inf)
    component = np.nonzero(counts)[1]
    narrow = _expanded(theta["means"][:, at][counts], covariance[counts])
    ratio = tf.nest.map_structure(tf.subtract, narrow, _expanded(loc[component], wide[counts]))
    log_rows[counts] = _log_mean_exp(ratio, spare)
    return logsumexp(log_weights + log_rows, axis=1)


def _expanded(means: np.ndarray, covariances: np.ndarray) -> quadratic.Expanded:
    """Normal densities [Q, ...] as so many draws of one component."""
    theta = {
        "weights": np.ones((len(means), 1)),
        "means": means[:, np.newaxis],
        "precisions": np.linalg.inv(covariances)[:, np.newaxis],
    }
    return quadratic.expanded(tf.nest.map_structure(tf.constant, theta), "full")


def _log_mean_exp(ratio: quadratic.Expanded, spare: Spare) -> np.ndarray:
    """log sum_x chance[x] exp(ratio at x) [Q], some at a time."""
    rows, log_chance = tf.constant(spare.rows), np.log(spare.chance)
    found = np.empty(len(ratio.constant))
    size = max(1, _AT_ONCE // len(spare.rows))
    for first in range(0, len(found), size):
        part = slice(first, first + size)
        some = tf.nest.map_structure(lambda v, part=part: v[part], ratio)
        exponents = quadratic.log_joint_label(some, rows, "full")[:, 0] + log_chance
        found[part] = tf.reduce_logsumexp(exponents, axis=1)
    return found


def _log_expected(spare: Spare) -> np.ndarray:
    """Logs of E v[k] and E[1 - v[k]]: [K - 1, 2]."""
    return np.log(spare.pairs / spare.pairs.sum(axis=-1, keepdims=True))


def _log_weights(spare: Spare, log_sticks: np.ndarray) -> np.ndarray:
    """Of the spare components, as far as their breaks are the mean field's: [..., spare]."""
    kept = np.where(spare.breaks[:, np.newaxis], log_sticks, 0.0)
    return log_pieces(tf.constant(kept)).numpy()[..., spare.components]


def _plus(covariance: np.ndarray, square: np.ndarray) -> np.ndarray:
    """[..., D, D] with more on the diagonal."""
    return covariance + square[..., np.newaxis] * np.eye(square.shape[-1])
