"""A step along the natural gradient, and how far it may go."""

from typing import Any, NamedTuple

import tensorflow as tf

from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Site


class StepSize(NamedTuple):
    """How far a step goes: numbers outside the compiled loop, tensors inside.

    rate : step size, 1 being a full natural-gradient step.
    longest_loc : the most that a location moves, in its posterior sds.
    longest_log : the most that the log of a scale, a concentration or a mean moves.
    """

    rate: Any
    longest_loc: Any
    longest_log: Any


def natural_step(
    sites: tuple[Site, ...],
    values: VariationalParameters,
    gradient: VariationalParameters,
    stride: StepSize,
) -> VariationalParameters:
    """What each unconstrained parameter moves by: -rate F^-1 gradient, cut to its longest.

    Parameters
    ----------
    values : parameters (constrained), as tensors.
    gradient : of the loss, by the unconstrained parameters.
    """
    direction = natural_gradient(sites, values, gradient)

    def step(site: Site, name: str) -> tf.Tensor:
        wanted = -stride.rate * direction[site.name][name]
        # One draw where the prior is out of the dtype's range must not end the run.
        wanted = tf.where(tf.math.is_finite(wanted), wanted, 0.0)
        longest = _longest(name, values[site.name], stride)
        return tf.clip_by_value(wanted, -longest, longest)

    return {site.name: {name: step(site, name) for name in direction[site.name]} for site in sites}


def _longest(name: str, parameters: Any, stride: StepSize) -> Any:
    if name == "loc":
        return stride.longest_loc * parameters["scale"]
    if name == "mean_tril":
        return stride.longest_log * cholesky_step_scale(parameters["mean_tril"])
    return stride.longest_log


def cholesky_step_scale(tril: tf.Tensor) -> tf.Tensor:
    """What counts as a change by 1 of each entry of a Cholesky factor trained in log diagonal.

    1 on the diagonal, and below it the length of the row: a change that turns it.
    """
    length = tf.norm(tril, axis=-1, keepdims=True) * tf.ones_like(tril)
    return tf.linalg.set_diag(length, tf.ones_like(tf.linalg.diag_part(tril)))


def natural_gradient(
    sites: tuple[Site, ...], values: VariationalParameters, gradient: VariationalParameters
) -> VariationalParameters:
    """Inverse Fisher information of the surrogate times the gradient, site by site.

    Parameters
    ----------
    values : parameters (constrained).
    gradient : derivatives by the unconstrained parameters, and so is what comes back.
    """
    return {s.name: s.family.natural(values[s.name], gradient[s.name]) for s in sites}
