"""Predictions for new rows, averaged over the posterior."""

from typing import Any

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.data.rows import row_weights
from bgmm_jd.data.standardize import standardize_new_rows
from bgmm_jd.data.validation import as_count, as_missing_flag, as_rows
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariances import covariance_factors
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.posterior.densities import likelihood_blocks, map_rows
from bgmm_jd.posterior.normal_mixtures import sample_labelled_rows
from bgmm_jd.posterior.posterior import (
    PREDICTIVE_DRAWS,
    Posterior,
    draw_standardized,
    in_data_units_exactly,
)


def log_density(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Return the log posterior predictive density of each row, in nats per row and the units of X.

    ::

        log p(x) = log (1/S) sum_s p(x given theta_s)

    It is averaged over draws, and not a plug-in at the posterior mean, which is too narrow.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
        If the fit was to a data frame, the columns of another are found by name, in any order.
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    array [N], in the dtype of the fit; -inf for a row so far away that the square of its distance
    overflows in that dtype.
    """
    X = as_new_rows(posterior, X)
    chosen = draw_standardized(posterior, as_count(draws, "draws"), seed)
    result = np.empty(len(X), posterior.dtype)
    for part, block in likelihood_blocks(posterior, chosen, X):
        result[part] = logsumexp(block, axis=0) - np.log(len(block))
    return result


def predict_proba(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Return the posterior probability of each component for each row, averaged over draws.

    Parameters
    ----------
    posterior : Posterior
    X : array-like or data frame [N, D]
        If the fit was to a data frame, the columns of another are found by name, in any order.
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal draws.

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
    rows = standardize_new_rows(X, posterior.problem.data)
    theta = draw_standardized(posterior, as_count(draws, "draws"), seed).theta
    result = np.empty((len(X), posterior.K), posterior.dtype)
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        result[part] = block.mean(axis=0).T
    lost = np.flatnonzero(~np.isfinite(result).all(axis=1))
    if len(lost):
        raise ValueError(
            f"X's row {lost[0]}, {X[lost[0]].tolist()}, is so far from all components that its "
            "density cannot be distinguished from zero. Drop such rows, or check their units."
        )
    return result[:, posterior.approximation.order]


def expected_counts(posterior: Posterior, theta: Theta) -> np.ndarray:
    """Return the expected number of the fit's rows in each component: [K], float64.

    Rows count by their weights.

    Parameters
    ----------
    posterior : Posterior
    theta : draws to average over, in standardised units.
    """
    rows = posterior.problem.data.rows
    weight = row_weights(rows)
    total = np.zeros(posterior.K)
    for part, block in map_rows(posterior, likelihood.responsibilities, theta, rows):
        total += block.mean(axis=0) @ weight[part]
    return total[posterior.approximation.order]


def predict(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray:
    """Return the most probable component of each row, an int array [N]; see `predict_proba`."""
    return predict_proba(posterior, X, draws=draws, seed=seed).argmax(axis=1)


def sample_predictive(posterior: Posterior, n: int, *, seed: int = 0) -> np.ndarray:
    """Draw new rows, each under parameters drawn anew from the posterior.

    Parameters
    ----------
    posterior : Posterior
    n : int
        Number of rows.
    seed : int
        Equal seeds give equal rows.

    Returns
    -------
    array [n, D], in the units, dtype and order of columns of X.
    """
    return sample_predictive_with_labels(posterior, as_count(n, "n"), seed)[0]


def sample_predictive_with_labels(
    posterior: Posterior, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `sample_predictive` and the component of each: [n, D], int [n]."""
    theta = in_data_units_exactly(posterior, draw_standardized(posterior, n, seed).theta)
    factors = covariance_factors(theta, posterior.covariance)
    rng = np.random.default_rng([seed, 1])
    rows, labels = sample_labelled_rows(theta["weights"], theta["means"], factors, rng)
    return rows.astype(posterior.dtype), labels


def as_new_rows(posterior: Posterior, X: Any) -> np.ndarray:
    """Return the rows X of a prediction in the dtype of the fit, or raise.

    The columns of a data frame are put in the order of the fit, by their names; those of anything
    else, and all columns where the fit has no names, are taken by position.
    """
    with np.errstate(over="ignore"):  # what float32 cannot hold is reported as infinity
        missing = as_missing_flag(posterior.missing)
        rows = as_rows(X, posterior.D, missing, names=posterior.feature_names)
        return as_rows(rows.astype(posterior.dtype), missing=missing)
