"""Several starts: the best is kept, and it is told how many of the others came to the same."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bgmm_jd.optimization.convergence import parameter_moments, standardized_difference
from bgmm_jd.optimization.single_run import TOLERANCE, RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.labels import (
    has_own_parameters,
    is_exchangeable,
    is_permutable,
    match_labels,
    permute_parameters,
    prior_distinguishes_components,
)
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site

# Posterior sds within which two runs are at the same optimum: ten times the noise that a settled
# run may have, and a small part of what lies between two optima.
_SAME_OPTIMUM = 0.5
# The same of a run that has not settled yet: more than the noise of two settled ones.
_SAME_WHILE_RUNNING = 3.0 * TOLERANCE


class Restart(NamedTuple):
    """One start's end, in internal units; in a posterior, its elbo in the user's.

    values : the parameters it ended at.
    order : its labels [K], in the order that matches them to the best start's.
    elbo, status : of the run whose optimum it was at, if it ended there: see `met`.
    agrees : whether it is at the optimum of the best.
    """

    values: VariationalParameters
    order: np.ndarray
    elbo: float
    steps: int
    status: Status
    agrees: bool


def compare_runs(
    model: Model, runs: list[RunResult], sd_ratio: float = 1.0
) -> tuple[RunResult, tuple[Restart, ...]]:
    """The best run, and all runs beside it, in the order in which they ran.

    The best has the highest elbo of those that settled, or of all if none did; of equal ones, that
    which settled itself.

    Parameters
    ----------
    coarse : posterior sds to which the runs were to settle, in units of the usual; see `run`.
    """
    best = max(runs, key=lambda run: (run.status is Status.CONVERGED, run.elbo, not run.joined))
    return best, tuple(_as_restart(model, best, run, sd_ratio * _SAME_OPTIMUM) for run in runs)


def matching_run(
    model: Model, runs: Iterable[RunResult], values: VariationalParameters, sd_ratio: float
) -> RunResult | None:
    """The run that has settled at an optimum where a later one is already; None if there is none.

    Parameters
    ----------
    values : where the later one is on average.
    coarse : as in `compare`, for means. No sd may be off by more than a factor of exp(1/2).
    """
    settled = [run for run in runs if run.status is Status.CONVERGED and not run.joined]
    if not settled:
        return None
    sites = model.sites
    free = is_permutable(sites) and is_exchangeable(model)
    for run in settled:
        there = (
            permute_parameters(sites, values, _matched_labels(sites, run, values))
            if free
            else values
        )
        apart = np.abs(
            standardized_difference(
                parameter_moments(sites, run.values), parameter_moments(sites, there)
            )
        )
        of_means, of_sds = np.split(apart, 2)
        if of_means.max() < sd_ratio * _SAME_WHILE_RUNNING and of_sds.max() < min(
            sd_ratio * _SAME_WHILE_RUNNING, _SAME_OPTIMUM
        ):
            return run
    return None


def _as_restart(model: Model, best: RunResult, run: RunResult, same: float) -> Restart:
    sites = model.sites
    if (
        prior_distinguishes_components(model) or _means_site(sites).fixed is not None
    ):  # the labels are the prior's
        order, alike = np.arange(model.K), sites
    else:
        order = _matched_labels(sites, best, run.values)
        # Broken sticks are not those of other components in another order: the rest is compared.
        alike = tuple(site for site in sites if has_own_parameters(site))
    here = parameter_moments(alike, best.values)
    there = parameter_moments(alike, permute_parameters(alike, run.values, order))
    apart = np.max(np.abs(here[0] - there[0]) / here[1], initial=0.0)
    return Restart(run.values, order, run.elbo, len(run.elbos), run.status, bool(apart < same))


def _matched_labels(
    sites: tuple[Site, ...], best: RunResult, values: VariationalParameters
) -> np.ndarray:
    """The labels [K] of other values, in the order that matches them to the best run's."""
    means, sds = component_means(sites, best.values)
    spread = np.sqrt((sds**2).mean(axis=0))
    others, _ = component_means(sites, values)
    # By how well it is known where they are: one that holds no rows is anywhere, and takes any.
    known = 1.0 / ((sds / spread) ** 2).mean(axis=1)
    return match_labels(means / spread, others / spread, known)


def component_means(
    sites: tuple[Site, ...], values: VariationalParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and sds of `means` [K, D], in the coordinates they are trained in."""
    return _means_site(sites).family.moments(values["means"])


def _means_site(sites: tuple[Site, ...]) -> Site:
    return next(site for site in sites if site.name == "means")


# Nats of elbo: a mode further below the best holds less than a twentieth of its mass.
RIVAL_NATS = 3.0
