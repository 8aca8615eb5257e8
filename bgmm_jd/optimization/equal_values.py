"""Starts in which a component has the rows with one value of a feature.

Coded and censored values put many rows onto one value. A component that is narrow there
has a high density, and no partition by distances begins with it.
"""

import itertools

import numpy as np

from bgmm_jd.optimization.partitions import kmeans_partition
from bgmm_jd.settings import StartSettings

_GAP = 1e-4  # sds of a column, below which neighbouring values are equal but for rounding
_NEIGHBOURS = 4  # values on either side with which a frequent one is compared


def frequent_values(
    columns: np.ndarray, weight: np.ndarray, settings: StartSettings
) -> list[np.ndarray]:
    """Return which rows have each of the most frequent values, the most frequent first: bool [n].

    Values that are far more frequent than their neighbours.

    Parameters
    ----------
    columns : [n, D], features that are shifted and scaled at the most.
    weight : [n]
    """
    found = []
    for column in columns.T:
        order = np.argsort(column, kind="stable")
        number = np.empty(len(column), int)
        number[order] = np.concatenate([[0], np.cumsum(np.diff(column[order]) > _GAP)])
        share = np.bincount(number, weight) / weight.sum()
        rows = np.bincount(number)
        is_frequent = (rows >= settings.fewest_equal) & (share >= settings.least_equal_share)
        is_frequent &= share > settings.excess_of_equal * _typical_of_neighbours(share)
        found += [(share[value], number == value) for value in np.flatnonzero(is_frequent)]
    found = [(share, member) for share, member in found if not member.all()]
    found.sort(key=lambda one: -one[0])
    return [member for _, member in found[: settings.most_equal_values]]


def _typical_of_neighbours(share: np.ndarray) -> np.ndarray:
    """Return the median share of the values next to each, itself included: [V].

    Where all values are whole numbers, for instance, none of them is more frequent than this by
    much.
    """
    padded = np.pad(share, _NEIGHBOURS, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * _NEIGHBOURS + 1)
    return np.nanmedian(windows, axis=1)


def partitions_at_values(
    values: np.ndarray,
    weight: np.ndarray,
    members: list[np.ndarray],
    K: int,
    rng: np.random.Generator,
    iterations: int,
) -> list[np.ndarray]:
    """Return labels [n] with the rows at one or two values in clusters of their own.

    The others are clustered by k-means.

    Parameters
    ----------
    values : [n, D], in the metric of k-means.
    members : of `frequent_values`.
    """
    chosen = [[one] for one in members] + [list(two) for two in itertools.combinations(members, 2)]
    found = []
    for sets in chosen:
        taken = np.any(sets, axis=0)
        left = K - len(sets)
        if left < 1 or taken.all():
            continue
        label = np.empty(len(values), int)
        for number, member in reversed(list(enumerate(sets))):
            label[member] = number
        rest = kmeans_partition(values[~taken], weight[~taken], left, rng, iterations)
        label[~taken] = len(sets) + rest
        found.append(label)
    return found
