"""Components with known parameters, for the tests of what is computed from draws of them."""

import numpy as np
from scipy import stats

from bgmm_jd.posterior.normal_mixtures import ComponentDraws


def make(S, K, D, seed=0, apart=3.0):
    """Components with full covariances and correlated features, means `apart` sds from zero."""
    rng = np.random.default_rng(seed)
    roots = rng.standard_normal((S, K, D, D + 2))
    return ComponentDraws(
        weights=rng.dirichlet(np.full(K, 5.0), size=S),
        means=apart * rng.standard_normal((S, K, D)),
        covariances=roots @ np.swapaxes(roots, 2, 3) / (D + 2),
    )


def joint_density(components):
    """Predictive density of whole rows, as a function: one scipy normal after another."""
    S, K = components.weights.shape
    laws = [
        (
            components.weights[s, k] / S,
            stats.multivariate_normal(components.means[s, k], components.covariances[s, k]),
        )
        for s in range(S)
        for k in range(K)
    ]
    return lambda X: sum(w * law.pdf(X) for w, law in laws)


def select(components, S=slice(None), K=slice(None), D=None):
    """Some draws, components or features, in any order."""
    D = np.arange(components.means.shape[-1]) if D is None else D
    return ComponentDraws(
        components.weights[S][:, K],
        components.means[S][:, K][:, :, D],
        components.covariances[S][:, K][:, :, D][:, :, :, D],
    )
