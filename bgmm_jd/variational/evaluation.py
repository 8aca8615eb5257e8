"""The log joint density of many draws, within a memory budget."""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled, map_chunks
from bgmm_jd.data.rows import Rows, as_row_tensors
from bgmm_jd.data.units import Standardization
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.likelihood import Theta
from bgmm_jd.variational.approximation import Approximation, Draws, draw_mean_field
from bgmm_jd.variational.coordinates import flatten, unflatten
from bgmm_jd.variational.log_joint import log_joint
from bgmm_jd.variational.structure import Model

_DIGITS_DRAWS = 20
# Nats of a log joint density that rounding may take if it is the same in all rows and features, as
# that of a coefficient is: far less than what importance weights differ by.
_ROUNDING = 0.05
_MOST_TERMS = 2**24  # numbers in the terms of all rows, which each call makes anew
_MOST_AT_ONCE = 512
_CHUNK = 2**21  # numbers in the largest array of one call
# The most numbers (draws x rows x components x features) that weighting or an averaged curvature
# may take: some ten seconds.
_AFFORDABLE = 2**32


def points_at_once(inside: Approximation, use_statistics: bool = False) -> int:
    """How many points [P] a call on all rows takes."""
    by_feature = inside.data.shape[1] if use_statistics else 1
    most = by_feature * _CHUNK // inside.numbers
    return int(np.clip(most, 1, _MOST_AT_ONCE))


def affordable_draws(inside: Approximation) -> int:
    """The most draws whose log joint density is within reach."""
    return _AFFORDABLE // inside.numbers


def statistics_are_accurate(
    inside: Approximation,
    tolerance: float = quadratic_likelihood.ROUNDING_TOLERANCE,
    theta: Theta | None = None,
) -> bool:
    """Whether the likelihood may be a matrix product: see `quadratic.has_digits`.

    Parameters
    ----------
    theta : the draws in question; without them, some of the mean field.
    """
    if inside.data.rows.missing is not None:
        return False
    if theta is None:
        theta = draw_mean_field(inside, _DIGITS_DRAWS, seed=0).theta
    precisions = quadratic_likelihood.precision_diagonals(theta, inside.model.covariance).numpy()
    means = theta["means"].numpy()
    return quadratic_likelihood.is_accurate(precisions, means, inside.data.dtype, tolerance)


def log_joint_of_draws(inside: Approximation, draws: Draws) -> np.ndarray:
    """Log joint density of draws and all rows, in internal units, in float64: [S]."""
    units, rows = inside.standardization, as_row_tensors(inside.data.rows)
    # Of the draws as they are, and not of the points that a bijector may remember they came from.
    theta = tf.nest.map_structure(tf.identity, draws.theta)
    points = flatten(inside.model.sites, theta, units).numpy()
    use_statistics = statistics_fit_in_memory(inside) and statistics_are_accurate(
        inside, _rounding(inside), theta
    )
    at_once = points_at_once(inside, use_statistics)
    program = _log_joint_program(
        inside.model, inside.data.shape[0], use_statistics, inside.execution
    )
    return map_chunks(lambda part: program(part, rows, units), points, at_once)


def statistics_fit_in_memory(inside: Approximation) -> bool:
    """Whether the terms of all rows may be in memory at once."""
    N, D = inside.data.shape
    return N * quadratic_likelihood.number_of_statistics(D, inside.model.covariance) <= _MOST_TERMS


def _rounding(inside: Approximation) -> float:
    """What it may take of a row, in nats."""
    return _ROUNDING / (inside.data.total_weight * inside.data.shape[1])


@functools.lru_cache(maxsize=32)
def _log_joint_program(
    model: Model, rows: int, use_statistics: bool, execution: str
) -> Callable[..., tf.Tensor]:
    """One for each number of rows: none is traced anew, which TensorFlow would call careless."""

    def density(points: tf.Tensor, rows: Rows, units: Standardization) -> tf.Tensor:
        theta, _ = unflatten(model.sites, points, units)
        return log_joint(
            model, theta, units, rows, accumulate=tf.float64, use_statistics=use_statistics
        )

    return compiled(density, execution)
