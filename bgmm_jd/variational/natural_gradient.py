"""A step along the natural gradient of the elbo, and how far it may go."""

from typing import Any, NamedTuple

import tensorflow as tf

from bgmm_jd.variational.families import Parameters
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Site


class StepSize(NamedTuple):
    """How far a step goes: numbers outside the compiled loop, tensors inside.

    rate : 1 is a full natural-gradient step.
    longest_loc : the most that a location moves, in its posterior sds.
    longest_log : the most that the log of a scale, a concentration or a mean moves.
    """

    rate: Any
    longest_loc: Any
    longest_log: Any


def natural_gradient(
    sites: tuple[Site, ...], params: VariationalParameters, gradient: VariationalParameters
) -> VariationalParameters:
    """Multiply a gradient by the inverse Fisher information of the surrogate, site by site.

    Parameters
    ----------
    params : constrained.
    gradient : derivatives by the unconstrained parameters; the result is in the same ones.
    """
    return {s.name: s.family.natural_gradient(params[s.name], gradient[s.name]) for s in sites}


def natural_step(
    sites: tuple[Site, ...],
    params: VariationalParameters,
    gradient: VariationalParameters,
    size: StepSize,
) -> VariationalParameters:
    """Return what each unconstrained parameter moves by: -rate F^-1 gradient, within limits.

    Parameters
    ----------
    params : constrained, as tensors.
    gradient : of the loss, by the unconstrained parameters.
    """
    direction = natural_gradient(sites, params, gradient)

    def step(site: Site, name: str) -> tf.Tensor:
        wanted = -size.rate * direction[site.name][name]
        # A single draw outside the range of the prior's dtype must not end the run.
        wanted = tf.where(tf.math.is_finite(wanted), wanted, 0.0)
        longest = _longest(name, params[site.name], size)
        return tf.clip_by_value(wanted, -longest, longest)

    return {site.name: {name: step(site, name) for name in direction[site.name]} for site in sites}


def _longest(name: str, parameters: Parameters, size: StepSize) -> Any:
    if name == "loc":
        return size.longest_loc * _sd_of_location(parameters)
    if name in ("mean_tril", "scale_tril"):
        return size.longest_log * cholesky_step_scale(parameters[name])
    return size.longest_log


def _sd_of_location(parameters: Parameters) -> Any:
    if "scale" in parameters:
        return parameters["scale"]
    return tf.norm(parameters["scale_tril"], axis=-1)


def cholesky_step_scale(tril: tf.Tensor) -> tf.Tensor:
    """Return the natural scale of a unit change of each entry of a Cholesky factor.

    Its diagonal is parameterised by the logarithm, and has the scale 1. An entry below it has the
    length of its row: a change by that much turns the row.
    """
    length = tf.norm(tril, axis=-1, keepdims=True) * tf.ones_like(tril)
    return tf.linalg.set_diag(length, tf.ones_like(tf.linalg.diag_part(tril)))
