"""The same posterior with its components in another order, or with names."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from bgmm_jd.data.validation import as_names
from bgmm_jd.model.covariances import component_covariances
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.variational.labels import as_permutation


def relabel(posterior: Posterior, order: Any = None, *, names: Any = None) -> Posterior:
    """Return the same posterior with its components in another order, or with other names.

    ::

        bgmm_jd.relabel(posterior, "weights")
        bgmm_jd.relabel(posterior, names=["short", "long"])
        bgmm_jd.relabel(posterior_of_april, posterior_of_march)

    Parameters
    ----------
    posterior : Posterior
    order : "weights", sequence of int [K], or Posterior, optional
        "weights" puts the largest component first; a permutation lists the present labels in the
        order wanted. Another posterior with as many components and features, say of other rows or
        another form of covariance, puts each component into the place of the one there that is
        most like it. By default the order stays.
    names : sequence of str [K], optional
        Distinct names of the components, in the new order, which plots and `to_inference_data`
        show. By default they keep the names they have, in the new order too.

    Raises
    ------
    TypeError
        If `names` are not strings.
    ValueError
        If `order` is none of these, if there are not K distinct `names`, or if both are left out.

    Notes
    -----
    Components are alike by the Bhattacharyya distance of two normal distributions, with the
    posterior means of the components' means and covariances; the sum over components is least.
    """
    if order is None and names is None:
        raise ValueError("relabel must have an order, names of the components, or both; got none.")
    approximation, K, present = posterior.approximation, posterior.K, posterior.component_names
    moved = np.arange(K) if order is None else _as_order(posterior, order)
    if names is not None:
        present = as_names(names, K, "names")
    elif present is not None:
        present = tuple(present[k] for k in moved)
    chosen = replace(approximation, order=approximation.order[moved])
    return replace(posterior, approximation=chosen, component_names=present)


def _as_order(posterior: Posterior, order: Any) -> np.ndarray:
    """Return the present labels in the order wanted, or raise."""
    if isinstance(order, Posterior):
        return _order_like(posterior, order)
    if not isinstance(order, str):
        return as_permutation(order, posterior.K)
    if order != "weights":
        raise ValueError(
            f"order must be 'weights', a permutation or another posterior; got {order!r}."
        )
    return np.argsort(-posterior.sample(PREDICTIVE_DRAWS)["weights"].mean(axis=0))


def _order_like(posterior: Posterior, other: Posterior) -> np.ndarray:
    """Return the present labels [K], each at the place of the component there that is most like it.

    Raises
    ------
    ValueError
        If the other posterior has another number of components or features.
    """
    if (other.K, other.D) != (posterior.K, posterior.D):
        raise ValueError(
            f"order must be a posterior with K={posterior.K} components of {posterior.D} features, "
            f"as this one has; got K={other.K} and {other.D} features."
        )
    distances = _bhattacharyya(*_mean_components(other), *_mean_components(posterior))
    return linear_sum_assignment(distances)[1]


def _mean_components(posterior: Posterior) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior means of the components' means [K, D] and covariances [K, D, D]."""
    draws = posterior.sample(PREDICTIVE_DRAWS)
    covariances = component_covariances(draws, posterior.covariance)
    return draws["means"].mean(axis=0, dtype=float), covariances.mean(axis=0, dtype=float)


def _bhattacharyya(
    means: np.ndarray, covariances: np.ndarray, others: np.ndarray, other_covariances: np.ndarray
) -> np.ndarray:
    """Return the distance of each normal distribution [K] from each of the others: [K, K].

    With the mean S of the two covariances S1 and S2, and the difference d of the means::

        d^T S^-1 d / 8 + (log |S| - (log |S1| + log |S2|) / 2) / 2

    Bhattacharyya (1943, *Bulletin of the Calcutta Mathematical Society* 35).
    """
    apart = means[:, np.newaxis] - others
    middle = (covariances[:, np.newaxis] + other_covariances) / 2.0
    solved = np.linalg.solve(middle, apart[..., np.newaxis])[..., 0]
    of_means = (apart * solved).sum(axis=-1) / 8.0
    log_dets, other_log_dets = (
        np.linalg.slogdet(matrices)[1] for matrices in (covariances, other_covariances)
    )
    log_det = np.linalg.slogdet(middle)[1]
    return of_means + (log_det - (log_dets[:, np.newaxis] + other_log_dets) / 2.0) / 2.0
