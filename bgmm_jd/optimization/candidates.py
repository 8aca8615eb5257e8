"""Candidates for the best optimum, found by variational EM from many starts."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.model.covariance_forms import MATRIX_FORMS, CovarianceForm
from bgmm_jd.optimization.conjugate_em import (
    FeatureRows,
    Mixtures,
    concatenate,
    expect,
    feature_rows,
    take,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior, default_conjugate_prior
from bgmm_jd.optimization.em_runs import converge, distinct, short_runs
from bgmm_jd.optimization.partitions import (
    kmeans_partition,
    nearest_of_random_rows,
    ward_partition,
    within_metric,
)
from bgmm_jd.optimization.swaps import improve_by_swaps
from bgmm_jd.settings import StartSettings


class Optima(NamedTuple):
    """Local optima of the bound, best first.

    mixtures : S of them.
    bounds [S]
    starts [S] : number of starts that led to each.
    """

    mixtures: Mixtures
    bounds: np.ndarray
    starts: np.ndarray


def partitions(
    metrics: list[np.ndarray],
    weight: np.ndarray,
    K: int,
    rng: np.random.Generator,
    settings: StartSettings,
    has_ward: bool,
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return labels [n] of every start, and which starts are run without leave-one-out [S]."""
    n = len(weight)
    labels: list[np.ndarray] = []
    plain: list[bool] = []
    few = K <= settings.all_pairs_components
    for values in metrics:
        for number in range(settings.kmeans_starts if few else settings.kmeans_starts_of_many):
            labels.append(kmeans_partition(values, weight, K, rng, settings.kmeans_iterations))
            plain.append(number == 0)
        for _ in range(settings.random_row_starts if few else 0):
            labels.append(nearest_of_random_rows(values, weight, K, rng))
            plain.append(False)
    for _ in range(settings.random_partition_starts if few else 0):
        labels.append(rng.integers(K, size=n))
        plain.append(True)
    if has_ward:
        positive = np.flatnonzero(weight > 0)
        chosen = rng.permutation(positive)[: settings.ward_rows]
        if len(chosen) >= K:
            for values in metrics:
                labels.append(ward_partition(values, weight, K, chosen))
                plain.append(False)
            within = within_metric(metrics[0], weight, labels[-1])
            labels.append(ward_partition(within, weight, K, chosen))
            plain.append(False)
    return labels, np.array(plain)


def search(
    rows: FeatureRows,
    prior: ConjugatePrior,
    metrics: list[np.ndarray],
    K: int,
    rng: np.random.Generator,
    settings: StartSettings,
    has_ward: bool,
) -> Optima:
    """Return the optima that one set of starts leads to, the best of them improved by swaps."""
    labels, is_plain = partitions(metrics, rows.weight, K, rng, settings, has_ward)
    components = np.arange(K)[:, None]
    few = K <= settings.all_pairs_components
    runs, bounds = short_runs(
        rows,
        prior,
        lambda s: (labels[s] == components).astype(float),
        len(labels),
        settings,
        settings.short_iterations if few else settings.short_iterations_of_many,
        is_plain | (not few),
    )
    most = settings.runs_to_converge if few else settings.runs_to_converge_of_many
    groups = distinct(bounds, settings.same_short_run)[:most]
    mixtures, values = converge(rows, prior, take(runs, [g[0] for g in groups]), settings)
    counts = np.array([len(g) for g in groups])
    best = int(values.argmax())
    swapped, value = improve_by_swaps(rows, prior, take(mixtures, [best]), values[best], rng, settings)
    if value > values[best]:
        swapped, last = converge(rows, prior, swapped, settings)
        value = float(last[0])
        mixtures = concatenate([swapped, mixtures])
        values, counts = np.append(value, values), np.append(1, counts)
    return merged(mixtures, values, counts, settings)


def merged(
    mixtures: Mixtures, values: np.ndarray, counts: np.ndarray, settings: StartSettings
) -> Optima:
    """Return distinct optima, each with the starts of all that are equal to it."""
    groups = distinct(values, settings.same_optimum)
    first = [group[0] for group in groups]
    return Optima(
        take(mixtures, first), values[first], np.array([counts[g].sum() for g in groups])
    )
