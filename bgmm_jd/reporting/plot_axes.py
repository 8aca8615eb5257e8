"""Axes to draw on: those of a new figure, or those that are given.

A new figure is one of pyplot's, which notebooks and `pyplot.show` show. No setting is changed.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bgmm_jd.reporting.component_styles import INK
from bgmm_jd.reporting.density_geometry import aspect_ratio, have_similar_lengths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend

SMALL, _NOTE = 8, 7  # points: the sizes of legends and notes
_LEGEND_WIDTH = 2.6  # inches at the right of the axes
_LINEAR = 10.0  # nats: differences up to this are the interesting ones
_LONG = 10.0  # times the linear part: a longer axis would leave it too little room

_for_pyplot = contextvars.ContextVar("for_pyplot", default=True)


@contextlib.contextmanager
def figures_apart_from_pyplot() -> Iterator[None]:
    """Make figures that pyplot neither shows nor keeps, for pictures that go into a file."""
    token = _for_pyplot.set(False)
    try:
        yield
    finally:
        _for_pyplot.reset(token)


def one_axes(ax: Any, width: float, height: float) -> Axes:
    """Return the axes that are given, or those of a new figure.

    Parameters
    ----------
    ax : Axes or None
    width, height : of new axes, without the legend, in inches.
    """
    if ax is None:
        return _new_axes((1, 1), width + _LEGEND_WIDTH, height + 0.8, layout="compressed")[0, 0]
    _check_axes(ax)
    return ax


def plane_axes(ax: Any, limits: Sequence[tuple[float, float]]) -> Axes:
    """Return axes for two features with the given limits, and equal scales if those permit it."""
    ratio = aspect_ratio(limits)
    width = 5.0 if ratio <= 1.0 else 5.0 / np.sqrt(ratio)
    ax = one_axes(ax, width, width * ratio)
    ax.set_xlim(*limits[0])
    ax.set_ylim(*limits[1])
    if have_similar_lengths(limits):
        ax.set_aspect("equal", adjustable="box")
    return ax


def axes_of_shape(
    ax: Any, shape: tuple[int, ...], width: float, height: float, panels: str
) -> np.ndarray:
    """Return an array of axes [*shape]: those that are given, or those of a new figure.

    Parameters
    ----------
    ax : array-like of axes [*shape], or one axes where the shape has one element, or None
    shape : one or two int
    width, height : of a new figure, in inches.
    panels : what each of the axes is for, for messages.

    Raises
    ------
    TypeError, ValueError
        If `ax` holds something else than axes, or another number of them.
    """
    if ax is None:
        grid = shape if len(shape) == 2 else (1, *shape)
        return _new_axes((grid[0], grid[1]), width, height, layout="constrained").reshape(shape)
    given = np.array(ax, dtype=object)
    if given.ndim == 0 and np.prod(shape) == 1:
        given = given.reshape(shape)
    if given.shape != shape:
        wanted = " x ".join(str(n) for n in shape)
        got = "one" if given.ndim == 0 else " x ".join(str(n) for n in given.shape)
        raise ValueError(
            f"ax must have {wanted} axes, {panels}; got {got}. Leave ax out for a new figure."
        )
    for one in given.flat:
        _check_axes(one)
    return given


def _new_axes(grid: tuple[int, int], width: float, height: float, layout: Any) -> np.ndarray:
    """Return the axes of a new figure: [rows, columns]."""
    from matplotlib import figure, pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    options: dict[str, Any] = {"figsize": (width, height), "dpi": 150, "layout": layout}
    if _for_pyplot.get():
        made = pyplot.figure(**options)
    else:
        made = figure.Figure(**options)
        FigureCanvasAgg(made)
    return made.subplots(*grid, squeeze=False)


def _check_axes(ax: Any) -> None:
    from matplotlib.axes import Axes

    if not isinstance(ax, Axes):
        raise TypeError(
            f"ax must be a matplotlib.axes.Axes; got {type(ax).__name__}. Pass one such as "
            "plt.subplots()[1], or leave ax out for a new figure."
        )


def scale_nats(ax: Axes, values: np.ndarray, noise: float = 0.0) -> None:
    """Make the vertical axis logarithmic far from zero, where that is most of a long axis.

    Parameters
    ----------
    ax : Axes
    values : what is drawn, in nats; those that are not finite do not count.
    noise : nats around zero that are to stay linear, if they are more than the usual ones.
    """
    linear = max(_LINEAR, noise)
    if np.abs(values[np.isfinite(values)]).max(initial=0.0) > _LONG * linear:
        ax.set_yscale("symlog", linthresh=linear)


def add_legend(ax: Axes, handles: Sequence[Any] | None = None, title: str | None = None) -> Legend:
    """Add a legend at the right of the axes, where it hides nothing, and thin the frame."""
    handles = ax.get_legend_handles_labels()[0] if handles is None else handles
    remove_frame(ax)
    return ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=SMALL,
        title=title,
        title_fontsize=SMALL,
        alignment="left",
    )


def remove_frame(ax: Axes) -> None:
    """Remove the frame at the top and the right."""
    ax.spines[["top", "right"]].set_visible(False)


def add_note(ax: Axes, text: str) -> None:
    """Write what the plot leaves out above the axes, at the right; nothing if there is nothing."""
    if text:
        ax.set_title(text, loc="right", fontsize=_NOTE, color=INK)
