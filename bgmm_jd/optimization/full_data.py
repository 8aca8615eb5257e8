"""The end of a fit of very many rows: few full passes, accelerated.

A sample of the rows has told where the optimum is, to some posterior standard deviations. From
there minibatches come nearer only as slowly as their noise averages out. Here the gradient of the
elbo is that of all rows: each slice of them under two draws of its own, one the mirror image of
the other, so that what is linear in the draws cancels within the slice. With the draws of a slice
the same in every pass, a natural-gradient step is a smooth map, whose fixed point Anderson
acceleration finds in some fifteen passes. A few more passes with other draws, averaged, quiet the
scales, which the draws of one pass leave a little noisy.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.backend.random import fold_in
from bgmm_jd.data.rows import Missing, Rows, in_slices, to_tensors
from bgmm_jd.data.units import Units
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.optimization import anderson, convergence
from bgmm_jd.optimization.single_run import Run, Stand, frozen
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import Inside
from bgmm_jd.variational.evaluation import can_expand
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.natural_gradient import Stride, natural_step
from bgmm_jd.variational.parameters import Values, free_of, values_of
from bgmm_jd.variational.structure import Model
from bgmm_jd.variational.surrogate import joint_in_training, with_roots

_SLICES = 128  # at least: their draws together tell the scales
_LONGEST_SLICE = 8_192  # rows: what a slice takes stays in the cache
_MEMORY = 8
_TOLERANCE = 0.03  # posterior sds that are left to go
_SHORTEST = 1 / 16  # of a full natural-gradient step
# Passes that are averaged, and half as many for the elbo: at least, and of few rows, which are as
# quick to read several times, so many that they read this number of rows. A dozen leave sds a noise
# of one per cent.
_AVERAGED = 12
_AVERAGED_ROWS = 2**21
_MOST_AVERAGED = 64
_MOST_KEPT = 2**26  # numbers in the terms of all rows
_STRIDE = Stride(rate=1.0, longest_loc=np.inf, longest_log=0.3)


class Plan(NamedTuple):
    """What a pass is compiled for.

    slices, size : how many, and the rows of each.
    expanded : whether the likelihood is a matrix product: see `quadratic`.
    kept : whether its terms are kept from pass to pass.
    """

    slices: int
    size: int
    expanded: bool
    kept: bool
    execution: str


# Unconstrained parameters after a step from those given, and the elbo before it, by all rows under
# the draws of that number.
Evaluator = Callable[[Values, int], tuple[Values, float]]


class Pass(NamedTuple):
    """free : unconstrained parameters after a natural-gradient step. elbo : before it."""

    free: Values
    elbo: tf.Tensor


def polish(
    inside: Inside,
    seed: tf.Tensor,
    report: Callable[[Stand], None],
    started: np.ndarray,
    most: int,
) -> Run:
    """Bring the parameters to the optimum of the elbo of all rows.

    Ctrl-C ends the passes and keeps what it has.

    Parameters
    ----------
    inside : with the values to start from.
    started : elbos of the steps before, to be kept in the trace.
    most : limit of passes.
    """
    sites = inside.model.sites
    free = tf.nest.map_structure(lambda t: t.numpy(), free_of(sites, inside.values))
    elbos, status = list(started), Status.STEP_LIMIT
    try:
        evaluate = _evaluator(inside, seed)
        for stage in itertools.islice(_path(inside, evaluate, free), most):
            if not np.isfinite(stage.elbo):
                status = Status.DIVERGED
                break
            free = stage.free
            elbos.append(stage.elbo)
            report(Stand(len(elbos), stage.elbo, stage.left))
            if stage.left < _TOLERANCE:
                others = range(1, 1 + _averaged(inside))  # draws that the fixed point does not know
                images = [evaluate(free, number)[0] for number in others]
                free = tf.nest.map_structure(lambda *leaves: np.mean(leaves, axis=0), *images)
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    trace = np.array(elbos)
    trace.setflags(write=False)
    return Run(frozen(values_of(sites, free)), trace, elbos[-1], status)


class Stage(NamedTuple):
    """Unconstrained parameters, their elbo, and how far there seems to be left to go, in sds."""

    free: Values
    elbo: float
    left: float


def _path(inside: Inside, evaluate: Evaluator, free: Values) -> Iterator[Stage]:
    """Accelerated natural-gradient steps, one pass each.

    How far is left is told by the accelerated step, and not by the plain one, which is short
    where convergence is slow. A point where the elbo has fallen is given up for a plain step of
    half the length from the highest point so far: a mixture of steps, or a full one where
    components overlap or are empty, may lead astray. Where the shortest leads down too, it is the
    highest point that was astray, and the way goes on from below.
    """
    memory, length = anderson.Memory(), 1.0
    highest, plain = -np.inf, functools.partial(_between, free, free)
    while True:
        image, height = evaluate(free, 0)
        here, there = _moments(inside, free), _moments(inside, image)
        if not (np.isfinite(height) and np.isfinite(there).all()):
            yield Stage(free, np.nan, np.nan)
            return
        fallen = height < highest - _lost(highest, inside.data.dtype)
        if fallen and length > _SHORTEST:
            memory, length = anderson.Memory(), length / 2.0
            yield Stage(free, height, np.inf)
            free = plain(length)
            continue
        if fallen or height >= highest:
            highest, plain = height, functools.partial(_between, free, image)
            length = length if fallen else min(1.0, 2.0 * length)
        residual = convergence.difference(here, there)
        memory = anderson.remember(memory, _flat(_between(free, image, length)), residual, _MEMORY)
        ahead = _like(image, anderson.accelerated(memory))
        far = convergence.difference(here, _moments(inside, ahead))
        yield Stage(free, height, float(np.abs([residual, far]).max()))
        free = ahead


def _between(here: Values, there: Values, share: float) -> Values:
    return tf.nest.map_structure(lambda h, t: (h + share * (t - h)).astype(h.dtype), here, there)


def _lost(height: float, dtype: np.dtype) -> float:
    """Nats of elbo that are no loss: what rounding, or a step of an sd, may take."""
    return 1.0 + 4.0 * float(np.finfo(dtype).eps) * abs(height)


def elbo(inside: Inside, seed: tf.Tensor) -> tuple[float, float]:
    """The elbo of all rows, in internal units, and its standard error: from passes of new draws."""
    evaluate = _evaluator(inside, seed)
    free = tf.nest.map_structure(lambda t: t.numpy(), free_of(inside.model.sites, inside.values))
    found = [evaluate(free, number)[1] for number in range(_averaged(inside) // 2)]
    return float(np.mean(found)), float(np.std(found, ddof=1) / len(found) ** 0.5)


def _averaged(inside: Inside) -> int:
    of_rows = min(_MOST_AVERAGED, _AVERAGED_ROWS // inside.data.shape[0])
    return max(_AVERAGED, of_rows)


def _flat(free: Values) -> np.ndarray:
    return np.concatenate([np.ravel(v).astype(np.float64) for v in tf.nest.flatten(free)])


def _like(free: Values, flat: np.ndarray) -> Values:
    leaves = tf.nest.flatten(free)
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [p.reshape(v.shape).astype(v.dtype) for p, v in zip(parts, leaves, strict=True)]
    return tf.nest.pack_sequence_as(free, shaped)


def _moments(inside: Inside, free: Values) -> convergence.Moments:
    """Means and sds of the surrogate in a row each."""
    return convergence.moments(inside.model.sites, values_of(inside.model.sites, free))


def _evaluator(inside: Inside, seed: tf.Tensor) -> Evaluator:
    plan, covariance = _plan(inside), inside.model.covariance
    program = _program(inside.model, plan)
    rows = to_tensors(
        _as_read(in_slices(inside.data.rows, plan.slices, plan.size), plan, covariance)
    )
    units = inside.tensor_units

    def evaluate(free: Values, number: int) -> tuple[Values, float]:
        fresh = tf.nest.map_structure(tf.constant, free)  # of no bijector's memory
        found = program(fresh, rows, units, fold_in(seed, number))
        return tf.nest.map_structure(lambda t: t.numpy(), found.free), float(found.elbo)

    return evaluate


def _plan(inside: Inside) -> Plan:
    N, D = inside.data.shape
    size = min(_LONGEST_SLICE, -(-N // _SLICES))
    expanded = can_expand(inside)
    kept = (
        expanded
        and N * quadratic_likelihood.number_of_terms(D, inside.model.covariance) <= _MOST_KEPT
    )
    return Plan(-(-N // size), size, expanded, kept, inside.execution)


def _as_read(rows: Rows, plan: Plan, covariance: str) -> Rows:
    """Rows in slices as a pass reads them.

    For a matrix product their values are turned, [slices, D, size]; where its terms are kept these
    stand there instead, [slices, F, size].
    """
    if not plan.expanded:
        return rows
    turned = rows.values.swapaxes(1, 2)
    if not plan.kept:
        return rows._replace(values=turned)
    slices, D, size = turned.shape
    terms = np.empty(
        (slices, quadratic_likelihood.number_of_terms(D, covariance), size), turned.dtype
    )
    for own, features in zip(terms, turned, strict=True):
        own[:] = quadratic_likelihood.terms_of(features, covariance)
    return rows._replace(values=terms)


@functools.lru_cache(maxsize=32)
def _program(model: Model, plan: Plan) -> Callable[..., Pass]:
    sites = model.sites
    draws = 2 * plan.slices

    def run(free: Values, rows: Rows, units: Units, seed: tf.Tensor) -> Pass:
        with tf.GradientTape() as tape:
            tape.watch(free)
            values = values_of(sites, free)
            surrogate = joint_in_training(sites, values, units, lambda: seed)
            sample, log_q = surrogate.experimental_sample_and_log_prob(draws, seed=seed)
            theta = with_roots(sites, sample)
            # What depends on the draws alone is made for all slices at once.
            read = (
                quadratic_likelihood.coefficients_of(theta, model.covariance)
                if plan.expanded
                else theta
            )
            likelihood, slope = _by_slice(model, plan, read, rows)
            # A scalar with the gradient of the likelihood, which is not kept on the tape.
            pulled = tf.nest.map_structure(lambda s, v: tf.reduce_sum(s * v), slope, read)
            pulled = tf.add_n(tf.nest.flatten(pulled))
            rest = tf.reduce_mean(log_prior(model, theta, units) - log_q)
            loss = -(pulled / 2.0 + rest)
        step = natural_step(sites, values, tape.gradient(loss, free), _STRIDE)
        elbo = tf.reduce_sum(likelihood) / 2.0 + tf.cast(rest, likelihood.dtype)
        return Pass(tf.nest.map_structure(tf.add, free, step), elbo)

    return compiled(run, plan.execution)


def _by_slice(model: Model, plan: Plan, draws: Any, rows: Rows) -> tuple[tf.Tensor, Any]:
    """Log likelihood of each slice under its two draws [slices, 2], and its slope in each draw.

    Parameters
    ----------
    draws : as `_log_joint_label` reads them, of leading axis 2 slices, the second half the mirror
        images of the first.
    rows : in slices, `_as_read`.
    """

    def of_slice(parts: Any) -> Any:
        pair, values, weight, *pattern = parts
        missing = Missing(rows.missing.observed, *pattern) if rows.missing else None
        with tf.GradientTape() as tape:
            tape.watch(pair)
            label = _log_joint_label(model, plan, pair, Rows(values, weight, missing))
            total = tf.reduce_sum(weight * tf.reduce_logsumexp(label, axis=-2), axis=-1)
        slope = tape.gradient(total, pair, unconnected_gradients="zero")
        return tf.cast(total, tf.float64), slope

    half = plan.slices
    pairs = tf.nest.map_structure(
        lambda v: tf.stop_gradient(tf.stack([v[:half], v[half:]], axis=1)), draws
    )
    signature = tf.nest.map_structure(lambda v: tf.TensorSpec(v.shape[1:], v.dtype), pairs)
    likelihood, slope = tf.map_fn(
        of_slice,
        (pairs, rows.values, rows.weight, *([rows.missing.pattern] if rows.missing else [])),
        fn_output_signature=(tf.TensorSpec([2], tf.float64), signature),
    )
    return likelihood, tf.nest.map_structure(
        lambda v: tf.concat(tf.unstack(v, num=2, axis=1), axis=0), slope
    )


def _log_joint_label(model: Model, plan: Plan, draws: Any, rows: Rows) -> tf.Tensor:
    if not plan.expanded:
        return likelihood_module.log_joint_label(draws, rows, model.covariance)
    terms = (
        rows.values if plan.kept else quadratic_likelihood.terms_of(rows.values, model.covariance)
    )
    return quadratic_likelihood.log_joint_label(draws, terms)
