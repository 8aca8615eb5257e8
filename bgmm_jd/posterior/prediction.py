"""Predictions for new rows, averaged over the posterior."""

from typing import Any

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.data.rows import row_weights
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.data.validation import as_count, as_rows, check_missing
from bgmm_jd.model import covariances, likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.posterior.densities import likelihood_blocks, map_rows
from bgmm_jd.posterior.posterior import (
    PREDICTIVE_DRAWS,
    Posterior,
    draw_standardized,
    in_data_units_exactly,
)


def log_density(
    posterior: Posterior, X: Any, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Log of the posterior predictive density of each row, in nats per row and the units of X.

    ::

        log p(x) = log (1/S) sum_s p(x given theta_s)

    averaged over draws, not a plug-in at the posterior mean, which is too narrow.

    Parameters
    ----------
    X : array-like [N, D]
    draws : int
        S, how many draws to average over.

    Returns
    -------
    array [N], in the dtype of the fit; -inf for a row so far away that its dtype has no number for
    the square of the distance.
    """
    X = as_new_rows(posterior, X)
    chosen = draw_standardized(posterior, as_count(draws, "draws"), seed)
    result = np.empty(len(X), posterior.dtype)
    for part, block in likelihood_blocks(posterior, chosen, X):
        result[part] = logsumexp(block, axis=0) - np.log(len(block))
    return result


def predict_proba(
    posterior: Posterior, X: Any, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Posterior probability of each component for each row, averaged over draws.

    Returns
    -------
    array [N, K], rows summing to 1.

    Raises
    ------
    ValueError
        If a row is so far from all components that its density in each is zero, even as a
        logarithm: beyond some 1e19 sds in float32.
    """
    X = as_new_rows(posterior, X)
    rows = as_standardized_rows(X, posterior.inside.data.standardization)
    theta = draw_standardized(posterior, as_count(draws, "draws"), seed).theta
    result = np.empty((len(X), posterior.K), posterior.dtype)
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        result[part] = block.mean(axis=0).T
    lost = np.flatnonzero(~np.isfinite(result).all(axis=1))
    if len(lost):
        raise ValueError(
            f"X's row {lost[0]}, {X[lost[0]].tolist()}, is so far from all components that its "
            "density cannot be told from zero. Drop such rows, or check their units."
        )
    return result[:, posterior.inside.order]


def expected_counts(posterior: Posterior, theta: Theta) -> np.ndarray:
    """Expected number of the fit's rows in each component, by their weights: [K], float64.

    Parameters
    ----------
    theta : draws to average over, in internal units.
    """
    rows = posterior.inside.data.rows
    weight = row_weights(rows)
    total = np.zeros(posterior.K)
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        total += block.mean(axis=0) @ weight[part]
    return total[posterior.inside.order]


def predict(
    posterior: Posterior, X: Any, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """The most probable component of each row: int array [N]; see `predict_proba`."""
    return predict_proba(posterior, X, draws, seed).argmax(axis=1)


def sample_predictive(posterior: Posterior, n: int, seed: int = 0) -> np.ndarray:
    """Draw new rows, each under parameters drawn anew from the posterior.

    Returns
    -------
    array [n, D], in the units and dtype of X.
    """
    n = as_count(n, "n")
    theta = in_data_units_exactly(posterior, draw_standardized(posterior, n, seed).theta)
    rng = np.random.default_rng([seed, 1])
    below = np.cumsum(theta["weights"], axis=1)
    label = (rng.random((n, 1)) * below[:, -1:] >= below).sum(axis=1)
    pick = (np.arange(n), label)
    z = rng.standard_normal((n, posterior.D))
    root = covariances.covariance_factors(theta, posterior.covariance)
    return (theta["means"][pick] + covariances.correlated_noise(root[pick], z)).astype(
        posterior.dtype
    )


def as_new_rows(posterior: Posterior, X: Any) -> np.ndarray:
    """X at the door of a prediction, in the dtype of the fit."""
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is told as infinity
        missing = check_missing(posterior.missing)
        rows = as_rows(X, posterior.D, missing).astype(posterior.dtype)
        return as_rows(rows, missing=missing)
