"""Draws of a prior, without the loops by which TFP draws from a Gamma.

TFP traces such a loop for every shape of draws, which takes up to a second each time, and a fit
needs draws of its prior in several shapes. The priors that the library makes are drawn from by its
own distributions.
"""

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.distributions.dirichlet import Dirichlet
from bgmm_jd.distributions.gamma import Gamma
from bgmm_jd.distributions.wishart import Wishart
from bgmm_jd.model.priors import IndependentVariables

_LEAST_CONCENTRATION = 0.05  # for which the library's own draws are accurate


def is_independent(prior: tfd.JointDistributionCoroutine) -> bool:
    """Return whether the library has made the prior, of independent variables."""
    return isinstance(prior.model, IndependentVariables)


def draw_prior(prior: tfd.JointDistributionCoroutine, n: int, seed: Any) -> dict[str, tf.Tensor]:
    """Draw n times from a prior: each variable [n, ...] by name, in the prior's units and dtype.

    Parameters
    ----------
    seed : pair of int, or int32 tensor [2]
    """
    if not is_independent(prior):
        return prior.sample(n, seed=seed)._asdict()
    pair = stateless_seed(seed)
    return {
        member.name: _without_loops(member).sample(n, seed=fold_in(pair, number))
        for number, member in enumerate(prior.model.members)
    }


def _without_loops(member: tfd.Distribution) -> tfd.Distribution:
    """Return the same distribution, with draws that need no loop where that is known."""
    parameters = member.parameters
    if isinstance(member, tfd.Independent):
        return member.copy(distribution=_without_loops(member.distribution))
    if type(member) is tfd.Dirichlet and _is_large(parameters["concentration"]):
        return Dirichlet(parameters["concentration"])
    if type(member) is tfd.Gamma and _is_large(parameters["concentration"]):
        return Gamma(parameters["concentration"], parameters["rate"])
    if type(member) is tfd.WishartTriL:
        df = np.asarray(parameters["df"])
        scale_tril = np.asarray(parameters["scale_tril"])
        return Wishart(df, scale_tril * df[..., np.newaxis, np.newaxis] ** 0.5)
    return member


def _is_large(concentration: Any) -> bool:
    return bool(np.min(concentration) >= _LEAST_CONCENTRATION)
