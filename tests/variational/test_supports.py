"""The map from the real line to the support of a distribution, wrapped in others or not."""

import numpy as np
import pytest
import tensorflow as tf
from known_priors import D, K, Root, random_params, standardized_model
from scipy import stats
from tensorflow_probability import distributions as tfd

from bgmm_jd.variational.supports import event_space_bijector
from bgmm_jd.variational.surrogate import surrogate_in_data_units

LOW, WIDTH = np.array([0.0, 10.0]), np.array([1.0, 5.0])


def between(*batch):
    """Make a uniform distribution with batch shape [*batch, 2] whose support differs in each."""
    shift = 100.0 * np.arange(np.prod(batch, dtype=int)).reshape(*batch, 1)
    return tfd.Uniform(LOW + shift, LOW + shift + WIDTH)


# And the lower bound and the width of the entries, as they broadcast to the event.
WRAPPED = {
    "independent": (tfd.Independent(between(), 1), LOW, WIDTH),
    "sample": (
        tfd.Independent(tfd.Sample(between(), 3), 1),
        LOW[:, np.newaxis],
        WIDTH[:, np.newaxis],
    ),
    "sample of independent": (tfd.Sample(tfd.Independent(between(), 1), 3), LOW, WIDTH),
    "sample of sample": (tfd.Sample(tfd.Sample(tfd.Independent(between(), 1), 3), 4), LOW, WIDTH),
    "sample within a batch": (
        tfd.Independent(tfd.Sample(tfd.Independent(between(4), 1), 3), 1),
        LOW + 100.0 * np.arange(4).reshape(4, 1, 1),
        WIDTH,
    ),
}


@pytest.mark.parametrize(("wrapped", "low", "width"), WRAPPED.values(), ids=WRAPPED)
def test_map_and_its_jacobian_are_those_of_each_entry(wrapped, low, width):
    """y = low + width * expit(x), whose derivative is the logistic density times the width."""
    shape = tuple(wrapped.event_shape)
    bijector = event_space_bijector(wrapped, wrapped.sample(seed=(0, 0)))
    x = np.random.default_rng(0).normal(size=(5, *shape))
    y = bijector.forward(x)
    np.testing.assert_allclose(y, low + width * stats.logistic.cdf(x), rtol=1e-12)
    np.testing.assert_allclose(bijector.inverse(y), x, rtol=1e-9)
    slopes = np.log(width) + stats.logistic.logpdf(x)
    log_det = bijector.forward_log_det_jacobian(x, event_ndims=len(shape))
    np.testing.assert_allclose(log_det, slopes.reshape(5, -1).sum(1), rtol=1e-12)


@tfd.JointDistributionCoroutine
def features_in_common():
    """Yield scales of each component around those that a feature has in all components."""
    within = yield Root(tfd.Independent(tfd.LogNormal(np.log([0.35, 6.0]), 0.5), 1, name="within"))
    yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
    yield Root(tfd.Sample(tfd.Normal(np.float64(0.0), 50.0), (K, D), name="means"))
    of_component = tfd.Independent(tfd.LogNormal(tf.math.log(within), 0.3), 1)
    yield tfd.Sample(of_component, K, name="scales")


def test_densities_of_scales_that_are_a_sample_around_another_variable():
    """Of the prior and of the surrogate, whose scales are lognormal, in the units of X by scipy."""
    model = standardized_model(features_in_common)
    params = random_params(model)
    q = surrogate_in_data_units(model, params)
    draws = q.sample(4, seed=(0, 1))
    within, weights, means, scales = (np.asarray(v) for v in draws)
    member = q.sample_distributions(seed=(0, 0))[0].scales
    loc, scale = (params["scales"][name].numpy() for name in ("loc", "scale"))
    of_surrogate = stats.lognorm.logpdf(scales, scale, scale=np.exp(loc))
    np.testing.assert_allclose(member.log_prob(draws.scales), of_surrogate.sum((1, 2)), rtol=1e-10)
    of_prior = stats.lognorm.logpdf(scales, 0.3, scale=within[:, np.newaxis])
    expected = (
        stats.lognorm.logpdf(within, 0.5, scale=[0.35, 6.0]).sum(1)
        + [stats.dirichlet.logpdf(w, np.full(K, 2.0)) for w in weights / weights.sum(1)[:, None]]
        + stats.norm.logpdf(means, 0.0, 50.0).sum((1, 2))
        + of_prior.sum((1, 2))
    )
    np.testing.assert_allclose(features_in_common.log_prob(draws), expected, rtol=1e-10)


ROWS = np.ones((3, 2), np.float32)
POSITIVE = {
    "half-normal": tfd.HalfNormal(ROWS),
    "half-Cauchy": tfd.HalfCauchy(0.0 * ROWS, ROWS),
    "half-Student": tfd.HalfStudentT(3.0, 0.0, ROWS),
    "inverse gamma": tfd.InverseGamma(2.0 * ROWS, ROWS),
    "exponential": tfd.Exponential(ROWS),
    "lognormal": tfd.LogNormal(0.0 * ROWS, ROWS),
    "independent": tfd.Independent(tfd.HalfNormal(ROWS), 2),
    "sample": tfd.Sample(tfd.HalfNormal(np.float32(1.0)), (3, 2)),
}
NOT_ALL_POSITIVE = {
    "normal": tfd.Laplace(0.0 * ROWS, ROWS),
    "above two": tfd.HalfCauchy(2.0 * ROWS, ROWS),
    "Pareto": tfd.Pareto(3.0 * ROWS, ROWS),
    "bounded": tfd.Uniform(0.0 * ROWS, ROWS),
    "beta": tfd.Beta(ROWS, ROWS),
    "one of them": tfd.HalfCauchy(np.array([0.0, 0.0, 1.0], np.float32), 1.0),
}


@pytest.mark.parametrize("distribution", POSITIVE.values(), ids=POSITIVE)
def test_positive_numbers_have_their_logarithms_as_coordinates(distribution):
    draw = distribution.sample(seed=(0, 0))
    bijector = event_space_bijector(distribution, draw)
    rounding = 4 * np.finfo(np.float32).eps
    np.testing.assert_allclose(bijector.inverse(draw), np.log(draw), rounding, rounding)


@pytest.mark.parametrize("distribution", NOT_ALL_POSITIVE.values(), ids=NOT_ALL_POSITIVE)
def test_other_supports_have_the_coordinates_of_their_distribution(distribution):
    draw = distribution.sample(seed=(0, 0))
    own = distribution.experimental_default_event_space_bijector()
    bijector = event_space_bijector(distribution, draw)
    np.testing.assert_array_equal(bijector.inverse(draw), own.inverse(draw))
