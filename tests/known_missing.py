"""Rows with missing entries, and the densities of their observed parts written out."""

import itertools

import numpy as np
from scipy import stats

D = 3
PATTERNS = np.array(list(itertools.product([True, False], repeat=D)))  # all 8, full and empty too


def log_joint_label_of_observed(theta, covariances, values):
    """Return log p(observed part of x_n, label_n = k) of each draw, by scipy: [S, K, N]."""
    found = np.empty((*theta["means"].shape[:2], len(values)))
    for s, k, n in np.ndindex(found.shape):
        there = ~np.isnan(values[n])
        found[s, k, n] = np.log(theta["weights"][s, k])
        if there.any():
            part = covariances[s, k][np.ix_(there, there)]
            sd = np.sqrt(np.diag(part))  # scipy takes columns of unlike scale for singular
            law = stats.multivariate_normal(cov=part / np.outer(sd, sd))
            z = (values[n] - theta["means"][s, k])[there] / sd
            found[s, k, n] += law.logpdf(z) - np.log(sd).sum()
    return found


def two_clusters_with_gaps(seed=6, share=0.2):
    """Draw two clusters of 60 rows, 6 sds apart, with NaN at random but never a whole row."""
    rng = np.random.default_rng(seed)
    lower = np.array([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.6]])
    centres = np.repeat([[-3.0, 0.0, 1.0], [3.0, 1.0, -1.0]], 60, axis=0)
    rows = centres + rng.standard_normal((120, D)) @ lower.T
    gone = rng.random(rows.shape) < share
    gone[gone.all(axis=1), 0] = False
    return np.where(gone, np.nan, rows)
