"""The compiled loop: values become variables, `fit_surrogate_posterior` moves them, values return.

The only file with variables and an optimizer. A `Program` is one compiled function with the
variables that it moves; programs are kept, so that a second fit with the same shapes and the
same prior compiles nothing.
"""

import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import offset
from bgmm_jd.backend.startup_log import start_tensorflow
from bgmm_jd.data.rows import Rows, gather
from bgmm_jd.data.standardize import Batches, batch_indices
from bgmm_jd.data.units import Units, as_tensors
from bgmm_jd.variational.log_joint import Model, log_joint
from bgmm_jd.variational.natural_gradient import Stride, natural_step
from bgmm_jd.variational.surrogate import (
    Site,
    Values,
    joint_in_training,
    map_values,
    variables,
    with_roots,
)


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
    expanded: bool = False


class Block(NamedTuple):
    """What one call of a program brings back, as arrays.

    values : parameters after the last step (constrained).
    average : their unconstrained coordinates, averaged over the block's steps.
    losses [steps] : the negative elbo of each step, in nats for the whole data set.
    memory : what the optimizer remembers of its gradients, for the next block.
    """

    values: Values
    average: Values
    losses: np.ndarray
    memory: tuple[Any, ...]


OPTIMIZERS = ("natural", "adam")
_ADAM_RATE = 0.02  # the length of a step in internal units, where columns have sd 1, and in logs


class NaturalGradient:
    """An optimizer, as `fit_surrogate_posterior` wants one, that steps along F^-1 gradient.

    F is the Fisher information of the surrogate (Amari 1998; Hoffman et al. 2013), closed form
    for each of its members. One step of size 1 on the whole data is a Newton step where the
    components do not overlap.
    """

    def __init__(self, sites: tuple[Site, ...], values: Values, stride: Stride, step: tf.Variable):
        self._sites, self._values = sites, values
        self._stride, self._step = stride, step

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        """Move each variable by one step, and count the step."""
        by_variable = {v.ref(): g for g, v in grads_and_vars}
        gradient = map_values(
            lambda _, v: by_variable[v.pretransformed_input.ref()], self._sites, self._values
        )
        now = map_values(lambda _, v: tf.convert_to_tensor(v), self._sites, self._values)
        change = natural_step(self._sites, now, gradient, self._stride)
        moved = map_values(
            lambda _, v, by: v.pretransformed_input.assign_add(by),
            self._sites,
            self._values,
            change,
        )
        return tf.group(self._step.assign_add(1), *tf.nest.flatten(moved))


class Moments(NamedTuple):
    """Decaying averages of the gradient of one variable and of its square."""

    mean: tf.Variable
    square: tf.Variable


class Adam:
    """Adam (Kingma and Ba 2015) with its usual decays, in the unconstrained parameters.

    Knows nothing of the surrogate's geometry, so it takes many more steps than `NaturalGradient`.
    """

    def __init__(
        self,
        held: list[tf.Variable],
        memory: list[Moments],
        stride: Stride,
        step: tf.Variable,
    ):
        self._of = {v.ref(): m for v, m in zip(held, memory, strict=True)}
        self._stride, self._step = stride, step

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        """Move each variable by one step, and count the step."""
        taken = self._step.assign_add(1)
        moved = []
        for gradient, variable in grads_and_vars:
            moments = self._of[variable.ref()]
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            mean = moments.mean.assign(0.9 * moments.mean + 0.1 * gradient)
            square = moments.square.assign(0.999 * moments.square + 0.001 * gradient**2)
            time = tf.cast(taken, gradient.dtype)
            unbiased = mean / (1.0 - 0.9**time)
            size = tf.sqrt(square / (1.0 - 0.999**time)) + 1e-8
            moved.append(variable.assign_sub(_ADAM_RATE * self._stride.rate * unbiased / size))
        return tf.group(taken, *moved)


class Program:
    """One compiled function and the variables that it moves."""

    def __init__(self, model: Model, schedule: Schedule):
        self._model, self._schedule = model, schedule
        self._variables = variables(model.sites, schedule.dtype)
        self._held = map_values(lambda _, v: v.pretransformed_input, model.sites, self._variables)
        self._memory = _moments(self._held) if schedule.optimizer == "adam" else []
        self._step = tf.Variable(0, dtype=tf.int32)
        self._lock = threading.Lock()
        self._call = compiled(self._run, schedule.execution)

    def run(
        self,
        rows: Rows,
        units: Units,
        values: Values,
        seed: tf.Tensor,
        first: int,
        stride: Stride,
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
            as_tensors(units, dtype),
            tf.nest.map_structure(lambda v: tf.convert_to_tensor(v, dtype), values),
            seed,
            tf.constant(first, tf.int32),
            Stride(*(tf.constant(v, dtype) for v in stride)),
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
        last = map_values(lambda constraint, path: constraint.forward(path[-1]), sites, paths)
        memory = tf.nest.map_structure(lambda v: v.read_value(), tuple(self._memory))
        return last, average, losses, memory

    def _pairs(self, values: Values) -> Iterator[tuple[Any, tf.Tensor]]:
        for site in self._model.sites:
            for name in site.family.constraints:
                yield self._variables[site.name][name], values[site.name][name]

    def _fit(self, rows, units, seed, stride):
        model, schedule = self._model, self._schedule

        def target(*draws, **_):  # TFP offers a seed; the batch has its own
            theta = with_roots(model.sites, draws)
            batch = self._batch(rows, seed)
            count, expanded = schedule.batches.count, schedule.expanded
            return log_joint(model, theta, units, batch, count, expanded=expanded)

        def step_seed():
            # `batch_indices` has the seeds across which this is 0.
            return offset(seed, self._step.read_value(), 1)

        problem = Problem(
            target,
            joint_in_training(model.sites, self._variables, units, step_seed),
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

    def _optimizer(self, stride: Stride) -> NaturalGradient | Adam:
        if self._schedule.optimizer == "adam":
            return Adam(tf.nest.flatten(self._held), self._memory, stride, self._step)
        return NaturalGradient(self._model.sites, self._variables, stride, self._step)

    def _batch(self, rows, seed):
        batches = self._schedule.batches
        if batches.count == 1:
            return rows
        indices, real = batch_indices(batches, self._step.read_value(), seed)
        batch = gather(rows, indices)
        weight = tf.cast(real, rows.values.dtype)
        return batch._replace(weight=weight if rows.weight is None else weight * batch.weight)


class Problem(NamedTuple):
    """What `fit_surrogate_posterior` is given: see there."""

    target: Callable[..., tf.Tensor]
    surrogate: Any
    optimizer: Any
    trainable: list[tf.Variable]


def fit_in_loop(problem: Problem, steps: int, **options: Any) -> Any:
    """Take so many steps by `fit_surrogate_posterior`, with nothing before its loop.

    It takes its first step ahead of the loop, for what that tells of shapes, and so the same step
    is traced and compiled twice, once by itself and once as the body of the loop: seconds of each
    first fit. Here the step ahead moves nothing and costs nothing, and the loop takes all those
    asked for. Returns what `trace_fn` makes of each, [steps, ...].

    Parameters
    ----------
    options : of `fit_surrogate_posterior`, such as `sample_size`, `trace_fn` and `seed`.

    Raises
    ------
    RuntimeError
        If TFP has taken no step of its own for the loop: then all would stay where it is.
    """
    idle = _Idle(problem)
    trace = tfp.vi.fit_surrogate_posterior(
        idle.target,
        idle,
        optimizer=idle,
        num_steps=steps + 1,
        trainable_variables=problem.trainable,
        **options,
    )
    if idle.calls < 2:
        raise RuntimeError("TFP's loop has taken no step apart from its first.")
    return tf.nest.map_structure(lambda t: t[1:], trace)


class _Idle:
    """Target, surrogate and optimizer at once, which do nothing in the first step.

    TFP draws once in each step that it traces, or runs in Python, and before all else.
    """

    def __init__(self, problem: Problem):
        self._problem = problem
        self.calls = 0

    @property
    def reparameterization_type(self) -> Any:
        return self._problem.surrogate.reparameterization_type

    @property
    def log_prob(self) -> Callable[..., tf.Tensor]:
        return self._problem.surrogate.log_prob

    def experimental_sample_and_log_prob(self, shape: Any, seed: Any = None) -> Any:
        self.calls += 1
        if self.calls > 1:
            return self._problem.surrogate.experimental_sample_and_log_prob(shape, seed=seed)
        # TFP wants a gradient, which is zero here, of each variable.
        nothing = tf.add_n([0.0 * tf.reduce_sum(v) for v in self._problem.trainable])
        return (), tf.broadcast_to(nothing, shape)

    def target(self, *draws: tf.Tensor, seed: Any = None) -> tf.Tensor:
        if self.calls > 1:
            return self._problem.target(*draws, seed=seed)
        return tf.zeros([], self._problem.trainable[0].dtype)

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        if self.calls > 1:
            return self._problem.optimizer.apply_gradients(grads_and_vars)
        return tf.no_op()


def _moments(held: Values) -> list[Moments]:
    return [
        Moments(*(tf.Variable(tf.zeros(v.shape, v.dtype)) for _ in range(2)))
        for v in tf.nest.flatten(held)
    ]


@functools.lru_cache(maxsize=32)
def program(model: Model, schedule: Schedule) -> Program:
    """The program for this model and these shapes: made at the first call, kept after it."""
    start_tensorflow()
    return Program(model, schedule)
