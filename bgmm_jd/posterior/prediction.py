"""Predictions for new rows, averaged over the posterior."""

from collections.abc import Callable, Iterator
from typing import Any, overload

import numpy as np
from scipy.special import logsumexp

from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.rows import row_weights
from bgmm_jd.data.source import Source
from bgmm_jd.data.standardize import standardize_new_rows
from bgmm_jd.data.validation import as_count, as_missing_flag, as_rows
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariances import covariance_factors
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.posterior.densities import likelihood_blocks, map_rows
from bgmm_jd.posterior.new_rows import NewRows, blocks_of_source
from bgmm_jd.posterior.normal_mixtures import sample_labelled_rows
from bgmm_jd.posterior.posterior import (
    PREDICTIVE_DRAWS,
    Posterior,
    draw_standardized,
    in_data_units_exactly,
)
from bgmm_jd.variational.approximation import Draws


@overload
def log_density(
    posterior: Posterior, X: Source, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> Iterator[np.ndarray]: ...
@overload
def log_density(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def log_density(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray | Iterator[np.ndarray]:
    """Return the log posterior predictive density of each row, in nats per row and the units of X.

    ::

        log p(x) = log (1/S) sum_s p(x given theta_s)

    It is averaged over draws, and not a plug-in at the posterior mean, which is too narrow.

    Parameters
    ----------
    posterior : Posterior
    X : array-like, data frame or source of rows [N, D]
        If the fit was to a data frame, the columns of another are found by name, in any order. The
        rows of a source (`table`, `batches`) are read in blocks, in constant memory.
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    array [N], in the dtype of the fit; -inf for a row so far away that the square of its distance
    overflows in that dtype. Of a source, an iterator over such arrays, of consecutive rows each.
    """
    draws = as_count(draws, "draws")

    def of_rows(rows: NewRows, chosen: Draws) -> np.ndarray:
        result = np.empty(len(rows.values), posterior.dtype)
        for part, block in likelihood_blocks(posterior, chosen, rows.values):
            result[part] = logsumexp(block, axis=0) - np.log(len(block))
        return result

    return _predicted(posterior, X, draws, seed, of_rows)


@overload
def predict_proba(
    posterior: Posterior, X: Source, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> Iterator[np.ndarray]: ...
@overload
def predict_proba(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def predict_proba(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray | Iterator[np.ndarray]:
    """Return the posterior probability of each component for each row, averaged over draws.

    Parameters
    ----------
    posterior : Posterior
    X : array-like, data frame or source of rows [N, D]
        If the fit was to a data frame, the columns of another are found by name, in any order. The
        rows of a source (`table`, `batches`) are read in blocks, in constant memory.
    draws : int
        S, the number of draws to average over.
    seed : int
        Equal seeds give equal draws.

    Returns
    -------
    array [N, K], rows summing to 1. Of a source, an iterator over such arrays, of consecutive rows
    each.

    Raises
    ------
    ValueError
        If a row is so far from all components that its density in each is zero, even as a
        logarithm: beyond some 1e19 sds in float32.
    """
    draws = as_count(draws, "draws")

    def of_rows(rows: NewRows, chosen: Draws) -> np.ndarray:
        return _probabilities(posterior, rows, chosen)

    return _predicted(posterior, X, draws, seed, of_rows)


def _probabilities(posterior: Posterior, rows: NewRows, chosen: Draws) -> np.ndarray:
    """Return the probability of each component for each row: [n, K]."""
    X = rows.values
    standardized = standardize_new_rows(X, posterior.problem.data)
    result = np.empty((len(X), posterior.K), posterior.dtype)
    for part, block in map_rows(posterior, likelihood.responsibilities, chosen.theta, standardized):
        result[part] = block.mean(axis=0).T
    lost = np.flatnonzero(~np.isfinite(result).all(axis=1))
    if len(lost):
        raise ValueError(
            f"X's row {rows.first + lost[0]}, {X[lost[0]].tolist()}, is so far from all components "
            "that its density cannot be distinguished from zero. Drop such rows, or check their "
            "units."
        )
    return result[:, posterior.approximation.order]


def _predicted(
    posterior: Posterior,
    X: Any,
    draws: int,
    seed: int,
    of_rows: Callable[[NewRows, Draws], np.ndarray],
) -> np.ndarray | Iterator[np.ndarray]:
    """Return what a function makes of rows under draws: of all, or of each block of a source."""
    if not isinstance(X, Source):
        rows = NewRows(as_new_rows(posterior, X), 0)
        return of_rows(rows, draw_standardized(posterior, draws, seed))
    blocks = blocks_of_source(posterior, X)
    chosen = draw_standardized(posterior, draws, seed)
    return (of_rows(rows, chosen) for rows in blocks)


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


@overload
def predict(
    posterior: Posterior, X: Source, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> Iterator[np.ndarray]: ...
@overload
def predict(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def predict(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray | Iterator[np.ndarray]:
    """Return the most probable component of each row, an int array [N]; see `predict_proba`.

    Of a source, an iterator over such arrays, of consecutive rows each.
    """
    found = predict_proba(posterior, X, draws=draws, seed=seed)
    if isinstance(found, np.ndarray):
        return found.argmax(axis=1)
    return (block.argmax(axis=1) for block in found)


@runs_tensorflow
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
