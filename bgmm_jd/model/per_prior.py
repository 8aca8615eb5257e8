"""What is computed once for each prior, and the TensorFlow variables that forbid it."""

import functools
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bgmm_jd.model.priors import IndependentVariables


def cached_per_prior(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Cache a function of a prior, or of the model of one, unless the prior has variables.

    Variables may change between calls, so the function is then called anew each time.

    Parameters
    ----------
    function : callable
        Takes one hashable argument that has an attribute `variables`.
    """
    cached = functools.lru_cache(maxsize=64)(function)

    @functools.wraps(function)
    def call(prior: Any) -> Any:
        return function(prior) if _has_variables(prior) else cached(prior)

    return call


def variables_of_prior(prior: Any) -> tuple[tf.Variable, ...]:
    """Return the TensorFlow variables that a prior, or the model of one, reads.

    TFP draws from a joint distribution to find them, which traces loops. The coroutine of a prior
    that the library has made knows its own.
    """
    coroutine = getattr(prior, "model", None)
    if isinstance(coroutine, IndependentVariables):
        return coroutine.variables
    found: tuple[tf.Variable, ...] = prior.variables
    return found


@functools.lru_cache(maxsize=64)
def _has_variables(prior: Any) -> bool:
    """Return whether there are variables: cached, as the search for them takes long."""
    return bool(variables_of_prior(prior))
