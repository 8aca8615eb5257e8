"""Priors: densities against scipy, defaults in the units of the data, and refused arguments."""

import inspect

import numpy as np
import pytest
from known_covariances import (
    D,
    K,
    every_form,
)
from scipy import stats
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.distributions.stick_breaking import StickBreaking
from bgmm_jd.model import prior_checks
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS, scale_shape
from bgmm_jd.model.priors import stick_breaking_prior

MAKERS = {"mixture": mixture_prior, "sticks": stick_breaking_prior}
every_maker = pytest.mark.parametrize("maker", MAKERS)


# --- The published model's prior --------------------------------------------------------------


@every_maker
@every_form
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_prior_has_the_variables_shapes_and_dtype_of_its_arguments(dtype, form, maker):
    found = MAKERS[maker](K, D, covariance=form, dtype=dtype)
    shape = scale_shape(form, K, D)
    assert isinstance(found, tfd.JointDistributionCoroutine)
    assert prior_checks.variable_shapes(found) == {
        "weights": (K,),
        "means": (K, D),
        "precisions": shape,
    }
    draws = found.sample(5, seed=(0, 0))
    assert draws._fields == ("weights", "means", "precisions")
    assert [v.dtype for v in draws] == [dtype] * 3
    assert [v.shape for v in draws] == [(5, K), (5, K, D), (5, *shape)]
    assert found.log_prob(draws).shape == [5]
    assert found.log_prob(draws).dtype == dtype
    assert prior_checks.prior_covariance_form(found, K, D) == form
    assert prior_checks.prior_covariance_form(found, K, D, form) == form


@every_maker
def test_weight_of_a_single_component_is_one(maker):
    found = MAKERS[maker](1, D, dtype="float64")
    prior_checks.prior_covariance_form(found, 1, D)
    theta = found.sample(5, seed=(0, 0))
    assert theta._fields == ("weights", "means", "precisions")
    np.testing.assert_array_equal(theta.weights, np.ones((5, 1)))
    law = stats.norm.logpdf(theta.means) + stats.gamma(5.0, scale=0.2).logpdf(theta.precisions)
    np.testing.assert_allclose(found.log_prob(theta), law.sum(axis=(1, 2)), rtol=1e-13)


def scipy_log_density(theta, mean_loc, mean_scale, c, r, weight):
    return (
        stats.dirichlet(np.broadcast_to(weight, K)).logpdf(theta["weights"])
        + stats.norm(mean_loc, mean_scale).logpdf(theta["means"]).sum()
        + stats.gamma(c, scale=1 / np.asarray(r)).logpdf(theta["precisions"]).sum()
    )


@pytest.mark.parametrize(
    ("arguments", "values"),
    [
        ({}, (0.0, 1.0, 5.0, 5.0, 2.0)),  # as published
        (
            {
                "mean_loc": [1.0, -2.0, 0.5],
                "mean_scale": [[1.0], [3.0]],
                "precision_concentration": np.arange(1, 7).reshape(K, D),
                "precision_rate": [0.5, 7.0, 2.0],
                "weight_concentration": [0.5, 9.0],
            },
            ([1.0, -2.0, 0.5], [[1.0], [3.0]], [[1, 2, 3], [4, 5, 6]], [0.5, 7, 2], [0.5, 9]),
        ),
    ],
    ids=["published", "arguments that broadcast"],
)
def test_density_of_diag_is_that_of_its_arguments(arguments, values):
    found = mixture_prior(K, D, dtype="float64", **arguments)
    rng = np.random.default_rng(0)
    theta = {
        "weights": rng.dirichlet(np.ones(K)),
        "means": rng.normal(size=(K, D)),
        "precisions": rng.gamma(2.0, size=(K, D)),
    }
    # 14 terms of a few nats each, in float64.
    np.testing.assert_allclose(
        found.log_prob(**theta), scipy_log_density(theta, *values), rtol=1e-13, atol=1e-13
    )


# Unequal in every entry.
COMPONENTS = {
    "mean_loc": np.array([[160.0, 0.0, 1.0], [200.0, 0.02, 2.0]]),
    "mean_scale": np.array([[50.0, 0.05, 3.0], [40.0, 0.03, 1.0]]),
    "weight_concentration": np.array([2.0, 3.0]),
}
CONCENTRATION = {
    "diag": np.array([[2.0, 1.5, 0.7], [1.8, 2.2, 3.0]]),
    "full": np.array([2.0, 0.8]),
    "tied": np.array(1.7),
    "spherical": np.array([[2.0], [0.8]]),
}
RATE = {
    "diag": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "full": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "tied": np.array([100.0, 5e-5, 1.0]),
    "spherical": np.array([[3.0], [0.1]]),
}


def unequal_prior(form):
    return mixture_prior(
        K,
        D,
        covariance=form,
        precision_concentration=CONCENTRATION[form],
        precision_rate=RATE[form],
        dtype="float64",
        **COMPONENTS,
    )


def log_density_of_precisions(form, value):
    """Return scipy's density of one draw: Gamma(a, b), or Wishart(2 a + D - 1, diag(1 / (2 b)))."""
    a, b = CONCENTRATION[form], RATE[form]
    if form not in MATRIX_FORMS:
        return stats.gamma(a, scale=1 / b).logpdf(value).sum()
    if form == "tied":
        return stats.wishart(2 * a + D - 1, np.diag(0.5 / b)).logpdf(value)
    return sum(
        stats.wishart(2 * a[k] + D - 1, np.diag(0.5 / b[k])).logpdf(value[k]) for k in range(K)
    )


@every_form
def test_density_of_each_form_is_that_of_scipy(form):
    found = unequal_prior(form)
    draws = found.sample(6, seed=(0, 1))
    for weights, means, precisions, density in zip(*draws, found.log_prob(draws), strict=True):
        expected = (
            stats.dirichlet(COMPONENTS["weight_concentration"]).logpdf(weights)
            + stats.norm(COMPONENTS["mean_loc"], COMPONENTS["mean_scale"]).logpdf(means).sum()
            + log_density_of_precisions(form, precisions.numpy())
        )
        rtol = 1e-10 if form in MATRIX_FORMS else 1e-12
        np.testing.assert_allclose(density, expected, rtol=rtol, atol=1e-12)


@every_form
def test_inverse_variances_have_the_stated_gamma_distribution_in_every_form(form):
    """The inverse of each feature's variance, a diagonal entry of the covariance matrix.

    At most 6 Kolmogorov-Smirnov tests a form, each with a false alarm of 1e-6.
    """
    draws = unequal_prior(form).sample(4_000, seed=(0, 2)).precisions.numpy()
    if form in MATRIX_FORMS:
        draws = 1 / np.diagonal(np.linalg.inv(draws), axis1=-2, axis2=-1)
    a = CONCENTRATION["full"][:, np.newaxis] if form == "full" else CONCENTRATION[form]
    shape = draws.shape[1:]
    for index in np.ndindex(shape):
        law = stats.gamma(
            np.broadcast_to(a, shape)[index], scale=1 / np.broadcast_to(RATE[form], shape)[index]
        )
        assert stats.kstest(draws[:, *index], law.cdf).pvalue > 1e-6, index


def test_density_of_a_stick_breaking_prior_is_that_of_beta_sticks():
    """The sticks are Beta(1, concentration); a density of the first K - 1 proportions."""
    found = stick_breaking_prior(3, D, concentration=0.7, dtype="float64")
    assert isinstance(found.sample_distributions(seed=(0, 0))[0].weights, StickBreaking)
    theta = found.sample(4, seed=(0, 0))
    w = theta.weights.numpy()
    rest = np.stack([np.ones(4), 1 - w[:, 0]], axis=1)
    expected = (stats.beta(1.0, 0.7).logpdf(w[:, :2] / rest) - np.log(rest)).sum(axis=1)
    expected += stats.norm.logpdf(theta.means).sum(axis=(1, 2))
    expected += stats.gamma(5.0, scale=0.2).logpdf(theta.precisions).sum(axis=(1, 2))
    np.testing.assert_allclose(found.log_prob(theta), expected, rtol=1e-10)


@every_form
def test_equal_arrays_as_arguments_give_the_same_object(form):
    assert unequal_prior(form) is unequal_prior(form)


def test_equal_arguments_of_other_types_give_the_same_object_and_unequal_ones_another():
    """As a program is compiled for a prior, by identity."""
    first = mixture_prior(K, D)
    assert mixture_prior(np.int64(K), D, mean_loc=np.zeros((1, D)), mean_scale=1) is first
    assert mixture_prior(K, D, weight_concentration=[2.0] * K, dtype=np.float32) is first
    others = [
        mixture_prior(K, D, mean_loc=1.0),
        mixture_prior(K, D, mean_scale=2.0),
        mixture_prior(K, D, precision_concentration=6.0),
        mixture_prior(K, D, precision_rate=6.0),
        mixture_prior(K, D, weight_concentration=3.0),
        mixture_prior(K, D, dtype="float64"),
        mixture_prior(D, K),
        *(mixture_prior(K, D, covariance=form) for form in FORMS if form != "diag"),
        stick_breaking_prior(K, D),
        stick_breaking_prior(K, D, concentration=2.0),
        stick_breaking_prior(K, D, covariance="full"),
    ]
    assert len({id(p) for p in [first, *others]}) == 14
    assert stick_breaking_prior(K, D, concentration=np.float32(1), covariance="full") is others[-1]


# --- Arguments that are refused ----------------------------------------------------------------


@every_maker
def test_options_of_prior_makers_are_keyword_only(maker):
    first, second, *options = inspect.signature(MAKERS[maker]).parameters.values()
    assert {first.kind, second.kind} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
    assert {option.kind for option in options} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize("name", ["K", "D"])
@pytest.mark.parametrize(
    ("value", "error"), [(0, ValueError), (-2, ValueError), (2.0, TypeError), (True, TypeError)]
)
def test_size_that_is_no_positive_integer_is_refused(name, value, error):
    with pytest.raises(error, match=f"^{name} must be"):
        mixture_prior(**{"K": K, "D": D, name: value})
    sticks = {"K": "K_max", "D": "D"}
    with pytest.raises(error, match=f"^{sticks[name]} must be"):
        stick_breaking_prior(**{"K_max": K, "D": D, sticks[name]: value})


POSITIVE = ["mean_scale", "precision_concentration", "precision_rate", "weight_concentration"]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf, [1.0, 1.0, 0.0]])
def test_value_that_must_be_positive_and_is_not_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be finite and positive"):
        mixture_prior(3, 3, **{name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_concentration_of_sticks_that_is_not_positive_is_refused(value):
    with pytest.raises(ValueError, match="concentration must be finite and positive"):
        stick_breaking_prior(3, 2, concentration=value)


@pytest.mark.parametrize("form", MATRIX_FORMS)
def test_concentration_below_that_of_any_wishart_of_tfp_is_refused(form):
    """TFP has none of fewer than D degrees of freedom: the argument is named, and its limit."""
    mixture_prior(K, D, covariance=form, precision_concentration=0.5)
    with pytest.raises(ValueError, match=r"precision_concentration must be .*0\.5"):
        mixture_prior(K, D, covariance=form, precision_concentration=0.4)


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_location_that_is_not_finite_is_refused(value):
    with pytest.raises(ValueError, match="mean_loc must be finite"):
        mixture_prior(K, D, mean_loc=value)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("mean_loc", (K,)), ("mean_scale", (K, D, 1)), ("weight_concentration", (D,))],
)
def test_value_that_does_not_broadcast_is_refused(name, shape):
    with pytest.raises(ValueError, match=f"{name} must broadcast to shape"):
        mixture_prior(K, D, **{name: np.ones(shape)})


@pytest.mark.parametrize(
    ("form", "name", "shape", "expected"),
    [
        ("full", "precision_concentration", (K, D), [K]),
        ("full", "precision_rate", (K, D, D), [K, D]),
        ("tied", "precision_concentration", (D,), []),
        ("tied", "precision_concentration", (K,), []),
        ("tied", "precision_rate", (K, D), [D]),
        ("spherical", "precision_concentration", (K, D), [K, 1]),
        ("spherical", "precision_rate", (D,), [K, 1]),
    ],
)
def test_value_that_does_not_broadcast_in_its_form_is_refused(form, name, shape, expected):
    message = rf"{name} must broadcast to shape \{str(expected)[:-1]}\]"
    with pytest.raises(ValueError, match=message):
        mixture_prior(K, D, covariance=form, **{name: np.ones(shape)})


@pytest.mark.parametrize("value", ["full", [[1.0], [1.0, 2.0]]])
def test_concentration_of_sticks_that_is_no_number_is_refused(value):
    with pytest.raises(TypeError, match="concentration must be a number or an array of them"):
        stick_breaking_prior(K, D, concentration=value)


def test_several_concentrations_of_sticks_are_refused():
    with pytest.raises(ValueError, match=r"concentration must broadcast to shape \[\]"):
        stick_breaking_prior(3, 2, concentration=np.ones(2))


@pytest.mark.parametrize("covariance", ["round", "Full", "banded", "", None, 1])
def test_unknown_form_of_covariance_is_refused_by_name(covariance):
    message = rf"covariance must be one of \('diag', .*got {covariance!r}"
    with pytest.raises(ValueError, match=message):
        mixture_prior(K, D, covariance=covariance)


def test_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="float32 or float64; got 'float16'"):
        mixture_prior(K, D, dtype="float16")
