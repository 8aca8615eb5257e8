"""What a plot shows and what it is called: features, their names and those of components."""

from typing import Any

import numpy as np

from bgmm_jd.data.validation import as_columns
from bgmm_jd.posterior.posterior import Posterior

MOST_FEATURES = 6  # in one figure: panels of more would be too small to read


def feature_labels(posterior: Posterior, X: Any = None, names: Any = None) -> list[str]:
    """Return a label for each of the D features, or raise.

    The names that are given, or those of the columns of a data frame, or else numbers.
    """
    D = posterior.D
    if names is None:
        names = getattr(X, "columns", None)
    if names is None:
        return [f"feature {d}" for d in range(D)]
    if isinstance(names, str) or len(names) != D:
        raise ValueError(
            f"names must have one name for each of the {D} columns of X; got {names!r}."
        )
    return [str(name) for name in names]


def component_labels(posterior: Posterior) -> list[str]:
    """Return a label for each of the K components."""
    return [str(k) for k in range(posterior.K)]


def as_features(features: Any, D: int, most: int, default: int | None = None) -> list[int]:
    """Return from one to `most` columns of X, by default the first `default`, or raise."""
    if features is None:
        return list(range(min(D, default or most)))
    columns = as_columns([features] if np.ndim(features) == 0 else features, D, "features")
    if len(columns) > most:
        allowed = "one or two columns" if most == 2 else f"at most {most} columns"
        raise ValueError(f"features must be {allowed}; got {features}.")
    return list(columns)
