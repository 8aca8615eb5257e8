"""An adapter of `tfp.vi.fit_surrogate_posterior` that compiles its step once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp


class LoopProblem(NamedTuple):
    """What `fit_surrogate_posterior` is given: see there."""

    target: Callable[..., tf.Tensor]
    surrogate: Any
    optimizer: Any
    trainable: list[tf.Variable]


def fit_in_loop(problem: LoopProblem, steps: int, **options: Any) -> Any:
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
    idle = _IdleFirstStep(problem)
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


class _IdleFirstStep:
    """Target, surrogate and optimizer at once, which do nothing in the first step.

    TFP draws once in each step that it traces, or runs in Python, and before all else.
    """

    def __init__(self, problem: LoopProblem):
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
