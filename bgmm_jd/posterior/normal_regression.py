"""The regression of some features on others, within each of many normals.

With the features of a normal cut in x, given, and y, wanted, and its covariance in four blocks,

::

    y given x  ~  N(mu_y + B (x - mu_x), C),   B = S_yx S_xx^-1,   C = S_yy - B S_xy

(Mardia, Kent and Bibby 1979, *Multivariate Analysis*, theorem 3.2.4). All of it stands in one
Cholesky factor, taken with x before y:

::

    L = [[L_x, 0], [A, L_y]],   z = L_x^-1 (x - mu_x),   B (x - mu_x) = A z,   C = L_y L_y^T

No covariance is inverted, and C cannot lose its sign to rounding. It does not depend on x.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.posterior.normal_mixtures import normal_log_density


class PartitionedNormals(NamedTuple):
    """J weighted normals with their features cut in x [g] and y [d]; blocks as above.

    log_weights : [J]
    x_means, y_means : [J, g], [J, d]
    x_factors : [J, g, g], L_x
    slopes : [J, d, g], A
    y_factors : [J, d, d], L_y
    """

    log_weights: np.ndarray
    x_means: np.ndarray
    y_means: np.ndarray
    x_factors: np.ndarray
    slopes: np.ndarray
    y_factors: np.ndarray


def partition_normals(
    weights: np.ndarray,
    means: np.ndarray,
    covariances: np.ndarray,
    given: Collection[int],
    wanted: Collection[int],
) -> PartitionedNormals:
    """Cut normals into the columns `given` (x) and `wanted` (y); further ones are summed out.

    Parameters
    ----------
    weights, means, covariances : [..., 1], [..., D], [..., D, D] without the 1
        The axes [...] are joined to J in the result.
    """
    D, g, columns = means.shape[-1], len(given), [*given, *wanted]
    means = means.reshape(-1, D)[:, columns]
    blocks = covariances.reshape(-1, D, D)[:, columns][:, :, columns]
    factors = np.linalg.cholesky(blocks)
    with np.errstate(divide="ignore"):  # an emptied component may have weight zero
        log_weights = np.log(weights.reshape(-1))
    return PartitionedNormals(
        log_weights=log_weights,
        x_means=means[:, :g],
        y_means=means[:, g:],
        x_factors=factors[:, :g, :g],
        slopes=factors[:, g:, :g],
        y_factors=factors[:, g:, g:],
    )


def regress_normals(parts: PartitionedNormals, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What each normal makes of x, and what it expects of y.

    Parameters
    ----------
    x : [R, g]

    Returns
    -------
    log_joint_label : [R, J]
        log w_j N(x; mu_j, S_j), in nats: see `normalised`.
    means : [R, J, d]
        Of y given x.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # told by `normalised`
        log_density, z = normal_log_density(parts.x_factors, x[:, np.newaxis] - parts.x_means)
        means = parts.y_means + np.einsum("rjg,jdg->rjd", z, parts.slopes)
    return parts.log_weights + log_density, means


def normalize_log_weights(log_joint_label: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Log probabilities of the labels given x, by Bayes' theorem.

    Parameters
    ----------
    log_joint_label : [R, ..., J]
    x : [R, g]

    Returns
    -------
    array [R, ..., J], whose exponentials sum to 1 over the last axis.

    Raises
    ------
    ValueError
        If x is so far from all normals that its density underflows even as a logarithm.
    """
    total = logsumexp(log_joint_label, axis=-1, keepdims=True)
    lost = ~np.isfinite(total).reshape(len(x), -1).all(axis=1)
    if lost.any():
        raise ValueError(
            f"The values {x[lost.argmax()].tolist()} are so far from all components that their "
            "density cannot be told from zero. Check them, and their units."
        )
    return log_joint_label - total
