"""Checks that a prior describes K components in D dimensions, and in which form of covariance."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.model.covariance_forms import (
    MATRIX_FORMS,
    SCALE_VARIABLES,
    CovarianceForm,
    fits_form,
    forms_with_shape,
    scale_shape,
)

PriorFunction = Callable[..., tfd.JointDistributionCoroutine]  # of K, D and the keyword covariance


def prior_covariance_form(
    prior: Any, K: int, D: int, covariance: CovarianceForm = "diag"
) -> CovarianceForm:
    """Check that a prior describes K components in D dimensions, and return its covariance form.

    Parameters
    ----------
    covariance : the form asked for; "diag", the default, accepts whichever form the prior has.

    Returns
    -------
    The form of covariance that `precisions` or `scales` has, by its shape and values.

    Raises
    ------
    TypeError
        If the prior is not a `tfd.JointDistributionCoroutine`.
    ValueError
        If a variable is missing, has another shape or form than expected or a batch shape, or if
        the prior vectorises itself or cannot take several draws at once.
    """
    _check_coroutine(prior)
    shapes = variable_shapes(prior)
    _check_variables(shapes, K, D)
    name = next(name for name in SCALE_VARIABLES if name in shapes)
    return _form_of_draws(name, _several_draws(prior, shapes)[name], K, D, covariance)


def _check_coroutine(prior: Any) -> None:
    if not isinstance(prior, tfd.JointDistributionCoroutine):
        raise TypeError(
            f"prior must be a tfd.JointDistributionCoroutine; got {type(prior).__name__}. "
            "bgmm_jd.mixture_prior(K, D) makes one."
        )
    if prior.batch_ndims is not None:
        raise ValueError(
            "prior must be a plain tfd.JointDistributionCoroutine, which leaves the axes of its "
            f"draws to its members; got a {type(prior).__name__} with "
            f"batch_ndims={prior.batch_ndims}. Yield the same distributions in a plain "
            "tfd.JointDistributionCoroutine, with Root around those that depend on no others."
        )
    for name, batch_shape in _batch_shapes(prior).items():
        if batch_shape != []:
            raise ValueError(
                f"prior's variable '{name}' must have batch shape []; got {batch_shape}. "
                "Wrap its distribution in tfd.Independent or tfd.Sample."
            )


def _batch_shapes(prior: tfd.JointDistributionCoroutine) -> dict[str, tf.TensorShape]:
    """Return the batch shape of each variable, or raise if a graph cannot have their names."""
    try:
        return prior.batch_shape._asdict()
    except ValueError as error:
        if not re.search("valid (root )?(scope|module) name", str(error)):
            raise
        raise ValueError(
            "prior's distributions must have names of unaccented letters, digits, '_', '.' and '-' "
            "that do not begin with '_' or '-', because TensorFlow accepts no others in a graph. "
            f"Spell out Greek letters, as in 'alpha'. TensorFlow says: {error}"
        ) from error


def _check_variables(shapes: dict[str, tuple[int, ...]], K: int, D: int) -> None:
    """Check that the variables of a mixture are there, and the shapes of weights and means."""
    scale_names = [name for name in SCALE_VARIABLES if name in shapes]
    missing = [name for name in ("weights", "means") if name not in shapes]
    if missing or len(scale_names) != 1:
        raise ValueError(
            "prior must have the variables 'weights' [K], 'means' [K, D] and one of 'precisions' "
            f"and 'scales'; it has {sorted(shapes)}. Name each one with the argument name= of its "
            "distribution."
        )
    for name, expected in (("weights", (K,)), ("means", (K, D))):
        if shapes[name] != expected:
            raise ValueError(
                f"prior's variable '{name}' must have shape {list(expected)} for K={K} and X with "
                f"{D} columns; it has {list(shapes[name])}."
            )


def _form_of_draws(
    name: str, draws: np.ndarray, K: int, D: int, covariance: CovarianceForm
) -> CovarianceForm:
    """Return the form of draws of `precisions` or `scales`, by shape and values, or raise."""
    shape = draws.shape[1:]
    of_shape = forms_with_shape(shape, K, D)
    if not of_shape:
        raise ValueError(
            f"prior's variable '{name}' must have shape [K, D], [K, 1] (spherical), [D, D] (tied) "
            f"or [K, D, D] (full) for K={K} and X with {D} columns; it has {list(shape)}."
        )
    forms = [form for form in of_shape if fits_form(name, draws, form)]
    if not forms:
        matrix = "symmetric positive definite" if name == "precisions" else "lower triangular"
        raise ValueError(
            f"prior's variable '{name}' must be positive, or a matrix that is {matrix}; its draws "
            "are neither."
        )
    if "tied" in forms and D > 1:
        forms = ["tied"]  # variances of K = D components are not symmetric or triangular by chance
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


def _several_draws(
    prior: tfd.JointDistributionCoroutine, shapes: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Return three draws of variables of these shapes, or raise if they cannot be had at once."""
    if not isinstance(next(prior.model()), tfd.JointDistributionCoroutine.Root):
        raise ValueError(_advice_on_several_draws(f"variable '{next(iter(shapes))}'"))
    try:
        draws = prior.sample(3, seed=(0, 0))
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(_advice_on_several_draws("distributions")) from error
    for name, value in draws._asdict().items():
        if value.shape != (3, *shapes[name]):  # which broadcasting may hide from the density
            advice = _advice_on_several_draws(f"variable '{name}'")
            raise ValueError(
                f"{advice} 3 draws of it must have shape "
                f"{[3, *shapes[name]]}; they have {list(value.shape)}."
            )
    try:
        density = prior.log_prob(draws)
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(_advice_on_several_draws("distributions")) from error
    if density.shape != (3,):
        raise ValueError(
            f"{_advice_on_several_draws('distributions')} The density of 3 draws has shape "
            f"{list(density.shape)}."
        )
    return {name: v.numpy() for name, v in draws._asdict().items()}


def _advice_on_several_draws(what: str) -> str:
    return (
        f"prior's {what} must take several draws at once. Put a distribution that depends on no "
        "other variable in tfd.JointDistributionCoroutine.Root(...); where it depends on a "
        "variable v, give v[..., tf.newaxis] as many new axes as the distribution has of its own."
    )


def variable_shapes(prior: tfd.JointDistributionCoroutine) -> dict[str, tuple[int, ...]]:
    """Return the shape of a draw of each variable, by name, in the coroutine's order.

    The event shape of a distribution that is reshaped by `tfb.Reshape([-1, 1])` has -1 in it.
    """
    return {name: tuple(v.shape) for name, v in prior.sample(seed=(0, 0))._asdict().items()}


def prior_of_function(
    function: PriorFunction, K: int, D: int, form: CovarianceForm
) -> tfd.JointDistributionCoroutine:
    """Return the prior that a function makes, or raise ValueError if it is of another form."""
    prior = function(K, D, covariance=form)
    found = prior_covariance_form(prior, K, D, form)
    if found != form:
        raise ValueError(
            f"prior({K}, {D}, covariance={form!r}) made a prior of the form {found!r}."
        )
    return prior
