"""Each member of a surrogate against tfd, and its natural gradient against its own divergence.

The Fisher information is the second derivative of KL(q_v || q_u) by u at u = v: taken here from
tfd's divergences by automatic differentiation in float64, in the unconstrained parameters.
"""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, special
from tensorflow_probability import distributions as tfd

from bgmm_jd.families import DIRICHLET, FIXED, GAMMA, NORMAL, TWINS
from bgmm_jd.gamma import trigamma_excess
from bgmm_jd.units import Affine

FAMILIES = {"normal": NORMAL, "gamma": GAMMA, "dirichlet": DIRICHLET}
EPS = np.finfo(np.float64).eps

# The same distributions as the families', by stock tfd, from unconstrained parameters.
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


def natural(name, free, gradient, dtype=np.float64):
    family = FAMILIES[name]
    parameters = {k: tf.cast(v, dtype) for k, v in constrained(family, free).items()}
    given = {k: tf.constant(v, dtype) for k, v in gradient.items()}
    return {k: v.numpy() for k, v in family.natural(parameters, given).items()}


def random_gradient(free):
    rng = np.random.default_rng(4)
    return {name: rng.normal(size=len(v)) for name, v in free.items()}


def sizes_of_terms(name, free):
    """Of each unconstrained parameter: of the terms whose difference its information is."""
    p = {k: v.numpy() for k, v in constrained(FAMILIES[name], free).items()}
    terms = {
        "normal": lambda: [p["scale"] ** -2, np.full(2, 2.0)],
        "gamma": lambda: [p["concentration"] + 1, p["concentration"]],
        "dirichlet": lambda: [p["concentration"] + 1],
    }[name]()
    return np.concatenate(terms)


# The trigamma function is by a series cut at B_10: off by less than the first term left out,
# |B_12| / a^11 with a >= 8.
CUT = 691 / 2730 / 8.0**11

SIZES = [0.05, 0.3, 1.0, 7.9, 8.1, 50.0, 1e3, 1e5, 1e8]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_natural_gradient_is_the_inverse_fisher_information(name, size):
    free = free_parameters(name, size)
    gradient = random_gradient(free)
    F = fisher(name, free)
    expected = np.linalg.solve(F, np.concatenate(list(gradient.values())))
    found = np.concatenate(list(natural(name, free, gradient).values()))
    # F by differentiation is off by some eps of its terms, of which the logs reach 18 times their
    # factor; what that does to the solution is |F^-1| |error of F| |solution|.
    root = np.sqrt(sizes_of_terms(name, free))
    error = 50 * EPS * np.outer(root, root) + (0 if name == "normal" else CUT)
    allowed = np.abs(np.linalg.inv(F)) @ error @ np.abs(expected)
    assert np.all(allowed < 1e-4 * np.abs(expected).max())  # or it would be no test
    assert np.all(np.abs(found - expected) <= allowed)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", [s for s in SIZES if s >= 1])
def test_natural_gradient_in_float32(name, size):
    """Against float64, to some 50 roundings, each of which may count twice in a Dirichlet."""
    free = free_parameters(name, size)
    gradient = random_gradient(free)
    found, expected = (natural(name, free, gradient, d) for d in (np.float32, np.float64))
    for parameter in free:
        assert found[parameter].dtype == np.float32
        allowed = 100 * np.finfo(np.float32).eps * np.abs(expected[parameter]).max()
        assert np.all(np.abs(found[parameter] - expected[parameter]) <= allowed)


def test_a_dirichlet_of_one_component_has_no_gradient_and_no_nan():
    found = natural("dirichlet", {"concentration": np.array([1.0])}, {"concentration": [0.0]})
    np.testing.assert_array_equal(found["concentration"], [0.0])


def excess(a):
    """a^2 trigamma(a) - a by Binet's second formula, differentiated twice, without cancellation.

    1/2 + 4 a integral of u / ((1 + u^2)^2 (exp(2 pi a u) - 1)) du from 0 to infinity.
    """

    def integrand(u):
        return u / ((1 + u * u) ** 2 * np.expm1(min(2 * np.pi * a * u, 100.0)))

    edges = np.array([0, 0.1, 0.5, 1, 3, 10]) / a if a > 1 else np.array([0, 0.5, 1, 5, 50, 1e4])
    pieces = itertools.pairwise(edges)
    return 0.5 + 4 * a * sum(integrate.quad(integrand, *p, epsrel=1e-12)[0] for p in pieces)


ARGUMENTS = [1e-4, 0.05, 0.7, 1.0, 2.5, 7.0, 7.999, 8.0, 8.001, 9.0, 30.0, 1e3, 1e6, 1e8]


def test_the_reference_for_the_excess_is_scipys_trigamma():
    for a in ARGUMENTS[:-2]:
        # a^2 trigamma(a) - a is at least 1/2, and scipy's is off by some eps of a + 1.
        expected = a**2 * special.polygamma(1, a) - a
        np.testing.assert_allclose(excess(a), expected, rtol=1e-10 + 10 * EPS * a)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("a", ARGUMENTS)
def test_trigamma_excess(a, dtype):
    a = dtype(a)
    # Below 8, a difference of terms of up to 9 with some 10 roundings leaves 1/2 or more.
    tolerance = 100 * np.finfo(dtype).eps + 2 * CUT
    found = trigamma_excess(tf.constant([a]))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, [excess(float(a))], rtol=tolerance)


@pytest.mark.parametrize("a", [0.3, 5.0, 7.99, 8.01, 100.0])
def test_trigamma_excess_under_xla_with_a_gradient(a):
    @tf.function(jit_compile=True)
    def value_and_slope(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = trigamma_excess(x)
        return value, tape.gradient(value, x)

    value, slope = value_and_slope(tf.constant(a, tf.float64))
    np.testing.assert_allclose(value, excess(a), rtol=2 * CUT + 100 * EPS)
    expected = 2 * a * special.polygamma(1, a) + a**2 * special.polygamma(2, a) - 1
    np.testing.assert_allclose(slope, expected, atol=100 * EPS * (a + 1))


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
def test_start_has_the_moments_asked_for(name, dtype):
    rng = np.random.default_rng(1)
    mean, sd = rng.gamma(5.0, size=(4, 3)), 0.1 * rng.gamma(5.0, size=(4, 3))
    if name == "dirichlet":
        mean /= mean.sum(axis=-1, keepdims=True)
        sd = np.sqrt(mean * (1 - mean) / 51)  # a total of 50
    family = FAMILIES[name]
    start = family.start(tf.constant(mean, dtype), tf.constant(sd, dtype))
    assert set(start) == set(family.constraints)
    found = family.moments({k: v.numpy() for k, v in start.items()})
    np.testing.assert_allclose(found, [mean, sd], rtol=50 * np.finfo(dtype).eps)


def test_dirichlet_start_fits_the_sds_on_average():
    """The sum of the variances is kept; a Dirichlet cannot have any sds that one likes."""
    mean, sd = np.array([0.2, 0.3, 0.5]), np.array([0.03, 0.01, 0.02])
    start = DIRICHLET.start(tf.constant(mean), tf.constant(sd))
    found = DIRICHLET.moments({k: v.numpy() for k, v in start.items()})
    np.testing.assert_allclose(found[0], mean, rtol=1e-14)
    np.testing.assert_allclose(np.sum(found[1] ** 2), np.sum(sd**2), rtol=1e-13)


def test_dirichlet_start_from_impossible_sds_is_a_distribution():
    """No Dirichlet is wider than one whose total is zero."""
    start = DIRICHLET.start(tf.constant([0.5, 0.5]), tf.constant([9.0, 9.0]))
    assert np.all(start["concentration"] > 0)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("normal", Affine(np.array([5000.0, -0.3]), np.array([1000.0, 0.02]))),
        ("normal", Affine(None, np.array([1000.0, 0.02]))),
        ("gamma", Affine(None, np.array([1e-6, 2500.0]))),
    ],
)
def test_change_of_units_is_a_push_forward(name, change):
    """q(user) = q(internal) / factor, where user = shift + factor internal."""
    family, free = FAMILIES[name], free_parameters(name, 3.0)
    parameters = constrained(family, free)
    inside = family.distribution(parameters)
    x = STOCK[name](free).sample(7, seed=(0, 1))
    user = x * change.factor + (0.0 if change.shift is None else change.shift)
    moved = family.distribution(family.change_units(parameters, change))
    expected = inside.log_prob(x) - np.log(change.factor)
    # user - shift loses 15 times the digits.
    np.testing.assert_allclose(moved.log_prob(user), expected, rtol=1e-12)


def test_twins_are_of_their_own_family():
    assert {tfd.Normal: NORMAL, tfd.Gamma: GAMMA, tfd.Dirichlet: DIRICHLET} == TWINS
    for stock, family in TWINS.items():
        free = free_parameters(stock.__name__.lower(), 3.0)
        assert isinstance(family.distribution(constrained(family, free)), stock)


@pytest.mark.parametrize("name", FAMILIES)
def test_coordinates_reach_the_whole_support(name):
    """Where the calibrated posterior is normal: every draw has a point, and comes back."""
    draws = STOCK[name](free_parameters(name, 3.0)).sample(50, seed=(0, 1))
    coordinates = FAMILIES[name].coordinates()
    points = coordinates.inverse(draws)
    assert np.all(np.isfinite(points))
    np.testing.assert_allclose(coordinates.forward(points), draws, rtol=1e-12)


def test_simplex_coordinates_measure_volume_as_a_dirichlet_does():
    """Its density is one of the first K - 1 proportions: their Jacobian, by automatic means."""
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


def test_a_fixed_member_is_a_point_without_parameters():
    value = tf.constant([2.0, -3.0], tf.float64)
    point = FIXED.distribution({"value": value})
    np.testing.assert_array_equal(point.sample(4), np.tile(value, (4, 1)))
    np.testing.assert_array_equal(point.log_prob(value), [0.0, 0.0])
    assert FIXED.constraints == {}
    assert FIXED.natural({}, {}) == FIXED.start(value, value) == {}
    moved = FIXED.change_units({"value": value}, Affine(np.array([1.0, 2.0]), 10.0))
    np.testing.assert_array_equal(moved["value"], [21.0, -28.0])
