"""Several starts: the best is kept, and it is told how many of the others came to the same."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bgmm_jd.optimization.convergence import difference, moments
from bgmm_jd.optimization.single_run import TOLERANCE, Run
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.labels import (
    align,
    are_told_apart,
    arrange_values,
    can_arrange,
    has_own_parameters,
    is_exchangeable,
)
from bgmm_jd.variational.parameters import Values
from bgmm_jd.variational.structure import Model, Site

# Posterior sds within which two runs are at the same optimum: ten times the noise that a settled
# run may have, and a small part of what lies between two optima.
_SAME = 0.5
# The same of a run that has not settled yet: more than the noise of two settled ones.
_MET = 3.0 * TOLERANCE


class Restart(NamedTuple):
    """One start's end, in internal units; in a posterior, its elbo in the user's.

    values : the parameters it ended at.
    order : its labels [K], in the order that matches them to the best start's.
    elbo, status : of the run whose optimum it was at, if it ended there: see `met`.
    agrees : whether it is at the optimum of the best.
    """

    values: Values
    order: np.ndarray
    elbo: float
    steps: int
    status: Status
    agrees: bool


def compare(model: Model, runs: list[Run], coarse: float = 1.0) -> tuple[Run, tuple[Restart, ...]]:
    """The best run, and all runs beside it, in the order in which they ran.

    The best has the highest elbo of those that settled, or of all if none did; of equal ones, that
    which settled itself.

    Parameters
    ----------
    coarse : posterior sds to which the runs were to settle, in units of the usual; see `run`.
    """
    best = max(runs, key=lambda run: (run.status is Status.CONVERGED, run.elbo, not run.joined))
    return best, tuple(_beside(model, best, run, coarse * _SAME) for run in runs)


def met(model: Model, runs: Iterable[Run], values: Values, coarse: float) -> Run | None:
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
    free = can_arrange(sites) and is_exchangeable(model)
    for run in settled:
        there = arrange_values(sites, values, _matching(sites, run, values)) if free else values
        apart = np.abs(difference(moments(sites, run.values), moments(sites, there)))
        of_means, of_sds = np.split(apart, 2)
        if of_means.max() < coarse * _MET and of_sds.max() < min(coarse * _MET, _SAME):
            return run
    return None


def _beside(model: Model, best: Run, run: Run, same: float) -> Restart:
    sites = model.sites
    if are_told_apart(model) or _means_site(sites).fixed is not None:  # the labels are the prior's
        order, alike = np.arange(model.components), sites
    else:
        order = _matching(sites, best, run.values)
        # Broken sticks are not those of other components in another order: the rest is compared.
        alike = tuple(site for site in sites if has_own_parameters(site))
    here = moments(alike, best.values)
    there = moments(alike, arrange_values(alike, run.values, order))
    apart = np.max(np.abs(here[0] - there[0]) / here[1], initial=0.0)
    return Restart(run.values, order, run.elbo, len(run.elbos), run.status, bool(apart < same))


def _matching(sites: tuple[Site, ...], best: Run, values: Values) -> np.ndarray:
    """The labels [K] of other values, in the order that matches them to the best run's."""
    means, sds = component_means(sites, best.values)
    spread = np.sqrt((sds**2).mean(axis=0))
    others, _ = component_means(sites, values)
    # By how well it is known where they are: one that holds no rows is anywhere, and takes any.
    known = 1.0 / ((sds / spread) ** 2).mean(axis=1)
    return align(means / spread, others / spread, known)


def component_means(sites: tuple[Site, ...], values: Values) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means and sds of `means` [K, D], in the coordinates they are trained in."""
    return _means_site(sites).family.moments(values["means"])


def _means_site(sites: tuple[Site, ...]) -> Site:
    return next(site for site in sites if site.name == "means")


# Nats of elbo: a mode further below the best holds less than a twentieth of its mass.
RIVAL_NATS = 3.0
