"""Programs between points and draws, and between the coordinates of points.

Points may have log ratios of the weights for coordinates, which permutations of the components map
linearly.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.data.units import Standardization
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.structure import Model
from bgmm_jd.variational.surrogate import without_cholesky


def draws_at_points(problem: Problem, points: np.ndarray) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    """Return what points [S, P] stand for, by name [S, ...], and log |d theta / d point| [S]."""
    program = _from_points(problem.model, problem.execution == "eager")
    return program(tf.constant(points.astype(problem.data.dtype)), problem.prior_standardization)


def draws_at_log_ratios(
    problem: Problem, points: np.ndarray
) -> tuple[dict[str, tf.Tensor], np.ndarray, np.ndarray]:
    """Return what points [S, P] with log ratios of the weights stand for.

    Returns
    -------
    the draws by name [S, ...], in standardised units; the same as points [S, P] in the coordinates
    of the calibration; and log |d theta / d point| [S].
    """
    program = _from_log_ratios(problem.model, problem.execution == "eager")
    theta, coordinates, log_det_jacobian = program(
        tf.constant(points.astype(problem.data.dtype)), problem.prior_standardization
    )
    return theta, coordinates.numpy(), log_det_jacobian.numpy().astype(np.float64)


def as_log_ratios(problem: Problem, points: np.ndarray) -> np.ndarray:
    """Return points [S, P] in coordinates with log ratios, without those that are not finite."""
    program = _to_log_ratios(problem.model, problem.execution == "eager")
    dtype = problem.data.dtype
    found = program(tf.constant(points.astype(dtype)), problem.prior_standardization).numpy()
    return found[np.isfinite(found).all(axis=1)].astype(np.float64)


@functools.lru_cache(maxsize=32)
def _from_points(model: Model, eager: bool) -> Callable[..., Any]:
    def run(points: tf.Tensor, standardization: Standardization) -> Any:
        standardized = model.standardized(standardization)
        theta, log_det_jacobian = unflatten(standardized, points)
        return without_cholesky(standardized, theta), log_det_jacobian

    return _for_any_number(run, eager)


@functools.lru_cache(maxsize=32)
def _from_log_ratios(model: Model, eager: bool) -> Callable[..., Any]:
    def run(points: tf.Tensor, standardization: Standardization) -> Any:
        standardized = model.standardized(standardization)
        theta, log_det_jacobian = unflatten(standardized, points, log_ratios=True)
        # `tf.identity` defeats TFP's bijector cache, which would return other coordinates.
        theta = tf.nest.map_structure(tf.identity, without_cholesky(standardized, theta))
        return theta, flatten(standardized, theta), log_det_jacobian

    return _for_any_number(run, eager)


@functools.lru_cache(maxsize=32)
def _to_log_ratios(model: Model, eager: bool) -> Callable[..., Any]:
    def run(points: tf.Tensor, standardization: Standardization) -> Any:
        standardized = model.standardized(standardization)
        theta, _ = unflatten(standardized, points)
        theta = tf.nest.map_structure(tf.identity, without_cholesky(standardized, theta))
        return flatten(standardized, theta, log_ratios=True)

    return _for_any_number(run, eager)


def _for_any_number(run: Callable[..., Any], eager: bool) -> Callable[..., Any]:
    """Return a program that is traced once for all numbers of points: a graph, not XLA."""
    return compiled(run, "eager" if eager else "graph", any_shape=True)
