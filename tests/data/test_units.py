"""The change of units of rows and variables, against the densities that it must agree with."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from bgmm_jd.data import units
from bgmm_jd.data.standardize import standardize_values
from bgmm_jd.data.units import Transformation
from bgmm_jd.model.covariance_forms import FORMS, scale_shape, transformation_of

K, D = 3, 2
WHERE = units.Standardization(np.array([5000.0, -0.2]), np.array([1000.0, 0.03]))
# A covariance that is the same in all directions needs columns of one scale.
COMMON = units.Standardization(np.array([150.0, -0.2]), np.array([30.0, 30.0]))
# The unit and the shape of each variable.
VARIABLES = {
    "weights": (Transformation.NONE, (K,)),
    "means": (Transformation.LOCATION, (K, D)),
    "precisions": (Transformation.PRECISION, (K, D)),
    "hyper": (Transformation.NONE, (4,)),
}


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


def spread_in(name, form):
    """A `precisions` or `scales` of that form."""
    rng = np.random.default_rng(2)
    value = rng.gamma(2.0, size=scale_shape(form, K, D))
    if form in ("diag", "spherical"):
        return value
    lower = np.tril(0.5 * value) + np.eye(D)  # far from singular
    return lower if name == "scales" else lower @ lower.swapaxes(-1, -2)


def where_of(form):
    return COMMON if form == "spherical" else WHERE


def moved_by(theta, form, where):
    return {
        name: units.unstandardize(transformation_of(name, form), v, where)
        for name, v in theta.items()
    }


def covariance_matrices(name, value, form):
    """[K, D, D], whatever the form, from their definitions."""
    if form in ("diag", "spherical"):
        sd = value if name == "scales" else value**-0.5
        return np.broadcast_to(sd**2, (K, D))[..., np.newaxis] * np.eye(D)
    covariance = value @ value.swapaxes(-1, -2) if name == "scales" else np.linalg.inv(value)
    return np.broadcast_to(covariance, (K, D, D))


def test_rows_come_back(theta):
    back = WHERE.shift + WHERE.scale * standardize_values(
        WHERE.shift + WHERE.scale * theta["means"], WHERE
    )
    # One rounding at the size of the shift on the way in, and one on the way out.
    np.testing.assert_allclose(back, WHERE.shift + WHERE.scale * theta["means"], rtol=1e-15)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_rows_have_the_density_of_the_rows_inside(theta, spread, form):
    """x = shift + scale z: p(x) = p(z) / prod(scale), whichever way the model says its spread."""
    where = where_of(form)
    theta = {"means": theta["means"], spread: spread_in(spread, form)}
    z = np.random.default_rng(1).normal(size=(5, D))
    x = where.shift + where.scale * z

    def density(value, theta):
        roots = np.linalg.cholesky(covariance_matrices(spread, theta[spread], form))
        residual = (value - theta["means"][:, np.newaxis])[..., np.newaxis]
        sds_apart = np.linalg.solve(roots[:, np.newaxis], residual)[..., 0]
        return (
            stats.norm.logpdf(sds_apart).sum(axis=-1) - np.linalg.slogdet(roots)[1][:, np.newaxis]
        )

    moved = moved_by(theta, form, where)
    expected = density(z, theta) - np.log(where.scale).sum()
    # x - mean loses 5000 / 1000 sds' worth of digits: a few eps times that, squared sds times.
    np.testing.assert_allclose(density(x, moved), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ["weights", "hyper", "anything"])
def test_other_variables_have_no_units(theta, name):
    value = theta.get(name, np.ones(2))
    for form in FORMS:
        unit = transformation_of(name, form)
        assert unit is Transformation.NONE
        assert units.affine_map(unit, WHERE) is None
        assert units.unstandardize(unit, value, WHERE) is value
        assert units.standardize_value(unit, value, WHERE) is value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_internal_is_the_inverse_of_user(theta, spread, form):
    where = where_of(form)
    theta = {**theta, spread: spread_in(spread, form)}
    for name in ("weights", "means", spread, "hyper"):
        unit = transformation_of(name, form)
        user = units.unstandardize(unit, theta[name], where)
        assert user.shape == theta[name].shape
        # Digits of the shift, 5000 / 1000 or 0.2 / 0.03 sds.
        np.testing.assert_allclose(
            units.standardize_value(unit, user, where), theta[name], rtol=1e-12, atol=1e-12
        )


def free_entries(unit, shape):
    """Mask of the entries that can be chosen: the lower triangle of a matrix, all else."""
    triangle = np.tri(D, dtype=bool) if unit in units.MATRIX_TRANSFORMATIONS else True
    return np.broadcast_to(triangle, shape)


def filled(unit, free, mask):
    """The variable with those free entries."""
    value = np.zeros(mask.shape)
    value[mask] = free
    if unit is Transformation.PRECISION_MATRIX:  # symmetric
        value = value + np.tril(value, -1).swapaxes(-1, -2)
    return value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("spread", ["precisions", "scales"])
def test_log_volume_is_that_of_the_jacobian(theta, spread, form):
    """By the determinant of the change's derivative, one unit step in each free entry."""
    where = where_of(form)
    theta = {**theta, spread: spread_in(spread, form)}
    variables = {
        name: (transformation_of(name, form), theta[name].shape)
        for name in ("weights", "means", spread, "hyper")
    }
    masks = {name: free_entries(*variable) for name, variable in variables.items()}
    flat = np.concatenate([theta[name][mask] for name, mask in masks.items()])
    sizes = np.cumsum([mask.sum() for mask in masks.values()])[:-1]

    def user(point):
        found = []
        for (name, mask), free in zip(masks.items(), np.split(point, sizes), strict=True):
            unit = variables[name][0]
            found.append(units.unstandardize(unit, filled(unit, free, mask), where)[mask])
        return np.concatenate(found)

    jacobian = np.stack([user(flat + step) - user(flat) for step in np.eye(len(flat))])
    _, expected = np.linalg.slogdet(jacobian)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(
        units.log_det_jacobian(variables.values(), where), expected, atol=1e-9
    )


def all_variables():
    """One variable of each unit, with and without axes before its own."""
    matrices = [
        (unit, shape) for unit in units.MATRIX_TRANSFORMATIONS for shape in ((K, D, D), (D, D))
    ]
    common = [
        (unit, (K, 1)) for unit in (Transformation.COMMON_SCALE, Transformation.COMMON_PRECISION)
    ]
    return [*VARIABLES.values(), (Transformation.SCALE, (K, D)), *common, *matrices]


def test_log_volume_adds_up_over_variables():
    each = [units.log_det_jacobian([variable], COMMON) for variable in all_variables()]
    assert units.log_det_jacobian(all_variables(), COMMON) == pytest.approx(sum(each), rel=1e-14)


@pytest.mark.parametrize("unit", Transformation)
def test_tensors_change_units_as_arrays_do(unit):
    value = np.random.default_rng(3).normal(size=(K, D, D))
    inside = units.as_standardization_tensors(COMMON, tf.float64)
    for change in (units.unstandardize, units.standardize_value):
        found = change(unit, tf.constant(value), inside)
        np.testing.assert_allclose(found, change(unit, value, COMMON), rtol=1e-14)


def test_log_volume_of_tensors_is_that_of_arrays():
    inside = units.as_standardization_tensors(WHERE, tf.float64)
    np.testing.assert_allclose(
        units.log_det_jacobian(VARIABLES.values(), inside),
        units.log_det_jacobian(VARIABLES.values(), WHERE),
        rtol=1e-14,
    )
    for variable in all_variables():
        np.testing.assert_allclose(
            units.log_det_jacobian([variable], inside),
            units.log_det_jacobian([variable], WHERE),
            rtol=1e-14,
        )


def test_unit_changes_nothing():
    same = units.identity_standardization(D)
    value = np.random.default_rng(3).normal(size=(K, D, D))
    for unit in Transformation:
        np.testing.assert_array_equal(units.unstandardize(unit, value, same), value)
    assert units.log_det_jacobian(all_variables(), same) == 0


def test_tensors_are_in_the_dtype_asked_for():
    for value in units.as_standardization_tensors(WHERE, tf.float32):
        assert value.dtype == tf.float32
        assert value.shape == [D]
