"""The starts of a fit: optima of variational EM, or clusters after a conjugate update.

Either makes the surrogate's concentrations right to a few per cent from the first step. The
published example began at the prior and did not converge, because the concentrations have to grow
with the number of rows.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bgmm_jd.data.rows import row_weights
from bgmm_jd.data.standardize import Data, standardize_values
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.optimization.candidates import find_starts
from bgmm_jd.optimization.clustering import (
    Clusters,
    MeanAndSd,
    cluster_as_needed,
    cluster_rows,
    moments_from_clusters,
)
from bgmm_jd.optimization.conjugate_prior import ConjugatePrior, conjugate_prior
from bgmm_jd.settings import DefaultPriorSettings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.labels import order_preferred_by_prior, prior_distinguishes_components
from bgmm_jd.variational.parameters import VariationalParameters, parameters_from_moments

# What a user may give to start from: means [K, D] in the units of X, clusters in standardised
# units, or parameters of the surrogate.
Given = np.ndarray | Clusters | VariationalParameters


class Start(NamedTuple):
    """Parameters to begin a run at, and the number of starts of EM that led there."""

    params: VariationalParameters
    starts: int


class Starts(NamedTuple):
    """What a fit begins at.

    runs : the best first.
    searches : number of independent searches in which they were found.
    """

    runs: tuple[Start, ...]
    searches: int


def all_starts(problem: Problem, init: Given | None, restarts: int, seed: int) -> Starts:
    """Return where the runs of a fit begin, `restarts` of them or fewer.

    What is given, and a stick-breaking prior, whose number of clusters is chosen first, make a
    start for each run. Otherwise the starts are the distinct optima of variational EM.

    Parameters
    ----------
    init : Given, optional
    restarts : int
    seed : int
    """
    model, data = problem.standardized_model, problem.data
    if init is not None or model.is_stick_breaking:
        runs = tuple(Start(start_at(problem, init, i, seed), 1) for i in range(restarts))
        return Starts(runs, restarts)
    # A subsample's rows stand for more: EM reads them at their own weight.
    natural = data.rows._replace(weight=row_weights(data.rows) * data.sampling_fraction)
    found = find_starts(
        natural,
        model.K,
        model.covariance,
        seed=seed,
        settings=problem.settings.starts,
        restarts=restarts,
        prior=_prior_of_starts(data, model.K, model.covariance, problem.settings.default_prior),
        columns=data.standardization.to_scaled_columns,
    )
    optima = []
    for candidate in found.candidates:
        count = candidate.clusters.count / data.sampling_fraction
        moments = moments_from_clusters(
            replace(candidate.clusters, count=count), model.covariance, is_optimum=True
        )
        optima.append(Start(_parameters(problem, moments, has_labels=False), candidate.starts))
    return Starts(tuple(optima), found.searches)


def _prior_of_starts(
    data: Data, K: int, form: str, settings: DefaultPriorSettings
) -> ConjugatePrior:
    """Return the prior of starts, whose means may lie as far as the rows do."""
    prior = conjugate_prior(K, data.shape[1], form, settings, data.informative_columns)
    if data.far_scatter is None:
        return prior
    farthest = np.linalg.eigvalsh(data.far_scatter)[-1]
    return replace(prior, mean_variance=prior.mean_variance * (1.0 + farthest))


def start_at(problem: Problem, init: Given | None, number: int, seed: int) -> VariationalParameters:
    """Return the parameters of one start: those given, or of clusters given or found by k-means.

    Parameters
    ----------
    init : Given, optional
        By default k-means++.
    number : int
        Of the start, from 0. The first is the tightest of several clusterings.
    seed : int
    """
    if isinstance(init, Mapping):
        return init
    clusters = init if isinstance(init, Clusters) else _clusters(problem, init, number, seed)
    informed = moments_from_clusters(clusters, problem.model.covariance)
    return _parameters(problem, informed, has_labels=init is not None)


def _clusters(problem: Problem, means: np.ndarray | None, number: int, seed: int) -> Clusters:
    """Return clusters of the rows around given means, or by k-means."""
    model, data, settings = problem.model, problem.data, problem.settings.optimization
    rng = np.random.default_rng([seed, number])
    if means is not None:
        centres = standardize_values(means, data.standardization)
        return cluster_rows(data.rows, model.K, rng, settings, centres)
    if model.is_stick_breaking:
        extra = settings.extra_clusters[number % len(settings.extra_clusters)]
        return cluster_as_needed(data.rows, model.K, model.covariance, rng, settings, extra)
    seedings = settings.first_start_seedings if number == 0 else 1
    return cluster_rows(data.rows, model.K, rng, settings, seedings=seedings)


def _parameters(
    problem: Problem, informed: dict[str, MeanAndSd], has_labels: bool
) -> VariationalParameters:
    """Return parameters with these moments, and the prior's where there are none."""
    moments = prior_moments(problem.standardized_model.prior) | informed
    if not has_labels and prior_distinguishes_components(problem.model):
        moments = _in_preferred_order(problem, moments)
    return parameters_from_moments(problem.standardized_model, moments)


def _in_preferred_order(problem: Problem, moments: dict[str, MeanAndSd]) -> dict[str, MeanAndSd]:
    """Return the moments with the components in the order that the prior prefers."""
    model, dtype = problem.standardized_model, problem.data.dtype
    centre = {name: np.asarray(mean, dtype) for name, (mean, _) in moments.items()}
    order = order_preferred_by_prior(model, centre)
    moving = {site.name for site in model.sites if site.has_component_axis}
    return {
        name: (mean[order], sd[order]) if name in moving else (mean, sd)
        for name, (mean, sd) in moments.items()
    }
