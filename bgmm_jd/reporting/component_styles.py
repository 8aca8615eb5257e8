"""Colours and symbols of components, which colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # matplotlib takes half a second to import: it is imported when needed
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe and Ito (2008), "Color universal design", without its black, which the lines have, and with
# the wine of Tol (2021), "Colour schemes", in place of its yellow, which is hard to see on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255")
INK, SHADES = "#333333", ("#F1F3F6", "#E2E6EC", "#CFD6DF")

# One more than there are colours, so that 56 components differ in colour or symbol.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_NAMED_COMPONENTS = 16  # in a legend: more would not fit into the figure's height


def component_colours(K: int) -> np.ndarray:
    """Return red, green and blue of each component: [K, 3]."""
    from matplotlib.colors import to_rgb

    return np.array([to_rgb(PALETTE[k % len(PALETTE)]) for k in range(K)])


def component_marker(k: int) -> str:
    """Return the symbol of component k."""
    return _MARKERS[k % len(_MARKERS)]


def draw_symbols(ax: Axes, points: np.ndarray, component: np.ndarray, K: int) -> None:
    """Draw points [n, 2] with the symbol of the component [n] of each: K collections at most."""
    colours = component_colours(K)
    size = np.clip(6_000.0 / max(len(points), 1), 8.0, 24.0)
    for k in np.unique(component):
        x, y = points[component == k].T
        ax.scatter(
            x,
            y,
            size,
            color=colours[k],
            marker=component_marker(k),
            alpha=0.75,
            edgecolors="white",
            linewidths=0.3,
            zorder=2,
        )


def component_handles(texts: Mapping[int, str]) -> list[Line2D]:
    """Return entries of a legend: the symbol of each component that is named, and its text.

    Of many components only the first are named.
    """
    from matplotlib.lines import Line2D

    named = list(texts)[:_NAMED_COMPONENTS]
    handles = [
        Line2D(
            [],
            [],
            color=component_colours(k + 1)[k],
            marker=component_marker(k),
            markersize=5.0,
            linestyle="",
            label=texts[k],
        )
        for k in named
    ]
    if len(texts) > len(named):
        handles.append(empty_handle(f"and {len(texts) - len(named)} more"))
    return handles


def empty_handle(text: str) -> Line2D:
    """Return an entry of a legend that has a text only."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", label=text)
