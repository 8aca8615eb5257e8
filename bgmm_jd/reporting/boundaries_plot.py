"""A plot of the regions of the components and of where the posterior is unsure between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.validation import as_probability
from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import predict
from bgmm_jd.reporting.class_regions import (
    component_probabilities,
    lead_over_others,
    runs_of_true,
)
from bgmm_jd.reporting.component_ellipses import write_label
from bgmm_jd.reporting.component_styles import (
    INK,
    component_colours,
    component_handles,
    draw_symbols,
)
from bgmm_jd.reporting.density_geometry import axis_points
from bgmm_jd.reporting.plot_axes import add_legend, add_note, one_axes, plane_axes
from bgmm_jd.reporting.row_plots import row_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HATCH = "////"
_ROWS_BETWEEN = (-0.14, -0.04)  # heights of the rows, below the curves of one feature


@runs_tensorflow
def plot_boundaries(
    posterior: Posterior,
    X: Any,
    *,
    features: int | str | Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    level: float = 0.9,
    ax: Axes | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Axes:
    """Plot the region of each component, and where the posterior is unsure of the component.

    The region of a component is where it is the most probable one of a new row. In the hatched
    band its probability is less than `level`. Probabilities are averaged over draws of the
    posterior, so that the band is wider where the boundary itself is uncertain. Over one feature
    the probabilities are drawn as curves, with the rows beneath.

    With more features than those shown, regions and band are of the distribution that is marginal
    over the others: they apply to a row of which only the features shown are known, and the legend
    says so. The symbols of the rows are those of `predict`, from all features; one in the region of
    another component has been told apart by the features that are not shown.

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
    level : float
        Between 0 and 1. With K components no probability of the most probable one is below 1 / K.
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
        not columns of X, if `names` does not have one name for each column, or if `level` is not
        between 0 and 1.
    """
    level = as_probability(level, "level")
    plot = row_plot(posterior, X, features, names, draws, seed)
    rows, components, labels = plot.rows, plot.components, plot.labels
    component = predict(posterior, rows.rows[rows.chosen], draws=draws, seed=seed)
    if len(plot.names) == 1:
        ax = one_axes(ax, 5.0, 3.0)
        regions = _draw_curves(ax, components, plot.limits[0], level, labels)
        heights = plot.rng.uniform(*_ROWS_BETWEEN, len(component))
        draw_symbols(ax, np.column_stack([rows.points[:, 0], heights]), component, len(labels))
        ax.set_ylabel("probability of component")
    else:
        ax = plane_axes(ax, plot.limits)
        regions = _draw_regions(ax, components, plot.limits, level)
        draw_symbols(ax, rows.points, component, len(labels))
        _write_labels(ax, components, labels, regions)
        ax.set_ylabel(plot.names[1])
    ax.set_xlabel(plot.names[0])
    title = _marginal_title(posterior.D - len(plot.names))
    named = {int(k): labels[k] for k in np.union1d(regions, component)}
    add_legend(ax, [*component_handles(named), _band_handle(level)], title)
    add_note(ax, rows.note)
    return ax


def _marginal_title(others: int) -> str | None:
    """Say over how many features the regions are marginal; None if over none."""
    if others == 0:
        return None
    return f"marginal over {others} other feature{'s' if others > 1 else ''}"


def _draw_regions(
    ax: Axes, components: ComponentDraws, limits: Sequence[tuple[float, float]], level: float
) -> np.ndarray:
    """Shade the region of each component over two features, and hatch the band.

    Returns the components that have a region.
    """
    x, y = (axis_points(limits[i], components, i) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    probabilities = component_probabilities(components, grid.reshape(-1, 2))
    colours = component_colours(len(probabilities))
    for k, lead in enumerate(lead_over_others(probabilities)):
        if lead.max() > 0.0:
            surface = lead.reshape(grid.shape[:2])
            ax.contourf(x, y, surface, [0.0, 2.0], colors=[colours[k]], alpha=0.25, zorder=0)
            if lead.min() < 0.0:
                ax.contour(x, y, surface, [0.0], colors=INK, linewidths=0.8, zorder=1)
    highest = probabilities.max(axis=0).reshape(grid.shape[:2])
    if highest.min() < level:
        band = ax.contourf(x, y, highest, [0.0, level], colors="none", hatches=[_HATCH], zorder=1)
        # Not by alpha, which would also show the face that is not there.
        band.set(edgecolor=(INK, 0.45), linewidth=0.0)
    return np.unique(probabilities.argmax(axis=0))


def _draw_curves(
    ax: Axes,
    components: ComponentDraws,
    limits: tuple[float, float],
    level: float,
    labels: Sequence[str],
) -> np.ndarray:
    """Draw the probability of each component over one feature, its region, and the band.

    Returns the components that have a region.
    """
    x = np.union1d(axis_points(limits, components, 0), np.linspace(*limits, 400))
    probabilities = component_probabilities(components, x[:, np.newaxis])
    colours = component_colours(len(probabilities))
    first = probabilities.argmax(axis=0)
    regions = np.unique(first)
    for k, (probability, colour) in enumerate(zip(probabilities, colours, strict=True)):
        ax.plot(x, probability, color=colour, lw=1.6, zorder=3)
        for ends in runs_of_true(x, first == k):
            ax.axvspan(*ends, color=colour, alpha=0.2, lw=0, zorder=0)
    for k, mean in zip(regions, components.means[..., regions, 0].mean(axis=0), strict=True):
        write_label(ax, (mean, np.interp(mean, x, probabilities[k])), labels[k], colours[k])
    for ends in runs_of_true(x, probabilities.max(axis=0) < level):
        ax.axvspan(*ends, facecolor="none", edgecolor=INK, hatch=_HATCH, lw=0, alpha=0.45, zorder=1)
    ax.axhline(level, color=INK, lw=0.8, ls="--", zorder=1)
    ax.set_xlim(*limits)
    ax.set_ylim(_ROWS_BETWEEN[0] - 0.04, 1.06)
    return regions


def _write_labels(
    ax: Axes, components: ComponentDraws, labels: Sequence[str], which: np.ndarray
) -> None:
    means, colours = components.means.mean(axis=0), component_colours(len(labels))
    for k in which:
        write_label(ax, means[k], labels[k], colours[k])


def _band_handle(level: float) -> Any:
    from matplotlib.patches import Patch

    return Patch(
        facecolor="none",
        edgecolor=INK,
        hatch=_HATCH,
        lw=0,
        alpha=0.6,
        label=f"most probable below {level:g}",
    )
