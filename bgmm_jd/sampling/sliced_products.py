"""Distances of many points from a mixture's members, and the members' scatter matrices.

The matrix products are taken in slices of the points that stay in a processor's cache, which is
several times faster than a single product.
"""

import numpy as np

from bgmm_jd.backend.numerics import blocks

_CACHED = 2**15  # numbers of a slice: small enough for BLAS not to start threads, which cost more


def squared_lengths(points: np.ndarray, maps: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the squared lengths of A x - b for points x [S, P]: [S, M].

    In the precision of the points.

    Parameters
    ----------
    maps : the matrices A [M, Q, P].
    offset : the vectors b [M, Q].
    """
    M, Q, P = maps.shape
    joined = np.ascontiguousarray(maps.reshape(M * Q, P).T, points.dtype)
    offset = offset.reshape(M * Q).astype(points.dtype)
    sums = np.repeat(np.eye(M, dtype=points.dtype), Q, axis=0)
    found = np.empty((len(points), M), points.dtype)
    for part in blocks(len(points), M * Q, _CACHED):
        moved = points[part] @ joined
        moved -= offset
        np.square(moved, out=moved)
        np.matmul(moved, sums, out=found[part])
    return found


def weighted_scatter(points: np.ndarray, weights: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return the sums over points of w (x - m) (x - m)^T, for each weighted mean m: [M, P, P].

    Parameters
    ----------
    points : [S, P]
    weights : w [S, M]
    means : those of the points by the weights, [M, P].
    """
    P, M = points.shape[1], weights.shape[1]
    first, second = np.tril_indices(P)
    origin = points.mean(axis=0)  # near the points, so that little is lost by the difference below
    products = np.zeros((M, len(first)))
    for part in blocks(len(points), len(first), _CACHED):
        centred = points[part] - origin
        products += weights[part].T @ (centred[:, first] * centred[:, second])
    means = means - origin
    products -= weights.sum(axis=0)[:, np.newaxis] * means[:, first] * means[:, second]
    scatter = np.empty((M, P, P))
    scatter[:, first, second] = scatter[:, second, first] = products
    return scatter
