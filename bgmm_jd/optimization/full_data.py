"""Second phase for large data sets: Anderson-accelerated passes over all rows.

A subsample of the rows has located the optimum to within some posterior standard deviations. From
there minibatches approach it only as fast as their noise averages out. Here the gradient of the
elbo is that of all rows: each slice of them under two draws of its own, which are antithetic, so
that what is linear in the draws cancels within the slice. With the draws of a slice the same in
every pass, a natural-gradient step is a smooth map, whose fixed point Anderson acceleration finds
in 12 to 22 passes on the measured data sets; they end without it where the elbo does not rise any
more. A few more passes with other draws are averaged, which reduces the noise that the draws of a
single pass leave in the scales.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.random import fold_in
from bgmm_jd.data.rows import DistantRows, as_shared_tensors
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.optimization.accelerated_path import (
    Evaluator,
    PathState,
    accelerated_path,
    beginning_at,
)
from bgmm_jd.optimization.data_pass import (
    PassPlan,
    arguments_of_pass,
    dtype_of_draws,
    pass_program,
    rows_for_pass,
)
from bgmm_jd.optimization.single_run import RunProgress, RunResult, read_only_copy
from bgmm_jd.optimization.source_pass import SourcePasses
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import FullDataSettings
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.evaluation import surrogate_statistics_are_accurate
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    as_parameter_arrays,
    constrained_arrays,
    unconstrained_arrays,
)


class PassesState(NamedTuple):
    """How far passes over all rows have come, and all that the next ones depend on.

    path : from where the accelerated passes go on.
    reached : unconstrained parameters that the last of them has evaluated, or the best of them once
        they have settled.
    elbos : of these passes.
    remaining : distance left after them, in sds.
    images : of the fixed point that they have reached, by passes under other draws.
    """

    path: PathState
    reached: VariationalParameters
    elbos: tuple[float, ...] = ()
    remaining: float = np.inf
    images: tuple[VariationalParameters, ...] = ()


def optimize_full_data(
    problem: Problem,
    start: VariationalParameters,
    seed: tf.Tensor,
    report: Callable[[RunProgress], None],
    elbos_before: np.ndarray,
    limit: int,
    state: PassesState | None = None,
    keep: Callable[[PassesState], None] = lambda state: None,
) -> RunResult:
    """Bring the parameters to the optimum of the elbo of all rows.

    Ctrl-C ends the passes and keeps what they have reached.

    Parameters
    ----------
    problem : Problem
        With all rows.
    start : parameters (constrained) to start from.
    seed : int32 [2]
    report : called after each accelerated pass.
    elbos_before : elbos of earlier steps, which begin the trace.
    limit : number of accelerated passes.
    state : of passes with the same arguments, to go on from.
    keep : called with the state after each pass.
    """
    sites, settings = problem.model.sites, problem.settings.full_data
    if state is None:
        dtype = dtype_of_draws(problem)
        free = tf.nest.map_structure(lambda v: v.astype(dtype), unconstrained_arrays(sites, start))
        path = beginning_at(free)
        state = PassesState(path, path.unconstrained)
    status = Status.STEP_LIMIT
    try:
        evaluate = pass_evaluator(problem, start, seed)
        left = 0 if _has_ended(state, settings) else limit - len(state.elbos)
        for point in itertools.islice(accelerated_path(problem, evaluate, state.path), left):
            if point.ahead is None:
                status = Status.DIVERGED
                break
            elbos = (*state.elbos, point.elbo)
            state = PassesState(point.ahead, point.unconstrained, elbos, point.remaining)
            if _has_settled(elbos, settings):
                state = state._replace(reached=state.path.plain_step[0])
            keep(state)
            report(RunProgress(len(elbos_before) + len(elbos), point.elbo, point.remaining))
            if _has_ended(state, settings):
                break
        if _has_ended(state, settings):
            for later in _passes_under_other_draws(problem, evaluate, state):
                state = later
                keep(state)
            status = Status.CONVERGED
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    free = _average(state.images) if status is Status.CONVERGED else state.reached
    params = tf.nest.map_structure(
        lambda v: v.astype(problem.data.dtype), constrained_arrays(sites, free)
    )
    trace = np.array([*elbos_before, *state.elbos])
    trace.setflags(write=False)
    candidates = state.elbos if _has_settled(state.elbos, settings) else trace[-1:]
    elbo = float(max(candidates, default=-np.inf))
    return RunResult(read_only_copy(params), trace, elbo, status)


def _has_ended(state: PassesState, settings: FullDataSettings) -> bool:
    """Return whether the passes have reached a fixed point, or have settled."""
    is_near = state.remaining < settings.tolerance  # NaN is not near
    return is_near or _has_settled(state.elbos, settings)


def _has_settled(elbos: tuple[float, ...], settings: FullDataSettings) -> bool:
    """Return whether the last passes have hardly raised the elbo.

    Where components overlap so much that they share the rows of a cluster in nearly any way, the
    optimum is a long valley, in which steps of several sds follow each other and gain nothing.
    """
    before, last = elbos[: -settings.settled_passes], elbos[-settings.settled_passes :]
    return len(before) > 0 and max(last) - max(before) < settings.settled_gain


def _passes_under_other_draws(
    problem: Problem, evaluate: Evaluator, state: PassesState
) -> Iterator[PassesState]:
    """Yield the state after each scan of passes from the fixed point, not fitted to their draws."""
    numbers = range(1 + len(state.images), 1 + passes_to_average(problem))
    for found in _together(evaluate, state.reached, numbers):
        images = (as_parameter_arrays(image) for image, _ in found)
        state = state._replace(images=(*state.images, *images))
        yield state


def _together(
    evaluate: Evaluator, unconstrained: VariationalParameters, numbers: Sequence[int]
) -> Iterator[list[tuple[Any, float]]]:
    """Yield the results of passes from the same parameters, those of one scan of the rows each."""
    if isinstance(evaluate, SourcePasses):
        return evaluate.together(unconstrained, numbers)
    return ([evaluate(unconstrained, number)] for number in numbers)


def _average(images: tuple[VariationalParameters, ...]) -> VariationalParameters:
    return tf.nest.map_structure(lambda *leaves: np.mean(leaves, axis=0), *images)


def full_data_elbo(
    problem: Problem, params: VariationalParameters, seed: tf.Tensor
) -> tuple[float, float]:
    """Return the elbo of all rows, in standardised units, and its standard error.

    From passes that each have draws of their own.
    """
    evaluate = pass_evaluator(problem, params, seed)
    unconstrained = unconstrained_arrays(problem.model.sites, params)
    numbers = range(passes_to_average(problem) // 2)
    found = [elbo for some in _together(evaluate, unconstrained, numbers) for _, elbo in some]
    return float(np.mean(found)), float(np.std(found, ddof=1) / len(found) ** 0.5)


def passes_to_average(problem: Problem) -> int:
    """Return the number of passes whose parameters are averaged at the end."""
    settings = problem.settings.full_data
    by_rows = min(settings.most_averaged_passes, settings.averaged_rows // problem.data.shape[0])
    return max(settings.averaged_passes, by_rows)


def pass_evaluator(problem: Problem, params: VariationalParameters, seed: tf.Tensor) -> Evaluator:
    """Make the function that runs one pass over all rows.

    Parameters
    ----------
    params : near which the passes stay; they decide whether sufficient statistics are accurate.
    seed : int32 [2]
    """
    is_sample = problem.data.sampling_fraction < 1.0  # of a source, whose programs read it too
    if is_sample or isinstance(problem.data.kept_rows, DistantRows):
        return SourcePasses(problem, params, seed)
    plan, covariance = plan_passes(problem, params), problem.model.covariance
    program = pass_program(problem.model, plan)
    rows = as_shared_tensors(rows_for_pass(problem.data.rows, plan, covariance))

    def evaluate(unconstrained: VariationalParameters, number: int) -> tuple[Any, float]:
        arguments = arguments_of_pass(problem, plan, unconstrained, fold_in(seed, number))
        found = program(rows, *arguments)
        return tf.nest.map_structure(lambda t: t.numpy(), found.unconstrained), float(found.elbo)

    return evaluate


def plan_passes(problem: Problem, params: VariationalParameters) -> PassPlan:
    """Choose how the rows are dealt to slices, and whether their statistics are kept."""
    N, D = problem.data.shape
    settings = problem.settings.full_data
    slices = min(settings.slices, N)
    parts = math.ceil(N / (slices * settings.longest_part))
    size = math.ceil(N / (slices * parts))
    use_statistics = surrogate_statistics_are_accurate(problem, params)
    numbers = N * quadratic_likelihood.number_of_statistics(D, problem.model.covariance)
    keep = use_statistics and numbers <= settings.kept_statistics
    draws = dtype_of_draws(problem)
    return PassPlan(slices, parts, size, use_statistics, keep, draws, problem.execution)
