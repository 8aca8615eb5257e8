"""What is printed of a posterior: its size, its verdict and what the verdict rests on."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bgmm_jd.sampling.modes import LEAST_SHARE

if TYPE_CHECKING:
    from bgmm_jd.optimization.restarts import Restart
    from bgmm_jd.posterior.posterior import Posterior


def as_text(posterior: Posterior) -> str:
    """Return the description in several lines, each a name and a value."""
    lines = [f"{name:<12}  {text}" for name, text in _facts(posterior)]
    return "\n ".join([f"<Posterior: {_size(posterior)}", *lines]) + ">"


def as_html(posterior: Posterior) -> str:
    """Return the description as an HTML table, for notebooks."""
    rows = "".join(
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(text)}</td></tr>'
        for name, text in _facts(posterior)
    )
    size = html.escape(_size(posterior))
    return f"<div><strong>Posterior</strong>: {size}<table>{rows}</table></div>"


def _size(posterior: Posterior) -> str:
    components = "1 component" if posterior.K == 1 else f"{posterior.K} components"
    rows = posterior.problem.data.shape[0]
    features = "1 feature" if posterior.D == 1 else f"{posterior.D} features"
    return f"{components}, {posterior.covariance} covariance, {rows:,} rows x {features}"


def _facts(posterior: Posterior) -> Iterator[tuple[str, str]]:
    """Yield names and texts, in the order in which they are shown."""
    yield "status", f"{posterior.status.name}: {posterior.status.value}"
    yield "elbo", _nats(posterior.elbo, posterior.elbo_se)
    yield "log evidence", _nats(posterior.log_evidence, posterior.log_evidence_se)
    yield "draws", f"{posterior.method}, {posterior.diagnostic}{_of_one_mode(posterior)}"
    shares = [mode.share for mode in posterior.modes if mode.share >= LEAST_SHARE]
    if len(shares) > 1:
        yield "modes", "shares of " + ", ".join(f"{share:.2f}" for share in shares)
    yield "restarts", _agreement(posterior.restarts)
    for name, names in (
        ("features", posterior.feature_names),
        ("components", posterior.component_names),
    ):
        if names is not None:
            yield name, ", ".join(names)


def _agreement(restarts: tuple[Restart, ...]) -> str:
    """Say how many runs, and starts of the search before them, ended at the best solution."""
    runs = [restart for restart in restarts if restart.agrees]
    led, starts = (sum(restart.starts for restart in some) for some in (runs, restarts))
    return f"{len(runs)} of {len(restarts)} runs agree; {led} of {starts} starts led there"


def _nats(value: float, error: float) -> str:
    return "not known" if math.isnan(value) else f"{value:.2f} +/- {error:.2f} nats"


def _of_one_mode(posterior: Posterior) -> str:
    """Name the mode that `at_mode` has chosen."""
    bank, proposal = posterior.approximation.bank, posterior.approximation.proposal
    chosen = None if bank is None else bank.chosen
    if proposal is not None and proposal.region is not None:
        chosen = proposal.region.chosen
    for number, mode in enumerate(posterior.modes):
        if chosen is not None and mode.region is not None and mode.region.chosen == chosen:
            return f"; of modes[{number}] alone"
    return ""
