"""A plot of the fitted density with its data and components."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    average_component_densities,
    component_densities,
)
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import predict_proba
from bgmm_jd.reporting.component_ellipses import draw_ellipses
from bgmm_jd.reporting.component_styles import INK, PALETTE, SHADES, component_colours
from bgmm_jd.reporting.density_geometry import (
    axis_limits,
    axis_points,
    have_little_weight,
    region_levels,
    sample_predictive_rows,
)
from bgmm_jd.reporting.plot_axes import add_legend, add_note, one_axes, plane_axes
from bgmm_jd.reporting.row_plots import row_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_DRAWS = 25  # ellipses of single draws, per component
_NAMED_COMPONENTS = len(PALETTE)  # in the legend: more would not fit into the figure's height
_REGIONS = (0.95, 0.8, 0.5)  # predictive probabilities
_REGION_ROWS = 4_000  # predictive draws that determine the levels
_BAND = (0.05, 0.95)  # quantiles over draws


@runs_tensorflow
def plot_density(
    posterior: Posterior,
    X: Any,
    *,
    features: int | str | Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Axes:
    """Plot data, fitted density and components over one or two features.

    Over two features it shows the rows, coloured by the posterior probabilities of their
    components; the smallest regions with 50, 80 and 95 % of the posterior predictive probability;
    and ellipses of 1 and 2 standard deviations around the mean of each component, thick at the
    posterior mean and thin for single draws. Over one feature it shows a histogram of the rows, the
    posterior predictive density with a 90 % credible band, and the contribution of each component.

    If there are more features, density and components are marginal over those that are not shown.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
        The rows of the fit, or others. After a fit with `missing="marginalize"`, only rows are
        shown in which the plotted features are observed, and a note counts the others. Of many rows
        a random subset is drawn as points; the histogram and the limits of the axes are those of
        all rows.
    features : int or str, or one or two of them, optional
        Columns of X, counted from 0, or their names if the fit was to a data frame.
        The first is the horizontal one. By default the first two, or the only one.
    names : sequence of str [D], optional
        Names of the features in the order of the fit, for the axes. By default those of the fit, or
        else the columns of a data frame X, or numbers.
    ax : matplotlib.axes.Axes, optional
        By default one of a new figure of pyplot's.
    draws : int
        S, the number of draws to average the density over.
    seed : int
        Equal seeds give equal figures.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real array [N, D], if no row has all plotted features, if `features`
        are not columns of X, or if `names` does not have one name for each column.
    """
    plot = row_plot(posterior, X, features, names, draws, seed)
    rows, components = plot.rows, plot.components
    if len(plot.names) == 1:
        ax = one_axes(ax, 5.0, 3.0)
        _draw_one_feature(ax, rows.values[:, 0], components)
    else:
        ax = plane_axes(ax, plot.limits)
        probabilities = predict_proba(posterior, rows.rows[rows.chosen], draws=draws, seed=seed)
        predicted = sample_predictive_rows(components, _REGION_ROWS, plot.rng)
        _draw_regions(ax, plot.limits, components, predicted)
        with_weight = np.flatnonzero(~have_little_weight(components))
        draw_ellipses(ax, components, plot.labels, with_weight, single_draws=_SHOWN_DRAWS)
        colours = probabilities @ component_colours(posterior.K)
        _scatter(ax, rows.points, colours, len(rows.rows))
        ax.set_ylabel(plot.names[1])
    ax.set_xlabel(plot.names[0])
    add_legend(ax, _handles(ax, components, plot.labels))
    add_note(ax, rows.missing_note)
    return ax


def _draw_one_feature(ax: Axes, values: np.ndarray, components: ComponentDraws) -> None:
    """Draw a histogram, the predictive density with its band, and the components' contributions."""
    limits = axis_limits(values, components, 0)
    # Rice's rule, bounded: rules that use the scale of the data make millions of bars if there is
    # one outlier.
    bars = int(np.clip(2.0 * len(values) ** (1 / 3), 10, 80))
    label = f"{len(values):,} rows"
    ax.hist(values, bars, density=True, color=SHADES[1], edgecolor="white", label=label)
    x = axis_points(limits, components, 0)
    S, K = components.weights.shape
    densities = np.stack([component_densities(components, s, x[:, np.newaxis]) for s in range(S)])
    low, high = np.quantile(densities.sum(axis=1), _BAND, axis=0)
    ax.fill_between(x, low, high, color=INK, alpha=0.25, lw=0, label="90% credible band")
    for density, colour in zip(densities.mean(axis=0), component_colours(K), strict=True):
        ax.fill_between(x, density, color=colour, alpha=0.2, lw=0)
        ax.plot(x, density, color=colour, lw=1.6)
    ax.plot(x, densities.sum(axis=1).mean(axis=0), "--", color=INK, label="predictive density")
    ax.set_xlim(*limits)
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("density")


def _draw_regions(
    ax: Axes,
    limits: Sequence[tuple[float, float]],
    components: ComponentDraws,
    predicted: np.ndarray,
) -> None:
    x, y = (axis_points(limits[i], components, i) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    by_component = average_component_densities(components, grid.reshape(-1, 2))
    density = by_component.sum(axis=0).reshape(grid.shape[:2])
    levels = region_levels(components, predicted, _REGIONS)
    visible = (levels > density.min()) & (levels < density.max())
    if not visible.any():  # the rows are far from all that the posterior predicts
        return
    levels = levels[visible]
    shades = [shade for shade, is_visible in zip(SHADES, visible, strict=True) if is_visible]
    ax.contourf(x, y, density, [*levels, np.inf], colors=shades, zorder=1)
    ax.contour(x, y, density, levels, colors=INK, linewidths=0.6, alpha=0.6, zorder=3)


def _scatter(ax: Axes, points: np.ndarray, colours: np.ndarray, N: int) -> None:
    label = f"{len(points):,} of {N:,} rows" if len(points) < N else f"{N:,} rows"
    size = np.clip(3_000.0 / len(points), 4.0, 16.0)
    ax.scatter(points[:, 0], points[:, 1], size, colours, alpha=0.6, linewidths=0, zorder=2)
    ax.scatter([], [], 16.0, INK, alpha=0.6, linewidths=0, label=label)


def _handles(ax: Axes, components: ComponentDraws, labels: Sequence[str]) -> list[Any]:
    """Return the entries of the legend: components first, then what is drawn."""
    handles = _component_handles(components, labels) + ax.get_legend_handles_labels()[0]
    return handles + (_two_feature_handles() if components.means.shape[-1] == 2 else [])


def _component_handles(components: ComponentDraws, labels: Sequence[str]) -> list[Any]:
    from matplotlib.lines import Line2D

    mean, sd = components.weights.mean(axis=0), components.weights.std(axis=0)
    empty = have_little_weight(components)
    return [
        Line2D(
            [],
            [],
            color=colour,
            lw=2.5,
            alpha=0.3 if empty[k] else 1.0,
            label=f"{labels[k]}: weight {mean[k]:.3f} ± {sd[k]:.3f}{', empty' if empty[k] else ''}",
        )
        for k, colour in enumerate(component_colours(min(len(mean), _NAMED_COMPONENTS)))
    ]


def _two_feature_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=INK, lw=1.8, label="1 and 2 sd, posterior mean"),
        Line2D([], [], color=INK, lw=0.5, label="1 and 2 sd, single draws"),
        *(
            Patch(facecolor=shade, edgecolor=INK, lw=0.6, label=f"{p:.0%} predictive region")
            for p, shade in zip(_REGIONS, SHADES, strict=True)
        ),
    ]
