"""The starts of a fit: k-means++ on a subsample, then a conjugate update of each component.

The update makes the surrogate's concentrations right to a few per cent from the first step. The
published example began at the prior and did not converge, because the concentrations have to grow
with the number of rows.
"""

import numpy as np

from bgmm_jd.data.standardize import standardize_values
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.optimization.clustering import (
    MeanAndSd,
    cluster_as_needed,
    cluster_rows,
    moments_from_clusters,
)
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.labels import order_preferred_by_prior, prior_distinguishes_components
from bgmm_jd.variational.parameters import VariationalParameters, parameters_from_moments


def start_at(
    problem: Problem, init: np.ndarray | None, number: int, seed: int
) -> VariationalParameters:
    """Return the parameters of one start.

    Parameters
    ----------
    init : [K, D], optional
        Means to start from, in the units of X; by default k-means++.
    number : int
        Of the start, from 0. The first is the tightest of several clusterings.
    seed : int
    """
    model, data = problem.standardized_model, problem.data
    settings = problem.settings.optimization
    centres = None if init is None else standardize_values(init, data.standardization)
    rng = np.random.default_rng([seed, number])
    if centres is None and model.is_stick_breaking:
        extra = settings.extra_clusters[number % len(settings.extra_clusters)]
        clusters = cluster_as_needed(data.rows, model.K, model.covariance, rng, settings, extra)
    else:
        seedings = settings.first_start_seedings if number == 0 else 1
        clusters = cluster_rows(data.rows, model.K, rng, settings, centres, seedings)
    informed = moments_from_clusters(clusters, model.covariance)
    moments = prior_moments(model.prior) | informed
    if centres is None and prior_distinguishes_components(problem.model):
        moments = _in_preferred_order(problem, moments)
    return parameters_from_moments(model, moments)


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
