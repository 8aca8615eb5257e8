"""Accelerated steps to the fixed point of a smooth map, such as a pass under fixed draws."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.optimization import anderson, convergence
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.parameters import VariationalParameters, between, constrained_arrays

# (unconstrained parameters, number of draws) -> (parameters after one evaluation, elbo before or
# during it). Evaluations with the same number have the same random draws.
Evaluator = Callable[[VariationalParameters, int], tuple[VariationalParameters, float]]


class PathPoint(NamedTuple):
    """Unconstrained parameters, their elbo, and an estimate of the distance left, in sds."""

    unconstrained: VariationalParameters
    elbo: float
    remaining: float


def accelerated_path(
    problem: Problem, evaluate: Evaluator, unconstrained: VariationalParameters
) -> Iterator[PathPoint]:
    """Yield the points of accelerated natural-gradient steps, one evaluation each.

    The distance left is estimated by the accelerated step, and not by the plain one, which is short
    where convergence is slow. If the elbo falls, go back to the best point and take half a plain
    step: a combination of steps, or a full one where components overlap or are empty, may lead
    astray. If the shortest step still lowers the elbo, the recorded best was itself misleading:
    accept the lower point and continue.
    """
    settings = problem.settings.full_data
    history, length = anderson.History(), 1.0
    best, plain_step = -np.inf, functools.partial(between, unconstrained, unconstrained)
    while True:
        image, elbo = evaluate(unconstrained, 0)
        here, there = _moments(problem, unconstrained), _moments(problem, image)
        if not (np.isfinite(elbo) and np.isfinite(there).all()):
            yield PathPoint(unconstrained, np.nan, np.nan)
            return
        has_fallen = elbo < best - _rounding_allowance(best, problem.data.dtype)
        if has_fallen and length > settings.shortest_step:
            history, length = anderson.History(), length / 2.0
            yield PathPoint(unconstrained, elbo, np.inf)
            unconstrained = plain_step(length)
            continue
        if has_fallen or elbo >= best:
            best, plain_step = elbo, functools.partial(between, unconstrained, image)
            length = length if has_fallen else min(1.0, 2.0 * length)
        residual = convergence.standardized_difference(here, there)
        flat = _flat(between(unconstrained, image, length))
        history = anderson.remember(history, flat, residual, settings.history)
        ahead = _like(image, anderson.accelerated(history))
        far = convergence.standardized_difference(here, _moments(problem, ahead))
        yield PathPoint(unconstrained, elbo, float(np.abs([residual, far]).max()))
        unconstrained = ahead


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
