"""A pass over the rows of a source: the sums of `data_pass`, chunk by chunk, by whoever adds them.

A sample of a source, which is in memory, is read in the same chunks, by the same programs.

The draws are made and the step is taken in the present process. Between the two, each part of the
rows needs no more than the draws, as plain arrays, to add up its log likelihood and the slope of
that in the draws. Row n is read under pair n mod `slices`, as in memory.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import fold_in
from bgmm_jd.data.rows import DistantRows, Rows, as_row_tensors, take_rows
from bgmm_jd.data.units import Standardization
from bgmm_jd.optimization.data_pass import (
    Pass,
    PassPlan,
    arguments_of_pass,
    draws_of_pass,
    dtype_of_draws,
    likelihood_by_slice,
    pass_over,
    rows_for_pass,
)
from bgmm_jd.sources.chunks import Chunk, rows_of_chunk
from bgmm_jd.sources.reader import Statistic
from bgmm_jd.sources.standardized import padded_patterns, standardized_chunk
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


class SourcePasses:
    """Passes over a source or its sample, from unconstrained parameters and a number of the draws.

    Parameters
    ----------
    problem : Problem
    params : near which the passes stay: see `pass_evaluator`.
    seed : int32 [2]
    """

    def __init__(self, problem: Problem, params: VariationalParameters, seed: tf.Tensor):
        self._problem, self._seed = problem, seed
        self._plan = _plan_chunks(problem, params)
        self._sums_of = _sums_over_rows(problem, self._plan)
        model, passes = problem.model, self._plan.passes
        self._draw, self._step = _draws_program(model, passes), _step_program(model, passes)

    def __call__(self, unconstrained: VariationalParameters, number: int) -> tuple[Any, float]:
        """Return the parameters after one pass, and the elbo before it."""
        return self._scan([self._arguments(unconstrained, number)])[0]

    def together(
        self, unconstrained: VariationalParameters, numbers: Sequence[int]
    ) -> Iterator[list[tuple[Any, float]]]:
        """Yield the results of passes from the same parameters, those of each scan in a list.

        Each scan of the rows serves as many of them as may have their draws in memory at a time.
        The bits are those of one pass after the other.
        """
        arguments = [self._arguments(unconstrained, number) for number in numbers]
        size = sum(leaf.size for leaf in tf.nest.flatten(_as_arrays(self._draw(*arguments[0]))))
        most = max(1, self._problem.settings.sources.numbers_of_draws // size)
        for first in range(0, len(arguments), most):
            yield self._scan(arguments[first : first + most])

    def _arguments(self, unconstrained: VariationalParameters, number: int) -> tuple[Any, ...]:
        seed = fold_in(self._seed, number)
        return arguments_of_pass(self._problem, self._plan.passes, unconstrained, seed)

    def _scan(self, arguments: Sequence[tuple[Any, ...]]) -> list[tuple[Any, float]]:
        """Read all rows once, for passes with these arguments."""
        draws = tuple(_as_arrays(self._draw(*one)) for one in arguments)
        return list(map(self._stepped, arguments, draws, self._sums_of(draws)))

    def _stepped(self, arguments: tuple[Any, ...], draws: Any, sums: PassSums) -> tuple[Any, float]:
        """Return the step that the sums under some draws call for, and the elbo."""
        slope = tf.nest.map_structure(
            lambda s, v: tf.constant(s.astype(v.dtype)), sums.slope, draws
        )
        found = self._step(*arguments, tf.constant(sums.likelihood), slope)
        return _as_arrays(found.unconstrained), float(found.elbo)


def _as_arrays(tensors: Any) -> Any:
    return tf.nest.map_structure(lambda t: t.numpy(), tensors)


def _plan_chunks(problem: Problem, params: VariationalParameters) -> ChunkPlan:
    """Choose how chunks are read."""
    data, settings = problem.data, problem.settings
    slices = settings.full_data.slices
    passes = PassPlan(
        slices,
        1,
        rows_of_chunk(data.shape[1], slices, settings.sources) // slices,
        surrogate_statistics_are_accurate(problem, params),
        False,
        dtype_of_draws(problem),
        problem.execution,
    )
    return ChunkPlan(
        passes, problem.model.covariance, data.standardization, data.unread, data.is_complete
    )


def _sums_over_rows(
    problem: Problem, plan: ChunkPlan
) -> Callable[[tuple[Any, ...]], tuple[PassSums, ...]]:
    """Return the function that adds up all rows under sets of draws."""
    kept = problem.data.kept_rows
    if isinstance(kept, DistantRows):
        reader = kept.reader
        return lambda draws: sum_over(reader.results(statistic_of_pass(plan, draws)))
    rows, size = problem.data.rows, plan.passes.slices * plan.passes.size
    if not plan.is_complete:
        rows = rows._replace(missing=padded_patterns(rows))
    parts = (take_rows(rows, slice(first, first + size)) for first in range(0, rows.shape[0], size))
    chunks = [rows_for_pass(part, plan.passes, plan.covariance) for part in parts]
    return lambda draws: _sums_of_chunks(chunks, plan=plan, draws=draws)


def statistic_of_pass(plan: ChunkPlan, draws: tuple[Any, ...]) -> Statistic:
    """Return what each part of the rows computes under sets of draws, given as arrays."""
    return Statistic(
        functools.partial(_as_slices, plan=plan),
        functools.partial(_sums_of_chunks, plan=plan, draws=draws),
    )


def _as_slices(chunk: Chunk, *, plan: ChunkPlan) -> Rows:
    """Return a chunk as the compiled program reads it."""
    rows = standardized_chunk(chunk, plan.standardization, plan.unread, plan.is_complete)
    return rows_for_pass(rows, plan.passes, plan.covariance)


def _sums_of_chunks(
    chunks: Iterable[Rows], *, plan: ChunkPlan, draws: tuple[Any, ...]
) -> tuple[PassSums, ...]:
    program = _chunk_program(plan.covariance, plan.passes)
    sets = [tf.nest.map_structure(tf.constant, one) for one in draws]

    def sums(rows: Rows) -> tuple[PassSums, ...]:
        tensors = as_row_tensors(rows)
        found = [program(one, tensors) for one in sets]
        return tf.nest.map_structure(lambda t: t.numpy().astype(np.float64), tuple(found))

    return sum_over(map(sums, chunks))


def sum_over(sums: Iterable[tuple[PassSums, ...]]) -> tuple[PassSums, ...]:
    """Add the sums of each set of draws in the order in which they come."""

    def added(a: tuple[PassSums, ...], b: tuple[PassSums, ...]) -> tuple[PassSums, ...]:
        return tuple(map(PassSums.plus, a, b))

    return functools.reduce(added, sums)


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
