"""Missing entries of X: NaN becomes zero, beside the pattern of what is observed in each row.

`validation` decides whether NaN is allowed, and `model.likelihood` integrates missing entries out.
"""

from typing import Any, NamedTuple

import numpy as np


class Missing(NamedTuple):
    """Which entries are observed, by pattern, because many rows share one.

    observed [M, D] : for each pattern, 1 where an entry is observed and 0 where it is missing.
    pattern [N] : int32, the pattern of each row.
    """

    observed: Any
    pattern: Any


def separate_missing(values: np.ndarray) -> tuple[np.ndarray, Missing | None]:
    """Return values [N, D] with zeros in place of NaN, and which entries are observed.

    None if no entry is missing.
    """
    absent = np.isnan(values)
    if not absent.any():
        return values, None
    patterns, pattern = np.unique(~absent, axis=0, return_inverse=True)
    missing = Missing(patterns.astype(values.dtype), pattern.reshape(-1).astype(np.int32))
    return np.where(absent, values.dtype.type(0), values), missing
