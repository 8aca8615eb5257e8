"""The surrogate has the structure of the prior, and one meaning in internal and in user's units."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.data.units import (
    MATRIX_TRANSFORMATIONS,
    Standardization,
    Transformation,
    as_standardization_tensors,
    identity_standardization,
    log_det_jacobian,
    unstandardize,
)
from bgmm_jd.model.covariance_forms import FORMS, transformation_of
from bgmm_jd.model.priors import stick_breaking_prior
from bgmm_jd.variational import coordinates, natural_gradient, parameters, structure, surrogate
from bgmm_jd.variational.families import DIRICHLET, FIXED, GAMMA, NORMAL, STICK_BREAKING, WISHART

K, D = 3, 2
Root = tfd.JointDistributionCoroutine.Root
UNITS = as_standardization_tensors(
    Standardization(np.array([50.0, 3.0]), np.array([10.0, 0.2])), tf.float64
)
ONE = np.ones((K, D))


def over_event(distribution, name):
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


@tfd.JointDistributionCoroutine
def own_prior():
    """Another order, a hyperparameter, a dependency, families without a twin, a fixed variable."""
    yield Root(over_event(tfd.HalfNormal(ONE), "scales"))
    width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
    scale = width[..., tf.newaxis, tf.newaxis] * ONE
    yield tfd.Independent(tfd.StudentT(5.0 * ONE, 0.0 * ONE, scale), 2, name="means")
    yield Root(tfd.Deterministic(np.float64(7.0), name="fixed"))
    yield Root(tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), 4, name="extra"))
    yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))


def prior_of(**distributions):
    """A coroutine of independent variables with these names."""

    def model():
        for name, distribution in distributions.items():
            yield Root(over_event(distribution, name))

    return tfd.JointDistributionCoroutine(model)


def lower_triangles(*batch):
    """Matrices [..., D, D] whose free entries are normal, on the diagonal in their logs."""
    free = D * (D + 1) // 2
    base = tfd.MultivariateNormalDiag(np.zeros((*batch, free)), np.ones(free))
    return base_through(base, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None))


def precision_matrices(*batch):
    base = tfd.MultivariateNormalDiag(np.zeros((*batch, 3)), 0.5 * np.ones(3))
    root = tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)
    return base_through(base, tfb.Chain([tfb.CholeskyOuterProduct(), root]))


def base_through(base, bijector):
    return tfd.TransformedDistribution(base, bijector)


PRIORS = {
    "published": mixture_prior(K, D, dtype="float64"),
    "own": own_prior,
    "bounded": prior_of(
        weights=tfd.Dirichlet(ONE[:, 0]),
        means=tfd.Uniform(-200 * ONE, 200 * ONE),
        scales=tfd.LogNormal(0 * ONE, ONE),
    ),
    "rows of means": prior_of(
        means=tfd.Sample(tfd.MultivariateNormalDiag([0.0, 0.0], np.ones(D)), K),
        precisions=tfd.HalfCauchy(0 * ONE, ONE),
        weights=tfd.Dirichlet(ONE[:, 0]),
    ),
    "full": mixture_prior(K, D, covariance="full", dtype="float64"),
    "tied": mixture_prior(K, D, covariance="tied", dtype="float64"),
    "spherical": mixture_prior(K, D, covariance="spherical", dtype="float64"),
    "sticks": stick_breaking_prior(K, D, dtype="float64"),
    "scales that are matrices": prior_of(
        scales=lower_triangles(K),
        means=tfd.Normal(0 * ONE, ONE),
        weights=tfd.Dirichlet(ONE[:, 0]),
    ),
    "precisions without a twin": prior_of(
        precisions=precision_matrices(),
        means=tfd.Normal(0 * ONE, ONE),
        weights=tfd.Dirichlet(ONE[:, 0]),
    ),
    "one scale for all features": prior_of(
        weights=tfd.Dirichlet(ONE[:, 0]),
        means=tfd.Normal(0 * ONE, ONE),
        scales=tfd.LogNormal(0 * ONE[:, :1], ONE[:, :1]),
    ),
}
FORM_OF = {
    "full": "full",
    "tied": "tied",
    "spherical": "spherical",
    "scales that are matrices": "full",
    "precisions without a twin": "tied",
    "one scale for all features": "spherical",
}


@pytest.fixture(params=PRIORS)
def name(request):
    return request.param


@pytest.fixture
def prior(name):
    return PRIORS[name]


@pytest.fixture
def sites(name):
    return structure.sites_of(PRIORS[name], FORM_OF.get(name, "diag"))


def values_of(sites, seed=0):
    """Parameters, each its own."""
    rng = np.random.default_rng(seed)
    leaves = parameters.trainable_variables(sites, tf.float64)

    def value(constraint, leaf):
        free = rng.normal(0, 0.3, leaf.shape)
        if isinstance(constraint, tfb.TransformDiagonal):
            free = np.tril(free)
        return tf.constant(constraint.forward(free))

    return parameters.map_parameters(value, sites, leaves)


# --- Structure --------------------------------------------------------------------------------


def test_names_order_and_shapes_are_the_priors(prior, sites):
    assert tuple(site.name for site in sites) == prior.event_shape._fields
    q = surrogate.surrogate_in_data_units(sites, values_of(sites), UNITS)
    assert isinstance(q, tfd.JointDistributionCoroutine)
    assert q.event_shape._asdict() == prior.event_shape._asdict()
    assert set(q.batch_shape) == {tf.TensorShape([])}
    draws = q.sample(5, seed=(0, 1))
    assert draws._fields == prior.event_shape._fields
    assert q.log_prob(draws).shape == [5]


def test_draws_are_possible_under_the_prior(prior, sites):
    """The support is the prior's, in the user's units."""
    q = surrogate.surrogate_in_data_units(sites, values_of(sites), UNITS)
    draws = q.sample(100, seed=(0, 1))
    assert np.all(np.isfinite(prior.log_prob(draws)))


def families(prior):
    return {s.name: s.family for s in structure.sites_of(prior)}


def test_families_of_the_published_prior_are_kept():
    sites = structure.sites_of(PRIORS["published"])
    assert [s.family for s in sites] == [DIRICHLET, NORMAL, GAMMA]
    assert all(s.bijector is None and s.fixed is None for s in sites)
    q = surrogate.surrogate_in_data_units(sites, values_of(sites), UNITS)
    kinds = [structure._unwrap(d) for d in q.sample_distributions(seed=(0, 0))[0]]
    for member, kind in zip(kinds, (tfd.Dirichlet, tfd.Normal, tfd.Gamma), strict=True):
        assert isinstance(member, kind)


@pytest.mark.parametrize("form", FORMS)
def test_families_units_and_components_of_each_form(form):
    """A Wishart of matrices; what is tied belongs to no component."""
    sites = structure.sites_of(mixture_prior(K, D, covariance=form), form)
    matrices = form in ("full", "tied")
    assert [s.family for s in sites] == [DIRICHLET, NORMAL, WISHART if matrices else GAMMA]
    spread = transformation_of("precisions", form)
    assert [s.unit for s in sites] == [Transformation.NONE, Transformation.LOCATION, spread]
    assert [s.has_component_axis for s in sites] == [True, True, form != "tied"]
    assert all(s.bijector is None and s.fixed is None for s in sites)


def test_a_prior_that_breaks_sticks_keeps_them():
    assert families(PRIORS["sticks"]) == {
        "weights": STICK_BREAKING,
        "means": NORMAL,
        "precisions": GAMMA,
    }


def test_the_form_decides_where_a_shape_fits_two():
    """[2, 2] is two features of two components, or one matrix for both."""
    prior = mixture_prior(2, 2, covariance="tied", dtype="float64")
    found = {form: structure.sites_of(prior, form)[2] for form in ("diag", "tied")}
    assert [site.unit for site in found.values()] == [
        Transformation.PRECISION,
        Transformation.PRECISION_MATRIX,
    ]
    assert [site.has_component_axis for site in found.values()] == [True, False]


def test_families_of_a_users_own_prior():
    found = families(own_prior)
    assert found == {
        "scales": NORMAL,
        "width": GAMMA,
        "means": NORMAL,
        "fixed": FIXED,
        "extra": NORMAL,
        "weights": DIRICHLET,
    }
    sites = structure.sites_of(own_prior)
    bijectors = {s.name: s.bijector for s in sites}
    assert {name for name, b in bijectors.items() if b is not None} == {"scales", "means"}
    assert isinstance(bijectors["means"], tfb.Identity)
    assert {s.name for s in sites if s.has_component_axis} == {"scales", "means", "weights"}
    assert {s.name: s.unit for s in sites if s.unit is not Transformation.NONE} == {
        "scales": Transformation.SCALE,
        "means": Transformation.LOCATION,
    }


def test_a_family_without_a_twin_is_a_normal_through_the_variables_bijector():
    """LogNormal scales, for one: the log of internal scales is normal, here by numpy."""
    prior = PRIORS["bounded"]
    sites = structure.sites_of(prior)
    values = values_of(sites)
    q = surrogate.surrogate_in_data_units(sites, values, UNITS)
    theta = q.sample(3, seed=(0, 1))
    member = q.sample_distributions(seed=(0, 0))[0].scales
    loc, scale = values["scales"]["loc"].numpy(), values["scales"]["scale"].numpy()
    log = np.log(theta.scales)
    expected = -0.5 * ((log - loc) / scale) ** 2 - np.log(scale * np.sqrt(2 * np.pi)) - log
    np.testing.assert_allclose(member.log_prob(theta.scales), expected.sum((1, 2)), rtol=1e-12)


def test_positive_means_leave_their_family_as_their_units_have_a_shift():
    """A Gamma whose draws are shifted is no Gamma."""
    prior = prior_of(means=tfd.Gamma(2 * ONE, ONE))
    (site,) = structure.sites_of(prior)
    assert site.family is NORMAL
    values = values_of((site,))
    inside = surrogate.standardized_surrogate((site,), values, UNITS)
    user = surrogate.surrogate_in_data_units((site,), values, UNITS)
    means = user.sample(50, seed=(0, 1)).means
    assert np.all(means > 0)
    moved = (means - UNITS.shift) / UNITS.scale
    expected = inside.log_prob((moved,)) - K * np.log(UNITS.scale).sum()
    np.testing.assert_allclose(user.log_prob(means), expected, rtol=1e-10, atol=1e-10)


def test_precisions_that_are_proportions_are_so_in_the_units_of_the_user():
    """Of a Dirichlet, which is one in no other units."""
    prior = prior_of(precisions=tfd.Dirichlet(3 * ONE))
    (site,) = structure.sites_of(prior)
    assert site.family is NORMAL
    (inside,) = surrogate.standardized_surrogate((site,), values_of((site,)), UNITS).sample(
        50, seed=(0, 1)
    )
    draws = (
        surrogate.surrogate_in_data_units((site,), values_of((site,)), UNITS)
        .sample(50, seed=(0, 1))
        .precisions
    )
    np.testing.assert_allclose(np.sum(draws, axis=-1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(unstandardize(site.unit, inside, UNITS), draws, rtol=1e-12)


def test_a_wishart_of_factors_is_not_taken_for_one_of_matrices():
    eye = np.eye(D, dtype=np.float32)  # in float64 TFP's own bijector for it mixes dtypes
    law = tfd.WishartTriL(np.float32(5), eye, input_output_cholesky=True)
    (site,) = structure.sites_of(prior_of(factor=law))
    assert site.family is NORMAL
    draws = (
        surrogate.surrogate_in_data_units((site,), values_of((site,)), UNITS)
        .sample(8, seed=(0, 1))
        .factor
    )
    np.testing.assert_array_equal(draws, np.tril(draws))


def test_a_subclass_is_not_taken_for_its_family():
    class Other(tfd.Normal):
        pass

    found = structure.sites_of(prior_of(means=Other(0 * ONE, ONE)))[0]
    assert found.bijector is not None


def test_a_discrete_variable_is_refused():
    with pytest.raises(ValueError, match=r"'label' .*Use a continuous distribution"):
        structure.sites_of(prior_of(label=tfd.Categorical(logits=np.zeros(3))))


def test_a_variable_fixed_by_others_is_refused():
    @tfd.JointDistributionCoroutine
    def prior():
        width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
        yield tfd.Deterministic(2.0 * width, name="twice")

    with pytest.raises(ValueError, match="'twice' must not be fixed by other variables"):
        structure.sites_of(prior)


def test_a_variable_fixed_by_a_tensorflow_variable_is_refused():
    where = tf.Variable(np.zeros(3))
    with pytest.raises(ValueError, match=r"'means' must not be fixed by a tf\.Variable"):
        structure.sites_of(prior_of(means=tfd.Independent(tfd.Deterministic(where), 1)))


def test_a_support_that_depends_on_others_is_refused():
    @tfd.JointDistributionCoroutine
    def prior():
        top = yield Root(tfd.HalfNormal(np.float64(5.0), name="top"))
        yield tfd.Sample(tfd.Uniform(np.float64(0.0), top), 2, name="scales")

    with pytest.raises(ValueError, match="'scales' must have a support that does not depend"):
        structure.sites_of(prior)


def test_a_spread_that_depends_on_others_is_no_other_support():
    """Even if it is in the map from the real line."""

    @tfd.JointDistributionCoroutine
    def prior():
        width = yield Root(tfd.HalfNormal(np.float64(5.0), name="width"))
        yield tfd.Sample(tfd.LogNormal(np.float64(0.0), width), 2, name="scales")
        base = tfd.Sample(tfd.HalfNormal(np.float64(1.0)), 2)
        yield tfd.TransformedDistribution(base, tfb.Scale(width[..., tf.newaxis]), name="others")

    assert len(structure.sites_of(prior)) == 3


@pytest.mark.parametrize(
    ("law", "mean", "sd"),
    [
        (tfd.Sample(tfd.Uniform(np.float64(0.0), 1.0), 2), [0.96, 0.5], [0.07, 0.7]),
        (tfd.CholeskyLKJ(2, np.float64(2.0)), [[1.0, 0.0], [0.6, 0.8]], [[0.0, 0.0], [0.1, 0.1]]),
    ],
    ids=["near the end of a support", "entries that never vary"],
)
def test_starts_are_finite(law, mean, sd):
    sites = structure.sites_of(prior_of(v=law))
    units = as_standardization_tensors(identity_standardization(1), "float64")
    found = parameters.parameters_from_moments(sites, {"v": (mean, sd)}, units, "float64")["v"]
    assert np.isfinite(found["loc"]).all()
    assert np.isfinite(found["scale"]).all()
    assert np.all(found["scale"] > 0.0)


# --- Units ------------------------------------------------------------------------------------


def test_the_user_density_is_the_push_forward_of_the_internal_one(sites):
    values = values_of(sites)
    inside = surrogate.standardized_surrogate(sites, values, UNITS)
    user = surrogate.surrogate_in_data_units(sites, values, UNITS)
    draws = inside.sample(20, seed=(0, 1))
    moved = [unstandardize(s.unit, v, UNITS) for s, v in zip(sites, draws, strict=True)]
    volume = log_det_jacobian([(s.unit, s.shape) for s in sites if s.fixed is None], UNITS)
    found = user.log_prob(*moved)
    # Adding and subtracting the shift costs the digits of 50 / 10; the bijectors some more.
    np.testing.assert_allclose(found, inside.log_prob(draws) - volume, rtol=1e-10, atol=1e-10)


def test_the_same_seed_draws_the_same_point_in_either_units(sites):
    values = values_of(sites)
    inside = surrogate.standardized_surrogate(sites, values, UNITS).sample(4, seed=(0, 1))
    user = surrogate.surrogate_in_data_units(sites, values, UNITS).sample(4, seed=(0, 1))
    for site, value, expected in zip(sites, inside, user, strict=True):
        moved = unstandardize(site.unit, value, UNITS)
        np.testing.assert_allclose(moved, expected, rtol=1e-10, err_msg=site.name)


@pytest.mark.parametrize("name", ["positive", "bounded", "rows of means"])
def test_a_prior_in_float32_serves_a_fit_in_float64(name):
    """TFP's own default dtype, and rows that NumPy makes in its own."""
    half = {
        "positive": prior_of(scales=tfd.LogNormal(np.float32(0 * ONE), np.float32(1))),
        "bounded": prior_of(
            means=tfd.Uniform(np.float32(-200 * ONE), np.float32(200)),
            scales=tfd.HalfCauchy(np.float32(0 * ONE), np.float32(1)),
        ),
        "rows of means": prior_of(
            means=tfd.Sample(tfd.MultivariateNormalDiag([0.0, 0.0], [1.0, 1.0]), K)
        ),
    }[name]
    sites = structure.sites_of(half)
    q = surrogate.surrogate_in_data_units(sites, values_of(sites), UNITS)
    for draw in q.sample(5, seed=(0, 1)):
        assert draw.dtype == tf.float64


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_coordinates_come_back(sites, dtype):
    for site in sites:
        if site.fixed is not None or (dtype == tf.float32 and site.bijector is not None):
            continue
        units = as_standardization_tensors(UNITS, dtype)
        bijector = coordinates.coordinate_map(site, units)
        shape = bijector.inverse_event_shape(site.shape)
        point = tf.constant(np.random.default_rng(0).normal(size=(6, *shape)), dtype)
        back = bijector.inverse(tf.identity(bijector.forward(point)))
        eps = np.finfo(dtype.as_numpy_dtype).eps
        # The affine map and the bijector lose at most some hundreds of units in the last place.
        np.testing.assert_allclose(back, point, rtol=0, atol=1e4 * eps)


# --- Start ------------------------------------------------------------------------------------


def moments_for(sites):
    """Means and small sds within every support, in internal units where there are any."""
    rng = np.random.default_rng(3)
    found = {}
    for site in sites:
        mean = 1.0 + rng.random(site.shape)
        if site.name == "weights":
            mean = mean / mean.sum()
        sd = 0.01 * mean
        if site.unit is Transformation.SCALE_MATRIX:
            mean = np.tril(mean)
        if site.unit is Transformation.PRECISION_MATRIX:
            mean = np.tril(mean) @ np.tril(mean).swapaxes(-1, -2)
            own = np.diagonal(mean, axis1=-2, axis2=-1)
            sd = 0.01 * np.sqrt(
                (mean**2 + own[..., :, None] * own[..., None, :]) / 2
            )  # a Wishart's
        found[site.name] = mean, sd
    return found


def test_start_values_have_the_moments_asked_for(sites):
    moments = moments_for(sites)
    values = parameters.parameters_from_moments(sites, moments, UNITS, tf.float64)
    draws = surrogate.standardized_surrogate(sites, values, UNITS).sample(20_000, seed=(0, 1))
    for site, draw in zip(sites, draws, strict=True):
        if site.fixed is not None or site.name == "weights":  # see test_families
            continue
        mean, sd = moments[site.name]
        if site.unit in MATRIX_TRANSFORMATIONS:  # what is free of them
            triangle = np.broadcast_to(np.tri(D, dtype=bool), site.shape)
            draw, mean, sd = np.asarray(draw)[:, triangle], mean[triangle], sd[triangle]
        # 20,000 draws tell a mean to sd / 141 and an sd to a 200th. A bijector's own curvature
        # over an sd of a hundredth makes a few per cent of an sd: 1 / 10 and 1 / 10 are ample.
        assert np.all(np.abs(np.mean(draw, axis=0) - mean) < sd / 10), site.name
        # Through a bijector of whole vectors one spread may serve all entries: within a factor 3.
        many = site.bijector is not None and site.bijector.forward_min_event_ndims > 0
        if (
            many and site.unit in MATRIX_TRANSFORMATIONS
        ):  # of unlike columns: the volume that they span is kept
            volume = 0.5 * np.linalg.slogdet(np.cov(draw, rowvar=False))[1]
            assert abs(volume - np.log(sd).sum()) < 0.1 * len(sd), site.name
            continue
        ratio = np.std(draw, axis=0) / sd
        assert np.all(np.abs(np.log(ratio)) < (np.log(3) if many else 0.1)), site.name


def test_start_values_at_zero_are_finite(sites):
    """As the only mean is of centred data."""
    moments = moments_for(sites)
    moments["means"] = np.zeros((K, D)), np.full((K, D), 0.1)
    values = parameters.parameters_from_moments(sites, moments, UNITS, tf.float64)
    for leaf in tf.nest.flatten(values):
        assert np.all(np.isfinite(leaf))


@pytest.mark.parametrize("law", ["normal", "student", "vector"])
def test_means_far_from_zero_keep_their_digits_in_float32(law):
    """At 1e6 a float32 has steps of 1/16: what moves there must move in internal units."""
    zero, one = np.zeros((K, D), np.float32), np.ones((K, D), np.float32)
    means = {
        "normal": lambda: tfd.Normal(1e6 * one, 5.0),
        "student": lambda: tfd.StudentT(3.0, 1e6 * one, 5.0),
        "vector": lambda: tfd.Sample(tfd.MultivariateNormalDiag(1e6 * one[0], 5.0 * one[0]), K),
    }[law]()
    (site,) = structure.sites_of(prior_of(means=means))
    units = as_standardization_tensors(
        Standardization(np.array([1e6, 1e6]), np.ones(2)), tf.float32
    )
    moments = {"means": (zero, 0.01 * one)}
    values = parameters.parameters_from_moments((site,), moments, units, tf.float32)
    (draws,) = surrogate.standardized_surrogate((site,), values, units).sample(1000, seed=(0, 1))
    # An sd from 1,000 draws is good to 1 / sqrt(2000); 6 of them, 6 entries: 1e-8.
    np.testing.assert_allclose(np.std(draws, axis=0), 0.01 * one, rtol=6 / np.sqrt(2000))


# --- Training ---------------------------------------------------------------------------------


def test_variables_are_transformed_and_trainable(sites):
    leaves = parameters.trainable_variables(sites, tf.float64)
    assert list(leaves) == [s.name for s in sites]
    for site in sites:
        assert list(leaves[site.name]) == list(site.family.constraints)
        for name, v in leaves[site.name].items():
            assert v.dtype == tf.float64
            assert v.trainable_variables == (v.pretransformed_input,)
            assert v.bijector is site.family.constraints[name]
            v.assign(tf.fill(v.shape, tf.constant(0.25, tf.float64)))
            np.testing.assert_allclose(v, np.full(v.shape, 0.25), rtol=1e-15)


def training(sites):
    leaves = parameters.trainable_variables(sites, tf.float64)
    parameters.map_parameters(lambda _, v, new: v.assign(new), sites, leaves, values_of(sites))
    q = surrogate.training_surrogate(sites, leaves, UNITS, lambda: tf.constant([3, 4]))
    return leaves, q


def test_the_surrogate_in_training_is_the_surrogate(sites):
    _, q = training(sites)
    draws = q.sample(8, seed=(0, 1))
    theta = surrogate.without_cholesky(sites, surrogate.with_cholesky(sites, draws))
    expected = surrogate.standardized_surrogate(sites, values_of(sites), UNITS)
    density = expected.log_prob(list(theta.values()))
    # A matrix that is made of its root and decomposed again has lost some digits of it.
    matrices = any(site.family is WISHART for site in sites)
    np.testing.assert_allclose(q.log_prob(draws), density, rtol=1e-11 if matrices else 1e-13)
    assert tuple(q.event_shape) == tuple(expected.event_shape)


def test_the_density_in_training_has_no_gradient_in_its_own_parameters(sites):
    """And through the draws it has all of it: sticking the landing."""
    leaves, q = training(sites)
    held = [v.pretransformed_input for v in tf.nest.flatten(leaves)]
    theta = tf.nest.map_structure(tf.identity, q.sample(8, seed=(0, 1)))
    with tf.GradientTape() as tape:
        density = q.log_prob(theta)
    assert all(g is None for g in tape.gradient(density, held))

    with tf.GradientTape(persistent=True) as tape:
        draws = q.sample(8, seed=(0, 1))
        density = q.log_prob(draws)
        # The same by hand: the density of the frozen surrogate at the moving draws.
        frozen = surrogate.standardized_surrogate(sites, values_of(sites), UNITS)
        theta = surrogate.without_cholesky(sites, surrogate.with_cholesky(sites, draws))
        expected = frozen.log_prob(list(theta.values()))
    found = tape.gradient(density, held)
    for g, e in zip(found, tape.gradient(expected, held), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-10)
    assert any(np.any(g != 0) for g in found)


def test_draws_in_training_come_from_the_step_and_not_from_tfps_seed():
    """TFP splits its seed by other means under XLA than outside it."""
    sites = structure.sites_of(PRIORS["published"])
    leaves, q = training(sites)
    for found, expected in zip(q.sample(8, seed=(0, 1)), q.sample(8, seed=(5, 6)), strict=True):
        np.testing.assert_array_equal(found, expected)
    other = surrogate.training_surrogate(sites, leaves, UNITS, lambda: tf.constant([3, 5]))
    assert not np.any(np.equal(other.sample(8, seed=(0, 1))[1], q.sample(8, seed=(0, 1))[1]))


def test_sites_draw_independently():
    """Each site has a seed of its own, or equal families would have equal draws."""
    prior = prior_of(a=tfd.Normal(0 * ONE, 1.0), b=tfd.Normal(0 * ONE, 1.0))
    sites = structure.sites_of(prior)
    leaves = parameters.trainable_variables(sites, tf.float64)
    for seed in [(0, 1), (2, 3)]:
        q = surrogate.training_surrogate(sites, leaves, UNITS, lambda s=seed: tf.constant(s))
        a, b = q.sample(8, seed=(0, 1))
        assert not np.any(np.asarray(a) == np.asarray(b))


def test_natural_gradient_goes_site_by_site(sites):
    values, gradient = values_of(sites), values_of(sites, seed=1)
    found = natural_gradient.natural_gradient(sites, values, gradient)
    assert list(found) == [s.name for s in sites]
    for site in sites:
        expected = site.family.natural(values[site.name], gradient[site.name])
        for name in site.family.constraints:
            np.testing.assert_array_equal(found[site.name][name], expected[name])
