"""The log evidence: its estimate by importance weights, and a lower bound.

The evidence is the mean of joint / q_sym over draws of a proposal q whose density is averaged over
all labellings (see `relabelling`), and so it counts all of them. Where the surrogate is such a
proposal, the mean of log joint - log q_sym is a lower bound (Jensen's inequality):

    log evidence >= elbo + log K! - E_q log sum_p q(p theta) / q(theta),

over permutations p. With components far apart the last term is zero, and with equal ones log K!.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp, softmax

from bgmm_jd.calibration.empty_components import log_prob_by_component
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.variational.approximation import Draws, Problem
from bgmm_jd.variational.labels import labels_are_free
from bgmm_jd.variational.parameters import VariationalParameters

_BOUND_DRAWS = 100  # over which the last term is averaged: an error of 0.1 times its sd
_LEAST_OVERLAP = -30.0  # nats, below which two components cannot change places
_MOST_TOGETHER = 10  # components whose permutations are summed over exactly


class Evidence(NamedTuple):
    """The log evidence and its standard error, in nats; NaN where they are out of reach."""

    log: float
    se: float


OUT_OF_REACH = Evidence(math.nan, math.nan)
MOST_SE = 0.5  # nats, above which an estimate that is not by weights is no estimate


def evidence_of_weights(log_ratio: np.ndarray, khat: float) -> Evidence:
    """Return the log of the mean of weights, with its standard error; NaN if k-hat is above 0.7.

    The error is the larger of the one that the variance of the weights gives and the one that two
    halves of the draws show. Above a k-hat of 1/2 the variance is infinite, and the mean of S
    weights converges as S^(k - 1) instead of S^(-1/2): the error grows by the quotient.

    Parameters
    ----------
    log_ratio : [S], of independent draws.
    khat : of the weights.
    """
    S = len(log_ratio)
    if khat > KHAT_LIMIT:
        return OUT_OF_REACH
    halves = [logsumexp(half) - math.log(len(half)) for half in np.array_split(log_ratio, 2)]
    log_mean = logsumexp(log_ratio) - math.log(S)
    weights = np.exp(log_ratio - log_ratio.max())
    by_variance = math.sqrt(max((weights**2).sum() / weights.sum() ** 2 - 1.0 / S, 0.0))
    se = max(by_variance, abs(halves[0] - halves[1]) / 2.0)
    return Evidence(float(log_mean), float(se * S ** max(0.0, khat - 0.5)))


def evidence_of_groups(log_evidence: np.ndarray) -> Evidence:
    """Return the mean of independent estimates of the evidence [G], and its error by their spread.

    Out of reach where that is above 0.5 nats.
    """
    most = log_evidence.max()
    if not math.isfinite(most):
        return OUT_OF_REACH
    relative = np.exp(log_evidence - most)
    se = float(relative.std(ddof=1) / relative.mean() / len(relative) ** 0.5)
    return Evidence(float(most + np.log(relative.mean())), se) if se < MOST_SE else OUT_OF_REACH


def with_error_of_other(evidence: Evidence, other: Evidence) -> Evidence:
    """Return an evidence with the largest of both errors and half of what it differs by.

    Out of reach where one is, or where that is above 0.5 nats.
    """
    apart = abs(evidence.log - other.log) / 2.0
    se = float(np.max([evidence.se, other.se, apart]))  # NaN if one is
    return Evidence(evidence.log, se) if se < MOST_SE else OUT_OF_REACH


def sum_of_evidences(parts: Sequence[Evidence]) -> Evidence:
    """Return the evidence of the whole posterior from those of its parts."""
    logs = np.array([part.log for part in parts])
    shares = softmax(logs)
    se = math.hypot(*(share * part.se for share, part in zip(shares, parts, strict=True)))
    return Evidence(float(logsumexp(logs)), se)


def log_labellings_of_surrogate(
    problem: Problem, params: VariationalParameters, draws: Draws
) -> float:
    """Return what all labellings add to the elbo, in nats: see the head of this file.

    0 where the prior distinguishes the components, and where the surrogate's cannot be permuted.
    An upper bound of the sum over permutations, and so a lower one of what they add, is taken where
    more than ten components overlap.

    Parameters
    ----------
    draws : of the surrogate.
    """
    model = problem.standardized_model
    if model.K == 1 or not labels_are_free(problem.model):
        return 0.0
    theta = {name: v[:_BOUND_DRAWS] for name, v in draws.theta.items()}
    gains = _gains_of_places(problem, params, theta)
    added = [math.lgamma(model.K + 1) - _log_sum_of_permutations(one) for one in gains]
    return float(np.mean(added))


def _gains_of_places(problem: Problem, params: VariationalParameters, theta: dict) -> np.ndarray:
    """Return log q of component j in place k less that in its own place: [S, K, K]."""
    model = problem.standardized_model
    K, S = model.K, len(theta["weights"])
    places = np.arange(K)
    orders = (places + places[:, np.newaxis]) % K  # in which each component is once in each place
    concentration = np.asarray(params["weights"]["concentration"], np.float64)
    log_weights = np.log(np.maximum(theta["weights"].numpy().astype(np.float64), 1e-300))
    found = (concentration - 1.0) * log_weights[:, orders]
    for site in model.free_sites:
        if site.has_component_axis and site.name != "weights":
            moved = tf.gather(theta[site.name], orders, axis=1)
            together = tf.reshape(moved, (S * K, *moved.shape[2:]))
            found += log_prob_by_component(site, params, together).numpy().reshape(S, K, K)
    density = np.empty((S, K, K))
    density[:, places, orders] = found
    own = np.diagonal(density, axis1=1, axis2=2)
    return density - own[:, np.newaxis]


def _log_sum_of_permutations(gains: np.ndarray) -> float:
    """Return log sum over permutations p of exp(sum_k gains[k, p[k]]), a permanent: [K, K].

    Components that cannot change places are in different groups, and each group is summed over on
    its own. What is left out is below exp(-30) for each permutation.
    """
    most = np.maximum(gains.max(axis=1), 0.0).sum()  # that the other places of one may gain
    near = gains > _LEAST_OVERLAP - most
    count, group = connected_components(near, directed=True, connection="strong")
    total = 0.0
    for g in range(count):
        members = np.flatnonzero(group == g)
        block = gains[np.ix_(members, members)]
        total += log_permanent(block) if len(members) <= _MOST_TOGETHER else _above(block)
    return total


def _above(block: np.ndarray) -> float:
    """Return an upper bound of the log of a permanent.

    The smaller of the product of the sums of its rows, and of K! times that of their maxima.
    """
    by_maxima = math.lgamma(len(block) + 1) + float(block.max(axis=1).sum())
    return min(float(logsumexp(block, axis=1).sum()), by_maxima)


def log_permanent(gains: np.ndarray) -> float:
    """Return the log of the permanent of exp(gains), [K, K], in K 2^K steps.

    By the sums over all permutations of the first rows that use a given set of columns, which have
    no cancellation, unlike Ryser's formula.
    """
    K = len(gains)
    subsets = np.arange(2**K)
    size = (subsets[:, np.newaxis] >> np.arange(K) & 1).sum(axis=1)
    order = np.argsort(size, kind="stable")
    edges = np.searchsorted(size[order], np.arange(K + 2))
    value = np.full(2**K, -np.inf)
    value[0] = 0.0
    for row, (first, last) in enumerate(pairwise(edges[1:])):
        sets = order[first:last]
        for column in range(K):
            with_column = sets[(sets >> column & 1) == 1]
            before = value[with_column ^ (1 << column)] + gains[row, column]
            value[with_column] = np.logaddexp(value[with_column], before)
    return float(value[-1])
