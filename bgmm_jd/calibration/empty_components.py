"""Components that hold no rows: their coordinates stay as the mean field has them.

The rows tell nothing of a component that a sparse or a stick-breaking prior has left empty. Its
variables are nearly those of the prior, which the mean field has, and nearly independent of all
others; but its weight, of 1e-30 or 1e-3, is far from normal in any coordinates. A normal
distribution is sought for the coordinates that the rows tell of, and the others are drawn beside
it. They are the component's own, and each break of the stick of weights that has an empty
component, or nothing but empty ones, on one side: breaks are independent under the mean field.
"""

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from bgmm_jd.data.rows import Rows, gather_rows, row_weights
from bgmm_jd.data.standardize import Data
from bgmm_jd.data.units import Standardization
from bgmm_jd.distributions.stick_breaking import (
    beta_parameters_of_dirichlet,
    log_prob_of_stick_coordinates,
)
from bgmm_jd.model import likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.variational.approximation import EmptyComponents
from bgmm_jd.variational.coordinates import (
    components_are_separate,
    coordinate_layout,
    coordinate_map,
)
from bgmm_jd.variational.families import DIRICHLET, STICK_BREAKING
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model, Site, is_normal

_FEWEST_ROWS = 0.5  # that a component is expected to hold
_FEWEST_SHARE = 0.05  # of an equal part, where the rows are worth little
_SUSPECT_ROWS = 10.0  # a mean weight worth more is never that of an empty component
_MOST_ROWS = 2_048  # that one may be put at
_DRAWS = 16
_NUMBERS = 2**23  # in the largest array of a call


def find_empty_components(
    model: Model,
    values: VariationalParameters,
    units: Standardization,
    mean: np.ndarray,
    theta: Theta,
    data: Data,
    rng: np.random.Generator,
) -> EmptyComponents | None:
    """The components that are expected to hold less than half a row; None where all hold more.

    None too where the variables of a component depend on those of others, by their support or
    their prior.

    Parameters
    ----------
    values, mean [P] : of the mean field.
    theta : draws of it.
    """
    least = theta["weights"].numpy().mean(axis=0, dtype=np.float64).min()
    site = model.site("weights")
    if least * data.total_weight > _SUSPECT_ROWS or not _has_independent_sticks(site):
        return None
    held, log_density = expected_rows(model, theta, data.rows)
    empty = held < min(_FEWEST_ROWS, _FEWEST_SHARE * data.total_weight / model.K)
    apart = empty.any() and components_are_separate(model, units, mean)
    if not (apart and _is_independent(model)):
        return None
    breaks = empty[:-1] | np.logical_and.accumulate(empty[::-1])[::-1][1:]
    plan = coordinate_layout(model, units)
    informed = np.ones(plan.size, bool)
    informed[plan.own[empty]] = False
    informed[plan.weights[breaks]] = False
    rows, chance = candidate_rows(data.rows, log_density, rng)
    if not is_normal(model.site("means")):
        rows, chance = rows[:0], chance[:0]
    return EmptyComponents(
        components=empty,
        breaks=breaks,
        places=plan.weights[breaks],
        informed=np.flatnonzero(informed),
        pairs=_pairs(site, values).numpy().astype(np.float64),
        rows=rows,
        chance=chance,
    )


def expected_rows(model: Model, theta: Theta, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """How many rows each component holds, by their weights [K], and each row's log density [N].

    Both on average over a few draws.
    """
    N, D = rows.values.shape
    by_row = model.K * D * (D if model.has_covariance_matrices and rows.missing else 1)
    draws = int(np.clip(_NUMBERS // (by_row * N), 1, _DRAWS))
    few = {name: v[:draws] for name, v in theta.items()}
    size = max(1, _NUMBERS // (by_row * draws))
    weight, held, log_density = row_weights(rows), np.zeros(model.K), np.empty(N)
    for first in range(0, N, size):
        part = np.arange(first, min(first + size, N))
        there = gather_rows(rows, part)
        label = likelihood.log_joint_label(few, there, model.covariance).numpy().astype(np.float64)
        total = logsumexp(label, axis=1)
        held += np.exp(label - total[:, np.newaxis]).mean(axis=0) @ weight[part]
        log_density[part] = total.mean(axis=0)
    return held, log_density


def candidate_rows(
    rows: Rows, log_density: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Complete rows [M, D], not too many, and their chances.

    Half by their weights, half by these over their density too: a component with next to no weight
    takes the rows that the others leave nearly alone.
    """
    weight = row_weights(rows)
    if rows.missing is not None:
        weight = weight * rows.missing.observed.all(axis=1)[rows.missing.pattern]
    values = rows.values.astype(np.float64)
    if not weight.any():
        return values[:0], weight[:0]
    values, weight, log_density = (v[weight > 0.0] for v in (values, weight, log_density))
    alone = weight * np.exp(log_density.min() - log_density)
    chance = 0.5 * weight / weight.sum() + 0.5 * alone / alone.sum()
    most = min(_MOST_ROWS, _NUMBERS // values.shape[1] ** 2)
    if len(values) > most:
        chosen = rng.choice(len(values), most, p=chance)
        return values[chosen], np.full(most, 1.0 / most)
    return values, chance


def _has_independent_sticks(site: Site) -> bool:
    """Whether the surrogate breaks a stick, with breaks that are independent of each other."""
    return site.family is DIRICHLET or site.family is STICK_BREAKING


def _is_independent(model: Model) -> bool:
    """Whether no variable's prior depends on another variable: tried on two draws."""
    draws = model.prior.sample(2, seed=(0, 0))._asdict()
    first, second = ({name: v[i] for name, v in draws.items()} for i in range(2))
    expected = model.prior.log_prob_parts(list(first.values()))._asdict()
    for name in draws:
        mixed = second | {name: first[name]}
        found = model.prior.log_prob_parts(list(mixed.values()))._asdict()
        if not np.allclose(found[name], expected[name], rtol=1e-5, atol=1e-5):
            return False
    return True


def log_prob_of_empty(
    model: Model,
    values: VariationalParameters,
    units: Standardization,
    theta: Theta,
    spare: EmptyComponents,
) -> tf.Tensor:
    """Log density [S] of the coordinates that stay, under the mean field.

    Parameters
    ----------
    values : of the mean field.
    theta : draws in internal units.
    """
    total = tf.zeros([], units.scale.dtype)
    for site in model.sites:
        if not site.has_component_axis or site.fixed is not None:
            continue
        if site.name == "weights":
            found, stays = _of_breaks(site, values, theta[site.name]), spare.breaks
        else:
            found, stays = _of_components(site, values, units, theta[site.name]), spare.components
        total += tf.reduce_sum(tf.boolean_mask(found, stays, axis=1), axis=1)
    return total


def _of_breaks(site: Site, values: VariationalParameters, weights: tf.Tensor) -> tf.Tensor:
    """Of the coordinate of each break: [S, K - 1]."""
    return log_prob_of_stick_coordinates(_pairs(site, values), weights)


def _pairs(site: Site, values: VariationalParameters) -> tf.Tensor:
    concentration = tf.convert_to_tensor(values[site.name]["concentration"])
    return (
        beta_parameters_of_dirichlet(concentration) if site.family is DIRICHLET else concentration
    )


def _of_components(
    site: Site, values: VariationalParameters, units: Standardization, draws: tf.Tensor
) -> tf.Tensor:
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
