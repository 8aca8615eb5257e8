"""The compiled loop: one path whatever the execution, one compilation for each shape."""

import numpy as np
import pytest
import tensorflow as tf
from builders import problem_for, started
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.optimization import single_run, svi
from bgmm_jd.variational.natural_gradient import StepSize

STEP = StepSize(rate=0.3, longest_loc=3.0, longest_log=0.3)
NO_STEP = STEP._replace(rate=0.0)


def block(execution, batch_size, seed=1):
    """Take six steps from the start of a fit."""
    approximation = started(problem_for(two_groups(90), 2, execution=execution), seed=seed)
    problem = approximation.problem
    schedule = svi.Schedule(equal_batches(90, batch_size), 4, 6, "float64", execution)
    program = svi.program(problem.model, schedule)
    seed = stateless_seed(seed)
    return program.run(
        as_row_tensors(problem.data.rows),
        problem.prior_standardization,
        approximation.params,
        seed,
        0,
        STEP,
    )


@pytest.mark.parametrize("batch_size", [90, 40])
@pytest.mark.parametrize("execution", ["graph", "eager"])
def test_all_executions_follow_one_path(execution, batch_size):
    """In float64, six steps differ by rounding alone: 1e-16 a step, amplified by sums of 90 rows.

    If an execution drew other numbers, it would differ by the noise of a step, some 1e-1.
    """
    ours, theirs = block("xla", batch_size), block(execution, batch_size)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    for one, other in zip(
        tf.nest.flatten(ours.params), tf.nest.flatten(theirs.params), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_equal_seeds_give_equal_blocks_and_others_do_not():
    first, again, other = block("xla", 40), block("xla", 40), block("xla", 40, seed=2)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert np.abs(first.losses - other.losses).min() > 1e-3


def test_mean_loss_of_batches_is_the_negative_elbo_of_all_rows():
    """At fixed parameters, within the noise of both.

    Five standard errors: a false alarm once in two million runs.
    """
    approximation = started(problem_for(two_groups(90), 2))
    problem, params = approximation.problem, approximation.params
    means = []
    for batch_size in (90, 40):
        schedule = svi.Schedule(equal_batches(90, batch_size), 4, 6, "float64", "xla")
        program = svi.program(problem.model, schedule)
        seed = stateless_seed(5)
        blocks = [
            program.run(
                as_row_tensors(problem.data.rows),
                problem.prior_standardization,
                params,
                seed,
                first,
                NO_STEP,
            )
            for first in range(0, 240, 6)
        ]
        losses = np.concatenate([block.losses for block in blocks])
        # Whole epochs of three batches: their rows are all rows.
        means.append(losses.reshape(-1, 3).mean(axis=1))
    error = np.hypot(*(m.std(ddof=1) / len(m) ** 0.5 for m in means))
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


def test_fits_of_one_shape_share_a_program():
    """With other data and seeds; a new shape has a new program."""
    bgmm_jd.fit(two_groups(64), 2, finish="none")
    before = svi.program.cache_info()
    bgmm_jd.fit(1000 * two_groups(64)[::-1] + 5, 2, seed=4, finish="none")
    after = svi.program.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 1)  # one run
    bgmm_jd.fit(two_groups(65), 2, restarts=1, finish="none")
    assert svi.program.cache_info().misses == after.misses + 1


def test_program_is_traced_once(monkeypatch):
    """Each trace evaluates the target once, in Python: see test_tfp_loop."""
    approximation = started(problem_for(two_groups(64), 2))
    problem, traces, log_joint = approximation.problem, [], svi.log_joint

    def counted(*arguments, **options):
        traces.append(arguments)
        return log_joint(*arguments, **options)

    monkeypatch.setattr(svi, "log_joint", counted)
    program = svi.Program(problem.model, single_run.schedule_for(problem, equal_batches(64, 64)))
    for size in (STEP, NO_STEP):
        seed = stateless_seed(0)
        program.run(
            as_row_tensors(problem.data.rows),
            problem.prior_standardization,
            approximation.params,
            seed,
            0,
            size,
        )
    assert len(traces) == 1
