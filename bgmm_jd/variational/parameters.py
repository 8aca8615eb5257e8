"""The parameters of a surrogate: starting values, variables, unconstrained coordinates."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp
from tensorflow_probability import bijectors as tfb

from bgmm_jd.variational.coordinates import bijector_to_standardized, coordinate_shape
from bgmm_jd.variational.family import Family, Parameters
from bgmm_jd.variational.structure import Site, StandardizedModel

# Site name -> parameter name -> tensor, array or variable.
VariationalParameters = Mapping[str, Parameters]


def parameters_from_moments(
    model: StandardizedModel, moments: Mapping[str, tuple[Any, Any]]
) -> VariationalParameters:
    """Return parameters with given means and standard deviations, as tensors.

    Parameters
    ----------
    model : StandardizedModel
    moments : mapping of variable name to (mean, standard deviation)
        In standardised units, each of the variable's shape. Of vectors it may have the lower
        Cholesky factor of the covariance matrix in place of the standard deviation.

    Raises
    ------
    ValueError
        If a mean is outside the support of its variable.
    """
    params = {}
    for site in model.sites:
        mean, sd = (tf.convert_to_tensor(m, model.dtype) for m in moments[site.name])
        if sd.shape.rank > mean.shape.rank:  # a Cholesky factor
            if site.bijector is None:
                params[site.name] = site.family.from_factor(mean, sd)
                continue
            sd = tf.norm(sd, axis=-1)
        if site.bijector is not None:
            mean, sd = _unconstrained_moments(bijector_to_standardized(site), mean, sd)
            if not (np.isfinite(mean).all() and np.isfinite(sd).all()):
                raise ValueError(
                    f"prior's variable '{site.name}' has no density at the values that X suggests "
                    "to start from. Widen its support, or check the units of the prior."
                )
        params[site.name] = site.family.from_moments(mean, sd)
    return params


def _unconstrained_moments(
    bijector: tfb.Bijector, mean: tf.Tensor, sd: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return location and scale on the real line; a finite difference suffices for a start."""
    loc = bijector.inverse(mean)
    if loc.shape == mean.shape:
        if bijector.forward_min_event_ndims == 0:
            return loc, _change_by(bijector, loc, mean, sd)
        # Features that are mapped together are moved one by one: moved at once they may cancel.
        each = tf.unstack(tf.eye(mean.shape[-1], dtype=mean.dtype))
        changes = [_change_by(bijector, loc, mean, sd * one) for one in each]
        return loc, tf.norm(tf.stack(changes), axis=0)
    # One scale for all coordinates of a vector, such that the volume stays that of the entries.
    log_det = bijector.inverse_log_det_jacobian(mean, event_ndims=len(mean.shape))
    size = tf.cast(tf.size(loc), mean.dtype)
    log_sd = tf.reduce_mean(tf.math.log(sd[sd > 0.0]))
    return loc, tf.exp(log_sd + log_det / size) * tf.ones_like(loc)


def _change_by(bijector: tfb.Bijector, loc: tf.Tensor, mean: tf.Tensor, sd: tf.Tensor) -> tf.Tensor:
    """Return how far coordinates move from loc if the variable moves by an sd from its mean."""
    above, below = (tf.abs(bijector.inverse(mean + sign * sd) - loc) for sign in (1.0, -1.0))
    # Where the support ends within an sd, use the other side, and 1 if both sides end.
    one_side = tf.where(tf.math.is_finite(above), above, below)
    return tf.where(tf.math.is_finite(one_side), one_side, 1.0)


def map_parameters(
    function: Callable[..., Any], sites: tuple[Site, ...], *params: VariationalParameters
) -> VariationalParameters:
    """Apply `function(constraint, leaf, ...)` to every parameter of the surrogate."""
    return {
        site.name: {
            name: function(constraint, *(p[site.name][name] for p in params))
            for name, constraint in site.family.constraints.items()
        }
        for site in sites
    }


def trainable_variables(sites: tuple[Site, ...], dtype: Any) -> VariationalParameters:
    """Make a `tfp.util.TransformedVariable` for each parameter, to be assigned a start."""
    return {
        site.name: {
            name: tfp.util.TransformedVariable(tf.ones(shape, dtype), site.family.constraints[name])
            for name, shape in parameter_shapes(site).items()
        }
        for site in sites
    }


def trainable_parameters(family: Family, parameters: Parameters, prefix: str) -> Parameters:
    """Make a variable of each parameter that a family trains, starting at the present value.

    Parameters
    ----------
    prefix : str
        The variables are named `prefix_parameter`.
    """
    return {
        name: tfp.util.TransformedVariable(v, family.constraints[name], name=f"{prefix}_{name}")
        if name in family.constraints
        else v
        for name, v in parameters.items()
    }


def parameter_shapes(site: Site) -> Mapping[str, tuple[int, ...]]:
    """Return the shape of each parameter of the member for a site."""
    if site.bijector is None:
        return site.family.parameter_shapes(site.shape)
    return site.family.parameter_shapes(coordinate_shape(site))


def unconstrained_arrays(
    sites: tuple[Site, ...], params: VariationalParameters
) -> VariationalParameters:
    """Return the unconstrained coordinates of parameters, as arrays."""
    return map_parameters(lambda constraint, v: constraint.inverse(v).numpy(), sites, params)


def from_unconstrained(
    sites: tuple[Site, ...], free: VariationalParameters
) -> VariationalParameters:
    """Return the parameters at unconstrained coordinates."""
    return map_parameters(lambda constraint, v: constraint.forward(v), sites, free)


def constrained_arrays(
    sites: tuple[Site, ...], free: VariationalParameters
) -> VariationalParameters:
    """Return what `from_unconstrained` does, as arrays, by NumPy where possible.

    A TFP bijector takes a millisecond outside of a compiled function.
    """
    with np.errstate(over="ignore"):  # a run may leave the dtype's range, as it may in TensorFlow
        return map_parameters(_constrained, sites, free)


def _constrained(constraint: tfb.Bijector, free: np.ndarray) -> np.ndarray:
    known = _NUMPY_FORWARD.get(type(constraint))
    return constraint.forward(free).numpy() if known is None else known(free)


def _with_exponential_diagonal(free: np.ndarray) -> np.ndarray:
    value, places = free.copy(), np.arange(free.shape[-1])
    value[..., places, places] = np.exp(free[..., places, places])
    return value


# By type: the diagonal that a family transforms is always that of logarithms.
_NUMPY_FORWARD: dict[type, Callable[[np.ndarray], np.ndarray]] = {
    tfb.Identity: np.asarray,
    tfb.Exp: np.exp,
    tfb.TransformDiagonal: _with_exponential_diagonal,
}


def between(
    here: VariationalParameters, there: VariationalParameters, fraction: float
) -> VariationalParameters:
    """Return parameters so far on the straight way from some to others, as arrays."""
    return tf.nest.map_structure(lambda h, t: (h + fraction * (t - h)).astype(h.dtype), here, there)


def as_parameter_tensors(params: VariationalParameters) -> VariationalParameters:
    """Return parameters as tensors."""
    return {
        site: {name: tf.convert_to_tensor(v) for name, v in parameters.items()}
        for site, parameters in params.items()
    }


def as_parameter_arrays(params: VariationalParameters) -> VariationalParameters:
    """Return parameters as arrays: arithmetic makes numbers of those without axes."""
    return {
        site: {name: np.asarray(v) for name, v in parameters.items()}
        for site, parameters in params.items()
    }
