"""The curvature of the log joint density at one point, from one pass over the rows.

With labels summed out, log p(x_n) = log sum_k exp l[n, k], where l[n, k] depends on the parameters
of component k alone, on the weights, and on what all components share. Its second derivatives are
(Louis 1982, *Finding the observed information matrix when using the EM algorithm*)

    sum_k r[n, k] (l''[n, k] + l'[n, k] l'[n, k]^T) - s[n] s[n]^T,    s[n] = sum_k r[n, k] l'[n, k],

with responsibilities r. Because l[n, k] knows one component only, all components can be probed at
once: as many derivatives are taken as one component has parameters, and the P x P matrix is then
sums of products over the rows. That is the cheap way to the dependence between parameters where
there are many of them, or very many rows.

Derivatives are differences one posterior standard deviation to either side.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.data.rows import Rows, as_row_tensors, pad_to_slices
from bgmm_jd.data.units import Standardization
from bgmm_jd.model import likelihood
from bgmm_jd.variational.coordinates import CoordinateLayout, coordinate_layout, unflatten
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.structure import Model

_SLICE_NUMBERS = 2**24  # in the largest array of a slice


class Sums(NamedTuple):
    """Over all rows, in float64. e is 1, then the component's m derivatives, then the s shared.

    products [K, 1 + m + s, 1 + m + s] : sum_n r e e^T of each component.
    scores [K (1 + m) + s, K (1 + m) + s] : sum_n of products of the parts of s[n].
    second [m + s, P] : sum_n r l'' of each probe.
    """

    products: Any
    scores: Any
    second: Any


def observed_information(
    model: Model,
    rows: Rows,
    units: Standardization,
    mean: np.ndarray,
    sd: np.ndarray,
    execution: str,
) -> np.ndarray:
    """Minus the second derivatives of the log joint density [P, P], in units of `sd`.

    Parameters
    ----------
    rows : as arrays.
    mean, sd : [P], the point in unconstrained coordinates, and what a unit of each is.
    """
    dtype = rows.values.dtype
    plan = coordinate_layout(model, units)
    probes = _probes(plan)
    points = mean + sd * np.concatenate([np.zeros((1, plan.size)), probes, -probes])
    size = _slice_size(model, rows, len(points))
    cut = as_row_tensors(pad_to_slices(rows, -(-len(rows.values) // size), size))
    program = _program(model, len(rows.values), size, execution)
    found = program(tf.constant(points.astype(dtype)), cut, units, tf.constant(sd.astype(dtype)))
    sums = Sums(*(t.numpy() for t in found))
    counts = sums.products[:, 0, 0]
    rest, weight_slope = _rest(model, units, mean, sd, counts, dtype)
    return -(_second(plan, sums) + _first(plan, sums, weight_slope) + rest)


def _probes(plan: CoordinateLayout) -> np.ndarray:
    """[m + s, P]: the same parameter of all components at once, then each shared one."""
    probes = np.zeros((plan.own.shape[1] + len(plan.shared), plan.size))
    for j, places in enumerate(plan.own.T):
        probes[j, places] = 1.0
    for j, place in enumerate(plan.shared, start=plan.own.shape[1]):
        probes[j, place] = 1.0
    return probes


def _slice_size(model: Model, rows: Rows, points: int) -> int:
    D = rows.values.shape[1]
    by_row = points * model.K * (D * D if model.has_covariance_matrices and rows.missing else D)
    return int(np.clip(_SLICE_NUMBERS // by_row, 1, len(rows.values)))


@functools.lru_cache(maxsize=32)
def _program(model: Model, N: int, size: int, execution: str) -> Callable[..., Sums]:
    """`Sums` from points [1 + 2 (m + s), P]: the mean, one sd above it, one below.

    One for each number of rows, in slices of that size.
    """

    def run(points: tf.Tensor, rows: Rows, units: Standardization, sd: tf.Tensor) -> Sums:
        with tf.GradientTape() as tape:
            tape.watch(points)
            theta, _ = unflatten(model.sites, points, units)
        shared = coordinate_layout(model, units).shared.size
        still = {name: tf.stop_gradient(v) for name, v in theta.items()}
        (products, scores), slope = _over_slices(
            lambda part: _slice_sums(model, still, part, shared), rows
        )
        gradient = tape.gradient(theta, points, output_gradients=_as(slope, theta))
        above, below = tf.split(gradient[1:], 2)
        second = (above - below) * sd / 2.0
        return Sums(products, scores, tf.cast(second, tf.float64))

    return compiled(run, execution)


def _as(slope: dict[str, tf.Tensor], theta: likelihood.Theta) -> dict[str, tf.Tensor]:
    return {name: tf.cast(v, theta[name].dtype) for name, v in slope.items()}


def _over_slices(function: Callable[[Rows], Any], rows: Rows) -> Any:
    """The sum over slices [slices, size, ...] of a function of their rows, in float64."""

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


def _slice_sums(model: Model, theta: likelihood.Theta, rows: Rows, shared: int) -> Any:
    """Of one slice: products and scores of `Sums`, and the slope of sum r l in theta."""
    with tf.GradientTape() as tape:
        tape.watch(theta)
        label = likelihood.log_joint_label(theta, rows, model.covariance)
        share = tf.nn.softmax(tf.stop_gradient(label[0]), axis=0)  # [K, n]
        weighted = tf.reduce_sum(label * share * rows.weight)
    slope = tape.gradient(weighted, theta, unconnected_gradients="zero")
    above, below = tf.split(label[1:], 2)
    each = tf.transpose((above - below) / 2.0, [1, 0, 2])  # [K, m + s, n]
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


def _rest(
    model: Model,
    units: Standardization,
    mean: np.ndarray,
    sd: np.ndarray,
    counts: np.ndarray,
    dtype: Any,
) -> tuple[np.ndarray, np.ndarray]:
    """What does not need the rows, but their expected number in each component.

    Second derivatives [P, P] of the log prior, of the volume of the coordinates and of
    sum_k counts[k] log weights[k]; and the slope [P, K] of the log weights.
    """
    P = len(mean)
    sides = np.concatenate([np.eye(P), -np.eye(P)])
    points = tf.constant((mean + sd * sides).astype(dtype))
    with tf.GradientTape() as tape:
        tape.watch(points)
        theta, volume = unflatten(model.sites, points, units)
        log_weights = tf.math.log(theta["weights"])
        density = log_prior(model, theta, units) + volume
        density += tf.linalg.matvec(log_weights, tf.constant(counts, density.dtype))
    gradient = tape.gradient(density, points).numpy().astype(np.float64) * sd
    second = (gradient[:P] - gradient[P:]) / 2.0
    slope = log_weights.numpy().astype(np.float64)
    return (second + second.T) / 2.0, (slope[:P] - slope[P:]) / 2.0


def _second(plan: CoordinateLayout, sums: Sums) -> np.ndarray:
    """The sum of r l'' [P, P]: within each component, and with what is shared."""
    K, m = plan.own.shape
    found = np.zeros((plan.size, plan.size))
    for k in range(K):
        found[np.ix_(plan.own[k], plan.own[k])] = sums.second[:m, plan.own[k]]
    found[plan.shared] = sums.second[m:]
    found[:, plan.shared] = sums.second[m:].T
    return (found + found.T) / 2.0


def _first(plan: CoordinateLayout, sums: Sums, weight_slope: np.ndarray) -> np.ndarray:
    """The sum of r l' l'^T - s s^T [P, P].

    Each l'[n, k] is a fixed linear map of e, since the slope of log weights[k] is the same for
    all rows.
    """
    K, m = plan.own.shape
    s = len(plan.shared)
    found = np.zeros((plan.size, plan.size))
    whole = np.zeros((K * (1 + m) + s, plan.size))
    for k in range(K):
        each = np.zeros((1 + m + s, plan.size))
        each[0] = weight_slope[:, k]
        each[1 + np.arange(m), plan.own[k]] = 1.0
        each[1 + m + np.arange(s), plan.shared] = 1.0
        found += each.T @ sums.products[k] @ each
        whole[k * (1 + m) : (k + 1) * (1 + m)] = each[: 1 + m]
    whole[K * (1 + m) + np.arange(s), plan.shared] = 1.0
    return found - whole.T @ sums.scores @ whole
