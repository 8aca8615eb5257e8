"""Rows, problems and approximations that tests build, and fitted posteriors that they change."""

from dataclasses import replace
from typing import Any

import numpy as np

from bgmm_jd.data.standardize import Data, standardize
from bgmm_jd.data.units import (
    Standardization,
    Transformation,
    as_standardization_tensors,
    identity_standardization,
    unstandardize,
)
from bgmm_jd.fitting.search import problem_of
from bgmm_jd.model.covariance_forms import scale_variable, units_of_rows
from bgmm_jd.optimization.initialization import start_at
from bgmm_jd.optimization.restarts import component_means
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.settings import MemorySettings, OptimizationSettings, Settings
from bgmm_jd.variational.approximation import Approximation, Problem

# The means of `two_clusters` of conftest, the component on the right first.
RIGHT_FIRST = np.array([[4.0, 0.0], [-4.0, 0.0]])
# The options of a fit that only has to exist.
QUICK = {"execution": "graph", "restarts": 1, "finish": "none", "progress": False}
# A start from a single seeding of k-means++, which is quicker and may be poor.
ONE_SEEDING = Settings(optimization=OptimizationSettings(first_start_seedings=1))


def problem_for(
    X: np.ndarray,
    K: int,
    covariance: str = "diag",
    *,
    prior: Any = None,
    weight: np.ndarray | None = None,
    execution: str = "graph",
    settings: Settings = ONE_SEEDING,
) -> Problem:
    """Standardise rows as `fit` does, and return the problem of fitting K components to them."""
    variable = "precisions" if prior is None else scale_variable(prior.dtype._asdict())
    complete = not np.isnan(X).any()
    data = standardize(X, weight, units_of_rows(covariance, variable, complete))
    return problem_of(data, K, covariance, prior, execution, settings)


def started(
    problem: Problem, init: np.ndarray | None = None, *, start: int = 0, seed: int = 0
) -> Approximation:
    """Return the mean field that a fit begins with, without calibration."""
    params = start_at(problem, init, start, seed)
    return Approximation(problem=problem, params=params, order=np.arange(problem.model.K))


def with_settings(approximation: Approximation, **settings: Any) -> Approximation:
    """Return the same approximation under other settings, such as `memory=MemorySettings(...)`."""
    problem = approximation.problem
    return replace(
        approximation, problem=replace(problem, settings=replace(problem.settings, **settings))
    )


def with_problem(posterior: Posterior, problem: Problem, **changes: Any) -> Posterior:
    """Return the posterior as if its parameters were fitted to another problem."""
    approximation = replace(posterior.approximation, problem=problem)
    return replace(posterior, approximation=approximation, **changes)


def with_data(posterior: Posterior, data: Data, **changes: Any) -> Posterior:
    """Return the posterior as if its parameters were fitted to other rows, well or badly."""
    return with_problem(posterior, posterior.problem.on(data), **changes)


def with_memory(posterior: Posterior, **budgets: int) -> Posterior:
    """Return the posterior with other memory budgets."""
    memory = MemorySettings(**budgets)
    return replace(posterior, approximation=with_settings(posterior.approximation, memory=memory))


def standardized_means(approximation: Approximation) -> np.ndarray:
    """Return the means of the components in standardised units: [K, D]."""
    sites = approximation.problem.model.sites
    return np.asarray(component_means(sites, approximation.params)[0])


def means_in_data_units(problem: Problem, means: np.ndarray) -> np.ndarray:
    """Return standardised means in the units of the rows."""
    standardization = problem.data.standardization
    return unstandardize(Transformation.LOCATION, means, standardization)


def identity_tensors(D: int, dtype: Any) -> Standardization:
    """Return the standardisation of D features that changes nothing, as tensors."""
    return as_standardization_tensors(identity_standardization(D), dtype)


def two_groups_of_unlike_scale(N: int = 90, seed: int = 3) -> np.ndarray:
    """Return two clusters far from zero, with columns of unlike scale: [N, 2]."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((N, 2)) @ [[1.0, 0.5], [0.0, 0.8]]
    rows += np.where(rng.random((N, 1)) < 0.4, [6.0, 2.0], [-3.0, 0.0])
    return np.array([50.0, -0.2]) + np.array([10.0, 0.03]) * rows
