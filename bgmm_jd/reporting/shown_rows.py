"""The rows that a plot shows: those in which its features are observed, and not too many."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from bgmm_jd.data.validation import as_missing_flag, as_rows
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.reporting.names import feature_labels

_MOST_ROWS = 4_000  # more points would cover each other


class ShownRows(NamedTuple):
    """Rows of X with the features that a plot shows.

    rows : array [N, D], those in which the features are observed.
    values : float64 [N, d], the features of these rows.
    chosen : int array [n], the rows that are drawn as points.
    missing : number of rows that are left out.
    """

    rows: np.ndarray
    values: np.ndarray
    chosen: np.ndarray
    missing: int

    @property
    def points(self) -> np.ndarray:
        """Return the features of the rows that are drawn: float64 [n, d]."""
        return self.values[self.chosen]

    @property
    def note(self) -> str:
        """Say which rows are not drawn; empty if all are."""
        return "; ".join(filter(None, (self.subset_note, self.missing_note)))

    @property
    def subset_note(self) -> str:
        """Say how many of many rows are drawn; empty if all are."""
        N, n = len(self.rows), len(self.chosen)
        return f"{n:,} of {N:,} rows drawn" if n < N else ""

    @property
    def missing_note(self) -> str:
        """Say how many rows are left out; empty if none are."""
        rows = "row" if self.missing == 1 else "rows"
        return f"{self.missing:,} {rows} with missing values left out" if self.missing else ""


def shown_rows(
    posterior: Posterior,
    X: Any,
    features: Sequence[int],
    rng: np.random.Generator,
    fewest: int,
) -> ShownRows:
    """Return the rows of X in which at least `fewest` of the features are observed, or raise.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
    features : columns of X.
    rng : chooses the rows that are drawn, where there are many.
    fewest : number of features.
    """
    allow_missing = as_missing_flag(posterior.missing)
    rows = as_rows(X, posterior.D, allow_missing, names=posterior.feature_names)
    shown = list(features)
    complete = (~np.isnan(rows[:, shown])).sum(axis=1) >= fewest
    if not complete.any():
        labels = ", ".join(feature_labels(posterior, X)[i] for i in shown)
        which = "all" if fewest == len(shown) else "two of the"
        raise ValueError(
            f"X must have a row in which {which} features shown, {labels}, are observed; it has "
            "none. Choose other features."
        )
    kept = rows[complete]
    return ShownRows(
        rows=kept,
        values=kept[:, shown].astype(np.float64),
        chosen=rng.permutation(len(kept))[:_MOST_ROWS],
        missing=int(np.count_nonzero(~complete)),
    )
