"""Covariances, standard deviations and factors of draws, against the matrices written out."""

import numpy as np
import pytest
from known_covariances import D, K, drawn, either_scale_variable, every_form

from bgmm_jd.model import covariances
from bgmm_jd.model.covariance_forms import MATRIX_FORMS


@either_scale_variable
@every_form
def test_standard_deviations_are_the_roots_of_the_variances(form, name):
    theta, expected = drawn(form, name, (3, 4), seed=4)
    sd = np.sqrt(np.diagonal(expected, axis1=-2, axis2=-1))
    own = {
        "diag": sd,
        "full": sd,
        "tied": sd[..., 0, :],
        "spherical": sd[..., 0],
    }[form]
    np.testing.assert_allclose(covariances.standard_deviations(theta, form), own, rtol=1e-12)


@either_scale_variable
@every_form
def test_component_covariances_are_the_matrices_of_any_form(form, name):
    theta, expected = drawn(form, name, (3, 4), seed=4)
    found = covariances.component_covariances(theta, form)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@either_scale_variable
@every_form
def test_component_sds_are_the_roots_of_the_variances_in_any_form(form, name):
    theta, expected = drawn(form, name, (3, 4), seed=4)
    found = covariances.component_sds(theta, form)
    variances = np.diagonal(expected, axis1=-2, axis2=-1)
    np.testing.assert_allclose(found, np.sqrt(variances), rtol=1e-12)


@either_scale_variable
@every_form
def test_covariance_factors_are_lower_triangular_and_give_noise_the_covariances(form, name):
    theta, expected = drawn(form, name, (3, 4), seed=4)
    factor = covariances.covariance_factors(theta, form)
    assert factor.shape[:4] == (3, 4, K, D)
    lower = factor if form in MATRIX_FORMS else factor[..., np.newaxis] * np.eye(D)
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    np.testing.assert_allclose(lower @ lower.swapaxes(-1, -2), expected, rtol=1e-12, atol=1e-13)
    z = np.random.default_rng(0).normal(size=(3, 4, K, D))
    np.testing.assert_allclose(
        covariances.correlated_noise(factor, z),
        (lower @ z[..., np.newaxis])[..., 0],
        rtol=1e-12,
        atol=1e-13,
    )


@either_scale_variable
@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_covariance_and_correlation_matrices_of_matrix_forms_are_those_written_out(form, name):
    theta, expected = drawn(form, name, (5,), seed=5)
    own = expected if form == "full" else expected[:, 0]
    found = covariances.covariance_matrices(theta)
    np.testing.assert_allclose(found, own, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found, found.swapaxes(-1, -2))
    correlations = covariances.correlation_matrices(theta)
    for index in np.ndindex(own.shape[:-2]):
        sd = np.sqrt(np.diag(own[index]))
        np.testing.assert_allclose(
            correlations[index], own[index] / np.outer(sd, sd), rtol=1e-12, atol=1e-13
        )


@either_scale_variable
@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_correlations_of_float32_draws_do_not_exceed_one(form, name):
    theta, _ = drawn(form, name, (5,), seed=5)
    rounded = {variable: value.astype(np.float32) for variable, value in theta.items()}
    assert np.abs(covariances.correlation_matrices(rounded)).max() <= 1.0


@either_scale_variable
@every_form
def test_selected_precisions_are_the_inverses_of_the_selected_covariances(form, name):
    theta, expected = drawn(form, name, (5,), seed=6)
    draws, components = np.array([4, 0, 4, 2]), np.array([0, 1, 1, 0])
    found = covariances.selected_precisions(theta, form, draws, components)
    # A condition number of some dozens.
    np.testing.assert_allclose(
        found, np.linalg.inv(expected[draws, components]), rtol=1e-12, atol=1e-12
    )


def test_correlations_that_rounding_has_brought_above_one_are_one():
    """Of features that are nearly copies of each other, in float32: in 3 % of the draws."""
    factors = np.tril(np.random.default_rng(0).normal(size=(3_000, 3, 3))).astype(np.float32)
    factors[:, range(3), range(3)] = 1e-5
    factors[:, :, 0] += 1
    theta = {"scales": factors}
    matrices = covariances.covariance_matrices(theta)
    sd = np.sqrt(np.diagonal(matrices, axis1=-2, axis2=-1))
    assert (matrices / (sd[:, :, None] * sd[:, None, :])).max() > 1.0
    assert covariances.correlation_matrices(theta).max() == 1.0
