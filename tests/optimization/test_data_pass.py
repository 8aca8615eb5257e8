"""One compiled pass over all rows, against a direct computation of its step and its elbo."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING
from small_problems import overlapping_start, unconstrained

from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.model.likelihood import row_log_likelihood
from bgmm_jd.optimization.full_data import pass_evaluator, plan_passes
from bgmm_jd.settings import FullDataSettings
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import as_parameter_tensors, from_unconstrained
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky, without_cholesky

pytestmark = pytest.mark.slow

SEED = stateless_seed(3)
# Of 43 rows each: 301, one more than there are.
SEVEN_SLICES = replace(ONE_SEEDING, full_data=FullDataSettings(slices=7))


def assert_same(one, other, rtol, atol):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def pass_of(approximation):
    """Return the unconstrained parameters after one pass, and the elbo before it."""
    evaluate = pass_evaluator(approximation.problem, approximation.params, SEED)
    return evaluate(unconstrained(approximation), 0)


def pass_by_table(approximation, plan):
    """Return what a pass does, from all rows under all draws and a table of which count."""
    problem = approximation.problem
    model, rows, N = (
        problem.standardized_model,
        as_row_tensors(problem.data.rows),
        problem.data.shape[0],
    )
    own = np.arange(N) % plan.slices == np.arange(plan.slices)[:, np.newaxis]
    counts = np.concatenate([own, own]) * (1.0 if rows.weight is None else rows.weight.numpy())
    free = unconstrained(approximation)
    with tf.GradientTape() as tape:
        tape.watch(free)
        params = from_unconstrained(model.sites, free)
        surrogate = training_surrogate(model, params, lambda: fold_in(SEED, 0))
        draws, log_q = surrogate.experimental_sample_and_log_prob(2 * plan.slices, seed=SEED)
        theta = without_cholesky(model, with_cholesky(model, draws))
        likelihood = row_log_likelihood(theta, rows, model.covariance)
        rest = tf.reduce_mean(log_prior(model, theta) - log_q)
        elbo = tf.reduce_sum(likelihood * counts) / 2.0 + rest
        loss = -elbo
    size = StepSize(rate=1.0, longest_loc=np.inf, longest_log=0.3)
    step = natural_step(model.sites, params, tape.gradient(loss, free), size)
    return tf.nest.map_structure(tf.add, free, step), float(elbo)


@pytest.mark.parametrize(
    "case",
    [
        {},
        {"covariance": "full", "weights": True, "missing": True},
        {"covariance": "tied"},
        {"covariance": "spherical", "weights": True},
    ],
    ids=str,
)
def test_pass_is_the_natural_gradient_step_at_its_draws(case):
    """In float64, where sums in another order differ by some 1e-13 of some hundred nats."""
    approximation = overlapping_start(**case, settings=SEVEN_SLICES)
    rows = approximation.problem.data.shape[0]
    plan = plan_passes(approximation.problem, approximation.params)
    assert (plan.slices, plan.parts) == (7, 1)
    assert (plan.size - 1) * plan.slices < rows < plan.slices * plan.size
    # Complete rows are read by their sufficient statistics, unlike in the table.
    assert plan.use_statistics != case.get("missing", False)
    image, elbo = pass_of(approximation)
    expected, expected_elbo = pass_by_table(approximation, plan)
    assert_same(image, expected, rtol=1e-9, atol=1e-9)
    assert elbo == pytest.approx(expected_elbo, rel=1e-11)
    before = tf.nest.flatten(unconstrained(approximation))
    moved = [np.abs(a - b).max() for a, b in zip(tf.nest.flatten(image), before, strict=True)]
    assert max(moved) > 1e-2  # otherwise the start is the optimum, and nothing is tested


@pytest.mark.parametrize("form", ["diag", "full"])
def test_statistics_kept_between_passes_do_not_change_the_step(form):
    """Where their numbers are too many, each pass makes them anew."""
    found = []
    for most, keeps in ((SEVEN_SLICES.full_data.kept_statistics, True), (0, False)):
        full_data = replace(SEVEN_SLICES.full_data, kept_statistics=most)
        settings = replace(SEVEN_SLICES, full_data=full_data)
        approximation = overlapping_start(form, settings=settings)
        plan = plan_passes(approximation.problem, approximation.params)
        assert plan.keep_statistics == keeps
        found.append(pass_of(approximation)[0])
    assert_same(*found, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("missing", [False, True])
def test_parts_of_a_slice_do_not_change_the_step(missing):
    """Of 20 rows at most: three parts of 15 rows of each slice, under the draws of the slice."""
    found = []
    for longest, parts in ((8_192, 1), (20, 3)):
        full_data = FullDataSettings(slices=7, longest_part=longest)
        approximation = overlapping_start(
            missing=missing, settings=replace(ONE_SEEDING, full_data=full_data)
        )
        plan = plan_passes(approximation.problem, approximation.params)
        assert (plan.slices, plan.parts) == (7, parts)
        found.append(pass_of(approximation))
    (image, elbo), (image_by_part, elbo_by_part) = found
    assert_same(image, image_by_part, rtol=1e-8, atol=1e-9)
    assert elbo == pytest.approx(elbo_by_part, rel=1e-11)


def test_all_executions_of_a_pass_give_one_step():
    """In float64 they differ by rounding alone; other draws would differ by some 1e-2."""
    found = [
        pass_of(overlapping_start(execution=execution, settings=SEVEN_SLICES))[0]
        for execution in ("xla", "graph")
    ]
    assert_same(*found, rtol=1e-8, atol=1e-9)


def test_two_draws_of_a_slice_are_antithetic():
    """Their mean is the location of the surrogate: what is linear in the draws cancels."""
    approximation = overlapping_start()
    params = as_parameter_tensors(approximation.params)
    model = approximation.problem.standardized_model
    means = training_surrogate(model, params, lambda: SEED).sample(14, seed=SEED).means.numpy()
    middle = (means[:7] + means[7:]) / 2.0
    np.testing.assert_allclose(middle, np.tile(params["means"]["loc"], (7, 1, 1)), atol=1e-12)
    assert means.std(axis=0).min() > 0
