"""One run of the optimiser: from a start until the parameters have converged."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.data.minibatches import Batches, equal_batches
from bgmm_jd.optimization import convergence, elbo_differences, svi
from bgmm_jd.optimization.accelerated_path import Evaluator, accelerated_path, beginning_at
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import coordinate_layout
from bgmm_jd.variational.evaluation import surrogate_statistics_are_accurate
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    constrained_arrays,
    unconstrained_arrays,
)


class RunResult(NamedTuple):
    """How a run ended, in standardised units.

    params : the parameters it converged to, as arrays that cannot be written.
    elbos [steps] : the noisy elbo of each step.
    elbo : their median over the blocks that were averaged.
    joined : whether it ended at the optimum of another run, whose elbo it then has.
    """

    params: VariationalParameters
    elbos: np.ndarray
    elbo: float
    status: Status
    joined: bool = False


class RunProgress(NamedTuple):
    """The state of a run after a block: steps taken, the block's elbo, the drift in sds."""

    steps: int
    elbo: float
    drift: float


def schedule_for(problem: Problem, batches: Batches, optimizer: str = "natural") -> svi.Schedule:
    """Choose blocks of whole epochs, in which each row is read equally often."""
    settings = problem.settings.optimization
    epochs = -(-settings.shortest_block // batches.count)
    steps = min(epochs * batches.count, settings.longest_block)
    is_subsample = subsample_sd_ratio(problem) != 1.0
    draws = settings.subsample_draws_per_step if is_subsample else settings.draws_per_step
    dtype = problem.data.dtype.name
    if batches.count == 1:  # of all rows, and of those that pad them
        batches = equal_batches(*[problem.compiled_form.size[0]] * 2)
    return svi.Schedule(batches, draws, steps, dtype, problem.execution, optimizer)


def subsample_sd_ratio(problem: Problem) -> float:
    """Return the posterior sd given the rows at hand relative to that given all rows.

    1 / sqrt(fraction of the rows that a subsample has); 1 for all rows. Convergence tolerances on a
    subsample are widened by this factor.
    """
    return problem.data.sampling_fraction**-0.5


def step_size(problem: Problem, schedule: svi.Schedule, blocks: int) -> StepSize:
    """Return how far the steps of the next block go.

    On all rows, a full natural-gradient step. On a batch, a quarter of the batch's share of one:
    the progress of an epoch is then the same for any batch size, and the iterates of the last
    epochs stay within a fraction of a posterior sd of their mean. In a model with covariance
    matrices the steps of all variables are S / (S + D + 1) times as long: with S draws the gradient
    by a matrix of D features has a noise of sqrt(D / S) times the distance that is left, so that
    full steps would lead away from the optimum where D > S. A run that has not converged in its
    first blocks is held up by noise, or by a posterior far from the surrogate's family; steps then
    become shorter as 1 / time (Robbins and Monro 1951).

    The first steps from a poor start overshoot: a location may move by 0.3 sds of its component's
    rows, which are some sqrt(N / K) posterior sds. Near the optimum a natural-gradient step is at
    most about one posterior sd; a longer one is caused by a single extreme draw, so steps are
    clipped.
    """
    settings = problem.settings.optimization
    batches = schedule.batches.count
    share = 1.0 if batches == 1 or schedule.optimizer == "adam" else 0.25 / batches
    rate = share / max(1.0, blocks / settings.full_rate_blocks)
    if problem.model.has_covariance_matrices and schedule.optimizer == "natural":
        rate /= 1.0 + (problem.data.shape[1] + 1.0) / schedule.draws
    if blocks < settings.overshooting_blocks:
        component_sd = (problem.data.total_weight / problem.model.K) ** 0.5
        return StepSize(rate, max(1.0, 0.3 * component_sd), 0.3)
    return StepSize(rate, subsample_sd_ratio(problem), 0.1)


def optimize(
    problem: Problem,
    start: VariationalParameters,
    schedule: svi.Schedule,
    seed: tf.Tensor,
    max_steps: int,
    report: Callable[[RunProgress], None],
    find_match: Callable[[VariationalParameters], RunResult | None] = lambda params: None,
) -> RunResult:
    """Run blocks of steps from a start until the run has converged, or to the limit.

    It has converged when its parameters have, or when its elbo no longer rises, and is then
    polished.

    Where each step reads all rows the likelihood is a matrix product as long as that is accurate,
    whatever the schedule says. Ctrl-C ends the run and keeps what it has.

    Parameters
    ----------
    problem : Problem
    start : parameters (constrained) to start from.
    schedule : of the programs to run.
    seed : int32 [2]
    max_steps : int
    report : called before the first step, and after each check of convergence.
    find_match : function of the averaged parameters
        The converged run that has them for its optimum, or None. A run ends there, because
        converging to the same optimum again would give no new information.
    """
    run = _Run(problem, start, schedule, seed)
    status = Status.STEP_LIMIT
    try:
        report(RunProgress(0, np.nan, np.inf))
        run.choose_likelihood()
        for first in range(0, max_steps, schedule.steps):
            if not run.take_block(first):
                if run.schedule.use_statistics:
                    run.restart_without_statistics()
                    continue
                status = Status.DIVERGED
                break
            if run.has_left_the_start():
                run.begin_again_cautiously()
                continue
            if not convergence.is_check_due(len(run.blocks)):
                continue
            drift = convergence.drift(problem.model.sites, run.blocks)
            report(RunProgress(first + schedule.steps, float(run.elbos[-1].mean()), drift))
            match = find_match(run.average())
            if match is not None:
                return run.result(match.status)._replace(elbo=match.elbo, joined=True)
            is_converged = run.has_converged(drift)
            is_settled = not is_converged and run.has_settled()
            if run.statistics_are_inaccurate(is_converged or is_settled):
                run.continue_without_statistics()
            elif is_converged or is_settled:
                if is_settled:
                    run.polish(first + schedule.steps, max_steps, report)
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    return run.result(status)


class _Run:
    """The mutable state of one call of `optimize`."""

    def __init__(
        self,
        problem: Problem,
        start: VariationalParameters,
        schedule: svi.Schedule,
        seed: tf.Tensor,
    ):
        self._problem, self._start, self._seed = problem, start, seed
        self.schedule = schedule
        self.params = start
        self.blocks: list[VariationalParameters] = []  # unconstrained averages
        self._polished: list[
            VariationalParameters
        ] = []  # the same, of polished blocks that are kept
        self.elbos: list[np.ndarray] = []
        self._polishing_elbos: list[np.ndarray] = []
        self._opt_state: tuple[Any, ...] = ()
        self._skipped_blocks = 0

    def choose_likelihood(self) -> None:
        """Use sufficient statistics in steps on all rows, if that is accurate at the start.

        For a batch the statistics would be made anew in each step, which is slower.
        """
        settings = self._problem.settings.optimization
        tolerance = settings.step_rounding / settings.rounding_margin
        self._use_statistics(
            self.schedule.batches.count == 1
            and surrogate_statistics_are_accurate(self._problem, self._start, tolerance)
        )

    def _use_statistics(self, use: bool) -> None:
        self.schedule = self.schedule._replace(use_statistics=use)
        self._program = svi.program(self._problem.compiled_form.model, self.schedule)

    def take_block(self, first: int) -> bool:
        """Take one block of steps; return False and keep nothing if it is not finite."""
        blocks = self._skipped_blocks + len(self.blocks)
        size = step_size(self._problem, self.schedule, blocks)
        block = self._block(self.params, first, size, self._opt_state)
        if not all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(block.average)):
            return False
        self.params, self._opt_state = block.params, block.opt_state
        self.blocks.append(block.average)
        self.elbos.append(_elbos_of(block))
        return True

    def _block(
        self,
        params: VariationalParameters,
        first: int,
        size: StepSize,
        opt_state: tuple[Any, ...],
    ) -> svi.Block:
        form = self._problem.compiled_form
        block = self._program.run(
            form.rows,
            form.values,
            form.pad_parameters(params),
            self._seed,
            first,
            size,
            opt_state,
        )
        return block._replace(
            params=form.crop_parameters(block.params), average=form.crop_parameters(block.average)
        )

    def restart_without_statistics(self) -> None:
        """Begin again with differences before squares, which keep their digits."""
        self._use_statistics(False)
        self.params, self.blocks, self._opt_state = self._start, [], ()

    def has_left_the_start(self) -> bool:
        """Return whether a run is far below where it began with long steps.

        A start may be an optimum already, from which single extreme draws can lead to a far poorer
        one; the elbo of each step varies much until the run is near that one. The first loss is
        that of the start; all are under draws of one step each.
        """
        settings = self._problem.settings.optimization
        is_time = not self._skipped_blocks and len(self.blocks) >= settings.overshooting_blocks
        if not (is_time and self._takes_all_rows()):
            return False
        first, now = self.elbos[0][0], self.elbos[-1]
        with np.errstate(all="ignore"):  # what is not finite is no reason to begin again
            allowance = settings.lost_nats + settings.lost_noise * now.std()
            return bool(np.median(now) < first - allowance)

    def begin_again_cautiously(self) -> None:
        """Begin again with steps that are limited as they are near an optimum."""
        self._skipped_blocks = self._problem.settings.optimization.overshooting_blocks
        self.params, self.blocks, self._opt_state = self._start, [], ()

    def _takes_all_rows(self) -> bool:
        return self.schedule.batches.count == 1 and self.schedule.optimizer == "natural"

    def has_converged(self, drift: float) -> bool:
        """Return whether the halves of the run's second half agree."""
        return drift < _tolerance(self._problem)

    def has_settled(self) -> bool:
        """Return whether the elbo no longer rises, though parameters may still move.

        Two elbos take the time of several blocks, so that they are not compared as often.
        """
        settings, blocks = self._problem.settings.optimization, len(self.blocks)
        is_time = blocks >= settings.fewest_settled_blocks and convergence.is_check_due(blocks, 4)
        is_affordable = elbo_differences.are_affordable(self._problem)
        if not (is_time and self._takes_all_rows() and is_affordable):
            return False
        sites = self._problem.model.sites
        early, late = (
            convergence.average_parameters(sites, part) for part in convergence.halves(self.blocks)
        )
        gain = elbo_differences.elbo_gain(self._problem, early, late)
        P = coordinate_layout(self._problem.standardized_model).size
        noise = max(1.0, P / settings.settled_parameters) ** 0.5
        return gain.size_at_most < settings.settled_gain * noise

    def polish(self, first: int, max_steps: int, report: Callable[[RunProgress], None]) -> None:
        """Go on, by accelerated blocks under the same draws, to their fixed point if it is found.

        A block under fixed draws is a smooth map of the parameters. Blocks under other draws, from
        its fixed point, are then averaged.

        Parameters
        ----------
        first : number of steps taken before.
        max_steps : limit of all steps.
        report : called after each block.
        """
        settings, steps = self._problem.settings.optimization, self.schedule.steps
        start = unconstrained_arrays(self._problem.model.sites, self.average())
        # Full steps, clipped as they are after the first blocks.
        size = step_size(self._problem, self.schedule, settings.overshooting_blocks)
        evaluate = self._evaluator(first, size)
        left = (max_steps - first) // steps - settings.averaged_blocks
        most = min(settings.polishing_blocks, max(left, 0))
        path = itertools.islice(
            accelerated_path(self._problem, evaluate, beginning_at(start)), most
        )
        for taken, point in enumerate(path, start=1):
            report(RunProgress(first + taken * steps, point.elbo, point.remaining))
            if point.remaining < settings.tolerance:
                numbers = range(1, 1 + settings.averaged_blocks)
                self._keep_if_better([evaluate(point.unconstrained, n)[0] for n in numbers])
                return

    def _evaluator(self, first: int, size: StepSize) -> Evaluator:
        """Return the function that takes a block of steps; `number` tells which draws it has."""
        sites, steps = self._problem.model.sites, self.schedule.steps

        def evaluate(
            unconstrained: VariationalParameters, number: int
        ) -> tuple[VariationalParameters, float]:
            params = constrained_arrays(sites, unconstrained)
            block = self._block(params, first + number * steps, size, ())
            elbos = _elbos_of(block)
            self._polishing_elbos.append(elbos)
            return block.average, float(np.median(elbos))

        return evaluate

    def _keep_if_better(self, polished: list[VariationalParameters]) -> None:
        """Keep these blocks' average as the result, unless its elbo is clearly lower."""
        average = convergence.average_parameters(self._problem.model.sites, polished)
        gain = elbo_differences.elbo_gain(self._problem, self.average(), average)
        if gain.at_most > 0.0:
            self._polished = polished

    def statistics_are_inaccurate(self, is_over: bool) -> bool:
        """Return whether components have become too narrow for sufficient statistics.

        It is checked at the end of the run, and from time to time: a run that has lost its digits
        may never end.
        """
        settings = self._problem.settings.optimization
        is_time = len(self.blocks) % settings.rounding_check_blocks == 0
        if not (self.schedule.use_statistics and (is_time or is_over)):
            return False
        return not surrogate_statistics_are_accurate(
            self._problem, self.params, settings.step_rounding
        )

    def continue_without_statistics(self) -> None:
        """Go on from here with differences before squares; earlier blocks do not count."""
        self._use_statistics(False)
        self.blocks = self.blocks[-1:]

    def average(self) -> VariationalParameters:
        """Return the parameters at the mean of the run's second half, or of its polished blocks."""
        return convergence.average_parameters(self._problem.model.sites, self._kept())

    def _kept(self) -> list[VariationalParameters]:
        return self._polished or convergence.second_half(self.blocks)

    def result(self, status: Status) -> RunResult:
        """Return what the run has found so far."""
        if not self.blocks:
            return RunResult(read_only_copy(self.params), np.empty(0), -np.inf, status)
        trace = np.concatenate(self.elbos + self._polishing_elbos)
        trace.setflags(write=False)
        elbos = self._polishing_elbos if self._polished else self.elbos
        # The median: a single extreme draw would outweigh all others in a mean.
        elbo = float(np.median(np.concatenate(elbos[-len(self._kept()) :])))
        return RunResult(read_only_copy(self.average()), trace, elbo, status)


def _tolerance(problem: Problem) -> float:
    settings, ratio = problem.settings.optimization, subsample_sd_ratio(problem)
    if ratio == 1.0:
        return settings.tolerance
    return max(settings.subsample_tolerance, settings.tolerance * ratio)


def _elbos_of(block: svi.Block) -> np.ndarray:
    """Return the elbo of each step [steps] in float64, in which their sum is finite if they are."""
    return -block.losses.astype(np.float64)


def read_only_copy(params: VariationalParameters) -> VariationalParameters:
    """Return a copy that cannot be written to."""

    def copy(leaf: Any) -> np.ndarray:
        array = np.array(leaf)
        array.setflags(write=False)
        return array

    return tf.nest.map_structure(copy, params)
