"""The plots of a report, embedded as pictures with captions and texts for those who cannot see."""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.reporting.classification_plot import plot_classification
from bgmm_jd.reporting.components_plot import plot_components
from bgmm_jd.reporting.density_plot import plot_density
from bgmm_jd.reporting.elbo_plot import plot_elbo
from bgmm_jd.reporting.html import escaped, paragraph
from bgmm_jd.reporting.modes_plot import plot_modes
from bgmm_jd.reporting.plot_axes import figures_apart_from_pyplot
from bgmm_jd.reporting.plot_features import MOST_FEATURES
from bgmm_jd.reporting.rounding import counted
from bgmm_jd.reporting.selection_plot import HasTable, plot_selection
from bgmm_jd.reporting.uncertainty_plot import plot_uncertainty

_IN_A_PLANE = 2  # features of plots of a plane
_IN_COLUMNS = 4  # features of the plot of components: beside more, the letters are too small
_LONGEST_NAME = 16  # letters beside an axis of one of several panels
_SIZE = slice(16, 24)  # of a PNG's bytes: width and height, four bytes each


class Picture(NamedTuple):
    """A plot that is still to be drawn.

    draw : returns its axes, or an array of them.
    caption : what it shows and how to read it.
    alt : what it shows, for those who cannot see it.
    """

    draw: Callable[[], Any]
    caption: str
    alt: str


def figure(picture: Picture) -> str:
    """Return a plot as HTML; the reason where it cannot be drawn."""
    try:
        with figures_apart_from_pyplot():
            axes = picture.draw()
        png = _png(np.ravel(np.array(axes, dtype=object))[0].figure)
    except ValueError as error:  # no row that is complete enough, or no elbo
        return paragraph(f"{picture.caption} Not drawn: {error}")
    width, height = np.frombuffer(png[_SIZE], ">u4")
    data = base64.b64encode(png).decode()
    return (
        f"<figure>\n<figcaption>{escaped(picture.caption)}</figcaption>\n"
        f'<div class="picture"><img src="data:image/png;base64,{data}" width="{width}" '
        f'height="{height}" alt="{escaped(picture.alt)}"></div>\n</figure>\n'
    )


def _png(drawn: Any) -> bytes:
    """Return a figure with what stands beside its axes; the same bytes for the same figure."""
    held = io.BytesIO()
    drawn.savefig(held, format="png", bbox_inches="tight", metadata={"Software": None})
    return held.getvalue()


def with_short_names(posterior: Posterior) -> Posterior:
    """Return the posterior with names of components that leave a plot its room."""
    if posterior.component_names is None:
        return posterior
    return replace(posterior, component_names=tuple(_shortened(posterior.component_names)))


def pictures_of_rows(
    posterior: Posterior, X: Any, names: Sequence[str], draws: int, seed: int
) -> Iterator[Picture]:
    """Yield the plots of rows: components, density and uncertainty.

    The density is averaged over as many draws as the table is, so that the weights are the same.
    """
    D, components = posterior.D, counted(posterior.K, "component")
    options: dict[str, Any] = {"names": _shortened(names), "seed": seed}
    predicting = {**options, "draws": PREDICTIVE_DRAWS}
    shown = names[:MOST_FEATURES]
    some = f" The first {len(shown)} of {D} features are shown." if len(shown) < D else ""
    yield Picture(
        lambda: plot_classification(posterior, X, **predicting),
        "Rows by their most probable components. Ellipses and lines: 1 and 2 standard deviations "
        f"around the mean of each component.{some}",
        f"Rows over {', '.join(shown)}, with the symbols of {components}.",
    )
    plane = " and ".join(names[:_IN_A_PLANE])
    rest = f" Of {D} features the first two are shown; the others count too." if D > 2 else ""
    if D <= _IN_A_PLANE:
        yield Picture(
            lambda: plot_density(posterior, X, draws=draws, **options),
            "Fitted density. "
            + (
                "Regions: 50, 80 and 95 % of the posterior predictive probability; thin ellipses: "
                "draws from the posterior."
                if D > 1
                else "Histogram of the rows, posterior predictive density with a 90 % credible "
                "band, and the contribution of each component."
            ),
            f"Fitted density over {plane}, with {components}.",
        )
    if posterior.K > 1:
        yield Picture(
            lambda: plot_uncertainty(posterior, X, **predicting),
            "How uncertain the component of each row is: the larger and darker, the less certain."
            + rest,
            f"Rows over {plane}, by 1 minus the largest probability of a component.",
        )


def components_picture(
    posterior: Posterior, names: Sequence[str], draws: int, seed: int
) -> Picture:
    """Return the plot of weights, means and standard deviations."""
    shown, some = min(posterior.D, _IN_COLUMNS), ""
    if shown < posterior.D:
        some = f" The first {shown} of {posterior.D} features are shown."
    return Picture(
        lambda: plot_components(
            posterior,
            features=list(range(shown)),
            names=_shortened(names),
            draws=draws,
            seed=seed,
        ),
        "Weights, means and standard deviations: posterior medians with 50 and 94 % intervals."
        + some,
        f"Intervals of the parameters of {counted(posterior.K, 'component')}; the numbers are in "
        "the table.",
    )


def _shortened(names: Sequence[str]) -> list[str]:
    """Return names that do not run into their neighbours', and differ where the whole names do.

    The end is left out, or else the middle; where neither keeps them apart they stay as they are.
    """
    for last in (0, _LONGEST_NAME // 2):
        found = [_without_part(name, last) for name in names]
        if len(set(found)) == len(set(names)):
            return found
    return list(names)


def _without_part(name: str, last: int) -> str:
    """Return a name of at most `_LONGEST_NAME` letters, of which that many are its last ones."""
    if len(name) <= _LONGEST_NAME:
        return name
    return name[: _LONGEST_NAME - 1 - last] + "…" + name[len(name) - last :]


def elbo_picture(posterior: Posterior) -> Picture:
    """Return the plot of the elbo by step."""
    return Picture(
        lambda: plot_elbo(posterior),
        "The elbo by step of the best run, and where each run ended. A fit that has converged ends "
        "on a level line.",
        f"Elbo over {counted(len(posterior.elbo_trace), 'step')}, with the ends of "
        f"{counted(len(posterior.restarts), 'run')}.",
    )


def modes_picture(posterior: Posterior) -> Picture:
    """Return the plot of the shares of the modes."""
    return Picture(
        lambda: plot_modes(posterior),
        "The share of the posterior that each mode has.",
        f"Bars of the shares of {counted(len(posterior.modes), 'mode')}; the numbers are in the "
        "table.",
    )


def selection_picture(selection: HasTable) -> Picture:
    """Return the plot of the evidence and elpd of the fits that were compared."""
    return Picture(
        lambda: plot_selection(selection),
        "Log evidence and expected log predictive density by number of components, a line for "
        "each form of covariance, with 1 standard error.",
        f"Lines of log evidence and elpd of {counted(len(selection.table), 'fit')}; the numbers "
        "are in the table.",
    )
