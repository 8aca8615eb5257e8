"""TFP's loop without the step that it takes ahead of the loop."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import distributions as tfd

from bgmm_jd.optimization.tfp_loop import LoopProblem, fit_in_loop

STEPS = 5


class Descent:
    """Plain gradient descent."""

    def apply_gradients(self, grads_and_vars):
        return tf.group(*(v.assign_sub(0.25 * g) for g, v in grads_and_vars))


def descended(execution):
    """Return losses and locations of a Normal that descends to another, and the number of traces.

    Both have sd 1, and the gradient of their divergence is the distance of their means.
    """
    loc = tf.Variable(4.0)
    surrogate = tfd.JointDistributionSequential([tfd.Normal(loc, 1.0)])
    traced = []

    def target(x, seed=None):
        traced.append(seed)
        return tfd.Normal(0.0, 1.0).log_prob(x)

    def run():
        return fit_in_loop(
            LoopProblem(target, surrogate, Descent(), [loc]),
            STEPS,
            sample_size=2_000,
            trace_fn=lambda step: (step.loss, tf.convert_to_tensor(loc)),
            seed=(1, 2),
        )

    if execution == "eager":
        return *run(), len(traced)
    return *tf.function(run, jit_compile=execution == "xla", autograph=False)(), len(traced)


@pytest.mark.parametrize("execution", ["graph", "xla"])
def test_loop_takes_all_steps_and_traces_one(execution):
    """Each step goes a quarter of the way. Five standard errors of a gradient's 2,000 draws."""
    losses, path, traced = descended(execution)
    assert losses.shape == path.shape == (STEPS,)
    np.testing.assert_allclose(path, 4.0 * 0.75 ** np.arange(1, STEPS + 1), atol=5 / 2_000**0.5)
    np.testing.assert_allclose(losses[0], 8.0, atol=5 * 4 / 2_000**0.5)  # |4|^2 / 2 nats
    assert traced == 1


def test_loop_takes_all_steps_eagerly():
    losses, path, _ = descended("eager")
    np.testing.assert_allclose(path, 4.0 * 0.75 ** np.arange(1, STEPS + 1), atol=5 / 2_000**0.5)
    assert len(losses) == STEPS


def test_loop_without_a_step_of_its_own_is_an_error(monkeypatch):
    """As it would be if TFP traced only its first step and repeated that."""

    def one_step(target, surrogate, num_steps, **options):
        del target, options
        surrogate.experimental_sample_and_log_prob([1])
        return tf.zeros([num_steps])

    monkeypatch.setattr(tfp.vi, "fit_surrogate_posterior", one_step)
    problem = LoopProblem(lambda: 0.0, None, Descent(), [tf.Variable(1.0)])
    with pytest.raises(RuntimeError, match="no step"):
        fit_in_loop(problem, 3)
