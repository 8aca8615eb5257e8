"""The same posterior with its components in another order, or with names."""

from dataclasses import replace
from typing import Any

import numpy as np

from bgmm_jd.data.validation import as_names
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.variational.labels import as_permutation


def relabel(posterior: Posterior, order: Any = None, *, names: Any = None) -> Posterior:
    """Return the same posterior with its components in another order, or with other names.

    ::

        bgmm_jd.relabel(posterior, "weights")
        bgmm_jd.relabel(posterior, names=["short", "long"])

    Parameters
    ----------
    posterior : Posterior
    order : "weights" or sequence of int [K], optional
        "weights" puts the largest component first; a permutation lists the present labels in the
        order wanted. By default the order stays.
    names : sequence of str [K], optional
        Distinct names of the components, in the new order, which plots and `to_inference_data`
        show. By default they keep the names they have, in the new order too.

    Raises
    ------
    TypeError
        If `names` are not strings.
    ValueError
        If `order` is neither, if there are not K distinct `names`, or if both are left out.
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
    if not isinstance(order, str):
        return as_permutation(order, posterior.K)
    if order != "weights":
        raise ValueError(f"order must be 'weights' or a permutation; got {order!r}.")
    return np.argsort(-posterior.sample(PREDICTIVE_DRAWS)["weights"].mean(axis=0))
