"""A plot of the evidence and the predictive accuracy by number and form of components."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.reporting.component_styles import INK, component_colours, component_marker
from bgmm_jd.reporting.plot_axes import add_legend, axes_of_shape, remove_frame, scale_nats
from bgmm_jd.reporting.rounding import in_nats

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_NEEDED = ("K", "covariance", "log_evidence", "log_evidence_se", "elpd_loo", "dse", "warning")
_NAMES = {"log_evidence": "log evidence", "elpd_loo": "elpd"}
_RING: dict[str, Any] = {"s": 170, "facecolors": "none", "edgecolors": INK, "linewidths": 1.2}


class HasTable(Protocol):
    """A result of `select`: reporting does not import fitting, and needs its table only."""

    @property
    def table(self) -> pd.DataFrame:
        """Return the table of `compare`, the chosen fit first."""


def plot_selection(selection: HasTable, *, ax: Any = None) -> np.ndarray:
    """Plot the log evidence of each fit by K, a line for each form of covariance.

    The height is relative to the highest value, in nats, and logarithmic beyond 10 nats where the
    fits differ by more than 100 ("symlog" of matplotlib): the differences that matter for the
    choice are the small ones. Error bars are of 1 standard error. Where the evidence is out of
    reach its lower bound is drawn, hollow and without a bar; where that is not known either, the
    line has a gap, and the legend counts such fits. The fit that was chosen has a ring.

    A second panel has the expected log predictive density by leave-one-out (`elpd_loo`) where it
    was computed. Its bars are of 1 standard error of the difference to the highest one, which is
    smaller than that of the value itself; it is hollow where it is not reliable (the column
    `warning`).

    Parameters
    ----------
    selection : Selection
        As `bgmm_jd.select` returns it.
    ax : array of matplotlib.axes.Axes [1] or [2], or one of them for the evidence alone, optional
        By default those of a new figure of pyplot's.

    Returns
    -------
    array of matplotlib.axes.Axes [1] or [2]
        Log evidence and elpd; the evidence alone if one is given, or if `elpd_loo` is not known.

    Raises
    ------
    TypeError, ValueError
        If `selection` is not what `select` returns, or `ax` has another number of axes.
    """
    table = _as_table(selection)
    has_elpd = bool(np.isfinite(table["elpd_loo"]).any())
    wants_one = ax is not None and np.size(np.array(ax, dtype=object)) == 1
    n = 2 if has_elpd and not wants_one else 1
    panels = "for the log evidence" + (" and elpd" if has_elpd else "; elpd is not known")
    axes = axes_of_shape(ax, (n,), 4.0 * n + 2.0, 3.6, panels)
    _draw_criterion(axes[0], table, "log_evidence", "log_evidence_se")
    if n == 2:
        _draw_criterion(axes[1], table, "elpd_loo", "dse")
    add_legend(axes[-1], _handles(table, with_elpd=n == 2))
    return axes


def _as_table(selection: Any) -> pd.DataFrame:
    """Return the table with a column `hollow` for each criterion, or raise."""
    table: Any = getattr(selection, "table", None)
    if not set(_NEEDED) <= set(getattr(table, "columns", ())):
        raise TypeError(
            "selection must be a Selection, as bgmm_jd.select returns it; got "
            f"{type(selection).__name__}."
        )
    return table.assign(
        hollow_log_evidence=table["log_evidence_se"].isna(),
        hollow_elpd_loo=table["warning"].astype(bool),
    )


def _draw_criterion(ax: Axes, table: pd.DataFrame, criterion: str, error: str) -> None:
    """Draw a line for each form, with bars and symbols, and a ring around the fit chosen."""
    value = table[criterion].where(np.isfinite(table[criterion]))
    highest = value.max()
    value = value - highest
    hollow = table[f"hollow_{criterion}"]
    for form in _forms(table):
        colour, marker = _style(form)
        one = table["covariance"] == form
        order = table.index[one][np.argsort(table.loc[one, "K"])]
        K, y, bar = table["K"][order], value[order], table[error][order]
        ax.plot(K, y, color=colour, lw=1.4, label=form, zorder=2)
        with_bar = np.isfinite(bar) & np.isfinite(y)
        if with_bar.any():
            ax.errorbar(
                K[with_bar], y[with_bar], bar[with_bar], fmt="none", ecolor=colour, capsize=3
            )
        fill = np.where(hollow[order], "white", colour)
        ax.scatter(K, y, 34, c=fill, edgecolors=colour, marker=marker, linewidths=1.4, zorder=3)
    if np.isfinite(value.iloc[0]):
        ax.scatter(table["K"].iloc[0], value.iloc[0], **_RING, zorder=4)
    scale_nats(ax, value.to_numpy())
    reference = f" relative to {in_nats(highest)}" if np.isfinite(highest) else ""
    ax.set_ylabel(f"{_NAMES[criterion]}{reference} (nats)")
    ax.set_xticks(sorted(table["K"].unique()))
    ax.set_xlabel("K, number of components")
    remove_frame(ax)


def _forms(table: pd.DataFrame) -> list[str]:
    return [form for form in FORMS if (table["covariance"] == form).any()]


def _style(form: str) -> tuple[str, str]:
    """Return colour and symbol of a form of covariance, the same in all figures."""
    from matplotlib.colors import to_hex

    number = FORMS.index(form)
    return to_hex(component_colours(len(FORMS))[number]), component_marker(number)


def _handles(table: pd.DataFrame, with_elpd: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    handles = []
    for form in _forms(table):
        colour, marker = _style(form)
        handles.append(Line2D([], [], color=colour, marker=marker, lw=1.4, label=form))
    ring: dict[str, Any] = {"marker": "o", "mfc": "none", "mec": INK, "ls": ""}
    handles.append(Line2D([], [], **ring, ms=11, label=f"chosen: {table.index[0]}"))
    texts = _remarks(table, "log_evidence", "lower bound of the evidence")
    if with_elpd:
        texts += _remarks(table, "elpd_loo", "elpd not reliable")
    for text in texts:
        style: dict[str, Any] = ring if text.startswith("hollow") else {"ls": ""}
        handles.append(Line2D([], [], **style, ms=6, label=text))
    return handles


def _remarks(table: pd.DataFrame, criterion: str, meaning: str) -> list[str]:
    """Return what the legend says of hollow symbols and of gaps, where there are any."""
    known = np.isfinite(table[criterion])
    hollow = (table[f"hollow_{criterion}"] & known).any()
    gaps = int((~known).sum())
    return [
        *([f"hollow: {meaning}"] if hollow else []),
        *([f"{_NAMES[criterion]} not known: {gaps} fit{'s' if gaps > 1 else ''}"] if gaps else []),
    ]
