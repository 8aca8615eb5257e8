"""The arguments of a fit on which its search depends: those by which a checkpoint knows it."""

from dataclasses import replace
from typing import Any

from tensorflow_probability import distributions as tfd

from bgmm_jd.fitting.given_rows import GivenRows
from bgmm_jd.fitting.search import SearchPlan
from bgmm_jd.settings import Settings, SourceSettings
from bgmm_jd.variational.approximation import Problem


def arguments_of_search(
    rows: GivenRows,
    prior: tfd.JointDistributionCoroutine | None,
    missing: str | None,
    problem: Problem,
    plan: SearchPlan,
) -> dict[str, Any]:
    """Return the arguments of `fit`, by name, that decide on the result of the search.

    Rows of a source are known by their sample, and by what the first two passes have found.
    """
    surveyed = None
    if rows.census is not None:
        census = rows.census._asdict() | {"sample": None}  # which `rows.values` are
        surveyed = problem.data.standardization, problem.data.far_scatter, census
    return {
        "X": (rows.values, rows.count, surveyed),
        "sample_weight": rows.weight,
        "K": problem.model.K,
        "covariance": problem.model.covariance,
        "prior": prior,
        "missing": missing,
        "init": None if plan.is_near else plan.init,
        "start": plan.init if plan.is_near else None,
        "batch_size": plan.batch_size,
        "restarts": plan.restarts,
        "max_steps": plan.max_steps,
        "optimizer": plan.optimizer,
        "seed": plan.seed,
        "execution": problem.execution,
        "settings": _without_patience(problem.settings),
    }


def _without_patience(settings: Settings) -> Settings:
    """Return the settings but for how long a fit waits: it may be resumed with more patience."""
    patience = SourceSettings().patience
    return replace(settings, sources=replace(settings.sources, patience=patience))
