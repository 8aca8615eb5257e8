"""Which calibration is chosen, and how well each represents the posterior."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from builders import with_settings
from mean_fields import empty_in, mean_field_near

import bgmm_jd
from bgmm_jd.calibration.calibrate import calibrate_approximation
from bgmm_jd.calibration.gradients import informed_gradient
from bgmm_jd.posterior.draws import draw_standardized
from bgmm_jd.settings import CalibrationSettings
from bgmm_jd.variational.approximation import (
    AT_THE_MEAN,
    AVERAGED,
    MEAN_FIELD,
    draw_mean_field,
)
from bgmm_jd.variational.coordinates import coordinate_layout

DRAWS = 8_000


@pytest.fixture(scope="module")
def averaged():
    """Two components 2 sds apart, as in the reference `overlap`: a mean field is too narrow."""
    rng = np.random.default_rng(7)
    label = rng.random(1_000) < 0.4
    X = rng.normal(size=(1_000, 1)) + np.where(label, 2.5, 0.0)[:, np.newaxis]
    return bgmm_jd.fit(X.astype(np.float32), 2, restarts=1, execution="graph", progress=False)


def recalibrated(posterior, **settings):
    """Return the same fit, calibrated anew with other calibration settings."""
    approximation = replace(posterior.approximation, calibration=None)
    approximation = with_settings(approximation, calibration=CalibrationSettings(**settings))
    draws = draw_mean_field(approximation.problem, approximation.params, 500, 0)
    approximation, khat = calibrate_approximation(approximation, draws, 0)
    return replace(posterior, approximation=approximation, khat=khat)


def sds(posterior, **options):
    """Return the sds of all parameters in unconstrained coordinates: [P]."""
    return draw_standardized(posterior, DRAWS, 1, **options).points.std(axis=0)


@pytest.mark.slow
def test_curvature_at_the_mean_has_the_sds_of_the_averaged_curvature(averaged):
    """Within 10 %; 8,000 draws estimate an sd to 1 %.

    Both are corrected by weights here; the next test compares the distributions without them.
    """
    assert averaged.calibration == AVERAGED
    found = recalibrated(averaged, most_averaged_parameters=1)
    assert found.calibration == AT_THE_MEAN
    assert found.calibrated
    np.testing.assert_allclose(np.log(sds(found) / sds(averaged)), 0.0, atol=0.1)
    # The error of the mean field, which calibration corrects, is much larger in some sd.
    assert np.log(sds(averaged) / sds(averaged, calibrate=False)).max() > 0.2


@pytest.mark.slow
def test_unweighted_draws_by_curvature_at_the_mean_have_nearly_the_same_sds(averaged):
    """The normal distribution itself, where weights are not affordable: within 15 %.

    Its curvature is that near the mode, which differs from the average by what is not normal. The
    weights correct that, and k-hat is good.
    """
    found = recalibrated(averaged, most_averaged_parameters=1)
    calibration = found.approximation.calibration
    assert calibration.is_weighted
    assert found.khat < 0.7
    unweighted = replace(
        found,
        approximation=replace(
            found.approximation, calibration=calibration._replace(is_weighted=False)
        ),
    )
    np.testing.assert_allclose(np.log(sds(unweighted) / sds(averaged)), 0.0, atol=0.15)


@pytest.mark.slow
def test_mean_field_is_kept_where_parameters_are_too_many(averaged):
    found = recalibrated(averaged, most_averaged_parameters=1, most_parameters=1)
    assert found.calibration == MEAN_FIELD
    assert not found.calibrated
    assert found.approximation.calibration is None
    assert "mean field" in repr(found)
    for name, v in found.sample(20, seed=4).items():
        np.testing.assert_array_equal(v, averaged.sample(20, seed=4, calibrate=False)[name])
    with pytest.raises(ValueError, match="calibrated draws need a calibrated fit"):
        found.sample(3, calibrate=True)


@pytest.mark.slow
def test_curvature_of_a_subsample_is_close_to_that_of_all_rows(averaged):
    """Half of the rows, with twice their information.

    The information of labelled rows would be good to 1 / sqrt(500) = 4.5 %, and the sds to half of
    that. Labels are summed out of overlapping components, which amplifies the error: ten such
    standard errors of a log sd are allowed.
    """
    all_rows = recalibrated(averaged, most_averaged_parameters=1)
    half = recalibrated(averaged, most_averaged_parameters=1, curvature_rows=500)
    normals = [fit.approximation.calibration.normal for fit in (all_rows, half)]
    widths = [np.sqrt(np.diag(n.factor @ n.factor.T)) for n in normals]
    assert np.abs(np.log(widths[0] / widths[1])).max() < 10 * 0.5 * 500**-0.5
    assert np.abs(np.log(widths[0] / widths[1])).max() > 1e-3  # other rows were read


def test_gradient_by_informed_coordinates_is_part_of_that_by_all():
    """The others are those of points of the mean field."""
    approximation = mean_field_near("dirichlet")
    empty, rng = empty_in(approximation), np.random.default_rng(5)
    P = coordinate_layout(approximation.problem.standardized_model).size
    others = rng.normal(size=(2, P))
    points = rng.normal(size=(2, 2, 9))
    whole = np.repeat(others[:, np.newaxis], 2, axis=1)
    whole[..., empty.informed] = points
    by_all = informed_gradient(approximation, None, others)(whole)
    found = informed_gradient(approximation, empty, others)(points)
    np.testing.assert_allclose(found, by_all[..., empty.informed], rtol=1e-12)


def test_fit_without_calibration_has_no_calibrated_draws(two_clusters):
    """The k-hat of a mean field of 20 rows each is near 0.7; the status agrees with either side."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        posterior = bgmm_jd.fit(two_clusters, 2, calibrate=False)
    too_high = posterior.khat > 0.7
    assert (posterior.status is bgmm_jd.Status.KHAT_TOO_HIGH) == too_high
    assert any("khat too high" in str(w.message) for w in caught) == too_high
    with pytest.raises(ValueError, match="calibrated draws need a calibrated fit"):
        posterior.sample(5, calibrate=True)
