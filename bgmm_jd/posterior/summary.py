"""A table of the components: mean, sd and interval of each parameter."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bgmm_jd.model.covariances import Arrays, component_sds

if TYPE_CHECKING:  # pandas is imported when it is needed, as arviz is
    import pandas as pd


def summary_table(
    theta: Arrays,
    form: str,
    components: Sequence[Hashable],
    features: Sequence[Hashable],
    prob: float,
) -> pd.DataFrame:
    """Return mean, sd and equal-tailed interval of weights, means and standard deviations.

    Not finite where draws are not.

    Parameters
    ----------
    theta : draws [S, ...], by name.
    form : of the covariance.
    components, features : labels [K] and [D].
    prob : of the interval.
    """
    import pandas as pd

    S = len(theta["weights"])
    parts = theta["weights"], theta["means"], component_sds(theta, form)
    draws = pd.DataFrame(
        np.concatenate([part.reshape(S, -1) for part in parts], axis=1),
        columns=_labels(components, features),
    )
    with np.errstate(over="ignore", invalid="ignore"):
        columns = {
            "mean": draws.mean(),
            "sd": draws.std(),
            "lower": draws.quantile((1.0 - prob) / 2.0),
            "upper": draws.quantile((1.0 + prob) / 2.0),
        }
    return pd.DataFrame(columns)


def _labels(components: Sequence[Hashable], features: Sequence[Hashable]) -> pd.MultiIndex:
    """Return the labels of weights, and then of means and sds by component and feature."""
    import pandas as pd

    labels: list[tuple[Hashable, ...]] = [("weights", k, "") for k in components]
    labels += [(name, k, d) for name in ("means", "sds") for k in components for d in features]
    # In the order of appearance: `from_tuples` would sort each level, and a look-up of a part of a
    # label would warn that the rows are in another order.
    levels = [pd.factorize(np.array(level, dtype=object)) for level in zip(*labels, strict=True)]
    return pd.MultiIndex(
        levels=[found.tolist() for _, found in levels],
        codes=[codes for codes, _ in levels],
        names=("variable", "component", "feature"),
    )
