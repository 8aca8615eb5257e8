"""Differences of elbos, by draws that two surrogates have in common.

The elbo of one surrogate is known to some tenths of a nat from a few hundred draws. The difference
of two similar ones is known far better if their draws come from the same random numbers.
"""

from typing import NamedTuple

import numpy as np

from bgmm_jd.variational.approximation import Problem, draw_mean_field
from bgmm_jd.variational.evaluation import affordable_draws, log_joint_of_draws
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    between,
    constrained_arrays,
    unconstrained_arrays,
)

_BETWEEN = (0.5, 0.25, 0.75)  # where a valley shows most often, first
_ERRORS = 2.0  # standard errors from an estimate to its upper limit
_COMPARISONS = 100  # elbos at least that must be affordable; all runs of a fit need fewer


class Difference(NamedTuple):
    """How much higher one elbo is than another, in nats, and its standard error."""

    gain: float
    se: float

    @property
    def at_most(self) -> float:
        """Return an upper limit of the difference."""
        return self.gain + _ERRORS * self.se

    @property
    def size_at_most(self) -> float:
        """Return an upper limit of the difference's absolute value."""
        return abs(self.gain) + _ERRORS * self.se


def are_affordable(problem: Problem) -> bool:
    """Return whether elbos can be compared on all rows without much time."""
    settings = problem.settings.optimization
    is_whole = problem.data.sampling_fraction == 1.0
    return is_whole and affordable_draws(problem) >= _COMPARISONS * settings.comparison_draws


def elbo_terms(problem: Problem, params: VariationalParameters) -> np.ndarray:
    """Return log joint less log surrogate at draws of the surrogate: [S], in nats."""
    settings = problem.settings.optimization
    draws = draw_mean_field(problem, params, settings.comparison_draws, seed=0)
    return log_joint_of_draws(problem, draws) - draws.log_q.numpy()


def difference(terms: np.ndarray, others: np.ndarray) -> Difference:
    """Return how much higher the first elbo is than the second; NaN if that is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):  # out of the dtype's range
        apart = terms - others
        gain, se = float(apart.mean()), float(apart.std(ddof=1) / len(apart) ** 0.5)
    return Difference(gain, se) if np.isfinite([gain, se]).all() else Difference(np.nan, np.nan)


def elbo_gain(
    problem: Problem, before: VariationalParameters, after: VariationalParameters
) -> Difference:
    """Return how much higher the elbo of the second surrogate is."""
    return difference(elbo_terms(problem, after), elbo_terms(problem, before))


def has_valley_between(
    problem: Problem, higher: VariationalParameters, lower: VariationalParameters
) -> bool:
    """Return whether the elbo falls below its lower end on the straight way between two surrogates.

    In unconstrained coordinates. Without a valley, the lower end is not an optimum of its own.
    Where an elbo is not finite there is one.
    """
    sites, limit = problem.model.sites, problem.settings.optimization.valley
    start, end = (unconstrained_arrays(sites, params) for params in (higher, lower))
    terms = elbo_terms(problem, lower)
    for fraction in _BETWEEN:
        params = constrained_arrays(sites, between(start, end, fraction))
        if not difference(elbo_terms(problem, params), terms).at_most > -limit:
            return True
    return False
