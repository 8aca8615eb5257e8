"""Short and long runs of variational EM, and which of their ends are distinct."""

from collections.abc import Callable

import numpy as np

from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.conjugate_em import (
    FeatureRows,
    Mixtures,
    bound,
    concatenate,
    expect,
    expect_without_own_row,
    maximise,
    take,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior

# Numbers in the responsibilities of the mixtures that are updated at a time: 32 MB in float64.
_NUMBERS_AT_A_TIME = 2**22
# Times its present rate at which a run may rise later: one at a saddle point hardly rises before it
# leaves it.
_FASTER = 30.0


def short_runs(
    rows: FeatureRows,
    prior: ConjugatePrior,
    K: int,
    shares: Callable[[int], np.ndarray],
    starts: int,
    iterations: int,
    plain_iterations: int,
    is_plain: np.ndarray,
) -> tuple[Mixtures, np.ndarray]:
    """Run EM briefly from several partitions; return the mixtures and their bounds [S].

    Parameters
    ----------
    shares : function of the number of a start
        Responsibilities [K, n].
    iterations : int
        Without the row's own share, where that is available and the start is not plain;
        `plain_iterations` of EM follow.
    is_plain : [S]
    """
    n, found = len(rows.values), []
    for chunk, plain in _chunks(starts, K * n, is_plain | (rows.form not in MATRIX_FORMS)):
        share = np.stack([shares(s) for s in chunk])
        mixtures = maximise(rows, prior, share)
        for _ in range(iterations):
            share = (
                expect(rows, mixtures)[0]
                if plain
                else expect_without_own_row(rows, prior, mixtures)
            )
            mixtures = maximise(rows, prior, share, mixtures)
        for _ in range(plain_iterations):
            mixtures = maximise(rows, prior, expect(rows, mixtures)[0], mixtures)
        found.append((chunk, mixtures, _bound(rows, prior, mixtures, expect(rows, mixtures)[1])))
    order = np.argsort(np.concatenate([chunk for chunk, _, _ in found]))
    mixtures = take(concatenate([part for _, part, _ in found]), order)
    return mixtures, np.concatenate([bounds for _, _, bounds in found])[order]


def _chunks(starts: int, numbers: int, is_plain: np.ndarray) -> list[tuple[np.ndarray, bool]]:
    """Return groups of starts that are run alike and fit into memory."""
    size = max(1, _NUMBERS_AT_A_TIME // numbers)
    chunks = []
    for plain in (False, True):
        group = np.flatnonzero(is_plain == plain)
        chunks += [(group[i : i + size], plain) for i in range(0, len(group), size)]
    return chunks


def converge(
    rows: FeatureRows,
    prior: ConjugatePrior,
    mixtures: Mixtures,
    least_change: float,
    most_iterations: int,
    needed: float = -np.inf,
) -> tuple[Mixtures, np.ndarray]:
    """Run EM until each bound rises by less than `least_change` nats in an iteration.

    Parameters
    ----------
    needed : bound below which an end is of no use. A run ends early that would not come there in
        the iterations left, even much faster than at its present rate.

    Returns
    -------
    Mixtures, and their bounds [S].
    """
    numbers = mixtures.counts.shape[1] * len(rows.values)
    ends = [
        _converge_together(
            rows, prior, take(mixtures, chunk), least_change, most_iterations, needed
        )
        for chunk, _ in _chunks(len(mixtures.counts), numbers, np.ones(len(mixtures.counts), bool))
    ]
    return concatenate([end for end, _ in ends]), np.concatenate([values for _, values in ends])


def _converge_together(
    rows: FeatureRows,
    prior: ConjugatePrior,
    mixtures: Mixtures,
    least_change: float,
    most_iterations: int,
    needed: float,
) -> tuple[Mixtures, np.ndarray]:
    """Run EM on several mixtures at once; one that has converged is left as it is."""
    running = np.arange(len(mixtures.counts))
    share, log_sums = expect(rows, mixtures)
    values = _bound(rows, prior, mixtures, log_sums)
    ended: list[tuple[np.ndarray, Mixtures]] = []
    for left in reversed(range(most_iterations)):
        mixtures = maximise(rows, prior, share, mixtures)
        share, log_sums = expect(rows, mixtures)
        before, values[running] = values[running], _bound(rows, prior, mixtures, log_sums)
        with np.errstate(invalid="ignore"):  # where both are -inf, and the run ends
            rise = values[running] - before
            most = values[running] + _FASTER * left * rise
        goes_on = (rise >= least_change) & (most >= needed)
        if not goes_on.all():
            ended.append((running[~goes_on], take(mixtures, ~goes_on)))
            running, mixtures, share = running[goes_on], take(mixtures, goes_on), share[goes_on]
        if not len(running):
            break
    ended.append((running, mixtures))
    order = np.argsort(np.concatenate([which for which, _ in ended]))
    return take(concatenate([part for _, part in ended]), order), values


def _bound(
    rows: FeatureRows, prior: ConjugatePrior, mixtures: Mixtures, log_sums: np.ndarray
) -> np.ndarray:
    """Return the bounds [S]; the worst, not NaN, where numbers have left the range."""
    found = bound(rows, prior, mixtures, log_sums)
    return np.where(np.isnan(found), -np.inf, found)


def distinct(
    bounds: np.ndarray,
    nats: float,
    counts: np.ndarray | None = None,
    moved: float = np.inf,
) -> list[np.ndarray]:
    """Return groups of equal runs, best group first, and in each the best first.

    Parameters
    ----------
    bounds : [S]. Equal runs differ by less than `nats`.
    counts : [S, K], expected rows of the components of each run, in any order; not compared if
        None. For those of equal runs to be the same, at most the fraction `moved` of all rows would
        have to be in other components.
    """
    sizes = np.sort(np.ones((len(bounds), 1)) if counts is None else counts, axis=1)
    total = sizes.sum(axis=1).max(initial=0.0)
    order = np.argsort(-bounds, kind="stable")
    groups: list[list[int]] = []
    for s in order:
        for group in reversed(groups):
            is_near = bounds[s] > bounds[group[0]] - nats
            if is_near and np.abs(sizes[group[0]] - sizes[s]).sum() / 2.0 <= moved * total:
                group.append(int(s))
                break
        else:
            groups.append([int(s)])
    return [np.array(group) for group in groups]
