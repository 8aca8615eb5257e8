"""A plot of weights, means and standard deviations with posterior intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.validation import as_count, as_seed
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.component_styles import INK, component_colours, component_marker
from bgmm_jd.reporting.names import component_labels, feature_labels
from bgmm_jd.reporting.plot_axes import SMALL, axes_of_shape, remove_frame
from bgmm_jd.reporting.plot_features import MOST_FEATURES, as_features

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@runs_tensorflow
def plot_components(
    posterior: Posterior,
    *,
    features: int | str | Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    intervals: tuple[float, float] = (0.5, 0.94),
    ax: Any = None,
    draws: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Plot weight, means and standard deviations of each component with posterior intervals.

    The first column of panels has the weights, and each other column a feature: its means in the
    upper row, its standard deviations, whatever the form of the covariance, in the lower one. A
    symbol is at the posterior median; the thick and the thin line are equal-tailed intervals, from
    quantiles of the draws. Tied covariances give all components the same standard deviation.

    Parameters
    ----------
    posterior : Posterior
    features : int or str, or one to six of them, optional
        Columns of X, counted from 0, or their names if the fit was to a data frame.
        By default all, or the first six of more.
    names : sequence of str [D], optional
        Names of the features in the order of the fit. By default those of the fit, or numbers.
    intervals : two float
        Posterior probabilities of the thick and the thin interval, ascending, between 0 and 1.
    ax : array of matplotlib.axes.Axes [2, 1 + d] for d features, optional
        By default those of a new figure of pyplot's.
    draws : int
        Number of draws of the posterior.
    seed : int
        Equal seeds give equal figures.

    Returns
    -------
    array of matplotlib.axes.Axes [2, 1 + d]
        The lower one of the first column has the legend.

    Raises
    ------
    ValueError, TypeError
        If `features` are not columns of X, if `names` does not have one name for each column, if
        `intervals` are not two ascending probabilities, or if `ax` has another number of axes.
    """
    shown = as_features(features, posterior, MOST_FEATURES)
    all_names = feature_labels(posterior, names=names)
    inner, outer = _as_intervals(intervals)
    d, K = len(shown), posterior.K
    width, height = 1.8 * (1 + d) + 0.5, 2 * min(0.9 + 0.26 * K, 5.0)
    panels = f"weights and {d} feature{'s' if d > 1 else ''}"
    axes = axes_of_shape(ax, (2, 1 + d), width, height, panels)
    components = draw_components(posterior, as_count(draws, "draws"), as_seed(seed))
    sds = np.sqrt(np.diagonal(components.covariances, axis1=2, axis2=3))
    _draw_intervals(axes[0, 0], components.weights, inner, outer)
    axes[0, 0].set_xlabel("weight", fontsize=SMALL)
    for column, feature in enumerate(shown, start=1):
        name = all_names[feature]
        for row, values, what in ((0, components.means, "mean"), (1, sds, "sd")):
            _draw_intervals(axes[row, column], values[..., feature], inner, outer)
            axes[row, column].set_xlabel(f"{what} of {name}", fontsize=SMALL)
    _label_components(axes, component_labels(posterior))
    title = f"{d} of {posterior.D} features" if d < posterior.D else None
    axes[1, 0].set_axis_off()
    axes[1, 0].legend(
        handles=_handles(inner, outer),
        loc="center left",
        frameon=False,
        fontsize=SMALL,
        title=title,
    )
    return axes


def _as_intervals(intervals: Any) -> tuple[float, float]:
    """Return two ascending probabilities, or raise."""
    found = np.asarray(intervals)
    if found.dtype.kind not in "fi" or found.shape != (2,):
        raise ValueError(
            f"intervals must be two probabilities, such as (0.5, 0.94); got {intervals!r}."
        )
    inner, outer = (float(p) for p in found)
    if not 0.0 < inner < outer < 1.0:
        raise ValueError(
            f"intervals must be ascending, between 0 and 1, such as (0.5, 0.94); got {intervals!r}."
        )
    return inner, outer


def _draw_intervals(ax: Axes, values: np.ndarray, inner: float, outer: float) -> None:
    """Draw the median and two intervals of each column of draws [S, K]: three lines for each."""
    K = values.shape[1]
    for k, colour in enumerate(component_colours(K)):
        for p, lw in ((outer, 1.2), (inner, 3.5)):
            ends = np.quantile(values[:, k], (0.5 - p / 2, 0.5 + p / 2))
            ax.plot(ends, (k, k), color=colour, lw=lw, solid_capstyle="butt")
        median = np.median(values[:, k])
        ax.plot(
            median, k, component_marker(k), color=colour, ms=4.5, mec="white", mew=0.5, zorder=4
        )
    ax.set_ylim(K - 0.4, -0.6)
    ax.grid(axis="x", color="#E2E6EC", lw=0.6)
    ax.set_axisbelow(True)
    ax.locator_params(axis="x", nbins=4)
    ax.tick_params(labelsize=7)
    remove_frame(ax)


def _label_components(axes: np.ndarray, labels: Sequence[str]) -> None:
    """Name the components at the left of each row of panels only."""
    for (row, column), ax in np.ndenumerate(axes):
        is_left = (row, column) in ((0, 0), (1, 1))
        ax.set_yticks(range(len(labels)), labels if is_left else [""] * len(labels))
        if is_left:
            ax.set_ylabel("component", fontsize=SMALL)


def _handles(inner: float, outer: float) -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=INK, marker="o", ls="", ms=4.5, label="posterior median"),
        Line2D([], [], color=INK, lw=3.5, label=f"{inner:.0%} interval"),
        Line2D([], [], color=INK, lw=1.2, label=f"{outer:.0%} interval"),
    ]
