"""The surrogate has the structure of the prior, and is one distribution in both kinds of units."""

import numpy as np
import pytest
import tensorflow as tf
from known_priors import (
    ONE,
    PRIORS,
    STANDARDIZATION,
    D,
    K,
    prior_of,
    random_params,
    standardized_model,
)
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.units import log_det_jacobian, unstandardize
from bgmm_jd.variational.families import NORMAL, WISHART
from bgmm_jd.variational.parameters import map_parameters, trainable_variables
from bgmm_jd.variational.supports import SHAPE_WRAPPERS
from bgmm_jd.variational.surrogate import (
    standardized_surrogate,
    surrogate_in_data_units,
    training_surrogate,
    with_cholesky,
    without_cholesky,
)

# What TFP finds out about a joint distribution it keeps with the object, which each test would
# otherwise have it find out again.


@pytest.fixture(scope="module")
def standardized(model):
    return standardized_surrogate(model, random_params(model))


@pytest.fixture(scope="module")
def in_data_units(model):
    return surrogate_in_data_units(model, random_params(model))


@pytest.fixture(scope="module")
def training(model):
    """Return variables that hold random parameters, and the surrogate in training over them."""
    return trained(model)


# --- Structure --------------------------------------------------------------------------------


def test_surrogate_has_the_names_order_and_shapes_of_the_prior(prior, in_data_units):
    q = in_data_units
    assert isinstance(q, tfd.JointDistributionCoroutine)
    assert q.event_shape._asdict() == prior.event_shape._asdict()
    assert set(q.batch_shape) == {tf.TensorShape([])}
    draws = q.sample(5, seed=(0, 1))
    assert draws._fields == prior.event_shape._fields
    assert q.log_prob(draws).shape == [5]


def test_draws_are_in_the_support_of_the_prior(prior, in_data_units):
    """In the units of X."""
    draws = in_data_units.sample(100, seed=(0, 1))
    assert np.all(np.isfinite(prior.log_prob(draws)))


def test_members_for_the_published_prior_are_of_its_own_families():
    model = standardized_model(PRIORS["published"])
    q = surrogate_in_data_units(model, random_params(model))
    members = q.sample_distributions(seed=(0, 0))[0]
    for member, family in zip(members, (tfd.Dirichlet, tfd.Normal, tfd.Gamma), strict=True):
        while isinstance(member, SHAPE_WRAPPERS):
            member = member.distribution
        assert isinstance(member, family)


def test_member_without_a_matching_family_is_a_normal_through_the_variables_bijector():
    """LogNormal scales, for one: the log of a standardised scale is normal, here by numpy."""
    model = standardized_model(PRIORS["bounded"])
    params = random_params(model)
    q = surrogate_in_data_units(model, params)
    theta = q.sample(3, seed=(0, 1))
    member = q.sample_distributions(seed=(0, 0))[0].scales
    loc, scale = params["scales"]["loc"].numpy(), params["scales"]["scale"].numpy()
    log = np.log(theta.scales)
    expected = -0.5 * ((log - loc) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi)) - log
    np.testing.assert_allclose(member.log_prob(theta.scales), expected.sum((1, 2)), rtol=1e-12)


def test_positive_means_leave_their_family_because_their_units_have_a_shift():
    """The distribution of shifted Gamma draws is not a Gamma."""
    model = standardized_model(prior_of(means=tfd.Gamma(2 * ONE, ONE)))
    assert model.site("means").family is NORMAL
    params = random_params(model)
    standardized = standardized_surrogate(model, params)
    in_data_units = surrogate_in_data_units(model, params)
    means = in_data_units.sample(50, seed=(0, 1)).means
    assert np.all(means > 0)
    moved = (means - STANDARDIZATION.shift) / STANDARDIZATION.scale
    expected = standardized.log_prob((moved,)) - K * np.log(STANDARDIZATION.scale).sum()
    np.testing.assert_allclose(in_data_units.log_prob(means), expected, rtol=1e-10, atol=1e-10)


def test_precisions_that_are_proportions_are_so_in_the_units_of_x():
    """A Dirichlet in the units of X is not one in standardised units."""
    model = standardized_model(prior_of(precisions=tfd.Dirichlet(3 * ONE)))
    (site,) = model.sites
    assert site.family is NORMAL
    params = random_params(model)
    (standardized,) = standardized_surrogate(model, params).sample(50, seed=(0, 1))
    draws = surrogate_in_data_units(model, params).sample(50, seed=(0, 1)).precisions
    np.testing.assert_allclose(np.sum(draws, axis=-1), 1.0, rtol=1e-12)
    moved = unstandardize(site.transformation, standardized, STANDARDIZATION)
    np.testing.assert_allclose(moved, draws, rtol=1e-12)


def test_wishart_of_cholesky_factors_is_not_taken_for_one_of_matrices():
    eye = np.eye(D, dtype=np.float32)  # in float64 TFP's own bijector for it mixes dtypes
    of_factors = tfd.WishartTriL(np.float32(5), eye, input_output_cholesky=True)
    model = standardized_model(prior_of(factor=of_factors))
    assert model.site("factor").family is NORMAL
    draws = surrogate_in_data_units(model, random_params(model)).sample(8, seed=(0, 1)).factor
    np.testing.assert_array_equal(draws, np.tril(draws))


# --- Units ------------------------------------------------------------------------------------


def test_density_in_data_units_is_the_push_forward_of_the_standardised_one(
    model, standardized, in_data_units
):
    draws = standardized.sample(20, seed=(0, 1))
    moved = [
        unstandardize(site.transformation, v, model.standardization)
        for site, v in zip(model.sites, draws, strict=True)
    ]
    jacobian = log_det_jacobian(model.transformations_and_shapes, model.standardization)
    found = in_data_units.log_prob(*moved)
    # Adding and subtracting the shift costs the digits of 50 / 10; the bijectors some more.
    expected = standardized.log_prob(draws) - jacobian
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_equal_seeds_draw_equal_points_in_either_units(model, standardized, in_data_units):
    pairs = (q.sample(4, seed=(0, 1)) for q in (standardized, in_data_units))
    for site, value, expected in zip(model.sites, *pairs, strict=True):
        if site.name == "means" and site.is_normal and model.standardization.inverse is not None:
            # An upper triangular matrix gives the covariance of draws another Cholesky factor: the
            # distribution is the same, which the density shows, and the draws are not.
            continue
        moved = unstandardize(site.transformation, value, model.standardization)
        np.testing.assert_allclose(moved, expected, rtol=1e-10, err_msg=site.name)


@pytest.mark.parametrize("support", ["positive", "bounded", "rows of means"])
def test_prior_in_float32_serves_a_fit_in_float64(support):
    """TFP's default dtype, and rows in NumPy's."""
    narrow = {
        "positive": prior_of(scales=tfd.LogNormal(np.float32(0 * ONE), np.float32(1))),
        "bounded": prior_of(
            means=tfd.Uniform(np.float32(-200 * ONE), np.float32(200)),
            scales=tfd.HalfCauchy(np.float32(0 * ONE), np.float32(1)),
        ),
        "rows of means": prior_of(
            means=tfd.Sample(tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0]), K)
        ),
    }[support]
    model = standardized_model(narrow)
    q = surrogate_in_data_units(model, random_params(model))
    for draw in q.sample(5, seed=(0, 1)):
        assert draw.dtype == tf.float64


# --- Training ---------------------------------------------------------------------------------


def trained(model):
    """Return variables that hold random parameters, and the surrogate in training over them."""
    leaves = trainable_variables(model.sites, tf.float64)
    map_parameters(lambda _, v, new: v.assign(new), model.sites, leaves, random_params(model))
    return leaves, training_surrogate(model, leaves, lambda: tf.constant([3, 4]))


def standardized_log_prob(model, standardized, draws):
    """Return the density of a training surrogate's draws under the plain surrogate."""
    theta = without_cholesky(model, with_cholesky(model, draws))
    return standardized.log_prob(list(theta.values()))


def test_surrogate_in_training_has_the_density_and_shapes_of_the_surrogate(
    model, standardized, training
):
    _, q = training
    draws = q.sample(8, seed=(0, 1))
    # Making a matrix of its Cholesky factor and decomposing it again loses some digits.
    matrices = any(site.family is WISHART for site in model.sites)
    rtol = 1e-11 if matrices else 1e-13
    expected = standardized_log_prob(model, standardized, draws)
    np.testing.assert_allclose(q.log_prob(draws), expected, rtol=rtol)
    assert tuple(q.event_shape) == tuple(standardized.event_shape)


def test_density_in_training_has_a_gradient_through_the_draws_alone(model, standardized, training):
    """None in its own parameters: sticking the landing."""
    leaves, q = training
    held = [v.pretransformed_input for v in tf.nest.flatten(leaves)]
    theta = tf.nest.map_structure(tf.identity, q.sample(8, seed=(0, 1)))
    with tf.GradientTape() as tape:
        density = q.log_prob(theta)
    assert all(g is None for g in tape.gradient(density, held))

    with tf.GradientTape(persistent=True) as tape:
        draws = q.sample(8, seed=(0, 1))
        density = q.log_prob(draws)
        # By hand: the density of a surrogate without variables at the moving draws.
        expected = standardized_log_prob(model, standardized, draws)
    found = tape.gradient(density, held)
    for g, e in zip(found, tape.gradient(expected, held), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-10)
    assert any(np.any(g != 0) for g in found)


def test_draws_in_training_come_from_the_seed_of_the_step():
    """Not from the seed that TFP passes, which it splits differently under XLA than outside it."""
    model = standardized_model(PRIORS["published"])
    leaves, q = trained(model)
    for found, expected in zip(q.sample(8, seed=(0, 1)), q.sample(8, seed=(5, 6)), strict=True):
        np.testing.assert_array_equal(found, expected)
    other = training_surrogate(model, leaves, lambda: tf.constant([3, 5]))
    assert not np.any(np.equal(other.sample(8, seed=(0, 1))[1], q.sample(8, seed=(0, 1))[1]))


def test_sites_of_one_family_draw_independently():
    """Each site has a seed of its own, or equal families would have equal draws."""
    prior = prior_of(a=tfd.Normal(0 * ONE, 1.0), b=tfd.Normal(0 * ONE, 1.0))
    model = standardized_model(prior)
    leaves = trainable_variables(model.sites, tf.float64)
    for seed in [(0, 1), (2, 3)]:
        q = training_surrogate(model, leaves, lambda s=seed: tf.constant(s))
        a, b = q.sample(8, seed=(0, 1))
        assert not np.any(np.asarray(a) == np.asarray(b))
