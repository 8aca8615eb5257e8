"""The compiled loop: values become variables, `fit_surrogate_posterior` moves them, values return.

The only file with variables and an optimizer. A `Program` is one compiled function with the
variables that it moves; programs are kept, so that a second fit with the same shapes and the
same prior compiles nothing.
"""

import functools
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import offset_seed
from bgmm_jd.backend.startup_log import start_tensorflow
from bgmm_jd.data.minibatches import Batches, batch_indices
from bgmm_jd.data.rows import Rows, gather_rows
from bgmm_jd.data.units import Standardization, as_standardization_tensors
from bgmm_jd.optimization.optimizers import Adam, NaturalGradient, zero_moments
from bgmm_jd.optimization.tfp_loop import LoopProblem, fit_in_loop
from bgmm_jd.variational.log_joint import log_joint
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    map_parameters,
    trainable_variables,
)
from bgmm_jd.variational.structure import Model
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky


class Schedule(NamedTuple):
    """What a program is compiled for.

    expanded : whether the likelihood is a matrix product: see `quadratic`.
    """

    batches: Batches
    draws: int
    steps: int
    dtype: str
    execution: str
    optimizer: str = "natural"
    use_statistics: bool = False


class Block(NamedTuple):
    """What one call of a program brings back, as arrays.

    values : parameters after the last step (constrained).
    average : their unconstrained coordinates, averaged over the block's steps.
    losses [steps] : the negative elbo of each step, in nats for the whole data set.
    memory : what the optimizer remembers of its gradients, for the next block.
    """

    values: VariationalParameters
    average: VariationalParameters
    losses: np.ndarray
    memory: tuple[Any, ...]


class Program:
    """One compiled function and the variables that it moves."""

    def __init__(self, model: Model, schedule: Schedule):
        self._model, self._schedule = model, schedule
        self._variables = trainable_variables(model.sites, schedule.dtype)
        self._held = map_parameters(
            lambda _, v: v.pretransformed_input, model.sites, self._variables
        )
        self._memory = zero_moments(self._held) if schedule.optimizer == "adam" else []
        self._step = tf.Variable(0, dtype=tf.int32)
        self._lock = threading.Lock()
        self._call = compiled(self._run, schedule.execution)

    def run(
        self,
        rows: Rows,
        units: Standardization,
        values: VariationalParameters,
        seed: tf.Tensor,
        first: int,
        stride: StepSize,
        memory: tuple[Any, ...] = (),
    ) -> Block:
        """Take the program's number of steps from the given values.

        Parameters
        ----------
        rows : N of them, as tensors.
        units : the prior's units, against which the rows are centred and scaled.
        values : parameters (constrained) to start from.
        seed : int32 [2], the same for all blocks of a run.
        first : number of steps taken before, which fixes the batches and draws that come.
        memory : that of the block before; none for the first.
        """
        if not memory:
            memory = tf.nest.map_structure(lambda v: np.zeros(v.shape), tuple(self._memory))
        dtype = self._schedule.dtype
        arguments = (
            rows,
            as_standardization_tensors(units, dtype),
            tf.nest.map_structure(lambda v: tf.convert_to_tensor(v, dtype), values),
            seed,
            tf.constant(first, tf.int32),
            StepSize(*(tf.constant(v, dtype) for v in stride)),
            tf.nest.map_structure(lambda v: tf.convert_to_tensor(v, dtype), memory),
        )
        with self._lock:
            return Block(*tf.nest.map_structure(lambda t: t.numpy(), self._call(*arguments)))

    def _run(self, rows, units, values, seed, first, stride, memory):
        sites = self._model.sites
        started = [self._step.assign(first)]
        for variable, value in self._pairs(values):
            started.append(variable.assign(value))
        remembered = tf.nest.flatten(tuple(self._memory))
        for variable, value in zip(remembered, tf.nest.flatten(memory), strict=True):
            started.append(variable.assign(value))
        with tf.control_dependencies([tf.convert_to_tensor(s) for s in started]):
            losses, paths = self._fit(rows, units, seed, stride)
        average = tf.nest.map_structure(lambda path: tf.reduce_mean(path, axis=0), paths)
        last = map_parameters(lambda constraint, path: constraint.forward(path[-1]), sites, paths)
        memory = tf.nest.map_structure(lambda v: v.read_value(), tuple(self._memory))
        return last, average, losses, memory

    def _pairs(self, values: VariationalParameters) -> Iterator[tuple[Any, tf.Tensor]]:
        for site in self._model.sites:
            for name in site.family.constraints:
                yield self._variables[site.name][name], values[site.name][name]

    def _fit(self, rows, units, seed, stride):
        model, schedule = self._model, self._schedule

        def target(*draws, **_):  # TFP offers a seed; the batch has its own
            theta = with_cholesky(model.sites, draws)
            batch = self._batch(rows, seed)
            count, use_statistics = schedule.batches.count, schedule.use_statistics
            return log_joint(model, theta, units, batch, count, use_statistics=use_statistics)

        def step_seed():
            # `batch_indices` has the seeds across which this is 0.
            return offset_seed(seed, self._step.read_value(), 1)

        problem = LoopProblem(
            target,
            training_surrogate(model.sites, self._variables, units, step_seed),
            self._optimizer(stride),
            tf.nest.flatten(self._held),
        )
        return fit_in_loop(
            problem,
            schedule.steps,
            sample_size=schedule.draws,
            trace_fn=lambda step: (
                step.loss,
                tf.nest.map_structure(tf.convert_to_tensor, self._held),
            ),
            seed=seed,  # only a token: `joint_in_training` has its own
        )

    def _optimizer(self, stride: StepSize) -> NaturalGradient | Adam:
        if self._schedule.optimizer == "adam":
            return Adam(tf.nest.flatten(self._held), self._memory, stride, self._step)
        return NaturalGradient(self._model.sites, self._variables, stride, self._step)

    def _batch(self, rows, seed):
        batches = self._schedule.batches
        if batches.count == 1:
            return rows
        indices, real = batch_indices(batches, self._step.read_value(), seed)
        batch = gather_rows(rows, indices)
        weight = tf.cast(real, rows.values.dtype)
        return batch._replace(weight=weight if rows.weight is None else weight * batch.weight)


@functools.lru_cache(maxsize=32)
def program(model: Model, schedule: Schedule) -> Program:
    """The program for this model and these shapes: made at the first call, kept after it."""
    start_tensorflow()
    return Program(model, schedule)
