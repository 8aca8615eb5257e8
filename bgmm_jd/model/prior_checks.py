"""Checks that a prior describes K components in D dimensions."""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.model.covariance_forms import MATRIX_FORMS, fits_form, forms_with_shape, scale_shape


def check_prior(prior: Any, K: int, D: int, covariance: str = "diag") -> str:
    """Check that `prior` is a coroutine whose variables describe K components in D dimensions.

    Parameters
    ----------
    covariance : the form wanted; "diag", as the default, leaves it to the prior's shape.

    Returns
    -------
    The form of covariance that the shape of `precisions` or `scales` has.

    Raises
    ------
    TypeError
        If it is not a `tfd.JointDistributionCoroutine`.
    ValueError
        If a variable is missing, the shape or type of one does not match, or it vectorizes itself.
    """
    if not isinstance(prior, tfd.JointDistributionCoroutine):
        raise TypeError(
            f"prior must be a tfd.JointDistributionCoroutine; got {type(prior).__name__}. "
            "bgmm_jd.mixture_prior(K, D) makes one."
        )
    if prior.batch_ndims is not None:
        raise ValueError(
            f"prior must leave the axes of its draws to its members; a {type(prior).__name__} with "
            f"batch_ndims={prior.batch_ndims} does not. Yield the same distributions in a plain "
            "tfd.JointDistributionCoroutine, with Root around those that depend on no others."
        )
    for name, batch_shape in prior.batch_shape._asdict().items():
        if batch_shape != []:
            raise ValueError(
                f"prior's variable '{name}' must have batch shape []; got {batch_shape}. "
                "Wrap its distribution in tfd.Independent or tfd.Sample."
            )
    shapes = variable_shapes(prior)
    spread = [name for name in ("precisions", "scales") if name in shapes]
    missing = [name for name in ("weights", "means") if name not in shapes]
    if missing or len(spread) != 1:
        raise ValueError(
            "prior must have the variables 'weights' [K], 'means' [K, D] and one of 'precisions' "
            f"and 'scales'; it has {sorted(shapes)}. name= of a distribution names it."
        )
    for name, expected in (("weights", (K,)), ("means", (K, D))):
        if shapes[name] != expected:
            raise ValueError(
                f"prior's variable '{name}' must have shape {list(expected)} for K={K} and X with "
                f"{D} columns; it has {list(shapes[name])}."
            )
    draws = _check_several_draws(prior)
    return _check_form(spread[0], draws[spread[0]], K, D, covariance)


def _check_form(name: str, draws: np.ndarray, K: int, D: int, covariance: str) -> str:
    """The form of covariance that draws of `precisions` or `scales` have, by shape and values."""
    shape = draws.shape[1:]
    forms = forms_with_shape(shape, K, D)
    if not forms:
        raise ValueError(
            f"prior's variable '{name}' must have shape [K, D], [K, 1] (spherical), [D, D] (tied) "
            f"or [K, D, D] (full) for K={K} and X with {D} columns; it has {list(shape)}."
        )
    forms = [form for form in forms if fits_form(name, draws, form)]
    if not forms:
        matrix = "symmetric positive definite" if name == "precisions" else "lower triangular"
        raise ValueError(
            f"prior's variable '{name}' must be positive, or a matrix that is {matrix}; its draws "
            "are neither."
        )
    if "tied" in forms and D > 1:
        forms = ["tied"]  # no variances of K = D components happen to be symmetric
    if covariance in forms:
        return covariance
    if covariance == "diag":  # the default
        return forms[0]
    raise ValueError(
        f"covariance={covariance!r} needs a prior whose '{name}' has shape "
        f"{list(scale_shape(covariance, K, D))}"
        f"{' of symmetric matrices' if covariance in MATRIX_FORMS else ''}; it has {list(shape)}, "
        f"which is {forms[0]!r}."
    )


def _check_several_draws(prior: tfd.JointDistributionCoroutine) -> dict[str, np.ndarray]:
    """Some draws; a distribution that depends on a variable must take several of it at once."""
    advice = (
        "prior must take several draws at once. Where a distribution depends on a variable v, "
        "give v[..., tf.newaxis] as many new axes as the distribution has of its own."
    )
    try:
        draws = prior.sample(3, seed=(0, 0))
        density = prior.log_prob(draws)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(advice) from error
    if density.shape != (3,):
        raise ValueError(f"{advice} The density of 3 draws has shape {list(density.shape)}.")
    return {name: v.numpy() for name, v in draws._asdict().items()}


def variable_shapes(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[int, ...]]:
    """The event shape of each variable, by name, in the coroutine's order."""
    shapes = prior.event_shape_tensor()._asdict()
    return {name: tuple(int(n) for n in tf.get_static_value(s)) for name, s in shapes.items()}
