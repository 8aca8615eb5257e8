"""Components with known parameters, for tests of what is computed from draws of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import stats

from bgmm_jd.posterior.normal_mixtures import ComponentDraws


def make_components(S: int, K: int, D: int, seed: int = 0, apart: float = 3.0) -> ComponentDraws:
    """Make components with full covariances, and means about `apart` sds from zero."""
    rng = np.random.default_rng(seed)
    factors = rng.standard_normal((S, K, D, D + 2))
    return ComponentDraws(
        weights=rng.dirichlet(np.full(K, 5.0), size=S),
        means=apart * rng.standard_normal((S, K, D)),
        covariances=factors @ np.swapaxes(factors, 2, 3) / (D + 2),
    )


def joint_density(components: ComponentDraws) -> Callable[[Any], np.ndarray]:
    """Return the predictive density of whole rows as a function, by a sum of scipy normals."""
    S, K = components.weights.shape
    normals = [
        (
            components.weights[s, k] / S,
            stats.multivariate_normal(components.means[s, k], components.covariances[s, k]),
        )
        for s in range(S)
        for k in range(K)
    ]
    return lambda X: sum(weight * normal.pdf(X) for weight, normal in normals)


def select_components(
    components: ComponentDraws, S: Any = slice(None), K: Any = slice(None), D: Any = None
) -> ComponentDraws:
    """Select some draws, components or features, in any order."""
    D = np.arange(components.means.shape[-1]) if D is None else D
    return ComponentDraws(
        components.weights[S][:, K],
        components.means[S][:, K][:, :, D],
        components.covariances[S][:, K][:, :, D][:, :, :, D],
    )
