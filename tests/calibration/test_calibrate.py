"""Where an averaged curvature is out of reach: the curvature at the mean, and then none."""

import dataclasses

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.calibration import calibrate
from bgmm_jd.calibration.averaged_curvature import normal_from_curvature, shift_mean
from bgmm_jd.posterior.posterior import draw_standardized
from bgmm_jd.variational import approximation
from bgmm_jd.variational.approximation import AT_THE_MEAN, AVERAGED, MEAN_FIELD, MultivariateNormal
from bgmm_jd.variational.coordinates import flatten

pytestmark = pytest.mark.slow

SAMPLES = 8_000


@pytest.fixture(scope="module")
def averaged():
    """Two components 2 sds apart, as in the reference `overlap`: a mean field is too narrow."""
    rng = np.random.default_rng(7)
    label = rng.random(1_000) < 0.4
    X = rng.normal(size=(1_000, 1)) + np.where(label, 2.5, 0.0)[:, np.newaxis]
    return bgmm_jd.fit(X.astype(np.float32), 2, restarts=1, execution="graph", progress=False)


def again(posterior):
    """The same fit, calibrated anew under the limits of the moment."""
    inside = posterior.inside._replace(calibration=MEAN_FIELD, normal=None, weigh=False)
    draws = approximation.draw_mean_field(inside, 500, 0)
    inside, khat = calibrate.calibrate_approximation(inside, draws, 0)
    return dataclasses.replace(posterior, inside=inside, khat=khat)


def sds(posterior, **settings):
    """Of all parameters in unconstrained coordinates: [P]."""
    inside = posterior.inside
    theta = draw_standardized(posterior, SAMPLES, 1, **settings).theta
    return flatten(inside.model.sites, theta, inside.standardization).numpy().std(axis=0)


def test_the_curvature_at_the_mean(averaged, monkeypatch):
    """Sds within 10 % of those of the averaged curvature; 8,000 draws know one to 1 %.

    Both are corrected by weights here, so what is compared is the distribution before them too.
    """
    assert averaged.calibration == AVERAGED
    monkeypatch.setattr(calibrate, "_MOST_AVERAGED", 1)
    found = again(averaged)
    assert found.calibration == AT_THE_MEAN
    assert found.calibrated
    np.testing.assert_allclose(np.log(sds(found) / sds(averaged)), 0.0, atol=0.1)
    # The mean field is what must be mended: some sd is too small by far more than that.
    assert np.log(sds(averaged) / sds(averaged, calibrate=False)).max() > 0.2


def test_draws_without_weights(averaged, monkeypatch):
    """The normal distribution itself, where weights are out of reach: sds within 15 %.

    It is that of the mode's neighbourhood, whose curvature differs from the average by what is
    not normal: the weights mend it, and k-hat is good.
    """
    monkeypatch.setattr(calibrate, "_MOST_AVERAGED", 1)
    found = again(averaged)
    assert found.inside.weigh
    assert found.khat < 0.7
    plain = dataclasses.replace(found, inside=found.inside._replace(weigh=False))
    np.testing.assert_allclose(np.log(sds(plain) / sds(averaged)), 0.0, atol=0.15)


def test_too_many_parameters(averaged, monkeypatch):
    monkeypatch.setattr(calibrate, "_MOST_AVERAGED", 1)
    monkeypatch.setattr(calibrate, "_MOST_PARAMETERS", 1)
    found = again(averaged)
    assert found.calibration == MEAN_FIELD
    assert not found.calibrated
    assert found.inside.normal is None
    assert "mean field" in repr(found)
    for name, v in found.sample(20, seed=4).items():
        np.testing.assert_array_equal(v, averaged.sample(20, seed=4, calibrate=False)[name])
    with pytest.raises(ValueError, match="calibrated draws need a fit with calibrate=True"):
        found.sample(3, calibrate=True)


def test_a_sample_of_the_rows_tells_the_curvature(averaged, monkeypatch):
    """Half of the rows: an information that is theirs twice, good to some 1 / sqrt(500) = 4.5 %.

    Five times that, and the sds have half of it.
    """
    monkeypatch.setattr(calibrate, "_MOST_AVERAGED", 1)
    whole = again(averaged).inside.normal
    monkeypatch.setattr(calibrate, "_CURVATURE_ROWS", 500)
    half = again(averaged).inside.normal
    widths = [np.sqrt(np.diag(n.factor @ n.factor.T)) for n in (whole, half)]
    assert np.abs(np.log(widths[0] / widths[1])).max() < 5 * 500**-0.5
    assert np.abs(widths[0] - widths[1]).max() > 0.0


# The normal distribution of a curvature, and one step of its mean.


def spd(P, seed=0):
    root = np.random.default_rng(seed).normal(size=(P, P))
    return root @ root.T + np.eye(P)


def test_normal_of_a_curvature():
    """Its covariance is the inverse of the information, in the units given."""
    sd, H = np.array([1.0, 10.0, 0.1]), spd(3)
    found = normal_from_curvature(np.arange(3.0), sd, H)
    expected = np.linalg.inv(H) * np.outer(sd, sd)
    np.testing.assert_allclose(found.factor @ found.factor.T, expected, rtol=1e-10)
    np.testing.assert_array_equal(found.mean, np.arange(3.0))


def test_no_direction_is_more_than_ten_times_wider():
    """Flat and saddle directions alike: ten sds of the mean field, never infinite."""
    for smallest in (1e-9, 0.0, -5.0):
        found = normal_from_curvature(np.zeros(2), np.ones(2), np.diag([4.0, smallest]))
        np.testing.assert_allclose(found.factor @ found.factor.T, np.diag([0.25, 100.0]))


def test_one_step_of_the_mean_is_exact_for_a_normal_target():
    """With the target's own covariance a Newton step; half the draws are mirror images."""
    H, m = spd(3), np.array([0.3, -0.5, 0.2])
    factor = np.linalg.cholesky(np.linalg.inv(H))
    start = MultivariateNormal(m + factor @ [0.4, -1.0, 1.9], factor)
    found = shift_mean(lambda x: -(x - m) @ H, start, 6, np.random.default_rng(0))
    np.testing.assert_allclose(found.mean, m, atol=1e-12)
    assert found.factor is factor


def test_a_long_step_is_cut_and_a_broken_one_not_taken():
    start = MultivariateNormal(np.zeros(2), np.eye(2))
    far = shift_mean(lambda x: np.array([30.0, -60.0]) - x, start, 4, np.random.default_rng(0))
    np.testing.assert_allclose(far.mean, [1.0, -2.0])
    broken = shift_mean(lambda x: x * np.nan, start, 4, np.random.default_rng(0))
    assert broken is start
