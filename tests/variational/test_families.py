"""Each family of a surrogate's members against tfd, and its natural gradient against divergences.

The Fisher information is the second derivative of KL(q_v || q_u) by u at u = v. It is computed here
from tfd's divergences by automatic differentiation in float64, in the unconstrained parameters.
"""

import numpy as np
import pytest
import tensorflow as tf
from known_trigamma import TRIGAMMA_TRUNCATION
from tensorflow_probability import distributions as tfd

from bgmm_jd.data.affine_maps import Elementwise, LinearMap
from bgmm_jd.data.units import (
    Standardization,
    Transformation,
    affine_map,
    as_standardization_tensors,
    whitening,
)
from bgmm_jd.distributions import stick_breaking, wishart
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.distributions.multivariate_normal import MultivariateNormal
from bgmm_jd.variational.families import (
    DIRICHLET,
    FIXED,
    GAMMA,
    MATCHING_FAMILY,
    MULTIVARIATE_NORMAL,
    NORMAL,
    STICK_BREAKING,
    WISHART,
)

FAMILIES = {"normal": NORMAL, "gamma": GAMMA, "dirichlet": DIRICHLET}
EPS = np.finfo(np.float64).eps

# The families' distributions by stock tfd, from unconstrained parameters.
STOCK = {
    "normal": lambda p: tfd.Normal(p["loc"], tf.exp(p["scale"])),
    "gamma": lambda p: tfd.Gamma(
        tf.exp(p["concentration"]), tf.exp(p["concentration"] - p["mean"])
    ),
    "dirichlet": lambda p: tfd.Dirichlet(tf.exp(p["concentration"])),
}


def constrained(family, free):
    return {name: c.forward(tf.constant(free[name])) for name, c in family.constraints.items()}


def free_parameters(name, at):
    """Unconstrained parameters [2] (or [K]) at a concentration, or scale, of the given size."""
    log = np.log(at)
    return {
        "normal": {"loc": np.array([3.0, -1.0]), "scale": log + np.array([0.0, 0.7])},
        "gamma": {"concentration": log + np.array([0.0, 0.3]), "mean": np.array([2.0, -5.0])},
        "dirichlet": {"concentration": log + np.array([0.0, 0.4, 1.0])},
    }[name]


def fisher(name, free):
    """[P, P] over all unconstrained parameters, in the order of `free`."""
    sizes = [len(v) for v in free.values()]

    def split(flat):
        return dict(zip(free, tf.split(flat, sizes), strict=True))

    flat = tf.constant(np.concatenate(list(free.values())))
    still = STOCK[name](split(flat))
    with tf.GradientTape(persistent=True) as second:
        second.watch(flat)
        with tf.GradientTape() as first:
            first.watch(flat)
            divergence = tf.reduce_sum(tfd.kl_divergence(still, STOCK[name](split(flat))))
        slope = first.gradient(divergence, flat)
    return second.jacobian(slope, flat, experimental_use_pfor=False).numpy()


def natural_gradient(name, free, gradient, dtype=np.float64):
    family = FAMILIES[name]
    parameters = {k: tf.cast(v, dtype) for k, v in constrained(family, free).items()}
    given = {k: tf.constant(v, dtype) for k, v in gradient.items()}
    return {k: v.numpy() for k, v in family.natural_gradient(parameters, given).items()}


def random_gradient(free):
    rng = np.random.default_rng(4)
    return {name: rng.normal(size=len(v)) for name, v in free.items()}


def sizes_of_terms(name, free):
    """Sizes of the terms whose difference is the information of each unconstrained parameter."""
    p = {k: v.numpy() for k, v in constrained(FAMILIES[name], free).items()}
    terms = {
        "normal": lambda: [p["scale"] ** -2, np.full(2, 2.0)],
        "gamma": lambda: [p["concentration"] + 1, p["concentration"]],
        "dirichlet": lambda: [p["concentration"] + 1],
    }[name]()
    return np.concatenate(terms)


SIZES = [0.05, 0.3, 1.0, 7.9, 8.1, 50.0, 1e3, 1e5, 1e8]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_natural_gradient_is_the_inverse_fisher_information(name, size):
    free = free_parameters(name, size)
    gradient = random_gradient(free)
    F = fisher(name, free)
    expected = np.linalg.solve(F, np.concatenate(list(gradient.values())))
    found = np.concatenate(list(natural_gradient(name, free, gradient).values()))
    # F by differentiation has an error of some eps of its terms, of which the logs reach 18 times
    # their factor; the error of the solution is then |F^-1| |error of F| |solution|.
    root = np.sqrt(sizes_of_terms(name, free))
    error = 50 * EPS * np.outer(root, root) + (0 if name == "normal" else TRIGAMMA_TRUNCATION)
    allowed = np.abs(np.linalg.inv(F)) @ error @ np.abs(expected)
    assert np.all(allowed < 1e-4 * np.abs(expected).max())  # otherwise the test is empty
    assert np.all(np.abs(found - expected) <= allowed)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [s for s in SIZES if s >= 1])
def test_natural_gradient_in_float32_agrees_with_float64(name, size):
    """To some 50 roundings, each of which may count twice in a Dirichlet."""
    free = free_parameters(name, size)
    gradient = random_gradient(free)
    found, expected = (natural_gradient(name, free, gradient, d) for d in (np.float32, np.float64))
    for parameter in free:
        assert found[parameter].dtype == np.float32
        allowed = 100 * np.finfo(np.float32).eps * np.abs(expected[parameter]).max()
        assert np.all(np.abs(found[parameter] - expected[parameter]) <= allowed)


def test_natural_gradient_of_a_dirichlet_of_one_component_is_zero():
    found = natural_gradient(
        "dirichlet", {"concentration": np.array([1.0])}, {"concentration": [0.0]}
    )
    np.testing.assert_array_equal(found["concentration"], [0.0])


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_and_distribution_agree_with_tfd(name):
    free = free_parameters(name, 3.0)
    family, stock = FAMILIES[name], STOCK[name](free)
    parameters = constrained(family, free)
    mean, sd = family.moments({k: v.numpy() for k, v in parameters.items()})
    np.testing.assert_allclose(mean, stock.mean(), rtol=1e-14)
    np.testing.assert_allclose(sd, stock.stddev(), rtol=1e-14)
    mine = family.distribution(parameters)
    draws = stock.sample(7, seed=(0, 1))
    np.testing.assert_allclose(mine.log_prob(draws), stock.log_prob(draws), rtol=1e-12)
    assert mine.reparameterization_type == tfd.FULLY_REPARAMETERIZED


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_from_moments_have_these_moments(name, dtype):
    rng = np.random.default_rng(1)
    mean, sd = rng.gamma(5.0, size=(4, 3)), 0.1 * rng.gamma(5.0, size=(4, 3))
    if name == "dirichlet":
        mean /= mean.sum(axis=-1, keepdims=True)
        sd = np.sqrt(mean * (1 - mean) / 51)  # a total of 50
    family = FAMILIES[name]
    start = family.from_moments(tf.constant(mean, dtype), tf.constant(sd, dtype))
    assert set(start) == set(family.constraints)
    found = family.moments({k: v.numpy() for k, v in start.items()})
    np.testing.assert_allclose(found, [mean, sd], rtol=50 * np.finfo(dtype).eps)


def test_dirichlet_from_moments_fits_the_sds_on_average():
    """The sum of the variances is kept; a Dirichlet has one number for all sds."""
    mean, sd = np.array([0.2, 0.3, 0.5]), np.array([0.03, 0.01, 0.02])
    start = DIRICHLET.from_moments(tf.constant(mean), tf.constant(sd))
    found = DIRICHLET.moments({k: v.numpy() for k, v in start.items()})
    np.testing.assert_allclose(found[0], mean, rtol=1e-14)
    np.testing.assert_allclose(np.sum(found[1] ** 2), np.sum(sd**2), rtol=1e-13)


def test_dirichlet_from_impossible_sds_is_a_distribution():
    """No Dirichlet is wider than one whose total is zero."""
    start = DIRICHLET.from_moments(tf.constant([0.5, 0.5]), tf.constant([9.0, 9.0]))
    assert np.all(start["concentration"] > 0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("normal", Elementwise(np.array([5000.0, -0.3]), np.array([1000.0, 0.02]), np.log(20.0))),
        ("normal", Elementwise(None, np.array([1000.0, 0.02]), np.log(20.0))),
        ("gamma", Elementwise(None, np.array([1e-6, 2500.0]), np.log(2.5e-3))),
    ],
)
def test_change_of_units_is_a_push_forward(name, change):
    """q(x) = q(z) / factor, where x = shift + factor z."""
    family, free = FAMILIES[name], free_parameters(name, 3.0)
    parameters = constrained(family, free)
    standardized = family.distribution(parameters)
    z = STOCK[name](free).sample(7, seed=(0, 1))
    x = z * change.factor + (0.0 if change.shift is None else change.shift)
    moved = family.distribution(family.unstandardize(parameters, change))
    np.testing.assert_allclose(np.log(change.factor).sum(), change.log_det_jacobian, rtol=1e-14)
    expected = standardized.log_prob(z) - np.log(change.factor)
    # x - shift has a rounding error 15 times as large.
    np.testing.assert_allclose(moved.log_prob(x), expected, rtol=1e-12)


def test_matching_families_make_distributions_of_the_priors_type():
    assert {
        tfd.Normal: NORMAL,
        tfd.MultivariateNormalTriL: MULTIVARIATE_NORMAL,
        tfd.MultivariateNormalFullCovariance: MULTIVARIATE_NORMAL,
        tfd.MultivariateNormalLinearOperator: MULTIVARIATE_NORMAL,
        tfd.Gamma: GAMMA,
        tfd.Dirichlet: DIRICHLET,
        stick_breaking.StickBreaking: STICK_BREAKING,
        tfd.WishartTriL: WISHART,
        ExchangeableWishart: WISHART,
    } == MATCHING_FAMILY
    # The Wishart by its mean is not a subclass of TFP's, nor is the multivariate normal.
    assert isinstance(MULTIVARIATE_NORMAL.distribution(normal_vectors()), MultivariateNormal)
    assert isinstance(WISHART.distribution(wishart_at(3.0)), wishart.Wishart)
    assert isinstance(STICK_BREAKING.distribution(pairs()), stick_breaking.StickBreaking)
    for stock in (tfd.Normal, tfd.Gamma, tfd.Dirichlet):
        family = MATCHING_FAMILY[stock]
        free = free_parameters(stock.__name__.lower(), 3.0)
        assert isinstance(family.distribution(constrained(family, free)), stock)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_draw_has_finite_coordinates_and_comes_back(name):
    """In these coordinates the calibrated posterior is normal."""
    draws = STOCK[name](free_parameters(name, 3.0)).sample(50, seed=(0, 1))
    coordinates = FAMILIES[name].coordinates()
    points = coordinates.inverse(draws)
    assert np.all(np.isfinite(points))
    np.testing.assert_allclose(coordinates.forward(points), draws, rtol=1e-12)


def test_jacobian_of_simplex_coordinates_is_that_of_the_first_proportions():
    """A Dirichlet's density is one of K - 1 proportions; against automatic differentiation."""
    coordinates = DIRICHLET.coordinates()
    point = tf.constant([0.3, -1.2, 2.0], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(point)
        proportions = coordinates.forward(point)
    _, expected = np.linalg.slogdet(tape.jacobian(proportions, point)[:-1])
    found = coordinates.forward_log_det_jacobian(point, event_ndims=1)
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    np.testing.assert_allclose(
        coordinates.inverse_log_det_jacobian(coordinates.forward(point), event_ndims=1),
        -expected,
        rtol=1e-13,
    )


def test_fixed_family_is_a_point_mass_without_parameters():
    value = tf.constant([2.0, -3.0], tf.float64)
    point = FIXED.distribution({"value": value})
    np.testing.assert_array_equal(point.sample(4), np.tile(value, (4, 1)))
    np.testing.assert_array_equal(point.log_prob(value), [0.0, 0.0])
    assert FIXED.constraints == FIXED.parameter_shapes((2,)) == {}
    assert FIXED.natural_gradient({}, {}) == FIXED.from_moments(value, value) == {}
    moved = FIXED.unstandardize({"value": value}, Elementwise(np.array([1.0, 2.0]), 10.0, None))
    np.testing.assert_array_equal(moved["value"], [21.0, -28.0])


@pytest.mark.parametrize("name", FAMILIES)
def test_parameter_shapes_are_those_of_parameters_from_moments(name):
    family = FAMILIES[name]
    mean = tf.constant(np.full((4, 3), 1 / 3))
    start = family.from_moments(mean, 0.1 * mean)
    assert {k: tuple(v.shape) for k, v in start.items()} == family.parameter_shapes((4, 3))


@pytest.mark.parametrize(
    "name", ["normal", "gamma", "dirichlet", "sticks", "wishart", "multivariate normal"]
)
def test_training_distribution_has_the_density_of_the_plain_one(name):
    family, parameters = {
        "sticks": (STICK_BREAKING, pairs()),
        "wishart": (WISHART, wishart_at(3.0)),
        "multivariate normal": (MULTIVARIATE_NORMAL, normal_vectors()),
    }.get(name) or (FAMILIES[name], constrained(FAMILIES[name], free_parameters(name, 3.0)))
    moving, still = family.training_distribution(parameters), family.distribution(parameters)
    assert type(moving) is not type(still)
    if name == "wishart":  # drawn as Cholesky factors: see test_wishart
        still = still.copy(input_output_cholesky=True)
    draws = moving.sample(8, seed=(0, 1))
    np.testing.assert_allclose(moving.log_prob(draws), still.log_prob(draws), rtol=1e-13)


def assert_is_push_forward(family, parameters, change):
    """Compare q(x) with q(z) / |dx / dz| at draws z, and the draws by equal seeds.

    `change` is a map of float64 tensors. What is compared has a condition of up to some 1e4.
    """
    standardized = family.distribution(parameters)
    moved = family.distribution(family.unstandardize(parameters, change))
    z = standardized.sample(7, seed=(0, 1))
    x = change.forward(z)
    expected = standardized.log_prob(z) - change.log_det_jacobian
    np.testing.assert_allclose(moved.log_prob(x), expected, rtol=0, atol=1e-8)
    return moved.sample(7, seed=(0, 1)), x


# --- Multivariate normal ----------------------------------------------------------------------

SHIFT = np.array([5000.0, -0.2, 1.0])
UPPER = np.array([[1000.0, 400.0, -50.0], [0.0, 0.03, 0.01], [0.0, 0.0, 2.0]])
LOWER_MATRIX = np.array([[1000.0, 0.0, 0.0], [0.01, 0.03, 0.0], [-5.0, 2.0, 2.0]])
UNITS = {
    "columns": Standardization(SHIFT, np.array([1000.0, 0.03, 2.0])),
    "upper": whitening(SHIFT, UPPER),
    "lower": whitening(SHIFT, LOWER_MATRIX),
}


def normal_vectors():
    """Return parameters of two vectors of three features."""
    loc = np.array([[3.0, -1.0, 0.5], [0.0, 0.2, -2.0]])
    tril = np.array([[0.2, 0.0, 0.0], [0.7, 0.3, 0.0], [-2.0, 1.0, 0.3]])
    return {"loc": tf.constant(loc), "scale_tril": tf.constant(np.stack([tril, 0.1 * tril]))}


def units_of(name):
    return as_standardization_tensors(UNITS[name], tf.float64)


@pytest.mark.parametrize("units", UNITS)
def test_change_of_units_of_a_multivariate_normal_is_a_push_forward(units):
    change = affine_map(Transformation.LOCATION, units_of(units))
    parameters = normal_vectors()
    assert_is_push_forward(MULTIVARIATE_NORMAL, parameters, change)
    moved = MULTIVARIATE_NORMAL.unstandardize(parameters, change)
    matrix = UNITS[units].scale if UNITS[units].scale.ndim == 2 else np.diag(UNITS[units].scale)
    tril = moved["scale_tril"].numpy()
    # Some roundings of the largest entry of each row.
    size = np.linalg.norm(tril, axis=-1, keepdims=True)
    np.testing.assert_allclose(tril / size, np.tril(tril) / size, atol=1e-14)
    assert (np.diagonal(tril, axis1=-2, axis2=-1) > 0).all()
    found = tril @ tril.swapaxes(-1, -2)
    product = matrix @ parameters["scale_tril"].numpy()
    expected = product @ product.swapaxes(-1, -2)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14 * np.abs(expected).max())
    np.testing.assert_allclose(
        moved["loc"], SHIFT + parameters["loc"].numpy() @ matrix.T, rtol=1e-13
    )


@pytest.mark.parametrize("units", ["columns", "lower"])
def test_draws_of_a_multivariate_normal_move_with_it_under_lower_triangular_maps(units):
    """The factor of the moved distribution is the product, and so draws by equal seeds move."""
    change = affine_map(Transformation.LOCATION, units_of(units))
    found, expected = assert_is_push_forward(MULTIVARIATE_NORMAL, normal_vectors(), change)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_multivariate_normal_from_moments_has_these_moments_and_no_correlation():
    rng = np.random.default_rng(1)
    mean, sd = rng.normal(size=(4, 3)), rng.gamma(5.0, size=(4, 3))
    start = MULTIVARIATE_NORMAL.from_moments(tf.constant(mean), tf.constant(sd))
    shapes = {name: tuple(v.shape) for name, v in start.items()}
    assert shapes == MULTIVARIATE_NORMAL.parameter_shapes((4, 3))
    assert set(shapes) == set(MULTIVARIATE_NORMAL.constraints)
    found = MULTIVARIATE_NORMAL.moments({k: v.numpy() for k, v in start.items()})
    np.testing.assert_allclose(found, [mean, sd], rtol=1e-14)
    covariance = MULTIVARIATE_NORMAL.distribution(start).covariance()
    np.testing.assert_allclose(covariance, sd[..., None] ** 2 * np.eye(3), rtol=1e-14)


def test_moments_and_density_of_a_multivariate_normal_agree_with_tfd():
    parameters = normal_vectors()
    stock = tfd.MultivariateNormalTriL(parameters["loc"], parameters["scale_tril"])
    mean, sd = MULTIVARIATE_NORMAL.moments({k: v.numpy() for k, v in parameters.items()})
    np.testing.assert_allclose(mean, stock.mean(), rtol=1e-14)
    np.testing.assert_allclose(sd, stock.stddev(), rtol=1e-14)
    draws = stock.sample(7, seed=(0, 1))
    mine = MULTIVARIATE_NORMAL.distribution(parameters)
    # The factors have a condition of some 100.
    np.testing.assert_allclose(mine.log_prob(draws), stock.log_prob(draws), rtol=1e-11)
    assert mine.reparameterization_type == tfd.FULLY_REPARAMETERIZED


def test_constraints_of_a_multivariate_normal_are_the_log_of_the_diagonal():
    free = np.array([[0.1, 0.0], [-3.0, 0.7]])
    found = MULTIVARIATE_NORMAL.constraints["scale_tril"].forward(tf.constant(free))
    expected = [[np.exp(0.1), 0.0], [-3.0, np.exp(0.7)]]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_multivariate_normal_of_independent_features_has_the_natural_gradient_of_normals():
    """Off the diagonal it has derivatives of its own: the natural gradient itself is tested in
    tests/distributions/test_multivariate_normal.py.
    """
    rng = np.random.default_rng(4)
    sd, slope = rng.gamma(3.0, size=(4, 3)), rng.normal(size=(2, 4, 3))
    loc = tf.zeros([4, 3], tf.float64)
    found = MULTIVARIATE_NORMAL.natural_gradient(
        {"loc": loc, "scale_tril": tf.linalg.diag(sd)},
        {"loc": tf.constant(slope[0]), "scale_tril": tf.linalg.diag(slope[1])},
    )
    expected = NORMAL.natural_gradient(
        {"loc": loc, "scale": sd}, {"loc": slope[0], "scale": slope[1]}
    )
    np.testing.assert_allclose(found["loc"], expected["loc"], rtol=1e-13)
    np.testing.assert_allclose(found["scale_tril"], tf.linalg.diag(expected["scale"]), rtol=1e-13)


def test_families_by_column_refuse_a_map_that_mixes_columns():
    """Normal means of a matrix form are multivariate for this reason."""
    change = affine_map(Transformation.LOCATION, units_of("upper"))
    assert isinstance(change, LinearMap)
    parameters = {"loc": tf.zeros([2, 3], tf.float64), "scale": tf.ones([2, 3], tf.float64)}
    with pytest.raises(TypeError, match="not closed under a LinearMap"):
        NORMAL.unstandardize(parameters, change)


# --- Stick-breaking ---------------------------------------------------------------------------

PAIRS = tf.constant([[3.0, 8.0], [40.0, 2.0], [0.5, 0.7]], tf.float64)


def pairs():
    return {"concentration": PAIRS}


def test_each_break_is_a_dirichlet_of_two():
    """Equal natural gradients and moments; distributions are in test_stick_breaking."""
    gradient = {"concentration": tf.constant(np.random.default_rng(4).normal(size=(3, 2)))}
    params = pairs()
    for stick in range(3):
        one = {"concentration": PAIRS[stick]}
        expected = DIRICHLET.natural_gradient(
            one, {"concentration": gradient["concentration"][stick]}
        )
        found = STICK_BREAKING.natural_gradient(params, gradient)["concentration"][stick]
        np.testing.assert_allclose(found, expected["concentration"], rtol=1e-13)
    mean, sd = STICK_BREAKING.moments({"concentration": PAIRS.numpy()})
    stock = tfd.Dirichlet(PAIRS)
    np.testing.assert_allclose([mean, sd], [stock.mean(), stock.stddev()], rtol=1e-14)
    with pytest.raises(NotImplementedError, match="without units of X"):
        STICK_BREAKING.unstandardize(params, Elementwise(None, 1.0, 0.0))


def test_breaks_from_the_moments_of_a_dirichlet_are_its_own():
    """They are independent: Beta(c[k], c[k+1] + ... + c[K]).

    `from_moments` adds 1/2 to each, so that a break that no row reaches has a proper density.
    """
    c = np.array([30.0, 5.0, 14.0, 1.0])
    stock = tfd.Dirichlet(c)
    start = STICK_BREAKING.from_moments(stock.mean(), stock.stddev())
    assert {k: tuple(v.shape) for k, v in start.items()} == STICK_BREAKING.parameter_shapes((4,))
    rest = np.cumsum(c[::-1])[::-1]
    expected = 0.5 + np.stack([c[:-1], rest[1:]], axis=-1)
    np.testing.assert_allclose(start["concentration"], expected, rtol=1e-12)
    # The proportions are therefore the Dirichlet's up to the 1/2 in each of (50, 20, 15) rows.
    found = STICK_BREAKING.distribution(start).mean()
    np.testing.assert_allclose(found, stock.mean(), atol=0.5 / 50 + 0.5 / 20 + 0.5 / 15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_breaks_that_no_row_reaches_are_finite_and_proper(dtype):
    """All of a hundred million rows are in the first component, one of the prior's in each."""
    mean = np.array([1e8, 1.0, 1.0, 1.0]) / (1e8 + 3)
    sd = np.sqrt(mean * (1 - mean) / (1e8 + 4))
    found = STICK_BREAKING.from_moments(tf.constant(mean, dtype), tf.constant(sd, dtype))[
        "concentration"
    ]
    assert found.dtype == dtype
    assert np.all(np.isfinite(found))
    assert np.all(found >= 0.5)


# --- Wishart ----------------------------------------------------------------------------------

TRIL = np.array([[2.0, 0.0, 0.0], [0.7, 0.3, 0.0], [-20.0, 4.0, 30.0]])


def wishart_at(excess):
    return {"excess": tf.constant(excess, tf.float64), "mean_tril": tf.constant(TRIL)}


def stock_wishart(excess):
    df = excess + 2.0
    return tfd.WishartTriL(np.float64(df), TRIL / np.sqrt(df))


def wishart_divergence(one, other):
    """Compute the KL divergence between Wisharts given as (df, Cholesky factor of the mean).

    By the density, whose terms are log det and trace::

        log p = (df - D - 1)/2 log |X| - tr(V^-1 X)/2 - df D/2 log 2 - df/2 log |V| - log Gamma_D
    """
    D = 3

    def log_gamma(a):
        return sum(tf.math.lgamma(a - i / 2) for i in range(D))  # up to a constant

    def log_det(tril):
        return 2.0 * tf.reduce_sum(tf.math.log(tf.linalg.diag_part(tril)))

    (df, tril), (n, other_tril) = one, other
    mean_log_det = sum(tf.math.digamma((df - i) / 2) for i in range(D))
    mean_log_det += D * tf.math.log(2.0 / df) + log_det(tril)
    turned = tf.linalg.triangular_solve(other_tril, tril)

    def expected_log_density(n, tril, trace):
        log_det_scale = log_det(tril) - D * tf.math.log(n)
        constant = -0.5 * n * (D * np.log(2.0) + log_det_scale) - log_gamma(n / 2)
        return 0.5 * (n - D - 1) * mean_log_det - 0.5 * n * trace + constant

    own = expected_log_density(df, tril, tf.constant(D, tf.float64))
    return own - expected_log_density(n, other_tril, tf.reduce_sum(turned**2))


LOWER = np.tril_indices(3)


def wishart_params(flat):
    """Return constrained parameters from unconstrained ones [1 + 6]."""
    free = {
        "excess": flat[0],
        "mean_tril": tf.scatter_nd(np.transpose(LOWER), flat[1:], (3, 3)),
    }
    return {name: c.forward(free[name]) for name, c in WISHART.constraints.items()}


@pytest.mark.parametrize("excess", [0.3, 5.0, 300.0])
def test_natural_gradient_of_a_wishart_is_the_inverse_fisher_information(excess):
    """In the coordinates in which it is trained; many more sizes are in test_wishart."""
    off_diagonal = np.where(np.eye(3) > 0, np.log(np.where(np.eye(3) > 0, TRIL, 1.0)), TRIL)
    flat = tf.constant(np.concatenate([[np.log(excess)], off_diagonal[LOWER]]))
    params = wishart_params(flat)
    np.testing.assert_allclose(params["mean_tril"], TRIL, rtol=1e-14)

    def pair(params):
        return params["excess"] + 2.0, params["mean_tril"]

    with tf.GradientTape(persistent=True) as second:
        second.watch(flat)
        with tf.GradientTape() as first:
            first.watch(flat)
            divergence = wishart_divergence(pair(params), pair(wishart_params(flat)))
        slope = first.gradient(divergence, flat)
    F = second.jacobian(slope, flat, experimental_use_pfor=False).numpy()
    np.testing.assert_allclose(divergence, 0, atol=1e-10)

    gradient = np.random.default_rng(4).normal(size=7)
    matrix = np.zeros((3, 3))
    matrix[LOWER] = gradient[1:]
    given = {"excess": tf.constant(gradient[0]), "mean_tril": tf.constant(matrix)}
    natural = WISHART.natural_gradient(params, given)
    found = np.concatenate([[natural["excess"]], natural["mean_tril"].numpy()[LOWER]])
    # F has errors of some roundings of terms as large as its diagonal times the logs.
    size = np.sqrt(np.diagonal(F)) + np.r_[np.sqrt(excess + 2), np.zeros(6)]
    error = 200 * EPS * np.outer(size, size) + 2 * TRIGAMMA_TRUNCATION * np.diag(np.eye(7)[0])
    expected = np.linalg.solve(F, gradient)
    allowed = np.abs(np.linalg.inv(F)) @ error @ np.abs(expected)
    assert np.all(allowed < 1e-4 * np.abs(expected).max())  # otherwise the test is empty
    assert np.all(np.abs(found - expected) <= allowed)
    np.testing.assert_array_equal(np.triu(natural["mean_tril"], 1), 0)


@pytest.mark.parametrize("excess", [1.0, 5.0, 1e6])  # TFP has none below 1
def test_moments_and_density_of_a_wishart_agree_with_tfd(excess):
    parameters, stock = wishart_at(excess), stock_wishart(excess)
    mean, sd = WISHART.moments({k: v.numpy() for k, v in parameters.items()})
    np.testing.assert_allclose(mean, stock.mean(), rtol=1e-13)
    np.testing.assert_allclose(sd, stock.stddev(), rtol=1e-13)
    mine = WISHART.distribution(parameters)
    draws = mine.sample(7, seed=(0, 1))
    # TFP's density is a difference of terms of the size of df; the matrices have a condition of
    # (30 / 0.3)^2 or so, and draws with few degrees of freedom more.
    allowed = 1e-12 * excess + 1e-8
    np.testing.assert_allclose(mine.log_prob(draws), stock.log_prob(draws), rtol=0, atol=allowed)
    assert mine.reparameterization_type == tfd.FULLY_REPARAMETERIZED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_wishart_from_moments_has_these_moments(dtype):
    cholesky = np.tril(np.random.default_rng(1).uniform(0.5, 1.5, (4, 3, 3)))
    df = np.array([7.0, 50.0, 1e3, 1e5])
    parameters = {"excess": df - 2, "mean_tril": cholesky}
    mean, sd = WISHART.moments(parameters)
    start = WISHART.from_moments(tf.constant(mean, dtype), tf.constant(sd, dtype))
    assert {k: tuple(v.shape) for k, v in start.items()} == WISHART.parameter_shapes((4, 3, 3))
    found = WISHART.moments({k: v.numpy() for k, v in start.items()})
    # Factors have a condition of 10 or so; each sd follows from three relative ones, which have a
    # few roundings each.
    np.testing.assert_allclose(found, [mean, sd], rtol=200 * np.finfo(dtype).eps)


def test_wishart_from_impossible_sds_is_a_distribution():
    """No Wishart is wider than one with D - 1 degrees of freedom."""
    start = WISHART.from_moments(tf.eye(3, dtype=tf.float64), 9.0 * tf.eye(3, dtype=tf.float64))
    assert start["excess"] > 0


@pytest.mark.parametrize("units", ["columns", "upper"])
def test_change_of_units_of_a_wishart_is_a_push_forward(units):
    """And its draws by equal seeds move with it: their Cholesky factors stay triangular."""
    change = affine_map(Transformation.PRECISION_MATRIX, units_of(units))
    found, expected = assert_is_push_forward(WISHART, wishart_at(3.0), change)
    size = np.sqrt(np.diagonal(expected, axis1=-2, axis2=-1))
    size = size[..., :, np.newaxis] * size[..., np.newaxis, :]
    np.testing.assert_allclose(found / size, expected / size, atol=1e-12)


def test_coordinates_of_matrices_and_of_proportions_by_breaks_come_back():
    for family, params, free in ((WISHART, wishart_at(3.0), 6), (STICK_BREAKING, pairs(), 3)):
        draws = family.distribution(params).sample(50, seed=(0, 1))
        coordinates = family.coordinates()
        points = coordinates.inverse(draws)
        assert points.shape == (50, free)
        assert np.all(np.isfinite(points))
        np.testing.assert_allclose(coordinates.forward(points), draws, rtol=1e-8, atol=1e-14)


# --- Vectors with a covariance matrix -------------------------------------------------------------

FACTOR = np.array([[2.0, 0.0, 0.0], [1.5, 0.5, 0.0], [-1.0, 0.3, 0.8]])
LOC = np.array([1.0, -2.0, 0.5])


def test_multivariate_normal_takes_a_covariance_as_it_is():
    found = MULTIVARIATE_NORMAL.distribution(
        MULTIVARIATE_NORMAL.from_factor(tf.constant(LOC), tf.constant(FACTOR))
    )
    np.testing.assert_array_equal(found.mean(), LOC)
    np.testing.assert_allclose(found.covariance(), FACTOR @ FACTOR.T, rtol=1e-12)


def test_independent_normals_for_a_covariance_have_the_least_divergence_from_it():
    """Neither longer nor shorter sds have a smaller one, by tfd."""
    p = NORMAL.from_factor(tf.constant(LOC), tf.constant(FACTOR))
    joint = tfd.MultivariateNormalTriL(LOC, tf.constant(FACTOR))

    def divergence(sd):
        return tfd.MultivariateNormalDiag(p["loc"], sd).kl_divergence(joint).numpy()

    least = divergence(p["scale"])
    for entry in np.eye(3):
        assert min(divergence(p["scale"] * (1.0 + step * entry)) for step in (-0.1, 0.1)) > least


def test_other_families_keep_the_sds_of_a_covariance():
    mean, sd = GAMMA.moments(GAMMA.from_factor(tf.constant(np.abs(LOC)), tf.constant(FACTOR)))
    np.testing.assert_allclose(mean, np.abs(LOC), rtol=1e-12)
    np.testing.assert_allclose(sd, np.linalg.norm(FACTOR, axis=-1), rtol=1e-12)
