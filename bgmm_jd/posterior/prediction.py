"""Predictions for new rows, averaged over the posterior."""

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
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
from bgmm_jd.posterior.densities import (
    DrawnMixtures,
    blocks_under_draws,
    drawn_mixtures,
    likelihood_blocks,
    map_rows,
)
from bgmm_jd.posterior.draws import draw_mixtures, in_data_units_exactly
from bgmm_jd.posterior.new_rows import NewRows, check_source, results_of_source
from bgmm_jd.posterior.normal_mixtures import sample_labelled_rows
from bgmm_jd.posterior.posterior import PREDICTIVE_DRAWS, Posterior
from bgmm_jd.sources.executors import check_executor


@overload
def log_density(
    posterior: Posterior,
    X: Source,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]: ...
@overload
def log_density(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def log_density(
    posterior: Posterior,
    X: Any,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
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
    executor : concurrent.futures.Executor, optional
        Reads the rows of a source and predicts for them, block by block, by several workers, as in
        `fit`; their number does not change the result. Each task is sent the draws.
    progress : bool
        Whether to show on standard error how many rows of a source have been dealt with.

    Returns
    -------
    array [N], in the dtype of the fit; -inf for a row so far away that the square of its distance
    overflows in that dtype. Of a source, an iterator over such arrays, of consecutive rows each.
    """
    return _predicted(posterior, X, draws, seed, executor, progress, _log_densities, 1)


def _log_densities(rows: NewRows, mixtures: DrawnMixtures) -> np.ndarray:
    result = np.empty(len(rows.values), mixtures.data.dtype)
    for part, block in likelihood_blocks(mixtures, rows.values):
        result[part] = logsumexp(block, axis=0) - np.log(len(block))
    return result


@overload
def predict_proba(
    posterior: Posterior,
    X: Source,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]: ...
@overload
def predict_proba(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def predict_proba(
    posterior: Posterior,
    X: Any,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
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
        logarithm: beyond some 1e19 sds in float32. If the fit diverged, and a draw is not finite.
    """
    of_rows = functools.partial(_probabilities, order=posterior.approximation.order)
    return _predicted(posterior, X, draws, seed, executor, progress, of_rows, posterior.K)


def _probabilities(rows: NewRows, mixtures: DrawnMixtures, order: np.ndarray) -> np.ndarray:
    """Return the probability of each component for each row: [n, K]."""
    X, data = rows.values, mixtures.data
    result = np.empty((len(X), len(order)), data.dtype)
    standardized = standardize_new_rows(X, data)
    for part, block in blocks_under_draws(mixtures, likelihood.responsibilities, standardized):
        result[part] = block.mean(axis=0).T
    lost = np.flatnonzero(~np.isfinite(result).all(axis=1))
    if len(lost):
        raise ValueError(
            f"X's row {rows.first + lost[0]}, {X[lost[0]].tolist()}, is so far from all components "
            "that its density cannot be distinguished from zero. Drop such rows, or check their "
            "units."
        )
    return result[:, order]


def _labels(rows: NewRows, mixtures: DrawnMixtures, order: np.ndarray) -> np.ndarray:
    return _probabilities(rows, mixtures, order).argmax(axis=1)


def _predicted(
    posterior: Posterior,
    X: Any,
    draws: int,
    seed: int,
    executor: Executor | None,
    progress: bool,
    predict_rows: Callable[..., np.ndarray],
    numbers_per_row: int,
) -> np.ndarray | Iterator[np.ndarray]:
    """Return what a function predicts for rows: for all, or for each block of a source.

    Parameters
    ----------
    predict_rows : (rows, mixtures=) -> array.
    numbers_per_row : of the array.
    """
    draws = as_count(draws, "draws")
    if not isinstance(X, Source):
        check_executor(executor, None)
        rows = NewRows(as_new_rows(posterior, X), 0)
        return predict_rows(rows, mixtures=_drawn(posterior, draws, seed))
    check_source(posterior, X, executor)
    mixtures = _drawn(posterior, draws, seed)
    return results_of_source(
        posterior,
        X,
        functools.partial(predict_rows, mixtures=mixtures),
        numbers_per_row=numbers_per_row,
        executor=executor,
        progress=progress,
    )


def _drawn(posterior: Posterior, draws: int, seed: int) -> DrawnMixtures:
    return drawn_mixtures(posterior, draw_mixtures(posterior, draws, seed))


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
    posterior: Posterior,
    X: Source,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]: ...
@overload
def predict(
    posterior: Posterior, X: Any, *, draws: int = PREDICTIVE_DRAWS, seed: int = 0
) -> np.ndarray: ...
@runs_tensorflow
def predict(
    posterior: Posterior,
    X: Any,
    *,
    draws: int = PREDICTIVE_DRAWS,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> np.ndarray | Iterator[np.ndarray]:
    """Return the most probable component of each row, an int array [N]; see `predict_proba`.

    Of a source, an iterator over such arrays, of consecutive rows each.
    """
    of_rows = functools.partial(_labels, order=posterior.approximation.order)
    return _predicted(posterior, X, draws, seed, executor, progress, of_rows, 1)


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
    theta = in_data_units_exactly(posterior, draw_mixtures(posterior, n, seed).theta)
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
