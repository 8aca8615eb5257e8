"""The probabilities of the components at points of one or two features."""

import numpy as np

from bgmm_jd.posterior.normal_mixtures import ComponentDraws, normal_log_density


def component_probabilities(components: ComponentDraws, points: np.ndarray) -> np.ndarray:
    """Return the probability of each component for a row at each point, averaged over draws.

    ::

        p(k given x) = (1/S) sum_s w_sk N(x; m_sk, C_sk) / sum_j w_sj N(x; m_sj, C_sj)

    as in `predict_proba`, but given only the features of the components.

    Parameters
    ----------
    components : ComponentDraws
    points : array [G, D]

    Returns
    -------
    array [K, G], columns summing to 1
    """
    S, K = components.weights.shape
    total = np.zeros((K, len(points)))
    with np.errstate(divide="ignore"):  # the log of a weight of 0
        log_weights = np.log(components.weights)
    for factors, means, log_weight in zip(
        np.linalg.cholesky(components.covariances), components.means, log_weights, strict=True
    ):
        # [G, K, D], and all below [K, G], with the points last in memory, which is faster.
        residual = (points.T[:, np.newaxis] - means.T[..., np.newaxis]).T
        log_density, _ = normal_log_density(factors, residual)
        log_joint = log_density.T + log_weight[:, np.newaxis]
        # Relative to the largest: far from all components every density underflows.
        joint = np.exp(log_joint - log_joint.max(axis=0))
        total += joint / joint.sum(axis=0)
    return total / S


def lead_over_others(probabilities: np.ndarray) -> np.ndarray:
    """Return the probability of each component minus the largest of the others: [K, G].

    It is positive where the component is the most probable one. With one component it is 1.
    """
    K = len(probabilities)
    if K == 1:
        return probabilities.copy()
    second, first = np.sort(probabilities, axis=0)[-2:]
    is_first = np.arange(K)[:, np.newaxis] == probabilities.argmax(axis=0)
    return probabilities - np.where(is_first, second, first)


def runs_of_true(x: np.ndarray, flags: np.ndarray) -> list[tuple[float, float]]:
    """Return the intervals of ascending points x [G] in which the flags [G] are true.

    They end half-way between points.
    """
    edges = np.concatenate([x[:1], (x[1:] + x[:-1]) / 2.0, x[-1:]])
    padded = np.concatenate([[False], flags, [False]])
    starts, ends = (
        np.flatnonzero(padded[1:] & ~padded[:-1]),
        np.flatnonzero(padded[:-1] & ~padded[1:]),
    )
    return [(float(edges[a]), float(edges[b])) for a, b in zip(starts, ends, strict=True)]
