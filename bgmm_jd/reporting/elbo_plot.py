"""A plot of the elbo during a fit, and of where each run ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.component_styles import INK, PALETTE
from bgmm_jd.reporting.plot_axes import add_legend, one_axes, scale_nats
from bgmm_jd.reporting.rounding import in_nats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLOCK = 25  # steps: a running median of more would hide the approach to the optimum


def plot_elbo(posterior: Posterior, *, ax: Axes | None = None) -> Axes:
    """Plot the elbo by step of the run that was kept, and the final elbos of all runs.

    Everything is relative to `posterior.elbo`, the level that was averaged after the fit, whose
    band is of 2 standard errors: zero is the optimum, and the height is in nats for the whole data
    set. Where the run began far below, the vertical axis is logarithmic outside of the noise of
    the last steps ("symlog" of matplotlib); `ax.set_yscale("linear")` changes that.

    A run of `posterior.restarts` is a symbol at its number of steps and its elbo: filled if it
    agrees with the run that was kept, hollow if it ended elsewhere. A run that ended at the optimum
    of an earlier one is given its elbo. Of many rows, the first steps are those on a subsample,
    whose elbo is scaled to all rows, and the last ones are passes over all rows.

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
        If no elbo is finite, because the fit diverged in its first steps.
    """
    level = _level(posterior)
    trace = posterior.elbo_trace - level
    ax = one_axes(ax, 5.0, 3.4)
    steps = np.arange(1, len(trace) + 1)
    ax.plot(steps, trace, color=PALETTE[4], lw=0.6, alpha=0.7, label="each step", zorder=2)
    if len(trace) > 2 * _BLOCK:
        middle, median = _running_median(trace)
        label = f"median of {_BLOCK} steps"
        ax.plot(middle, median, color=PALETTE[0], lw=1.6, label=label, zorder=3)
    _draw_level(ax, posterior, level)
    _draw_runs(ax, posterior, level)
    ends = [restart.elbo - level for restart in posterior.restarts]
    scale_nats(ax, np.array([*trace, *ends]), _noise(trace))
    ax.set_xlabel("step")
    ax.set_ylabel(f"elbo relative to {in_nats(level)} (nats)")
    add_legend(ax)
    return ax


def _level(posterior: Posterior) -> float:
    """Return the elbo of the fit, or the highest known one if it was not estimated; or raise."""
    if np.isfinite(posterior.elbo):
        return float(posterior.elbo)
    ends = [restart.elbo for restart in posterior.restarts]
    known = np.array([*posterior.elbo_trace, *ends], np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        raise ValueError(
            "posterior must have a finite elbo in some step; it has none. "
            f"{posterior.status.name}: {posterior.status}"
        )
    return float(known.max())


def _running_median(trace: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the middle and the median of each window of steps."""
    windows = np.lib.stride_tricks.sliding_window_view(trace, _BLOCK)
    return np.arange(len(windows)) + (_BLOCK + 1) / 2, np.median(windows, axis=1)


def _draw_level(ax: Axes, posterior: Posterior, level: float) -> None:
    """Draw the elbo that was averaged after the fit, with its error if that is known."""
    if not np.isfinite(posterior.elbo):
        return
    se = posterior.elbo_se
    error = f" ± {se:.2g}" if np.isfinite(se) else ", error not known"
    ax.axhline(0.0, color=INK, lw=1.0, label=f"elbo {in_nats(level)}{error}", zorder=4)
    if np.isfinite(se):
        ax.axhspan(-2.0 * se, 2.0 * se, color=INK, alpha=0.2, lw=0, label="± 2 se", zorder=1)


def _draw_runs(ax: Axes, posterior: Posterior, level: float) -> None:
    """Draw where runs ended: those that agree with the best, and the others."""
    for agrees, label, fill in (
        (True, "agree with the best", PALETTE[1]),
        (False, "ended elsewhere", "none"),
    ):
        ends = [
            (restart.steps, restart.elbo - level, restart.starts)
            for restart in posterior.restarts
            if restart.agrees is agrees and np.isfinite(restart.elbo)
        ]
        if not ends:
            continue
        steps, elbos, starts = np.array(ends).T
        text = f"runs that {label}: {len(ends)} ({int(starts.sum())} starts)"
        ax.scatter(
            steps,
            elbos,
            36,
            marker="o" if agrees else "D",
            facecolors=fill,
            edgecolors=PALETTE[1],
            linewidths=1.4,
            label=text,
            zorder=5,
        )


def _noise(trace: np.ndarray) -> float:
    """Return the largest distance from the level in the last quarter of the steps."""
    last = trace[-max(len(trace) // 4, 1) :]
    return float(np.abs(last[np.isfinite(last)]).max(initial=0.0))
