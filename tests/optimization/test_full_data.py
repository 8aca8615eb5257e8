"""Passes over all rows: their gradient, their elbo, where they end, and a fit that uses them."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import bgmm_jd
from bgmm_jd.backend import random
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors, pad_to_slices
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.optimization import anderson, convergence, full_data, svi
from bgmm_jd.optimization.status import Status
from bgmm_jd.variational import approximation, evaluation
from bgmm_jd.variational.labels import match_labels
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.natural_gradient import StepSize, natural_step
from bgmm_jd.variational.parameters import from_unconstrained, to_unconstrained
from bgmm_jd.variational.surrogate import training_surrogate, with_cholesky, without_cholesky

pytestmark = pytest.mark.slow

N = 300
SEED = stateless_seed(3)


def quiet(stand):
    pass


def two_groups(N=N, apart=3.0):
    """Two groups that overlap: [N, 2], in float64."""
    rng = np.random.default_rng(5)
    label = rng.random(N) < 0.4
    return rng.normal(size=(N, 2)) * [1.0, 0.7] + apart * label[:, np.newaxis]


def started(covariance="diag", weights=False, missing=False, execution="graph"):
    rng = np.random.default_rng(6)
    X = two_groups()
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
        X[np.isnan(X).all(axis=1)] = 0.0
    weight = rng.uniform(0.0, 2.0, N) if weights else None
    data = standardize(X, weight, common=covariance == "spherical")
    inside = problem_of(data, 2, covariance, None, execution)
    return start_at(inside, None, 1, [0, 0])


def arrays(values):
    return tf.nest.map_structure(np.asarray, values)


def free_values(inside):
    """Unconstrained, as new tensors, which no bijector remembers."""
    free = to_unconstrained(inside.model.sites, inside.values)
    return tf.nest.map_structure(lambda t: tf.constant(t.numpy()), free)


def assert_same(one, other, rtol, atol):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


@pytest.fixture
def seven_slices(monkeypatch):
    """Of 43 rows each: 301, one more than there are."""
    monkeypatch.setattr(full_data, "_SLICES", 7)


@pytest.fixture
def forty_slices(monkeypatch):
    """Of 8 rows, which do not divide N: the last has 4."""
    monkeypatch.setattr(full_data, "_LONGEST_SLICE", 8)
    monkeypatch.setattr(full_data, "_SLICES", 1)


def direct(inside, free, slices, size):
    """The same pass, with every row under every draw and a table of which count: elbo and step."""
    sites, units = inside.model.sites, inside.standardization
    rows = as_row_tensors(inside.data.rows)
    N = inside.data.shape[0]
    own = np.arange(N) // size == np.arange(slices)[:, np.newaxis]
    counts = np.concatenate([own, own]) * (1.0 if rows.weight is None else rows.weight.numpy())
    with tf.GradientTape() as tape:
        tape.watch(free)
        values = from_unconstrained(sites, free)
        surrogate = training_surrogate(sites, values, units, lambda: random.fold_in(SEED, 0))
        theta, log_q = surrogate.experimental_sample_and_log_prob(2 * slices, seed=SEED)
        theta = without_cholesky(sites, with_cholesky(sites, theta))
        likelihood = likelihood_module.row_log_likelihood(theta, rows, inside.model.covariance)
        rest = tf.reduce_mean(log_prior(inside.model, theta, units) - log_q)
        elbo = tf.reduce_sum(likelihood * counts) / 2.0 + rest
        loss = -elbo
    stride = StepSize(rate=1.0, longest_loc=np.inf, longest_log=0.3)
    step = natural_step(sites, values, tape.gradient(loss, free), stride)
    return arrays(tf.nest.map_structure(tf.add, free, step)), float(elbo)


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
@pytest.mark.usefixtures("seven_slices")
def test_a_pass_is_the_gradient_at_its_draws(case):
    """In float64, where sums in another order differ by some 1e-13 of some hundred nats."""
    inside = started(**case)
    rows = inside.data.shape[0]
    plan = full_data.plan_passes(inside)
    assert (plan.slices - 1) * plan.size < rows < plan.slices * plan.size
    # Of complete rows the square is expanded, which the table's likelihood is not.
    assert plan.use_statistics != case.get("missing", False)
    free = free_values(inside)
    image, elbo = full_data.pass_evaluator(inside, SEED)(free, 0)
    expected, expected_elbo = direct(inside, free, plan.slices, plan.size)
    assert_same(image, expected, rtol=1e-9, atol=1e-9)
    assert elbo == pytest.approx(expected_elbo, rel=1e-11)
    moved = [np.abs(a - b).max() for a, b in zip(*map(tf.nest.flatten, (image, free)), strict=True)]
    assert max(moved) > 1e-2  # the start is not the optimum, or nothing would be tested


@pytest.mark.parametrize("form", ["diag", "full"])
@pytest.mark.usefixtures("seven_slices")
def test_terms_that_are_kept_change_nothing(form, monkeypatch):
    """Of too many rows they are made in each pass."""
    inside = started(form)
    assert full_data.plan_passes(inside).kept
    kept = full_data.pass_evaluator(inside, SEED)(free_values(inside), 0)[0]
    monkeypatch.setattr(full_data, "_MOST_KEPT", 0)
    assert not full_data.plan_passes(inside).kept
    made = full_data.pass_evaluator(inside, SEED)(free_values(inside), 0)[0]
    assert_same(kept, made, rtol=1e-8, atol=1e-9)


@pytest.mark.usefixtures("forty_slices")
def test_long_data_is_cut_into_slices_of_the_longest_size():
    inside = started()
    plan = full_data.plan_passes(inside)
    assert (plan.slices, plan.size) == (38, 8)
    rows = pad_to_slices(inside.data.rows, plan.slices, plan.size)
    assert rows.values.shape == (38, 8, 2)
    np.testing.assert_array_equal(np.reshape(rows.values, (-1, 2))[:N], inside.data.rows.values)
    np.testing.assert_array_equal(np.ravel(rows.weight), np.arange(38 * 8) < N)


def test_when_the_square_may_be_expanded():
    assert evaluation.statistics_are_accurate(started())
    assert evaluation.statistics_are_accurate(started("full"))
    assert not evaluation.statistics_are_accurate(started(missing=True))


@pytest.mark.usefixtures("seven_slices")
def test_executions_find_one_image():
    """In float64 apart by rounding alone; other draws would be apart by some 1e-2."""
    found = []
    for execution in ("xla", "graph"):
        inside = started(execution=execution)
        found.append(full_data.pass_evaluator(inside, SEED)(free_values(inside), 0)[0])
    assert_same(*found, rtol=1e-8, atol=1e-9)


def test_the_two_draws_of_a_slice_are_mirror_images():
    """Their mean is the surrogate's own, for a location: what is linear in the draws cancels."""
    inside = started()
    values = tf.nest.map_structure(tf.convert_to_tensor, inside.values)
    surrogate = training_surrogate(inside.model.sites, values, inside.standardization, lambda: SEED)
    means = surrogate.sample(14, seed=SEED).means.numpy()
    middle = (means[:7] + means[7:]) / 2.0
    np.testing.assert_allclose(middle, np.tile(values["means"]["loc"], (7, 1, 1)), atol=1e-12)
    assert means.std(axis=0).min() > 0


def test_elbo_is_that_of_many_draws():
    """Ten estimates of a pass against 4,000 draws with all rows, and the errors they state.

    Student's t with 9 degrees of freedom is beyond 6 once in 5,000; with the noise of the many
    draws, which is added to it, less often. The ratio of the spread of the ten to the squares of
    the errors that they state is F with 9 and 50 degrees, once in 5,000 outside its limits.
    """
    inside = started(weights=True, missing=True)
    found = np.array([full_data.full_data_elbo(inside, stateless_seed(100 + i)) for i in range(10)])
    draws = approximation.draw_mean_field(inside, 4_000, seed=1)
    many = evaluation.log_joint_of_draws(inside, draws) - draws.log_q.numpy()
    error = np.hypot(found[:, 0].std(ddof=1) / 10**0.5, many.std() / 4_000**0.5)
    assert abs(found[:, 0].mean() - many.mean()) < 6 * error
    ratio = found[:, 0].var(ddof=1) / (found[:, 1] ** 2).mean()
    assert stats.f.ppf(1e-4, 9, 50) < ratio < stats.f.ppf(1 - 1e-4, 9, 50)


def full_batch_optimum(inside, blocks=14, steps=50, draws=16):
    """Unconstrained iterates of a long run on all rows with small steps, block by block."""
    schedule = svi.Schedule(equal_batches(N, N), draws, steps, "float64", "graph")
    program, rows = svi.program(inside.model, schedule), as_row_tensors(inside.data.rows)
    values, averages = inside.values, []
    for i in range(blocks):
        stride = StepSize(rate=1.0 if i < 2 else 0.1, longest_loc=10.0, longest_log=0.3)
        block = program.run(rows, inside.prior_units, values, SEED, i * steps, stride)
        values = block.values
        averages.append(block.average)
    return averages[4:]


def ends_of(inside, seeds):
    """Where passes end, each with draws of its own: means and sds [2, P]."""
    runs = [
        full_data.optimize_full_data(inside, stateless_seed(s), quiet, np.array([-1e4]), 200)
        for s in seeds
    ]
    for found in runs:
        assert found.status is Status.CONVERGED
        assert found.elbos[0] == -1e4
        assert found.elbo == found.elbos[-1]
        assert len(found.elbos) < 60
    return [
        np.stack(convergence.parameter_moments(inside.model.sites, found.values)) for found in runs
    ]


def test_polish_ends_at_the_optimum():
    """Eight times, against a long run of small steps on all rows.

    Student's t with 7 degrees of freedom is beyond 9 once in 20,000, and of 40 once in 500. The
    noise of the long run is told by its halves. Passes end where 0.03 sds seem to be left; each end
    is near in its means to three times that, with noise.
    """
    inside = started()
    sites = inside.model.sites
    long = full_batch_optimum(inside)
    half = len(long) // 2
    early, late, whole = (
        np.stack(convergence.parameter_moments(sites, convergence.average_parameters(sites, part)))
        for part in (long[:half], long[half:], long)
    )
    noise = np.abs(convergence.standardized_difference(early, late)).max() / 2.0
    assert noise < 0.03
    apart = np.array(
        [convergence.standardized_difference(whole, end) for end in ends_of(inside, range(50, 58))]
    )
    error = apart.std(axis=0, ddof=1) / len(apart) ** 0.5
    assert (np.abs(apart.mean(axis=0)) < 9 * error + noise).all()
    assert np.abs(apart[:, : apart.shape[1] // 2]).max() < 0.1


def test_polish_starts_anywhere_near():
    """Two sds off in every mean: the same end as from the start, within both tolerances."""
    inside = started()
    off = {name: dict(v) for name, v in inside.values.items()}
    off["means"]["loc"] = off["means"]["loc"] + 2.0 * off["means"]["scale"]
    ends = ends_of(inside, [3]) + ends_of(inside._replace(values=off), [3])
    assert np.abs(convergence.standardized_difference(*ends)).max() < 0.1


def test_steps_that_overshoot_are_taken_back(monkeypatch):
    """Steps eight times too long, under which plain iteration flies off: the same end.

    With these draws even the shortest step leads down once, from a point that was no good.
    """
    inside = started()
    end = full_data.optimize_full_data(inside, SEED, quiet, np.zeros(1), 200)
    honest = full_data.pass_evaluator

    def overshooting(inside, seed):
        evaluate = honest(inside, seed)

        def longer(free, number):
            image, elbo = evaluate(free, number)
            if number == 0:  # on the way, not those that are averaged at its end
                image = full_data._between(free, image, 8.0)
            return image, elbo

        return longer

    monkeypatch.setattr(full_data, "_evaluator", overshooting)
    found = full_data.optimize_full_data(inside, SEED, quiet, np.zeros(1), 200)
    assert found.status is Status.CONVERGED
    here, there = (
        convergence.parameter_moments(inside.model.sites, run.values) for run in (end, found)
    )
    # Both tolerances, and a last step too long.
    assert np.abs(convergence.standardized_difference(here, there)).max() < 0.3


def test_interrupt_keeps_what_it_has():
    """Ctrl-C as the third pass is told: the parameters that were evaluated last, and a status."""
    inside = started()
    told = []

    def interrupted(stand):
        told.append(stand)
        if len(told) == 3:
            raise KeyboardInterrupt

    found = full_data.optimize_full_data(inside, SEED, interrupted, np.array([-5e3, -1e3]), 200)
    assert found.status is Status.INTERRUPTED
    assert [stand.steps for stand in told] == [3, 4, 5]
    assert len(found.elbos) == 5
    assert found.elbo == found.elbos[-1] == told[-1].elbo
    again, height = full_data.pass_evaluator(inside, SEED)(
        free_values(inside._replace(values=found.values)), 0
    )
    assert height == pytest.approx(found.elbo, rel=1e-12)
    assert all(np.isfinite(leaf).all() for leaf in tf.nest.flatten(again))


def test_passes_run_eagerly():
    found = full_data.optimize_full_data(started(execution="eager"), SEED, quiet, np.zeros(1), 2)
    assert len(found.elbos) == 3


def test_divergence_is_told(monkeypatch):
    """Acceleration to nowhere: the status, and finite elbos only."""
    inside = started()
    nowhere = lambda memory: np.full_like(memory.images[-1], np.nan)  # noqa: E731
    monkeypatch.setattr(anderson, "accelerated", nowhere)
    found = full_data.optimize_full_data(inside, SEED, quiet, np.array([-1e3]), 200)
    assert found.status is Status.DIVERGED
    assert np.isfinite(found.elbos).all()


def test_limit_of_passes_is_told():
    found = full_data.optimize_full_data(started(), SEED, quiet, np.zeros(1), 2)
    assert found.status is Status.STEP_LIMIT
    assert len(found.elbos) == 3


# A fit of very many rows from end to end.

LARGE = 21_000
CENTRES = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, -2.0]])


def large_rows(weights=False):
    rng = np.random.default_rng(8)
    label = rng.choice(3, LARGE, p=[0.5, 0.3, 0.2])
    X = CENTRES[label] + rng.normal(size=(LARGE, 2)) * [1.0, 0.6]
    X = X.astype(np.float32)
    return (X, rng.choice([0.0, 1.0, 3.0], LARGE)) if weights else X


def moments_of(posterior):
    """Means and sds of all parameters, components by their first feature: [2, P]."""
    theta = posterior.sample(4_000, seed=1)
    order = match_labels(CENTRES, theta["means"].mean(axis=0))
    parts = [theta["weights"][:, order], theta["means"][:, order], theta["precisions"][:, order]]
    flat = np.concatenate([np.reshape(p, (len(p), -1)).astype(np.float64) for p in parts], axis=1)
    return flat.mean(axis=0), flat.std(axis=0)


@pytest.fixture(scope="module")
def large():
    return bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")


def test_a_large_fit_is_that_of_all_rows_at_once(large):
    """Means within 0.1 sd, of which the noise of 4,000 draws of each is 0.02; sds within 5 %.

    The relative noise of an sd of 4,000 draws is 1.1 %, of two 1.6 %; the largest of 15 is beyond
    5 % once in a hundred. Of draws with weights, somewhat more often: the seed is fixed.
    """
    assert large.status is Status.CONVERGED
    assert (
        large.calibration == approximation.AVERAGED
    )  # 14 parameters, 126,000 numbers: within reach
    whole = bgmm_jd.fit(
        large_rows(), 3, batch_size=LARGE, restarts=1, progress=False, execution="graph"
    )
    assert whole.batch_size == LARGE > large.batch_size
    (mean, sd), (whole_mean, whole_sd) = moments_of(large), moments_of(whole)
    assert np.abs((mean - whole_mean) / whole_sd).max() < 0.1
    assert np.abs(np.log(sd / whole_sd)).max() < 0.05
    # Five standard errors of both, of which one has 5 degrees of freedom: once in 250 or less.
    assert abs(large.elbo - whole.elbo) < 5 * np.hypot(large.elbo_se, whole.elbo_se) + 0.02


def test_an_interrupted_start_is_told_after_all(monkeypatch):
    """Even if it was where the others are: those that should have followed did not begin."""
    module, starts = sys.modules["bgmm_jd.fitting.fit"], []
    whole = module.run

    def second_is_interrupted(*arguments):
        starts.append(whole(*arguments))
        return starts[-1]._replace(status=Status.INTERRUPTED) if len(starts) == 2 else starts[-1]

    monkeypatch.setattr(module, "run", second_is_interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")
    assert posterior.status is Status.INTERRUPTED
    assert len(posterior.restarts) == 2


@pytest.mark.parametrize(("max_steps", "passes_allowed"), [(100, 200), (50_000, 500)])
def test_a_limit_of_steps_is_one_of_passes(monkeypatch, max_steps, passes_allowed):
    def polish(inside, seed, report, started, most):
        raise InterruptedError(most)

    monkeypatch.setattr(full_data, "polish", polish)
    with pytest.raises(InterruptedError, match=f"^{passes_allowed}$"):
        bgmm_jd.fit(large_rows(), 3, restarts=1, max_steps=max_steps, execution="graph")


def test_values_of_a_large_fit_cannot_be_written(large):
    with pytest.raises(ValueError, match="read-only"):
        large.restarts[0].values["means"]["loc"][0] = 9.0


def test_equal_seeds_equal_large_fits(large):
    again = bgmm_jd.fit(large_rows(), 3, progress=False, execution="graph")
    assert again.elbo == large.elbo
    for name, v in large.sample(20, seed=3).items():
        np.testing.assert_array_equal(again.sample(20, seed=3)[name], v)


def test_row_weights_on_a_large_fit():
    """Rows of weight 3 and 0 against their copies, which are other rows in other slices.

    Posteriors are equal: means within 0.1 sd, as above.
    """
    X, weight = large_rows(weights=True)
    X, weight = np.concatenate([X, X]), np.concatenate([weight, weight])
    repeated = np.repeat(X, weight.astype(int), axis=0)
    settings = {"K": 3, "progress": False, "execution": "graph", "calibrate": False}
    found = bgmm_jd.fit(X, sample_weight=weight, **settings)
    assert found.inside.data.shape[0] > 20_000
    copies = bgmm_jd.fit(repeated, **settings)
    for posterior in (found, copies):
        assert posterior.calibration == approximation.MEAN_FIELD
        assert posterior.status in (Status.CONVERGED, Status.KHAT_TOO_HIGH)
    (mean, sd), (other, other_sd) = moments_of(found), moments_of(copies)
    assert np.abs((mean - other) / other_sd).max() < 0.1
    assert np.abs(np.log(sd / other_sd)).max() < 0.05
