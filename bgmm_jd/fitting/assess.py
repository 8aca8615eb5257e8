"""Assessment of the fitted surrogate: elbo, calibration and k-hat."""

from typing import NamedTuple

import numpy as np

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.calibration.calibrate import calibrate_approximation
from bgmm_jd.calibration.importance_sampling import surrogate_khat
from bgmm_jd.fitting.search import SearchPlan
from bgmm_jd.optimization.full_data import full_data_elbo
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import (
    Approximation,
    Draws,
    draw_mean_field,
)
from bgmm_jd.variational.evaluation import log_joint_of_draws


class Assessment(NamedTuple):
    """The elbo in standardised units, its standard error, k-hat and status.

    NaN where a number is not known.
    """

    elbo: float
    elbo_se: float
    khat: float
    status: Status


def assess(
    approximation: Approximation, best: RunResult, plan: SearchPlan, calibrate: bool
) -> tuple[Approximation, Assessment]:
    """Estimate the elbo of the fitted surrogate, calibrate it, and compute k-hat.

    Ctrl-C keeps what is known by then.
    """
    assessment = Assessment(best.elbo, np.nan, np.nan, best.status)
    problem, params = approximation.problem, approximation.params
    try:
        draws = draw_mean_field(problem, params, _elbo_draws(approximation), plan.seed)
        elbo, elbo_se = elbo_of_surrogate(approximation, draws, plan)
        assessment = assessment._replace(elbo=elbo, elbo_se=elbo_se)
        if not np.isfinite(elbo):
            assessment = assessment._replace(status=Status.DIVERGED)
        if assessment.status is Status.DIVERGED:
            return approximation, assessment
        if calibrate:
            approximation, khat = calibrate_approximation(approximation, draws, plan.seed)
        else:
            khat = surrogate_khat(approximation, draws, plan.seed)
        return approximation, assessment._replace(khat=khat)
    except KeyboardInterrupt:
        return approximation, assessment._replace(status=Status.INTERRUPTED)


def _elbo_draws(approximation: Approximation) -> int:
    N, D = approximation.problem.data.shape
    settings = approximation.problem.settings.assessment
    wanted = settings.elbo_numbers // (N * D)
    return int(np.clip(wanted, settings.fewest_elbo_draws, settings.most_elbo_draws))


def elbo_of_surrogate(
    approximation: Approximation, draws: Draws, plan: SearchPlan
) -> tuple[float, float]:
    """Estimate the elbo anew, and return it with its standard error; in standardised units.

    Parameters
    ----------
    draws : of the surrogate. Many rows are read in passes instead, which have their own draws.
    """
    problem = approximation.problem
    if plan.batch_size is None:
        return full_data_elbo(problem, approximation.params, stateless_seed(plan.seed, "elbo"))
    log_ratio = log_joint_of_draws(problem, draws) - draws.log_q.numpy()
    return float(log_ratio.mean()), float(log_ratio.std(ddof=1) / len(log_ratio) ** 0.5)
