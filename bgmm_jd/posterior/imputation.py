"""Multiple imputation: missing entries drawn from the posterior."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from bgmm_jd.data.validation import as_count, as_rows
from bgmm_jd.posterior.normal_mixtures import ComponentDraws, draw_labels_by_cdf
from bgmm_jd.posterior.normal_regression import (
    PartitionedNormals,
    normalize_log_weights,
    partition_normals,
    regress_normals,
)
from bgmm_jd.posterior.posterior import Posterior, draw_components

_BLOCK_NUMBERS = (
    2**18
)  # numbers in the largest array of a block of rows; some ten such exist at once


def impute(posterior: Posterior, X: Any, draws: int = 100, seed: int = 0) -> np.ndarray:
    """Multiple imputation: X with its missing entries drawn from the posterior, several times.

    Each imputation is made under one draw of the posterior of its own: for each row a label from
    the responsibilities given what is observed in it, then what is missing from the conditional
    normal of that component. So the imputations differ by as much as is not known. The entries are
    taken to be missing at random: that they are missing tells nothing about their values beyond
    what is observed in the row (Rubin 1987, *Multiple Imputation for Nonresponse in Surveys*).

    Parameters
    ----------
    posterior : Posterior
    X : array-like [N, D]
        NaN where an entry is missing; a row may be missing as a whole.
    draws : int
        How many imputations to make.
    seed : int
        Equal seeds give equal imputations.

    Returns
    -------
    array [draws, N, D]
        In the units of X and the dtype of the fit; what was observed is in each as it came.

    Raises
    ------
    TypeError, ValueError
        If X is not of the fit's columns, or holds infinity, or a row's observed entries are so far
        from all components that their density cannot be told from zero.
    """
    X = as_rows(X, posterior.D, missing=True)
    with np.errstate(over="ignore"):  # float64 that float32 cannot hold is told as infinity
        X = as_rows(X.astype(posterior.dtype), missing=True)
    components = draw_components(posterior, as_count(draws, "draws"), seed)
    return impute_rows(components, X, np.random.default_rng([seed, 3]))


def impute_rows(components: ComponentDraws, X: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill the NaN of X [N, D] in, once under each draw: array [S, N, D] in the dtype of X."""
    S = len(components.weights)
    result = np.repeat(X[np.newaxis], S, axis=0)
    patterns, which = np.unique(np.isnan(X), axis=0, return_inverse=True)
    which = which.reshape(-1)  # NumPy 2.0 kept an axis more
    for number, missing in enumerate(patterns):
        given, wanted = np.flatnonzero(~missing), np.flatnonzero(missing)
        if len(wanted):
            parts = partition_normals(*components, given, wanted)
            for rows in _blocks(np.flatnonzero(which == number), parts, S):
                x = X[np.ix_(rows, given)].astype(np.float64)
                result[:, rows[:, np.newaxis], wanted] = _fill_in(parts, S, x, rng)
    return result


def _blocks(rows: np.ndarray, parts: PartitionedNormals, S: int) -> Iterator[np.ndarray]:
    """So many of the row numbers at a time that the arrays of `_fill_in` stay small."""
    J, d, g = parts.slopes.shape
    size = max(1, _BLOCK_NUMBERS // max(J * d, J * g, S * d * d))
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _fill_in(
    parts: PartitionedNormals, S: int, x: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw y [S, R, d] for rows x [R, g], once under each of S draws of K normals."""
    log_joint_label, means = regress_normals(parts, x)
    log_share = normalize_log_weights(log_joint_label.reshape(len(x), S, -1), x)
    label = draw_labels_by_cdf(np.exp(log_share), rng.random((len(x), S)))
    picked = label + log_share.shape[-1] * np.arange(S)
    noise = rng.standard_normal((*picked.shape, means.shape[-1]))
    y = np.take_along_axis(means, picked[..., np.newaxis], axis=1)
    y += np.einsum("rsik,rsk->rsi", parts.y_factors[picked], noise)
    return y.swapaxes(0, 1)
