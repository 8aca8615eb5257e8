"""Missing entries in a fit and its predictions, against the observed part written out."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors, problem_for, started, with_settings
from known_covariances import D, K, drawn, every_form, tensors
from known_missing import PATTERNS, log_joint_label_of_observed, two_clusters_with_gaps
from scipy import special

import bgmm_jd
from bgmm_jd.data.rows import as_row_tensors
from bgmm_jd.data.standardize import as_standardized_rows, standardize
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariance_forms import units_of_rows
from bgmm_jd.model.covariances import component_covariances
from bgmm_jd.model.weakly_informative_prior import weakly_informative_prior
from bgmm_jd.posterior.densities import log_densities, map_rows
from bgmm_jd.posterior.draws import draw_standardized, in_data_units
from bgmm_jd.settings import MemorySettings
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.log_joint import log_joint
from bgmm_jd.variational.structure import model_of

pytestmark = pytest.mark.slow

# --- Rows without any entry -----------------------------------------------------------------------

EMPTY = np.full((1, D), np.nan)


@every_form
def test_row_without_any_entry_adds_nothing_to_the_log_joint_density(form):
    X = two_clusters_with_gaps()
    identity = identity_tensors(D, tf.float64)
    model = model_of(weakly_informative_prior(K, D, form, "float64"), form).standardized(identity)
    theta, _ = drawn(form, "precisions", (4,), seed=7)
    found = []
    for values in (X, np.concatenate([X[:30], EMPTY, X[30:], EMPTY])):
        data = standardize(values, units=units_of_rows(form, complete=False))
        density = log_joint(model, tensors(theta), as_row_tensors(data.rows))
        found.append((density.numpy(), data.log_det_jacobian, *data.standardization[:2]))
    for mine, other in zip(*found, strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-13)


@pytest.mark.parametrize("init", [None, [[-3.0, 0.0, 1.0], [3.0, 1.0, -1.0]]], ids=["free", "init"])
@every_form
def test_row_without_any_entry_leaves_the_start_unchanged(form, init):
    X = two_clusters_with_gaps()
    means = None if init is None else np.array(init)
    starts = [
        started(problem_for(values, K, form, execution="eager"), means).params
        for values in (X, np.concatenate([X, EMPTY]))
    ]
    for mine, other in zip(*map(tf.nest.flatten, starts), strict=True):
        np.testing.assert_allclose(other, mine, rtol=1e-12)


# --- A fit --------------------------------------------------------------------------------------

X = np.concatenate([two_clusters_with_gaps(), EMPTY])
SHIFT, FACTOR = np.array([5000.0, -2.0, 10.0]), np.array([1000.0, 0.03, 2.0])
IN_OTHER_UNITS = SHIFT + FACTOR * X
TRUTH = np.repeat([0, 1], 60)


@functools.cache
def fitted(in_other_units=False):
    rows = IN_OTHER_UNITS if in_other_units else X
    return bgmm_jd.fit(
        rows, K, covariance="full", missing="marginalize", restarts=1, progress=False
    )


def test_fit_finds_the_clusters_of_incomplete_rows():
    found = fitted()
    assert found.status is bgmm_jd.Status.CONVERGED
    assert found.missing == "marginalize"
    labels = bgmm_jd.predict(found, X)[:-1]
    # Labels are wrong where the clusters overlap in all observed features.
    assert np.mean(labels == TRUTH) > 0.95
    first = ~np.isnan(X[:-1, 0])
    np.testing.assert_array_equal(labels[first], TRUTH[first])


def test_shift_and_scale_of_incomplete_rows_shift_and_scale_the_posterior():
    """Under the default prior, which is scaled to X, equal seeds agree to float tolerance.

    The elbo falls by the log Jacobian of the observed entries.
    """
    found, other = fitted(), fitted(True)
    jacobian = (~np.isnan(X)).sum(axis=0) @ np.log(FACTOR)
    assert other.elbo == pytest.approx(found.elbo - jacobian, abs=1e-7)
    np.testing.assert_allclose(other.elbo_trace, found.elbo_trace - jacobian, rtol=1e-8)
    mine, theirs = found.sample(50, seed=1), other.sample(50, seed=1)
    np.testing.assert_allclose(theirs["weights"], mine["weights"], rtol=1e-6)
    np.testing.assert_allclose(theirs["means"], SHIFT + FACTOR * mine["means"], rtol=1e-6)
    scaled = mine["precisions"] / np.outer(FACTOR, FACTOR)
    size = np.sqrt(np.diagonal(scaled, axis1=-2, axis2=-1))
    size = size[..., np.newaxis] * size[..., np.newaxis, :]
    np.testing.assert_allclose(theirs["precisions"] / size, scaled / size, atol=1e-6)


def log_joint_label(found, theta, rows):
    covariances = component_covariances(theta, found.covariance)
    return log_joint_label_of_observed(theta, covariances, rows)


def test_log_joint_densities_of_draws_are_those_written_out():
    """In units far from the standardised ones."""
    found = fitted(True)
    draws = draw_mean_field(found.problem, found.approximation.params, 3, seed=3)
    theta = in_data_units(found, draws.theta)
    by_row = special.logsumexp(log_joint_label(found, theta, IN_OTHER_UNITS), axis=1)
    expected = found.prior.log_prob(*theta.values()).numpy() + by_row.sum(axis=1)
    # x - mean loses the digits of 5000 / 1000 sds, in 120 rows of 10 nats each.
    np.testing.assert_allclose(log_densities(found, draws).log_joint, expected, rtol=1e-9)


NEW = SHIFT + FACTOR * np.where(PATTERNS, [-1.0, 0.5, 0.0], np.nan)


def test_predictions_are_averages_over_draws_given_the_observed_entries():
    found = fitted(True)
    S = 30
    theta = found.sample(S, seed=4)
    joint = log_joint_label(found, theta, NEW)
    expected = special.softmax(joint, axis=1).mean(axis=0).T
    proba = bgmm_jd.predict_proba(found, NEW, draws=S, seed=4)
    np.testing.assert_allclose(proba, expected, rtol=1e-8)
    # A row without entries has the mean weights as probabilities, and the density 1.
    np.testing.assert_allclose(proba[-1], theta["weights"].mean(axis=0), rtol=1e-12)
    density = bgmm_jd.log_density(found, NEW, draws=S, seed=4)
    expected = special.logsumexp(joint, axis=(0, 1)) - np.log(S)
    np.testing.assert_allclose(density, expected, rtol=1e-8, atol=1e-12)


def test_masked_entries_are_missing_and_infinity_is_refused_in_predictions():
    masked = np.ma.masked_invalid(NEW)
    for function in (bgmm_jd.predict_proba, bgmm_jd.log_density, bgmm_jd.predict):
        np.testing.assert_array_equal(function(fitted(True), masked), function(fitted(True), NEW))
    with pytest.raises(ValueError, match="column 0 has inf"):
        bgmm_jd.predict(fitted(True), [[np.inf, np.nan, 0.0]])


def with_budget(posterior, numbers):
    """Return the posterior with another memory budget for predictions."""
    memory = MemorySettings(prediction=numbers)
    return replace(posterior, approximation=with_settings(posterior.approximation, memory=memory))


def test_predictions_do_not_depend_on_how_many_rows_are_read_at_a_time():
    whole = bgmm_jd.predict_proba(fitted(), X, draws=10)
    limited = with_budget(fitted(), 7 * 10 * K * D * D)
    theta = draw_standardized(limited, 10, seed=0).theta
    rows = as_standardized_rows(X, limited.problem.data.standardization)
    assert len(list(map_rows(limited, likelihood.responsibilities, theta, rows))) > 10
    np.testing.assert_allclose(bgmm_jd.predict_proba(limited, X, draws=10), whole, rtol=1e-12)


def number_of_patterns(theta, rows, covariance):
    return tf.shape(rows.missing.observed)[0]


def test_each_block_of_rows_has_its_own_patterns_only():
    """With the patterns of all rows in each block, time would grow as the square of the rows."""
    limited = with_budget(fitted(), 2 * 10 * K * D * D)
    theta = draw_standardized(limited, 10, seed=0).theta
    rows = as_standardized_rows(X, limited.problem.data.standardization)
    blocks = list(map_rows(limited, number_of_patterns, theta, rows))
    assert len(blocks) == -(-len(X) // 2)
    for part, found in blocks:
        assert found <= part.stop - part.start


def test_fit_of_complete_rows_refuses_missing_entries_in_predictions(two_clusters_posterior):
    for function in (bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density):
        with pytest.raises(ValueError, match="column 1 has nan"):
            function(two_clusters_posterior, [[0.0, np.nan]])


def test_inference_data_has_the_observed_entries_their_density_and_complete_replicates():
    posterior = fitted(True)
    idata = bgmm_jd.to_inference_data(posterior, NEW, draws=20, seed=5)
    np.testing.assert_array_equal(idata["observed_data"]["x"], NEW)
    label = log_joint_label(posterior, posterior.sample(20, seed=5), NEW)
    found = idata["log_likelihood"]["x"].to_numpy()[0]
    np.testing.assert_allclose(found, special.logsumexp(label, axis=1), rtol=1e-8, atol=1e-12)
    assert np.isfinite(idata["posterior_predictive"]["x"]).all()
