"""Gradients of the log joint density, of all rows or with a slice of them for each draw.

An average over draws of a sum over rows needs no draw to read all rows: with the rows dealt to
slices, and each slice read under draws of its own, the average of all is the same, at a fraction of
the cost and with nearly the same Monte Carlo error.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.numerics import blocks
from bgmm_jd.data.rows import Rows, deal_to_slices
from bgmm_jd.variational.approximation import Approximation, EmptyComponents, Problem
from bgmm_jd.variational.evaluation import dtype_of_statistics, points_per_call
from bgmm_jd.variational.tempered import TemperedDensity

# Points [S, G, P] -> gradients of log joint [S, G, P]; what is not among the P coordinates is the
# same for the G points of each draw.
Gradient = Callable[[np.ndarray], np.ndarray]


def gradient_of_log_joint(problem: Problem, statistics: tf.DType | None) -> Gradient:
    """Return the gradient of the log joint density of all rows, in unconstrained coordinates.

    Parameters
    ----------
    statistics : as in `TemperedDensity`.
    """
    target = TemperedDensity(problem, statistics=statistics)

    def gradient(points: np.ndarray) -> np.ndarray:
        flat = points.reshape(-1, points.shape[-1])
        return target.density(flat).slope(target.temperature).reshape(points.shape)

    return gradient


def informed_gradient(
    approximation: Approximation,
    empty: EmptyComponents | None,
    others: np.ndarray,
    slices: int = 1,
) -> Gradient:
    """Return the gradient of the log joint density by the coordinates that the rows inform.

    Parameters
    ----------
    others : points of the mean field [S, P], which supply the other coordinates.
    slices : number of slices of the rows. Draw s reads slice s mod `slices`, whose rows count for
        all: with as many draws for each of them, the average over the draws is that of all rows.
    """
    problem = approximation.problem
    statistics = dtype_of_statistics(problem, approximation.params, may_differ=slices > 1)
    parts = [problem] if slices == 1 else slices_of(problem, slices)
    return _by_slices(
        [
            _by_informed(part, statistics, empty, others[number::slices])
            for number, part in enumerate(parts)
        ]
    )


def slices_of(problem: Problem, slices: int) -> list[Problem]:
    """Deal the rows to slices, each with weights raised so that it stands for all rows."""
    size = -(-problem.data.shape[0] // slices)
    values, weight, missing = deal_to_slices(problem.data.rows, slices, 1, size)
    weight = weight * weight.dtype.type(slices)

    def rows(i: int) -> Rows:
        pattern = None if missing is None else missing._replace(pattern=missing.pattern[i])
        return Rows(values[i], weight[i], pattern)

    return [problem.on(problem.data._replace(kept_rows=rows(i))) for i in range(slices)]


def _by_slices(gradients: Sequence[Gradient]) -> Gradient:
    """Return the gradient that takes that of each draw from another of these, in turn."""

    def gradient(points: np.ndarray) -> np.ndarray:
        found = np.empty(points.shape)
        for number, own in enumerate(gradients):
            found[number :: len(gradients)] = own(points[number :: len(gradients)])
        return found

    return gradient


def _by_informed(
    problem: Problem, statistics: tf.DType | None, empty: EmptyComponents | None, others: np.ndarray
) -> Gradient:
    gradient = gradient_of_log_joint(problem, statistics)
    if empty is None:
        return gradient
    per_call, informed = points_per_call(problem, statistics is not None), empty.informed

    def by_informed(points: np.ndarray) -> np.ndarray:
        draws, points_per_draw, _ = points.shape
        found = []
        for part in blocks(draws, points_per_draw, per_call):
            whole = np.repeat(others[part, np.newaxis], points_per_draw, axis=1)
            whole[..., informed] = points[part]
            found.append(gradient(whole)[..., informed])
        return np.concatenate(found)

    return by_informed
