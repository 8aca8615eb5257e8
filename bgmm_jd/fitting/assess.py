"""The elbo, k-hat and status of what the search has found."""

import warnings
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration.calibrate import calibrate_approximation
from bgmm_jd.calibration.importance_sampling import surrogate_khat
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.fitting.search import FULL_BATCH_ROWS, SearchPlan, SearchResult
from bgmm_jd.model.prior_summaries import smallest_weight
from bgmm_jd.optimization import full_data
from bgmm_jd.optimization.restarts import RIVAL_NATS, Restart
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import expected_counts
from bgmm_jd.variational.approximation import Approximation, Draws, draw_mean_field
from bgmm_jd.variational.evaluation import log_joint_of_draws

_EMPTIEST_DRAWS, _WEIGHT_DRAWS = 16, 500
_EMPTY_BY_PRIOR = 0.05  # rows: a twentieth of what an occupied component has at least
_ELBO_BUDGET = 2**23  # draws x rows x features
_FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS = 32, 500


def with_verdict(posterior: Posterior, found: SearchResult) -> Posterior:
    """The same with its verdict, and a warning if that is not a good one."""
    emptiest = (
        smallest_expected_count(posterior) if posterior.status is Status.CONVERGED else np.inf
    )
    status = decide_status(posterior.status, found.best, found.restarts, posterior.khat, emptiest)
    posterior = replace(posterior, status=status)
    if not posterior.status.good:
        warnings.warn(str(posterior.status), RuntimeWarning, stacklevel=3)
    return posterior


class Assessment(NamedTuple):
    """What the found surrogate is worth, in internal units; NaN where that is not known."""

    elbo: float
    elbo_se: float
    khat: float
    status: Status


def assess(
    inside: Approximation, best: RunResult, plan: SearchPlan, calibrate: bool
) -> tuple[Approximation, Assessment]:
    """What to draw from, and what that is worth; Ctrl-C keeps what is known by then."""
    worth = Assessment(best.elbo, np.nan, np.nan, best.status)
    try:
        N, D = inside.data.shape
        draws = draw_mean_field(inside, _elbo_draws(N, D), plan.seed)
        elbo, elbo_se = _elbo(inside, draws, plan)
        worth = worth._replace(elbo=elbo, elbo_se=elbo_se)
        if not np.isfinite(elbo):
            worth = worth._replace(status=Status.DIVERGED)
        if worth.status is Status.DIVERGED:
            return inside, worth
        if calibrate:
            inside, khat = calibrate_approximation(inside, draws, plan.seed)
        else:
            khat = surrogate_khat(inside, draws, plan.seed)
        return inside, worth._replace(khat=khat)
    except KeyboardInterrupt:
        return inside, worth._replace(status=Status.INTERRUPTED)


def smallest_expected_count(posterior: Posterior) -> float:
    """Expected number of rows of the smallest component; of very many rows, by its weight.

    Infinite under a prior that leaves components empty, as a sparse or a stick-breaking one does.
    """
    data = posterior.inside.data
    sparse = smallest_weight(posterior.inside.model.prior) * data.total_weight < _EMPTY_BY_PRIOR
    if sparse or posterior.inside.model.is_stick_breaking:
        return np.inf
    if data.shape[0] > FULL_BATCH_ROWS:
        weights = draw_mean_field(posterior.inside, _WEIGHT_DRAWS, seed=0).theta["weights"]
        return data.total_weight * float(np.mean(weights, axis=0).min())
    few = draw_mean_field(posterior.inside, _EMPTIEST_DRAWS, seed=0).theta
    return float(expected_counts(posterior, few).min())


def _elbo_draws(N: int, D: int) -> int:
    return int(np.clip(_ELBO_BUDGET // (N * D), _FEWEST_ELBO_DRAWS, _MOST_ELBO_DRAWS))


def _elbo(inside: Approximation, draws: Draws, plan: SearchPlan) -> tuple[float, float]:
    """The elbo of the surrogate estimated anew, and its standard error; in internal units."""
    if plan.batch_size is None:
        return full_data.full_data_elbo(inside, stateless_seed(plan.seed, "elbo"))
    log_ratio = log_joint_of_draws(inside, draws) - draws.log_q.numpy()
    return float(log_ratio.mean()), float(log_ratio.std(ddof=1) / len(log_ratio) ** 0.5)


_FEWEST_ROWS = 1.0  # that a component must hold
_FEWEST_RESTARTS = 3  # that let a lone winner be told from a lone start


def decide_status(
    status: Status, best: RunResult, restarts: tuple[Restart, ...], khat: float, emptiest: float
) -> Status:
    """The gravest thing that is known of a fit.

    Parameters
    ----------
    status : how the optimization and the calibration ended.
    khat : NaN where it is not known.
    emptiest : expected number of rows of the smallest component.
    """
    if any(restart.status is Status.INTERRUPTED for restart in restarts):
        return Status.INTERRUPTED
    if status is not Status.CONVERGED:
        return status
    if khat > KHAT_LIMIT:
        return Status.KHAT_TOO_HIGH
    if any(_rivals(r, best) for r in restarts):
        return Status.SEVERAL_MODES
    if emptiest < _FEWEST_ROWS:
        return Status.COMPONENT_EMPTY
    if len(restarts) >= _FEWEST_RESTARTS and sum(r.agrees for r in restarts) == 1:
        return Status.RESTARTS_DISAGREE
    return Status.CONVERGED


def _rivals(restart: Restart, best: RunResult) -> bool:
    settled = restart.status is Status.CONVERGED
    return settled and not restart.agrees and best.elbo - restart.elbo < RIVAL_NATS
