"""Fitted posteriors with another data set or other settings, in place of another fit."""

from dataclasses import replace
from typing import Any

from bgmm_jd.data.standardize import Data
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.settings import MemorySettings
from bgmm_jd.variational.approximation import Problem


def with_problem(posterior: Posterior, problem: Problem, **changes: Any) -> Posterior:
    """Return the posterior as if its parameters were fitted to another problem."""
    approximation = replace(posterior.approximation, problem=problem)
    return replace(posterior, approximation=approximation, **changes)


def with_data(posterior: Posterior, data: Data, **changes: Any) -> Posterior:
    """Return the posterior as if its parameters were fitted to other rows, well or badly."""
    return with_problem(posterior, posterior.problem.on(data), **changes)


def with_memory(posterior: Posterior, **budgets: int) -> Posterior:
    """Return the posterior with other memory budgets."""
    settings = replace(posterior.settings, memory=MemorySettings(**budgets))
    return with_problem(posterior, replace(posterior.problem, settings=settings))
