"""A plot of how uncertain the component of each row is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import predict_proba
from bgmm_jd.reporting.component_ellipses import draw_ellipses
from bgmm_jd.reporting.plot_axes import add_legend, add_note, one_axes, plane_axes
from bgmm_jd.reporting.row_plots import row_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Light enough to recede and dark enough to see; 0 and 1 have the same shades in all figures.
_CERTAIN, _UNCERTAIN = "#B8BEC8", "#111111"
_IN_LEGEND = (0.0, 0.1, 0.3, 0.5)


@runs_tensorflow
def plot_uncertainty(
    posterior: Posterior,
    X: Any,
    *,
    features: int | str | Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Axes:
    """Plot rows larger and darker, the less certain their components are.

    The uncertainty of a row is 1 minus its largest posterior probability of a component (the
    largest of `predict_proba`): from 0 to 1 - 1 / K. It takes all features into account, and not
    only those that are shown. Over two features it is shown by size and shade, with ellipses of 1
    and 2 standard deviations around the means of the components that are the most probable one of
    some row. Over one feature it is also the height.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
        The rows of the fit, or others. After a fit with `missing="marginalize"`, rows in which a
        feature shown is missing are left out, and a note counts them. Of more than 4,000 rows, a
        random subset is drawn.
    features : int or str, or one or two of them, optional
        Columns of X, counted from 0, or their names if the fit was to a data frame.
        The first is the horizontal one. By default the first two, or the only one.
    names : sequence of str [D], optional
        Names of the features in the order of the fit, for the axes. By default those of the fit, or
        else the columns of a data frame X, or numbers.
    ax : matplotlib.axes.Axes, optional
        By default one of a new figure of pyplot's.
    draws : int
        S, the number of draws to average the probabilities over.
    seed : int
        Equal seeds give equal figures.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real array [N, D], if no row has all features shown, if `features` are
        not columns of X, or if `names` does not have one name for each column.
    """
    plot = row_plot(posterior, X, features, names, draws, seed)
    rows = plot.rows
    probabilities = predict_proba(posterior, rows.rows[rows.chosen], draws=draws, seed=seed)
    # Rounding may leave a largest probability of 1 + 1e-7.
    uncertainty = np.maximum(1.0 - probabilities.max(axis=1), 0.0)
    if len(plot.names) == 1:
        ax = one_axes(ax, 5.0, 3.0)
        ax.set_xlim(*plot.limits[0])
        _draw_rows(ax, np.column_stack([rows.points, uncertainty]), uncertainty)
        highest = max(float(uncertainty.max()), 0.05)
        ax.set_ylim(-0.05 * highest, 1.08 * highest)
        ax.set_ylabel("1 - largest probability")
    else:
        ax = plane_axes(ax, plot.limits)
        _draw_rows(ax, rows.points, uncertainty)
        with_rows = np.unique(probabilities.argmax(axis=1))
        draw_ellipses(ax, plot.components, plot.labels, with_rows)
        ax.set_ylabel(plot.names[1])
    ax.set_xlabel(plot.names[0])
    add_legend(ax, _handles(), title="1 - largest probability")
    add_note(ax, rows.note)
    return ax


def _draw_rows(ax: Axes, points: np.ndarray, uncertainty: np.ndarray) -> None:
    """Draw points [n, 2], the most uncertain ones last, so that no other hides them."""
    order = np.argsort(uncertainty)
    ax.scatter(
        points[order, 0],
        points[order, 1],
        _size(uncertainty[order]),
        uncertainty[order],
        cmap=_shades(),
        vmin=0.0,
        vmax=1.0,
        alpha=0.85,
        edgecolors="white",
        linewidths=0.3,
        zorder=2,
    )


def _handles() -> list[Any]:
    """Return an example of some uncertainties."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            color=_shades()(u),
            markersize=np.sqrt(_size(u)),
            label=f"{u:g}",
        )
        for u in _IN_LEGEND
    ]


def _size(uncertainty: Any) -> Any:
    """Return the area of a symbol, in square points."""
    return 8.0 + 140.0 * uncertainty


def _shades() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    # The darkest from 0.5, which is the largest uncertainty between two components.
    steps = [(0.0, _CERTAIN), (0.5, _UNCERTAIN), (1.0, _UNCERTAIN)]
    return LinearSegmentedColormap.from_list("uncertainty", steps)
