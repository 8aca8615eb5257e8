"""The change of units of rows and variables, against the densities that it must agree with."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from bgmm_jd import units
from bgmm_jd.data import to_units

K, D = 3, 2
WHERE = units.Units(np.array([5000.0, -0.2]), np.array([1000.0, 0.03]))
SHAPES = {"weights": (K,), "means": (K, D), "precisions": (K, D), "hyper": (4,)}


@pytest.fixture
def theta():
    rng = np.random.default_rng(0)
    return {
        "weights": rng.dirichlet(np.ones(K)),
        "means": rng.normal(size=(K, D)),
        "precisions": rng.gamma(2.0, size=(K, D)),
        "scales": rng.gamma(2.0, size=(K, D)),
        "hyper": rng.normal(size=4),
    }


def test_rows_come_back(theta):
    back = WHERE.shift + WHERE.scale * to_units(WHERE.shift + WHERE.scale * theta["means"], WHERE)
    # One rounding at the size of the shift on the way in, and one on the way out.
    np.testing.assert_allclose(back, WHERE.shift + WHERE.scale * theta["means"], rtol=1e-15)


@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_rows_have_the_density_of_the_rows_inside(theta, spread):
    """x = shift + scale z: p(x) = p(z) / prod(scale), whichever way the model says its spread."""
    z = np.random.default_rng(1).normal(size=(5, 1, D))
    x = WHERE.shift + WHERE.scale * z

    def density(value, theta):
        power = -0.5 if spread == "precisions" else 1.0
        law = stats.norm(theta["means"], theta[spread] ** power)
        return law.logpdf(value).sum(axis=-1)

    moved = {name: units.to_user(name, value, WHERE) for name, value in theta.items()}
    expected = density(z, theta) - np.log(WHERE.scale).sum()
    # x - mean loses 5000 / 1000 sds' worth of digits: a few eps times that, squared sds times.
    np.testing.assert_allclose(density(x, moved), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["weights", "hyper", "anything"])
def test_other_variables_have_no_units(theta, name):
    value = theta.get(name, np.ones(2))
    assert units.of_variable(name, WHERE) is None
    assert units.to_user(name, value, WHERE) is value


@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_log_volume_is_that_of_the_jacobian(theta, spread):
    """By the determinant of the change's derivative, one unit step in each coordinate."""
    shapes = {"weights": (K,), "means": (K, D), spread: (K, D), "hyper": (4,)}
    flat = np.concatenate([theta[name].ravel() for name in shapes])
    sizes = np.cumsum([np.prod(shape) for shape in shapes.values()])[:-1]

    def user(point):
        parts = zip(shapes.items(), np.split(point, sizes), strict=True)
        return np.concatenate(
            [units.to_user(name, v.reshape(shape), WHERE).ravel() for (name, shape), v in parts]
        )

    jacobian = np.stack([user(flat + step) - user(flat) for step in np.eye(len(flat))])
    _, expected = np.linalg.slogdet(jacobian)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(units.log_volume(shapes, WHERE), expected, atol=1e-9)


def test_log_volume_of_tensors_is_that_of_arrays():
    inside = units.as_tensors(WHERE, tf.float64)
    np.testing.assert_allclose(
        units.log_volume(SHAPES, inside), units.log_volume(SHAPES, WHERE), rtol=1e-14
    )


def test_unit_changes_nothing(theta):
    same = units.unit(D)
    for name, value in theta.items():
        np.testing.assert_array_equal(units.to_user(name, value, same), value)
    assert units.log_volume(SHAPES, same) == 0


def test_tensors_are_in_the_dtype_asked_for():
    for value in units.as_tensors(WHERE, tf.float32):
        assert value.dtype == tf.float32
        assert value.shape == [D]
