"""Accelerated passes over all rows: their elbo, and where they end."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING, problem_for, started
from scipy import stats
from small_problems import OVERLAPPING_ROWS, overlapping_start, unconstrained

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.optimization import anderson, full_data, svi
from bgmm_jd.optimization.convergence import (
    average_parameters,
    parameter_moments,
    standardized_difference,
)
from bgmm_jd.optimization.full_data import full_data_elbo, optimize_full_data, pass_evaluator
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import FullDataSettings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.natural_gradient import StepSize

pytestmark = pytest.mark.slow

SEED = stateless_seed(3)


def no_report(progress):
    pass


def passes(start, seed=SEED, report=no_report, elbos_before=(0.0,), limit=200):
    """Run passes from a start."""
    elbos = np.array(elbos_before)
    return optimize_full_data(start.problem, start.params, seed, report, elbos, limit)


def moments(start, params):
    """Return means and sds [2, P]."""
    return np.stack(parameter_moments(start.problem.model.sites, params))


@pytest.mark.parametrize(
    ("slices", "longest_part", "expected"),
    [(127, 8_192, (127, 1, 3)), (2, 40, (2, 4, 38)), (500, 8_192, (300, 1, 1))],
)
def test_plan_has_the_slices_of_the_settings_in_parts_of_limited_size(
    slices, longest_part, expected
):
    """300 rows: of two slices of 150, a part has 38. There are no more slices than rows."""
    full_data_settings = FullDataSettings(slices=slices, longest_part=longest_part)
    start = overlapping_start(settings=replace(ONE_SEEDING, full_data=full_data_settings))
    plan = full_data.plan_passes(start.problem, start.params)
    assert (plan.slices, plan.parts, plan.size) == expected


def rare_cluster_start(order, passes=12):
    """Return the start of a fit to 12,700 rows, the last hundredth of them far from the others.

    Parameters
    ----------
    order : [12700], of the rows.
    passes : number that are averaged.
    """
    rng = np.random.default_rng(7)
    X = rng.normal(size=(12_700, 2))
    X[-127:] = [8.0, -8.0] + 0.5 * X[-127:]
    few = FullDataSettings(averaged_passes=passes, most_averaged_passes=passes)
    settings = replace(ONE_SEEDING, full_data=few)
    return started(problem_for(X[order], 2, settings=settings), np.array([[0.0, 0.0], [8.0, -8.0]]))


def relative_noise(in_rare, slices):
    """Return the standard error of a log sd of the rare cluster after 12 passes.

    A pass finds a precision as an average of z^2 over the pairs of draws, standard normal, each
    weighted by the share of the cluster's rows that is in its slice. The variance of the log sd,
    half the log of that average, is half the sum of the squared shares.
    """
    share = np.bincount(np.arange(len(in_rare)) % slices, in_rare) / in_rare.sum()
    return np.sqrt((share**2).sum() / 2.0 / 12)


def test_sorted_and_shuffled_rows_have_the_same_sds():
    """A cluster of 127 of 12,700 rows, at the end or anywhere, z = 5.

    In consecutive slices the sorted cluster would be in two, with an error five times as large.
    """
    N = 12_700
    ends, noise = [], []
    for order in (np.arange(N), np.random.default_rng(8).permutation(N)):
        start = rare_cluster_start(order)
        ends.append(moments(start, passes(start).params))
        noise.append(relative_noise(order >= N - 127, FullDataSettings().slices))
    (mean, sd), (other_mean, other_sd) = ends
    assert np.abs(np.log(sd / other_sd)).max() < 5 * np.hypot(*noise)
    assert np.abs((mean - other_mean) / sd).max() < 0.1  # both tolerances, as above


def test_elbo_of_passes_is_that_of_many_draws():
    """Ten estimates by passes against 4,000 draws with all rows, and the errors they state.

    Student's t with 9 degrees of freedom is beyond 6 once in 5,000; with the noise of the many
    draws, which is added to it, less often. The ratio of the variance of the ten to the mean of the
    squared errors that they state is F with 9 and 50 degrees, once in 5,000 outside its limits.
    """
    start = overlapping_start(weights=True, missing=True)
    problem, params = start.problem, start.params
    found = np.array([full_data_elbo(problem, params, stateless_seed(100 + i)) for i in range(10)])
    draws = draw_mean_field(problem, params, 4_000, seed=1)
    many = log_joint_of_draws(problem, draws) - draws.log_q.numpy()
    error = np.hypot(found[:, 0].std(ddof=1) / 10**0.5, many.std() / 4_000**0.5)
    assert abs(found[:, 0].mean() - many.mean()) < 6 * error
    ratio = found[:, 0].var(ddof=1) / (found[:, 1] ** 2).mean()
    assert stats.f.ppf(1e-4, 9, 50) < ratio < stats.f.ppf(1 - 1e-4, 9, 50)


def full_batch_optimum(start, blocks=14, steps=50, draws=16):
    """Return unconstrained iterates of a long run of small steps on all rows, block by block."""
    problem, params, averages = start.problem, start.params, []
    batches = equal_batches(OVERLAPPING_ROWS, OVERLAPPING_ROWS)
    program = svi.program(problem.model, svi.Schedule(batches, draws, steps, "float64", "graph"))
    for i in range(blocks):
        size = StepSize(rate=1.0 if i < 2 else 0.1, longest_loc=10.0, longest_log=0.3)
        first = i * steps
        block = program.run(
            as_row_tensors(problem.data.rows),
            problem.prior_standardization,
            params,
            SEED,
            first,
            size,
        )
        params = block.params
        averages.append(block.average)
    return averages[4:]


def ends_of(start, seeds):
    """Return the means and sds [2, P] where passes end, each with draws of its own."""
    runs = [passes(start, stateless_seed(seed), elbos_before=[-1e4]) for seed in seeds]
    for found in runs:
        assert found.status is Status.CONVERGED
        assert found.elbos[0] == -1e4
        assert found.elbo == found.elbos[-1]
        assert len(found.elbos) < 60
    return [moments(start, found.params) for found in runs]


def test_passes_end_at_the_optimum():
    """Eight times, against a long run of small steps on all rows.

    Student's t with 7 degrees of freedom is beyond 9 once in 20,000, one of 40 once in 500. The
    noise of the long run is estimated by its halves. Passes end where 0.03 sds seem to be left, by
    the length of a step that may be short by chance: the means of most ends are within three times
    that, with noise.
    """
    start = overlapping_start()
    sites = start.problem.model.sites
    long = full_batch_optimum(start)
    half = len(long) // 2
    early, late, whole = (
        moments(start, average_parameters(sites, part)) for part in (long[:half], long[half:], long)
    )
    noise = np.abs(standardized_difference(early, late)).max() / 2.0
    assert noise < 0.03
    apart = np.array([standardized_difference(whole, end) for end in ends_of(start, range(50, 58))])
    error = apart.std(axis=0, ddof=1) / len(apart) ** 0.5
    assert (np.abs(apart.mean(axis=0)) < 9 * error + noise).all()
    assert np.median(np.abs(apart[:, : apart.shape[1] // 2]).max(axis=1)) < 0.1


def test_passes_from_another_start_end_at_the_same_optimum():
    """With each mean two sds away: the same end, within both tolerances."""
    start = overlapping_start()
    moved = {name: dict(v) for name, v in start.params.items()}
    moved["means"]["loc"] = moved["means"]["loc"] + 2.0 * moved["means"]["scale"]
    ends = ends_of(start, [3]) + ends_of(replace(start, params=moved), [3])
    assert np.abs(standardized_difference(*ends)).max() < 0.1


def test_passes_that_overshoot_go_back_and_end_at_the_same_optimum(monkeypatch):
    """With steps eight times too long plain iteration diverges.

    With these draws even the shortest step lowers the elbo once, from a misleading best point.
    """
    start = overlapping_start()
    end = passes(start)

    def overshooting(*arguments):
        evaluate = pass_evaluator(*arguments)

        def longer(free, number):
            image, elbo = evaluate(free, number)
            if number == 0:  # on the path, not in the passes that are averaged at its end
                image = tf.nest.map_structure(lambda h, t: h + 8.0 * (t - h), free, image)
            return image, elbo

        return longer

    monkeypatch.setattr(full_data, "pass_evaluator", overshooting)
    found = passes(start)
    assert found.status is Status.CONVERGED
    here, there = (moments(start, run.params) for run in (end, found))
    # Both tolerances, and a last step that is too long.
    assert np.abs(standardized_difference(here, there)).max() < 0.3


def test_interrupt_during_passes_keeps_the_last_evaluated_parameters():
    """Ctrl-C at the report of the third pass."""
    start = overlapping_start()
    reports = []

    def interrupted(progress):
        reports.append(progress)
        if len(reports) == 3:
            raise KeyboardInterrupt

    found = passes(start, report=interrupted, elbos_before=[-5e3, -1e3])
    assert found.status is Status.INTERRUPTED
    assert [progress.steps for progress in reports] == [3, 4, 5]
    assert len(found.elbos) == 5
    assert found.elbo == found.elbos[-1] == reports[-1].elbo
    evaluate = pass_evaluator(start.problem, start.params, SEED)
    image, elbo = evaluate(unconstrained(replace(start, params=found.params)), 0)
    assert elbo == pytest.approx(found.elbo, rel=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(image))


def test_optimize_full_data_runs_eagerly_to_its_limit():
    assert len(passes(overlapping_start(execution="eager"), limit=2).elbos) == 3


def test_divergence_of_passes_leaves_finite_elbos(monkeypatch):
    """An accelerated point that is not finite."""

    def nowhere(history):
        return np.full_like(history.images[-1], np.nan)

    monkeypatch.setattr(anderson, "accelerated", nowhere)
    found = passes(overlapping_start(), elbos_before=[-1e3])
    assert found.status is Status.DIVERGED
    assert np.isfinite(found.elbos).all()


def test_passes_that_reach_their_limit_have_the_status_step_limit():
    found = passes(overlapping_start(), limit=2)
    assert found.status is Status.STEP_LIMIT
    assert len(found.elbos) == 3
