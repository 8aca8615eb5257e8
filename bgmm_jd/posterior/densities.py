"""Densities of draws and of rows under draws, some rows at a time."""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import with_own_identity
from bgmm_jd.data import units
from bgmm_jd.data.rows import Missing, Rows
from bgmm_jd.data.standardize import as_standardized_rows, row_log_det_jacobian
from bgmm_jd.model import likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.variational.approximation import Draws
from bgmm_jd.variational.evaluation import log_joint_of_draws

_CHUNK = 2**23  # numbers in the largest intermediate array of a prediction: 32 MiB in float32


class LogDensities(NamedTuple):
    """Of draws, in nats and in the user's units: arrays [S]."""

    log_joint: np.ndarray
    log_q: np.ndarray


def log_densities(posterior: Posterior, draws: Draws) -> LogDensities:
    """Log joint density of each draw with all the rows of the fit, and log q of the draw."""
    inside = posterior.inside
    volume = units.log_det_jacobian(inside.model.densities, inside.data.standardization)
    log_joint = log_joint_of_draws(inside, draws) - inside.data.log_det_jacobian - volume
    return LogDensities(log_joint, draws.log_q.numpy().astype(np.float64) - volume)


def row_log_likelihood(posterior: Posterior, draws: Draws, X: np.ndarray) -> np.ndarray:
    """log p(x_n given theta_s), the label summed out, in nats and the user's units: [S, N]."""
    result = np.empty((len(draws.log_q), len(X)), posterior.dtype)
    for part, block in likelihood_blocks(posterior, draws, X):
        result[:, part] = block
    return result


def likelihood_blocks(
    posterior: Posterior, draws: Draws, X: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """The same of some rows at a time; -inf for a row whose distance squared is no number."""
    where = posterior.inside.data.standardization
    rows = as_standardized_rows(X, where)
    volume = row_log_det_jacobian(rows, where).astype(posterior.dtype)
    for part, block in map_rows(posterior, likelihood.row_log_likelihood, draws.theta, rows):
        # Beyond the dtype's range infinities may have cancelled.
        yield part, np.where(np.isnan(block), -np.inf, block) - volume[part]


def map_rows(
    posterior: Posterior, function: Callable[..., tf.Tensor], theta: Theta, rows: Rows
) -> Iterator[tuple[slice, np.ndarray]]:
    """Call a function of `mixture` on any number of draws and rows, some rows at a time.

    As a graph, not under XLA, which would compile anew for each of these numbers.
    """
    covariance = posterior.covariance
    ranks = tuple((name, len(v.shape)) for name, v in theta.items())
    incomplete = rows.missing is not None
    program = _program(function, covariance, ranks, posterior.dtype.name, incomplete)
    by_row = int(tf.size(theta["means"])) * (posterior.D if incomplete else 1)
    size = max(1, _CHUNK // by_row)
    for first in range(0, len(rows.values), size):
        part = slice(first, first + size)
        missing: tuple[np.ndarray, ...] = ()
        if rows.missing is not None:
            own, pattern = np.unique(rows.missing.pattern[part], return_inverse=True)
            missing = (rows.missing.observed[own], pattern.astype(np.int32))
        yield part, program(dict(theta), rows.values[part], *missing).numpy()


@functools.lru_cache(maxsize=32)
def _program(
    function: Callable[..., tf.Tensor],
    covariance: str,
    ranks: tuple[tuple[str, int], ...],
    dtype: str,
    incomplete: bool,
) -> Callable[..., tf.Tensor]:
    theta = {name: tf.TensorSpec([None] * rank, dtype) for name, rank in ranks}
    values = tf.TensorSpec([None, None], dtype)
    missing = [values, tf.TensorSpec([None], tf.int32)] if incomplete else []

    def call(theta: Theta, values: tf.Tensor, *missing: tf.Tensor) -> tf.Tensor:
        rows = Rows(values, missing=Missing(*missing) if missing else None)
        return function(theta, rows, covariance)

    signature = [theta, values, *missing]
    return tf.function(with_own_identity(call), input_signature=signature, autograph=False)
