"""A plot of the modes of the posterior and their shares."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from bgmm_jd.posterior.mode import Mode
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.component_styles import PALETTE
from bgmm_jd.reporting.plot_axes import add_note, one_axes, remove_frame
from bgmm_jd.reporting.rounding import in_nats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_MODES = 12  # bars: more would be too narrow for what is written beside them


def plot_modes(posterior: Posterior, *, ax: Axes | None = None) -> Axes:
    """Plot the share of the posterior that each mode has, with its evidence and its starts.

    There is a bar for each of `posterior.modes`, in their order; beside it are the log evidence of
    the mode, in nats, and the number of starts that led to it. Where the share of a mode is not
    known, there is no bar, and its elbo takes the place of the log evidence. Of more than twelve
    modes the first twelve are shown.

    Parameters
    ----------
    posterior : Posterior
    ax : matplotlib.axes.Axes, optional
        By default one of a new figure of pyplot's.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If no run of the fit converged, so that no mode is known.
    """
    modes = posterior.modes[:_MOST_MODES]
    if not modes:
        raise ValueError(
            "posterior must have at least one mode; no run of this fit converged. "
            f"{posterior.status.name}: {posterior.status}"
        )
    ax = one_axes(ax, 3.4, 0.4 + 0.55 * len(modes))
    height = np.arange(len(modes))
    shares = np.array([mode.share for mode in modes])
    ax.barh(height, np.nan_to_num(shares), 0.6, color=PALETTE[0])
    for y, share in zip(height, shares, strict=True):
        known = math.isfinite(share)
        text = f"{share:.1%}" if known else "share not known"
        ax.annotate(
            text, (share if known else 0.0, y), (4, 0), textcoords="offset points", va="center"
        )
    ax.set_yticks(height, [_describe(number, mode) for number, mode in enumerate(modes)])
    ax.set_ylim(len(modes) - 0.5, -0.5)
    ax.set_xlim(0.0, 1.2)  # with room for what is written beside a bar
    ax.set_xticks(np.linspace(0.0, 1.0, 6))
    ax.set_xlabel("share of the posterior")
    rest = len(posterior.modes) - len(modes)
    add_note(ax, f"{rest} more left out" if rest else "")
    remove_frame(ax)
    return ax


def _describe(number: int, mode: Mode) -> str:
    """Return what is written beside a bar."""
    starts = f"{mode.starts} start{'s' if mode.starts != 1 else ''}"
    if math.isnan(mode.log_evidence):
        return f"mode {number}, {starts}\nelbo {in_nats(mode.elbo)}"
    return f"mode {number}, {starts}\nlog evidence {in_nats(mode.log_evidence)}"
