"""Missing entries: the likelihood and all that follows, against the observed part written out."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

import bgmm_jd
from bgmm_jd.data import units
from bgmm_jd.data.rows import as_row_tensors, gather_rows, observed_mask
from bgmm_jd.data.standardize import as_standardized_rows, row_log_det_jacobian, standardize
from bgmm_jd.fitting.search import problem_of, start_at
from bgmm_jd.model import covariances as covariances_module
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model import priors
from bgmm_jd.model.covariance_forms import scale_shape
from bgmm_jd.optimization import initialization
from bgmm_jd.posterior import densities, posterior
from bgmm_jd.posterior.densities import log_densities
from bgmm_jd.posterior.posterior import in_data_units
from bgmm_jd.variational import approximation, log_joint, structure

pytestmark = pytest.mark.slow

FORMS = ("diag", "full", "tied", "spherical")
MATRICES = ("full", "tied")
K, D = 2, 3

every_form = pytest.mark.parametrize("form", FORMS)
either_spread = pytest.mark.parametrize("name", ["precisions", "scales"])

PATTERNS = np.array(list(itertools.product([True, False], repeat=D)))  # all 8, all and none


def drawn(form, name, draws, seed=0):
    """Parameters [S, ...], and the covariance matrices [S, K, D, D] they mean."""
    rng = np.random.default_rng(seed)
    shape = (draws, *scale_shape(form, K, D))
    theta = {
        "weights": rng.dirichlet(np.full(K, 3.0), size=draws),
        "means": rng.normal(0, 2, (draws, K, D)),
    }
    if form in MATRICES:
        lower = np.tril(rng.uniform(-0.7, 0.7, shape), -1)
        lower = lower + np.exp(rng.uniform(-0.5, 0.5, shape)) * np.eye(D)
        found = lower @ lower.swapaxes(-1, -2)
        inverse = np.linalg.inv(found)
        theta[name] = lower if name == "scales" else (inverse + inverse.swapaxes(-1, -2)) / 2
        found = found if form == "full" else found[:, np.newaxis]
    else:
        sd = rng.gamma(3.0, 0.5, shape)
        theta[name] = sd if name == "scales" else sd**-2
        found = (sd**2)[..., np.newaxis] * np.eye(D)
    return theta, np.broadcast_to(found, (draws, K, D, D))


def by_hand(theta, covariances, values):
    """Log densities of the observed part of each row with each label, by scipy: [S, K, N]."""
    found = np.empty((*theta["means"].shape[:2], len(values)))
    for s, k, n in np.ndindex(found.shape):
        there = ~np.isnan(values[n])
        found[s, k, n] = np.log(theta["weights"][s, k])
        if there.any():
            part = covariances[s, k][np.ix_(there, there)]
            sd = np.sqrt(np.diag(part))  # columns of unlike scale look singular to scipy
            law = stats.multivariate_normal(cov=part / np.outer(sd, sd))
            z = (values[n] - theta["means"][s, k])[there] / sd
            found[s, k, n] += law.logpdf(z) - np.log(sd).sum()
    return found


def tensors(theta, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in theta.items()}


def rows_of(values):
    """Rows in units in which nothing changes."""
    return as_row_tensors(as_standardized_rows(values, units.identity_standardization(D)))


@pytest.fixture(scope="module")
def values():
    """Two rows of each pattern, in float64."""
    values = np.random.default_rng(9).normal(0, 2, (2 * len(PATTERNS), D))
    return np.where(np.tile(PATTERNS, (2, 1)), values, np.nan)


# --- The likelihood -----------------------------------------------------------------------------


@either_spread
@every_form
def test_the_likelihood_is_that_of_the_observed_part(values, form, name):
    """Every pattern of three features."""
    theta, covariances = drawn(form, name, 3)
    expected = by_hand(theta, covariances, values)
    found = likelihood_module.log_joint_label(tensors(theta), rows_of(values), form)
    # A matrix with a condition number of some dozens is inverted, a few eps of some 10 nats.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    likelihood = likelihood_module.row_log_likelihood(tensors(theta), rows_of(values), form)
    np.testing.assert_allclose(likelihood, special.logsumexp(expected, 1), rtol=1e-10, atol=1e-11)
    labels = likelihood_module.responsibilities(tensors(theta), rows_of(values), form)
    np.testing.assert_allclose(labels, special.softmax(expected, 1), rtol=1e-9)
    nothing = np.isnan(values).all(axis=1)
    assert nothing.sum() == 2
    np.testing.assert_allclose(likelihood.numpy()[:, nothing], 0, atol=1e-15)


@either_spread
@every_form
def test_rows_that_are_whole_are_what_they_are_without_others(values, form, name):
    """Whole rows take another way where no row has a missing entry."""
    theta, _ = drawn(form, name, 3, seed=1)
    whole = ~np.isnan(values).any(axis=1)
    assert whole.sum() == 2
    found = likelihood_module.row_log_likelihood(tensors(theta), rows_of(values), form).numpy()[
        :, whole
    ]
    alone = rows_of(values[whole])
    assert alone.missing is None
    expected = likelihood_module.row_log_likelihood(tensors(theta), alone, form)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


@either_spread
@every_form
def test_float32_keeps_its_digits(values, form, name):
    """Against float64 at the very numbers that float32 holds.

    An inverse loses the condition number, and the density is a sum over D features, twice.
    """
    theta, covariances = drawn(form, name, 3, seed=2)
    narrow = {variable: value.astype(np.float32) for variable, value in theta.items()}
    few = values.astype(np.float32)
    found = likelihood_module.row_log_likelihood(tensors(narrow, tf.float32), rows_of(few), form)
    assert found.dtype == tf.float32
    wide = {variable: value.astype(np.float64) for variable, value in narrow.items()}
    expected = likelihood_module.row_log_likelihood(
        tensors(wide), rows_of(few.astype(np.float64)), form
    )
    condition = np.linalg.cond(covariances).max()
    tolerance = 2 * D * condition * np.finfo(np.float32).eps
    # The label with the larger density decides, whose nats are the row's.
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@every_form
def test_gradients_are_those_of_the_observed_part(values, form):
    """By differences along a random line; rows without any entry have none, and no NaN."""
    for name in ("precisions", "scales"):
        start, _ = drawn(form, name, 1, seed=3)
        rng = np.random.default_rng(0)
        step = {variable: rng.normal(size=value.shape) for variable, value in start.items()}
        if form in MATRICES:
            matrix = step[name]
            symmetric = (matrix + matrix.swapaxes(-1, -2)) / 2
            step[name] = np.tril(matrix) if name == "scales" else symmetric

        def total(h, start=start, step=step):
            theta = tensors({v: start[v] + h * step[v] for v in start})
            return tf.reduce_sum(likelihood_module.row_log_likelihood(theta, rows_of(values), form))

        h = tf.Variable(0.0, dtype=tf.float64)
        with tf.GradientTape() as tape:
            theta = {v: tf.constant(start[v]) + h * step[v] for v in start}
            found = tf.reduce_sum(
                likelihood_module.row_log_likelihood(theta, rows_of(values), form)
            )
        slope = tape.gradient(found, h).numpy()
        small = 1e-5
        expected = (total(small) - total(-small)).numpy() / (2 * small)
        # The third derivative times h^2, and eps over h: both below 1e-8 of some 100 nats.
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_any_of_the_rows_keep_their_patterns(values):
    theta, _ = drawn("full", "precisions", 2, seed=4)
    rows, chosen = rows_of(values), [13, 2, 2, 7]
    whole = likelihood_module.row_log_likelihood(tensors(theta), rows, "full").numpy()
    found = likelihood_module.row_log_likelihood(tensors(theta), gather_rows(rows, chosen), "full")
    np.testing.assert_allclose(found, whole[:, chosen], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(observed_mask(rows), ~np.isnan(values))


@pytest.mark.parametrize("form", MATRICES)
def test_a_batch_takes_no_more_matrices_than_it_has_rows(form):
    """Nearly every row may have a pattern of its own, of which a batch needs but a few."""
    rng = np.random.default_rng(5)
    values = rng.normal(size=(400, 10))
    values[rng.random(values.shape) < 0.3] = np.nan
    rows = as_row_tensors(as_standardized_rows(values, units.identity_standardization(10)))
    assert len(rows.missing.observed) > 100
    shape = scale_shape(form, K, 10)
    theta = {
        "weights": tf.fill([1, K], tf.constant(1 / K, tf.float64)),
        "means": tf.zeros([1, K, 10], tf.float64),
        "precisions": tf.eye(10, batch_shape=(1, *shape[:-2]), dtype=tf.float64),
    }

    @functools.partial(tf.function, autograph=False)
    def likelihood():
        return likelihood_module.row_log_likelihood(theta, gather_rows(rows, tf.range(5)), form)

    graph = likelihood.get_concrete_function().graph
    sizes = [
        np.prod(operation.outputs[0].shape[:-2].as_list())
        for operation in graph.get_operations()
        if operation.type == "Cholesky"
    ]
    assert 0 < max(sizes) <= 5 * K


# --- Rows with nothing in them, and the start ----------------------------------------------------

EMPTY = np.full((1, D), np.nan)


def clusters_of_rows(seed=6, share=0.2):
    """Two clusters of 60 rows, 6 sds apart, with entries missing at random, in no row all."""
    rng = np.random.default_rng(seed)
    lower = np.array([[1.0, 0, 0], [0.5, 0.8, 0], [-0.3, 0.2, 0.6]])
    centres = np.repeat([[-3.0, 0.0, 1.0], [3.0, 1.0, -1.0]], 60, axis=0)
    rows = centres + rng.standard_normal((120, D)) @ lower.T
    gone = rng.random(rows.shape) < share
    gone[gone.all(axis=1), 0] = False
    return np.where(gone, np.nan, rows)


@every_form
def test_an_empty_row_adds_nothing_to_the_density(form):
    X = clusters_of_rows()
    model = structure.model_of(priors.default_prior(K, D, form, "float64"), form)
    theta, _ = drawn(form, "precisions", 4, seed=7)
    here = units.as_standardization_tensors(units.identity_standardization(D), tf.float64)
    found = []
    for values in (X, np.concatenate([X[:30], EMPTY, X[30:], EMPTY])):
        data = standardize(values, common=form == "spherical")
        density = log_joint.log_joint(model, tensors(theta), here, as_row_tensors(data.rows))
        found.append((density.numpy(), data.log_det_jacobian, *data.standardization))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-13)


@pytest.mark.parametrize("init", [None, [[-3.0, 0.0, 1.0], [3.0, 1.0, -1.0]]], ids=["free", "init"])
@every_form
def test_an_empty_row_changes_no_start(form, init):
    X = clusters_of_rows()
    starts = []
    for values in (X, np.concatenate([X, EMPTY])):
        inside = problem_of(standardize(values, common=form == "spherical"), K, form, None, "eager")
        means = None if init is None else np.array(init)
        starts.append(tf.nest.flatten(start_at(inside, means, 1, [0, 0]).values))
    for mine, other in zip(*starts, strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-12)


def test_the_start_has_the_moments_of_what_is_observed():
    """Clusters so far apart that any entry tells the one from the other."""
    centres = np.array([[-20.0] * D, [20.0] * D])
    X = clusters_of_rows() + np.repeat(centres, 60, axis=0)
    found = initialization.cluster_rows(
        as_standardized_rows(X, units.identity_standardization(D)),
        K,
        np.random.default_rng(0),
        centres,
    )
    np.testing.assert_array_equal(found.count, [60, 60])
    for k, rows in enumerate((X[:60], X[60:])):
        np.testing.assert_allclose(found.mean[k], np.nanmean(rows, axis=0), rtol=1e-12)
        variances = np.diag(found.covariance[k])
        np.testing.assert_allclose(variances, np.nanvar(rows, axis=0), rtol=1e-12)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_the_start_is_a_covariance_however_little_is_there(share):
    """Two rows at most have both of a pair of entries."""
    rng = np.random.default_rng(8)
    values = 1.0 + rng.normal(size=(8, 6))
    values[rng.random(values.shape) < share] = np.nan
    rows = as_standardized_rows(values, units.identity_standardization(6))
    for form in FORMS:
        clusters = initialization.cluster_rows(rows, K, np.random.default_rng(0))
        for mean, sd in initialization.moments_from_clusters(clusters, form).values():
            assert np.isfinite(mean).all()
            assert np.all(sd >= 0)
        matrices = initialization.moments_from_clusters(clusters, "full")["precisions"][0]
        assert np.linalg.eigvalsh(matrices).min() > 0


# --- A fit --------------------------------------------------------------------------------------

X = np.concatenate([clusters_of_rows(), EMPTY])
SHIFT, FACTOR = np.array([5000.0, -2.0, 10.0]), np.array([1000.0, 0.03, 2.0])
ELSEWHERE = SHIFT + FACTOR * X
TRUTH = np.repeat([0, 1], 60)


@functools.cache
def fitted(elsewhere=False):
    rows = ELSEWHERE if elsewhere else X
    return bgmm_jd.fit(
        rows, K, covariance="full", missing="marginalize", restarts=1, progress=False
    )


def test_a_fit_finds_the_clusters():
    found = fitted()
    assert found.status is bgmm_jd.Status.CONVERGED
    assert found.missing == "marginalize"
    labels = bgmm_jd.predict(found, X)[:-1]
    # An error where only features are observed by which the clusters overlap.
    assert np.mean(labels == TRUTH) > 0.95
    first = ~np.isnan(X[:-1, 0])
    np.testing.assert_array_equal(labels[first], TRUTH[first])


def test_shift_and_scale_of_the_rows():
    """Under the default prior, which moves with them: the same seed, to float tolerance.

    The density loses the volume of the entries that are there.
    """
    here, elsewhere = fitted(), fitted(True)
    volume = (~np.isnan(X)).sum(axis=0) @ np.log(FACTOR)
    assert elsewhere.elbo == pytest.approx(here.elbo - volume, abs=1e-7)
    np.testing.assert_allclose(elsewhere.elbo_trace, here.elbo_trace - volume, rtol=1e-8)
    mine, theirs = here.sample(50, seed=1), elsewhere.sample(50, seed=1)
    np.testing.assert_allclose(theirs["weights"], mine["weights"], rtol=1e-6)
    np.testing.assert_allclose(theirs["means"], SHIFT + FACTOR * mine["means"], rtol=1e-6)
    scaled = mine["precisions"] / np.outer(FACTOR, FACTOR)
    size = np.sqrt(np.diagonal(scaled, axis1=-2, axis2=-1))
    size = size[..., np.newaxis] * size[..., np.newaxis, :]
    np.testing.assert_allclose(theirs["precisions"] / size, scaled / size, atol=1e-6)


def log_joint_label(found, theta, rows):
    return by_hand(theta, covariances_module.component_covariances(theta, found.covariance), rows)


def test_densities_of_draws_are_those_written_out():
    """In units far from those inside."""
    found = fitted(True)
    draws = approximation.draw_mean_field(found.inside, 3, 3)
    theta = in_data_units(found, draws.theta)
    likelihood = special.logsumexp(log_joint_label(found, theta, ELSEWHERE), axis=1).sum(axis=1)
    expected = found.prior.log_prob(*theta.values()).numpy() + likelihood
    # x - mean loses 5000 / 1000 sds' worth of digits, in 120 rows of 10 nats each.
    np.testing.assert_allclose(log_densities(found, draws).log_joint, expected, rtol=1e-9)


NEW = SHIFT + FACTOR * np.where(PATTERNS, [-1.0, 0.5, 0.0], np.nan)


def test_predictions_are_of_what_is_observed():
    found = fitted(True)
    S = 30
    theta = found.sample(S, seed=4)
    joint = log_joint_label(found, theta, NEW)
    expected = special.softmax(joint, axis=1).mean(axis=0).T
    proba = bgmm_jd.predict_proba(found, NEW, draws=S, seed=4)
    np.testing.assert_allclose(proba, expected, rtol=1e-8)
    # Of a row without entries, the mean of the weights, and a density of 1.
    np.testing.assert_allclose(proba[-1], theta["weights"].mean(axis=0), rtol=1e-12)
    density = bgmm_jd.log_density(found, NEW, draws=S, seed=4)
    expected = special.logsumexp(joint, axis=(0, 1)) - np.log(S)
    np.testing.assert_allclose(density, expected, rtol=1e-8, atol=1e-12)


def test_masked_entries_are_missing_in_predictions_too():
    masked = np.ma.masked_invalid(NEW)
    for function in (bgmm_jd.predict_proba, bgmm_jd.log_density, bgmm_jd.predict):
        np.testing.assert_array_equal(function(fitted(True), masked), function(fitted(True), NEW))
    with pytest.raises(ValueError, match="column 0 has inf"):
        bgmm_jd.predict(fitted(True), [[np.inf, np.nan, 0.0]])


def test_predictions_are_the_same_in_parts(monkeypatch):
    """Some rows at a time, whatever their patterns."""
    whole = bgmm_jd.predict_proba(fitted(), X, draws=10)
    monkeypatch.setattr(posterior, "_CHUNK", 7 * 10 * K * D * D)
    parts = list(
        densities.map_rows(
            fitted(),
            likelihood_module.responsibilities,
            posterior.draw_standardized(fitted(), 10, 0).theta,
            as_standardized_rows(X, fitted().inside.data.standardization),
        )
    )
    assert len(parts) > 10
    np.testing.assert_allclose(bgmm_jd.predict_proba(fitted(), X, draws=10), whole, rtol=1e-12)


def patterns(theta, rows, covariance):
    """How many there are."""
    return tf.shape(rows.missing.observed)[0]


def test_each_part_takes_its_own_patterns(monkeypatch):
    """Those of all rows, in every part, would take time as the square of the number of rows."""
    theta = posterior.draw_standardized(fitted(), 10, 0).theta
    monkeypatch.setattr(posterior, "_CHUNK", 2 * 10 * K * D * D)
    rows = as_standardized_rows(X, fitted().inside.data.standardization)
    for part, found in densities.map_rows(fitted(), patterns, theta, rows):
        assert found <= part.stop - part.start == 2


def test_a_fit_of_whole_rows_predicts_whole_rows(two_clusters_posterior):
    for function in (bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density):
        with pytest.raises(ValueError, match="column 1 has nan"):
            function(two_clusters_posterior, [[0.0, np.nan]])


def test_to_inference_data():
    """What is observed, its density, and replicated rows that are whole."""
    found = fitted(True)
    idata = bgmm_jd.to_inference_data(found, NEW, draws=20, seed=5)
    np.testing.assert_array_equal(idata["observed_data"]["x"], NEW)
    likelihood = special.logsumexp(log_joint_label(found, found.sample(20, seed=5), NEW), axis=1)
    found = idata["log_likelihood"]["x"].to_numpy()[0]
    np.testing.assert_allclose(found, likelihood, rtol=1e-8, atol=1e-12)
    assert np.isfinite(idata["posterior_predictive"]["x"]).all()


def test_volume_of_rows_is_that_of_what_is_observed():
    where = units.Standardization(SHIFT, FACTOR)
    found = row_log_det_jacobian(as_standardized_rows(NEW, where), where)
    np.testing.assert_allclose(found, PATTERNS @ np.log(FACTOR), rtol=1e-14, atol=1e-15)
