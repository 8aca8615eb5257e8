"""The settings of a fit: values with defaults, checked by `fit`, and each with its effect."""

import re
import warnings
from dataclasses import FrozenInstanceError, fields, replace

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.settings import (
    AssessmentSettings,
    CalibrationSettings,
    MemorySettings,
    OptimizationSettings,
    Settings,
)
from bgmm_jd.variational.evaluation import points_per_call, statistics_fit_in_memory

GROUPS = [*(type(getattr(Settings(), field.name)) for field in fields(Settings)), Settings]
QUICK = {"execution": "graph", "progress": False}


def fitted(X, finish="auto", **settings):
    return bgmm_jd.fit(X, 2, settings=Settings(**settings), finish=finish, **QUICK)


@pytest.fixture(scope="module")
def default_fit(two_clusters):
    return bgmm_jd.fit(two_clusters, 2, **QUICK)


# --- Values --------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", GROUPS)
def test_settings_with_equal_values_are_equal(group):
    assert group() == group()
    assert hash(group()) == hash(group())


def test_settings_with_another_value_differ():
    other = Settings(optimization=OptimizationSettings(restarts=8))
    assert other != Settings()
    assert replace(other, optimization=OptimizationSettings()) == Settings()


@pytest.mark.parametrize("group", GROUPS)
def test_settings_cannot_be_changed(group):
    settings = group()
    with pytest.raises(FrozenInstanceError):
        setattr(settings, fields(group)[0].name, 1)


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_is_documented_and_no_other(group):
    documented = re.findall(r"^    ((?:\w+, )*\w+) : ", group.__doc__, flags=re.MULTILINE)
    names = [name for line in documented for name in line.split(", ")]
    assert names == [field.name for field in fields(group)]


@pytest.mark.parametrize("settings", ["fast", {"restarts": 8}, OptimizationSettings(), Settings])
def test_settings_of_another_type_are_refused(two_clusters, settings):
    message = r"must be a bgmm_jd\.Settings; got .*Use, for example, bgmm_jd\.Settings\("
    with pytest.raises(TypeError, match=message):
        bgmm_jd.fit(two_clusters, 2, settings=settings)


# --- Effects -------------------------------------------------------------------------------------


def test_default_settings_give_the_fit_without_settings(two_clusters, default_fit):
    posterior = fitted(two_clusters)
    assert posterior.settings == default_fit.settings == Settings()
    assert posterior.elbo == default_fit.elbo
    for name, v in default_fit.sample(20, seed=1).items():
        np.testing.assert_array_equal(posterior.sample(20, seed=1)[name], v)


def test_number_of_restarts_is_that_of_the_settings(default_fit):
    """Rows without clusters have more optima than that; clear clusters have one.

    How many runs there are does not depend on how far they go.
    """
    settings = Settings(optimization=OptimizationSettings(restarts=2))
    short = {**QUICK, "max_steps": 20, "finish": "none", "calibrate": False, "settings": settings}
    assert len(default_fit.restarts) == 1
    X = np.random.default_rng(0).normal(size=(40, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the step limit
        two, one = (bgmm_jd.fit(X, 4, **{**short, **options}) for options in ({}, {"restarts": 1}))
    assert len(two.restarts) == 2
    assert len(one.restarts) == 1  # the argument of `fit` takes precedence


def test_narrower_tolerance_takes_more_steps(two_clusters, default_fit):
    settings = OptimizationSettings(tolerance=0.005, restarts=1)
    posterior = fitted(two_clusters, optimization=settings)
    assert posterior.restarts[0].steps > default_fit.restarts[0].steps


def test_smaller_limits_send_a_small_data_set_through_both_phases(two_clusters, default_fit):
    settings = OptimizationSettings(
        subsample_rows=20, subsample_rows_per_component=10, full_batch_numbers=0, restarts=1
    )
    assert default_fit.batch_size == 40
    assert fitted(two_clusters, optimization=settings).batch_size == 20


def test_calibration_settings_choose_the_calibration(two_clusters, default_fit):
    assert default_fit.calibration == "averaged curvature"
    cheaper = CalibrationSettings(most_averaged_parameters=1)
    assert fitted(two_clusters, calibration=cheaper).calibration == "curvature at the mean"
    none = CalibrationSettings(most_averaged_parameters=1, most_parameters=1)
    posterior = fitted(two_clusters, calibration=none)
    assert posterior.calibration == "mean field"
    assert not posterior.calibrated


def test_more_draws_estimate_the_elbo_with_a_smaller_error(two_clusters, default_fit):
    """500 draws by default; with 5,000 the standard error is a third, up to its own noise."""
    settings = AssessmentSettings(most_elbo_draws=5_000)
    posterior = fitted(two_clusters, assessment=settings)
    assert posterior.elbo_se == pytest.approx(default_fit.elbo_se / 10**0.5, rel=0.3)


# --- Memory budgets ------------------------------------------------------------------------------


# A few rows, draws or points at a time, and no sufficient statistics.
TIGHT = MemorySettings(
    density=8 * 64 * 4 * 2,  # 40 rows are padded to 64, and two components to four
    statistics=1,
    curvature=1,
    empty_components=1,
    relocation=1,
    prediction=1,
    mixture=1,
)


def test_memory_budgets_change_results_by_no_more_than_rounding(two_clusters):
    """In float64, up to the calibrated normal distribution."""
    X = two_clusters[:20]
    wide, tight = fitted(two_clusters, "none"), fitted(two_clusters, "none", memory=TIGHT)
    assert points_per_call(tight.problem) == 8 < points_per_call(wide.problem)
    assert not statistics_fit_in_memory(tight.problem)
    assert statistics_fit_in_memory(wide.problem)
    same = {"rtol": 1e-8, "atol": 1e-8}
    for name in ("elbo", "elbo_se", "khat"):
        np.testing.assert_allclose(getattr(tight, name), getattr(wide, name), **same)
    draws = tight.sample(100, seed=3)
    for name, v in wide.sample(100, seed=3).items():
        np.testing.assert_allclose(draws[name], v, **same)
    for function in (bgmm_jd.predict_proba, bgmm_jd.log_density, log_density_of_first_feature):
        np.testing.assert_allclose(function(tight, X), function(wide, X), **same)


def test_memory_budgets_leave_the_evidence_of_the_whole_posterior(two_clusters, default_fit):
    """Whose proposal particles lead to that move by statistics in float32, or by differences.

    False alarms: one in 10,000.
    """
    tight = fitted(two_clusters, memory=TIGHT)
    se = np.hypot(tight.log_evidence_se, default_fit.log_evidence_se)
    assert abs(tight.log_evidence - default_fit.log_evidence) < 4.0 * se


def log_density_of_first_feature(posterior, X):
    return bgmm_jd.marginal(posterior, [0], draws=20).log_density(X[:, :1])


def test_draws_are_not_weighted_where_weights_are_not_affordable(two_clusters, default_fit):
    """The budget of what is computed: k-hat is then not known."""
    assert default_fit.approximation.calibration.is_weighted
    settings = CalibrationSettings(affordable_curvature_draws=1)
    numbers = default_fit.problem.numbers_per_row * 40
    posterior = fitted(
        two_clusters, calibration=settings, memory=MemorySettings(affordable=100 * numbers)
    )
    assert posterior.calibration == "averaged curvature"
    assert not posterior.approximation.calibration.is_weighted
    assert np.isnan(posterior.khat)
