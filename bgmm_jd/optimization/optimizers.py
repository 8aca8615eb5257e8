"""Optimizers in the form that `tfp.vi.fit_surrogate_posterior` expects."""

from typing import Any, NamedTuple

import tensorflow as tf

from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import VariationalParameters, map_parameters
from bgmm_jd.variational.structure import Site

OPTIMIZERS = ("natural", "adam")
_ADAM_RATE = 0.02  # the length of a step in internal units, where columns have sd 1, and in logs


class NaturalGradient:
    """An optimizer, as `fit_surrogate_posterior` wants one, that steps along F^-1 gradient.

    F is the Fisher information of the surrogate (Amari 1998; Hoffman et al. 2013), closed form
    for each of its members. One step of size 1 on the whole data is a Newton step where the
    components do not overlap.
    """

    def __init__(
        self,
        sites: tuple[Site, ...],
        values: VariationalParameters,
        stride: StepSize,
        step: tf.Variable,
    ):
        self._sites, self._values = sites, values
        self._stride, self._step = stride, step

    def apply_gradients(self, grads_and_vars: Any) -> tf.Operation:
        """Move each variable by one step, and count the step."""
        by_variable = {v.ref(): g for g, v in grads_and_vars}
        gradient = map_parameters(
            lambda _, v: by_variable[v.pretransformed_input.ref()], self._sites, self._values
        )
        now = map_parameters(lambda _, v: tf.convert_to_tensor(v), self._sites, self._values)
        change = natural_step(self._sites, now, gradient, self._stride)
        moved = map_parameters(
            lambda _, v, by: v.pretransformed_input.assign_add(by),
            self._sites,
            self._values,
            change,
        )
        return tf.group(self._step.assign_add(1), *tf.nest.flatten(moved))


class AdamMoments(NamedTuple):
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
        memory: list[AdamMoments],
        stride: StepSize,
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


def zero_moments(held: VariationalParameters) -> list[AdamMoments]:
    """Make the decaying averages of each variable, at zero."""
    return [
        AdamMoments(*(tf.Variable(tf.zeros(v.shape, v.dtype)) for _ in range(2)))
        for v in tf.nest.flatten(held)
    ]
