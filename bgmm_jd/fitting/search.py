"""The search for the optimum: starts, restarts, and the second phase for many rows."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.interrupts import held_interrupts
from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.standardize import Data, rows_in_memory, subsample
from bgmm_jd.data.units import as_standardization_tensors, identity_standardization
from bgmm_jd.fitting.default_prior import prior_of_standardized
from bgmm_jd.fitting.progress import Phase, Progress, Reporter, log_run
from bgmm_jd.fitting.search_state import SearchLog
from bgmm_jd.model.covariance_forms import CovarianceForm
from bgmm_jd.optimization.full_data import optimize_full_data
from bgmm_jd.optimization.initialization import Given, Start, Starts, all_starts, start_at
from bgmm_jd.optimization.restarts import (
    Optimum,
    Restart,
    compare_runs,
    distinct_optima,
    join_connected,
    matching_run,
)
from bgmm_jd.optimization.single_run import (
    RunProgress,
    RunResult,
    optimize,
    schedule_for,
    subsample_sd_ratio,
)
from bgmm_jd.optimization.status import Status
from bgmm_jd.optimization.svi import Schedule
from bgmm_jd.posterior.mode import Mode
from bgmm_jd.settings import Settings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.component_order import component_summaries, order_components
from bgmm_jd.variational.labels import labels_are_free
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import model_of


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """How to look for the optimum.

    Attributes
    ----------
    batch_size : int, optional
        Rows of a step; None to fit a subsample first and then all rows in a few passes.
    restarts : int
        Largest number of runs.
    init : Given, optional
        What to start from.
    is_near : bool
        Whether these are parameters so near the optimum that many rows are read in passes at once,
        without a subsample first.
    max_steps : int
        Limit of steps of each start.
    optimizer : {"natural", "adam"}
    seed : int
    """

    batch_size: int | None
    restarts: int
    init: Given | None
    max_steps: int
    optimizer: str
    seed: int
    is_near: bool = False


class SearchResult(NamedTuple):
    """What the search has found.

    best : the run with the best optimum.
    restarts : how each run ended.
    optima : the distinct optima that runs converged to, the best first.
    searches : number of independent searches for starts.
    batch_size : the largest number of rows that a step read.
    seconds : what the search took.
    """

    best: RunResult
    restarts: tuple[Restart, ...]
    optima: tuple[Optimum, ...]
    searches: int
    batch_size: int
    seconds: float


def problem_of(
    data: Data,
    K: int,
    covariance: CovarianceForm,
    prior: tfd.JointDistributionCoroutine | None,
    execution: str,
    settings: Settings,
) -> Problem:
    """Return the problem of fitting a prior, or the default prior, to standardised rows."""
    D, dtype = data.shape[1], data.dtype
    # The default prior is a constant in standardised units: one program serves all data of a shape.
    if prior is None:
        prior, standardization = (
            prior_of_standardized(data, K, covariance, settings.default_prior),
            identity_standardization(D),
        )
    else:
        standardization = data.standardization
    return Problem(
        model=model_of(prior, covariance),
        prior_standardization=as_standardization_tensors(standardization, dtype),
        data=data,
        execution=execution,
        settings=settings,
    )


def find_optimum(
    problem: Problem, plan: SearchPlan, report: Reporter, log: SearchLog | None = None
) -> SearchResult:
    """Return the best of several starts.

    Parameters
    ----------
    log : of the search, which goes on from the state that it has.
    """
    begun, log = time.perf_counter(), log or SearchLog()
    if plan.batch_size is not None:
        starts, runs, batch_size = _search(problem, plan, report, log)
    elif plan.is_near:
        starts, runs, batch_size = _go_on(problem, plan, report, log)
    else:
        starts, runs, batch_size = _search_in_two_phases(problem, plan, report, log)
    with held_interrupts() as is_interrupted:
        best, restarts = compare_runs(problem.model, runs, problem.settings.optimization)
        restarts = tuple(
            restart._replace(starts=start.starts)
            for restart, start in zip(restarts, starts.runs, strict=False)  # Ctrl-C leaves some out
        )
        counts = [start.starts for start in starts.runs]
        optima = distinct_optima(problem.model, runs, counts, problem.settings.optimization)
    if is_interrupted():
        restarts = (*restarts[:-1], restarts[-1]._replace(status=Status.INTERRUPTED))
    seconds = time.perf_counter() - begun
    return SearchResult(best, restarts, optima, starts.searches, batch_size, seconds)


# Where the runs began, how they ended, and the largest number of rows that a step read.
_Found = tuple[Starts, list[RunResult], int]


def _search(problem: Problem, plan: SearchPlan, report: Reporter, log: SearchLog) -> _Found:
    """Look for starts, and run the steps from each of them."""
    N = problem.data.shape[0]
    batches = equal_batches(N, plan.batch_size or N)
    starts = log.state.starts
    if starts is None:
        report(Progress(phase="starts"))
        starts = all_starts(problem, plan.init, plan.restarts, plan.seed)
        log.note(starts=starts)
    schedule = schedule_for(problem, batches, plan.optimizer)
    return starts, _run_all_starts(problem, starts.runs, plan, schedule, report, log), batches.size


def _search_in_two_phases(
    problem: Problem, plan: SearchPlan, report: Reporter, log: SearchLog
) -> _Found:
    """Search in a subsample, and continue the best run on all rows."""
    rng = np.random.default_rng(plan.seed)
    rows = subsample_size(problem.model.K, problem.data.shape[1], problem.settings)
    searched = problem.on(subsample(problem.data, rows, rng))
    starts, runs, batch_size = _search(searched, plan, report, log)
    if runs[-1].status is Status.INTERRUPTED:
        log = SearchLog()  # the best of all runs, which a resumed search makes, may be another one
    sd_ratio, sample = subsample_sd_ratio(searched), _rung_between(problem)
    if sample is not None:
        # Not in the checkpoint: it is quick to do again, to the same bits.
        on_sample = _Continuation(sample, plan, report, SearchLog(), "optimization")
        runs = _continue_on_more_rows(sample, runs, sd_ratio, on_sample)
        sd_ratio = subsample_sd_ratio(sample)
        if any(run.status is Status.INTERRUPTED for run in runs):
            log = SearchLog()  # likewise
    runs = _continue_on_more_rows(
        problem, runs, sd_ratio, _Continuation(problem, plan, report, log)
    )
    return starts, runs, batch_size


def _rung_between(problem: Problem) -> Problem | None:
    """Return the problem of the sample of a source, where it is worth passes of its own.

    They settle which runs are rivals, and end nearer to the optimum than the subsample does: each
    pass over all rows that they save reads a file. None where all rows are in memory, or not many
    more than the sample.
    """
    if problem.data.has_rows:
        return None
    sample = problem.on(rows_in_memory(problem.data))
    least = subsample_size(problem.model.K, problem.data.shape[1], problem.settings)
    is_small = sample.data.sampling_fraction <= problem.settings.sources.largest_rung
    return sample if is_small and sample.data.shape[0] > least else None


def _go_on(problem: Problem, plan: SearchPlan, report: Reporter, log: SearchLog) -> _Found:
    """Read all rows in passes from the parameters that are given."""
    start = start_at(problem, plan.init, 0, plan.seed)
    run = RunResult(start, np.empty(0), -np.inf, Status.STEP_LIMIT)
    runs = [_Continuation(problem, plan, report, log).of(run)]
    return Starts((Start(start, 1),), 1), runs, problem.data.shape[0]


def subsample_size(K: int, D: int, settings: Settings) -> int:
    """Return the number of rows that the first phase of a fit of many rows reads."""
    optimization = settings.optimization
    least = max(optimization.subsample_rows, K * optimization.subsample_rows_per_component)
    of_starts = settings.starts.rows_of_components(K, D)
    return max(least, min(of_starts, optimization.full_batch_rows))


def _run_all_starts(
    problem: Problem,
    starts: tuple[Start, ...],
    plan: SearchPlan,
    schedule: Schedule,
    report: Reporter,
    log: SearchLog,
) -> list[RunResult]:
    """Run each start in turn; Ctrl-C ends the present one, and the others do not begin."""
    settings = problem.settings.optimization
    runs = list(log.state.runs)

    def find_match(params: VariationalParameters) -> RunResult | None:
        return matching_run(problem.model, runs, params, settings, subsample_sd_ratio(problem))

    for number, start in list(enumerate(starts))[len(runs) :]:
        progress = _progress_reporter(
            problem, plan, report, "optimization", number + 1, len(starts)
        )
        seed = fold_in(stateless_seed(plan.seed), number)
        runs.append(
            optimize(problem, start.params, schedule, seed, plan.max_steps, progress, find_match)
        )
        log_run(problem, number + 1, len(starts), runs[-1])
        log.add_run(runs[-1])
        if runs[-1].status is Status.INTERRUPTED:
            return runs
    try:
        return join_connected(problem, runs)
    except KeyboardInterrupt:
        return [*runs[:-1], runs[-1]._replace(status=Status.INTERRUPTED)]


def _progress_reporter(
    problem: Problem,
    plan: SearchPlan,
    report: Reporter,
    phase: Phase,
    start: int = 1,
    starts: int = 1,
) -> Callable[[RunProgress], None]:
    """Return a function that reports the progress of one run, with its elbo in the units of X."""
    log_det_jacobian = problem.data.log_det_jacobian

    def report_progress(progress: RunProgress) -> None:
        report(
            Progress(
                phase=phase,
                start=start,
                starts=starts,
                steps=progress.steps,
                max_steps=plan.max_steps,
                elbo=progress.elbo - log_det_jacobian,
                drift=progress.drift,
            )
        )

    return report_progress


def _continue_on_more_rows(
    problem: Problem, runs: list[RunResult], sd_ratio: float, continuation: "_Continuation"
) -> list[RunResult]:
    """Continue the best subsample run on all rows of a problem, or on more than before.

    Runs at the same optimum inherit its result; other runs are continued only if their elbo is
    close enough that the subsample cannot rule them out. A run that the subsample rules out has
    converged on the subsample only; its status is STEP_LIMIT, although it has not reached that.
    Ctrl-C ends the present one, and those that would be continued after it are interrupted too.

    Parameters
    ----------
    sd_ratio : of the subsample: see `subsample_sd_ratio`.
    """
    settings = problem.settings.optimization
    lead, restarts = compare_runs(problem.model, runs, settings, sd_ratio)
    if lead.status not in (Status.CONVERGED, Status.STEP_LIMIT):
        return runs
    whole = continuation.of(lead)
    found = []
    for run, restart in zip(runs, restarts, strict=True):
        behind = lead.elbo - run.elbo
        is_rival = behind < settings.rival_nats * sd_ratio**2
        if run is lead:
            found.append(whole)
        elif restart.agrees and run.status is not Status.INTERRUPTED:
            found.append(whole._replace(elbos=run.elbos, joined=True))
        elif run.status is whole.status is Status.CONVERGED and is_rival:
            has_ended = any(one.status is Status.INTERRUPTED for one in found)
            found.append(
                run._replace(elbo=whole.elbo - behind, status=Status.INTERRUPTED)
                if has_ended
                else continuation.of(run)
            )
        else:
            ruled_out = run.status is Status.CONVERGED
            status = Status.STEP_LIMIT if ruled_out else run.status
            found.append(run._replace(elbo=whole.elbo - behind, status=status))
    return found


class _Continuation:
    """Runs that are continued on all rows of a problem, one after the other."""

    def __init__(
        self,
        problem: Problem,
        plan: SearchPlan,
        report: Reporter,
        log: SearchLog,
        phase: Phase = "passes",
    ):
        self._problem, self._plan, self._report, self._log = problem, plan, report, log
        self._phase: Phase = phase
        self._known = list(log.state.continued)  # from before the search was resumed

    def of(self, run: RunResult) -> RunResult:
        """Continue a run of a subsample, or return how it has ended before."""
        if self._known:
            return self._known.pop(0)
        problem, plan, log = self._problem, self._plan, self._log
        settings = problem.settings.full_data
        progress = _progress_reporter(problem, plan, self._report, self._phase)
        limit = max(settings.fewest_passes_limit, plan.max_steps // settings.steps_per_pass)
        found = optimize_full_data(
            problem,
            run.params,
            stateless_seed(plan.seed, "passes"),
            progress,
            run.elbos,
            limit,
            log.state.passes,
            lambda state: log.note(passes=state),
        )
        log.add_continued(found)
        return found


def output_order(problem: Problem, params: VariationalParameters, has_init: bool) -> np.ndarray:
    """Return the fitted labels [K] in the order of output.

    By `order_components` where all orders are equally good. What a fit is given to start from, or
    a prior that distinguishes the components, has given them their order already.
    """
    if has_init or not labels_are_free(problem.model):
        return np.arange(problem.model.K)
    units = problem.data.standardization
    return order_components(component_summaries(problem.model.sites, params, units))


def with_data_unit_elbos(problem: Problem, restarts: tuple[Restart, ...]) -> tuple[Restart, ...]:
    """Return restarts with their elbos in the units of X."""
    jacobian = problem.data.log_det_jacobian
    return tuple(restart._replace(elbo=restart.elbo - jacobian) for restart in restarts)


def modes_in_data_units(problem: Problem, modes: tuple[Mode, ...]) -> tuple[Mode, ...]:
    """Return modes with their elbos and log evidences in the units of X."""
    jacobian = problem.data.log_det_jacobian
    return tuple(
        mode._replace(elbo=mode.elbo - jacobian, log_evidence=mode.log_evidence - jacobian)
        for mode in modes
    )
