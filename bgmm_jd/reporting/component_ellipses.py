"""Ellipses of the components over two features, in the units of X."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.posterior.normal_mixtures import ComponentDraws
from bgmm_jd.reporting.component_styles import component_colours
from bgmm_jd.reporting.density_geometry import ellipse_outlines

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_ellipses(
    ax: Axes,
    components: ComponentDraws,
    labels: Sequence[str],
    which: Iterable[int],
    *,
    single_draws: int = 0,
    width: float = 1.8,
) -> None:
    """Draw ellipses of 1 and 2 sds of some components, and their labels.

    Thick at the posterior mean, and thin for single draws.

    Parameters
    ----------
    ax : Axes
    components : of two features.
    labels : of the components [K].
    which : components to draw.
    single_draws : number of draws to show.
    width : of the thick lines, in points.
    """
    colours = component_colours(len(labels))
    for k in which:
        means, covariances = components.means[:, k], components.covariances[:, k]
        if single_draws:
            thin = ellipse_outlines(means[:single_draws], covariances[:single_draws])
            _add_lines(ax, thin, colours[k], linewidths=0.5, alpha=0.35, zorder=4)
        mean, covariance = means.mean(axis=0), covariances.mean(axis=0)
        thick = ellipse_outlines(mean[np.newaxis], covariance[np.newaxis])
        _add_lines(ax, thick, colours[k], linewidths=width, zorder=5, path_effects=_white_edge())
        write_label(ax, mean, labels[k], colours[k])


def write_label(ax: Axes, position: Any, label: str, colour: np.ndarray) -> None:
    """Write the label of a component at its mean, if that is within the axes."""
    ax.annotate(
        label,
        position,
        color=colour,
        weight="bold",
        ha="center",
        va="center",
        zorder=6,
        path_effects=_white_edge(),
        annotation_clip=True,
    )


def _add_lines(ax: Axes, lines: list[np.ndarray], colour: np.ndarray, **style: Any) -> None:
    from matplotlib.collections import LineCollection

    # The rows determine the limits of the axes.
    ax.add_collection(LineCollection(lines, colors=[colour], **style), autolim=False)


def _white_edge() -> list[Any]:
    """Return an effect that sets lines and letters off from what is beneath."""
    from matplotlib import patheffects

    return [patheffects.withStroke(linewidth=3.2, foreground="white", alpha=0.8)]
