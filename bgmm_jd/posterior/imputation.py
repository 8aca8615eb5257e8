"""Multiple imputation: missing entries are drawn from the posterior."""

import functools
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import Any, overload

import numpy as np

from bgmm_jd.backend.numerics import blocks as row_blocks
from bgmm_jd.backend.process_state import runs_tensorflow
from bgmm_jd.data.source import Source
from bgmm_jd.data.validation import as_count, as_rows
from bgmm_jd.posterior.draws import draw_components
from bgmm_jd.posterior.new_rows import NewRows, check_source, results_of_source
from bgmm_jd.posterior.normal_mixtures import ComponentDraws, draw_labels
from bgmm_jd.posterior.normal_regression import (
    PartitionedNormals,
    normalize_log_weights,
    partition_normals,
    regress_normals,
)
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.sources.executors import check_executor

_BLOCK_NUMBERS = 2**23  # of a block of imputations of a source


@overload
def impute(
    posterior: Posterior,
    X: Source,
    *,
    draws: int = 100,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]: ...
@overload
def impute(posterior: Posterior, X: Any, *, draws: int = 100, seed: int = 0) -> np.ndarray: ...
@runs_tensorflow
def impute(
    posterior: Posterior,
    X: Any,
    *,
    draws: int = 100,
    seed: int = 0,
    executor: Executor | None = None,
    progress: bool = False,
) -> np.ndarray | Iterator[np.ndarray]:
    """Return several copies of X whose missing entries are drawn from the posterior.

    Each imputation is made under a different draw of the posterior. For each row a label is drawn
    from the responsibilities given the observed entries, and then the missing entries from the
    conditional normal of that component. The imputations therefore differ by as much as the
    parameters, labels and entries are uncertain. Entries are assumed to be missing at random: given
    the observed entries of the row, whether an entry is missing does not depend on its value (Rubin
    1987, *Multiple Imputation for Nonresponse in Surveys*).

    Parameters
    ----------
    posterior : Posterior
    X : array-like, data frame or source of rows [N, D]
        NaN or null where an entry is missing. All entries of a row may be missing.
    draws : int
        The number of imputations.
    seed : int
        Equal seeds give equal imputations.
    executor : concurrent.futures.Executor, optional
        Reads the rows of a source and imputes their entries, block by block, by several workers, as
        in `fit`; their number does not change the result. Each task is sent the draws.
    progress : bool
        Whether to show on standard error how many rows of a source have been dealt with.

    Returns
    -------
    array [draws, N, D]
        In the units of X and the dtype of the fit. Observed entries are unchanged. The columns are
        in the order of the fit, `posterior.feature_names`, even if X has them in another. Of a
        source, an iterator over such arrays [draws, n, D], of n consecutive rows each.

    Raises
    ------
    TypeError, ValueError
        If X does not have the columns of the fit, has infinity, or has a row whose observed entries
        are so far from all components that their density underflows to zero.
    """
    draws, budget = as_count(draws, "draws"), posterior.settings.memory.mixture
    if isinstance(X, Source):
        check_source(posterior, X, executor)
        imputed = functools.partial(
            _imputed_block,
            components=draw_components(posterior, draws, seed),
            seed=seed,
            budget=budget,
        )
        numbers = draws * posterior.D
        return results_of_source(
            posterior,
            X,
            imputed,
            numbers_per_row=numbers,
            missing=True,
            size=max(1, _BLOCK_NUMBERS // numbers),
            executor=executor,
            progress=progress,
        )
    check_executor(executor, None)
    X = as_rows(X, posterior.D, missing=True, names=posterior.feature_names)
    with np.errstate(over="ignore"):  # a number too large for float32 is reported as infinity
        X = as_rows(X.astype(posterior.dtype), missing=True)
    components = draw_components(posterior, draws, seed)
    return impute_rows(components, X, np.random.default_rng([seed, 3]), budget=budget)


def _imputed_block(
    rows: NewRows, *, components: ComponentDraws, seed: int, budget: int
) -> np.ndarray:
    """Impute rows by random numbers of their own: all but the first block have another seed."""
    rng = np.random.default_rng([seed, 3, rows.first] if rows.first else [seed, 3])
    return impute_rows(components, rows.values, rng, budget=budget)


def impute_rows(
    components: ComponentDraws, X: np.ndarray, rng: np.random.Generator, *, budget: int
) -> np.ndarray:
    """Replace the NaN of X by draws, once under each draw of the components.

    Parameters
    ----------
    components : ComponentDraws of S draws
    X : array [N, D]
    rng : np.random.Generator
    budget : int
        Numbers in the largest array of a block of rows; about ten such arrays exist at once.

    Returns
    -------
    array [S, N, D], in the dtype of X
    """
    S = len(components.weights)
    result = np.repeat(X[np.newaxis], S, axis=0)
    patterns, pattern_of_row = np.unique(np.isnan(X), axis=0, return_inverse=True)
    pattern_of_row = pattern_of_row.reshape(-1)  # NumPy 2.0 alone returns one axis more
    for number, missing in enumerate(patterns):
        given, wanted = np.flatnonzero(~missing), np.flatnonzero(missing)
        if not len(wanted):
            continue
        parts = partition_normals(*components, given, wanted)
        rows = np.flatnonzero(pattern_of_row == number)
        for part in row_blocks(len(rows), _numbers_per_row(parts, S), budget):
            x = X[np.ix_(rows[part], given)].astype(np.float64)
            result[:, rows[part, np.newaxis], wanted] = _draw_missing(parts, S, x, rng)
    return result


def _numbers_per_row(parts: PartitionedNormals, S: int) -> int:
    """Return how many entries a row adds to the largest array of `_draw_missing`."""
    J, d, g = parts.slopes.shape
    return max(J * d, J * g, S * d * d)


def _draw_missing(
    parts: PartitionedNormals, S: int, x: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Draw y [S, R, d] given rows x [R, g], once under each of S draws of K normals."""
    log_joint_label, means = regress_normals(parts, x)
    log_weights = normalize_log_weights(log_joint_label.reshape(len(x), S, -1), x)
    label = draw_labels(np.exp(log_weights), rng.random((len(x), S)))
    chosen = label + log_weights.shape[-1] * np.arange(S)  # among the J = S K normals
    noise = rng.standard_normal((*chosen.shape, means.shape[-1]))
    y = np.take_along_axis(means, chosen[..., np.newaxis], axis=1)
    y += np.einsum("rsik,rsk->rsi", parts.y_factors[chosen], noise)
    return y.swapaxes(0, 1)
