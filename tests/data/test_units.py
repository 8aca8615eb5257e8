"""The change of units of rows and variables, against the densities that it must agree with."""

import known_covariances
import numpy as np
import pytest
import tensorflow as tf
from known_covariances import drawn, either_scale_variable, every_form
from scipy import special, stats

from bgmm_jd.data import units
from bgmm_jd.data.standardize import standardize_values
from bgmm_jd.data.units import Transformation
from bgmm_jd.model.covariance_forms import (
    FORMS,
    MATRIX_FORMS,
    SCALE_VARIABLES,
    scale_shape,
    transformation_of,
)
from bgmm_jd.model.covariances import component_covariances

K, D = 3, 2
WHERE = units.Standardization(np.array([5000.0, -0.2]), np.array([1000.0, 0.03]))
# A covariance that is the same in all directions needs columns of one scale.
COMMON = units.Standardization(np.array([150.0, -0.2]), np.array([30.0, 30.0]))
# Whitened rows: the matrix keeps triangular factors of `precisions`, or of `scales`, triangular.
UPPER = np.array([[1000.0, 400.0], [0.0, 0.03]])
LOWER = np.array([[1000.0, 0.0], [-0.02, 0.03]])
WHITENED = {
    "precisions": units.whitening(WHERE.shift, UPPER),
    "scales": units.whitening(WHERE.shift, LOWER),
}
# The transformation and the shape of each variable.
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


def scale_values(name, form):
    """Draw `precisions` or `scales` of that form."""
    rng = np.random.default_rng(2)
    value = rng.gamma(2.0, size=scale_shape(form, K, D))
    if form in ("diag", "spherical"):
        return value
    lower = np.tril(0.5 * value) + np.eye(D)  # far from singular
    return lower if name == "scales" else lower @ lower.swapaxes(-1, -2)


def changes():
    """Return each scale variable and form with a change of units that it may have."""
    for name in SCALE_VARIABLES:
        for form in FORMS:
            where = COMMON if form == "spherical" else WHERE
            yield pytest.param(name, form, where, id=f"{name}-{form}")
        for form in MATRIX_FORMS:
            yield pytest.param(name, form, WHITENED[name], id=f"{name}-{form}-whitened")


every_change = pytest.mark.parametrize(("name", "form", "where"), list(changes()))


def scale_matrix(where):
    """Return the matrix of the change of units of a row."""
    return where.scale if where.scale.ndim == 2 else np.diag(where.scale)


def moved_by(theta, form, where):
    return {
        name: units.unstandardize(transformation_of(name, form), v, where)
        for name, v in theta.items()
    }


def covariance_matrices(name, value, form):
    """Return covariance matrices [K, D, D] of any form, from their definitions."""
    if form in ("diag", "spherical"):
        sd = value if name == "scales" else value**-0.5
        return np.broadcast_to(sd**2, (K, D))[..., np.newaxis] * np.eye(D)
    covariance = value @ value.swapaxes(-1, -2) if name == "scales" else np.linalg.inv(value)
    return np.broadcast_to(covariance, (K, D, D))


def test_rows_are_recovered_by_shift_and_scale(theta):
    back = WHERE.shift + WHERE.scale * standardize_values(
        WHERE.shift + WHERE.scale * theta["means"], WHERE
    )
    # One rounding at the size of the shift on the way in, and one on the way out.
    np.testing.assert_allclose(back, WHERE.shift + WHERE.scale * theta["means"], rtol=1e-15)


@every_change
def test_density_of_rows_is_that_of_standardised_rows_over_the_scales(theta, name, form, where):
    """x = shift + scale z: p(x) = p(z) / |scale|, with `precisions` and with `scales`."""
    theta = {"means": theta["means"], name: scale_values(name, form)}
    z = np.random.default_rng(1).normal(size=(5, D))
    x = where.shift + z @ scale_matrix(where).T

    def density(value, theta):
        factors = np.linalg.cholesky(covariance_matrices(name, theta[name], form))
        residual = (value - theta["means"][:, np.newaxis])[..., np.newaxis]
        whitened = np.linalg.solve(factors[:, np.newaxis], residual)[..., 0]
        return (
            stats.norm.logpdf(whitened).sum(axis=-1) - np.linalg.slogdet(factors)[1][:, np.newaxis]
        )

    moved = moved_by(theta, form, where)
    expected = density(z, theta) - np.linalg.slogdet(scale_matrix(where))[1]
    # x - mean loses 5000 / 1000 sds' worth of digits: a few eps times that, squared sds times.
    np.testing.assert_allclose(density(x, moved), expected, rtol=1e-12)


@either_scale_variable
@every_form
def test_likelihood_in_the_units_of_x_equals_the_density_by_scipy(form, name):
    """And `standardize_value` takes the parameters back."""
    theta, covariances = drawn(form, name, seed=6)
    to = known_covariances.standardization_of(form)
    z = np.random.default_rng(1).normal(size=(5, known_covariances.D))
    x = to.shift + to.scale * z
    moved = known_covariances.unstandardized(theta, form)
    found = special.logsumexp(
        known_covariances.log_joint_label(moved, component_covariances(moved, form), x), axis=0
    )
    expected = special.logsumexp(known_covariances.log_joint_label(theta, covariances, z), axis=0)
    # x - mean loses 5000 / 0.03 sds' worth of digits where the form is spherical: 1e5 eps.
    np.testing.assert_allclose(found, expected - np.log(to.scale).sum(), rtol=1e-8)
    likelihood = known_covariances.row_log_likelihood(moved, x, form)
    np.testing.assert_allclose(likelihood, found, rtol=1e-8)
    back = known_covariances.standardized(moved, form)
    for variable, value in theta.items():
        np.testing.assert_allclose(back[variable], value, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["weights", "hyper", "anything"])
def test_variables_without_units_of_x_are_unchanged(theta, name):
    value = theta.get(name, np.ones(2))
    for form in FORMS:
        unit = transformation_of(name, form)
        assert unit is Transformation.NONE
        assert units.affine_map(unit, WHERE) is None
        assert units.unstandardize(unit, value, WHERE) is value
        assert units.standardize_value(unit, value, WHERE) is value


@every_change
def test_standardize_value_is_the_inverse_of_unstandardize(theta, name, form, where):
    theta = {**theta, name: scale_values(name, form)}
    for variable in ("weights", "means", name, "hyper"):
        unit, value = transformation_of(variable, form), theta[variable]
        moved = units.unstandardize(unit, value, where)
        assert moved.shape == value.shape
        # Digits of the shift, 5000 / 1000 or 0.2 / 0.03 sds.
        np.testing.assert_allclose(
            units.standardize_value(unit, moved, where), value, rtol=1e-12, atol=1e-12
        )


def free_entries(unit, shape):
    """Return a mask of the free entries: the lower triangle of a matrix, all else of others."""
    triangle = np.tri(D, dtype=bool) if unit in known_covariances.MATRIX_TRANSFORMATIONS else True
    return np.broadcast_to(triangle, shape)


def filled(unit, free, mask):
    """Return the variable with those free entries."""
    value = np.zeros(mask.shape)
    value[mask] = free
    if unit is Transformation.PRECISION_MATRIX:  # symmetric
        value = value + np.tril(value, -1).swapaxes(-1, -2)
    return value


@every_change
def test_log_det_jacobian_is_that_of_the_numerical_derivative(theta, name, form, where):
    """By the determinant of the change's derivative, one unit step in each free entry."""
    theta = {**theta, name: scale_values(name, form)}
    variables = {
        variable: (transformation_of(variable, form), theta[variable].shape)
        for variable in ("weights", "means", name, "hyper")
    }
    masks = {variable: free_entries(*of) for variable, of in variables.items()}
    flat = np.concatenate([theta[variable][mask] for variable, mask in masks.items()])
    sizes = np.cumsum([mask.sum() for mask in masks.values()])[:-1]

    def moved(point):
        found = []
        for (variable, mask), free in zip(masks.items(), np.split(point, sizes), strict=True):
            unit = variables[variable][0]
            found.append(units.unstandardize(unit, filled(unit, free, mask), where)[mask])
        return np.concatenate(found)

    jacobian = np.stack([moved(flat + step) - moved(flat) for step in np.eye(len(flat))])
    _, expected = np.linalg.slogdet(jacobian)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(
        units.log_det_jacobian(variables.values(), where), expected, atol=1e-9
    )


def all_variables():
    """Return one variable of each transformation, with and without axes before its own."""
    matrices = [
        (unit, shape)
        for unit in known_covariances.MATRIX_TRANSFORMATIONS
        for shape in ((K, D, D), (D, D))
    ]
    common = [
        (unit, (K, 1)) for unit in (Transformation.COMMON_SCALE, Transformation.COMMON_PRECISION)
    ]
    return [*VARIABLES.values(), (Transformation.SCALE, (K, D)), *common, *matrices]


def test_log_det_jacobian_is_the_sum_over_variables():
    each = [units.log_det_jacobian([variable], COMMON) for variable in all_variables()]
    assert units.log_det_jacobian(all_variables(), COMMON) == pytest.approx(sum(each), rel=1e-14)


@pytest.mark.parametrize("unit", Transformation)
def test_tensors_change_units_as_arrays_do(unit):
    value = np.random.default_rng(3).normal(size=(K, D, D))
    inside = units.as_standardization_tensors(COMMON, tf.float64)
    for change in (units.unstandardize, units.standardize_value):
        found = change(unit, tf.constant(value), inside)
        np.testing.assert_allclose(found, change(unit, value, COMMON), rtol=1e-14)


def test_log_det_jacobian_of_tensors_is_that_of_arrays():
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


def test_identity_standardization_changes_nothing():
    same = units.identity_standardization(D)
    value = np.random.default_rng(3).normal(size=(K, D, D))
    for unit in Transformation:
        np.testing.assert_array_equal(units.unstandardize(unit, value, same), value)
    assert units.log_det_jacobian(all_variables(), same) == 0


def test_standardization_tensors_have_the_dtype_asked_for():
    columns = units.as_standardization_tensors(WHERE, tf.float32)
    assert columns.shift.dtype == columns.scale.dtype == tf.float32
    assert columns.shift.shape == columns.scale.shape == [D]
    assert columns.inverse is None
    whitened = units.as_standardization_tensors(WHITENED["scales"], tf.float32)
    assert {value.dtype for value in whitened} == {tf.float32}
    assert [value.shape for value in whitened] == [[D], [D, D], [D, D]]


# --- Whitened rows ------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [UPPER, LOWER], ids=["upper", "lower"])
def test_whitened_rows_come_back_and_have_the_columns_scales(scale):
    where = units.whitening(WHERE.shift, scale)
    z = np.random.default_rng(1).normal(size=(5, D))
    x = where.shift + z @ scale.T
    # Digits of the shift, 5000 / 1000 or 0.2 / 0.03 sds.
    np.testing.assert_allclose(standardize_values(x, where), z, rtol=0, atol=1e-12)
    np.testing.assert_allclose(where.inverse @ scale, np.eye(D), atol=1e-14)
    np.testing.assert_array_equal(where.inverse, np.where(scale == 0, 0, where.inverse))
    np.testing.assert_allclose(where.column_scale, np.sqrt(np.diag(scale @ scale.T)), rtol=1e-14)
    expected = np.linalg.slogdet(scale)[1]
    np.testing.assert_allclose(where.log_jacobian_by_column.sum(), expected, rtol=1e-14)


@pytest.mark.parametrize("form", MATRIX_FORMS)
@either_scale_variable
def test_whitening_keeps_triangular_factors_triangular(name, form):
    """Of precision matrices under an upper triangular matrix, of `scales` under a lower one."""
    where, unit = WHITENED[name], transformation_of(name, form)
    value = scale_values(name, form)
    factor = np.linalg.cholesky(value) if name == "precisions" else value
    moved = units.unstandardize(unit, value, where)
    if name == "scales":
        np.testing.assert_array_equal(moved, np.tril(moved))
        return
    found = units.unstandardize_cholesky(unit, factor, where)
    np.testing.assert_array_equal(found, np.tril(found))
    assert (np.diagonal(found, axis1=-2, axis2=-1) > 0).all()
    # Entries of the product are sums of two terms as large as the diagonal's.
    size = np.sqrt(np.diagonal(moved, axis1=-2, axis2=-1))
    size = size[..., :, np.newaxis] * size[..., np.newaxis, :]
    np.testing.assert_allclose(found @ found.swapaxes(-1, -2) / size, moved / size, atol=1e-13)


@pytest.mark.parametrize("where", [WHERE, WHITENED["precisions"]], ids=["columns", "whitened"])
def test_cholesky_factor_in_the_units_of_x_is_the_factor_of_the_matrix(where):
    precision = scale_values("precisions", "full")
    unit = Transformation.PRECISION_MATRIX
    found = units.unstandardize_cholesky(unit, np.linalg.cholesky(precision), where)
    expected = np.linalg.cholesky(units.unstandardize(unit, precision, where))
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    inside = units.as_standardization_tensors(where, tf.float64)
    root = tf.linalg.cholesky(tf.constant(precision))
    np.testing.assert_allclose(units.unstandardize_cholesky(unit, root, inside), found, rtol=1e-13)
    # The matrix of a hyperparameter has no units of X.
    assert units.unstandardize_cholesky(Transformation.NONE, root, inside) is root


@pytest.mark.parametrize(
    "unit", [Transformation.LOCATION, *known_covariances.MATRIX_TRANSFORMATIONS]
)
@either_scale_variable
def test_tensors_of_whitened_units_change_as_arrays_do(unit, name):
    value = np.random.default_rng(3).normal(size=(K, D, D))
    where = WHITENED[name]
    inside = units.as_standardization_tensors(where, tf.float64)
    for change in (units.unstandardize, units.standardize_value):
        found, expected = change(unit, tf.constant(value), inside), change(unit, value, where)
        # Sums of up to four products, which may cancel.
        np.testing.assert_allclose(found, expected, rtol=1e-13, atol=1e-13 * np.abs(expected).max())
    shape = (K, D, D)
    np.testing.assert_allclose(
        units.log_det_jacobian([(unit, shape)], inside),
        units.log_det_jacobian([(unit, shape)], where),
        rtol=1e-14,
    )


@pytest.mark.parametrize(
    "unit",
    [
        Transformation.SCALE,
        Transformation.PRECISION,
        Transformation.COMMON_SCALE,
        Transformation.COMMON_PRECISION,
    ],
)
def test_variables_by_column_are_refused_for_whitened_rows(unit):
    """A diagonal covariance in the units of X is not diagonal in whitened units."""
    with pytest.raises(ValueError, match="not one of whitened rows"):
        units.affine_map(unit, WHITENED["precisions"])
    assert units.affine_map(Transformation.NONE, WHITENED["precisions"]) is None
