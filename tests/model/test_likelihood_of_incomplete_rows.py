"""The likelihood of rows with missing entries, against the density of their observed part."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from known_covariances import D, K, drawn, either_scale_variable, every_form, symmetric, tensors
from known_missing import PATTERNS, log_joint_label_of_observed
from scipy import special

from bgmm_jd.data.rows import as_row_tensors, gather_rows, observed_mask
from bgmm_jd.data.standardize import as_standardized_rows
from bgmm_jd.data.units import identity_standardization
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_shape


def as_incomplete_rows(values):
    """Return rows as tensors in units in which nothing changes."""
    features = values.shape[1]
    return as_row_tensors(as_standardized_rows(values, identity_standardization(features)))


@pytest.fixture(scope="module")
def values():
    """Two rows of each pattern, in float64."""
    values = np.random.default_rng(9).normal(0, 2, (2 * len(PATTERNS), D))
    return np.where(np.tile(PATTERNS, (2, 1)), values, np.nan)


@either_scale_variable
@every_form
def test_incomplete_rows_have_the_density_and_responsibilities_of_their_observed_part(
    values, form, name
):
    """For every pattern of three features; a row without any entry has the density 1."""
    theta, covariances = drawn(form, name, (3,))
    rows = as_incomplete_rows(values)
    expected = log_joint_label_of_observed(theta, covariances, values)
    found = likelihood.log_joint_label(tensors(theta), rows, form)
    # A matrix with a condition number of some dozens is inverted, a few eps of some 10 nats.
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-11)
    by_row = likelihood.row_log_likelihood(tensors(theta), rows, form)
    np.testing.assert_allclose(by_row, special.logsumexp(expected, 1), rtol=1e-10, atol=1e-11)
    labels = likelihood.responsibilities(tensors(theta), rows, form)
    np.testing.assert_allclose(labels, special.softmax(expected, 1), rtol=1e-9)
    nothing = np.isnan(values).all(axis=1)
    assert nothing.sum() == 2
    np.testing.assert_allclose(by_row.numpy()[:, nothing], 0, atol=1e-15)


@either_scale_variable
@every_form
def test_complete_rows_have_the_same_density_with_and_without_incomplete_ones(values, form, name):
    """Without incomplete rows, complete ones are computed by other code."""
    theta, _ = drawn(form, name, (3,), seed=1)
    complete = ~np.isnan(values).any(axis=1)
    assert complete.sum() == 2
    found = likelihood.row_log_likelihood(tensors(theta), as_incomplete_rows(values), form)
    alone = as_incomplete_rows(values[complete])
    assert alone.missing is None
    expected = likelihood.row_log_likelihood(tensors(theta), alone, form)
    np.testing.assert_allclose(found.numpy()[:, complete], expected, rtol=1e-11)


@either_scale_variable
@every_form
def test_density_of_incomplete_rows_keeps_its_digits_in_float32(values, form, name):
    """Against float64 at the numbers that float32 holds.

    An inverse loses the condition number, and the density is a sum over D features, twice.
    """
    theta, covariances = drawn(form, name, (3,), seed=2)
    narrow = {variable: value.astype(np.float32) for variable, value in theta.items()}
    few = values.astype(np.float32)
    found = likelihood.row_log_likelihood(
        tensors(narrow, tf.float32), as_incomplete_rows(few), form
    )
    assert found.dtype == tf.float32
    wide = {variable: value.astype(np.float64) for variable, value in narrow.items()}
    expected = likelihood.row_log_likelihood(
        tensors(wide), as_incomplete_rows(few.astype(np.float64)), form
    )
    condition = np.linalg.cond(covariances).max()
    tolerance = 2 * D * condition * np.finfo(np.float32).eps
    # The label with the larger density determines the density of the row.
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@either_scale_variable
@every_form
def test_gradients_of_incomplete_rows_equal_differences_of_the_density(values, form, name):
    """Along a random line; rows without any entry contribute neither a gradient nor NaN."""
    start, _ = drawn(form, name, (1,), seed=3)
    rng = np.random.default_rng(0)
    step = {variable: rng.normal(size=value.shape) for variable, value in start.items()}
    if form in MATRIX_FORMS:
        step[name] = np.tril(step[name]) if name == "scales" else symmetric(step[name])
    rows = as_incomplete_rows(values)

    def total(h):
        theta = tensors({v: start[v] + h * step[v] for v in start})
        return tf.reduce_sum(likelihood.row_log_likelihood(theta, rows, form))

    h = tf.Variable(0.0, dtype=tf.float64)
    with tf.GradientTape() as tape:
        theta = {v: tf.constant(start[v]) + h * step[v] for v in start}
        found = tf.reduce_sum(likelihood.row_log_likelihood(theta, rows, form))
    slope = tape.gradient(found, h).numpy()
    small = 1e-5
    expected = (total(small) - total(-small)).numpy() / (2 * small)
    # The third derivative times h^2, and eps over h: both below 1e-8 of some 100 nats.
    assert slope == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_gathered_rows_keep_their_patterns(values):
    theta, _ = drawn("full", "precisions", (2,), seed=4)
    rows, chosen = as_incomplete_rows(values), [13, 2, 2, 7]
    whole = likelihood.row_log_likelihood(tensors(theta), rows, "full").numpy()
    found = likelihood.row_log_likelihood(tensors(theta), gather_rows(rows, chosen), "full")
    np.testing.assert_allclose(found, whole[:, chosen], rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(observed_mask(rows), ~np.isnan(values))


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_batch_decomposes_no_more_matrices_than_it_has_rows(form):
    """Nearly every row may have a pattern of its own, of which a batch needs only a few."""
    D = 20  # smaller matrices are decomposed by many operations
    rng = np.random.default_rng(5)
    values = rng.normal(size=(400, D))
    values[rng.random(values.shape) < 0.3] = np.nan
    rows = as_incomplete_rows(values)
    assert len(rows.missing.observed) > 100
    shape = scale_shape(form, K, D)
    theta = {
        "weights": tf.fill([1, K], tf.constant(1 / K, tf.float64)),
        "means": tf.zeros([1, K, D], tf.float64),
        "precisions": tf.eye(D, batch_shape=(1, *shape[:-2]), dtype=tf.float64),
    }

    @functools.partial(tf.function, autograph=False)
    def of_batch():
        return likelihood.row_log_likelihood(theta, gather_rows(rows, tf.range(5)), form)

    graph = of_batch.get_concrete_function().graph
    sizes = [
        np.prod(operation.outputs[0].shape[:-2].as_list())
        for operation in graph.get_operations()
        if operation.type == "Cholesky"
    ]
    assert 0 < max(sizes) <= 5 * K
