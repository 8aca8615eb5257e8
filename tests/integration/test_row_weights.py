"""Row weights: the power of each row's likelihood, against rows that repeat and rows left out."""

import functools

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from scipy import special, stats

import bgmm_jd
from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.data import units
from bgmm_jd.data.minibatches import equal_batches
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.validation import as_weights
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model import priors
from bgmm_jd.model.covariance_forms import scale_shape
from bgmm_jd.optimization import initialization, single_run, svi
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.posterior.posterior import draw_standardized, in_data_units
from bgmm_jd.posterior.prediction import expected_counts
from bgmm_jd.variational import approximation, natural_gradient, structure
from bgmm_jd.variational import log_joint as log_joint_module

pytestmark = pytest.mark.slow

FORMS = ("diag", "full", "tied", "spherical")
K, D = 2, 2

every_form = pytest.mark.parametrize("form", FORMS)


def two_groups(N=90, seed=3):
    """Two clusters, far from zero, of columns of unlike scale."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((N, D)) @ [[1.0, 0.5], [0.0, 0.8]]
    rows += np.where(rng.random((N, 1)) < 0.4, [6.0, 2.0], [-3.0, 0.0])
    return np.array([50.0, -0.2]) + np.array([10.0, 0.03]) * rows


X = two_groups()
TIMES = np.random.default_rng(4).integers(0, 4, len(X)).astype(np.float64)
SINGLE, DOUBLE = np.dtype("float32"), np.dtype("float64")
REPEATED = np.repeat(X, TIMES.astype(int), axis=0)
UNEVEN = np.random.default_rng(5).gamma(1.0, size=len(X)) * (TIMES > 0)


def draws_of(form, S=4):
    """Parameters in internal units [S, ...]."""
    rng = np.random.default_rng(6)
    shape = (S, *scale_shape(form, K, D))
    precisions = rng.gamma(3.0, size=shape)
    if form in ("full", "tied"):
        lower = np.tril(rng.uniform(-0.5, 0.5, shape), -1) + np.eye(D)
        precisions = lower @ lower.swapaxes(-1, -2)
    theta = {
        "weights": rng.dirichlet(np.full(K, 3.0), size=S),
        "means": rng.normal(size=(S, K, D)),
        "precisions": precisions,
    }
    return {name: tf.constant(value, tf.float64) for name, value in theta.items()}


def data_of(rows, weight=None, form="diag"):
    return standardize(rows, weight, common=form == "spherical")


# --- Weights that are counts ----------------------------------------------------------------------


@every_form
def test_integer_weights_are_rows_that_repeat(form):
    """The same units, the same default prior in them, and the same density of all rows."""
    found, expected = data_of(X, TIMES, form), data_of(REPEATED, form=form)
    np.testing.assert_allclose(found.units.shift, expected.units.shift, rtol=1e-12)
    np.testing.assert_allclose(found.units.scale, expected.units.scale, rtol=1e-12)
    np.testing.assert_allclose(found.log_det_jacobian, expected.log_det_jacobian, rtol=1e-12)
    assert found.total == expected.total == len(REPEATED)

    theta = draws_of(form)
    user = {
        site.name: units.unstandardize(site.unit, theta[site.name].numpy(), found.units)
        for site in structure.model_of(priors.default_prior(K, D, form, "float64"), form).sites
    }
    densities, joints = [], []
    for data in (found, expected):
        density = priors.default_prior(K, D, form, "float64", data.standardization)
        densities.append(density.log_prob(*user.values()))
        model = structure.model_of(priors.default_prior(K, D, form, "float64"), form)
        here = units.as_standardization_tensors(units.identity_standardization(D), tf.float64)
        joints.append(log_joint_module.log_joint(model, theta, here, as_row_tensors(data.rows)))
    np.testing.assert_allclose(*densities, rtol=1e-11)
    np.testing.assert_allclose(*joints, rtol=1e-11)


INIT = np.array([[20.0, -0.2], [110.0, -0.14]])


def test_integer_weights_give_the_start_of_rows_that_repeat():
    for form in FORMS:
        starts = []
        for data in (data_of(X, TIMES, form), data_of(REPEATED, form=form)):
            inside = start_at(problem_of(data, K, form, None, "eager"), INIT, 1, [0, 0])
            starts.append(tf.nest.flatten(inside.values))
        for mine, other in zip(*starts, strict=True):
            np.testing.assert_allclose(mine, other, rtol=1e-10, atol=1e-12)


@functools.cache
def weighted():
    return bgmm_jd.fit(X, K, sample_weight=TIMES, init=INIT, progress=False)


def test_integer_weights_give_the_posterior_of_rows_that_repeat():
    """From one start, with the same random numbers: to float tolerance, all the way to the draws.

    As a graph, which is ready in half the time and goes the same way.
    """
    repeated = bgmm_jd.fit(REPEATED, K, init=INIT, execution="graph", progress=False)
    found = weighted()
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


def test_the_elbo_is_that_of_the_weighted_rows():
    """E[log p(X, theta) - log q], written out in the user's units, to 5 standard errors."""
    found = weighted()
    draws = approximation.draw_mean_field(found.inside, 400, 7)
    theta = in_data_units(found, draws.theta)
    sds = theta["precisions"] ** -0.5
    law = stats.norm(theta["means"][:, np.newaxis], sds[:, np.newaxis])
    joint = np.log(theta["weights"][:, np.newaxis]) + law.logpdf(X[:, np.newaxis]).sum(axis=-1)
    likelihood = special.logsumexp(joint, axis=-1) @ TIMES
    log_joint = found.prior.log_prob(*theta.values()).numpy() + likelihood
    np.testing.assert_allclose(log_densities(found, draws).log_joint, log_joint, rtol=1e-9)
    ratio = log_joint - found.surrogate.log_prob(*theta.values()).numpy()
    error = np.hypot(ratio.std() / np.sqrt(len(ratio)), found.elbo_se)
    assert abs(ratio.mean() - found.elbo) < 5 * error
    # The steps' own estimates, of 8 draws each, of nearly the same surrogate.
    last = found.elbo_trace[-80:]
    assert abs(last.mean() - found.elbo) < 5 * np.hypot(last.std() / np.sqrt(80), error) + 0.1


def test_shift_and_scale_of_weighted_rows():
    """The elbo loses the volume of as many rows as the weights are worth."""
    shift, factor = np.array([-7.0, 5.0]), np.array([1000.0, 0.2])
    moved = bgmm_jd.fit(
        shift + factor * X,
        K,
        sample_weight=TIMES,
        init=shift + factor * INIT,
        progress=False,
    )
    volume = TIMES.sum() * np.log(factor).sum()
    assert moved.elbo == pytest.approx(weighted().elbo - volume, abs=1e-6)
    mine, theirs = weighted().sample(50, seed=1), moved.sample(50, seed=1)
    np.testing.assert_allclose(theirs["means"], shift + factor * mine["means"], rtol=1e-6)


# --- Weights of zero and of one -------------------------------------------------------------------


@every_form
def test_rows_of_weight_zero_are_left_out(form):
    """To the last bit, whatever they hold."""
    poisoned = np.where((UNEVEN > 0)[:, np.newaxis], X, 1e9)
    found = data_of(poisoned, UNEVEN, form)
    expected = data_of(X[UNEVEN > 0], UNEVEN[UNEVEN > 0], form)
    np.testing.assert_array_equal(found.rows.values, expected.rows.values)
    np.testing.assert_array_equal(found.rows.weight, expected.rows.weight)
    np.testing.assert_array_equal(found.units, expected.units)


QUICK = {
    "max_steps": 40,
    "restarts": 1,
    "calibrate": False,
    "execution": "graph",
    "progress": False,
}


def quick_fit(rows, weight):
    """Of two blocks, whose steps say whether two fits are the same."""
    with pytest.warns(RuntimeWarning, match="step limit"):
        return bgmm_jd.fit(rows, K, sample_weight=weight, **QUICK)


def assert_equal(mine, other):
    assert mine.elbo == other.elbo
    np.testing.assert_array_equal(mine.elbo_trace, other.elbo_trace)
    for name, value in mine.sample(5).items():
        np.testing.assert_array_equal(value, other.sample(5)[name])


@pytest.mark.parametrize("kind", ["any", "zero or one"])
def test_a_fit_is_that_of_the_rows_that_count(kind):
    """The same seed, the same elbo: to the last bit."""
    if kind == "any":
        weight = UNEVEN
        rest = weight[weight > 0]
    else:
        weight = (UNEVEN > 0).astype(np.float64)
        rest = None
    poisoned = np.where((weight > 0)[:, np.newaxis], X, -1e9)
    assert_equal(quick_fit(poisoned, weight), quick_fit(X[weight > 0], rest))


def test_weights_of_one_are_none():
    rows = X[UNEVEN > 0]
    assert_equal(quick_fit(rows, np.ones(len(rows))), quick_fit(rows, None))


@pytest.mark.parametrize("kind", [list, tuple, pd.Series, np.float32])
def test_weights_of_any_kind(kind):
    found = as_weights(kind(TIMES), len(X), DOUBLE)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, TIMES)


def test_a_weight_that_is_zero_in_the_dtype_leaves_its_row_out():
    weight = np.where(UNEVEN > 0, UNEVEN, 1e-60)
    np.testing.assert_array_equal(as_weights(weight, len(X), SINGLE), UNEVEN)
    np.testing.assert_array_equal(as_weights(weight, len(X), DOUBLE), weight)
    with pytest.raises(ValueError, match="all are zero in float32"):
        as_weights(np.full(len(X), 1e-60), len(X), SINGLE)


def test_a_series_goes_by_position():
    """Whatever its index says: rows have none."""
    series = pd.Series(TIMES, index=np.arange(len(TIMES))[::-1])
    np.testing.assert_array_equal(as_weights(series, len(X), DOUBLE), TIMES)


# --- Any weights ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
@every_form
def test_each_row_has_the_power_of_its_weight(form, dtype):
    """log joint = log prior + sum_n w[n] log p(x_n)."""
    data = data_of(X.astype(dtype.as_numpy_dtype), UNEVEN, form)
    model = structure.model_of(priors.default_prior(K, D, form, dtype.as_numpy_dtype), form)
    here = units.as_standardization_tensors(units.identity_standardization(D), dtype)
    theta = {name: tf.cast(v, dtype) for name, v in draws_of(form).items()}
    rows = as_row_tensors(data.rows)
    by_row = likelihood_module.row_log_likelihood(theta, rows, form).numpy().astype(np.float64)
    expected = log_joint_module.log_prior(model, theta, here) + by_row @ UNEVEN[UNEVEN > 0]
    found = log_joint_module.log_joint(model, theta, here, rows)
    assert found.dtype == dtype
    # A sum of 70 numbers, of one sign for the most part.
    np.testing.assert_allclose(found, expected, rtol=70 * np.finfo(dtype.as_numpy_dtype).eps)
    twice = rows._replace(weight=2 * rows.weight)
    more = log_joint_module.log_joint(model, theta, here, twice, accumulate=tf.float64) - tf.cast(
        log_joint_module.log_joint(model, theta, here, rows, accumulate=tf.float64), tf.float64
    )
    eps = np.finfo(dtype.as_numpy_dtype).eps
    np.testing.assert_allclose(more, by_row @ UNEVEN[UNEVEN > 0], rtol=70 * eps)


def test_batches_of_weighted_rows_are_unbiased():
    """At fixed parameters the mean loss of batches is that of all rows, within its own noise.

    Five standard errors: a false alarm once in two million runs. 71 rows in batches of 24 and 23.
    """
    data = data_of(X, UNEVEN)
    N = data.shape[0]
    inside = start_at(problem_of(data, K, "diag", None, "graph"), None, 1, [0, 0])
    still = natural_gradient.StepSize(rate=0.0, longest_loc=3.0, longest_log=0.3)
    means = []
    for batch_size in (N, 24):
        schedule = svi.Schedule(equal_batches(N, batch_size), 4, 6, "float64", "graph")
        assert schedule.batches.count in (1, 3)
        program = svi.program(inside.model, schedule)
        losses = np.concatenate(
            [
                program.run(
                    as_row_tensors(data.rows),
                    inside.prior_units,
                    inside.values,
                    stateless_seed(5),
                    first,
                    still,
                ).losses
                for first in range(0, 240, 6)
            ]
        )
        # Whole epochs of three batches: their rows are all rows.
        means.append(losses.reshape(-1, 3).mean(axis=1))
    error = np.hypot(*(m.std(ddof=1) / len(m) ** 0.5 for m in means))
    # Without the weights the loss would be another: the test can see them.
    unweighted = as_row_tensors(data.rows)._replace(weight=None)
    model, here = inside.model, inside.standardization
    theta = approximation.draw_mean_field(inside, 50, 0).theta
    apart = log_joint_module.log_joint(model, theta, here, as_row_tensors(data.rows))
    apart -= log_joint_module.log_joint(model, theta, here, unweighted)
    assert np.abs(apart.numpy().mean()) > 10 * error
    assert abs(means[0].mean() - means[1].mean()) < 5 * error


def test_steps_are_as_long_as_the_weights_are_worth():
    """Weights of 3 are rows that come three times, for the longest step too."""
    heavy = problem_of(data_of(X, np.full(len(X), 3.0)), K, "diag", None, "eager")
    repeated = problem_of(data_of(np.repeat(X, 3, axis=0)), K, "diag", None, "eager")
    plan = single_run.schedule(heavy, equal_batches(len(X), len(X)))
    assert plan.draws == single_run.schedule(repeated, equal_batches(len(X), len(X))).draws
    for blocks in (0, 5, 50):
        assert single_run.step_size(heavy, plan, blocks) == single_run.step_size(
            repeated, plan, blocks
        )


def test_a_start_counts_by_weight():
    """Each cluster's count is its weight, its mean and variance the weighted ones."""
    weight = 0.5 + UNEVEN
    data = data_of(X, weight)
    centres = (INIT - data.standardization.shift) / data.standardization.scale
    found = initialization.cluster_rows(data.rows, K, np.random.default_rng(0), centres)
    label = X[:, 0] > 65.0
    for k, member in enumerate((~label, label)):
        rows, share = data.rows.values[member], weight[member]
        mean = np.average(rows, axis=0, weights=share)
        assert found.count[k] == pytest.approx(share.sum(), rel=1e-12)
        np.testing.assert_allclose(found.mean[k], mean, rtol=1e-11, atol=1e-12)
        expected = np.cov(rows.T, aweights=share, bias=True)
        np.testing.assert_allclose(found.covariance[k], expected, rtol=1e-10, atol=1e-12)


def test_no_seeding_begins_with_a_row_of_no_weight():
    """k-means++ draws its seeds by weight: a far row worth next to nothing is none of them."""
    rows = np.concatenate([X, [[1e4, 10.0]]])
    weight = np.append(np.ones(len(X)), 1e-12)
    data = data_of(rows, weight)
    far = data.rows.values[-1]
    for seed in range(20):
        found = initialization.cluster_rows(data.rows, K, np.random.default_rng(seed))
        assert np.abs(found.mean - far).max(axis=1).min() > 1.0


def test_more_components_than_rows_that_count():
    weight = np.zeros(len(X))
    weight[[3, 8]] = [0.5, 7.0]
    with pytest.raises(ValueError, match="at least K=3 rows of positive weight; got 2"):
        bgmm_jd.fit(X, 3, sample_weight=weight)
    with pytest.raises(ValueError, match="batch_size must be from 1 to 2; got 3"):
        bgmm_jd.fit(X, 2, sample_weight=weight, batch_size=3)
