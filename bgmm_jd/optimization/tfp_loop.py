"""An adapter of `tfp.vi.fit_surrogate_posterior` that traces and compiles its step once."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf
import tensorflow_probability as tfp


class LoopProblem(NamedTuple):
    """The arguments of `fit_surrogate_posterior` of the same names."""

    target: Callable[..., tf.Tensor]
    surrogate: Any
    optimizer: Any
    trainable: list[tf.Variable]


def fit_in_loop(problem: LoopProblem, steps: int, **options: Any) -> Any:
    """Take that many steps by `fit_surrogate_posterior`, all of them inside its loop.

    TFP 0.25 takes its first step ahead of the loop, to find out the shapes of what it traces, so
    that XLA compiles the same step twice: by itself and as the body of the loop. That costs seconds
    in each first fit. Here the step ahead of the loop does nothing, and the loop takes all steps.

    Parameters
    ----------
    problem : LoopProblem
    steps : int
    options : of `fit_surrogate_posterior`, such as `sample_size`, `trace_fn` and `seed`.

    Returns
    -------
    What `trace_fn` returns for each step, with a leading axis [steps].

    Raises
    ------
    RuntimeError
        If TFP has not traced a step of its own for the loop: nothing would have moved then.
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
    """The target, the surrogate and the optimiser of TFP's loop, idle in its first step.

    TFP draws from the surrogate once in each step that it traces, or runs in Python, before it asks
    for anything else. So the number of draws asked for says which step it is.
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
        # TFP asks for the gradient in each variable; it is zero here.
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
