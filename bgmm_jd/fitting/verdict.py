"""The evidence for and against a fit, weighed into one status."""

from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.single_run import Run
from bgmm_jd.optimization.status import Status

# Nats of elbo: a mode further below the best holds less than a twentieth of its mass.
RIVAL = 3.0
_FEWEST_ROWS = 1.0  # that a component must hold
_FEWEST_RESTARTS = 3  # that let a lone winner be told from a lone start


def verdict(
    status: Status, best: Run, restarts: tuple[Restart, ...], khat: float, emptiest: float
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


def _rivals(restart: Restart, best: Run) -> bool:
    settled = restart.status is Status.CONVERGED
    return settled and not restart.agrees and best.elbo - restart.elbo < RIVAL
