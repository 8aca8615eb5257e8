"""Densities of draws, and of rows under draws, some rows at a time."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import unrecorded, with_own_identity
from bgmm_jd.backend.numerics import blocks
from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import AbsentRows, Rows
from bgmm_jd.data.standardize import Data, row_log_det_jacobian, standardize_new_rows
from bgmm_jd.data.units import log_det_jacobian
from bgmm_jd.model import likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.posterior.posterior import Posterior
from bgmm_jd.variational.approximation import Draws
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.log_joint import log_prior_by_variable


class LogDensities(NamedTuple):
    """Log densities of draws [S], in nats and in the units of X."""

    log_joint: np.ndarray
    log_q: np.ndarray


def log_densities(posterior: Posterior, draws: Draws) -> LogDensities:
    """Return the log joint density of draws with all rows of the fit, and log q of the draws."""
    problem = posterior.problem
    of_draws = log_det_jacobian(
        problem.model.transformations_and_shapes, problem.data.standardization
    )
    log_joint = log_joint_of_draws(problem, draws) - problem.data.log_det_jacobian - of_draws
    return LogDensities(log_joint, draws.log_q.numpy().astype(np.float64) - of_draws)


def log_prior_densities(posterior: Posterior, draws: Draws) -> dict[str, np.ndarray]:
    """Return the log prior density of each variable given those before it, by name: [S], float64.

    In nats and the units of X. Variables that the prior fixes have none. The sum over the others is
    the part of the prior in `log_densities`.
    """
    model, data = posterior.problem.standardized_model, posterior.problem.data
    theta, _ = unflatten(model, tf.constant(draws.points))
    parts = log_prior_by_variable(model, theta)
    found = {}
    for site in model.free_sites:
        # The default prior is in standardised units, and any other in those of X.
        variable = [(site.transformation, site.shape)]
        to_prior, to_data = (
            float(log_det_jacobian(variable, units))
            for units in (model.standardization, data.standardization)
        )
        found[site.name] = parts[site.name].numpy().astype(np.float64) + to_prior - to_data
    return found


def row_log_likelihood(posterior: Posterior, draws: Draws, X: np.ndarray) -> np.ndarray:
    """Return log p(x_n given theta_s), the label summed out: [S, N].

    In nats per row and the units of X.
    """
    result = np.empty((len(draws.log_q), len(X)), posterior.dtype)
    for part, block in likelihood_blocks(drawn_mixtures(posterior, draws), X):
        result[:, part] = block
    return result


class DrawnMixtures(NamedTuple):
    """Mixtures drawn from a posterior, and how rows are read: plain values, which can be pickled.

    theta : arrays [S, ...], in standardised units.
    covariance : the form.
    data : the units, without rows.
    budget : numbers in the largest array of a call.
    """

    theta: dict[str, Any]
    covariance: str
    data: Data
    budget: int


def drawn_mixtures(posterior: Posterior, draws: Draws) -> DrawnMixtures:
    """Return the mixtures of draws of a posterior."""
    data = posterior.problem.data
    N, D = data.shape
    absent = AbsentRows(N=N, D=D, type=data.dtype.name)
    return DrawnMixtures(
        theta={name: np.asarray(v) for name, v in draws.theta.items()},
        covariance=posterior.covariance,
        data=data._replace(kept_rows=absent),
        budget=posterior.settings.memory.prediction,
    )


def likelihood_blocks(mixtures: DrawnMixtures, X: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield `row_log_likelihood` of some rows at a time: the rows, and an array [S, n].

    It is -inf for a row whose squared distance from a component overflows.
    """
    data = mixtures.data
    rows = standardize_new_rows(X, data)
    of_rows = row_log_det_jacobian(rows, data.standardization).astype(data.dtype)
    for part, block in blocks_under_draws(mixtures, likelihood.row_log_likelihood, rows):
        # Beyond the dtype's range infinities may have cancelled to NaN.
        yield part, np.where(np.isnan(block), -np.inf, block) - of_rows[part]


def map_rows(
    posterior: Posterior, function: Callable[..., tf.Tensor], theta: Theta, rows: Rows
) -> Iterator[tuple[slice, np.ndarray]]:
    """Call a function of `likelihood` on draws in standardised units: see `blocks_under_draws`."""
    budget = posterior.settings.memory.prediction
    return _map_rows(function, theta, rows, posterior.covariance, budget)


def blocks_under_draws(
    mixtures: DrawnMixtures, function: Callable[..., tf.Tensor], rows: Rows
) -> Iterator[tuple[slice, np.ndarray]]:
    """Call a function of `likelihood` on any number of draws and rows, some rows at a time.

    As a graph, not under XLA, which would compile anew for each of these numbers. Draws have the
    dtype of the rows.
    """
    return _map_rows(function, mixtures.theta, rows, mixtures.covariance, mixtures.budget)


def _map_rows(
    function: Callable[..., tf.Tensor], theta: Theta, rows: Rows, covariance: str, budget: int
) -> Iterator[tuple[slice, np.ndarray]]:
    ranks = tuple((name, len(v.shape)) for name, v in theta.items())
    incomplete = rows.missing is not None
    D, dtype = rows.values.shape[1], rows.values.dtype.name
    program = _rows_program(function, covariance, ranks, dtype, incomplete)
    numbers_each = int(np.prod(theta["means"].shape)) * (D if incomplete else 1)
    for part in blocks(len(rows.values), numbers_each, budget):
        missing: tuple[np.ndarray, ...] = ()
        if rows.missing is not None:
            own, pattern = np.unique(rows.missing.pattern[part], return_inverse=True)
            missing = (rows.missing.observed[own], pattern.astype(np.int32))
        yield part, program(dict(theta), rows.values[part], *missing).numpy()


@functools.lru_cache(maxsize=32)
def _rows_program(
    function: Callable[..., tf.Tensor],
    covariance: str,
    ranks: tuple[tuple[str, int], ...],
    dtype: str,
    incomplete: bool,
) -> Callable[..., tf.Tensor]:
    """Make a graph for any number of draws and rows: (theta, values, *missing) -> tensor.

    Parameters
    ----------
    ranks : of each variable in theta, by name.
    """
    theta = {name: tf.TensorSpec([None] * rank, dtype) for name, rank in ranks}
    values = tf.TensorSpec([None, None], dtype)
    missing = [values, tf.TensorSpec([None], tf.int32)] if incomplete else []

    def call(theta: Theta, values: tf.Tensor, *missing: tf.Tensor) -> tf.Tensor:
        rows = Rows(values, missing=Missing(*missing) if missing else None)
        return function(theta, rows, covariance)

    signature = [theta, values, *missing]
    return unrecorded(
        tf.function(with_own_identity(call), input_signature=signature, autograph=False)
    )
