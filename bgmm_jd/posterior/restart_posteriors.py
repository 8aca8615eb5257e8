"""The posterior at the solution of each restart."""

from dataclasses import replace

from bgmm_jd.calibration.calibrate import calibrate_approximation
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.variational.approximation import Approximation, draw_mean_field


def restart_posteriors(posterior: Posterior) -> list[Posterior]:
    """Return the posterior of each restart that converged, with components matched to the best.

    A restart that ended at the optimum of an earlier one is within 0.15 sds of it, and may be no
    nearer.
    """
    found = []
    for restart in posterior.restarts:
        if restart.status is Status.CONVERGED:
            order = restart.order[posterior.approximation.order]
            approximation = Approximation(
                problem=posterior.problem, params=restart.params, order=order
            )
            if posterior.approximation.calibration is not None:
                draws = draw_mean_field(posterior.problem, restart.params, PREDICTIVE_DRAWS, seed=0)
                approximation, _ = calibrate_approximation(approximation, draws, seed=0)
            found.append(replace(posterior, approximation=approximation))
    return found or [posterior]
