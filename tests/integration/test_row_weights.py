"""Row weights: against repeated rows, rows that are left out, and densities written out."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors, problem_for, started, two_groups_of_unlike_scale
from scipy import special, stats

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data import units
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, scale_shape, units_of_rows
from bgmm_jd.model.likelihood import row_log_likelihood
from bgmm_jd.model.weakly_informative_prior import weakly_informative_prior
from bgmm_jd.optimization import single_run, svi
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.posterior.draws import draw_standardized, in_data_units
from bgmm_jd.posterior.prediction import expected_counts
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.log_joint import log_joint, log_prior
from bgmm_jd.variational.natural_gradient import StepSize
from bgmm_jd.variational.structure import model_of

pytestmark = pytest.mark.slow

K, D = 2, 2

every_form = pytest.mark.parametrize("form", FORMS)


X = two_groups_of_unlike_scale()
TIMES = np.random.default_rng(4).integers(0, 4, len(X)).astype(np.float64)
REPEATED = np.repeat(X, TIMES.astype(int), axis=0)
UNEVEN = np.random.default_rng(5).gamma(1.0, size=len(X)) * (TIMES > 0)


def random_theta(form, S=4):
    """Return random parameters in standardised units [S, ...]."""
    rng = np.random.default_rng(6)
    shape = (S, *scale_shape(form, K, D))
    precisions = rng.gamma(3.0, size=shape)
    if form in MATRIX_FORMS:
        lower = np.tril(rng.uniform(-0.5, 0.5, shape), -1) + np.eye(D)
        precisions = lower @ lower.swapaxes(-1, -2)
    theta = {
        "weights": rng.dirichlet(np.full(K, 3.0), size=S),
        "means": rng.normal(size=(S, K, D)),
        "precisions": precisions,
    }
    return {name: tf.constant(value, tf.float64) for name, value in theta.items()}


def standardized(rows, weight=None, form="diag"):
    return standardize(rows, weight, units_of_rows(form))


# --- Weights that are counts ----------------------------------------------------------------------


@every_form
def test_integer_weights_give_the_units_prior_and_density_of_repeated_rows(form):
    found, expected = standardized(X, TIMES, form), standardized(REPEATED, form=form)
    for name in ("shift", "column_scale"):
        mine, other = (getattr(data.standardization, name) for data in (found, expected))
        np.testing.assert_allclose(mine, other, rtol=1e-12)
    np.testing.assert_allclose(found.log_det_jacobian, expected.log_det_jacobian, rtol=1e-12)
    assert found.total_weight == expected.total_weight == len(REPEATED)

    theta = random_theta(form)
    model = model_of(weakly_informative_prior(K, D, form, "float64"), form)
    theta_in_data_units = {
        site.name: units.unstandardize(
            site.transformation, theta[site.name].numpy(), found.standardization
        )
        for site in model.sites
    }
    identity = identity_tensors(D, tf.float64)
    prior_densities, joint_densities = [], []
    for data in (found, expected):
        prior = weakly_informative_prior(K, D, form, "float64", data.standardization)
        prior_densities.append(prior.log_prob(*theta_in_data_units.values()))
        rows = as_row_tensors(data.rows)
        joint_densities.append(log_joint(model.standardized(identity), theta, rows))
    np.testing.assert_allclose(*prior_densities, rtol=1e-11)
    np.testing.assert_allclose(*joint_densities, rtol=1e-11)


INIT = np.array([[20.0, -0.2], [110.0, -0.14]])


@every_form
def test_integer_weights_give_the_start_of_repeated_rows(form):
    starts = [
        started(problem_for(rows, K, form, weight=weight, execution="eager"), INIT).params
        for rows, weight in ((X, TIMES), (REPEATED, None))
    ]
    for mine, other in zip(*map(tf.nest.flatten, starts), strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


@functools.cache
def weighted(finish="auto"):
    return bgmm_jd.fit(X, K, sample_weight=TIMES, init=INIT, finish=finish, progress=False)


def test_integer_weights_give_the_posterior_of_repeated_rows():
    """From one start and with the same random numbers, even draws agree to float tolerance.

    The second fit runs as a graph, which follows the same path and is compiled in half the time.
    """
    options = {"init": INIT, "execution": "graph", "progress": False}
    repeated = bgmm_jd.fit(REPEATED, K, finish="none", **options)
    found = weighted(finish="none")
    assert found.elbo == pytest.approx(repeated.elbo, rel=1e-9)
    assert found.khat == pytest.approx(repeated.khat, abs=1e-6)
    np.testing.assert_allclose(found.elbo_trace, repeated.elbo_trace, rtol=1e-8)
    mine, theirs = found.sample(100, seed=1), repeated.sample(100, seed=1)
    for name, value in mine.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-6)
    counts, same = (
        expected_counts(p, draw_standardized(p, 200, seed=0).theta) for p in (found, repeated)
    )
    np.testing.assert_allclose(counts, same, rtol=1e-6)
    assert counts.sum() == pytest.approx(len(REPEATED), rel=1e-9)


def test_integer_weights_give_the_evidence_of_repeated_rows():
    """To 5 standard errors: whether a mixture is adapted depends on the number of stored rows."""
    repeated = bgmm_jd.fit(REPEATED, K, init=INIT, progress=False)
    found = weighted()
    error = np.hypot(found.log_evidence_se, repeated.log_evidence_se)
    assert error < 0.2
    assert abs(found.log_evidence - repeated.log_evidence) < 5.0 * error


def test_elbo_of_weighted_rows_is_the_expectation_written_out():
    """E[log p(X, theta) - log q], written out in the units of X, to 5 standard errors."""
    found = weighted()
    draws = draw_mean_field(found.problem, found.approximation.params, 400, seed=7)
    theta = in_data_units(found, draws.theta)
    sds = theta["precisions"] ** -0.5
    law = stats.norm(theta["means"][:, np.newaxis], sds[:, np.newaxis])
    joint = np.log(theta["weights"][:, np.newaxis]) + law.logpdf(X[:, np.newaxis]).sum(axis=-1)
    likelihood = special.logsumexp(joint, axis=-1) @ TIMES
    expected = found.prior.log_prob(*theta.values()).numpy() + likelihood
    np.testing.assert_allclose(log_densities(found, draws).log_joint, expected, rtol=1e-9)
    ratio = expected - found.surrogate.log_prob(*theta.values()).numpy()
    error = np.hypot(ratio.std() / np.sqrt(len(ratio)), found.elbo_se)
    assert abs(ratio.mean() - found.elbo) < 5 * error
    # The noisy estimates of the steps have 8 draws each, of nearly the same surrogate.
    last = found.elbo_trace[-80:]
    assert abs(last.mean() - found.elbo) < 5 * np.hypot(last.std() / np.sqrt(80), error) + 0.1


def test_shift_and_scale_of_weighted_rows_shift_and_scale_the_posterior():
    """The elbo falls by the log Jacobian of one row times the sum of the weights."""
    shift, factor = np.array([-7.0, 5.0]), np.array([1000.0, 0.2])
    moved = bgmm_jd.fit(
        shift + factor * X,
        K,
        sample_weight=TIMES,
        init=shift + factor * INIT,
        progress=False,
    )
    jacobian = TIMES.sum() * np.log(factor).sum()
    assert moved.elbo == pytest.approx(weighted().elbo - jacobian, abs=1e-6)
    mine, theirs = weighted().sample(50, seed=1), moved.sample(50, seed=1)
    np.testing.assert_allclose(theirs["means"], shift + factor * mine["means"], rtol=1e-6)


# --- Weights of zero and of one -------------------------------------------------------------------

QUICK = {
    "max_steps": 40,
    "restarts": 1,
    "calibrate": False,
    "execution": "graph",
    "progress": False,
}


def quick_fit(rows, weight):
    """Fit with two blocks of steps, enough to show whether two fits are the same."""
    with pytest.warns(RuntimeWarning, match="step limit"):
        return bgmm_jd.fit(rows, K, sample_weight=weight, **QUICK)


def assert_equal(mine, other):
    assert mine.elbo == other.elbo
    np.testing.assert_array_equal(mine.elbo_trace, other.elbo_trace)
    for name, value in mine.sample(5).items():
        np.testing.assert_array_equal(value, other.sample(5)[name])


@pytest.mark.parametrize("kind", ["any", "zero or one"])
def test_rows_of_weight_zero_leave_a_fit_unchanged_to_the_last_bit(kind):
    if kind == "any":
        weight = UNEVEN
        rest = weight[weight > 0]
    else:
        weight = (UNEVEN > 0).astype(np.float64)
        rest = None
    poisoned = np.where((weight > 0)[:, np.newaxis], X, -1e9)
    assert_equal(quick_fit(poisoned, weight), quick_fit(X[weight > 0], rest))


def test_weights_of_one_leave_a_fit_unchanged_to_the_last_bit():
    rows = X[UNEVEN > 0]
    assert_equal(quick_fit(rows, np.ones(len(rows))), quick_fit(rows, None))


# --- Any weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@every_form
def test_log_joint_density_raises_each_row_to_the_power_of_its_weight(form, dtype):
    """log joint = log prior + sum_n w[n] log p(x_n)."""
    eps = np.finfo(dtype.as_numpy_dtype).eps
    data = standardized(X.astype(dtype.as_numpy_dtype), UNEVEN, form)
    identity = identity_tensors(D, dtype)
    prior = weakly_informative_prior(K, D, form, dtype.as_numpy_dtype)
    model = model_of(prior, form).standardized(identity)
    theta = {name: tf.cast(v, dtype) for name, v in random_theta(form).items()}
    rows = as_row_tensors(data.rows)
    by_row = row_log_likelihood(theta, rows, form).numpy().astype(np.float64)
    weighted_sum = by_row @ UNEVEN[UNEVEN > 0]
    found = log_joint(model, theta, rows)
    assert found.dtype == dtype
    # A sum of 70 numbers, most of which have the same sign.
    np.testing.assert_allclose(found, log_prior(model, theta) + weighted_sum, rtol=70 * eps)
    twice = rows._replace(weight=2 * rows.weight)
    more = log_joint(model, theta, twice, accumulate=tf.float64) - log_joint(
        model, theta, rows, accumulate=tf.float64
    )
    np.testing.assert_allclose(more, weighted_sum, rtol=70 * eps)


def test_mean_loss_of_batches_of_weighted_rows_is_that_of_all_rows():
    """At fixed parameters, within five standard errors: a false alarm once in two million runs.

    There are 71 rows, in batches of 24 and 23.
    """
    problem = problem_for(X, K, weight=UNEVEN, execution="graph")
    params = started(problem).params
    N = problem.data.shape[0]
    still = StepSize(rate=0.0, longest_loc=3.0, longest_log=0.3)
    means = []
    for batch_size in (N, 24):
        schedule = svi.Schedule(equal_batches(N, batch_size), 4, 6, "float64", "graph")
        assert schedule.batches.count in (1, 3)
        program = svi.program(problem.model, schedule)
        losses = np.concatenate(
            [
                program.run(
                    as_row_tensors(problem.data.rows),
                    problem.prior_standardization,
                    params,
                    stateless_seed(5),
                    first,
                    still,
                ).losses
                for first in range(0, 240, 6)
            ]
        )
        # Three steps are whole epochs, which read each row equally often.
        means.append(losses.reshape(-1, 3).mean(axis=1))
    error = np.hypot(*(m.std(ddof=1) / len(m) ** 0.5 for m in means))
    # The losses with and without weights differ by far more, so that the test can see the weights.
    model, rows = problem.standardized_model, as_row_tensors(problem.data.rows)
    theta = draw_mean_field(problem, params, 50, seed=0).theta
    apart = log_joint(model, theta, rows) - log_joint(model, theta, rows._replace(weight=None))
    assert np.abs(apart.numpy().mean()) > 10 * error
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


def test_steps_with_weights_of_three_are_those_of_rows_repeated_three_times():
    heavy = problem_for(X, K, weight=np.full(len(X), 3.0), execution="eager")
    repeated = problem_for(np.repeat(X, 3, axis=0), K, execution="eager")
    plan = single_run.schedule_for(heavy, equal_batches(len(X), len(X)))
    assert plan.draws == single_run.schedule_for(repeated, equal_batches(len(X), len(X))).draws
    for blocks in (0, 5, 50):
        assert single_run.step_size(heavy, plan, blocks) == single_run.step_size(
            repeated, plan, blocks
        )


def test_more_components_or_batch_rows_than_rows_of_positive_weight_are_refused():
    weight = np.zeros(len(X))
    weight[[3, 8]] = [0.5, 7.0]
    with pytest.raises(ValueError, match="at least K=3 rows of positive weight; got 2"):
        bgmm_jd.fit(X, 3, sample_weight=weight)
    with pytest.raises(ValueError, match="batch_size must be from 1 to 2; got 3"):
        bgmm_jd.fit(X, 2, sample_weight=weight, batch_size=3)


def test_weights_of_a_million_leave_a_float32_fit_as_accurate():
    """300 million rows in all: each sd is that of the float64 fit.

    With 2,000 draws each, log sds differ by more than 0.08 = 3.5 sqrt(2 / (2 * 2000)) once in some
    2,000 comparisons, of which there are six.
    """
    rng = np.random.default_rng(0)
    label = rng.choice(2, 300)
    rows = rng.normal(size=(300, 2)) + np.where(label, 4.0, 0.0)[:, np.newaxis]
    rows = rows.astype(np.float32)
    fits = [
        bgmm_jd.fit(rows.astype(dtype), 2, sample_weight=np.full(300, 1e6), progress=False)
        for dtype in (np.float32, np.float64)
    ]
    assert all(posterior.status is bgmm_jd.Status.CONVERGED for posterior in fits)
    assert all(posterior.khat < 0.5 for posterior in fits)
    sds = [
        np.concatenate([np.std(draws[name], axis=0).ravel() for name in ("weights", "means")])
        for draws in (posterior.sample(2_000, seed=i) for i, posterior in enumerate(fits))
    ]
    assert np.abs(np.log(sds[0] / sds[1])).max() < 0.08
