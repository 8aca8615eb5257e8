"""Optimisers in the form that `tfp.vi.fit_surrogate_posterior` expects."""

from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import VariationalParameters, map_parameters
from bgmm_jd.variational.structure import Site

Optimizer = Literal["natural", "adam"]
OPTIMIZERS: tuple[str, ...] = get_args(Optimizer)
# Length of a step in standardised units, where columns have sd 1, and in logs: the averaged
# iterates reach the natural gradient's optimum (tests/optimization/test_optimizers.py).
ADAM_STEP = 0.02


class NaturalGradient:
    """Natural-gradient steps, F^-1 times the gradient.

    F is the Fisher information of the surrogate (Amari 1998; Hoffman et al. 2013), in closed form
    for each of its members. One step of size 1 on the whole data is a Newton step where the
    components do not overlap.

    Parameters
    ----------
    params : `TransformedVariable` of each parameter.
    size : how far the steps go.
    step : the variable that counts steps.
    """

    def __init__(
        self,
        sites: tuple[Site, ...],
        params: VariationalParameters,
        size: StepSize,
        step: tf.Variable,
    ):
        self._sites, self._params = sites, params
        self._size, self._step = size, step

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        """Move each variable by one step, and count the step."""
        by_variable = {v.ref(): g for g, v in grads_and_vars}
        gradient = map_parameters(
            lambda _, v: by_variable[v.pretransformed_input.ref()], self._sites, self._params
        )
        now = map_parameters(lambda _, v: tf.convert_to_tensor(v), self._sites, self._params)
        change = natural_step(self._sites, now, gradient, self._size)
        moved = map_parameters(
            lambda _, v, by: v.pretransformed_input.assign_add(by),
            self._sites,
            self._params,
            change,
        )
        return tf.group(self._step.assign_add(1), *tf.nest.flatten(moved))


class AdamMoments(NamedTuple):
    """Decaying averages of the gradient of one variable and of its square."""

    mean: tf.Variable
    square: tf.Variable


class Adam:
    """Adam (Kingma and Ba 2015) with its usual decays, in the unconstrained parameters.

    It does not use the surrogate's geometry, and takes many more steps than `NaturalGradient`.

    Parameters
    ----------
    unconstrained : the variables that it moves.
    moments : of each of them.
    size : how far the steps go.
    step : the variable that counts steps.
    """

    def __init__(
        self,
        unconstrained: list[tf.Variable],
        moments: list[AdamMoments],
        size: StepSize,
        step: tf.Variable,
    ):
        self._moments = {v.ref(): m for v, m in zip(unconstrained, moments, strict=True)}
        self._size, self._step = size, step

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        """Move each variable by one step, and count the step."""
        taken = self._step.assign_add(1)
        moved = []
        for gradient, variable in grads_and_vars:
            moments = self._moments[variable.ref()]
            gradient = tf.where(tf.math.is_finite(gradient), gradient, 0.0)
            mean = moments.mean.assign(0.9 * moments.mean + 0.1 * gradient)
            square = moments.square.assign(0.999 * moments.square + 0.001 * gradient**2)
            time = tf.cast(taken, gradient.dtype)
            unbiased = mean / (1.0 - 0.9**time)
            scale = tf.sqrt(square / (1.0 - 0.999**time)) + 1e-8
            moved.append(variable.assign_sub(ADAM_STEP * self._size.rate * unbiased / scale))
        return tf.group(taken, *moved)


def zero_moments(unconstrained: VariationalParameters) -> list[AdamMoments]:
    """Make the decaying averages of each variable, at zero."""
    return [
        AdamMoments(*(tf.Variable(tf.zeros(v.shape, v.dtype)) for _ in range(2)))
        for v in tf.nest.flatten(unconstrained)
    ]
