"""One run of the optimiser: its schedule, where it ends, and how it keeps its precision."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING, problem_for, started
from small_problems import two_groups, two_large_clusters

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.optimization import convergence, single_run, svi
from bgmm_jd.optimization.restarts import matching_run
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import OptimizationSettings
from bgmm_jd.variational.evaluation import surrogate_statistics_are_accurate


def no_report(progress):
    pass


def test_schedule_ignores_the_size_of_row_weights():
    """Rows with the weight 16 are not a subsample, for which tolerances are wider.

    Repeating all rows equally often adds information, and the posterior must be found as exactly.
    """
    schedules = [
        single_run.schedule_for(
            problem_for(two_groups(64), 2, weight=weight), equal_batches(64, 64)
        )
        for weight in (None, np.full(64, 16.0))
    ]
    assert schedules[0] == schedules[1]


def test_run_ends_where_another_run_has_converged():
    """With parameters and a trace of its own, and the elbo of the other."""
    approximation = started(problem_for(two_large_clusters(), 2))
    problem, start = approximation.problem, approximation.params
    settings, sites = problem.settings.optimization, problem.model.sites
    schedule = single_run.schedule_for(problem, equal_batches(400, 400))
    lead = single_run.optimize(problem, start, schedule, stateless_seed(3), 20_000, no_report)
    found = single_run.optimize(
        problem,
        start,
        schedule,
        stateless_seed(4),
        20_000,
        no_report,
        lambda params: matching_run(problem.model, [lead], params, settings, 1.0),
    )
    assert found.status is Status.CONVERGED
    assert found.elbo == lead.elbo
    assert found.joined
    assert not lead.joined
    assert 20 <= len(found.elbos) < len(lead.elbos)
    here, there = (convergence.parameter_moments(sites, run.params) for run in (lead, found))
    apart = np.abs(convergence.standardized_difference(here, there)).max()
    assert 0.0 < apart < 0.15


@pytest.mark.parametrize("noisy", [0, 2])
def test_run_that_has_left_its_start_for_a_poorer_place_begins_again(noisy, monkeypatch):
    """Blocks begin with equal means, and end more than ten nats lower.

    How much lower may be told only when some noisy blocks have passed.
    """
    approximation = started(problem_for(two_large_clusters(), 2))
    problem, start = approximation.problem, approximation.params
    schedule = single_run.schedule_for(problem, equal_batches(400, 400))

    def run(params):
        return single_run.optimize(problem, params, schedule, stateless_seed(3), 2_000, no_report)

    usual = run(start)
    sizes, take = [], svi.Program.run

    def astray(self, rows, values, params, seed, first, size, opt_state):
        sizes.append(size)
        if len(sizes) <= 3 + noisy:
            params = params | {"means": params["means"] | {"loc": 0.0 * params["means"]["loc"]}}
        block = take(self, rows, values, params, seed, first, size, opt_state)
        if len(sizes) == 1:  # the first loss is that of the start
            losses = np.array(block.losses)
            losses[0] = -usual.elbo
            block = block._replace(losses=losses)
        if 3 <= len(sizes) < 3 + noisy:
            block = block._replace(losses=block.losses + np.linspace(-1e3, 1e3, 20))
        return block

    monkeypatch.setattr(svi.Program, "run", astray)
    found = run(usual.params)
    assert found.status is Status.CONVERGED
    assert found.elbo > usual.elbo - 1.0
    assert np.median(found.elbos[40:60]) < usual.elbo - 20.0
    lengths = [size.longest_log for size in sizes]
    assert lengths[:3] == [0.3] * 3
    assert set(lengths[3:]) == {0.1}
    assert len(found.elbos) > 20 * (3 + noisy)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_losses_that_are_not_finite_are_no_reason_to_begin_again(value, monkeypatch):
    """And no warning, though their standard deviation is not a number."""
    approximation = started(problem_for(two_large_clusters(), 2))
    schedule = single_run.schedule_for(approximation.problem, equal_batches(400, 400))
    sizes, take = [], svi.Program.run

    def with_value(self, *arguments):
        sizes.append(arguments[5])
        block = take(self, *arguments)
        return block._replace(losses=np.full_like(block.losses, value))

    monkeypatch.setattr(svi.Program, "run", with_value)
    single_run.optimize(
        approximation.problem, approximation.params, schedule, stateless_seed(3), 80, no_report
    )
    assert [size.longest_log for size in sizes] == [0.3, 0.3, 0.3, 0.1]


def settled_run(max_steps=2_000, report=no_report, **settings):
    """Return the problem of two groups, and a run whose draws do not average out to 0.002 sds."""
    optimization = OptimizationSettings(
        **{"first_start_seedings": 1, "tolerance": 0.002} | settings
    )
    settings = replace(ONE_SEEDING, optimization=optimization)
    approximation = started(problem_for(two_large_clusters(), 2, settings=settings))
    schedule = single_run.schedule_for(approximation.problem, equal_batches(400, 400))
    run = single_run.optimize(
        approximation.problem, approximation.params, schedule, stateless_seed(3), max_steps, report
    )
    return approximation.problem, run


def test_run_whose_elbo_no_longer_rises_has_settled_though_its_parameters_still_move():
    """The noise of 2,000 steps is above the tolerance of 0.002 sds; that of repeated draws is not.

    The averages of 8 polished blocks, of 20 steps with 8 draws each, are as far from the optimum as
    1,280 draws leave them, and so are those of a run that converged to the usual tolerance.
    """
    problem, found = settled_run()
    assert found.status is Status.CONVERGED
    assert 240 < len(found.elbos) < 2_000
    _, usual = settled_run(tolerance=0.05)
    (mean, sd), (usual_mean, usual_sd) = (
        convergence.parameter_moments(problem.model.sites, run.params) for run in (found, usual)
    )
    assert np.abs((mean - usual_mean) / usual_sd).max() < 0.2
    np.testing.assert_allclose(sd, usual_sd, rtol=0.2)


def test_polished_blocks_are_kept_and_reported():
    """They begin where a run without them ends, and have other draws."""
    reports = []
    _, found = settled_run(report=reports.append)
    _, unpolished = settled_run(polishing_blocks=0)
    steps = len(unpolished.elbos)
    np.testing.assert_array_equal(found.elbos[:steps], unpolished.elbos)
    polished = [one.steps for one in reports if one.steps > steps]
    assert polished == list(range(steps + 20, steps + 20 * len(polished) + 1, 20))
    assert reports[-1].drift < 0.002
    assert len(found.elbos) == polished[-1] + 8 * 20
    assert found.elbo == np.median(found.elbos[-8 * 20 :])


def test_run_is_not_polished_beyond_the_limit_of_steps():
    _, unpolished = settled_run(polishing_blocks=0)
    steps = len(unpolished.elbos)
    _, found = settled_run(max_steps=steps + 8 * 20)
    np.testing.assert_array_equal(found.elbos, unpolished.elbos)
    assert found.status is Status.CONVERGED


def test_interrupt_of_polishing_keeps_the_run_before_it():
    _, unpolished = settled_run(polishing_blocks=0)

    def interrupt(progress):
        if progress.steps > len(unpolished.elbos):
            raise KeyboardInterrupt

    _, found = settled_run(report=interrupt)
    assert found.status is Status.INTERRUPTED
    assert found.elbo == unpolished.elbo
    for one, other in zip(*map(tf.nest.flatten, (found.params, unpolished.params)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_run_does_not_settle_where_no_change_of_the_elbo_is_small_enough():
    _, found = settled_run(settled_gain=0.0)
    assert found.status is Status.STEP_LIMIT
    assert len(found.elbos) == 2_000


def test_change_of_the_elbo_may_grow_as_the_root_of_the_number_of_parameters():
    """The run has nine: it has three times the limit of one, and the same limit as up to ten."""
    _, expected = settled_run(settled_gain=0.006)
    for gain, parameters in ((0.002, 1), (0.006, 10)):
        _, found = settled_run(settled_gain=gain, settled_parameters=parameters)
        np.testing.assert_array_equal(found.elbos, expected.elbos)
    _, stricter = settled_run(settled_gain=0.002)
    assert len(stricter.elbos) > len(expected.elbos)


def test_settled_run_goes_on_without_statistics_where_components_are_too_narrow(monkeypatch):
    """As one that has converged: it begins again from there with differences before squares."""
    used, program = [], svi.program

    def recorded(model, schedule):
        used.append(schedule.use_statistics)
        return program(model, schedule)

    monkeypatch.setattr(svi, "program", recorded)
    answers = iter([True, False])  # accurate at the start, and no longer when it is asked again
    monkeypatch.setattr(single_run, "surrogate_statistics_are_accurate", lambda *_: next(answers))
    _, found = settled_run()
    assert used == [True, False]
    assert found.status is Status.CONVERGED


def narrow_from_wide():
    """Return the problem of two narrow clusters in float32, and the start for wider ones."""
    found = []
    for sd in (0.005, 0.2):
        noise = sd * np.random.default_rng(0).standard_normal((3_000, 2))
        X = (np.repeat([[-1.0, 1.0], [1.0, -1.0]], 1_500, axis=0) + noise).astype(np.float32)
        found.append(started(problem_for(X, 2)))
    narrow, wide = found
    return narrow.problem, wide.params


def test_run_goes_on_without_statistics_where_components_become_too_narrow(monkeypatch):
    """Runs with and without them converge to 0.05 sds between the halves of their iterates.

    They may be four times that apart.
    """
    problem, start = narrow_from_wide()
    settings = problem.settings.optimization
    tolerance = settings.step_rounding / settings.rounding_margin
    assert surrogate_statistics_are_accurate(problem, start, tolerance)
    schedule = single_run.schedule_for(problem, equal_batches(3_000, 3_000))
    arguments = start, schedule, stateless_seed(3), 20_000, no_report
    used, program = [], svi.program

    def recorded(model, schedule):
        used.append(schedule.use_statistics)
        return program(model, schedule)

    monkeypatch.setattr(svi, "program", recorded)
    found = single_run.optimize(problem, *arguments)
    assert used == [True, False]
    used.clear()
    never = OptimizationSettings(first_start_seedings=1, step_rounding=0.0)
    without = replace(problem, settings=replace(ONE_SEEDING, optimization=never))
    exact = single_run.optimize(without, *arguments)
    assert used == [False]
    assert found.status is exact.status is bgmm_jd.Status.CONVERGED
    (mean, sd), (exact_mean, exact_sd) = (
        convergence.parameter_moments(problem.model.sites, run.params) for run in (found, exact)
    )
    assert np.abs((mean - exact_mean) / exact_sd).max() < 0.2
    np.testing.assert_allclose(sd, exact_sd, rtol=0.2)
