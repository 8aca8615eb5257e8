"""The parameters of a surrogate: starting values, variables, unconstrained coordinates."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from bgmm_jd.data.units import Standardization
from bgmm_jd.variational.coordinates import bijector_to_standardized
from bgmm_jd.variational.families import Parameters
from bgmm_jd.variational.structure import Site

VariationalParameters = Mapping[
    str, Parameters
]  # site name -> parameter name -> tensor, array or variable


def parameters_from_moments(
    sites: tuple[Site, ...],
    moments: Mapping[str, tuple[Any, Any]],
    units: Standardization,
    dtype: Any,
) -> VariationalParameters:
    """Parameters whose means and standard deviations are those given, in internal units.

    Parameters
    ----------
    moments : variable name -> (mean, standard deviation), each of the variable's shape.
    """
    values = {}
    for site in sites:
        mean, sd = (tf.convert_to_tensor(m, dtype) for m in moments[site.name])
        if site.bijector is not None:
            mean, sd = _unconstrain(bijector_to_standardized(site, units), mean, sd)
            if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
                raise ValueError(
                    f"prior's variable '{site.name}' has no density at the values that X suggests "
                    "to start from. Widen its support, or check the units of the prior."
                )
        values[site.name] = site.family.start(mean, sd)
    return values


def _unconstrain(
    bijector: tfb.Bijector, mean: tf.Tensor, sd: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Location and scale on the real line; only a start, so a finite difference will do."""
    loc = bijector.inverse(mean)
    if loc.shape == mean.shape:
        above, below = (tf.abs(bijector.inverse(mean + way * sd) - loc) for way in (1.0, -1.0))
        # Where the support ends within an sd, by the other side, or else by some spread.
        one_side = tf.where(tf.math.is_finite(above), above, below)
        return loc, tf.where(tf.math.is_finite(one_side), one_side, 1.0)
    # One spread for all coordinates of a vector: that which keeps the volume, of entries that vary.
    volume = bijector.inverse_log_det_jacobian(mean, event_ndims=len(mean.shape))
    size = tf.cast(tf.size(loc), mean.dtype)
    log_sd = tf.reduce_mean(tf.math.log(sd[sd > 0.0]))
    return loc, tf.exp(log_sd + volume / size) * tf.ones_like(loc)


def map_parameters(
    function: Callable[..., Any], sites: tuple[Site, ...], *values: VariationalParameters
) -> VariationalParameters:
    """Apply `function(constraint, leaf, ...)` to every parameter of the surrogate."""
    return {
        site.name: {
            name: function(constraint, *(v[site.name][name] for v in values))
            for name, constraint in site.family.constraints.items()
        }
        for site in sites
    }


def trainable_variables(sites: tuple[Site, ...], dtype: Any) -> VariationalParameters:
    """A `tfp.util.TransformedVariable` for each parameter, to be assigned a start."""
    return {
        site.name: {
            name: tfp.util.TransformedVariable(tf.ones(shape, dtype), site.family.constraints[name])
            for name, shape in _parameter_shapes(site).items()
        }
        for site in sites
    }


def _parameter_shapes(site: Site) -> Mapping[str, tuple[int, ...]]:
    if site.bijector is None:
        return site.family.shapes(site.shape)
    return site.family.shapes(tuple(site.bijector.inverse_event_shape(site.shape)))


def to_unconstrained(
    sites: tuple[Site, ...], values: VariationalParameters
) -> VariationalParameters:
    """Unconstrained coordinates of the parameters."""
    return map_parameters(lambda constraint, v: constraint.inverse(v), sites, values)


def from_unconstrained(
    sites: tuple[Site, ...], free: VariationalParameters
) -> VariationalParameters:
    """Parameters at unconstrained coordinates."""
    return map_parameters(lambda constraint, v: constraint.forward(v), sites, free)
