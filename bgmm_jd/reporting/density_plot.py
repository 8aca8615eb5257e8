"""A figure of a posterior with its data.

Everything is drawn by methods of one `matplotlib.axes.Axes`. pyplot is not used, no backend is
chosen, and no global setting is read or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.data.frames import column_names
from bgmm_jd.data.validation import as_columns, as_count, as_missing_flag, as_rows
from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    average_component_densities,
    component_densities,
    marginal_components,
)
from bgmm_jd.posterior.posterior import Posterior, draw_components
from bgmm_jd.posterior.prediction import predict_proba
from bgmm_jd.reporting.density_geometry import (
    aspect_ratio,
    axis_limits,
    axis_points,
    ellipse_outlines,
    have_little_weight,
    have_similar_lengths,
    region_levels,
    sample_predictive_rows,
)
from bgmm_jd.reporting.names import component_labels, feature_labels

if TYPE_CHECKING:  # matplotlib takes half a second to import: it is imported when needed
    from matplotlib.axes import Axes

# Okabe and Ito (2008), "Color universal design", without its black, which the lines have, and with
# the wine of Tol (2021), "Colour schemes", in place of its yellow, which is hard to see on white.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
_INK, _SHADES = "#333333", ("#F1F3F6", "#E2E6EC", "#CFD6DF")

_SHOWN_ROWS = 4_000  # more points would cover each other
_SHOWN_DRAWS = 25  # ellipses of single draws, per component
_NAMED_COMPONENTS = len(_PALETTE)  # in the legend: more would not fit into the figure's height
_REGIONS = (0.95, 0.8, 0.5)  # predictive probabilities
_REGION_ROWS = 4_000  # predictive draws that determine the levels
_BAND = (0.05, 0.95)  # quantiles over draws


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
        shown in which the plotted features are observed. Of many rows a random subset is drawn as
        points; the histogram and the limits of the axes are those of all rows.
    features : int or str, or one or two of them, optional
        Columns of X, counted from 0, or their names if the fit was to a data frame. The first is
        the horizontal one. By default the first two, or the only one.
    names : sequence of str [D], optional
        Names of the features in the order of the fit, for the axes. By default those of the fit, or
        else the columns of a data frame X, or numbers.
    ax : matplotlib.axes.Axes, optional
        By default one of a new figure, `ax.figure`, which is not registered with pyplot:
        `ax.figure.savefig("density.png")`.
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
    allow_missing = as_missing_flag(posterior.missing)
    rows = as_rows(X, posterior.D, allow_missing, names=posterior.feature_names)
    shown_features = _as_features(features, posterior)
    labels, component_names = _as_names(names, posterior, X), component_labels(posterior)
    rows = rows[~np.isnan(rows[:, shown_features]).any(axis=1)]
    if not len(rows):
        raise ValueError(
            "X must have a row in which all features shown, "
            f"{', '.join(labels[i] for i in shown_features)}, are observed; it has none. Choose "
            "other features."
        )
    components = marginal_components(
        draw_components(posterior, as_count(draws, "draws"), seed), shown_features
    )
    values = rows[:, shown_features].astype(np.float64)
    rng = np.random.default_rng(seed)
    if len(shown_features) == 1:
        ax = _new_axes(0.6) if ax is None else ax
        _draw_one_feature(ax, values[:, 0], components)
    else:
        limits = [axis_limits(values[:, i], components, i) for i in range(2)]
        ax = _new_axes(aspect_ratio(limits)) if ax is None else ax
        shown = rng.permutation(len(rows))[:_SHOWN_ROWS]
        probabilities = predict_proba(posterior, rows[shown], draws=draws, seed=seed)
        predicted = sample_predictive_rows(components, _REGION_ROWS, rng)
        _draw_two_features(ax, limits, components, predicted, component_names)
        _scatter(ax, values[shown], probabilities @ _colours(posterior.K), len(rows))
        ax.set_ylabel(labels[shown_features[1]])
    ax.set_xlabel(labels[shown_features[0]])
    _add_legend(ax, components, component_names)
    return ax


def _as_features(features: Any, posterior: Posterior) -> list[int]:
    """Return one or two columns, or raise."""
    if features is None:
        return list(range(min(posterior.D, 2)))
    chosen = [features] if np.ndim(features) == 0 else features
    columns = as_columns(chosen, posterior.D, "features", posterior.feature_names)
    if len(columns) > 2:
        raise ValueError(f"features must be one or two columns; got {features}.")
    return list(columns)


def _as_names(names: Any, posterior: Posterior, X: Any) -> Sequence[str]:
    """Return a name for each feature, or raise."""
    if names is None:
        known = None if posterior.feature_names else column_names(X)
        return known or feature_labels(posterior)
    if isinstance(names, str) or len(names) != posterior.D:
        raise ValueError(
            f"names must have one name for each of the {posterior.D} columns of X; got {names!r}."
        )
    return [str(name) for name in names]


def _draw_one_feature(ax: Axes, values: np.ndarray, components: ComponentDraws) -> None:
    """Draw a histogram, the predictive density with its band, and the components' contributions."""
    limits = axis_limits(values, components, 0)
    # Rice's rule, bounded: rules that use the scale of the data make millions of bars if there is
    # one outlier.
    bars = int(np.clip(2.0 * len(values) ** (1 / 3), 10, 80))
    label = f"{len(values):,} rows"
    ax.hist(values, bars, density=True, color=_SHADES[1], edgecolor="white", label=label)
    x = axis_points(limits, components, 0)
    S, K = components.weights.shape
    densities = np.stack([component_densities(components, s, x[:, np.newaxis]) for s in range(S)])
    low, high = np.quantile(densities.sum(axis=1), _BAND, axis=0)
    ax.fill_between(x, low, high, color=_INK, alpha=0.25, lw=0, label="90% credible band")
    for density, colour in zip(densities.mean(axis=0), _colours(K), strict=True):
        ax.fill_between(x, density, color=colour, alpha=0.2, lw=0)
        ax.plot(x, density, color=colour, lw=1.6)
    ax.plot(x, densities.sum(axis=1).mean(axis=0), "--", color=_INK, label="predictive density")
    ax.set_xlim(*limits)
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("density")


def _draw_two_features(
    ax: Axes,
    limits: Sequence[tuple[float, float]],
    components: ComponentDraws,
    predicted: np.ndarray,
    names: Sequence[str],
) -> None:
    """Draw regions of highest density and the ellipses of components that are not empty."""
    _draw_regions(ax, limits, components, predicted)
    colours = _colours(components.weights.shape[1])
    for k in np.flatnonzero(~have_little_weight(components)):
        _draw_ellipses(ax, components, k, names[k], colours[k])
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    if have_similar_lengths(limits):
        ax.set_aspect("equal", adjustable="box")


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
    shades = [shade for shade, is_visible in zip(_SHADES, visible, strict=True) if is_visible]
    ax.contourf(x, y, density, [*levels, np.inf], colors=shades, zorder=1)
    ax.contour(x, y, density, levels, colors=_INK, linewidths=0.6, alpha=0.6, zorder=3)


def _draw_ellipses(
    ax: Axes, components: ComponentDraws, k: int, name: str, colour: np.ndarray
) -> None:
    """Draw the ellipses of component k: thin for single draws, thick for the posterior mean."""
    from matplotlib import patheffects
    from matplotlib.collections import LineCollection

    means, covariances = components.means[:, k], components.covariances[:, k]
    thin = ellipse_outlines(means[:_SHOWN_DRAWS], covariances[:_SHOWN_DRAWS])
    ax.add_collection(
        LineCollection(thin, colors=[colour], linewidths=0.5, alpha=0.35, zorder=4), autolim=False
    )
    centre, mean_covariance = means.mean(axis=0), covariances.mean(axis=0)
    outline: list[Any] = [patheffects.withStroke(linewidth=3.2, foreground="white", alpha=0.8)]
    thick = ellipse_outlines(centre[np.newaxis], mean_covariance[np.newaxis])
    lines = LineCollection(thick, colors=[colour], linewidths=1.8, zorder=5)
    lines.set_path_effects(outline)
    ax.add_collection(lines, autolim=False)
    ax.annotate(
        name,
        centre,
        color=colour,
        weight="bold",
        ha="center",
        va="center",
        zorder=6,
        path_effects=outline,
        annotation_clip=True,
    )


def _scatter(ax: Axes, points: np.ndarray, colours: np.ndarray, N: int) -> None:
    label = f"{len(points):,} of {N:,} rows" if len(points) < N else f"{N:,} rows"
    size = np.clip(3_000.0 / len(points), 4.0, 16.0)
    ax.scatter(points[:, 0], points[:, 1], size, colours, alpha=0.6, linewidths=0, zorder=2)
    ax.scatter([], [], 16.0, _INK, alpha=0.6, linewidths=0, label=label)


def _colours(K: int) -> np.ndarray:
    """Return red, green and blue of each component: [K, 3]."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(_PALETTE[k % len(_PALETTE)]) for k in range(K)])


def _new_axes(height: float) -> Axes:
    """Return the axes of a new figure that no global state refers to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 5.0 if height <= 1.0 else 5.0 / np.sqrt(height)
    figure = Figure(figsize=(width + 2.6, width * height + 0.8), dpi=150, layout="compressed")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _add_legend(ax: Axes, components: ComponentDraws, names: Sequence[str]) -> None:
    """Add the legend, and remove the frame at the top and the right."""
    handles = _component_handles(components, names) + ax.get_legend_handles_labels()[0]
    if components.means.shape[-1] == 2:
        handles += _two_feature_handles()
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8
    )
    ax.spines[["top", "right"]].set_visible(False)


def _component_handles(components: ComponentDraws, names: Sequence[str]) -> list[Any]:
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
            label=f"{names[k]}: weight {mean[k]:.3f} ± {sd[k]:.3f}{', empty' if empty[k] else ''}",
        )
        for k, colour in enumerate(_colours(min(len(mean), _NAMED_COMPONENTS)))
    ]


def _two_feature_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=_INK, lw=1.8, label="1 and 2 sd, posterior mean"),
        Line2D([], [], color=_INK, lw=0.5, label="1 and 2 sd, single draws"),
        *(
            Patch(facecolor=shade, edgecolor=_INK, lw=0.6, label=f"{p:.0%} predictive region")
            for p, shade in zip(_REGIONS, _SHADES, strict=True)
        ),
    ]
