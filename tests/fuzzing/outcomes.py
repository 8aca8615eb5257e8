"""How the calls of a case end: with a status, with a documented error, or in a violation."""

import linecache
import re
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fuzzing.cases import Case, rows_of, weights_of
from fuzzing.operations import OPERATIONS, check_finite
from fuzzing.priors import prior_of

import bgmm_jd
from bgmm_jd.backend.memory_maps import MemoryMapsWarning
from bgmm_jd.data.far_rows import FarRowsWarning
from bgmm_jd.data.ties import FewValuesWarning

PACKAGE = str(Path(bgmm_jd.__file__).parent)
DOCUMENTED_WARNINGS = (
    bgmm_jd.StatusWarning,
    FarRowsWarning,
    FewValuesWarning,
    MemoryMapsWarning,
)


class Outcome(NamedTuple):
    """How one call ended.

    call : "fit", or the name of an operation.
    kind : "status", "returned", "error" (documented) or "violation".
    text : the name of the status, or the message without its numbers.
    """

    call: str
    kind: str
    text: str


def outcomes_of(case: Case) -> list[Outcome]:
    """Make the calls of a case, and tell how each ended."""
    posterior, outcome = _fit(case)
    found = [outcome]
    if posterior is None:
        return found
    X = np.asarray(rows_of(case))
    for name in dict.fromkeys(case.operations):
        outcome = _outcome(name, "returned", lambda name=name: OPERATIONS[name](posterior, X))
        if _is_warned_of(posterior) and outcome.text.startswith("AssertionError"):
            outcome = Outcome(name, "returned", "NaN or infinity, of a fit that says so")
        found.append(outcome)
    return found


def _is_warned_of(posterior: bgmm_jd.Posterior) -> bool:
    """Return whether the status says that numbers have left the range, or may not be there."""
    return posterior.status in (bgmm_jd.Status.DIVERGED, bgmm_jd.Status.INTERRUPTED)


def _fit(case: Case) -> tuple[bgmm_jd.Posterior | None, Outcome]:
    fitted = []

    def run() -> None:
        fitted.append(fit_case(case))
        check_posterior(fitted[0])

    outcome = _outcome("fit", "status", run)
    if outcome.kind == "status":
        outcome = outcome._replace(text=fitted[0].status.name)
    return (fitted[0] if fitted else None), outcome


def fit_case(case: Case, **changes: object) -> bgmm_jd.Posterior:
    """Make the fit of a case, with some arguments changed."""
    K, D, frame = case.shape[2], case.shape[1], case.frame
    arguments = {
        "X": rows_of(case),
        "K": K,
        "covariance": frame.covariance,
        "prior": prior_of(frame.prior, K, D, frame.covariance, frame.dtype),
        "sample_weight": weights_of(case),
        "batch_size": case.batch_size,
        "seed": case.seed,
        "progress": False,
        "execution": frame.execution,
        "restarts": case.restarts,
        "max_steps": case.max_steps,
        "calibrate": case.calibrate,
        "missing": "marginalize" if case.allows_missing else None,
        "optimizer": case.optimizer,
        "finish": case.finish,
    }
    return bgmm_jd.fit(**(arguments | changes))


def check_posterior(posterior: bgmm_jd.Posterior) -> None:
    """Raise AssertionError if a number is not finite that the status does not speak of."""
    if _is_warned_of(posterior):
        return
    check_finite("elbo", [posterior.elbo, posterior.elbo_se])
    assert not np.isinf(posterior.log_evidence), "log_evidence is infinite"
    assert not (posterior.khat == np.inf and posterior.is_reliable), "khat is infinite"
    for name, values in posterior.sample(20).items():
        check_finite(f"draws of {name}", values)


def _outcome(call: str, kind: str, run: object) -> Outcome:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            run()  # type: ignore[operator]
        except Exception as error:
            return Outcome(call, *_error(error))
    undocumented = [w for w in caught if not issubclass(w.category, DOCUMENTED_WARNINGS)]
    if undocumented:
        first = undocumented[0]
        return Outcome(call, "violation", f"{first.category.__name__}: {_general(first.message)}")
    return Outcome(call, kind, "")


def _error(error: Exception) -> tuple[str, str]:
    """Return whether an error is a documented one, and its text."""
    text = f"{type(error).__name__}: {_general(error)}"
    if type(error) in (TypeError, ValueError) and _is_raised_by_library(error):
        return "error", text
    where = traceback.extract_tb(error.__traceback__)[-1]
    return "violation", f"{text} ({Path(where.filename).name}:{where.lineno})"


def _is_raised_by_library(error: Exception) -> bool:
    """Return whether a `raise` of the package made the error, and no function that it calls."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    return last.filename.startswith(PACKAGE) and line.startswith("raise")


def _general(message: object) -> str:
    """Return a message without the numbers in it, so that equal ones can be counted."""
    return re.sub(r"[-+]?\d[\d,.]*(e[-+]?\d+)?", "#", str(message))[:160]
