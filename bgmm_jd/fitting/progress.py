"""The progress of a fit: reported to a callback, shown by `progress_display`, written to a log."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.variational.approximation import Problem

Phase = Literal[
    "starts", "optimization", "passes", "elbo", "calibration", "whole posterior", "chains"
]

DESCRIPTIONS: dict[Phase, str] = {
    "starts": "looking for starts",
    "optimization": "optimising",
    "passes": "all rows",
    "elbo": "estimating the elbo",
    "calibration": "calibrating",
    "whole posterior": "drawing from all modes",
    "chains": "drawing by Hamiltonian Monte Carlo",
}

logger = logging.getLogger("bgmm_jd")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a fit has come: the argument of `callback` of `fit` and `select`.

    Attributes
    ----------
    phase : str
        "starts" looks for starts; "optimization" takes steps from each; "passes" go on with all of
        many rows; "elbo" estimates it anew; "calibration", "whole posterior" and "chains" make the
        draws.
    K, covariance : int, str
        Number of components and form of the fit.
    seconds : float
        Since the fit began, which is after its input was checked.
    start, starts : int
        Number of the present start, from 1, and of all starts.
    steps, max_steps : int
        Number of steps taken from it, passes included, and the limit of steps; 0 outside of
        "optimization" and "passes".
    elbo : float
        Mean over the last block of steps, or of the last pass, in nats for the whole data set and
        the units of X; NaN before the first, and in other phases.
    drift : float
        Distance that the parameters still move, in posterior sds: between the averages of the two
        halves of the iterates, or the estimated rest of the way. Infinite while it is not known.
    """

    phase: Phase
    K: int = 0
    covariance: str = ""
    seconds: float = 0.0
    start: int = 1
    starts: int = 1
    steps: int = 0
    max_steps: int = 0
    elbo: float = float("nan")
    drift: float = float("inf")


Reporter = Callable[[Progress], None]


def as_callback(callback: Any) -> Reporter | None:
    """Return `callback`, or raise unless it can be called."""
    if callback is not None and not callable(callback):
        raise TypeError(
            "callback must be a function of one argument, a bgmm_jd.Progress; got "
            f"{type(callback).__name__}. Try callback=print."
        )
    return callback


class Phases:
    """Recall the phase that was seen last."""

    def __init__(self) -> None:
        self._last: tuple[Any, ...] = ()

    def is_new(self, progress: Progress) -> bool:
        """Return whether the phase, or its start, is another than that of the last call."""
        key = (progress.K, progress.covariance, progress.phase, progress.start)
        found = key != self._last
        self._last = key
        return found


def log_run(problem: Problem, start: int, starts: int, run: RunResult) -> None:
    """Write how a run ended to the log, with its elbo in the units of X."""
    logger.info(
        "K=%d, %s: run %d of %d, %s after %s steps, elbo %s",
        problem.model.K,
        problem.model.covariance,
        start,
        starts,
        run.status.name,
        f"{len(run.elbos):,}",
        f"{run.elbo - problem.data.log_det_jacobian:,.2f}",
    )
