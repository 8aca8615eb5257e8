"""The default prior: densities against scipy, and the units of the data."""

import numpy as np
import pytest
from known_covariances import (
    D,
    K,
    every_form,
    numerical_log_det_jacobian,
    standardization_of,
    unstandardized,
)
from scipy import stats

from bgmm_jd.data.units import Standardization
from bgmm_jd.model import prior_checks
from bgmm_jd.model.covariance_forms import MATRIX_FORMS, scale_shape
from bgmm_jd.model.weakly_informative_prior import weakly_informative_prior


def test_default_prior_shifts_and_scales_with_the_data():
    """In other units, the density is that of standardised draws less the log of the Jacobian."""
    to = Standardization(np.array([5000.0, -3.0, 1.0]), np.array([1000.0, 0.5, 2.0]))
    standard = weakly_informative_prior(K, D, "diag", "float64")
    theta = standard.sample(4, seed=(1, 2))
    moved = theta._replace(
        means=to.shift + to.scale * theta.means, precisions=theta.precisions / to.scale**2
    )
    log_det_jacobian = K * np.log(to.scale).sum() - 2 * K * np.log(to.scale).sum()
    found = weakly_informative_prior(K, D, "diag", "float64", to).log_prob(moved)
    # means - 5000 loses 5 eps relative to the scale.
    np.testing.assert_allclose(found, standard.log_prob(theta) - log_det_jacobian, rtol=1e-12)


@every_form
def test_default_prior_of_each_form_shifts_and_scales_with_the_data(form):
    """As above, with the Jacobian found by differences."""
    standard = weakly_informative_prior(K, D, form, "float64")
    in_data_units = weakly_informative_prior(K, D, form, "float64", standardization_of(form))
    draws = standard.sample(5, seed=(0, 4))
    moved = unstandardized({v: a.numpy() for v, a in draws._asdict().items()}, form)
    log_det_jacobian = numerical_log_det_jacobian(form, "precisions")
    # TFP's Wishart goes by the Cholesky factor of what may be nearly singular.
    np.testing.assert_allclose(
        in_data_units.log_prob(*moved.values()),
        standard.log_prob(draws) - log_det_jacobian,
        rtol=1e-9,
        atol=1e-9,
    )


UPPER = np.array([[2.0, -30.0, 0.4], [0.0, 50.0, 0.3], [0.0, 0.0, 0.7]])
MATRIX = Standardization(np.array([5.0, -300.0, 1.0]), UPPER)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_default_prior_follows_a_matrix_scale(form):
    """Means move to shift + F mean, precisions to F^-T P F^-1, with the Jacobians of each."""
    standard = weakly_informative_prior(K, D, form, "float64")
    found = weakly_informative_prior(K, D, form, "float64", MATRIX)
    draws = standard.sample(5, seed=(0, 4))
    inverse = np.linalg.inv(UPPER)
    precisions = inverse.T @ draws.precisions.numpy() @ inverse
    moved = draws._replace(
        means=MATRIX.shift + draws.means.numpy() @ UPPER.T,
        precisions=(precisions + precisions.swapaxes(-1, -2)) / 2,
    )
    matrices = K if form == "full" else 1
    log_det_jacobian = (K - (D + 1) * matrices) * np.linalg.slogdet(UPPER)[1]
    np.testing.assert_allclose(
        found.log_prob(moved), standard.log_prob(draws) - log_det_jacobian, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_diagonal_matrix_as_scale_means_the_same_as_its_diagonal(form):
    scale = np.array([2.0, 50.0, 0.7])
    by_vector, by_matrix = (
        weakly_informative_prior(K, D, form, "float64", Standardization(np.zeros(D), s))
        for s in (scale, np.diag(scale))
    )
    assert by_vector is by_matrix


@every_form
def test_default_prior_has_the_stated_densities(form):
    """Means and weights by scipy, and the precisions of all forms but "full"."""
    found = weakly_informative_prior(K, D, form, "float64")
    theta = found.sample(3, seed=(2, 3))
    parts = found.log_prob_parts(theta)
    variance = 16.0 if form == "full" else 4.0
    expected = stats.norm(0.0, np.sqrt(variance)).logpdf(theta.means).sum(axis=(1, 2))
    np.testing.assert_allclose(parts.means, expected, rtol=1e-12)
    expected = [stats.dirichlet([2.0] * K).logpdf(w) for w in theta.weights.numpy()]
    np.testing.assert_allclose(parts.weights, expected, rtol=1e-10, atol=1e-12)
    share = K ** (-2 / D)
    if form == "full":
        return
    if form == "tied":
        law = stats.wishart(D + 2, np.eye(D) / share)
        expected = [law.logpdf(p) for p in theta.precisions.numpy()]
    else:
        law = stats.gamma(1.5, scale=1 / (0.25 * share))
        expected = law.logpdf(theta.precisions).sum(axis=(1, 2))
    np.testing.assert_allclose(parts.precisions, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("standardization", "scale"), [(None, np.eye(D)), (MATRIX, UPPER)], ids=["I", "F"]
)
def test_scatter_of_the_means_is_the_stated_multiple_of_the_argument(standardization, scale):
    M = np.array([[3.0, 1.0, 0.2], [1.0, 2.0, 0.0], [0.2, 0.0, 1.0]])
    found = weakly_informative_prior(K, D, "full", "float64", standardization, M)
    means = found.sample(2, seed=(0, 1)).means.numpy()
    shift = np.zeros(D) if standardization is None else standardization.shift
    law = stats.multivariate_normal(shift, 16 * scale @ M @ scale.T)
    draws = found.sample(2, seed=(0, 1))
    expected = law.logpdf(means).sum(axis=1)
    np.testing.assert_allclose(found.log_prob_parts(draws).means, expected, rtol=1e-10)


@pytest.mark.parametrize("form", ["diag", "spherical"])
def test_variances_of_the_means_are_the_stated_multiple_of_the_argument(form):
    M = np.array([3.0, 2.0, 1.0])
    found = weakly_informative_prior(K, D, form, "float64", None, M)
    draws = found.sample(2, seed=(0, 1))
    expected = stats.norm(0.0, 2 * np.sqrt(M)).logpdf(draws.means).sum(axis=(1, 2))
    np.testing.assert_allclose(found.log_prob_parts(draws).means, expected, rtol=1e-12)


@every_form
def test_default_prior_is_made_once_and_has_the_shapes_of_its_form(form):
    one, other = (weakly_informative_prior(K, D, form, t) for t in ("float32", np.float32))
    assert one is other
    assert prior_checks.variable_shapes(one) == {
        "weights": (K,),
        "means": (K, D),
        "precisions": scale_shape(form, K, D),
    }
    assert prior_checks.prior_covariance_form(one, K, D) == form


@every_form
def test_default_prior_allows_a_single_component(form):
    found = weakly_informative_prior(1, D, form, "float64")
    draws = found.sample(5, seed=(0, 1))
    assert np.isfinite(found.log_prob(draws)).all()
    np.testing.assert_array_equal(draws.weights, np.ones((5, 1)))


@pytest.mark.parametrize("components", [1, 4])
def test_components_of_the_form_full_may_be_narrow_or_as_wide_as_the_data(components):
    """Standard deviations of the first component in one feature, in data with sd 1."""
    found = weakly_informative_prior(components, D, "full", "float64")
    precisions = found.sample(4_000, seed=(1, 3)).precisions.numpy()[:, 0]
    sd = np.sqrt(np.linalg.inv(precisions)[:, 0, 0])
    low, high = np.quantile(sd, (0.05, 0.95))
    assert low < 0.4
    assert 1.0 < high < 10.0


def test_default_prior_of_standardised_data_is_weak():
    """In data with sd 1: means reach 2 sds, precisions from far below to far above K^(2/D)."""
    draws = weakly_informative_prior(K, D, "diag", "float64").sample(4000, seed=(1, 2))
    low, high = np.quantile(draws.precisions, (0.05, 0.95))
    assert low < K ** (2 / D) < high / 5
    # The standard error of an sd from 24,000 draws is 0.5 %; 4.9 of them: a false alarm of 1e-6.
    np.testing.assert_allclose(np.std(draws.means), 2.0, rtol=4.9 * 0.005)
