"""A step along the natural gradient of the elbo, and how far it may go."""

from typing import Any, NamedTuple

import tensorflow as tf

from bgmm_jd.variational.family import Parameters
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
        p, slope = params[site.name], gradient[site.name][name]
        wanted = -size.rate * direction[site.name][name]
        # A single draw outside the range of the prior's dtype must not end the run.
        is_finite = tf.math.is_finite(wanted)
        wanted = tf.where(is_finite, wanted, 0.0)
        if site.family.has_matrix_parameter and name != "excess":
            slope = tf.where(is_finite, slope, 0.0)
            return _shortened(name, p, wanted, -size.rate * slope * wanted, size)
        longest = size.longest_loc * p["scale"] if name == "loc" else size.longest_log
        return tf.clip_by_value(wanted, -longest, longest)

    return {site.name: {name: step(site, name) for name in direction[site.name]} for site in sites}


def _shortened(
    name: str, p: Parameters, step: tf.Tensor, products: tf.Tensor, size: StepSize
) -> tf.Tensor:
    """Return the step of a parameter of a matrix family, within limits and in its direction.

    Limits of single entries would turn the step, and D^2 entries at their limits together are a
    step of a length that grows with D. The whole step is shortened instead, to sqrt(D) times the
    limit of a number. Its squared length is step^T F step = -rate gradient^T step, with F the
    Fisher information: for a location in its posterior sds, for a Cholesky factor C that of T in
    dC = C T.

    Parameters
    ----------
    products : -rate * gradient * step, entry by entry: their sum is that square.
    """
    axes = [-1] if name == "loc" else [-2, -1]
    squares = tf.reduce_sum(products, axis=axes, keepdims=True)
    features = step.shape[-1]
    if name == "mean_tril":
        squares /= (p["excess"] + (features - 1.0))[..., tf.newaxis, tf.newaxis]
    most = features**0.5 * (size.longest_loc if name == "loc" else size.longest_log)
    return step * tf.minimum(most * tf.math.rsqrt(tf.maximum(squares, 1e-30)), 1.0)
