"""The observed information: the curvature of the log joint density at one point, in one pass.

With labels summed out, log p(x_n) = log sum_k exp l[n, k], where l[n, k] depends on the parameters
of component k alone, on the weights, and on what all components share. Its second derivatives are
(Louis 1982, *Finding the observed information matrix when using the EM algorithm*)

    sum_k r[n, k] (l''[n, k] + l'[n, k] l'[n, k]^T) - s[n] s[n]^T,    s[n] = sum_k r[n, k] l'[n, k],

with responsibilities r. Because l[n, k] depends on one component only, all components can be probed
at once: one derivative is taken for each parameter that a component has, and the P x P matrix is
then made of sums of products over the rows. That is an affordable way to the dependence between
parameters where there are many of them, or very many rows.

Derivatives are differences one posterior standard deviation to either side: of the log densities,
or, where these are products of natural parameters and sufficient statistics, of the parameters.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.numerics import block_size
from bgmm_jd.data.rows import Rows, as_row_tensors, pad_to_slices
from bgmm_jd.data.units import Standardization
from bgmm_jd.model.likelihood import Theta, log_joint_label
from bgmm_jd.model.quadratic_likelihood import (
    log_joint_label_from_statistics,
    natural_parameters,
    sufficient_statistics,
)
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.coordinates import CoordinateLayout, coordinate_layout, unflatten
from bgmm_jd.variational.evaluation import statistics_are_accurate
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.structure import Model, StandardizedModel


class Sums(NamedTuple):
    """Sums over all rows, in float64.

    With e[n] the vector of 1, the component's m derivatives and the s shared ones:

    products [K, 1 + m + s, 1 + m + s] : sum_n r e e^T of each component.
    scores [K (1 + m) + s, K (1 + m) + s] : sum_n of products of the parts of s[n].
    second [m + s, P] : sum_n r l'' of each probe.
    """

    products: Any
    scores: Any
    second: Any


def observed_information(problem: Problem, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Return minus the second derivatives of the log joint density [P, P], in units of `sd`.

    Parameters
    ----------
    problem : Problem
        Whose rows are read.
    mean, sd : array [P]
        The point in unconstrained coordinates, and the unit of each of them.
    """
    model, rows, dtype = problem.standardized_model, problem.data.rows, problem.data.dtype
    layout = coordinate_layout(model)
    probes = _probes(layout)
    points = mean + sd * np.concatenate([np.zeros((1, layout.size)), probes, -probes])
    size = rows_per_slice(problem, len(points))
    sliced = as_row_tensors(pad_to_slices(rows, -(-len(rows.values) // size), size))
    use_statistics = statistics_are_accurate(problem, _values_at(model, points))
    program = _sums_program(
        problem.model, len(rows.values), size, use_statistics, problem.execution
    )
    found = program(
        tf.constant(points.astype(dtype)),
        sliced,
        problem.prior_standardization,
        tf.constant(sd.astype(dtype)),
    )
    sums = Sums(*(t.numpy() for t in found))
    counts = sums.products[:, 0, 0]
    rest, weight_slope = _without_rows(model, mean, sd, counts)
    return -(_second_derivatives(layout, sums) + _scores(layout, sums, weight_slope) + rest)


def _values_at(model: StandardizedModel, points: np.ndarray) -> Theta:
    return unflatten(model, tf.constant(points, model.dtype))[0]


def _probes(layout: CoordinateLayout) -> np.ndarray:
    """Return [m + s, P]: the same parameter of all components at once, then each shared one."""
    probes = np.zeros((layout.own.shape[1] + len(layout.shared), layout.size))
    for j, places in enumerate(layout.own.T):
        probes[j, places] = 1.0
    for j, place in enumerate(layout.shared, start=layout.own.shape[1]):
        probes[j, place] = 1.0
    return probes


def rows_per_slice(problem: Problem, points: int) -> int:
    """Return how many rows are read at a time under so many points."""
    numbers_each = points * problem.numbers_per_row
    return min(block_size(numbers_each, problem.settings.memory.curvature), problem.data.shape[0])


@functools.lru_cache(maxsize=32)
def _sums_program(
    model: Model, N: int, size: int, use_statistics: bool, execution: str
) -> Callable[..., Sums]:
    """Make the compiled `Sums` from points [1 + 2 (m + s), P]: the mean, an sd above it, one below.

    Cached per number of rows and size of a slice, so that new ones build a new `tf.function`
    instead of triggering a retracing warning.
    """

    def run(points: tf.Tensor, rows: Rows, standardization: Standardization, sd: tf.Tensor) -> Sums:
        standardized = model.standardized(standardization)
        with tf.GradientTape() as tape:
            tape.watch(points)
            theta, _ = unflatten(standardized, points)
            read = natural_parameters(theta, model.covariance) if use_statistics else theta
        shared = coordinate_layout(standardized).shared.size
        still = tf.nest.map_structure(tf.stop_gradient, read)
        derivatives = _derivatives_of_statistics if use_statistics else _derivatives
        (products, scores), slope = _over_slices(
            lambda part: _slice_sums(derivatives(model.covariance, still, part), part, shared),
            rows,
        )
        upstream = tf.nest.map_structure(lambda v, x: tf.cast(v, x.dtype), slope, read)
        gradient = tape.gradient(read, points, output_gradients=upstream)
        above, below = tf.split(gradient[1:], 2)
        second = (above - below) * sd / 2.0
        return Sums(products, scores, tf.cast(second, tf.float64))

    return compiled(run, execution)


def _over_slices(function: Callable[[Rows], Any], rows: Rows) -> Any:
    """Sum a function of rows over slices [slices, size, ...] of them, in float64."""

    def part(i: Any) -> Rows:
        missing = rows.missing
        if missing is not None:
            missing = missing._replace(pattern=missing.pattern[i])
        return Rows(rows.values[i], rows.weight[i], missing)

    def add(i: tf.Tensor, total: Any) -> Any:
        found = function(part(i))
        return i + 1, tf.nest.map_structure(lambda t, f: t + tf.cast(f, t.dtype), total, found)

    first = tf.nest.map_structure(lambda t: tf.cast(t, tf.float64), function(part(0)))
    slices = rows.values.shape[0]
    return tf.while_loop(lambda i, _: i < slices, add, (tf.constant(1), first))[1]


class _Derivatives(NamedTuple):
    """What the log densities of the rows of a slice are at the points.

    share [K, n] : responsibilities at the mean.
    each [K, m + s, n] : half the difference of l between the two points of each probe.
    slope : of sum r l in what the log densities are computed from, at all points.
    """

    share: tf.Tensor
    each: tf.Tensor
    slope: Any


def _derivatives(covariance: str, theta: Theta, rows: Rows) -> _Derivatives:
    """Return differences of the log densities of rows under values [1 + 2 (m + s), ...]."""
    with tf.GradientTape() as tape:
        tape.watch(theta)
        label = log_joint_label(theta, rows, covariance)
        share = tf.nn.softmax(tf.stop_gradient(label[0]), axis=0)
        weighted = tf.reduce_sum(label * share * rows.weight)
    slope = tape.gradient(weighted, theta, unconnected_gradients="zero")
    above, below = tf.split(label[1:], 2)
    return _Derivatives(share, tf.transpose((above - below) / 2.0, [1, 0, 2]), slope)


def _derivatives_of_statistics(covariance: str, parameters: tf.Tensor, rows: Rows) -> _Derivatives:
    """Return the same by natural parameters [1 + 2 (m + s), K, F], in which l is linear.

    The slope of l is then the row's sufficient statistics, whatever the point.
    """
    statistics = sufficient_statistics(tf.transpose(rows.values), covariance)
    share = tf.nn.softmax(tf.matmul(parameters[0], statistics), axis=0)
    above, below = tf.split(parameters[1:], 2)
    change = tf.transpose((above - below) / 2.0, [1, 0, 2])
    each = log_joint_label_from_statistics(change, statistics)
    slope = tf.matmul(share * rows.weight, statistics, transpose_b=True)
    return _Derivatives(share, each, tf.broadcast_to(slope, parameters.shape))


def _slice_sums(
    derivatives: _Derivatives, rows: Rows, shared: int
) -> tuple[tuple[tf.Tensor, tf.Tensor], Any]:
    """Return the products and scores of `Sums` of one slice, and the slope of sum r l."""
    share, each, slope = derivatives
    each = tf.concat([tf.ones_like(each[:, :1]), each], axis=1)
    scaled = each * (share * rows.weight)[:, tf.newaxis]
    products = tf.matmul(scaled, each, transpose_b=True)
    parts = each * share[:, tf.newaxis]
    own = each.shape[1] - shared
    row = tf.concat(
        [
            tf.reshape(parts[:, :own], [-1, parts.shape[-1]]),
            tf.reduce_sum(parts[:, own:], axis=0),
        ],
        axis=0,
    )
    scores = tf.matmul(row * rows.weight, row, transpose_b=True)
    return (products, scores), slope


def _without_rows(
    model: StandardizedModel, mean: np.ndarray, sd: np.ndarray, counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the terms that need no rows, only their expected number in each component.

    Second derivatives [P, P] of the log prior, of the log-det-Jacobian of the coordinates and of
    sum_k counts[k] log weights[k]; and the slope [P, K] of the log weights.
    """
    P = len(mean)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    points = tf.constant(mean + sd * sides, model.dtype)
    with tf.GradientTape() as tape:
        tape.watch(points)
        theta, log_det_jacobian = unflatten(model, points)
        log_weights = tf.math.log(theta["weights"])
        density = log_prior(model, theta) + log_det_jacobian
        density += tf.linalg.matvec(log_weights, tf.constant(counts, density.dtype))
    gradient = tape.gradient(density, points).numpy().astype(np.float64) * sd
    second = (gradient[:P] - gradient[P:]) / 2.0
    slope = log_weights.numpy().astype(np.float64)
    return (second + second.T) / 2.0, (slope[:P] - slope[P:]) / 2.0


def _second_derivatives(layout: CoordinateLayout, sums: Sums) -> np.ndarray:
    """Return the sum of r l'' [P, P]: within each component, and with what is shared."""
    K, m = layout.own.shape
    found = np.zeros((layout.size, layout.size))
    for k in range(K):
        found[np.ix_(layout.own[k], layout.own[k])] = sums.second[:m, layout.own[k]]
    found[layout.shared] = sums.second[m:]
    found[:, layout.shared] = sums.second[m:].T
    return (found + found.T) / 2.0


def _scores(layout: CoordinateLayout, sums: Sums, weight_slope: np.ndarray) -> np.ndarray:
    """Return the sum of r l' l'^T - s s^T [P, P].

    Each l'[n, k] is a fixed linear map of e[n], because the slope of log weights[k] is the same for
    all rows.
    """
    K, m = layout.own.shape
    s = len(layout.shared)
    found = np.zeros((layout.size, layout.size))
    whole = np.zeros((K * (1 + m) + s, layout.size))
    for k in range(K):
        each = np.zeros((1 + m + s, layout.size))
        each[0] = weight_slope[:, k]
        each[1 + np.arange(m), layout.own[k]] = 1.0
        each[1 + m + np.arange(s), layout.shared] = 1.0
        found += each.T @ sums.products[k] @ each
        whole[k * (1 + m) : (k + 1) * (1 + m)] = each[: 1 + m]
    whole[K * (1 + m) + np.arange(s), layout.shared] = 1.0
    return found - whole.T @ sums.scores @ whole
