"""One labelling of the components, for restarts, draws, predictions and plots alike.

Order is put on from outside: the model inside keeps the labels it was fitted with, and whatever
leaves a posterior is rearranged on its way out.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from scipy.optimize import linear_sum_assignment

from bgmm_jd.backend.execution import cached_per_prior
from bgmm_jd.data.units import Standardization
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.variational.families import DIRICHLET
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site

_EXCHANGE_DRAWS = 8
_LEAST_GAIN = 0.01  # nats of log prior: more than rounding


def order_by_separation(means: np.ndarray) -> np.ndarray:
    """Labels [K] in ascending order of the feature that tells the components best apart.

    That is the feature whose closest two components are furthest apart, so that no two of them
    change places from one fit to the next.

    Parameters
    ----------
    means : [K, D], in units in which the features can be compared.
    """
    if len(means) == 1:
        return np.zeros(1, int)
    gaps = np.diff(np.sort(means, axis=0), axis=0).min(axis=0)
    return np.argsort(means[:, gaps.argmax()], kind="stable")


def match_labels(
    means: np.ndarray, others: np.ndarray, weight: np.ndarray | None = None
) -> np.ndarray:
    """Labels [K] of `others` that match those of `means`: the least total squared distance.

    Parameters
    ----------
    means, others : [K, D], in units in which the features can be compared.
    weight : [K], of each component of `means`. Without it they count alike.
    """
    cost = ((means[:, np.newaxis] - others[np.newaxis]) ** 2).sum(axis=2)
    return linear_sum_assignment(cost if weight is None else weight[:, np.newaxis] * cost)[1]


def as_permutation(order: Any, K: int) -> np.ndarray:
    """Return `order` as an array of the labels 0 to K - 1, or raise."""
    labels = np.asarray(order)
    if labels.shape != (K,) or sorted(labels.tolist()) != list(range(K)):
        raise ValueError(f"order must be a permutation of 0 to {K - 1}; got {order!r}.")
    return labels.astype(int)


def permute_components(
    sites: tuple[Site, ...], theta: Mapping[str, Any], order: np.ndarray
) -> dict[str, Any]:
    """Draws [S, ...] with their components in another order."""
    moving = {site.name for site in sites if site.has_component_axis}
    return {name: tf.gather(v, order, axis=1) if name in moving else v for name, v in theta.items()}


def permute_parameters(
    sites: tuple[Site, ...], values: VariationalParameters, order: np.ndarray
) -> VariationalParameters:
    """Parameters of a surrogate with its components in another order."""
    return {
        site.name: {
            name: np.asarray(v)[order] if site.has_component_axis else v
            for name, v in values[site.name].items()
        }
        for site in sites
    }


def is_permutable(sites: tuple[Site, ...]) -> bool:
    """Whether the surrogate's components can be put into another order."""
    return all(has_own_parameters(site) for site in sites)


def has_own_parameters(site: Site) -> bool:
    """Whether each component has parameters of its own, as far as the variable is of components.

    Proportions in any family but a Dirichlet have not: they have one coordinate fewer than
    components. Nor have variables that the prior fixes.
    """
    if not site.has_component_axis:
        return True
    return site.fixed is None and (site.name != "weights" or site.family is DIRICHLET)


@cached_per_prior
def is_exchangeable(model: Model) -> bool:
    """Whether the prior density stays the same when the components change places.

    Tried on draws. A prior that tells components apart gives them their order.
    """
    draws = model.prior.sample(_EXCHANGE_DRAWS, seed=(0, 0))
    before = model.prior.log_prob(draws).numpy()
    K = model.K
    for order in (np.roll(np.arange(K), 1), np.arange(K)[::-1]):
        arranged = permute_components(model.sites, draws._asdict(), order)
        after = model.prior.log_prob(*arranged.values()).numpy()
        if not np.allclose(before, after, rtol=1e-4, atol=1e-4):
            return False
    return True


def prior_distinguishes_components(model: Model) -> bool:
    """Whether the prior tells components apart that could change places in the surrogate."""
    return is_permutable(model.sites) and not is_exchangeable(model)


def order_preferred_by_prior(model: Model, theta: Theta, units: Standardization) -> np.ndarray:
    """Labels [K] in the order in which the prior density is highest.

    Found by exchanges of two components, each the best of all, beginning with the order at hand.

    Parameters
    ----------
    theta : one draw in internal units, as arrays of the variables' shapes.
    units : those of the prior.
    """
    order = np.arange(model.K)
    pairs = list(itertools.combinations(order, 2))
    while pairs:
        tried = np.tile(order, (1 + len(pairs), 1))
        for row, (k, j) in zip(tried[1:], pairs, strict=True):
            row[[k, j]] = row[[j, k]]
        density = log_prior(model, _under_each_order(model.sites, theta, tried), units).numpy()
        density = np.where(np.isfinite(density), density, -np.inf)
        best = int(density.argmax())
        if not density[best] > density[0] + _LEAST_GAIN:
            break
        order = tried[best]
    return order


def _under_each_order(sites: tuple[Site, ...], theta: Theta, orders: np.ndarray) -> Theta:
    """As many draws as there are orders [S, K], the same but for their components' places."""
    return {
        site.name: tf.constant(
            theta[site.name][orders]
            if site.has_component_axis
            else np.repeat(theta[site.name][np.newaxis], len(orders), axis=0)
        )
        for site in sites
    }
