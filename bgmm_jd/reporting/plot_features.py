"""Which features a plot shows."""

from typing import Any

import numpy as np

from bgmm_jd.data.validation import as_columns
from bgmm_jd.posterior.posterior import Posterior

MOST_FEATURES = 6  # in one figure: panels of more would be too small to read


def as_features(features: Any, posterior: Posterior, most: int) -> list[int]:
    """Return from one to `most` columns of X, by default the first of them, or raise.

    Parameters
    ----------
    features : numbers or names of columns, or one of them.
    """
    D = posterior.D
    if features is None:
        return list(range(min(D, most)))
    chosen = [features] if np.ndim(features) == 0 else features
    columns = as_columns(chosen, D, "features", posterior.feature_names)
    if len(columns) > most:
        allowed = "one or two columns" if most == 2 else f"at most {most} columns"
        raise ValueError(f"features must be {allowed}; got {features}.")
    return list(columns)
