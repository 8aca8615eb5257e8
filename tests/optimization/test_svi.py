"""The compiled loop: one path whatever the execution, one compilation for each shape."""

import sys

import numpy as np
import pytest
import tensorflow as tf

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.optimization import convergence, single_run, svi
from bgmm_jd.variational import natural_gradient
from bgmm_jd.variational.evaluation import statistics_are_accurate

STRIDE = natural_gradient.StepSize(rate=0.3, longest_loc=3.0, longest_log=0.3)
STILL = STRIDE._replace(rate=0.0)


def rows(N, dtype="float64"):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, 2)) + np.where(rng.random((N, 1)) < 0.4, 6.0, -3.0)
    return X.astype(dtype)


def block(execution, batch_size, dtype="float64", prior=None, seed=1):
    inside = problem_of(standardize(rows(90, dtype)), 2, "diag", prior, execution)
    inside = start_at(inside, None, 1, [seed, 0])
    schedule = svi.Schedule(equal_batches(90, batch_size), 4, 6, dtype, execution)
    program = svi.program(inside.model, schedule)
    return program.run(
        as_row_tensors(inside.data.rows),
        inside.prior_units,
        inside.values,
        stateless_seed(seed),
        0,
        STRIDE,
    )


@pytest.mark.parametrize("batch_size", [90, 40])
@pytest.mark.parametrize("execution", ["graph", "eager"])
def test_executions_follow_one_path(execution, batch_size):
    """In float64, six steps apart by rounding alone: 1e-16 a step, amplified by sums of 90 rows.

    Anything that drew other numbers would differ by the noise of a step, some 1e-1.
    """
    ours, theirs = block("xla", batch_size), block(execution, batch_size)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-9)
    for one, other in zip(
        tf.nest.flatten(ours.values), tf.nest.flatten(theirs.values), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10)


def test_equal_seeds_equal_blocks_and_others_not():
    first, again, other = block("xla", 40), block("xla", 40), block("xla", 40, seed=2)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert np.abs(first.losses - other.losses).min() > 1e-3


def test_loss_is_the_negative_elbo_of_all_rows():
    """At fixed parameters the mean loss of batches is that of all rows, within its own noise.

    Five standard errors: a false alarm once in two million runs.
    """
    inside = start_at(problem_of(standardize(rows(90)), 2, "diag", None, "xla"), None, 1, [0, 0])
    means = []
    for batch_size in (90, 40):
        schedule = svi.Schedule(equal_batches(90, batch_size), 4, 6, "float64", "xla")
        program = svi.program(inside.model, schedule)
        data = as_row_tensors(inside.data.rows)
        losses = np.concatenate(
            [
                program.run(
                    data, inside.prior_units, inside.values, stateless_seed(5), first, STILL
                ).losses
                for first in range(0, 240, 6)
            ]
        )
        # Whole epochs of three batches: their rows are all rows.
        means.append(losses.reshape(-1, 3).mean(axis=1))
    error = np.hypot(*(m.std(ddof=1) / len(m) ** 0.5 for m in means))
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


def test_one_compilation_for_each_shape():
    """Other data, seeds and hyperparameters of one shape share a program; a new shape does not."""
    bgmm_jd.fit(rows(64), 2)
    before = svi.program.cache_info()
    bgmm_jd.fit(1000 * rows(64)[::-1] + 5, 2, seed=4)
    after = svi.program.cache_info()
    assert (after.misses, after.hits) == (before.misses, before.hits + 4)  # 4 restarts each
    bgmm_jd.fit(rows(65), 2, restarts=1)
    assert svi.program.cache_info().misses == after.misses + 1


def test_row_weights_of_the_user_are_no_sample():
    """Rows that count 16 times each are all the rows there are: no coarser steps, nor fewer draws.

    Equal rows that repeat say the same of the posterior, and it must be found as exactly.
    """
    plans = [
        single_run.schedule(problem_of(data, 2, "diag", None, "xla"), equal_batches(64, 64))
        for data in (
            standardize(rows(64)),
            standardize(rows(64), np.full(64, 16.0)),
        )
    ]
    assert plans[0] == plans[1]


def test_program_is_traced_once():
    inside = start_at(problem_of(standardize(rows(64)), 2, "diag", None, "xla"), None, 1, [0, 0])
    plan = single_run.schedule(inside, equal_batches(64, 64))
    program = svi.program(inside.model, plan)
    for stride in (STRIDE, STILL):
        program.run(
            as_row_tensors(inside.data.rows),
            inside.prior_units,
            inside.values,
            stateless_seed(0),
            0,
            stride,
        )
    assert program._call.experimental_get_tracing_count() == 1


def narrow_from_wide():
    """Two narrow clusters in float32, and the values of wider ones in their places."""
    found = []
    for sd in (0.005, 0.2):
        noise = sd * np.random.default_rng(0).standard_normal((3_000, 2))
        X = (np.repeat([[-1.0, 1.0], [1.0, -1.0]], 1_500, axis=0) + noise).astype(np.float32)
        inside = problem_of(standardize(X), 2, "diag", None, "xla")
        found.append(start_at(inside, None, 1, [0, 0]))
    narrow, wide = found
    return narrow._replace(values=wide.values)


def test_what_becomes_too_narrow_for_the_expanded_square_is_done_again(monkeypatch):
    """Both ways settle to 0.05 sds between the halves of their iterates: four times that apart."""
    begin = narrow_from_wide()
    assert statistics_are_accurate(begin, single_run._ROUNDING / single_run._MARGIN)
    plan = single_run.schedule(begin, equal_batches(3_000, 3_000))
    arguments = begin, plan, stateless_seed(3), 20_000, lambda stand: None
    seen, program = [], svi.program
    monkeypatch.setattr(
        svi, "program", lambda model, plan: seen.append(plan.use_statistics) or program(model, plan)
    )
    found = single_run.optimize(*arguments)
    assert seen == [True, False]
    monkeypatch.setattr(single_run, "can_expand", lambda inside, tolerance: False)
    exact = single_run.optimize(*arguments)
    assert found.status is exact.status is bgmm_jd.Status.CONVERGED
    (mean, sd), (there, width) = (
        convergence.parameter_moments(begin.model.sites, r.values) for r in (found, exact)
    )
    assert np.abs((mean - there) / width).max() < 0.2
    np.testing.assert_allclose(sd, width, rtol=0.2)


def test_interrupt_keeps_what_it_has(monkeypatch):
    """Ctrl-C in the third block: the parameters of the second, a status, one warning."""
    calls = []
    whole = svi.Program.run

    def interrupted(self, *arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    monkeypatch.setattr(svi.Program, "run", interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(rows(64), 2)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert len(posterior.elbo_trace) == 40
    assert np.isfinite(posterior.sample(10)["means"]).all()


@pytest.mark.parametrize("step", ["_elbo", "with_calibration"])
def test_interrupt_after_the_last_step_keeps_the_fit(monkeypatch, step):
    """What is not known is NaN, and what had settled is there."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    # Through sys.modules, as `bgmm_jd.fitting.fit` is a module and `bgmm_jd.fit` a function.
    monkeypatch.setattr(sys.modules["bgmm_jd.fitting.fit"], step, interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(rows(64), 2)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert np.isnan(posterior.khat)
    assert np.isnan(posterior.elbo_se) == (step == "_elbo")
    assert posterior.elbo == pytest.approx(posterior.elbo_trace[-20:].mean(), abs=1.0)
    assert np.isfinite(posterior.sample(10)["means"]).all()


def test_an_elbo_that_is_no_number_is_a_divergence(monkeypatch):
    monkeypatch.setattr(
        sys.modules["bgmm_jd.fitting.fit"], "_elbo", lambda *arguments: (np.nan, np.nan)
    )
    with pytest.warns(RuntimeWarning, match="diverged"):
        posterior = bgmm_jd.fit(rows(64), 2)
    assert posterior.status is bgmm_jd.Status.DIVERGED


def test_divergence_is_told(monkeypatch):
    """NaN in a block: what was reached before it is kept, and no NaN comes out."""
    whole = svi.Program.run

    def broken(self, *arguments):
        block = whole(self, *arguments)
        if arguments[4] >= 40:
            block = block._replace(
                average=tf.nest.map_structure(lambda v: v * np.nan, block.average)
            )
        return block

    monkeypatch.setattr(svi.Program, "run", broken)
    with pytest.warns(RuntimeWarning, match="diverged"):
        posterior = bgmm_jd.fit(rows(64), 2, restarts=1)
    assert posterior.status is bgmm_jd.Status.DIVERGED
    assert all(np.isfinite(v).all() for v in posterior.sample(10).values())


def test_step_limit_is_told():
    with pytest.warns(RuntimeWarning, match="step limit"):
        posterior = bgmm_jd.fit(rows(64), 2, restarts=1, max_steps=20)
    assert posterior.status is bgmm_jd.Status.STEP_LIMIT
