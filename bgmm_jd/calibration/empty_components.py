"""Empty components: they keep their mean-field distribution in calibration and draws.

The rows carry no information about a component that a sparse or a stick-breaking prior has left
empty. Its variables have nearly their prior distribution, which the mean field represents, and are
nearly independent of all others; but its weight, of 1e-30 or 1e-3, is far from normal in any
coordinates. The calibrated normal distribution therefore covers only the coordinates that the rows
inform, and the others are drawn beside it from the mean field. These are the coordinates of empty
components, and of each break of the stick of weights that has an empty component, or only empty
ones, on one side: breaks are independent under the mean field.
"""

import numpy as np
import tensorflow as tf
from scipy.special import logsumexp

from bgmm_jd.backend.numerics import block_size, blocks
from bgmm_jd.data.rows import Rows, gather_rows, row_weights
from bgmm_jd.distributions.stick_breaking import (
    beta_parameters_of_dirichlet,
    log_prob_of_stick_coordinates,
)
from bgmm_jd.model.likelihood import Theta, log_joint_label
from bgmm_jd.model.prior_draws import is_independent
from bgmm_jd.variational.approximation import Draws, EmptyComponents, Problem
from bgmm_jd.variational.coordinates import (
    coordinate_layout,
    coordinate_map,
)
from bgmm_jd.variational.families import DIRICHLET, STICK_BREAKING
from bgmm_jd.variational.parameters import VariationalParameters, as_parameter_tensors
from bgmm_jd.variational.structure import Model, Site


def find_empty_components(
    problem: Problem,
    params: VariationalParameters,
    surrogate: Draws,
    rng: np.random.Generator,
) -> EmptyComponents | None:
    """Find the components that are expected to hold hardly any rows; None where there are none.

    None too where the variables of a component depend on those of others, by their support or
    their prior.

    Parameters
    ----------
    params : of the mean field.
    surrogate : draws of it.
    """
    model, settings = problem.standardized_model, problem.settings.calibration
    total = problem.data.total_weight
    smallest = surrogate.theta["weights"].numpy().mean(axis=0, dtype=np.float64).min()
    has_sticks = _has_independent_sticks(model.site("weights"))
    if smallest * total > settings.occupied_rows or not has_sticks:
        return None
    counts, log_density = expected_counts_and_log_density(problem, surrogate.theta)
    empty = counts < min(settings.empty_rows, settings.empty_fraction * total / model.K)
    if not (empty.any() and model.has_separate_components and _variables_are_independent(model)):
        return None
    return _empty_components(problem, params, empty, log_density, rng)


def _empty_components(
    problem: Problem,
    params: VariationalParameters,
    empty: np.ndarray,
    log_density: np.ndarray,
    rng: np.random.Generator,
) -> EmptyComponents:
    """Collect what stays as the mean field has it.

    Parameters
    ----------
    empty : bool [K]
    log_density : [N], of each row.
    """
    model = problem.standardized_model
    layout = coordinate_layout(model)
    breaks = empty[:-1] | np.logical_and.accumulate(empty[::-1])[::-1][1:]
    informed = np.ones(layout.size, bool)
    informed[layout.own[empty]] = False
    informed[layout.weights[breaks]] = False
    rows, probability = candidate_rows(problem, log_density, rng)
    if not model.site("means").is_normal:
        rows, probability = rows[:0], probability[:0]
    return EmptyComponents(
        components=empty,
        breaks=breaks,
        places=layout.weights[breaks],
        informed=np.flatnonzero(informed),
        beta=_beta_parameters(model.site("weights"), params).numpy().astype(np.float64),
        rows=rows,
        probability=probability,
    )


def expected_counts_and_log_density(
    problem: Problem, theta: Theta
) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected weight of rows in each component [K], and each row's log density [N].

    Both are averaged over a few draws.
    """
    model, rows, N = problem.model, problem.data.rows, problem.data.shape[0]
    numbers, budget = problem.numbers_per_row, problem.settings.memory.empty_components
    draws = min(block_size(numbers * N, budget), problem.settings.calibration.empty_draws)
    few = {name: v[:draws] for name, v in theta.items()}
    weight, counts, log_density = row_weights(rows), np.zeros(model.K), np.empty(N)
    for part in blocks(N, numbers * draws, budget):
        some = gather_rows(rows, np.arange(part.start, part.stop))
        label = log_joint_label(few, some, model.covariance).numpy().astype(np.float64)
        total = logsumexp(label, axis=1)
        counts += np.exp(label - total[:, np.newaxis]).mean(axis=0) @ weight[part]
        log_density[part] = total.mean(axis=0)
    return counts, log_density


def candidate_rows(
    problem: Problem, log_density: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Choose complete rows [M, D] onto which an empty component may be moved, with probabilities.

    The probability of a row is the mean of weight and weight / present density, both normalised: an
    empty component would explain the rows that the others explain poorly.
    """
    rows: Rows = problem.data.rows
    weight = row_weights(rows)
    if rows.missing is not None:
        weight = weight * rows.missing.observed.all(axis=1)[rows.missing.pattern]
    values = rows.values.astype(np.float64)
    if not weight.any():
        return values[:0], weight[:0]
    values, weight, log_density = (v[weight > 0.0] for v in (values, weight, log_density))
    unexplained = weight * np.exp(log_density.min() - log_density)
    probability = 0.5 * weight / weight.sum() + 0.5 * unexplained / unexplained.sum()
    in_memory = problem.settings.memory.empty_components // values.shape[1] ** 2
    most = min(problem.settings.calibration.candidate_rows, in_memory)
    if len(values) > most:
        chosen = rng.choice(len(values), most, p=probability)
        return values[chosen], np.full(most, 1.0 / most)
    return values, probability


def _has_independent_sticks(site: Site) -> bool:
    """Return whether the surrogate of the weights breaks a stick, with independent breaks."""
    return site.family is DIRICHLET or site.family is STICK_BREAKING


def _variables_are_independent(model: Model) -> bool:
    """Return whether no variable's prior depends on another variable, tried on two draws."""
    if is_independent(model.prior):
        return True
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
    problem: Problem, params: VariationalParameters, theta: Theta, empty: EmptyComponents
) -> tf.Tensor:
    """Return the mean-field log density [S] of the coordinates that the rows do not inform.

    Parameters
    ----------
    params : of the mean field.
    theta : draws in standardised units.
    """
    model = problem.standardized_model
    total = tf.zeros([], model.dtype)
    for site in model.free_sites:
        if not site.has_component_axis:
            continue
        if site.name == "weights":
            pairs = _beta_parameters(site, params)
            found, kept = log_prob_of_stick_coordinates(pairs, theta["weights"]), empty.breaks
        else:
            found, kept = log_prob_by_component(site, params, theta[site.name]), empty.components
        total += tf.reduce_sum(tf.boolean_mask(found, kept, axis=1), axis=1)
    return total


def _beta_parameters(site: Site, params: VariationalParameters) -> tf.Tensor:
    """Return (a, b) of each break of the stick of weights: [K - 1, 2]."""
    concentration = tf.convert_to_tensor(params[site.name]["concentration"])
    if site.family is DIRICHLET:
        return beta_parameters_of_dirichlet(concentration)
    return concentration


def log_prob_by_component(site: Site, params: VariationalParameters, draws: tf.Tensor) -> tf.Tensor:
    """Return the log density of the coordinates of each component: [S, K]."""
    bijector = coordinate_map(site)
    points = bijector.inverse(draws)
    member = site.family.distribution(as_parameter_tensors(params)[site.name])
    if site.bijector is not None:
        found = member.log_prob(points)
    else:
        ndims = bijector.forward_min_event_ndims
        log_det_jacobian = bijector.forward_log_det_jacobian(points, event_ndims=ndims)
        found = member.log_prob(draws) + log_det_jacobian
    return tf.reduce_sum(found, axis=tf.range(2, tf.rank(found)))
