"""Accelerated passes over all rows: their elbo, where they end, and a large fit that uses them."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING
from scipy import stats
from small_problems import OVERLAPPING_ROWS, overlapping_start, unconstrained

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import pad_to_slices
from bgmm_jd.fitting import search
from bgmm_jd.optimization import anderson, full_data, svi
from bgmm_jd.optimization.convergence import (
    average_parameters,
    parameter_moments,
    standardized_difference,
)
from bgmm_jd.optimization.full_data import full_data_elbo, optimize_full_data, pass_evaluator
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import FullDataSettings
from bgmm_jd.variational.approximation import AVERAGED, MEAN_FIELD, draw_mean_field
from bgmm_jd.variational.evaluation import log_joint_of_draws
from bgmm_jd.variational.labels import match_labels
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


def test_rows_are_cut_into_slices_of_the_longest_size():
    """Of 8 rows, which do not divide 300: the last slice has 4."""
    cut = replace(ONE_SEEDING, full_data=FullDataSettings(slices=1, longest_slice=8))
    start = overlapping_start(settings=cut)
    data = start.problem.data
    plan = full_data.plan_passes(start.problem, start.params)
    assert (plan.slices, plan.size) == (38, 8)
    rows = pad_to_slices(data.rows, plan.slices, plan.size)
    N = OVERLAPPING_ROWS
    assert rows.values.shape == (38, 8, 2)
    np.testing.assert_array_equal(np.reshape(rows.values, (-1, 2))[:N], data.rows.values)
    np.testing.assert_array_equal(np.ravel(rows.weight), np.arange(38 * 8) < N)


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
        block = program.run(problem.rows, problem.prior_standardization, params, SEED, first, size)
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
    noise of the long run is estimated by its halves. Passes end where 0.03 sds seem to be left; the
    means of each end are near to three times that, with noise.
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
    assert np.abs(apart[:, : apart.shape[1] // 2]).max() < 0.1


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


def test_passes_run_eagerly():
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


# --- Fits of many rows ------------------------------------------------------------------------

LARGE = 21_000
CENTRES = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, -2.0]])


def large_rows(weights=False):
    rng = np.random.default_rng(8)
    label = rng.choice(3, LARGE, p=[0.5, 0.3, 0.2])
    X = CENTRES[label] + rng.normal(size=(LARGE, 2)) * [1.0, 0.6]
    X = X.astype(np.float32)
    return (X, rng.choice([0.0, 1.0, 3.0], LARGE)) if weights else X


def moments_of_draws(posterior):
    """Return means and sds of all parameters, components in the order of `CENTRES`: [P] each."""
    theta = posterior.sample(4_000, seed=1)
    order = match_labels(CENTRES, theta["means"].mean(axis=0))
    parts = [theta["weights"][:, order], theta["means"][:, order], theta["precisions"][:, order]]
    flat = np.concatenate([np.reshape(p, (len(p), -1)).astype(np.float64) for p in parts], axis=1)
    return flat.mean(axis=0), flat.std(axis=0)


@pytest.fixture(scope="module")
def large():
    return bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")


def test_large_fit_is_that_of_all_rows_in_every_step(large):
    """Means within 0.1 sd, of which the noise of 4,000 draws of each is 0.02; sds within 5 %.

    The relative noise of an sd of 4,000 draws is 1.1 %, of two 1.6 %; the largest of 15 is beyond
    5 % once in a hundred. Weighted draws have somewhat more noise; the seed is fixed.
    """
    assert large.status is Status.CONVERGED
    assert large.calibration == AVERAGED  # affordable: 14 parameters, 126,000 numbers
    whole = bgmm_jd.fit(
        large_rows(), 3, batch_size=LARGE, restarts=1, progress=False, execution="graph"
    )
    assert whole.batch_size == LARGE > large.batch_size
    (mean, sd), (whole_mean, whole_sd) = moments_of_draws(large), moments_of_draws(whole)
    assert np.abs((mean - whole_mean) / whole_sd).max() < 0.1
    assert np.abs(np.log(sd / whole_sd)).max() < 0.05
    # Five standard errors of both, of which one has 5 degrees of freedom: once in 250 or less.
    assert abs(large.elbo - whole.elbo) < 5 * np.hypot(large.elbo_se, whole.elbo_se) + 0.02


def test_interrupted_start_of_a_large_fit_is_reported(monkeypatch):
    """Even if it is at the optimum of another: the starts after it did not begin."""
    starts, optimize = [], search.optimize

    def second_is_interrupted(*arguments):
        starts.append(optimize(*arguments))
        return starts[-1]._replace(status=Status.INTERRUPTED) if len(starts) == 2 else starts[-1]

    monkeypatch.setattr(search, "optimize", second_is_interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")
    assert posterior.status is Status.INTERRUPTED
    assert len(posterior.restarts) == 2


@pytest.mark.parametrize(("max_steps", "passes_allowed"), [(100, 200), (50_000, 500)])
def test_max_steps_limits_the_number_of_passes(monkeypatch, max_steps, passes_allowed):
    def stopped(problem, start, seed, report, elbos_before, limit):
        raise InterruptedError(limit)

    monkeypatch.setattr(search, "optimize_full_data", stopped)
    with pytest.raises(InterruptedError, match=f"^{passes_allowed}$"):
        bgmm_jd.fit(large_rows(), 3, restarts=1, max_steps=max_steps, execution="graph")


def test_parameters_of_a_large_fit_cannot_be_written(large):
    with pytest.raises(ValueError, match="read-only"):
        large.restarts[0].params["means"]["loc"][0] = 9.0


def test_equal_seeds_give_equal_large_fits(large):
    again = bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")
    assert again.elbo == large.elbo
    for name, v in large.sample(20, seed=3).items():
        np.testing.assert_array_equal(again.sample(20, seed=3)[name], v)


def test_row_weights_of_a_large_fit_are_repeated_rows():
    """Rows of weight 3 and 0 against their copies, which are other rows in other slices.

    The posteriors are equal: means within 0.1 sd, as above.
    """
    X, weight = large_rows(weights=True)
    X, weight = np.concatenate([X, X]), np.concatenate([weight, weight])
    repeated = np.repeat(X, weight.astype(int), axis=0)
    options = {"K": 3, "progress": False, "execution": "graph", "calibrate": False}
    found = bgmm_jd.fit(X, sample_weight=weight, **options)
    assert found.problem.data.shape[0] > 20_000
    copies = bgmm_jd.fit(repeated, **options)
    for posterior in (found, copies):
        assert posterior.calibration == MEAN_FIELD
        assert posterior.status in (Status.CONVERGED, Status.KHAT_TOO_HIGH)
    (mean, sd), (other, other_sd) = moments_of_draws(found), moments_of_draws(copies)
    assert np.abs((mean - other) / other_sd).max() < 0.1
    assert np.abs(np.log(sd / other_sd)).max() < 0.05
