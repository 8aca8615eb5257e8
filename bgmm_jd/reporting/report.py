"""A report of a fit in one HTML file, for colleagues who do not run Python."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.validation import as_count, as_probability, as_seed
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.posterior.prediction import as_new_rows, predict
from bgmm_jd.reporting.fitted_rows import fitted_rows
from bgmm_jd.reporting.html import Section, page, paragraph
from bgmm_jd.reporting.names import feature_labels
from bgmm_jd.reporting.report_figures import (
    components_picture,
    elbo_picture,
    figure,
    modes_picture,
    pictures_of_rows,
    selection_picture,
    with_short_names,
)
from bgmm_jd.reporting.report_tables import (
    comparison_table,
    components_table,
    estimates,
    modes_table,
)
from bgmm_jd.reporting.report_texts import (
    comparison_in_words,
    cost,
    lead,
    reproduction,
    verdict,
)
from bgmm_jd.reporting.selection_plot import HasTable
from bgmm_jd.storage.files import as_path, write_whole

if TYPE_CHECKING:
    import pandas as pd

_MOST_COUNTED = 100_000  # rows whose components are predicted for the table
_COMPARED = {
    "K",
    "covariance",
    "log_evidence",
    "log_evidence_se",
    "elbo",
    "elpd_loo",
    "se",
    "elpd_diff",
    "dse",
    "warning",
    "status",
}


@runs_tensorflow
def report(
    posterior: Posterior,
    X: Any = None,
    *,
    path: str | os.PathLike[str] = "report.html",
    comparison: Any = None,
    title: str = "Gaussian mixture",
    prob: float = 0.94,
    draws: int = 1000,
    seed: int = 0,
) -> Path:
    """Write a report of a fit as one HTML file, which needs no network and no script.

    It has the verdict with advice, the table of the components with intervals, plots of the rows
    and of the parameters, the modes, the comparison with other fits, what the fit cost, and the
    call and versions to repeat it with. It suits screens of any width, light and dark, and paper.

    ::

        bgmm_jd.report(posterior, X, path="report.html")

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D], optional
        The rows to show. By default those of the fit; where `save` has left these out, there are no
        plots of rows.
    path : str or os.PathLike
        The file. An existing one is replaced at once when the new one is complete.
    comparison : Selection or pandas.DataFrame, optional
        The result of `select` or `compare`, to be shown with the report. Only a `Selection` is
        plotted.
    title : str
        The heading of the report.
    prob : float
        Posterior probability of the intervals in the table, between 0 and 1.
    draws : int
        S, the number of draws that the table is computed from.
    seed : int
        Equal seeds give equal reports.

    Returns
    -------
    pathlib.Path
        Where the report is.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described above, or the fit diverged and a draw is not finite.
    OSError
        If the folder does not exist, the path is a folder, or the file cannot be written.
    """
    if not isinstance(posterior, Posterior):
        raise TypeError(
            "posterior must be a Posterior, as bgmm_jd.fit returns it; got "
            f"{type(posterior).__name__}."
        )
    target = as_path(path)
    prob, draws, seed = as_probability(prob, "prob"), as_count(draws, "draws"), as_seed(seed)
    compared = None if comparison is None else _as_comparison(comparison)
    if X is None and posterior.problem.data.has_rows:
        X = fitted_rows(posterior)
    if X is not None:
        as_new_rows(posterior, X)  # whose errors belong before the first computation
    subject = Subject(posterior, X, feature_labels(posterior, X), prob, draws, seed)
    write_whole(target, page(str(title), lead(posterior), _sections(subject, compared)).encode())
    return target


class Subject(NamedTuple):
    """What is reported: a posterior, rows and names of features, and the options of the tables."""

    posterior: Posterior
    X: Any
    names: Sequence[str]
    prob: float
    draws: int
    seed: int


class Comparison(NamedTuple):
    """The table of a comparison, and what is plotted of it: None for a table alone."""

    table: pd.DataFrame
    selection: HasTable | None


def _as_comparison(comparison: Any) -> Comparison:
    """Return the table of a comparison, or raise."""
    table: Any = getattr(comparison, "table", comparison)
    missing = sorted(_COMPARED - set(getattr(table, "columns", ())))
    if missing:
        raise TypeError(
            "comparison must be what bgmm_jd.select or bgmm_jd.compare returns; got "
            f"{type(comparison).__name__} without {', '.join(missing)}."
        )
    return Comparison(table, None if table is comparison else comparison)


def _sections(subject: Subject, compared: Comparison | None) -> Iterator[Section]:
    """Yield the sections in the order in which they are read."""
    posterior = subject.posterior
    yield Section("How far to trust it", verdict(posterior))
    yield Section("Components", _components(subject))
    yield Section("Rows", _rows(subject))
    yield Section("Modes", _modes(posterior))
    if compared is not None:
        yield Section("Comparison with other fits", _comparison(posterior, compared))
    yield Section("What the fit cost", cost(posterior) + figure(elbo_picture(posterior)))
    yield Section("How to repeat it", reproduction(posterior))


def _components(subject: Subject) -> str:
    """Return the table of the components and the plot of its numbers."""
    posterior, X, names, prob, draws, seed = subject
    counts = None
    if X is not None and len(X) <= _MOST_COUNTED:
        counts = np.bincount(predict(posterior, X, seed=seed), minlength=posterior.K)
    table = components_table(
        posterior, names, estimates(posterior, draws, seed, prob), counts, prob
    )
    return table + figure(components_picture(with_short_names(posterior), names, draws, seed))


def _rows(subject: Subject) -> str:
    """Return the plots of the rows."""
    posterior, X, names, _, draws, seed = subject
    if X is None:
        return paragraph("The posterior has not kept its rows, which the plots need.")
    return "".join(
        map(figure, pictures_of_rows(with_short_names(posterior), X, names, draws, seed))
    )


def _modes(posterior: Posterior) -> str:
    """Return the modes in words, or as a table and a plot where there are several."""
    if not posterior.modes:
        return paragraph("No run of the fit converged, so that no mode is known.")
    if len(posterior.modes) == 1:
        return paragraph("All runs that converged reached one mode.")
    return modes_table(posterior) + figure(modes_picture(posterior))


def _comparison(posterior: Posterior, compared: Comparison) -> str:
    """Return the comparison in words, as a table and, of a selection, as a plot."""
    table, selection = compared
    words = comparison_in_words(table) + comparison_table(table, posterior)
    return words if selection is None else words + figure(selection_picture(selection))
