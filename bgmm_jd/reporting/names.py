"""The names of features and components in tables and plots."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bgmm_jd.data.frames import column_names
from bgmm_jd.posterior.posterior import Posterior


def feature_labels(posterior: Posterior, X: Any = None, names: Any = None) -> Sequence[str]:
    """Return a label for each of the D features, or raise.

    The names that are given, or those of the fit, or those of the columns of a data frame X, or
    else "feature 0", "feature 1", ...
    """
    if names is None:
        known = posterior.feature_names or column_names(X)
        return known or tuple(f"feature {d}" for d in range(posterior.D))
    if isinstance(names, str) or len(names) != posterior.D:
        raise ValueError(
            f"names must have one name for each of the {posterior.D} columns of X; got {names!r}."
        )
    return [str(name) for name in names]


def component_labels(posterior: Posterior) -> tuple[str, ...]:
    """Return the names of the components, or "0", "1", ... where they have none."""
    return posterior.component_names or tuple(map(str, range(posterior.K)))


def name_coordinates(posterior: Posterior) -> dict[str, np.ndarray]:
    """Return the coordinates of those of ArviZ's dimensions that have names."""
    names = {
        "feature": posterior.feature_names,
        "feature_bis": posterior.feature_names,
        "component": posterior.component_names,
    }
    return {dim: np.array(found) for dim, found in names.items() if found is not None}
