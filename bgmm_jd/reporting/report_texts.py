"""What a report says in words: the model, the verdict, what the fit cost, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bgmm_jd.backend.versions import all_versions
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.html import code, definitions, escaped, paragraph
from bgmm_jd.reporting.rounding import counted, in_nats, with_error

if TYPE_CHECKING:
    import pandas as pd

_COVARIANCES = {
    "diag": "diagonal covariance matrices",
    "full": "full covariance matrices",
    "tied": "one full covariance matrix that all of them share",
    "spherical": "spherical covariance matrices",
}
_METHODS = {
    "hmc": "Hamiltonian Monte Carlo, from draws of a proposal for all modes or at each mode",
    "mixture": "importance sampling from t distributions over all modes",
    "importance": "importance sampling from a normal approximation",
    "normal": "a normal approximation",
    "mean field": "the mean-field surrogate, whose intervals are too narrow where clusters overlap",
}
_CHAINS = "Markov chains of Hamiltonian Monte Carlo"
_RELIABLE = 0.5  # k-hat up to which no more draws are needed: Vehtari et al. (2024)
_CLEAR = 3.0  # nats of a difference in log evidence: odds of 20 to 1


def lead(posterior: Posterior) -> str:
    """Return one sentence on what was fitted to what."""
    N, D = posterior.problem.data.shape
    components = counted(posterior.K, "component")
    form = _COVARIANCES[posterior.covariance]
    missing = "; missing values are integrated out" if posterior.missing else ""
    return (
        f"{components} with {form}, fitted to {counted(N, 'row')} of {counted(D, 'feature')}"
        f"{missing}."
    )


def verdict(posterior: Posterior) -> str:
    """Return the status with its advice, and what it rests on."""
    status = posterior.status
    name = status.name.capitalize().replace("_", " ")
    kind = "good" if status.good else "attention"
    return (
        f'<p class="verdict {kind}"><strong>{escaped(name)}</strong>{escaped(status.value)}</p>\n'
        + definitions(_grounds(posterior))
    )


def _grounds(posterior: Posterior) -> Iterator[tuple[str, str]]:
    """Yield what the verdict rests on, by name."""
    method = _CHAINS if posterior.has_chains else _METHODS[posterior.method]
    yield "Draws", f"By {method}: {_diagnostic(posterior)}."
    yield "Search", _search(posterior)
    if math.isfinite(posterior.log_evidence):
        evidence = with_error(posterior.log_evidence, posterior.log_evidence_se)
        yield "Log evidence", f"{evidence} nats, of all labellings of the components."
    elif math.isfinite(posterior.elbo):
        yield "Log evidence", f"Not known; at least {in_nats(posterior.evidence_bound)} nats."
    yield "Elbo", f"{with_error(posterior.elbo, posterior.elbo_se)} nats."


def _diagnostic(posterior: Posterior) -> str:
    """Return R-hat or k-hat with what it means."""
    if posterior.mixing is not None:
        # If they are not chains of one mode, a posterior does not keep which of the two they are.
        what = "chains" if posterior.has_chains else "groups of draws, or the chains of a mode,"
        agree = "agree" if posterior.is_reliable else "do not agree"
        return f"{posterior.diagnostic}; the {what} that R-hat compares {agree}"
    khat = posterior.khat
    if math.isnan(khat):
        return "k-hat was too expensive to compute"
    meaning = f"above {KHAT_LIMIT}, not reliable"
    if khat <= KHAT_LIMIT:
        meaning = f"not above {KHAT_LIMIT}, usable"
    if khat < _RELIABLE:
        meaning = f"below {_RELIABLE}, reliable"
    return f"k-hat {khat:.2f} ({meaning})"


def _search(posterior: Posterior) -> str:
    """Return how many runs and starts reached the solution."""
    runs = posterior.restarts
    agreeing = [run for run in runs if run.agrees]
    starts = counted(sum(run.starts for run in agreeing), "start")
    if len(runs) == 1:
        return f"One run of the optimiser, to which {starts} led."
    return f"{len(agreeing)} of {counted(len(runs), 'run')} agree; {starts} led to this solution."


def comparison_in_words(table: pd.DataFrame) -> str:
    """Return what the evidence says of the first two fits, and how to read the table."""
    text = ""
    known = table[table["log_evidence"].notna()]
    if len(known) > 1:
        text = _difference(known.iloc[:2])
    return paragraph(
        text
        + "The evidence says which number and form of components the rows support, and depends "
        "on the prior; elpd, by leave-one-out cross-validation, says how well new rows are "
        "predicted, and hardly penalises a superfluous component."
    )


def _difference(fits: pd.DataFrame) -> str:
    """Return what the evidence says of two fits, of which each may have a lower bound only."""
    first, second = map(str, fits.index)
    evidence, is_bound = fits["log_evidence"], fits["log_evidence_se"].isna()
    if is_bound.iloc[1]:
        return (
            f"The evidence of {first} and {second} cannot be compared: that of {second} is known "
            "by a lower bound only, and may be the higher one. "
        )
    gap, least = evidence.iloc[0] - evidence.iloc[1], "at least " if is_bound.iloc[0] else ""
    return (
        f"The log evidence favours {first} over {second} by {least}{in_nats(gap)} nats, "
        f"{_strength(gap, least)}. "
    )


def _strength(nats: float, least: str) -> str:
    """Return a difference of log evidence as odds, where these are numbers to think with.

    least : "at least " if it is a lower bound, or else "".
    """
    if nats >= math.log(1_000):
        return "odds of more than 1,000 to 1 if both were equally probable before"
    odds = f"odds of {least}{math.exp(nats):,.1f} to 1 if both were equally probable before"
    if least:
        return odds
    return odds if nats >= _CLEAR else f"which is no clear difference ({odds})"


def cost(posterior: Posterior) -> str:
    """Return what the fit cost: time by part, steps and rows of a step."""
    seconds = posterior.seconds
    parts = ", ".join(f"{name} {value:,.1f} s" for name, value in seconds.items())
    runs = len(posterior.restarts)
    of_runs = "" if runs == 1 else f" of the best of {runs} runs"
    facts = [
        ("Time", f"{sum(seconds.values()):,.1f} s with compilation: {parts}."),
        ("Steps", f"{len(posterior.elbo_trace):,}{of_runs}."),
        ("Rows", f"At most {counted(posterior.batch_size, 'row')} in a step."),
        ("Precision", f"{posterior.dtype.name}."),
    ]
    return definitions(facts)


def reproduction(posterior: Posterior) -> str:
    """Return the call of the fit, with the versions that ran it."""
    made = posterior.provenance
    if made is None:
        return paragraph(
            "The call of the fit is not known: the posterior is from a file of an older version."
        ) + definitions([("Report by", ", ".join(all_versions()))])
    text = paragraph(
        "The same call with the same rows, on the same machine with the same versions, gives the "
        "same result. X stands for the rows, and a name such as in prior=prior for an object."
    )
    facts = [("Fitted with", ", ".join(made.versions))]
    if made.versions != all_versions():
        facts.append(("Report by", ", ".join(all_versions())))
    return text + code(f"import bgmm_jd\n\nposterior = {made.call}") + definitions(facts)
