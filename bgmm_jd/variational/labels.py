"""The labels of the components: what permutes them, and how they match between fits.

Labels are permuted only at output; internal parameters keep the order in which they were fitted.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

from bgmm_jd.model.likelihood import Theta
from bgmm_jd.model.per_prior import cached_per_prior
from bgmm_jd.model.prior_draws import draw_prior
from bgmm_jd.variational.families import DIRICHLET
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site, StandardizedModel

_EXCHANGE_DRAWS = 8
_FARTHER = 1e3  # times the largest cost of two components
_LEAST_GAIN = 0.01  # nats of log prior: more than rounding


def match_labels(
    means: np.ndarray, others: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Return labels [K] of `others` that match those of `means`, by least total squared distance.

    Parameters
    ----------
    means, others : [K, D], in units in which the features can be compared. NaN is far from all.
    weight : [K], optional
        Weight of each component of `means`; by default they are equal.
    """
    apart = means[:, np.newaxis].astype(np.float64) - others[np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):
        cost = (apart**2).sum(axis=2)
        if weight is not None:
            cost = weight[:, np.newaxis] * cost
    # Components that have diverged are like no other, and take the places that are left.
    known = np.isfinite(cost)
    cost[~known] = _FARTHER * cost[known].max(initial=1.0)
    return linear_sum_assignment(cost)[1]


def as_permutation(order: Any, K: int) -> np.ndarray:
    """Return `order` as an array of the labels 0 to K - 1, or raise ValueError."""
    labels = np.asarray(order)
    if labels.shape != (K,) or sorted(labels.tolist()) != list(range(K)):
        raise ValueError(f"order must be a permutation of 0 to {K - 1}; got {order!r}.")
    return labels.astype(int)


def permute_components(model: Model, theta: Mapping[str, Any], order: np.ndarray) -> dict[str, Any]:
    """Return draws [S, ...] with their components in another order."""
    moving = {site.name for site in model.sites if site.has_component_axis}
    return {name: tf.gather(v, order, axis=1) if name in moving else v for name, v in theta.items()}


def permute_parameters(
    sites: tuple[Site, ...], params: VariationalParameters, order: np.ndarray
) -> VariationalParameters:
    """Return the parameters of a surrogate with its components in another order."""
    return {
        site.name: {
            name: np.asarray(v)[order] if site.has_component_axis else v
            for name, v in params[site.name].items()
        }
        for site in sites
    }


def is_permutable(model: Model) -> bool:
    """Return whether the surrogate's components can be put into another order."""
    return all(has_own_parameters(site) for site in model.sites)


def has_own_parameters(site: Site) -> bool:
    """Return whether each component has parameters of its own in a variable with a component axis.

    Proportions in any family but a Dirichlet have not, because they have one coordinate fewer than
    components. Nor have variables that the prior fixes, nor those whose coordinates link
    components, such as ascending means.
    """
    if not site.has_component_axis:
        return True
    if site.links_components:
        return False
    return site.fixed is None and (site.name != "weights" or site.family is DIRICHLET)


@cached_per_prior
def is_exchangeable(model: Model) -> bool:
    """Return whether permuting components leaves the prior density of some draws the same."""
    draws = draw_prior(model.prior, _EXCHANGE_DRAWS, seed=(0, 0))
    before = model.prior.log_prob(*draws.values()).numpy()
    K = model.K
    for order in (np.roll(np.arange(K), 1), np.arange(K)[::-1]):
        permuted = permute_components(model, draws, order)
        after = model.prior.log_prob(*permuted.values()).numpy()
        if not np.allclose(before, after, rtol=1e-4, atol=1e-4):
            return False
    return True


def labels_are_free(model: Model) -> bool:
    """Return whether any order of the components is as good as another, and can be put in place."""
    return is_permutable(model) and is_exchangeable(model)


def prior_distinguishes_components(model: Model) -> bool:
    """Return whether the prior gives each component its place, in which a fit has to start.

    Components could then be permuted in the surrogate, but not under the prior, or else their order
    is that of a variable's support, such as that of ascending means.
    """
    if any(site.links_components for site in model.sites):
        return True
    return is_permutable(model) and not is_exchangeable(model)


def order_preferred_by_prior(model: StandardizedModel, theta: Theta) -> np.ndarray:
    """Return labels [K] in the order with the highest prior density that greedy swaps find.

    A greedy search: repeatedly apply the swap of two components that increases the prior density
    most, beginning with the present order. The orders in which the means of a feature ascend or
    descend are tried too, because under ascending means a swap may be between two orders that both
    have no density.

    Parameters
    ----------
    theta : one draw in standardised units, as arrays of the variables' shapes.
    """
    order = np.arange(model.K)
    ascending = np.argsort(np.transpose(theta["means"]), axis=1)
    by_feature = np.concatenate([ascending, ascending[:, ::-1]])
    pairs = list(itertools.combinations(order, 2))
    while pairs:
        tried = np.tile(order, (1 + len(pairs), 1))
        for row, (k, j) in zip(tried[1:], pairs, strict=True):
            row[[k, j]] = row[[j, k]]
        tried = np.concatenate([tried, by_feature])
        density = log_prior(model, _under_each_order(model, theta, tried)).numpy()
        density = np.where(np.isfinite(density), density, -np.inf)
        best = int(density.argmax())
        if not density[best] > density[0] + _LEAST_GAIN:
            break
        order = tried[best]
    return order


def _under_each_order(model: Model, theta: Theta, orders: np.ndarray) -> Theta:
    """Return one draw for each order [S, K], equal but for the places of the components."""
    return {
        site.name: tf.constant(
            theta[site.name][orders]
            if site.has_component_axis
            else np.repeat(theta[site.name][np.newaxis], len(orders), axis=0)
        )
        for site in model.sites
    }
