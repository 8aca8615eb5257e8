"""The tables of a report: components, modes, and the comparison with other fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.component_styles import PALETTE
from bgmm_jd.reporting.html import escaped, paragraph, row, table
from bgmm_jd.reporting.names import component_labels
from bgmm_jd.reporting.rounding import rounded, with_error

if TYPE_CHECKING:
    import pandas as pd

_MOST_FEATURES = 50  # rows of means and of standard deviations
_MOST_MODES = 12


class Estimates(NamedTuple):
    """Posterior mean, sd and ends of the interval, on the last axis.

    weights : [K, 4]
    means, sds : [K, D, 4]
    """

    weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray


def estimates(posterior: Posterior, draws: int, seed: int, prob: float) -> Estimates:
    """Return the numbers of `posterior.summary`."""
    values = posterior.summary(draws=draws, seed=seed, prob=prob).to_numpy()
    K, D = posterior.K, posterior.D
    means, sds = values[K:].reshape(2, K, D, values.shape[1])
    return Estimates(values[:K], means, sds)


def components_table(
    posterior: Posterior,
    names: Sequence[str],
    found: Estimates,
    counts: np.ndarray | None,
    prob: float,
) -> str:
    """Return the table of weights, means and standard deviations, a column for each component.

    Parameters
    ----------
    names : of the features [D].
    counts : rows that are most probably of each component [K]; None to leave them out.
    prob : of the intervals.
    """
    K, shown = posterior.K, names[:_MOST_FEATURES]
    body = ["<tbody>\n", row("weight", _cells(found.weights))]
    if counts is not None:
        body.append(row("rows", (f"{count:,}" for count in counts)))
    body.append("</tbody>\n")
    for title, values in (("Means", found.means), ("Standard deviations", found.sds)):
        group = f'<tr class="group"><th scope="rowgroup" colspan="{K + 1}">{title}</th></tr>\n'
        rows = (row(_name(name), _cells(values[:, d])) for d, name in enumerate(shown))
        body += ["<tbody>\n", group, *rows, "</tbody>\n"]
    head = ["", *(_swatch(k) + _name(label) for k, label in enumerate(component_labels(posterior)))]
    caption = f"Posterior means, and {100 * prob:.3g} % intervals below them, in the units of X."
    note = ""
    if len(names) > len(shown):
        note = paragraph(
            f"The first {len(shown)} of {len(names)} features are shown; posterior.summary() has "
            "all of them."
        )
    return table(caption, head, "".join(body)) + note


def _cells(values: np.ndarray) -> list[str]:
    """Return the mean with the interval [..., 4] for each component."""
    return [
        f"{rounded(mean, sd)}"
        f'<span class="interval">{rounded(lower, sd)} to {rounded(upper, sd)}</span>'
        for mean, sd, lower, upper in values
    ]


def _name(text: str) -> str:
    return f'<span class="name">{escaped(text)}</span>'


def _swatch(k: int) -> str:
    """Return the colour that component k has in the plots."""
    return f'<span class="swatch" style="background: {PALETTE[k % len(PALETTE)]}"></span>'


def modes_table(posterior: Posterior) -> str:
    """Return the table of the first modes."""
    body = ["<tbody>\n"]
    for number, mode in enumerate(posterior.modes[:_MOST_MODES]):
        share = f"{mode.share:.1%}" if math.isfinite(mode.share) else "not known"
        cells = (share, _nats(mode.log_evidence), _nats(mode.elbo), _khat(mode.khat))
        body.append(row(str(number), (*cells, f"{mode.starts:,}")))
    head = ["mode", "share of the posterior", "log evidence", "elbo", "k-hat", "starts"]
    return table("Modes, the largest share first; in nats.", head, "".join([*body, "</tbody>\n"]))


def comparison_table(found: pd.DataFrame, posterior: Posterior) -> str:
    """Return the table of fits that `compare` makes; that of the report is emphasised."""
    body = ["<tbody>\n"]
    highest = found["log_evidence"].max()
    for name, fit in found.iterrows():
        is_this = (fit["K"], fit["covariance"]) == (posterior.K, posterior.covariance)
        is_this = is_this and fit["elbo"] == posterior.elbo
        evidence = with_error(fit["log_evidence"], fit["log_evidence_se"])
        is_known = math.isfinite(fit["log_evidence"])
        if is_known and math.isnan(fit["log_evidence_se"]):  # a bound
            evidence = f"at least {evidence}"
        remark = '<span class="interval">not reliable</span>' if fit["warning"] else ""
        cells = (
            f"{fit['K']}",
            escaped(fit["covariance"]),
            evidence,
            _nats(fit["log_evidence"] - highest),
            with_error(fit["elpd_loo"], fit["se"]) + remark,
            with_error(fit["elpd_diff"], fit["dse"]),
            escaped(fit["status"].lower().replace("_", " ")),
        )
        body.append(row(_name(str(name)), cells, "chosen" if is_this else ""))
    head = ["fit", "K", "covariance", "log evidence", "difference", "elpd", "difference", "status"]
    caption = "Fits of the same rows, the highest log evidence first; in nats, ± 1 standard error."
    return table(caption, head, "".join([*body, "</tbody>\n"]))


def _nats(value: float) -> str:
    return with_error(value, math.nan)


def _khat(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "not known"
