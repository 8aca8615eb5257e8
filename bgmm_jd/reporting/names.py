"""The names of features and components in tables and plots."""

import numpy as np

from bgmm_jd.posterior.posterior import Posterior


def feature_labels(posterior: Posterior) -> tuple[str, ...]:
    """Return the names of the features, or "feature 0", "feature 1", ... where they have none."""
    return posterior.feature_names or tuple(f"feature {d}" for d in range(posterior.D))


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
