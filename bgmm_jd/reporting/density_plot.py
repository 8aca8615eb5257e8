"""Figures of a posterior with its data.

Everything is drawn by methods of one `matplotlib.axes.Axes`: no pyplot, no backend is chosen, no
setting of the user's is read or changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bgmm_jd.data.validation import as_columns, as_count, as_missing_flag, as_rows
from bgmm_jd.posterior.normal_mixtures import (
    ComponentDraws,
    average_component_densities,
    component_densities,
    sample_mixture,
)
from bgmm_jd.posterior.posterior import Posterior, draw_components
from bgmm_jd.posterior.prediction import predict_proba

if TYPE_CHECKING:  # matplotlib costs half a second: it is imported when a figure is wanted
    from matplotlib.axes import Axes
import numpy as np

# Okabe and Ito (2008), "Color universal design"; its black is the ink, and for its yellow, which is
# hard to see on white, the wine of Tol (2021), "Colour schemes".
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
_INK, _SHADE = "#333333", ("#F1F3F6", "#E2E6EC", "#CFD6DF")

_SHOWN_ROWS = 4_000  # more points are a blot
_SHOWN_DRAWS = 25  # ellipses of single draws, per component
_NAMED_COMPONENTS = len(_PALETTE)  # in the legend; more would be longer than the figure is high
_EMPTY = 0.05  # of an equal share: a component of less weight has the shape that the prior gives it
_REGIONS = (0.95, 0.8, 0.5)  # of the predictive probability
_REGION_ROWS = 4_000
_BAND = (0.05, 0.95)  # quantiles over draws
_GRID = 60  # points along an axis, and twice as many shared by the components
_MOST_UNEQUAL = 1.6  # ratio of the two spans up to which one unit is as long on both axes


def plot_density(
    posterior: Posterior,
    X: Any,
    features: int | Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
    draws: int = 100,
    seed: int = 0,
) -> Axes:
    """Draw data, fitted density and components over one or two features.

    Over two features: the rows, coloured by the posterior probabilities of their components; the
    smallest regions that hold 50, 80 and 95 % of the posterior predictive distribution; and
    around each component's mean the ellipses of 1 and 2 standard deviations, bold at the
    posterior mean, thin for single draws. Over one feature: a histogram of the rows, the
    posterior predictive density with a 90 % credible band, and each component's share of it.

    With more features than are shown, density and components are marginals over the others.

    Parameters
    ----------
    posterior : Posterior
    X : array-like [N, D]
        The rows of the fit, or others; after a fit with `missing="marginalize"`, those are shown
        that have the features shown. Of many rows a random subset is drawn as points; the
        histogram and the limits of the axes are those of all rows.
    features : int, or one or two distinct int from 0 to D - 1, optional
        The first is the horizontal one. By default the first two, or the only one.
    names : sequence of str [D], optional
        What the columns of X hold, for the axes; by default the columns of a data frame, or
        numbers.
    ax : matplotlib.axes.Axes, optional
        By default one of a new figure, `ax.figure`, which pyplot does not know of:
        `ax.figure.savefig("density.png")`.
    draws : int
        S, how many draws to average the density over.
    seed : int
        Equal seeds give equal figures.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real [N, D] array, `features` are not columns of it, or `names` are
        not one for each.
    """
    rows = as_rows(X, posterior.D, missing=as_missing_flag(posterior.missing))
    chosen = _check_features(features, posterior.D)
    rows = rows[~np.isnan(rows[:, chosen]).any(axis=1)]
    if not len(rows):
        raise ValueError(f"X must have a row with all features shown, {chosen}; it has none.")
    labels = _check_names(getattr(X, "columns", None) if names is None else names, posterior.D)
    mixture = _mixture(posterior, chosen, as_count(draws, "draws"), seed)
    values = rows[:, chosen].astype(np.float64)
    rng = np.random.default_rng(seed)
    if len(chosen) == 1:
        ax = _new_axes(0.6) if ax is None else ax
        _draw_line(ax, values[:, 0], mixture)
    else:
        view = [_view(values[:, i], mixture, i) for i in range(2)]
        ax = _new_axes(_height(view)) if ax is None else ax
        shown = rng.permutation(len(rows))[:_SHOWN_ROWS]
        colours = predict_proba(posterior, rows[shown], draws, seed) @ _colours(posterior.K)
        _draw_plane(ax, view, mixture, sample_mixture(mixture, _REGION_ROWS, rng))
        _scatter(ax, values[shown], colours, len(rows))
        ax.set_ylabel(labels[chosen[1]])
    ax.set_xlabel(labels[chosen[0]])
    _finish(ax, mixture)
    return ax


def _check_features(features: Any, D: int) -> list[int]:
    if features is None:
        return list(range(min(D, 2)))
    chosen = as_columns([features] if np.ndim(features) == 0 else features, D, "features")
    if len(chosen) > 2:
        raise ValueError(f"features must be one or two columns; got {features}.")
    return list(chosen)


def _check_names(names: Any, D: int) -> list[str]:
    if names is None:
        return [f"feature {d}" for d in range(D)]
    if isinstance(names, str) or len(names) != D:
        raise ValueError(f"names must be one for each of the {D} columns of X; got {names!r}.")
    return [str(name) for name in names]


def _mixture(posterior: Posterior, features: list[int], draws: int, seed: int) -> ComponentDraws:
    """Draws of the marginal over the features shown."""
    whole = draw_components(posterior, draws, seed)
    covariances = whole.covariances[..., features, :][..., features]
    return ComponentDraws(whole.weights, whole.means[..., features], covariances)


def _view(values: np.ndarray, mixture: ComponentDraws, i: int) -> tuple[float, float]:
    """Limits of an axis: all rows and a margin."""
    low, high = values.min(), values.max()
    # Equal values have no span; the fitted spread stands in for it.
    span = high - low or 6.0 * np.sqrt(mixture.covariances[..., i, i].mean())
    return low - 0.06 * span, high + 0.06 * span


def _axis_points(view: tuple[float, float], mixture: ComponentDraws, i: int) -> np.ndarray:
    """Grid points along an axis: evenly spread ones, and more where components are.

    Components much narrower than the view would otherwise fall between the points.
    """
    K = mixture.weights.shape[1]
    # An odd number, so that each component's mean is a point.
    steps = np.linspace(-3.5, 3.5, 2 * max(3, _GRID // K) + 1)
    means, sds = mixture.means[..., i].mean(axis=0), np.sqrt(mixture.covariances[..., i, i])
    near = np.ravel(means + sds.mean(axis=0) * steps[:, np.newaxis])
    inside = near[(near > view[0]) & (near < view[1])]
    return np.union1d(np.linspace(*view, _GRID), inside)


def _draw_line(ax: Axes, values: np.ndarray, mixture: ComponentDraws) -> None:
    """One feature: histogram, predictive density with its band, and the components' shares."""
    view = _view(values, mixture, 0)
    # Rice's rule, bounded: rules by the data's spread make millions of bars of one outlier.
    bars = int(np.clip(2.0 * len(values) ** (1 / 3), 10, 80))
    label = f"{len(values):,} rows"
    ax.hist(values, bars, density=True, color=_SHADE[1], edgecolor="white", label=label)
    points = _axis_points(view, mixture, 0)
    shares = np.stack(
        [component_densities(mixture, s, points[:, None]) for s in range(len(mixture.weights))]
    )
    low, high = np.quantile(shares.sum(axis=1), _BAND, axis=0)
    ax.fill_between(points, low, high, color=_INK, alpha=0.25, lw=0, label="90% credible band")
    for share, colour in zip(shares.mean(axis=0), _colours(shares.shape[1]), strict=True):
        ax.fill_between(points, share, color=colour, alpha=0.2, lw=0)
        ax.plot(points, share, color=colour, lw=1.6)
    ax.plot(points, shares.sum(axis=1).mean(axis=0), "--", color=_INK, label="predictive density")
    ax.set_xlim(*view)
    ax.set_ylim(bottom=0.0)
    ax.set_ylabel("density")


def _draw_plane(
    ax: Axes, view: list[tuple[float, float]], mixture: ComponentDraws, predicted: np.ndarray
) -> None:
    """Two features: regions of highest density and ellipses."""
    _draw_regions(ax, view, mixture, predicted)
    colours = _colours(mixture.weights.shape[1])
    for k in np.flatnonzero(~_empty(mixture)):
        _draw_ellipses(ax, mixture, k, colours[k])
    ax.set_xlim(*view[0])
    ax.set_ylim(*view[1])
    if _have_similar_spans(view):
        ax.set_aspect("equal", adjustable="box")


def _draw_regions(
    ax: Axes, view: list[tuple[float, float]], mixture: ComponentDraws, predicted: np.ndarray
) -> None:
    x, y = (_axis_points(view[i], mixture, i) for i in range(2))
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    density = (
        average_component_densities(mixture, grid.reshape(-1, 2))
        .sum(axis=0)
        .reshape(grid.shape[:2])
    )
    levels = _levels(mixture, predicted)
    seen = (levels > density.min()) & (levels < density.max())
    if not seen.any():  # rows far from all that the posterior predicts
        return
    levels, shades = levels[seen], [s for s, is_seen in zip(_SHADE, seen, strict=True) if is_seen]
    ax.contourf(x, y, density, [*levels, np.inf], colors=shades, zorder=1)
    ax.contour(x, y, density, levels, colors=_INK, linewidths=0.6, alpha=0.6, zorder=3)


def _levels(mixture: ComponentDraws, predicted: np.ndarray) -> np.ndarray:
    """Densities above which the regions lie, from draws [n, 2] of the predictive distribution.

    A region {density > level} has the probability p if level is the (1 - p) quantile of the
    density at draws from it (Hyndman 1996, *The American Statistician* 50).
    """
    density = average_component_densities(mixture, predicted).sum(axis=0)
    return np.quantile(density, 1.0 - np.array(_REGIONS))


def _draw_ellipses(ax: Axes, mixture: ComponentDraws, k: int, colour: np.ndarray) -> None:
    """Of one component, at 1 and 2 standard deviations: thin for draws, bold for the mean."""
    from matplotlib import patheffects
    from matplotlib.collections import LineCollection

    means, covariances = mixture.means[:, k], mixture.covariances[:, k]
    thin = _ellipses(means[:_SHOWN_DRAWS], covariances[:_SHOWN_DRAWS])
    ax.add_collection(
        LineCollection(thin, colors=[colour], linewidths=0.5, alpha=0.35, zorder=4), autolim=False
    )
    centre, mean_covariance = means.mean(axis=0), covariances.mean(axis=0)
    outline: list[Any] = [patheffects.withStroke(linewidth=3.2, foreground="white", alpha=0.8)]
    bold = _ellipses(centre[np.newaxis], mean_covariance[np.newaxis])
    lines = LineCollection(bold, colors=[colour], linewidths=1.8, zorder=5)
    lines.set_path_effects(outline)
    ax.add_collection(lines, autolim=False)
    ax.annotate(
        str(k),
        centre,
        color=colour,
        weight="bold",
        ha="center",
        va="center",
        zorder=6,
        path_effects=outline,
        annotation_clip=True,
    )


def _ellipses(means: np.ndarray, covariances: np.ndarray) -> list[np.ndarray]:
    """Outlines at 1 and 2 standard deviations, for means [S, 2] and covariances [S, 2, 2]."""
    angle = np.linspace(0.0, 2.0 * np.pi, 91)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    outlines = (np.linalg.cholesky(covariances) @ circle).swapaxes(1, 2)
    return [mean + r * o for mean, o in zip(means, outlines, strict=True) for r in (1.0, 2.0)]


def _scatter(ax: Axes, points: np.ndarray, colours: np.ndarray, rows: int) -> None:
    few = len(points) < rows
    label = f"{len(points):,} of {rows:,} rows" if few else f"{rows:,} rows"
    size = np.clip(3_000.0 / len(points), 4.0, 16.0)
    ax.scatter(points[:, 0], points[:, 1], size, colours, alpha=0.6, linewidths=0, zorder=2)
    ax.scatter([], [], 16.0, _INK, alpha=0.6, linewidths=0, label=label)


def _colours(K: int) -> np.ndarray:
    """Red, green and blue of each component: [K, 3]."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(_PALETTE[k % len(_PALETTE)]) for k in range(K)])


def _empty(mixture: ComponentDraws) -> np.ndarray:
    """Which components have next to no rows: bool [K]."""
    mean = mixture.weights.mean(axis=0)
    return mean < _EMPTY / len(mean)


def _have_similar_spans(view: list[tuple[float, float]]) -> bool:
    """Whether the two features have spans so alike that one unit can be as long on both axes."""
    spans = [high - low for low, high in view]
    return max(spans) <= _MOST_UNEQUAL * min(spans)


def _height(view: list[tuple[float, float]]) -> float:
    """Height of the axes over their width."""
    (left, right), (bottom, top) = view
    return (top - bottom) / (right - left) if _have_similar_spans(view) else 0.8


def _new_axes(height: float) -> Axes:
    """Axes in a figure of their own, that no global state refers to."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = 5.0 if height <= 1.0 else 5.0 / np.sqrt(height)
    figure = Figure(figsize=(width + 2.6, width * height + 0.8), dpi=150, layout="compressed")
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def _finish(ax: Axes, mixture: ComponentDraws) -> None:
    """Legend and frame."""
    handles = _component_handles(mixture) + ax.get_legend_handles_labels()[0]
    if mixture.means.shape[-1] == 2:
        handles += _plane_handles()
    ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8
    )
    ax.spines[["top", "right"]].set_visible(False)


def _component_handles(mixture: ComponentDraws) -> list[Any]:
    from matplotlib.lines import Line2D

    mean, sd = mixture.weights.mean(axis=0), mixture.weights.std(axis=0)
    empty = _empty(mixture)
    return [
        Line2D(
            [],
            [],
            color=colour,
            lw=2.5,
            alpha=0.3 if empty[k] else 1.0,
            label=f"{k}: weight {mean[k]:.3f} ± {sd[k]:.3f}{', empty' if empty[k] else ''}",
        )
        for k, colour in enumerate(_colours(min(len(mean), _NAMED_COMPONENTS)))
    ]


def _plane_handles() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Line2D([], [], color=_INK, lw=1.8, label="1 and 2 sd, posterior mean"),
        Line2D([], [], color=_INK, lw=0.5, label="1 and 2 sd, single draws"),
        *(
            Patch(facecolor=shade, edgecolor=_INK, lw=0.6, label=f"{p:.0%} predictive region")
            for p, shade in zip(_REGIONS, _SHADE, strict=True)
        ),
    ]
