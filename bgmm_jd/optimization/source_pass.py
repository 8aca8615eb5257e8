"""A pass over the rows of a source: the sums of `data_pass`, chunk by chunk, by whoever adds them.

The draws are made and the step is taken in the present process. Between the two, each part of the
rows needs no more than the draws, as plain arrays, to add up its log likelihood and the slope of
that in the draws. Row n is read under pair n mod `slices`, as in memory.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.free_memory import return_free_memory
from bgmm_jd.backend.random import fold_in
from bgmm_jd.data.rows import DistantRows, Rows, as_row_tensors
from bgmm_jd.data.units import Standardization
from bgmm_jd.optimization.accelerated_path import Evaluator
from bgmm_jd.optimization.data_pass import (
    Pass,
    PassPlan,
    draws_of_pass,
    likelihood_by_slice,
    pass_over,
    rows_for_pass,
)
from bgmm_jd.sources.chunks import Chunk
from bgmm_jd.sources.reader import Statistic
from bgmm_jd.sources.standardized import standardized_chunk
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.evaluation import surrogate_statistics_are_accurate
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model


class ChunkPlan(NamedTuple):
    """What a worker needs to know of a pass, beside the draws: plain values.

    passes : of a chunk, whose slices have one part each.
    covariance : the form.
    standardization, unread, is_complete : as in `standardized_chunk`.
    """

    passes: PassPlan
    covariance: str
    standardization: Standardization
    unread: np.ndarray | None
    is_complete: bool


class PassSums(NamedTuple):
    """Sums over rows, in float64.

    likelihood [2 slices] : the log likelihood under each draw.
    slope : its derivatives by what the likelihood reads of the draws.
    """

    likelihood: np.ndarray
    slope: Any

    def plus(self, other: "PassSums") -> "PassSums":
        """Return the sums over the rows of both."""
        return tf.nest.map_structure(np.add, self, other)


def source_pass_evaluator(
    problem: Problem, params: VariationalParameters, seed: tf.Tensor
) -> Evaluator:
    """Make the function that runs one pass over all rows of a source: see `pass_evaluator`."""
    plan = _plan_chunks(problem, params)
    reader = _rows_of(problem).reader
    draw, step = (make(problem.model, plan.passes) for make in (_draws_program, _step_program))

    def evaluate(unconstrained: VariationalParameters, number: int) -> tuple[Any, float]:
        # New tensors defeat TFP's bijector cache.
        fresh = tf.nest.map_structure(tf.constant, unconstrained)
        common = fresh, problem.prior_standardization, fold_in(seed, number)
        draws = tf.nest.map_structure(lambda t: t.numpy(), draw(*common))
        sums = sum_over(reader.results(statistic_of_pass(plan, draws)))
        slope = tf.nest.map_structure(
            lambda s, v: tf.constant(s.astype(v.dtype)), sums.slope, draws
        )
        found = step(*common, tf.constant(sums.likelihood), slope)
        return tf.nest.map_structure(lambda t: t.numpy(), found.unconstrained), float(found.elbo)

    return evaluate


def _rows_of(problem: Problem) -> DistantRows:
    rows = problem.data.kept_rows
    assert isinstance(rows, DistantRows)  # what `pass_evaluator` asks before it calls
    return rows


def _plan_chunks(problem: Problem, params: VariationalParameters) -> ChunkPlan:
    """Choose how chunks are read."""
    rows, settings = _rows_of(problem), problem.settings
    use_statistics = surrogate_statistics_are_accurate(problem, params)
    passes = PassPlan(
        settings.full_data.slices,
        1,
        rows.reader.chunk_rows // settings.full_data.slices,
        use_statistics,
        False,
        problem.execution,
    )
    return ChunkPlan(
        passes,
        problem.model.covariance,
        problem.data.standardization,
        problem.data.unread,
        rows.is_complete,
    )


def statistic_of_pass(plan: ChunkPlan, draws: Any) -> Statistic:
    """Return what each part of the rows computes under draws, given as arrays."""
    return Statistic(
        functools.partial(_as_slices, plan=plan),
        functools.partial(_sums_of_chunks, plan=plan, draws=draws),
    )


def _as_slices(chunk: Chunk, *, plan: ChunkPlan) -> Rows:
    """Return a chunk as the compiled program reads it."""
    rows = standardized_chunk(chunk, plan.standardization, plan.unread, plan.is_complete)
    return rows_for_pass(rows, plan.passes, plan.covariance)


def _sums_of_chunks(chunks: Iterable[Rows], *, plan: ChunkPlan, draws: Any) -> PassSums:
    program = _chunk_program(plan.covariance, plan.passes)
    tensors = tf.nest.map_structure(tf.constant, draws)

    def sums(rows: Rows) -> PassSums:
        found = program(tensors, as_row_tensors(rows))
        return tf.nest.map_structure(lambda t: t.numpy().astype(np.float64), found)

    found = sum_over(map(sums, chunks))
    return_free_memory()
    return found


def sum_over(sums: Iterable[PassSums]) -> PassSums:
    """Add sums in the order in which they come."""
    return functools.reduce(PassSums.plus, sums)


@functools.lru_cache(maxsize=32)
def _chunk_program(covariance: str, plan: PassPlan) -> Callable[..., PassSums]:
    """Make the compiled sums over a chunk: (draws, rows) -> `PassSums`."""

    def run(draws: Any, rows: Rows) -> PassSums:
        likelihood, slope = likelihood_by_slice(covariance, plan, draws, rows)
        return PassSums(tf.reshape(tf.transpose(likelihood), [-1]), slope)

    return compiled(run, plan.execution)


@functools.lru_cache(maxsize=32)
def _draws_program(model: Model, plan: PassPlan) -> Callable[..., Any]:
    """Make the compiled draws of a pass: (unconstrained, standardization, seed) -> draws."""
    return compiled(functools.partial(draws_of_pass, model, plan), plan.execution)


@functools.lru_cache(maxsize=32)
def _step_program(model: Model, plan: PassPlan) -> Callable[..., Pass]:
    """Make the compiled step: (unconstrained, standardization, seed, *sums) -> `Pass`."""

    def run(
        unconstrained: VariationalParameters,
        standardization: Standardization,
        seed: tf.Tensor,
        likelihood: tf.Tensor,
        slope: Any,
    ) -> Pass:
        return pass_over(
            model, plan, unconstrained, standardization, seed, lambda _: (likelihood, slope)
        )

    return compiled(run, plan.execution)
