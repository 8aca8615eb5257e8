"""What is saved of a prior: its arguments, or a proof by which the same coroutine is recognised.

A coroutine is code, which no file holds. The priors that the library makes are made again of their
arguments. Of a prior of the user's own, a few draws with their log density are kept.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from tensorflow_probability import distributions as tfd

from bgmm_jd.model.covariance_forms import check_covariance, scale_shape
from bgmm_jd.model.priors import IndependentVariables, PriorArguments, prior_of_arguments
from bgmm_jd.model.weakly_informative_prior import (
    WeaklyInformativeArguments,
    weakly_informative_prior_of,
)

_DRAWS = 3


class PriorMismatchError(ValueError):
    """The prior that is passed is missing, or is not that of the fit."""


class OwnPrior(NamedTuple):
    """Draws of a prior of the user's own.

    draws : by variable [3, ...].
    log_density : of each, in nats: [3].
    """

    draws: Mapping[str, np.ndarray]
    log_density: np.ndarray


PriorRecord = PriorArguments | WeaklyInformativeArguments | OwnPrior


def is_own(prior: tfd.JointDistributionCoroutine) -> bool:
    """Return whether a prior was written by the user."""
    return not isinstance(prior.model, IndependentVariables)


def record_of(prior: tfd.JointDistributionCoroutine) -> PriorRecord:
    """Return what is saved of a prior."""
    if not is_own(prior):
        return prior.model.arguments
    draws = prior.sample(_DRAWS, seed=(0, 0))
    by_name = {name: v.numpy() for name, v in draws._asdict().items()}
    return OwnPrior(by_name, prior.log_prob(draws).numpy())


def prior_of_record(record: PriorRecord, own: Any, most: int) -> tfd.JointDistributionCoroutine:
    """Return the prior of a record.

    Parameters
    ----------
    record : PriorRecord
    own : tfd.JointDistributionCoroutine or None
        The prior that the user has passed.
    most : numbers that one of its variables may have.

    Raises
    ------
    PriorMismatchError
        If the user's prior is needed, and is missing or another.
    ValueError
        If the arguments in the record are not those of a prior.
    """
    if isinstance(record, OwnPrior):
        _check_same_prior(own, record)
        return own
    if own is not None:
        raise PriorMismatchError(
            "prior must be left out: the file has the arguments of the prior of the fit, which is "
            "not one of your own."
        )
    K, D = record.shape if isinstance(record, PriorArguments) else (record.K, record.D)
    check_covariance(record.covariance)
    shape = scale_shape(record.covariance, K, D)
    if not (K > 0 and D > 0 and max(K * D, math.prod(shape)) <= most):
        raise ValueError(f"the prior has K={K} and D={D}, and the file is too small for that")
    if record.dtype not in ("float32", "float64"):
        raise ValueError(f"the prior has the dtype {record.dtype!r}")
    if isinstance(record, PriorArguments):
        return prior_of_arguments(record)
    return weakly_informative_prior_of(record)


def _check_same_prior(prior: Any, record: OwnPrior) -> None:
    """Raise unless the prior has the variables and the log density of the record."""
    if prior is None:
        raise PriorMismatchError(
            "the posterior was fitted under a prior of your own, whose code is not in the file. "
            "Pass the same coroutine: bgmm_jd.load(path, prior=...)."
        )
    shapes = {name: (v.shape[1:], v.dtype.name) for name, v in record.draws.items()}
    own = prior.sample(seed=(0, 0))._asdict()
    found = {name: (tuple(v.shape), v.dtype.name) for name, v in own.items()}
    if found != shapes:
        raise PriorMismatchError(
            f"prior must have the variables of the fit, {shapes}; it has {found}. Pass the same "
            "coroutine as to fit."
        )
    log_density = prior.log_prob(*(record.draws[name] for name in own)).numpy()
    if not _agree(log_density, record.log_density):
        raise PriorMismatchError(
            f"prior must have the log density of the fit's, {record.log_density.tolist()} at three "
            f"draws; it has {log_density.tolist()}. Pass the same coroutine, with the same values, "
            "as to fit."
        )


def _agree(found: np.ndarray, expected: np.ndarray) -> bool:
    """Return whether log densities agree to half of their digits.

    Another machine or version may round each of very many terms differently.
    """
    half = float(np.finfo(expected.dtype).eps ** 0.5)
    return np.allclose(found, expected, rtol=half, atol=half, equal_nan=True)
