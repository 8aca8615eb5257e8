"""The labels of the components in a proposal: its density averaged over all of them.

Where the prior does not distinguish the components, the posterior has the same density under all
K! labellings. A proposal q that covers one of them has, averaged over all, the density

    q_sym(x) = sum over permutations p of q(x with its components permuted by p) / K!,

and joint / q_sym is an importance weight for the whole posterior: its mean is the evidence, with
all labellings counted. In log ratios of the weights a permutation is a linear map of determinant
1 or -1, which is applied to the members of the mixture instead of the draws.

Only permutations that matter are computed: for each draw, those under which no component's block
of coordinates is so far from the marginal distribution of its place that the term is negligible.
The distance of a block is a lower bound of that of the whole point.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from bgmm_jd.sampling.sliced_products import squared_lengths
from bgmm_jd.sampling.student_mixture import (
    Whitening,
    log_terms,
    squared_distances,
    whitening,
)
from bgmm_jd.variational.approximation import Centre, Problem, StudentMixture
from bgmm_jd.variational.coordinates import CoordinateLayout, coordinate_layout
from bgmm_jd.variational.labels import is_exchangeable

_LEAST_DRAWS = 256  # as many as one permutation costs at least
_NEGLIGIBLE = 9.0  # nats below the density, of all permutations together that are left out


class TooManyLabellings(Exception):
    """The permutations that matter are too many to be summed over."""


class Labels(NamedTuple):
    """How permutations of the components act on the coordinates.

    layout : of the coordinates, with log ratios of the weights.
    is_free : whether the components may be permuted.
    budget : numbers that the densities of one call may take.
    """

    layout: CoordinateLayout
    is_free: bool
    budget: int

    @property
    def K(self) -> int:
        """Return the number of components."""
        return len(self.layout.own)

    @property
    def log_count(self) -> float:
        """Return the log of the number of labellings that are alike."""
        return math.lgamma(self.K + 1) if self.is_free else 0.0

    def matrix(self, order: Sequence[int]) -> np.ndarray:
        """Return the matrix [P, P] that puts component `order[k]` into place k."""
        layout, order = self.layout, list(order)
        found = np.eye(layout.size)
        own = np.concatenate([layout.own.ravel(), layout.weights])
        found[own] = 0.0
        found[layout.own, layout.own[order]] = 1.0
        if len(layout.weights):
            # The log ratios y[k] = z[order[k]] - z[order[K]], where z has a last entry of zero.
            z = np.concatenate([np.eye(self.K - 1), np.zeros((1, self.K - 1))])
            found[np.ix_(layout.weights, layout.weights)] = z[order[:-1]] - z[order[-1]]
        return found


def labels_of(problem: Problem) -> Labels:
    """Return how permutations act on the coordinates of a problem."""
    layout = coordinate_layout(problem.standardized_model, log_ratios=True)
    return Labels(layout, is_exchangeable(problem.model), problem.settings.memory.labellings)


def symmetrised_log_density(
    mixture: StudentMixture, points: np.ndarray, labels: Labels
) -> np.ndarray:
    """Return the log density of points [S, P], averaged over the labellings: [S].

    Raises
    ------
    TooManyLabellings
        If more permutations matter than the budget allows.
    """
    maps = whitening(mixture)
    same = logsumexp(log_terms(maps, squared_distances(maps, points), mixture.df), axis=1)
    if not labels.is_free or labels.K == 1:
        return same
    allowed = _allowed_places(mixture, maps, points, same, labels)
    others, identity = np.zeros(len(points)), tuple(range(labels.K))
    narrow, left = _InSinglePrecision.of(maps, points, mixture.df), labels.budget
    for order, draws in _orders(allowed, np.arange(len(points)), ()):
        if order == identity:
            continue
        left -= max(len(draws), _LEAST_DRAWS) * maps.inverse.size
        if left < 0:
            raise TooManyLabellings
        others[draws] += narrow.relative_density(labels.matrix(order), draws, same)
    return same + np.log1p(others) - labels.log_count


class _InSinglePrecision(NamedTuple):
    """A mixture and points [S, P] in float32, which is twice as fast.

    The terms of other labellings need no more: a relative error of theirs is at most as large in
    the density.
    """

    maps: Whitening
    points: np.ndarray
    df: float

    @classmethod
    def of(cls, maps: Whitening, points: np.ndarray, df: float) -> "_InSinglePrecision":
        return cls(maps, points.astype(np.float32), df)

    def relative_density(
        self, matrix: np.ndarray, draws: np.ndarray, log_density: np.ndarray
    ) -> np.ndarray:
        """Return the density of draws moved by a matrix [P, P] over their own density."""
        maps = self.maps._replace(inverse=self.maps.inverse @ matrix)
        terms = log_terms(maps, squared_distances(maps, self.points[draws]), self.df)
        return np.exp(terms - log_density[draws, np.newaxis]).sum(axis=1)


def _allowed_places(
    mixture: StudentMixture,
    maps: Whitening,
    points: np.ndarray,
    log_density: np.ndarray,
    labels: Labels,
) -> np.ndarray:
    """Return whether the component at place j of a draw may be put into place k: [S, K, K].

    Parameters
    ----------
    log_density : of the draws as they are labelled [S].
    """
    P, df = points.shape[1], mixture.df
    negligible = log_density - labels.log_count - _NEGLIGIBLE
    margin = np.maximum(logsumexp(maps.log_constant) - negligible, 0.0)
    with np.errstate(over="ignore"):
        reach = df * np.expm1(2.0 * margin / (df + P))
    own, K, M = labels.layout.own, labels.K, len(mixture.means)
    Q = own.shape[1]
    scale = mixture.factors @ mixture.factors.swapaxes(1, 2)
    factors = np.linalg.cholesky(scale[:, own[:, :, np.newaxis], own[:, np.newaxis, :]])
    inverse = np.linalg.inv(factors)  # [M, K, Q, Q], of each member's marginal at each place
    offset = (inverse @ mixture.means[:, own][..., np.newaxis])[..., 0]
    blocks = points[:, own].reshape(-1, Q)
    distance = squared_lengths(blocks, inverse.reshape(-1, Q, Q), offset.reshape(-1, Q))
    distance = distance.reshape(len(points), K, M, K)
    is_near = distance <= reach[:, np.newaxis, np.newaxis, np.newaxis]
    return is_near.any(axis=2).swapaxes(1, 2)


def _orders(
    allowed: np.ndarray, draws: np.ndarray, begun: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield each permutation that matters, with the draws for which it does.

    A search through all beginnings of a permutation that some draw allows.
    """
    k = len(begun)
    if k == allowed.shape[1]:
        yield begun, draws
        return
    for j in range(allowed.shape[1]):
        if j not in begun:
            left = draws[allowed[draws, k, j]]
            if len(left):
                yield from _orders(allowed, left, (*begun, j))


def centre_of(points: np.ndarray) -> Centre:
    """Return the centre of draws [S, P]."""
    return Centre(points.mean(axis=0), points.std(axis=0))


def align(points: np.ndarray, centre: Centre, labels: Labels) -> np.ndarray:
    """Return points [S, P] with their components in the order that is nearest to a centre.

    By least total squared distance of the components' own coordinates.
    """
    if not labels.is_free or labels.K == 1:
        return points
    aligned, matrices = points.copy(), {}
    for s, cost in enumerate(_costs(points, centre, labels)):
        order = tuple(int(j) for j in linear_sum_assignment(cost)[1])
        if order not in matrices:
            matrices[order] = labels.matrix(order)
        aligned[s] = matrices[order] @ points[s]
    return aligned


def align_together(points: np.ndarray, centre: Centre, labels: Labels) -> np.ndarray:
    """Return points [S, P] of one labelling with their components in another order, all the same.

    That in which their mean is nearest to a centre.
    """
    if not labels.is_free or labels.K == 1:
        return points
    cost = _costs(points.mean(axis=0)[np.newaxis], centre, labels)[0]
    order = [int(j) for j in linear_sum_assignment(cost)[1]]
    return points @ labels.matrix(order).T


def distance_from(points: np.ndarray, centre: Centre, labels: Labels) -> np.ndarray:
    """Return the squared distance of points [S, P] from a centre under their nearest labelling.

    In sds of the centre. The weights of the components, and variables that are not theirs, are
    left out.
    """
    shared = labels.layout.shared
    apart = (((points - centre.mean) / centre.sd)[:, shared] ** 2).sum(axis=1)
    costs = _costs(points, centre, labels)
    if not labels.is_free:
        return apart + np.trace(costs, axis1=1, axis2=2)
    return apart + np.array([cost[linear_sum_assignment(cost)].sum() for cost in costs])


def _costs(points: np.ndarray, centre: Centre, labels: Labels) -> np.ndarray:
    """Return the squared distance of each component of each draw from each place: [S, K, K]."""
    own = labels.layout.own
    # The sds of a narrow component do not make all others look equally far away.
    sd = np.hypot(centre.sd[own], 0.1 * centre.mean[own].std(axis=0))
    apart = (points[:, np.newaxis, own] - centre.mean[own][:, np.newaxis]) / sd[:, np.newaxis]
    return (apart**2).sum(axis=-1)
