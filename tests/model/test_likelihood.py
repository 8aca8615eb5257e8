"""The likelihood with labels marginalised, against the sum over labels written out."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from known_covariances import (
    D,
    K,
    as_rows,
    drawn,
    either_scale_variable,
    every_form,
    log_joint_label,
    row_log_likelihood,
    symmetric,
    tensors,
)
from scipy import special, stats
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.missing import Missing
from bgmm_jd.data.rows import Rows
from bgmm_jd.model import likelihood
from bgmm_jd.model.covariance_forms import MATRIX_FORMS


@pytest.fixture
def values():
    return np.random.default_rng(9).normal(0, 2, (7, D))


def one_draw(theta, s):
    return {name: value[s] for name, value in theta.items()}


def responsibilities(theta, values, form="diag"):
    return likelihood.responsibilities(tensors(theta), as_rows(values), form).numpy()


# --- Against densities written out --------------------------------------------------------------


@either_scale_variable
@every_form
def test_log_joint_label_is_log_weight_plus_log_normal_density(values, form, name):
    theta, covariances = drawn(form, name)
    found = likelihood.log_joint_label(tensors(theta), as_rows(values), form)
    # A sum of D terms of a few dozen nats in float64; the same below.
    expected = log_joint_label(theta, covariances, values)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def log_joint_label_of_observed(theta, covariances, values):
    """Return the log joint density of the entries that are not NaN, row by row: [K, N]."""
    found = np.repeat(np.log(theta["weights"])[:, np.newaxis], len(values), axis=1)
    for n, row in enumerate(values):
        there = np.flatnonzero(~np.isnan(row))
        if len(there):
            part = {"weights": theta["weights"], "means": theta["means"][:, there]}
            blocks = covariances[:, there][:, :, there]
            found[:, n] = log_joint_label(part, blocks, row[np.newaxis, there])[:, 0]
    return found


@either_scale_variable
@every_form
def test_rows_with_missing_entries_have_the_density_of_their_observed_part(form, name):
    """For every pattern, in rows that share some."""
    every = np.array(list(itertools.product([0.0, 1.0], repeat=D)))
    pattern = np.array([3, 1, 0, 2, 3, 1, 7, 4, 5, 6, 7], np.int32)
    values = np.random.default_rng(8).normal(0, 2, (len(pattern), D))
    there = every[pattern] > 0
    theta, covariances = drawn(form, name)
    given = Rows(
        tf.constant(np.where(there, values, 0.0)),
        missing=Missing(tf.constant(every), tf.constant(pattern)),
    )
    found = likelihood.log_joint_label(tensors(theta), given, form)
    expected = log_joint_label_of_observed(theta, covariances, np.where(there, values, np.nan))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # And for several draws at once.
    several, _ = drawn(form, name, (5,))
    found = likelihood.row_log_likelihood(tensors(several), given, form)
    for s in range(5):
        alone = likelihood.row_log_likelihood(tensors(one_draw(several, s)), given, form)
        # A row of which nothing is observed has the log of 1, to a rounding or two.
        np.testing.assert_allclose(found[s], alone, rtol=1e-12, atol=1e-14)


@either_scale_variable
@every_form
def test_likelihood_is_the_sum_over_all_labellings(values, form, name):
    """p(X given theta) = sum over the K^N labellings of p(X, labels given theta)."""
    theta, covariances = drawn(form, name, components=3)
    few = values[:4]
    joint = log_joint_label(theta, covariances, few)
    labellings = itertools.product(range(3), repeat=len(few))
    expected = special.logsumexp([joint[list(z), range(len(few))].sum() for z in labellings])
    found = row_log_likelihood(theta, few, form).sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("sample", [(), (4,), (2, 3)], ids=["one", "several", "axes"])
@either_scale_variable
@every_form
def test_likelihood_is_the_density_of_a_mixture_distribution(values, form, name, sample):
    """tfd.MixtureSameFamily over matrices, for each of several draws."""
    theta, covariances = drawn(form, name, sample)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalTriL(theta["means"], np.linalg.cholesky(covariances)),
    )
    by_row = values.reshape(len(values), *np.ones(len(sample), int), D)
    expected = np.moveaxis(law.log_prob(by_row).numpy(), 0, -1)
    found = row_log_likelihood(theta, values, form)
    assert found.shape == (*sample, len(values))
    # An inverse loses at most the condition number, some dozens, of a few eps.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_likelihood_of_independent_features_is_that_of_a_mixture_distribution_to_rounding(values):
    """As above without any matrix, and so to more digits."""
    theta, _ = drawn("diag", "precisions", (5,), components=3)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalDiag(theta["means"], theta["precisions"] ** -0.5),
    )
    expected = tf.transpose(law.log_prob(values[:, np.newaxis]))
    np.testing.assert_allclose(row_log_likelihood(theta, values, "diag"), expected, rtol=1e-12)


@either_scale_variable
@every_form
def test_likelihood_of_several_draws_is_that_of_each(values, form, name):
    theta, _ = drawn(form, name, (5,))
    found = row_log_likelihood(theta, values, form)
    assert found.shape == (5, len(values))
    for s in range(5):
        alone = row_log_likelihood(one_draw(theta, s), values, form)
        np.testing.assert_allclose(found[s], alone, rtol=1e-12)


def test_density_of_a_row_integrates_to_one():
    """The integral over x, on a grid, where the trapezoid rule is exact to rounding."""
    theta = {
        "weights": np.array([0.2, 0.5, 0.3]),
        "means": np.array([[-1.0], [0.0], [2.0]]),
        "precisions": np.array([[1.0], [4.0], [0.5]]),
    }
    x = np.arange(-14, 16, 0.1)
    density = np.exp(row_log_likelihood(theta, x[:, np.newaxis], "diag"))
    # Outside lie 9 sds of the widest component: 1e-19. The rule's error is exp(-2 pi^2 sd^2/h^2).
    np.testing.assert_allclose(density.sum() * 0.1, 1, rtol=1e-12)


@either_scale_variable
@every_form
def test_responsibilities_follow_bayes_rule(values, form, name):
    theta, covariances = drawn(form, name, (2,), seed=1)
    found = responsibilities(theta, values, form)
    for s in range(2):
        joint = log_joint_label(one_draw(theta, s), covariances[s], values)
        np.testing.assert_allclose(found[s], special.softmax(joint, axis=0), rtol=1e-9)


def test_responsibilities_with_independent_features_follow_bayes_rule_to_rounding(values):
    theta, covariances = drawn("diag", "precisions", components=3)
    expected = special.softmax(log_joint_label(theta, covariances, values), axis=0)
    np.testing.assert_allclose(responsibilities(theta, values), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_responsibilities_sum_to_one_however_far_the_rows(values, dtype):
    theta = tensors(drawn("diag", "precisions", (5,), components=3).theta, dtype)
    for size in (1.0, 1e6, 1e15):
        found = likelihood.responsibilities(theta, as_rows(size * values, dtype), "diag")
        assert found.dtype == dtype
        # K terms, each rounded.
        eps = np.finfo(dtype.as_numpy_dtype).eps
        expected = np.ones((5, len(values)))
        np.testing.assert_allclose(tf.reduce_sum(found, axis=-2), expected, rtol=3 * eps)


# --- Relations between forms --------------------------------------------------------------------


@either_scale_variable
def test_full_with_diagonal_matrices_equals_diag(values, name):
    theta, _ = drawn("diag", name, (4,))
    full = {**theta, name: theta[name][..., np.newaxis] * np.eye(D)}
    np.testing.assert_allclose(
        row_log_likelihood(full, values, "full"),
        row_log_likelihood(theta, values, "diag"),
        rtol=1e-12,
    )


@either_scale_variable
def test_tied_equals_full_with_equal_matrices(values, name):
    theta, _ = drawn("tied", name, (4,))
    full = {**theta, name: np.repeat(theta[name][:, np.newaxis], K, axis=1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "tied"),
        row_log_likelihood(full, values, "full"),
        rtol=1e-12,
    )


@either_scale_variable
def test_spherical_equals_diag_with_equal_numbers(values, name):
    theta, _ = drawn("spherical", name, (4,))
    diag = {**theta, name: np.repeat(theta[name], D, axis=-1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "spherical"),
        row_log_likelihood(diag, values, "diag"),
        rtol=1e-12,
    )


def test_scales_equal_precisions_to_the_power_of_minus_one_half(values):
    theta, _ = drawn("diag", "scales", (5,))
    as_precisions = {**theta, "precisions": theta["scales"] ** -2}
    del as_precisions["scales"]
    found, expected = (row_log_likelihood(t, values, "diag") for t in (theta, as_precisions))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_order_of_components_does_not_matter(values):
    theta, _ = drawn("diag", "precisions", (5,), components=3)
    order = [2, 0, 1]
    moved = {name: value[:, order] for name, value in theta.items()}
    found, expected = (row_log_likelihood(t, values, "diag") for t in (moved, theta))
    np.testing.assert_allclose(found, expected, rtol=1e-14)
    proba, other = (responsibilities(t, values) for t in (moved, theta))
    np.testing.assert_allclose(proba, other[:, order], rtol=1e-13)


# --- Gradients and rounding ---------------------------------------------------------------------


@either_scale_variable
@every_form
def test_gradients_equal_differences_of_the_density(values, form, name):
    """Along one random direction; a matrix in its free entries."""
    theta = tensors(drawn(form, name, seed=3).theta)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        total = tf.reduce_sum(likelihood.row_log_likelihood(theta, as_rows(values), form))
    gradient = tape.gradient(total, theta)
    rng = np.random.default_rng(0)
    step = {variable: rng.normal(size=value.shape) for variable, value in theta.items()}
    if form in MATRIX_FORMS:
        free = np.tril if name == "scales" else symmetric
        step[name] = free(step[name])
    along = sum((step[v] * gradient[v].numpy()).sum() for v in theta)
    h = 1e-5
    up, down = (
        row_log_likelihood({v: theta[v] + s * h * step[v] for v in theta}, values, form).sum()
        for s in (1, -1)
    )
    # The third derivative times h^2, and eps over h: both below 1e-8 of some 100 nats.
    assert (up - down) / (2 * h) == pytest.approx(along, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_component_whose_weight_underflows_contributes_nothing(values, dtype):
    """Density and gradient are those of the mixture of the others."""
    theta = tensors(drawn("diag", "precisions", components=3, features=2).theta, dtype)
    others = {name: value[:2] for name, value in theta.items()}
    weights = tf.constant([0.25, 0.75], dtype)
    X = as_rows(values[:4, :2], dtype)

    def value_and_gradients(theta):
        with tf.GradientTape() as tape:
            tape.watch(theta)
            value = tf.reduce_sum(likelihood.row_log_likelihood(theta, X, "diag"))
        return value, tape.gradient(value, theta)

    value, gradients = value_and_gradients(
        {**theta, "weights": tf.concat([weights, tf.zeros([1], dtype)], 0)}
    )
    expected, of_others = value_and_gradients({**others, "weights": weights})
    limits = np.finfo(dtype.as_numpy_dtype)
    tolerance = 64 * limits.eps  # N D K terms of like size
    np.testing.assert_allclose(value, expected, rtol=tolerance)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(gradient[:2], of_others[name], rtol=tolerance, atol=tolerance)
        # Its responsibility is the smallest number times a ratio of densities, here below 1e6.
        np.testing.assert_allclose(gradient[2], np.zeros_like(gradient[2]), atol=1e6 * limits.tiny)


@pytest.mark.parametrize("precision", [1e-30, 1e30])
@pytest.mark.parametrize("distance", [0.0, 1.0, 1e3])
def test_extreme_precisions_stay_finite_in_float32(precision, distance):
    theta = {
        "weights": tf.constant([1e-38, 1.0]),
        "means": tf.constant([[0.0, 0.0], [distance, 0.0]]),
        "precisions": tf.fill([2, 2], precision),
    }
    X = Rows(tf.constant([[0.0, 0.0], [1.0, -1.0]]))
    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = likelihood.row_log_likelihood(theta, X, "diag")
    assert np.all(np.isfinite(value))
    for gradient in tape.gradient(value, theta).values():
        assert np.all(np.isfinite(gradient))
    assert np.all(np.isfinite(likelihood.responsibilities(theta, X, "diag")))


def test_narrow_column_far_from_zero_is_exact_to_a_few_roundings_in_float32():
    """A hundred of its sds away, as in centred data; x^2 - 2 x mu + mu^2 would lose all digits."""
    rng = np.random.default_rng(3)
    theta = {
        "weights": np.array([1.0]),
        "means": np.array([[1.0]]),
        "precisions": np.array([[1e4]]),
    }
    rows = (1.0 + 0.01 * rng.standard_normal((50, 1))).astype(np.float32)
    found = row_log_likelihood(theta, rows, "diag", tf.float32)
    expected = stats.norm(1.0, 0.01).logpdf(rows[:, 0].astype(np.float64))
    # The difference of neighbours is exact, the rest a few roundings of at most 5 nats each.
    np.testing.assert_allclose(found, expected, atol=5 * 8 * np.finfo(np.float32).eps)


@either_scale_variable
@every_form
def test_narrow_clusters_far_from_zero_keep_their_digits_in_float32(form, name):
    """Two clusters a hundred of their sds from zero, as centred data can have them.

    The expanded form x^T P x - 2 x^T P mu + mu^T P mu would add numbers of 1e4 nats: 1e-3 and more
    is lost. Here a residual of 4 sds at most has an error of a few roundings of 100 sds, and its
    square, halved, 4 times that for each feature.
    """
    theta, covariances = drawn(form, name, seed=2)
    size = 0.01
    power = {"precisions": -2, "scales": 1}[name]
    theta = {
        **theta,
        "means": np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]),
        name: theta[name] * size**power,
    }
    theta = {variable: value.astype(np.float32) for variable, value in theta.items()}
    rng = np.random.default_rng(0)
    z = np.clip(rng.standard_normal((40, K, D)), -2, 2)
    noise = np.einsum("kij,nkj->nki", np.linalg.cholesky(covariances), z)
    far = (theta["means"] + size * noise).reshape(-1, D).astype(np.float32)
    widest = 100 / np.sqrt(np.linalg.eigvalsh(covariances).min())  # sds, in the narrowest direction
    eps = np.finfo(np.float32).eps
    found = row_log_likelihood(theta, far, form, tf.float32)
    expected = row_log_likelihood(theta, far.astype(np.float64), form)
    roundings = 2 * D * np.sqrt(D)
    np.testing.assert_allclose(found, expected, atol=4 * D * roundings * eps * widest)
