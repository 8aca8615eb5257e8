"""The compiled loop of stochastic variational inference, and the variables that it moves.

A `Program` is one compiled function with its variables: it assigns parameters to them, lets
`fit_surrogate_posterior` move them, and returns their values. Programs are cached, so that a second
fit with the same shapes and the same prior compiles nothing.
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
from bgmm_jd.data.units import Standardization
from bgmm_jd.optimization.optimizers import Adam, NaturalGradient, zero_moments
from bgmm_jd.optimization.tfp_loop import LoopProblem, fit_in_loop
from bgmm_jd.variational.log_joint import log_joint
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    map_parameters,
    trainable_variables,
)
from bgmm_jd.variational.structure import Model, StandardizedModel
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky


class Schedule(NamedTuple):
    """What a program is compiled for.

    batches : how an epoch is cut.
    draws : per step.
    steps : per call.
    use_statistics : whether the likelihood is a matrix product: see `quadratic_likelihood`.
    """

    batches: Batches
    draws: int
    steps: int
    dtype: str
    execution: str
    optimizer: str = "natural"
    use_statistics: bool = False


class Block(NamedTuple):
    """The result of one call of a program, as arrays.

    params : parameters after the last step (constrained).
    average : their unconstrained coordinates, averaged over the block's steps.
    losses [steps] : the negative elbo of each step, in nats for the whole data set.
    opt_state : the optimiser's averages of gradients, for the next block.
    """

    params: VariationalParameters
    average: VariationalParameters
    losses: np.ndarray
    opt_state: tuple[Any, ...]


class Program:
    """One compiled function and the variables that it moves."""

    def __init__(self, model: Model, schedule: Schedule):
        self._model, self._schedule = model, schedule
        self._variables = trainable_variables(model.sites, schedule.dtype)
        self._unconstrained = map_parameters(
            lambda _, v: v.pretransformed_input, model.sites, self._variables
        )
        self._opt_state = zero_moments(self._unconstrained) if schedule.optimizer == "adam" else []
        self._step = tf.Variable(0, dtype=tf.int32)
        self._lock = threading.Lock()
        self._call = compiled(self._run, schedule.execution)

    def run(
        self,
        rows: Rows,
        standardization: Standardization,
        params: VariationalParameters,
        seed: tf.Tensor,
        first: int,
        size: StepSize,
        opt_state: tuple[Any, ...] = (),
    ) -> Block:
        """Take the program's number of steps from the given parameters.

        Parameters
        ----------
        rows : N of them, as tensors.
        standardization : the argument of `model.standardized`: between standardised units and
            those of the prior, as tensors.
        params : (constrained) to start from.
        seed : int32 [2], the same for all blocks of a run.
        first : number of steps taken before, which determines the batches and draws to come.
        size : how far the steps go.
        opt_state : of the block before; empty for the first.
        """
        if not opt_state:
            opt_state = tf.nest.map_structure(lambda v: np.zeros(v.shape), tuple(self._opt_state))
        dtype = self._schedule.dtype
        arguments = (
            rows,
            standardization,
            tf.nest.map_structure(lambda v: tf.convert_to_tensor(v, dtype), params),
            seed,
            tf.constant(first, tf.int32),
            StepSize(*(tf.constant(v, dtype) for v in size)),
            tf.nest.map_structure(lambda v: tf.convert_to_tensor(v, dtype), opt_state),
        )
        with self._lock:
            return Block(*tf.nest.map_structure(lambda t: t.numpy(), self._call(*arguments)))

    def _run(
        self,
        rows: Rows,
        standardization: Standardization,
        params: VariationalParameters,
        seed: tf.Tensor,
        first: tf.Tensor,
        size: StepSize,
        opt_state: tuple[Any, ...],
    ) -> tuple[Any, ...]:
        model = self._model.standardized(standardization)
        assigned = [self._step.assign(first)]
        for variable, value in self._pairs(params):
            assigned.append(variable.assign(value))
        averages = tf.nest.flatten(tuple(self._opt_state))
        for variable, value in zip(averages, tf.nest.flatten(opt_state), strict=True):
            assigned.append(variable.assign(value))
        with tf.control_dependencies([tf.convert_to_tensor(a) for a in assigned]):
            losses, paths = self._fit(model, rows, seed, size)
        average = tf.nest.map_structure(lambda path: tf.reduce_mean(path, axis=0), paths)
        last = map_parameters(
            lambda constraint, path: constraint.forward(path[-1]), model.sites, paths
        )
        opt_state = tf.nest.map_structure(lambda v: v.read_value(), tuple(self._opt_state))
        return last, average, losses, opt_state

    def _pairs(self, params: VariationalParameters) -> Iterator[tuple[Any, tf.Tensor]]:
        for site in self._model.sites:
            for name in site.family.constraints:
                yield self._variables[site.name][name], params[site.name][name]

    def _fit(
        self, model: StandardizedModel, rows: Rows, seed: tf.Tensor, size: StepSize
    ) -> tuple[Any, Any]:
        schedule = self._schedule

        def target(*draws: tf.Tensor, **_: Any) -> tf.Tensor:  # TFP's seed is not needed
            theta = with_cholesky(model, draws)
            batch = self._batch(rows, seed)
            return log_joint(
                model,
                theta,
                batch,
                schedule.batches.count,
                statistics=model.dtype if schedule.use_statistics else None,
            )

        def step_seed() -> tf.Tensor:
            # `batch_indices` uses offsets with across=0, so that 1 keeps the streams apart.
            return offset_seed(seed, self._step.read_value(), 1)

        problem = LoopProblem(
            target,
            training_surrogate(model, self._variables, step_seed),
            self._optimizer(model, size),
            tf.nest.flatten(self._unconstrained),
        )
        return fit_in_loop(
            problem,
            schedule.steps,
            sample_size=schedule.draws,
            trace_fn=lambda step: (
                step.loss,
                tf.nest.map_structure(tf.convert_to_tensor, self._unconstrained),
            ),
            seed=seed,  # TFP demands one; `training_surrogate` has its own
        )

    def _optimizer(self, model: StandardizedModel, size: StepSize) -> NaturalGradient | Adam:
        if self._schedule.optimizer == "adam":
            return Adam(tf.nest.flatten(self._unconstrained), self._opt_state, size, self._step)
        return NaturalGradient(model.sites, self._variables, size, self._step)

    def _batch(self, rows: Rows, seed: tf.Tensor) -> Rows:
        batches = self._schedule.batches
        if batches.count == 1:
            return rows
        indices, is_real = batch_indices(batches, self._step.read_value(), seed)
        batch = gather_rows(rows, indices)
        weight = tf.cast(is_real, rows.values.dtype)
        return batch._replace(weight=weight if rows.weight is None else weight * batch.weight)


@functools.lru_cache(maxsize=32)
def program(model: Model, schedule: Schedule) -> Program:
    """Return the program for a model and its shapes, made at the first call and kept after it."""
    start_tensorflow()
    return Program(model, schedule)
