"""Rows of two groups, and the starts of fits to them."""

import numpy as np
import tensorflow as tf
from builders import ONE_SEEDING, problem_for, started

from bgmm_jd.variational.parameters import unconstrained_arrays

OVERLAPPING_ROWS = 300


def two_groups(N):
    """Return two groups that are 9 sds apart in each feature: [N, 2], in float64."""
    rng = np.random.default_rng(3)
    return rng.normal(size=(N, 2)) + np.where(rng.random((N, 1)) < 0.4, 6.0, -3.0)


def two_large_clusters():
    """Return two groups of 200 rows, 8 sds apart in the first feature: [400, 2], in float32."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2)) + np.repeat([[-4.0, 0.0], [4.0, 0.0]], 200, axis=0)
    return X.astype(np.float32)


def overlapping_start(
    covariance="diag", weights=False, missing=False, execution="graph", settings=ONE_SEEDING
):
    """Return the start of a fit to 300 rows of two groups that overlap, in float64."""
    N = OVERLAPPING_ROWS
    rng = np.random.default_rng(5)
    label = rng.random(N) < 0.4
    X = rng.normal(size=(N, 2)) * [1.0, 0.7] + 3.0 * label[:, np.newaxis]
    rng = np.random.default_rng(6)
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
        X[np.isnan(X).all(axis=1)] = 0.0
    weight = rng.uniform(0.0, 2.0, N) if weights else None
    problem = problem_for(X, 2, covariance, weight=weight, execution=execution, settings=settings)
    return started(problem)


def unconstrained(approximation):
    """Return the unconstrained parameters as new tensors, which no bijector has cached."""
    free = unconstrained_arrays(approximation.problem.model.sites, approximation.params)
    return tf.nest.map_structure(tf.constant, free)
