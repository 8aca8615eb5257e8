"""What `fit` starts from where `init` or `start` is given.

Means, labels, probabilities or a posterior as `init`, or a posterior as `start`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb

from bgmm_jd.data.frames import frame_values, is_frame
from bgmm_jd.data.units import as_standardization_tensors
from bgmm_jd.data.validation import as_rows
from bgmm_jd.optimization.clustering import clusters_of_memberships
from bgmm_jd.optimization.initialization import Given
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.surrogate_members import surrogate_members
from bgmm_jd.variational.approximation import Approximation, Problem
from bgmm_jd.variational.members import Member, standardized_parameters
from bgmm_jd.variational.structure import Site

# Far above the rounding of float16, 0.0005, and far below any mistake.
_SUM_TOLERANCE = 1e-3


class Memberships(NamedTuple):
    """The probability [N, K] with which each row of X belongs to each component."""

    probability: np.ndarray


Init = np.ndarray | Memberships | Posterior


def as_init(
    init: Any, shape: tuple[int, int], K: int, form: str, names: tuple[str, ...] | None
) -> Init:
    """Return means [K, D], memberships of the rows or a posterior, from the `init` of `fit`.

    Parameters
    ----------
    init : as `fit` describes it.
    shape : (N, D), of X.
    K : int
    form : str
        Of the covariance.
    names : of the columns of X, if it has any.

    Raises
    ------
    ValueError, TypeError
        If it is none of these for such an X.
    """
    if isinstance(init, Posterior):
        _check_posterior(init, "init", shape[1], K, form, names)
        return init
    N, given = shape[0], _shape(init)
    if len(given) == 1:
        return Memberships(_as_labels(init, N, K)[:, np.newaxis] == np.arange(K))
    if len(given) == 2 and given[0] == N and given != (K, shape[1]):
        return Memberships(_as_probabilities(init, K))
    means = as_rows(init, shape[1], name="init", names=names)
    if len(means) != K:
        raise ValueError(
            f"init must have one row for each of K={K} components; got {len(means)}. Labels and "
            f"probabilities must have one for each of the N={N} rows of X."
        )
    return means


def as_start(start: Any, D: int, K: int, form: str, names: tuple[str, ...] | None) -> Posterior:
    """Return the posterior that a fit goes on from, the `start` of `fit`.

    Parameters
    ----------
    start : as `fit` describes it.
    D, K : int
    form : str
        Of the covariance.
    names : of the columns of X, if it has any.

    Raises
    ------
    ValueError, TypeError
        If it is no posterior of such a mixture of such columns.
    """
    if not isinstance(start, Posterior):
        raise TypeError(
            f"start must be a bgmm_jd.Posterior, which an earlier fit has returned; got "
            f"{type(start).__name__}. To start from means, labels or probabilities use init=."
        )
    _check_posterior(start, "start", D, K, form, names)
    return start


def initial_values(init: Init, problem: Problem, places: np.ndarray, name: str = "init") -> Given:
    """Return what the starts of a problem are made from.

    Parameters
    ----------
    places : of the rows of the problem among those of X.
    name : of the argument of `fit`, for messages.

    Raises
    ------
    ValueError
        If `init` is a posterior of other variables than the prior's.
    """
    if isinstance(init, Memberships):
        return clusters_of_memberships(problem.data.rows, init.probability[places])
    if isinstance(init, Posterior):
        return _parameters_from(init.approximation, problem, name)
    return init


def _shape(init: Any) -> tuple[int, ...]:
    try:
        return tuple(init.shape if hasattr(init, "shape") else np.shape(init))
    except ValueError:  # a ragged list, of which `as_rows` has more to say
        return ()


def _as_labels(init: Any, N: int, K: int) -> np.ndarray:
    """Return the label of each row, or raise."""
    labels = np.asarray(init)
    if labels.shape != (N,):
        raise ValueError(
            "init must be two-dimensional, [K, D] means or [N, K] probabilities, or hold a label "
            f"for each of the N={N} rows of X; got shape {labels.shape}. For means of a single "
            "feature try init.reshape(-1, 1)."
        )
    if labels.dtype.kind not in "iu":
        raise TypeError(
            f"init must hold labels that are integers from 0 to {K - 1}; got dtype {labels.dtype}. "
            "Try numpy.unique(init, return_inverse=True)[1], which numbers labels of any type."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= K))
    if len(wrong):
        raise ValueError(
            f"init must hold labels from 0 to K - 1 = {K - 1}; got {labels[wrong[0]]} in row "
            f"{wrong[0]}. For a row without a label pass probabilities [N, K], in which each of "
            "its entries is 1 / K."
        )
    return labels


def _as_probabilities(init: Any, K: int) -> np.ndarray:
    """Return probabilities [N, K] that sum to 1 in each row, or raise."""
    values = frame_values(init, "init") if is_frame(init) else init
    probability = as_rows(values, name="init").astype(np.float64)
    if probability.shape[1] != K:
        raise ValueError(
            f"init must have the probability of each of K={K} components in its columns, if it has "
            f"a row for each row of X; got {probability.shape[1]} columns."
        )
    total = probability.sum(axis=1)
    wrong = (probability < 0.0).any(axis=1) | ~(np.abs(total - 1.0) <= _SUM_TOLERANCE)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            "init must hold probabilities that are not negative and sum to 1 in each row; got "
            f"{probability[row]} in row {row}. Try init / init.sum(axis=1, keepdims=True)."
        )
    return probability / total[:, np.newaxis]


def _check_posterior(
    posterior: Posterior, name: str, D: int, K: int, form: str, names: Sequence[str] | None
) -> None:
    found = (posterior.K, posterior.D, posterior.covariance)
    if found != (K, D, form):
        raise ValueError(
            f"{name} must be a posterior of K={K} components, {D} features and {form!r} "
            f"covariance; got one of {found[0]}, {found[1]} and {found[2]!r}. {_advice(name)}"
        )
    if None not in (names, posterior.feature_names) and names != posterior.feature_names:
        raise ValueError(
            f"{name} must be a posterior of the columns {names}, in that order; got "
            f"{posterior.feature_names}. Select the columns of X in its order."
        )


def _advice(name: str) -> str:
    return f"Try init=bgmm_jd.predict_proba({name}, X), or init= with means."


def _parameters_from(approximation: Approximation, problem: Problem, name: str) -> Given:
    """Return the parameters of another fit's surrogate in the standardised units of a problem."""
    data = problem.data
    tensors = as_standardization_tensors(data.standardization, data.dtype)
    sites = problem.model.standardized(tensors).sites
    members = {member.name: member for member in surrogate_members(approximation)}
    own = {site.name: site for site in approximation.problem.model.sites}
    if set(own) != {site.name for site in sites}:
        raise ValueError(
            f"{name} must be a posterior of the prior's variables {[site.name for site in sites]}; "
            f"got one of {list(own)}. {_advice(name)}"
        )
    params = {}
    for site in sites:
        if not _have_equal_members(site, own[site.name]):
            raise ValueError(
                f"{name} must be a posterior whose prior has '{site.name}' of the same shape, "
                f"family and support. {_advice(name)}"
            )
        params[site.name] = standardized_parameters(site, _cast(members[site.name], data.dtype))
    return params


def _have_equal_members(one: Site, other: Site) -> bool:
    """Return whether two sites have the same shape, family and support."""
    if (one.shape, one.family) != (other.shape, other.family):
        return False
    if one.bijector is None or other.bijector is None:
        return one.bijector is other.bijector
    return all(
        np.allclose(_point(one.bijector, one, x), _point(other.bijector, other, x), rtol=1e-4)
        for x in (-1.0, 1.0)
    )


def _point(bijector: tfb.Bijector, site: Site, x: float) -> tf.Tensor:
    """Return the value of a variable whose coordinates are all x."""
    return bijector.forward(
        tf.fill(bijector.inverse_event_shape(site.shape), tf.constant(x, site.dtype))
    )


def _cast(member: Member, dtype: np.dtype) -> Member:
    parameters = {name: tf.cast(v, dtype) for name, v in member.parameters.items()}
    return member._replace(parameters=parameters)
