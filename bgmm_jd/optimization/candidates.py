"""Candidates for the best optimum, found by variational EM from many starts."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.data.rows import Rows
from bgmm_jd.model.covariance_forms import MATRIX_FORMS
from bgmm_jd.optimization.clustering import Clusters
from bgmm_jd.optimization.complete_sample import (
    LinearUnits,
    complete_sample,
    units_and_metrics,
)
from bgmm_jd.optimization.conjugate_em import (
    FeatureRows,
    Mixtures,
    concatenate,
    feature_rows,
    take,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior
from bgmm_jd.optimization.em_runs import converge, distinct, short_runs
from bgmm_jd.optimization.equal_values import frequent_values, partitions_at_values
from bgmm_jd.optimization.partitions import (
    kmeans_partition,
    nearest_of_random_rows,
    ward_partition,
    within_metric,
)
from bgmm_jd.optimization.swaps import improve_by_swaps
from bgmm_jd.settings import StartSettings


class Candidate(NamedTuple):
    """A local optimum to start from, in standardised units.

    clusters : soft clusters; counts add up to the weight of all rows, and covariances are the
        inverses of the expected precisions.
    bound : of variational EM, in nats, on the rows that it read.
    starts : number of starts that led to it.
    """

    clusters: Clusters
    bound: float
    starts: int


class Found(NamedTuple):
    """The result of `find_starts`.

    candidates : distinct optima, best first.
    searches : number of sets of starts that were tried.
    """

    candidates: tuple[Candidate, ...]
    searches: int


class Optima(NamedTuple):
    """Local optima of the bound, best first.

    mixtures : S of them.
    bounds [S]
    starts [S] : number of starts that led to each.
    """

    mixtures: Mixtures
    bounds: np.ndarray
    starts: np.ndarray


def find_starts(
    rows: Rows,
    K: int,
    form: str,
    *,
    seed: int,
    settings: StartSettings,
    restarts: int,
    prior: ConjugatePrior,
    columns: np.ndarray | None = None,
) -> Found:
    """Return the best distinct optima that variational EM reaches from many starts.

    Searches are repeated until several of them, or many starts, have ended at the same best
    optimum, or to a limit.

    Parameters
    ----------
    rows : Rows
        N of them, as arrays in standardised units.
    K : int
    form : {"diag", "full", "tied", "spherical"}
    seed : int
        Equal seeds give equal results.
    settings : StartSettings
    restarts : int
        Largest number of candidates.
    prior : ConjugatePrior
    columns : [D, D], optional
        The matrix from standardised rows to the other metric, of columns that are merely scaled.
        With it the rows are taken as they are; without it, rows of a matrix form are whitened here,
        for these starts only.

    Returns
    -------
    Found
    """
    rng = np.random.default_rng(seed)
    sample = complete_sample(rows, settings.rows_to_read(K, rows.values.shape[1]), rng)
    units, metrics = units_and_metrics(sample, form, columns)
    at_values = frequent_values(metrics[-1 if form in MATRIX_FORMS else 0], sample.weight, settings)
    whole = feature_rows(metrics[0], sample.weight, form)
    found: list[Optima] = []
    most = settings.stages(K).most_searches if K > 1 else 1
    while len(found) < most and not _have_agreed(found, settings, K):
        found.append(search(whole, prior, metrics, at_values, K, rng, settings, has_ward=not found))
    optima = merged(
        concatenate([part.mixtures for part in found]),
        np.concatenate([part.bounds for part in found]),
        np.concatenate([part.starts for part in found]),
        settings,
    )
    close = np.flatnonzero(optima.bounds >= optima.bounds[0] - settings.candidate_nats)[:restarts]
    scale = sample.total / sample.weight.sum()
    return Found(
        tuple(
            Candidate(
                _as_clusters(take(optima.mixtures, np.array([s])), form, units, scale),
                float(optima.bounds[s]),
                int(optima.starts[s]),
            )
            for s in close
        ),
        len(found),
    )


def _have_agreed(found: list[Optima], settings: StartSettings, K: int) -> bool:
    """Return whether enough searches, or enough of their starts, have ended at the best optimum."""
    best = max((optima.bounds[0] for optima in found), default=-np.inf)
    there = [optima for optima in found if optima.bounds[0] > best - settings.same_optimum]
    stages, starts = settings.stages(K), sum(int(optima.starts[0]) for optima in there)
    return len(there) >= stages.agreeing_searches or starts >= stages.agreeing_starts


def _as_clusters(mixture: Mixtures, form: str, units: LinearUnits, scale: float) -> Clusters:
    """Return the components of one mixture in the order of their means' first entries."""
    count, mean = mixture.counts[0] * scale, mixture.mean[0]
    K, D = mean.shape
    df = mixture.df[0]
    if form in MATRIX_FORMS:
        covariance = mixture.inverse_scale[0] / df[:, None, None]
        covariance = np.broadcast_to(covariance, (K, D, D))
    else:
        covariance = (mixture.inverse_scale[0] / df[:, None])[..., None] * np.eye(D)
    mean = units.shift + mean @ units.factor
    covariance = units.factor.T @ covariance @ units.factor
    order = np.lexsort(mean.T[::-1])
    return Clusters(count[order], mean[order], covariance[order])


def partitions(
    metrics: list[np.ndarray],
    at_values: list[np.ndarray],
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
    stages = settings.stages(K)
    for values in metrics:
        for number in range(stages.kmeans_starts):
            labels.append(kmeans_partition(values, weight, K, rng, settings.kmeans_iterations))
            plain.append(number == 0)
        for _ in range(stages.random_row_starts):
            labels.append(nearest_of_random_rows(values, weight, K, rng))
            plain.append(False)
    for _ in range(stages.random_partition_starts):
        labels.append(rng.integers(K, size=n))
        plain.append(True)
    for values in metrics:
        at = partitions_at_values(values, weight, at_values, K, rng, settings.kmeans_iterations)
        labels += at
        plain += [True] * len(at)
    if has_ward:
        chosen = rng.permutation(n)[: settings.ward_rows]
        if len(chosen) >= max(K, 2):
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
    at_values: list[np.ndarray],
    K: int,
    rng: np.random.Generator,
    settings: StartSettings,
    has_ward: bool,
) -> Optima:
    """Return the optima that one set of starts leads to, the best of them improved by swaps."""
    labels, is_plain = partitions(metrics, at_values, rows.weight, K, rng, settings, has_ward)
    components = np.arange(K)[:, None]
    stages = settings.stages(K)
    runs, bounds = short_runs(
        rows,
        prior,
        K,
        lambda s: (labels[s] == components).astype(float),
        len(labels),
        stages.short_iterations,
        stages.plain_iterations,
        is_plain | (not stages.leaves_row_out),
    )
    groups = distinct(bounds, settings.same_short_run)[: stages.runs_to_converge]
    chosen = take(runs, np.array([group[0] for group in groups]))
    needed = float(bounds.max()) - settings.candidate_nats
    mixtures, values = converge(
        rows, prior, chosen, stages.run_change, stages.most_run_iterations, needed
    )
    counts = np.array([len(g) for g in groups])
    best = int(values.argmax())
    swapped, value = improve_by_swaps(
        rows, prior, take(mixtures, np.array([best])), float(values[best]), rng, settings, at_values
    )
    ends, end_values = converge(
        rows, prior, swapped, settings.least_change, settings.most_iterations
    )
    is_improved = value > values[best]  # then its start still counts for where it had ended
    kept = np.flatnonzero(is_improved | (np.arange(len(values)) != best))
    return merged(
        concatenate([ends, take(mixtures, kept)]),
        np.append(end_values, values[kept]),
        np.append(1 if is_improved else counts[best], counts[kept]),
        settings,
    )


def merged(
    mixtures: Mixtures, values: np.ndarray, counts: np.ndarray, settings: StartSettings
) -> Optima:
    """Return distinct optima, each with the starts of all that are equal to it."""
    groups = distinct(values, settings.same_optimum, mixtures.counts, settings.same_sizes)
    first = [group[0] for group in groups]
    return Optima(
        take(mixtures, np.array(first)), values[first], np.array([counts[g].sum() for g in groups])
    )
