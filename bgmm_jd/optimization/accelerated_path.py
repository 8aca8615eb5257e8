"""Accelerated steps to the fixed point of a smooth map, such as a pass under fixed draws."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.optimization import anderson, convergence
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    as_parameter_arrays,
    between,
    constrained_arrays,
)

# (unconstrained parameters, number of draws) -> (parameters after one evaluation, elbo before or
# during it). Evaluations with the same number have the same random draws.
Evaluator = Callable[[VariationalParameters, int], tuple[VariationalParameters, float]]


class PathState(NamedTuple):
    """All that the next evaluation and what follows it depend on: a path goes on from here.

    unconstrained : parameters of the next evaluation.
    history : evaluations that are combined.
    best : the highest elbo so far.
    plain_step : from the parameters that have it to those after their evaluation.
    length : fraction of a plain step that is taken.
    """

    unconstrained: VariationalParameters
    history: anderson.History
    best: float
    plain_step: tuple[VariationalParameters, VariationalParameters]
    length: float


class PathPoint(NamedTuple):
    """One evaluation.

    unconstrained : parameters that were evaluated.
    elbo : of these.
    remaining : estimate of the distance left, in sds.
    ahead : from where the path goes on; None where it has left the dtype's range.
    """

    unconstrained: VariationalParameters
    elbo: float
    remaining: float
    ahead: PathState | None


def beginning_at(unconstrained: VariationalParameters) -> PathState:
    """Return the state of a path that begins at some parameters."""
    here = as_parameter_arrays(unconstrained)
    return PathState(here, anderson.History(), -np.inf, (here, here), 1.0)


def accelerated_path(
    problem: Problem, evaluate: Evaluator, state: PathState
) -> Iterator[PathPoint]:
    """Yield the points of accelerated natural-gradient steps, one evaluation each."""
    ahead: PathState | None = state
    while ahead is not None:
        point = _next_point(problem, evaluate, ahead)
        yield point
        ahead = point.ahead


def _next_point(problem: Problem, evaluate: Evaluator, state: PathState) -> PathPoint:
    """Return the point of the next evaluation.

    The distance left is estimated by the accelerated step, and not by the plain one, which is short
    where convergence is slow. If the elbo falls, go back to the best point and take half a plain
    step: a combination of steps, or a full one where components overlap or are empty, may lead
    astray. If the shortest step still lowers the elbo, the recorded best was itself misleading:
    accept the lower point and continue.
    """
    settings = problem.settings.full_data
    unconstrained, history, best, plain_step, length = state
    image, elbo = evaluate(unconstrained, 0)
    image = as_parameter_arrays(image)
    here, there = _moments(problem, unconstrained), _moments(problem, image)
    if not (np.isfinite(elbo) and np.isfinite(there).all()):
        return PathPoint(unconstrained, np.nan, np.nan, None)
    has_fallen = elbo < best - _rounding_allowance(best, problem.data.dtype)
    if has_fallen and length > settings.shortest_step:
        length /= 2.0
        back = as_parameter_arrays(between(*plain_step, length))
        ahead = PathState(back, anderson.History(), best, plain_step, length)
        return PathPoint(unconstrained, elbo, np.inf, ahead)
    if has_fallen or elbo >= best:
        best, plain_step = elbo, (unconstrained, image)
        length = length if has_fallen else min(1.0, 2.0 * length)
    residual = convergence.standardized_difference(here, there)
    flat = _flat(between(unconstrained, image, length))
    history = anderson.remember(history, flat, residual, settings.history)
    accelerated = _like(image, anderson.accelerated(history))
    far = convergence.standardized_difference(here, _moments(problem, accelerated))
    ahead = PathState(accelerated, history, best, plain_step, length)
    return PathPoint(unconstrained, elbo, float(np.abs([residual, far]).max()), ahead)


def _rounding_allowance(elbo: float, dtype: np.dtype) -> float:
    """Return the decrease of the elbo, in nats, that rounding or a step of an sd may cause."""
    return 1.0 + 4.0 * float(np.finfo(dtype).eps) * abs(elbo)


def _flat(unconstrained: VariationalParameters) -> np.ndarray:
    return np.concatenate([np.ravel(v).astype(np.float64) for v in tf.nest.flatten(unconstrained)])


def _like(unconstrained: VariationalParameters, flat: np.ndarray) -> VariationalParameters:
    leaves = tf.nest.flatten(unconstrained)
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [p.reshape(v.shape).astype(v.dtype) for p, v in zip(parts, leaves, strict=True)]
    return tf.nest.pack_sequence_as(unconstrained, shaped)


def _moments(problem: Problem, unconstrained: VariationalParameters) -> convergence.MomentVectors:
    sites = problem.model.sites
    return convergence.parameter_moments(sites, constrained_arrays(sites, unconstrained))
