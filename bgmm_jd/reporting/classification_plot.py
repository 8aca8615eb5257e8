"""A plot of the rows by their most probable components."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.posterior.normal_mixtures import marginal_components
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import predict
from bgmm_jd.reporting.component_ellipses import draw_ellipses
from bgmm_jd.reporting.component_styles import (
    component_colours,
    component_handles,
    draw_symbols,
    empty_handle,
)
from bgmm_jd.reporting.density_geometry import axis_limits
from bgmm_jd.reporting.plot_axes import (
    SMALL,
    add_legend,
    add_note,
    axes_of_shape,
    one_axes,
    plane_axes,
    remove_frame,
)
from bgmm_jd.reporting.plot_features import MOST_FEATURES
from bgmm_jd.reporting.row_plots import RowPlot, row_plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = 1.9  # inches: the side of one of several panels
_ONE_COLUMN = 9  # entries of a legend that fit beside a panel


class Classification(NamedTuple):
    """Rows and their most probable components.

    plot : what is shown.
    component [n] : the most probable one of each row that is drawn.
    """

    plot: RowPlot
    component: np.ndarray

    @property
    def with_rows(self) -> np.ndarray:
        """Return the components that are the most probable one of some row."""
        return np.unique(self.component)


@runs_tensorflow
def plot_classification(
    posterior: Posterior,
    X: Any,
    *,
    features: int | str | Sequence[int | str] | None = None,
    names: Sequence[str] | None = None,
    ax: Any = None,
    draws: int = 100,
    seed: int = 0,
) -> Axes | np.ndarray:
    """Plot rows with the symbols of their most probable components.

    Over two features, with ellipses of 1 and 2 standard deviations around the mean of each
    component, at the posterior mean. Over three to six features all pairs are shown, the lower
    triangle of a matrix of panels. Over one feature the rows of each component are at a height of
    their own, spread a little at random, with a thick line from -1 to 1 standard deviation
    and a thin one from -2 to 2.

    The most probable component is that of `predict`: it takes all features into account, and not
    only those that are shown. Components that are the most probable one of no row are left out.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
        The rows of the fit, or others. After a fit with `missing="marginalize"`, a row is left out
        where a feature shown is missing, and a note counts such rows. Of more than 4,000 rows, a
        random subset is drawn.
    features : int or str, or one to six of them, optional
        Columns of X, counted from 0, or their names if the fit was to a data frame.
        By default all, or the first six of more.
    names : sequence of str [D], optional
        Names of the features in the order of the fit, for the axes. By default those of the fit, or
        else the columns of a data frame X, or numbers.
    ax : matplotlib.axes.Axes, or array of them [d - 1, d - 1] for d > 2 features, optional
        By default those of a new figure of pyplot's.
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal figures.

    Returns
    -------
    matplotlib.axes.Axes, or for d > 2 features an array of them [d - 1, d - 1]
        The feature number j is the horizontal one in column j, and number i + 1 the vertical one in
        row i. Axes above the diagonal are empty; the last one of the first row has the legend.

    Raises
    ------
    ValueError, TypeError
        If X is not a finite real array [N, D], if no row has the features shown, if `features` are
        not columns of X, if `names` does not have one name for each column, or if `ax` has another
        number of axes.
    """
    plot = row_plot(posterior, X, features, names, draws, seed, MOST_FEATURES)
    chosen = plot.rows.rows[plot.rows.chosen]
    found = Classification(plot, predict(posterior, chosen, draws=draws, seed=seed))
    if len(plot.names) > 2:
        return _draw_pairs(found, ax, posterior.D)
    ax = _draw_line(found, ax) if len(plot.names) == 1 else _draw_plane(found, ax)
    add_legend(ax, _handles(found))
    add_note(ax, plot.rows.note)
    return ax


def _draw_line(found: Classification, ax: Any) -> Axes:
    """Draw the rows along one feature, each component at a height of its own."""
    K = len(found.plot.labels)
    ax = one_axes(ax, 5.0, min(1.2 + 0.6 * K, 6.0))
    height = found.component + found.plot.rng.uniform(-0.3, 0.3, len(found.component))
    draw_symbols(ax, np.column_stack([found.plot.rows.points[:, 0], height]), found.component, K)
    mean = found.plot.components.means[..., 0].mean(axis=0)
    sd = np.sqrt(found.plot.components.covariances[..., 0, 0].mean(axis=0))
    colours = component_colours(K)
    for k in found.with_rows:
        for width, lw in ((2.0, 1.2), (1.0, 3.2)):
            ends = mean[k] - width * sd[k], mean[k] + width * sd[k]
            ax.plot(ends, (k + 0.42, k + 0.42), color=colours[k], lw=lw, solid_capstyle="butt")
    ax.set_xlim(*found.plot.limits[0])
    ax.set_ylim(K - 0.4, -0.6)
    ax.set_yticks(range(K), found.plot.labels)
    ax.set_xlabel(found.plot.names[0])
    ax.set_ylabel("component")
    return ax


def _draw_plane(found: Classification, ax: Any) -> Axes:
    ax = plane_axes(ax, found.plot.limits)
    draw_symbols(ax, found.plot.rows.points, found.component, len(found.plot.labels))
    draw_ellipses(ax, found.plot.components, found.plot.labels, found.with_rows)
    ax.set_xlabel(found.plot.names[0])
    ax.set_ylabel(found.plot.names[1])
    return ax


def _draw_pairs(found: Classification, ax: Any, D: int) -> np.ndarray:
    """Draw all pairs of features, the lower triangle of an array of axes."""
    d = len(found.plot.names)
    side = _PANEL * (d - 1)
    axes = axes_of_shape(ax, (d - 1, d - 1), side + 0.6, side + 0.4, f"for pairs of {d} features")
    limits = [_limits_of_observed(found, i) for i in range(d)]
    for row, column in _lower_triangle(d):
        panel, pair = axes[row, column], [column, row + 1]
        _draw_pair(panel, found, pair)
        panel.set_xlim(*limits[column])
        panel.set_ylim(*limits[row + 1])
        _label_outer_axes(panel, found.plot.names, pair, d)
    for panel in axes[np.triu_indices(d - 1, k=1)]:
        panel.set_axis_off()
    _add_corner_legend(axes[0, -1], found, f"{d} of {D} features" if d < D else None)
    add_note(axes[0, -1], found.plot.rows.subset_note)
    return axes


def _lower_triangle(d: int) -> Iterator[tuple[int, int]]:
    return ((row, column) for row in range(d - 1) for column in range(row + 1))


def _draw_pair(ax: Axes, found: Classification, pair: list[int]) -> None:
    """Draw the rows in which both features are observed, and say how many are not."""
    points = found.plot.rows.points[:, pair]
    observed = ~np.isnan(points).any(axis=1)
    draw_symbols(ax, points[observed], found.component[observed], len(found.plot.labels))
    components = marginal_components(found.plot.components, pair)
    draw_ellipses(ax, components, found.plot.labels, found.with_rows, width=1.2)
    missing = found.plot.rows.missing + np.isnan(found.plot.rows.values[:, pair]).any(axis=1).sum()
    add_note(ax, f"{missing:,} missing" if missing else "")


def _add_corner_legend(ax: Axes, found: Classification, title: str | None) -> None:
    """Add the legend where there is no panel."""
    handles = _handles(found)
    legend = ax.legend(
        handles=handles,
        loc="upper right",
        frameon=False,
        fontsize=SMALL,
        title=title,
        title_fontsize=SMALL,
        ncols=1 if len(handles) <= _ONE_COLUMN else 2,
    )
    legend.set_in_layout(False)  # a long one would make the first row of panels taller


def _label_outer_axes(ax: Axes, names: Sequence[str], pair: list[int], d: int) -> None:
    """Name the features at the left and the bottom of the triangle only."""
    column, row = pair[0], pair[1] - 1
    ax.tick_params(labelsize=7, labelleft=column == 0, labelbottom=row == d - 2)
    ax.set_xlabel(names[pair[0]] if row == d - 2 else "", fontsize=SMALL)
    ax.set_ylabel(names[pair[1]] if column == 0 else "", fontsize=SMALL)
    remove_frame(ax)


def _limits_of_observed(found: Classification, i: int) -> tuple[float, float]:
    """Return the limits of the axis of feature number i, or raise if it has no observed value."""
    values = found.plot.rows.values[:, i]
    observed = values[~np.isnan(values)]
    if not len(observed):
        raise ValueError(
            f"X must have observed values of each feature shown; {found.plot.names[i]!r} has none. "
            "Choose other features."
        )
    return axis_limits(observed, found.plot.components, i)


def _handles(found: Classification) -> list[Any]:
    """Return the entries of the legend, with the number of rows of each component."""
    counts = np.bincount(found.component, minlength=len(found.plot.labels))
    texts = {int(k): f"{found.plot.labels[k]}: {_count(counts[k], 'row')}" for k in found.with_rows}
    without = len(found.plot.labels) - len(texts)
    empty = [empty_handle(f"{_count(without, 'component')} without rows")] if without else []
    return [*component_handles(texts), *empty]


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
