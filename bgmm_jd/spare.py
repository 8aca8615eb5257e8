"""Components that hold no rows: their coordinates stay as the mean field has them.

The rows tell nothing of a component that a sparse or a stick-breaking prior has left empty. Its
variables are those of the prior, which the mean field has exactly, independent of all others; but
its weight, of 1e-30 or 1e-3, is far from normal in any coordinates. A normal distribution is
sought for the coordinates that the rows tell of, and the others are drawn beside it. They are the
component's own, and each break of the stick of weights that has an empty component, or nothing but
empty ones, on one side: breaks are independent of each other under the mean field.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.curvature import is_by_component, layout
from bgmm_jd.families import DIRICHLET, STICKS
from bgmm_jd.mixture import Theta
from bgmm_jd.objective import Model
from bgmm_jd.sticks import log_prob_of_breaks, pairs_of_dirichlet
from bgmm_jd.surrogate import Site, Values, coordinate_map
from bgmm_jd.units import Units

_FEWEST_ROWS = 1.0  # that a component's mean weight is worth


class Spare(NamedTuple):
    """What stays as the mean field has it.

    components [K], breaks [K - 1] : bool.
    informed : int, the places of all other coordinates among the P of a point.
    """

    components: np.ndarray
    breaks: np.ndarray
    informed: np.ndarray


def spare_of(
    model: Model, units: Units, mean: np.ndarray, weights: np.ndarray, rows: float
) -> Spare | None:
    """The components that hold none of so many rows; None where all hold some.

    None too where the variables of a component cannot be told from those of others.

    Parameters
    ----------
    mean : [P], of the mean field.
    weights : [K], their means.
    """
    empty = weights * rows < _FEWEST_ROWS
    site = _weights_site(model)
    known = site.family in (DIRICHLET, STICKS) and site.bijector is None
    if not (empty.any() and known and is_by_component(model, units, mean)):
        return None
    breaks = empty[:-1] | np.logical_and.accumulate(empty[::-1])[::-1][1:]
    plan = layout(model, units)
    informed = np.ones(plan.size, bool)
    informed[plan.own[empty]] = False
    informed[plan.weights[breaks]] = False
    return Spare(empty, breaks, np.flatnonzero(informed))


def log_prob(model: Model, values: Values, units: Units, theta: Theta, spare: Spare) -> tf.Tensor:
    """Log density [S] of the coordinates that stay, under the mean field.

    Parameters
    ----------
    values : of the mean field.
    theta : draws in internal units.
    """
    total = tf.zeros([], units.scale.dtype)
    for site in model.sites:
        if not site.by_component or site.fixed is not None:
            continue
        if site.name == "weights":
            found, stays = _of_breaks(site, values, theta[site.name]), spare.breaks
        else:
            found, stays = _of_components(site, values, units, theta[site.name]), spare.components
        total += tf.reduce_sum(tf.boolean_mask(found, stays, axis=1), axis=1)
    return total


def _weights_site(model: Model) -> Site:
    return next(site for site in model.sites if site.name == "weights")


def _of_breaks(site: Site, values: Values, weights: tf.Tensor) -> tf.Tensor:
    """Of the coordinate of each break: [S, K - 1]."""
    concentration = tf.convert_to_tensor(values[site.name]["concentration"])
    pairs = pairs_of_dirichlet(concentration) if site.family is DIRICHLET else concentration
    return log_prob_of_breaks(pairs, weights)


def _of_components(site: Site, values: Values, units: Units, draws: tf.Tensor) -> tf.Tensor:
    """Of the coordinates of each component: [S, K]."""
    bijector = coordinate_map(site, units)
    points = bijector.inverse(draws)
    parameters = {name: tf.convert_to_tensor(v) for name, v in values[site.name].items()}
    member = site.family.distribution(parameters)
    if site.bijector is not None:
        found = member.log_prob(points)
    else:
        ndims = bijector.forward_min_event_ndims
        volume = bijector.forward_log_det_jacobian(points, event_ndims=ndims)
        found = member.log_prob(draws) + volume
    return tf.reduce_sum(found, axis=tf.range(2, tf.rank(found)))
