"""Swap moves: delete one component and split another, where EM alone cannot move one across.

EM leaves a cluster that two components share, and one component on two clusters, for good; they are
repaired together (Ueda, Nakano, Ghahramani and Hinton 2000, *SMEM algorithm for mixture models*).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.clustering import kmeans_plus_plus, lloyd, squared_distances
from bgmm_jd.optimization.conjugate_em import (
    FeatureRows,
    Mixtures,
    bound,
    expect,
    log_shares,
    maximise,
    normalise,
    take,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior
from bgmm_jd.optimization.em_runs import converge, distinct, short_runs
from bgmm_jd.optimization.partitions import complete_rows_sample
from bgmm_jd.settings import StartSettings

_LEAST_SHARE = 1e-3  # of a row in the components of a swap: fewer do not change its rank
_LOCAL_ITERATIONS = 8  # of EM on the rows of one or two components, to rank a swap


class Swap(NamedTuple):
    """The components deleted, and those split in their place.

    Or, with the number of a frequent value, the one component that gets its rows instead.
    """

    deleted: tuple[int, ...]
    split: tuple[int, ...]
    value: int | None = None


class Parts(NamedTuple):
    """What swaps are made of.

    log_share [K, n] : logs of responsibilities, before they are normalised.
    half [K, n] : one half of the rows of each component.
    at_values : which rows [n] have each of some frequent values.
    """

    log_share: np.ndarray
    half: np.ndarray
    at_values: Sequence[np.ndarray]


def improve_by_swaps(
    rows: FeatureRows,
    prior: ConjugatePrior,
    mixture: Mixtures,
    value: float,
    rng: np.random.Generator,
    settings: StartSettings,
    at_values: Sequence[np.ndarray] = (),
) -> tuple[Mixtures, float]:
    """Swap components of one mixture until no swap raises the bound, or to the limit of rounds.

    Returns the mixture and its bound.

    Parameters
    ----------
    mixture : with S = 1.
    value : its bound.
    at_values : which rows [n] have each of some frequent values.
    """
    K = mixture.counts.shape[1]
    if K == 1:
        return mixture, value
    for _ in range(settings.stages(K).most_swap_rounds):
        log_share = log_shares(rows, mixture)[0]
        parts = Parts(log_share, _halves(rows, mixture, log_share, rng), at_values)
        if settings.stages(K).tries_every_swap:
            pairs = [Swap((j,), (k,)) for j in range(K) for k in range(K) if j != k]
            at = [Swap((j,), (), v) for j in range(K) for v in range(len(at_values))]
            trials = [pairs * max(1, settings.fewest_swaps // len(pairs)) + at]
        else:
            trials = _trials_of_many(rows, prior, log_share, parts.half, settings)
        for swaps in trials:
            found, values = _best_swaps(rows, prior, parts, swaps, value, settings)
            if values.max() > value + settings.swap_gain:
                break
        else:
            break
        best = int(values.argmax())
        mixture, value = take(found, np.array([best])), float(values[best])
    return mixture, value


def _best_swaps(
    rows: FeatureRows,
    prior: ConjugatePrior,
    parts: Parts,
    swaps: list[Swap],
    value: float,
    settings: StartSettings,
) -> tuple[Mixtures, np.ndarray]:
    """Return the ends of the best of some swaps, and their bounds, which should exceed a value."""
    K = len(parts.log_share)
    stages = settings.stages(K)
    # Iterations that leave the row out lead away from components at a value.
    is_plain = [not stages.leaves_row_out or swap.value is not None for swap in swaps]
    runs, values = short_runs(
        rows,
        prior,
        K,
        lambda s: _swapped(parts, swaps[s]),
        len(swaps),
        stages.swap_iterations,
        stages.plain_iterations,
        np.array(is_plain),
    )
    groups = distinct(values, settings.same_short_run)[: stages.swaps_to_converge]
    chosen = take(runs, np.array([group[0] for group in groups]))
    return converge(rows, prior, chosen, stages.swap_change, stages.most_swap_iterations, value)


def _trials_of_many(
    rows: FeatureRows,
    prior: ConjugatePrior,
    log_share: np.ndarray,
    half: np.ndarray,
    settings: StartSettings,
) -> list[list[Swap]]:
    """Return lists of swaps to try in turn: first several at once, then the best pairs alone.

    A pair is ranked by the gain of the split less the loss of the deletion, each estimated on its
    own rows.
    """
    K = len(log_share)
    share, log_sums = normalise(log_share[None])
    gain = np.array([_gain_of_split(rows, prior, share[0, k], half[k]) for k in range(K)])
    loss = _losses_of_deletion(rows, prior, log_share, share[0], log_sums[0])
    score = gain[None, :] - loss[:, None]
    ranked = [divmod(int(index), K) for index in np.argsort(-score, axis=None)]
    ranked = [(j, k) for j, k in ranked if j != k]
    together = _disjoint([pair for pair in ranked if score[pair] > 0.0])
    sizes = sorted({len(together), (len(together) + 1) // 2, min(3, len(together))})
    several = [
        Swap(tuple(j for j, _ in together[:size]), tuple(k for _, k in together[:size]))
        for size in sizes
        if size > 1
    ]
    alone = [Swap((j,), (k,)) for j, k in _varied(ranked, settings.most_swaps)]
    trials = [several + alone[:1] if several else [], alone[:4], alone[4:]]
    return [swaps for swaps in trials if swaps]


def _varied(ranked: list[tuple[int, int]], most: int) -> list[tuple[int, int]]:
    """Return the first pairs, of which no component is deleted or split in more than a quarter."""
    limit = max(1, most // 4)
    kept: list[tuple[int, int]] = []
    deleted: dict[int, int] = {}
    split: dict[int, int] = {}
    for j, k in ranked:
        if len(kept) < most and deleted.get(j, 0) < limit and split.get(k, 0) < limit:
            kept.append((j, k))
            deleted[j], split[k] = deleted.get(j, 0) + 1, split.get(k, 0) + 1
    return kept


def _swapped(parts: Parts, swap: Swap) -> np.ndarray:
    """Return responsibilities [K, n]: of the others, and of what is in place of the deleted."""
    log_share = parts.log_share.copy()
    log_share[list(swap.deleted)] = -np.inf
    share = normalise(log_share[None])[0][0]
    if swap.value is None:
        for j, k in zip(swap.deleted, swap.split, strict=True):
            share[j] = share[k] * parts.half[k]
            share[k] *= ~parts.half[k]
    else:
        is_there = parts.at_values[swap.value]
        share[:, is_there] = 0.0
        share[swap.deleted[0], is_there] = 1.0
    return share


def _halves(
    rows: FeatureRows, mixture: Mixtures, log_share: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Cut the rows in two within each component, in a random half of its directions: bool [K, n].

    By 2-means, in the metric of the component's own covariance. A random half, so that a
    repeated trial cuts otherwise.
    """
    K, D = mixture.mean.shape[1:]
    largest = log_share.argmax(axis=0)
    half = np.zeros(log_share.shape, bool)
    for k in range(K):
        centred = rows.values - mixture.mean[0, k]
        scale = mixture.inverse_scale[0, k % mixture.inverse_scale.shape[1]]
        if rows.form in MATRIX_FORMS:
            centred = np.linalg.solve(np.linalg.cholesky(scale), centred.T).T
        else:
            centred = centred / np.sqrt(scale)
        directions = np.linalg.qr(rng.normal(size=(D, (D + 1) // 2)))[0]
        projected = centred @ directions
        own = np.flatnonzero(largest == k)
        if len(own) < 2 or not rows.weight[own].sum() > 0:
            half[k] = projected[:, 0] > 0.0
            continue
        sample = complete_rows_sample(projected[own], rows.weight[own])
        centres = lloyd(sample, kmeans_plus_plus(sample, 2, rng), 10)
        everywhere = complete_rows_sample(projected, rows.weight)
        half[k] = squared_distances(everywhere, centres).argmin(axis=1) == 1
    return half


def _gain_of_split(
    rows: FeatureRows, prior: ConjugatePrior, share: np.ndarray, half: np.ndarray
) -> float:
    """Return the gain of two components in place of one, on the rows of that one."""
    one = share[None]
    return _bound_on_part(rows, prior, np.stack([share * half, share * ~half])) - _bound_on_part(
        rows, prior, one
    )


def _losses_of_deletion(
    rows: FeatureRows,
    prior: ConjugatePrior,
    log_share: np.ndarray,
    share: np.ndarray,
    log_sums: np.ndarray,
) -> np.ndarray:
    """Return the loss of leaving each component out: [K].

    The smaller of two estimates: that nothing else changes, and that it is merged with the
    component that takes most of its rows.
    """
    loss = np.empty(len(log_share))
    for j in range(len(log_share)):
        rest = log_share.copy()
        rest[j] = -np.inf
        others, sums = normalise(rest[None])
        unchanged = rows.weight @ (log_sums - sums[0])
        heir = int((others[0] @ (rows.weight * share[j])).argmax())
        pair = share[[j, heir]]
        merged = _bound_on_part(rows, prior, pair) - _bound_on_part(rows, prior, pair.sum(0)[None])
        loss[j] = min(unchanged, merged)
    return loss


def _bound_on_part(rows: FeatureRows, prior: ConjugatePrior, share: np.ndarray) -> float:
    """Return the bound of a mixture of some components on the rows they hold, after brief EM.

    Parameters
    ----------
    share : [k, n]
    """
    total = share.sum(axis=0)
    own = np.flatnonzero(total * rows.weight > _LEAST_SHARE)
    weight = total[own] * rows.weight[own]
    part = FeatureRows(rows.values[own], weight, rows.features[:, own], rows.form)
    local = (share[:, own] / total[own])[None]
    mixture = maximise(part, prior, local)
    for _ in range(_LOCAL_ITERATIONS if len(share) > 1 else 2):
        mixture = maximise(part, prior, expect(part, mixture)[0], mixture)
    return float(bound(part, prior, mixture, expect(part, mixture)[1])[0])


def _disjoint(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the first pairs that have no component in common."""
    used: set[int] = set()
    kept = []
    for pair in pairs:
        if not used & {*pair}:
            kept.append(pair)
            used |= {*pair}
    return kept
