"""One compiled pass over all rows: a natural-gradient step, and the elbo before it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bgmm_jd.backend.execution import compiled
from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import Rows, aligned_zeros, deal_to_slices
from bgmm_jd.data.units import Standardization, as_standardization_tensors
from bgmm_jd.model import quadratic_likelihood
from bgmm_jd.model.likelihood import log_joint_label
from bgmm_jd.variational.approximation import Problem
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import VariationalParameters, from_unconstrained
from bgmm_jd.variational.structure import Model, StandardizedModel
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky

# A full step. Locations are not limited: a subsample may have left them some sds from the optimum.
_STEP_SIZE = StepSize(rate=1.0, longest_loc=np.inf, longest_log=0.3)


class PassPlan(NamedTuple):
    """What a pass is compiled for.

    slices : number of slices, each of which has a pair of draws.
    parts, size : number of parts of a slice, and the rows of each, which are read at a time.
    use_statistics : whether the likelihood is a matrix product: see `quadratic_likelihood`.
    keep_statistics : whether the sufficient statistics are kept from pass to pass.
    draws : dtype of the parameters and of the draws, by name: that of the rows, or wider.
    """

    slices: int
    parts: int
    size: int
    use_statistics: bool
    keep_statistics: bool
    draws: str
    execution: str


class Pass(NamedTuple):
    """The result of a pass.

    unconstrained : parameters after a natural-gradient step.
    elbo : before it, float64.
    """

    unconstrained: VariationalParameters
    elbo: tf.Tensor


def rows_for_pass(rows: Rows, plan: PassPlan, covariance: str) -> Rows:
    """Return rows as a pass reads them, as arrays with one entry for each part of a slice.

    Rows are dealt to the slices in turn. If slices were consecutive rows, a small cluster of sorted
    rows would see only the draws of a few slices, and its scales would have their noise.

    For a matrix product the values are transposed, [parts slices, D, size]; where sufficient
    statistics are kept, these take the place of the values, [parts slices, F, size].
    """
    dealt = deal_to_slices(rows, plan.slices, plan.parts, plan.size, transposed=plan.use_statistics)
    if not plan.keep_statistics:
        return dealt
    count, D, size = dealt.values.shape
    F = quadratic_likelihood.number_of_statistics(D, covariance)
    statistics = aligned_zeros((count, F, size), dealt.values.dtype)
    for own, features in zip(statistics, dealt.values, strict=True):
        own[:] = quadratic_likelihood.sufficient_statistics(features, covariance)
    return dealt._replace(values=statistics)


def dtype_of_draws(problem: Problem) -> str:
    """Return the dtype of the parameters and draws of passes, by name: see `PassPlan`."""
    is_long = problem.data.total_weight > problem.settings.full_data.float32_weight
    return "float64" if is_long else str(problem.data.dtype)


def arguments_of_pass(
    problem: Problem, plan: PassPlan, unconstrained: VariationalParameters, seed: tf.Tensor
) -> tuple[VariationalParameters, Standardization, tf.Tensor]:
    """Return the arguments of compiled passes, but for the rows, as tensors.

    They are new tensors, which defeat TFP's cache of what bijectors have returned.
    """
    free = tf.nest.map_structure(lambda v: tf.constant(v, plan.draws), unconstrained)
    standardization = as_standardization_tensors(problem.prior_standardization, plan.draws)
    return free, standardization, seed


@functools.lru_cache(maxsize=32)
def pass_program(model: Model, plan: PassPlan) -> Callable[..., Pass]:
    """Make the compiled pass: (rows, unconstrained, standardization, seed) -> `Pass`."""

    def run(
        rows: Rows,
        unconstrained: VariationalParameters,
        standardization: Standardization,
        seed: tf.Tensor,
    ) -> Pass:
        def read(per_draw: Any) -> tuple[tf.Tensor, Any]:
            return likelihood_by_slice(model.covariance, plan, per_draw, rows)

        return pass_over(model, plan, unconstrained, standardization, seed, read)

    return compiled(run, plan.execution)


def pass_over(
    model: Model,
    plan: PassPlan,
    unconstrained: VariationalParameters,
    standardization: Standardization,
    seed: tf.Tensor,
    read: Callable[[Any], tuple[tf.Tensor, Any]],
) -> Pass:
    """Return the natural-gradient step from the log likelihood of all rows and its slope.

    Parameters
    ----------
    read : function of what depends on the draws alone, as `draws_of_pass` returns it, that gives
        numbers whose sum is the log likelihood of each slice under its two draws, and the slope.
    """
    standardized = model.standardized(standardization)
    with tf.GradientTape() as tape:
        tape.watch(unconstrained)
        params = from_unconstrained(model.sites, unconstrained)
        theta, log_q, per_draw = _drawn(standardized, plan, params, seed)
        likelihood, slope = read(per_draw)
        # A scalar with the gradient of the likelihood, which is not recorded on the tape.
        linear = tf.nest.map_structure(lambda s, v: tf.reduce_sum(s * v), slope, per_draw)
        linear = tf.add_n(tf.nest.flatten(linear))
        rest = tf.reduce_mean(log_prior(standardized, theta) - log_q)
        loss = -(linear / 2.0 + rest)
    step = natural_step(model.sites, params, tape.gradient(loss, unconstrained), _STEP_SIZE)
    elbo = tf.reduce_sum(likelihood) / 2.0 + tf.cast(rest, likelihood.dtype)
    return Pass(tf.nest.map_structure(tf.add, unconstrained, step), elbo)


def draws_of_pass(
    model: Model,
    plan: PassPlan,
    unconstrained: VariationalParameters,
    standardization: Standardization,
    seed: tf.Tensor,
) -> Any:
    """Return what the likelihood of rows reads of the draws of a pass: leading axis 2 slices."""
    params = from_unconstrained(model.sites, unconstrained)
    return _drawn(model.standardized(standardization), plan, params, seed)[2]


def _drawn(
    model: StandardizedModel, plan: PassPlan, params: VariationalParameters, seed: tf.Tensor
) -> tuple[Any, tf.Tensor, Any]:
    """Return theta of all draws, their log q, and what the likelihood of rows reads of them.

    What depends on the draws alone is computed for all slices at once.
    """
    surrogate = training_surrogate(model, params, lambda: seed)
    sample, log_q = surrogate.experimental_sample_and_log_prob(2 * plan.slices, seed=seed)
    theta = with_cholesky(model, sample)
    if not plan.use_statistics:
        return theta, log_q, theta
    return theta, log_q, quadratic_likelihood.natural_parameters(theta, model.covariance)


def likelihood_by_slice(
    covariance: str, plan: PassPlan, draws: Any, rows: Rows
) -> tuple[tf.Tensor, Any]:
    """Return the log likelihood [parts slices, 2] of each part under its two draws, and its slope.

    Parameters
    ----------
    draws : as `_log_joint_label` reads them, of leading axis 2 slices; the second half are the
        antithetic partners of the first. They are read in the dtype of the rows, and the slope is
        summed in their own.
    rows : in parts of slices, from `rows_for_pass`.
    """

    def of_part(part: Any) -> Any:
        pair, values, weight, *pattern = part
        missing = None if rows.missing is None else Missing(rows.missing.observed, *pattern)
        with tf.GradientTape() as tape:
            tape.watch(pair)
            label = _log_joint_label(covariance, plan, pair, Rows(values, weight, missing))
            total = tf.reduce_sum(weight * tf.reduce_logsumexp(label, axis=-2), axis=-1)
        slope = tape.gradient(total, pair, unconnected_gradients="zero")
        return tf.cast(total, tf.float64), slope

    half = plan.slices
    pairs = tf.nest.map_structure(
        lambda v: tf.cast(
            tf.stop_gradient(tf.stack([v[:half], v[half:]], axis=1)), rows.values.dtype
        ),
        draws,
    )
    signature = tf.nest.map_structure(lambda v: tf.TensorSpec(v.shape[1:], v.dtype), pairs)
    pattern = [] if rows.missing is None else [rows.missing.pattern]
    likelihood, slope = tf.map_fn(
        of_part,
        (_for_each_part(plan, pairs), rows.values, rows.weight, *pattern),
        fn_output_signature=(tf.TensorSpec([2], tf.float64), signature),
    )

    def of_draws(by_part: tf.Tensor) -> tf.Tensor:
        by_part = tf.cast(by_part, plan.draws)
        by_slice = tf.reduce_sum(tf.reshape(by_part, [-1, half, *by_part.shape[1:]]), axis=0)
        return tf.concat(tf.unstack(by_slice, num=2, axis=1), axis=0)

    return likelihood, tf.nest.map_structure(of_draws, slope)


def _for_each_part(plan: PassPlan, pairs: Any) -> Any:
    """Repeat what each slice has for each of its parts, in the order of `deal_to_slices`."""
    if plan.parts == 1:
        return pairs
    return tf.nest.map_structure(lambda v: tf.concat([v] * plan.parts, axis=0), pairs)


def _log_joint_label(covariance: str, plan: PassPlan, draws: Any, rows: Rows) -> tf.Tensor:
    """Return log p(x_n, label_n = k) [2, K, size] of a slice under its two draws."""
    if not plan.use_statistics:
        return log_joint_label(draws, rows, covariance)
    statistics = rows.values
    if not plan.keep_statistics:
        statistics = quadratic_likelihood.sufficient_statistics(rows.values, covariance)
    return quadratic_likelihood.log_joint_label_from_statistics(draws, statistics)
