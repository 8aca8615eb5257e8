"""The public default prior is the one of a fit without a prior."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.data.standardize import standardize
from bgmm_jd.fitting.default_prior import prior_in_data_units, prior_of_standardized
from bgmm_jd.model.covariance_forms import FORMS, units_of_rows
from bgmm_jd.settings import DefaultPriorSettings

X = np.random.default_rng(0).normal([3.0, -20.0], [1.0, 50.0], (40, 2))


# The forms whose rows are standardised by column, and by a matrix, have one each that is not slow.
SLOW = {"tied", "spherical"}


@pytest.mark.parametrize(
    "form", [pytest.param(form, marks=[pytest.mark.slow] * (form in SLOW)) for form in FORMS]
)
def test_default_prior_is_the_prior_of_a_fit_without_one(form):
    fitted = bgmm_jd.fit(
        X, 1, covariance=form, restarts=1, calibrate=False, execution="graph", progress=False
    )
    assert bgmm_jd.default_prior(X, 1, covariance=form) is fitted.prior


def test_default_prior_shifts_and_scales_with_the_data():
    own, moved = (bgmm_jd.default_prior(rows, 3) for rows in (X, 10.0 * X + 7.0))
    draws = own.sample(5, seed=(0, 1))
    scaled = draws._replace(means=10.0 * draws.means + 7.0, precisions=draws.precisions / 100.0)
    log_det = 6 * np.log(10.0) - 12 * np.log(10.0)  # of 6 means and 6 precisions
    np.testing.assert_allclose(
        moved.log_prob(scaled), own.log_prob(draws).numpy() - log_det, rtol=1e-9
    )


@pytest.mark.parametrize("form", FORMS)
def test_settings_change_the_default_prior_in_every_unit(form):
    """Dirichlet(5) has a variance of (1/2)^2 / 11 at two components."""
    data = standardize(X, units=units_of_rows(form))
    settings = DefaultPriorSettings(weight_concentration=5.0)
    for prior in (
        prior_of_standardized(data, 2, form, settings),
        prior_in_data_units(data, 2, form, settings),
    ):
        weights = prior.sample_distributions(seed=(0, 0))[0].weights
        np.testing.assert_allclose(weights.variance(), 0.25 / 11.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((X, 0), {}, "K must be at least 1"),
        ((X[:, 0], 1), {}, "two-dimensional"),
        ((X, 1), {"covariance": "round"}, "covariance must be one of"),
    ],
)
def test_bad_input_is_refused_as_in_fit(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        bgmm_jd.default_prior(*arguments, **options)
