"""Several runs: select the best, and report which others reached the same optimum."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bgmm_jd.optimization.convergence import parameter_moments, standardized_difference
from bgmm_jd.optimization.elbo_differences import are_affordable, elbo_terms, has_valley_between
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import OptimizationSettings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.labels import (
    has_own_parameters,
    labels_are_free,
    match_labels,
    permute_parameters,
    prior_distinguishes_components,
)
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site

# Times the tolerance of convergence: a running average at an optimum that another run has found may
# differ from it by the noise of both.
_TOLERANCES_OF_A_MATCH = 3.0


class Restart(NamedTuple):
    """How one run of the optimiser ended.

    Attributes
    ----------
    params : VariationalParameters
        The parameters it ended at, in standardised units, or those of another run at the same
        optimum: see `join_connected`.
    order : array of int [K]
        Its labels, in the order that matches them to the best run's.
    elbo : float
        In nats; in standardised units inside, in those of X in a `Posterior`. It is that of the
        other run at whose optimum this one ended, if it ended there.
    steps : int
        Number of steps taken.
    status : Status
        Its own, or that of the run that it joined.
    agrees : bool
        Whether it is at the optimum of the best run.
    starts : int
        Number of starts of variational EM that led to where the run began; 1 where each run had a
        start of its own.
    """

    params: VariationalParameters
    order: np.ndarray
    elbo: float
    steps: int
    status: Status
    agrees: bool
    starts: int = 1


def compare_runs(
    model: Model, runs: list[RunResult], settings: OptimizationSettings, sd_ratio: float = 1.0
) -> tuple[RunResult, tuple[Restart, ...]]:
    """Return the best run, and how each run compares to it, in the order in which they ran.

    The best has the highest elbo of those that converged, or of all if none did; of equal ones, the
    one that converged itself.

    Parameters
    ----------
    sd_ratio : float
        Factor by which the tolerances of the runs were widened: see `subsample_sd_ratio`.
    """
    best = max(runs, key=lambda run: (run.status is Status.CONVERGED, run.elbo, not run.joined))
    limit = sd_ratio * settings.agreement
    return best, tuple(_as_restart(model, best, run, limit) for run in runs)


class Optimum(NamedTuple):
    """A distinct optimum that runs have converged to.

    params : of the surrogate there, in standardised units.
    elbo : in nats and standardised units.
    starts : number of starts that led there.
    """

    params: VariationalParameters
    elbo: float
    starts: int


def distinct_optima(
    model: Model, runs: list[RunResult], starts: list[int], settings: OptimizationSettings
) -> tuple[Optimum, ...]:
    """Return the optima that runs have converged to, the best first.

    Parameters
    ----------
    starts : number of starts that led to where each run began.
    """
    converged = zip(runs, starts, strict=False)  # Ctrl-C leaves some runs out
    left = [pair for pair in converged if pair[0].status is Status.CONVERGED]
    found = []
    while left:
        best, restarts = compare_runs(model, [run for run, _ in left], settings)
        here = [one.agrees or run is best for (run, _), one in zip(left, restarts, strict=True)]
        counts = [count for (_, count), is_here in zip(left, here, strict=True) if is_here]
        found.append(Optimum(best.params, best.elbo, sum(counts)))
        left = [pair for pair, is_here in zip(left, here, strict=True) if not is_here]
    return tuple(found)


def matching_run(
    model: Model,
    runs: Iterable[RunResult],
    params: VariationalParameters,
    settings: OptimizationSettings,
    sd_ratio: float,
) -> RunResult | None:
    """Return the converged run at whose optimum a later run already is; None if there is none.

    Parameters
    ----------
    params : average of the later run.
    sd_ratio : float
        As in `compare_runs`, for means. No sd may differ by more than a factor of
        exp(settings.agreement).
    """
    converged = [run for run in runs if run.status is Status.CONVERGED and not run.joined]
    if not converged:
        return None
    sites = model.sites
    limit = sd_ratio * _TOLERANCES_OF_A_MATCH * settings.tolerance
    for run in converged:
        there = _with_labels_of(model, run, params)
        apart = standardized_difference(
            parameter_moments(sites, run.params), parameter_moments(sites, there)
        )
        of_means, of_sds = np.split(np.abs(apart), 2)
        if of_means.max() < limit and of_sds.max() < min(limit, settings.agreement):
            return run
    return None


def join_connected(problem: Problem, runs: list[RunResult]) -> list[RunResult]:
    """Return the runs, of which those that are at the optimum of a better one have joined it.

    Where no valley of the elbo lies between two runs, they are at one optimum, however far apart:
    it is flat in some direction. Runs that had joined the lower one join the better one with it.
    """
    own = [run for run in runs if run.status is Status.CONVERGED and not run.joined]
    if len(own) < 2 or not are_affordable(problem):
        return runs
    elbos = np.nan_to_num([elbo_terms(problem, run.params).mean() for run in own], nan=-np.inf)
    optima: list[RunResult] = []
    goes_to: dict[float, RunResult] = {}  # by elbo, which a run shares with those that joined it
    for run in (own[i] for i in np.argsort(-elbos, kind="stable")):
        better = (
            one
            for one in optima
            if not has_valley_between(
                problem, one.params, _with_labels_of(problem.model, one, run.params)
            )
        )
        found = next(better, None)
        if found is None:
            optima.append(run)
        else:
            goes_to[run.elbo] = found
    return [
        _joined(run, goes_to[run.elbo])
        if run.status is Status.CONVERGED and run.elbo in goes_to
        else run
        for run in runs
    ]


def _joined(run: RunResult, other: RunResult) -> RunResult:
    """Return a run as one that has ended where another is."""
    return run._replace(params=other.params, elbo=other.elbo, joined=True)


def _with_labels_of(
    model: Model, run: RunResult, params: VariationalParameters
) -> VariationalParameters:
    """Return parameters with their components in the order that matches those of a run."""
    if not labels_are_free(model):
        return params
    return permute_parameters(model.sites, params, _matched_labels(model.sites, run, params))


def _as_restart(model: Model, best: RunResult, run: RunResult, limit: float) -> Restart:
    """Compare a run to the best one, after matching the labels where they are free."""
    sites = model.sites
    has_prior_labels = (
        prior_distinguishes_components(model) or model.site("means").fixed is not None
    )
    if has_prior_labels:
        order, compared, params = np.arange(model.K), sites, run.params
    else:
        order = _matched_labels(sites, best, run.params)
        # Broken sticks cannot be permuted with the components: compare the other variables.
        compared = tuple(site for site in sites if has_own_parameters(site))
        params = permute_parameters(compared, run.params, order)
    here, there = (parameter_moments(compared, p) for p in (best.params, params))
    # Runs that have diverged agree with none.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        apart = np.max(np.abs(here[0] - there[0]) / here[1], initial=0.0)
    return Restart(run.params, order, run.elbo, len(run.elbos), run.status, bool(apart < limit))


def _matched_labels(
    sites: tuple[Site, ...], best: RunResult, params: VariationalParameters
) -> np.ndarray:
    """Return labels [K] of other parameters in the order that matches those of the best run."""
    means, sds = component_means(sites, best.params)
    scale = np.sqrt((sds**2).mean(axis=0))
    others, _ = component_means(sites, params)
    # Weight each component's distance by the precision of its mean, so that empty components, which
    # may be anywhere, do not drive the matching. Those that have diverged are far from all.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        precision = 1.0 / ((sds / scale) ** 2).mean(axis=1)
        return match_labels(means / scale, others / scale, precision)


def component_means(
    sites: tuple[Site, ...], params: VariationalParameters
) -> tuple[np.ndarray, np.ndarray]:
    """Return posterior means and sds of `means` [K, D], in the coordinates they are trained in."""
    site = next(site for site in sites if site.name == "means")
    return site.family.moments(params["means"])
