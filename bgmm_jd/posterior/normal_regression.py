"""The regression of some features on others within each of many normal distributions.

The features are partitioned into x, which is given, and y, which is wanted, and the covariance into
four blocks accordingly. Then

::

    y given x  ~  N(mu_y + B (x - mu_x), C),   B = S_yx S_xx^-1,   C = S_yy - B S_xy

(Mardia, Kent and Bibby 1979, *Multivariate Analysis*, theorem 3.2.4). All of it follows from one
Cholesky factor of the covariance, with x before y:

::

    L = [[L_x, 0], [A, L_y]],   z = L_x^-1 (x - mu_x),   B (x - mu_x) = A z,   C = L_y L_y^T

No covariance is inverted, and C stays positive definite whatever the rounding. C does not depend on
x.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.posterior.normal_mixtures import normal_log_density


class PartitionedNormals(NamedTuple):
    """J weighted normals with features partitioned into x [g] and y [d]; symbols as above.

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
    """Partition the features into `given` (x) and `wanted` (y), marginal over all others.

    Parameters
    ----------
    weights, means, covariances : arrays [...], [..., D] and [..., D, D]
        The axes [...] are joined to J in the result.
    given, wanted : collections of g and d columns
    """
    D, g, columns = means.shape[-1], len(given), [*given, *wanted]
    means = means.reshape(-1, D)[:, columns]
    covariances = covariances.reshape(-1, D, D)[:, columns][:, :, columns]
    factors = np.linalg.cholesky(covariances)
    with np.errstate(divide="ignore"):  # an empty component may have weight zero
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
    """Return the log joint density of x and each label, and the conditional mean of y.

    Parameters
    ----------
    parts : PartitionedNormals
    x : array [R, g]

    Returns
    -------
    log_joint_label : array [R, J]
        log w_j N(x; mu_j, S_j), in nats; -inf or NaN if x is too far away, which
        `normalize_log_weights` reports.
    means : array [R, J, d]
        Mean of y given x.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        log_density, z = normal_log_density(parts.x_factors, x[:, np.newaxis] - parts.x_means)
        means = parts.y_means + np.einsum("rjg,jdg->rjd", z, parts.slopes)
    return parts.log_weights + log_density, means


def normalize_log_weights(log_joint_label: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the log probabilities of the labels given x, by Bayes' theorem.

    Parameters
    ----------
    log_joint_label : array [R, ..., J]
    x : array [R, g]
        For the error message.

    Returns
    -------
    array [R, ..., J], whose exponentials sum to 1 over the last axis

    Raises
    ------
    ValueError
        If a row of x is so far from all normals that even the logarithm of its density overflows.
    """
    total = logsumexp(log_joint_label, axis=-1, keepdims=True)
    lost = ~np.isfinite(total).reshape(len(x), -1).all(axis=1)
    if lost.any():
        raise ValueError(
            f"The values {x[lost.argmax()].tolist()} are so far from all components that their "
            "density underflows to zero. Check the values and their units."
        )
    return log_joint_label - total
