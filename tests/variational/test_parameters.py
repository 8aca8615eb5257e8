"""Starting values of a surrogate's parameters, and the variables that are trained."""

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors
from known_covariances import MATRIX_TRANSFORMATIONS
from known_priors import UPPER, D, K, prior_of, random_params, standardized_model
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.units import (
    Standardization,
    Transformation,
    as_standardization_tensors,
)
from bgmm_jd.variational.coordinates import coordinate_map
from bgmm_jd.variational.parameters import (
    constrained_arrays,
    from_unconstrained,
    parameters_from_moments,
    trainable_variables,
    unconstrained_arrays,
)
from bgmm_jd.variational.surrogate import standardized_surrogate

# --- Starting values --------------------------------------------------------------------------


def moments_within_supports(model):
    """Return means and small sds within every support, in standardised units where defined."""
    rng = np.random.default_rng(3)
    found = {}
    for site in model.sites:
        mean = 1.0 + rng.random(site.shape)
        if site.name == "weights":
            mean = mean / mean.sum()
        sd = 0.01 * mean
        if site.transformation is Transformation.SCALE_MATRIX:
            mean = np.tril(mean)
        if site.transformation is Transformation.PRECISION_MATRIX:
            mean = np.tril(mean) @ np.tril(mean).swapaxes(-1, -2)
            own = np.diagonal(mean, axis1=-2, axis2=-1)
            # The sds of a Wishart.
            sd = 0.01 * np.sqrt((mean**2 + own[..., :, None] * own[..., None, :]) / 2)
        found[site.name] = mean, sd
    return found


def test_starting_values_have_the_moments_asked_for(model):
    moments = moments_within_supports(model)
    params = parameters_from_moments(model, moments)
    draws = standardized_surrogate(model, params).sample(20_000, seed=(0, 1))
    for site, draw in zip(model.sites, draws, strict=True):
        if site.fixed is not None or site.name == "weights":  # see test_families
            continue
        mean, sd = moments[site.name]
        if site.transformation in MATRIX_TRANSFORMATIONS:  # the free entries
            triangle = np.broadcast_to(np.tri(D, dtype=bool), site.shape)
            draw, mean, sd = np.asarray(draw)[:, triangle], mean[triangle], sd[triangle]
        # 20,000 draws determine a mean to sd / 141 and an sd to a 200th. A bijector's own curvature
        # over an sd of a hundredth makes a few per cent of an sd: 1 / 10 and 1 / 10 are ample.
        assert np.all(np.abs(np.mean(draw, axis=0) - mean) < sd / 10), site.name
        # Through a bijector of whole vectors one scale may serve all entries: within a factor 3.
        # So may the scales of features in the units of X, which whitened features mix.
        many = site.bijector is not None and coordinate_map(site).forward_min_event_ndims > 0
        if many and site.transformation in MATRIX_TRANSFORMATIONS:
            # Columns differ in scale: the volume that they span is kept.
            volume = 0.5 * np.linalg.slogdet(np.cov(draw, rowvar=False))[1]
            assert abs(volume - np.log(sd).sum()) < 0.1 * len(sd), site.name
            continue
        ratio = np.std(draw, axis=0) / sd
        assert np.all(np.abs(np.log(ratio)) < (np.log(3) if many else 0.1)), site.name


def test_starting_values_for_means_at_zero_are_finite(model):
    """The mean of centred data with one component is zero."""
    moments = moments_within_supports(model)
    moments["means"] = np.zeros((K, D)), np.full((K, D), 0.1)
    params = parameters_from_moments(model, moments)
    for leaf in tf.nest.flatten(params):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize(
    ("distribution", "mean", "sd"),
    [
        (tfd.Sample(tfd.Uniform(np.float64(0.0), 1.0), 2), [0.96, 0.5], [0.07, 0.7]),
        (tfd.CholeskyLKJ(2, np.float64(2.0)), [[1.0, 0.0], [0.6, 0.8]], [[0.0, 0.0], [0.1, 0.1]]),
    ],
    ids=["near the end of a support", "entries that never vary"],
)
def test_starting_values_at_the_edge_of_a_support_are_finite(distribution, mean, sd):
    identity = identity_tensors(1, "float64")
    model = standardized_model(prior_of(v=distribution), standardization=identity)
    found = parameters_from_moments(model, {"v": (mean, sd)})["v"]
    assert np.isfinite(found["loc"]).all()
    assert np.isfinite(found["scale"]).all()
    assert np.all(found["scale"] > 0.0)


def test_starting_scales_of_features_that_whitening_mixes_add_up_by_squares():
    """The first column of X is 10 z_1 - 4 z_2: with sds of 0.4 and 1 a common step would cancel.

    A uniform distribution of that width has a slope that does not change within them.
    """
    model = standardized_model(
        prior_of(means=tfd.Uniform(-1e6 * np.ones((K, D)), 1e6)), "full", UPPER
    )
    sd = np.tile([0.4, 1.0], (K, 1))
    params = parameters_from_moments(model, {"means": (np.zeros((K, D)), sd)})
    # At the middle of its range the logit has the slope 4 / range, 2e-6 here.
    expected = 2e-6 * np.array([np.hypot(10 * 0.4, 4 * 1.0), 0.2])
    np.testing.assert_allclose(params["means"]["scale"], np.tile(expected, (K, 1)), rtol=1e-4)


@pytest.mark.parametrize("family", ["normal", "student", "vector"])
def test_means_far_from_zero_keep_their_digits_in_float32(family):
    """At 1e6 a float32 has steps of 1/16: small changes there need standardised units."""
    zero, one = np.zeros((K, D), np.float32), np.ones((K, D), np.float32)
    means = {
        "normal": lambda: tfd.Normal(1e6 * one, 5.0),
        "student": lambda: tfd.StudentT(3.0, 1e6 * one, 5.0),
        "vector": lambda: tfd.Sample(tfd.MultivariateNormalDiag(1e6 * one[0], 5.0 * one[0]), K),
    }[family]()
    far = as_standardization_tensors(Standardization(np.array([1e6, 1e6]), np.ones(2)), tf.float32)
    model = standardized_model(prior_of(means=means), standardization=far)
    params = parameters_from_moments(model, {"means": (zero, 0.01 * one)})
    (draws,) = standardized_surrogate(model, params).sample(1000, seed=(0, 1))
    # An sd from 1,000 draws is good to 1 / sqrt(2000); 6 of them, 6 entries: 1e-8.
    np.testing.assert_allclose(np.std(draws, axis=0), 0.01 * one, rtol=6 / np.sqrt(2000))


# --- Variables --------------------------------------------------------------------------------


def test_variables_are_transformed_and_trainable(model):
    leaves = trainable_variables(model.sites, tf.float64)
    assert list(leaves) == [s.name for s in model.sites]
    for site in model.sites:
        assert list(leaves[site.name]) == list(site.family.constraints)
        for name, v in leaves[site.name].items():
            assert v.dtype == tf.float64
            assert v.trainable_variables == (v.pretransformed_input,)
            assert v.bijector is site.family.constraints[name]
            v.assign(tf.fill(v.shape, tf.constant(0.25, tf.float64)))
            np.testing.assert_allclose(v, np.full(v.shape, 0.25), rtol=1e-15)


def test_unconstrained_coordinates_come_back_as_the_parameters(model):
    params = random_params(model)
    free = unconstrained_arrays(model.sites, params)
    tensors = from_unconstrained(model.sites, tf.nest.map_structure(tf.constant, free))
    for back in (tensors, constrained_arrays(model.sites, free)):
        for found, expected in zip(tf.nest.flatten(back), tf.nest.flatten(params), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-15)
