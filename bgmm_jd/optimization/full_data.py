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
from bgmm_jd.data.rows import Missing, Rows, as_row_tensors, pad_to_slices
from bgmm_jd.data.units import Standardization
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.optimization import anderson, convergence
from bgmm_jd.optimization.single_run import RunProgress, RunResult, read_only_copy
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational.approximation import Approximation
from bgmm_jd.variational.evaluation import statistics_are_accurate
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import (
    VariationalParameters,
    from_unconstrained,
    to_unconstrained,
)
from bgmm_jd.variational.structure import Model
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky

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
_STRIDE = StepSize(rate=1.0, longest_loc=np.inf, longest_log=0.3)


class PassPlan(NamedTuple):
    """What a pass is compiled for.

    slices, size : how many, and the rows of each.
    expanded : whether the likelihood is a matrix product: see `quadratic`.
    kept : whether its terms are kept from pass to pass.
    """

    slices: int
    size: int
    use_statistics: bool
    kept: bool
    execution: str


# Unconstrained parameters after a step from those given, and the elbo before it, by all rows under
# the draws of that number.
Evaluator = Callable[[VariationalParameters, int], tuple[VariationalParameters, float]]


class Pass(NamedTuple):
    """free : unconstrained parameters after a natural-gradient step. elbo : before it."""

    free: VariationalParameters
    elbo: tf.Tensor


def optimize_full_data(
    inside: Approximation,
    seed: tf.Tensor,
    report: Callable[[RunProgress], None],
    started: np.ndarray,
    most: int,
) -> RunResult:
    """Bring the parameters to the optimum of the elbo of all rows.

    Ctrl-C ends the passes and keeps what it has.

    Parameters
    ----------
    inside : with the values to start from.
    started : elbos of the steps before, to be kept in the trace.
    most : limit of passes.
    """
    sites = inside.model.sites
    free = tf.nest.map_structure(lambda t: t.numpy(), to_unconstrained(sites, inside.values))
    elbos, status = list(started), Status.STEP_LIMIT
    try:
        evaluate = pass_evaluator(inside, seed)
        for stage in itertools.islice(_accelerated_path(inside, evaluate, free), most):
            if not np.isfinite(stage.elbo):
                status = Status.DIVERGED
                break
            free = stage.free
            elbos.append(stage.elbo)
            report(RunProgress(len(elbos), stage.elbo, stage.left))
            if stage.left < _TOLERANCE:
                others = range(
                    1, 1 + passes_to_average(inside)
                )  # draws that the fixed point does not know
                images = [evaluate(free, number)[0] for number in others]
                free = tf.nest.map_structure(lambda *leaves: np.mean(leaves, axis=0), *images)
                status = Status.CONVERGED
                break
    except KeyboardInterrupt:
        status = Status.INTERRUPTED
    trace = np.array(elbos)
    trace.setflags(write=False)
    return RunResult(read_only_copy(from_unconstrained(sites, free)), trace, elbos[-1], status)


class PathPoint(NamedTuple):
    """Unconstrained parameters, their elbo, and how far there seems to be left to go, in sds."""

    free: VariationalParameters
    elbo: float
    left: float


def _accelerated_path(
    inside: Approximation, evaluate: Evaluator, free: VariationalParameters
) -> Iterator[PathPoint]:
    """Accelerated natural-gradient steps, one pass each.

    How far is left is told by the accelerated step, and not by the plain one, which is short
    where convergence is slow. A point where the elbo has fallen is given up for a plain step of
    half the length from the highest point so far: a mixture of steps, or a full one where
    components overlap or are empty, may lead astray. Where the shortest leads down too, it is the
    highest point that was astray, and the way goes on from below.
    """
    memory, length = anderson.History(), 1.0
    highest, plain = -np.inf, functools.partial(_between, free, free)
    while True:
        image, height = evaluate(free, 0)
        here, there = _moments(inside, free), _moments(inside, image)
        if not (np.isfinite(height) and np.isfinite(there).all()):
            yield PathPoint(free, np.nan, np.nan)
            return
        fallen = height < highest - _rounding_allowance(highest, inside.data.dtype)
        if fallen and length > _SHORTEST:
            memory, length = anderson.History(), length / 2.0
            yield PathPoint(free, height, np.inf)
            free = plain(length)
            continue
        if fallen or height >= highest:
            highest, plain = height, functools.partial(_between, free, image)
            length = length if fallen else min(1.0, 2.0 * length)
        residual = convergence.standardized_difference(here, there)
        memory = anderson.remember(memory, _flat(_between(free, image, length)), residual, _MEMORY)
        ahead = _like(image, anderson.accelerated(memory))
        far = convergence.standardized_difference(here, _moments(inside, ahead))
        yield PathPoint(free, height, float(np.abs([residual, far]).max()))
        free = ahead


def _between(
    here: VariationalParameters, there: VariationalParameters, share: float
) -> VariationalParameters:
    return tf.nest.map_structure(lambda h, t: (h + share * (t - h)).astype(h.dtype), here, there)


def _rounding_allowance(height: float, dtype: np.dtype) -> float:
    """Nats of elbo that are no loss: what rounding, or a step of an sd, may take."""
    return 1.0 + 4.0 * float(np.finfo(dtype).eps) * abs(height)


def full_data_elbo(inside: Approximation, seed: tf.Tensor) -> tuple[float, float]:
    """The elbo of all rows, in internal units, and its standard error: from passes of new draws."""
    evaluate = pass_evaluator(inside, seed)
    free = tf.nest.map_structure(
        lambda t: t.numpy(), to_unconstrained(inside.model.sites, inside.values)
    )
    found = [evaluate(free, number)[1] for number in range(passes_to_average(inside) // 2)]
    return float(np.mean(found)), float(np.std(found, ddof=1) / len(found) ** 0.5)


def passes_to_average(inside: Approximation) -> int:
    """Return the number of passes whose parameters are averaged at the end."""
    of_rows = min(_MOST_AVERAGED, _AVERAGED_ROWS // inside.data.shape[0])
    return max(_AVERAGED, of_rows)


def _flat(free: VariationalParameters) -> np.ndarray:
    return np.concatenate([np.ravel(v).astype(np.float64) for v in tf.nest.flatten(free)])


def _like(free: VariationalParameters, flat: np.ndarray) -> VariationalParameters:
    leaves = tf.nest.flatten(free)
    parts = np.split(flat, np.cumsum([leaf.size for leaf in leaves])[:-1])
    shaped = [p.reshape(v.shape).astype(v.dtype) for p, v in zip(parts, leaves, strict=True)]
    return tf.nest.pack_sequence_as(free, shaped)


def _moments(inside: Approximation, free: VariationalParameters) -> convergence.MomentVectors:
    """Means and sds of the surrogate in a row each."""
    return convergence.parameter_moments(
        inside.model.sites, from_unconstrained(inside.model.sites, free)
    )


def pass_evaluator(inside: Approximation, seed: tf.Tensor) -> Evaluator:
    """Make the function that runs one pass over all rows."""
    plan, covariance = plan_passes(inside), inside.model.covariance
    program = _program(inside.model, plan)
    rows = as_row_tensors(
        _as_read(pad_to_slices(inside.data.rows, plan.slices, plan.size), plan, covariance)
    )
    units = inside.standardization

    def evaluate(free: VariationalParameters, number: int) -> tuple[VariationalParameters, float]:
        fresh = tf.nest.map_structure(tf.constant, free)  # of no bijector's memory
        found = program(fresh, rows, units, fold_in(seed, number))
        return tf.nest.map_structure(lambda t: t.numpy(), found.free), float(found.elbo)

    return evaluate


def plan_passes(inside: Approximation) -> PassPlan:
    """Choose how the rows are cut into slices, and whether their statistics are kept."""
    N, D = inside.data.shape
    size = min(_LONGEST_SLICE, -(-N // _SLICES))
    use_statistics = statistics_are_accurate(inside)
    kept = (
        use_statistics
        and N * quadratic_likelihood.number_of_statistics(D, inside.model.covariance) <= _MOST_KEPT
    )
    return PassPlan(-(-N // size), size, use_statistics, kept, inside.execution)


def _as_read(rows: Rows, plan: PassPlan, covariance: str) -> Rows:
    """Rows in slices as a pass reads them.

    For a matrix product their values are turned, [slices, D, size]; where its terms are kept these
    stand there instead, [slices, F, size].
    """
    if not plan.use_statistics:
        return rows
    turned = rows.values.swapaxes(1, 2)
    if not plan.kept:
        return rows._replace(values=turned)
    slices, D, size = turned.shape
    terms = np.empty(
        (slices, quadratic_likelihood.number_of_statistics(D, covariance), size), turned.dtype
    )
    for own, features in zip(terms, turned, strict=True):
        own[:] = quadratic_likelihood.sufficient_statistics(features, covariance)
    return rows._replace(values=terms)


@functools.lru_cache(maxsize=32)
def _program(model: Model, plan: PassPlan) -> Callable[..., Pass]:
    sites = model.sites
    draws = 2 * plan.slices

    def run(
        free: VariationalParameters, rows: Rows, units: Standardization, seed: tf.Tensor
    ) -> Pass:
        with tf.GradientTape() as tape:
            tape.watch(free)
            values = from_unconstrained(sites, free)
            surrogate = training_surrogate(sites, values, units, lambda: seed)
            sample, log_q = surrogate.experimental_sample_and_log_prob(draws, seed=seed)
            theta = with_cholesky(sites, sample)
            # What depends on the draws alone is made for all slices at once.
            read = (
                quadratic_likelihood.natural_parameters(theta, model.covariance)
                if plan.use_statistics
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


def _by_slice(model: Model, plan: PassPlan, draws: Any, rows: Rows) -> tuple[tf.Tensor, Any]:
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


def _log_joint_label(model: Model, plan: PassPlan, draws: Any, rows: Rows) -> tf.Tensor:
    if not plan.use_statistics:
        return likelihood_module.log_joint_label(draws, rows, model.covariance)
    terms = (
        rows.values
        if plan.kept
        else quadratic_likelihood.sufficient_statistics(rows.values, model.covariance)
    )
    return quadratic_likelihood.log_joint_label_from_statistics(draws, terms)
