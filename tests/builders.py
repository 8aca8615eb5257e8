"""Problems, approximations and draws that tests build from a few rows."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.optimization.initialization import start_at
from bgmm_jd.settings import OptimizationSettings, Settings
from bgmm_jd.variational.approximation import Approximation, Draws, Problem
from bgmm_jd.variational.coordinates import flatten

# A start from a single seeding of k-means++, which is quicker and may be poor.
ONE_SEEDING = Settings(optimization=OptimizationSettings(first_start_seedings=1))


def problem_for(
    X: np.ndarray,
    K: int,
    covariance: str = "diag",
    *,
    prior: Any = None,
    weight: np.ndarray | None = None,
    execution: str = "xla",
    settings: Settings = ONE_SEEDING,
) -> Problem:
    """Standardise rows as `fit` does, and return the problem of fitting K components to them."""
    data = standardize(X, weight, common=covariance == "spherical")
    return problem_of(data, K, covariance, prior, execution, settings)


def started(
    problem: Problem, init: np.ndarray | None = None, *, start: int = 0, seed: int = 0
) -> Approximation:
    """Return the mean field that a fit begins with, without calibration."""
    params = start_at(problem, init, start, seed)
    return Approximation(problem=problem, params=params, order=np.arange(problem.model.K))


def draws_of(problem: Problem, theta: Mapping[str, Any], log_q: Any = None) -> Draws:
    """Return draws with their points; their log density is zero unless it is given."""
    tensors = {name: tf.convert_to_tensor(v) for name, v in theta.items()}
    points = flatten(problem.standardized_model, tensors).numpy()
    if log_q is None:
        log_q = np.zeros(len(points), points.dtype)
    return Draws(tensors, points, tf.convert_to_tensor(log_q))


def with_settings(approximation: Approximation, **settings: Any) -> Approximation:
    """Return the same approximation under other settings, such as `memory=MemorySettings(...)`."""
    problem = approximation.problem
    return replace(
        approximation, problem=replace(problem, settings=replace(problem.settings, **settings))
    )
