"""The log joint density of many draws, within a memory budget and to a stated precision."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled, map_chunks
from bgmm_jd.data.rows import Rows, as_row_tensors
from bgmm_jd.data.units import Standardization
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.variational.approximation import Draws, Problem, sample_mean_field
from bgmm_jd.variational.coordinates import unflatten
from bgmm_jd.variational.log_joint import log_joint, log_likelihood
from bgmm_jd.variational.parameters import VariationalParameters
from bgmm_jd.variational.structure import Model

# Draws of the surrogate by which the precision of its likelihood is judged.
_PRECISION_DRAWS = 20
# Worst-case rounding error (nats) of a log joint density if the errors of all rows and features add
# up; importance weights vary by far more.
JOINT_ROUNDING = 0.05
_MEASURED_ROUNDING = 0.2  # of it, at most, where errors are measured at these few draws


def affordable_draws(problem: Problem) -> int:
    """Return the largest number of draws whose log joint density is affordable.

    None is where the rows are not in memory.
    """
    if not problem.data.has_rows:
        return 0
    numbers = problem.numbers_per_row * problem.data.shape[0]
    return problem.settings.memory.affordable // numbers


def points_per_call(problem: Problem, use_statistics: bool = False) -> int:
    """Return how many points [P] one call on all rows takes."""
    memory, D = problem.settings.memory, problem.data.shape[1]
    N, K = problem.compiled_form.size  # so that all problems of a form have one shape
    saved = D if use_statistics else 1  # a matrix product has no array over features
    numbers = N * K * (problem.numbers_per_row // problem.model.K)
    return int(np.clip(saved * memory.density // numbers, 1, memory.most_points))


def statistics_fit_in_memory(problem: Problem) -> bool:
    """Return whether the sufficient statistics of all rows may be in memory at once."""
    N, D = problem.data.shape
    numbers = N * quadratic_likelihood.number_of_statistics(D, problem.model.covariance)
    return numbers <= problem.settings.memory.statistics


def statistics_are_accurate(
    problem: Problem,
    theta: Theta,
    tolerance: float = quadratic_likelihood.ROUNDING_TOLERANCE,
    dtype: tf.DType | None = None,
) -> bool:
    """Return whether the likelihood of draws may be a matrix product: see `quadratic_likelihood`.

    Parameters
    ----------
    theta : draws in standardised units.
    tolerance : largest rounding error of a row's log density, in nats.
    dtype : of the product; by default that of the rows.
    """
    if not problem.data.is_complete:
        return False
    dtype = problem.data.dtype if dtype is None else dtype.as_numpy_dtype
    precisions = quadratic_likelihood.precision_diagonals(theta, problem.model.covariance).numpy()
    means = theta["means"].numpy()
    return quadratic_likelihood.is_accurate(precisions, means, dtype, tolerance)


def surrogate_statistics_are_accurate(
    problem: Problem,
    params: VariationalParameters,
    tolerance: float = quadratic_likelihood.ROUNDING_TOLERANCE,
) -> bool:
    """Return whether the likelihood of the surrogate's draws may be a matrix product."""
    if not problem.data.is_complete:
        return False
    theta, _ = sample_mean_field(problem, params, _PRECISION_DRAWS, seed=0)
    return statistics_are_accurate(problem, theta, tolerance)


def dtype_of_statistics(
    problem: Problem,
    params: VariationalParameters,
    tolerance: float = quadratic_likelihood.ROUNDING_TOLERANCE,
    may_differ: bool = False,
) -> tf.DType | None:
    """Return the dtype in which the likelihood near the surrogate may be a product of statistics.

    That of the rows where it rounds a row's log density by less than `tolerance` nats; None where
    it rounds by more, where entries are missing, or where the statistics do not fit in memory.

    Parameters
    ----------
    may_differ : whether it may be another than that of the rows: float32, which is three times
        faster, where that suffices, and otherwise float64, which is faster than differences.
    """
    if not problem.data.is_complete or not statistics_fit_in_memory(problem):
        return None
    theta, _ = sample_mean_field(problem, params, _PRECISION_DRAWS, seed=0)
    of_rows = tf.as_dtype(problem.data.dtype)
    for dtype in (tf.float32, tf.float64) if may_differ else (of_rows,):
        if statistics_are_accurate(problem, theta, tolerance, dtype):
            return dtype
    return None


def dtype_for_moves(problem: Problem, params: VariationalParameters) -> tf.DType | None:
    """Return the dtype of statistics for Hamiltonian Monte Carlo; None where there is none.

    Errors of the log joint density up to `JOINT_ROUNDING` change no draw noticeably. The bound of
    `dtype_of_statistics` is that of the worst case, often a hundred or a thousand times what they
    are: where it asks for float64, which takes twice the time, they are measured at draws of the
    surrogate.
    """
    dtype = dtype_of_statistics(problem, params, rounding_per_entry(problem), may_differ=True)
    if dtype == tf.float64 and _measured_rounding(problem, params) < (
        _MEASURED_ROUNDING * JOINT_ROUNDING
    ):
        return tf.float32
    return dtype


def _measured_rounding(problem: Problem, params: VariationalParameters) -> float:
    """Return by how much the log likelihood of draws in float32 differs from that in float64."""
    theta, _ = sample_mean_field(problem, params, _PRECISION_DRAWS, seed=0)
    model, rows = problem.standardized_model, as_row_tensors(problem.data.rows)
    narrow, wide = (
        log_likelihood(model, theta, rows, tf.float64, dtype) for dtype in (tf.float32, tf.float64)
    )
    return float(tf.reduce_max(tf.abs(narrow - wide)))


def log_joint_of_draws(problem: Problem, draws: Draws) -> np.ndarray:
    """Return the log joint density of draws and all rows: [S], float64.

    In nats and standardised units.
    """
    use_statistics = statistics_fit_in_memory(problem) and statistics_are_accurate(
        problem, draws.theta, rounding_per_entry(problem)
    )
    form = problem.compiled_form
    statistics = tf.as_dtype(problem.data.dtype) if use_statistics else None
    program = _log_joint_program(form.model, form.size[0], statistics, problem.execution)
    return map_chunks(
        lambda part: program(part, form.rows, form.values),
        form.pad_points(draws.points),
        points_per_call(problem, use_statistics),
    )


def rounding_per_entry(problem: Problem) -> float:
    """Return the rounding error allowed per row and feature, in nats."""
    return JOINT_ROUNDING / (problem.data.total_weight * problem.data.shape[1])


@functools.lru_cache(maxsize=32)
def _log_joint_program(
    model: Model, N: int, statistics: tf.DType | None, execution: str
) -> Callable[..., tf.Tensor]:
    """Make the compiled log joint density of points [S, P].

    Cached per number of rows, so that a new N builds a new `tf.function` instead of triggering a
    retracing warning.
    """

    def density(points: tf.Tensor, rows: Rows, standardization: Standardization) -> tf.Tensor:
        standardized = model.standardized(standardization)
        theta, _ = unflatten(standardized, points)
        return log_joint(standardized, theta, rows, accumulate=tf.float64, statistics=statistics)

    return compiled(density, execution)
