"""The unconstrained coordinates of each variable."""

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors
from known_covariances import MATRIX_TRANSFORMATIONS
from known_priors import FORM_OF, STANDARDIZATION, STANDARDIZATION_OF, standardized_model

from bgmm_jd.data.units import (
    as_standardization_tensors,
)
from bgmm_jd.model.covariance_forms import FORMS, MATRIX_FORMS
from bgmm_jd.model.priors import mixture_prior, stick_breaking_prior
from bgmm_jd.variational.coordinates import (
    coordinate_layout,
    coordinate_map,
    coordinate_shape,
    flatten,
    unflatten,
)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
def test_coordinates_of_each_variable_come_back(prior, prior_name, dtype):
    standardization = STANDARDIZATION_OF.get(prior_name, STANDARDIZATION)
    standardization = as_standardization_tensors(standardization, dtype)
    model = standardized_model(prior, FORM_OF.get(prior_name, "diag"), standardization)
    for site in model.free_sites:
        if dtype == tf.float32 and site.bijector is not None:
            continue
        bijector, shape = coordinate_map(site), coordinate_shape(site)
        point = tf.constant(np.random.default_rng(0).normal(size=(6, *shape)), dtype)
        back = bijector.inverse(tf.identity(bijector.forward(point)))
        eps = np.finfo(dtype.as_numpy_dtype).eps
        # The affine map and the bijector lose at most some hundreds of units in the last place.
        np.testing.assert_allclose(back, point, rtol=0, atol=1e4 * eps)


# --- Points of all variables ---------------------------------------------------------------------


def unscaled_model(prior, form, dtype="float64"):
    """Return a model whose standardised units are those of the prior."""
    standardization = identity_tensors(2, dtype)
    return standardized_model(prior, form, standardization)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("form", "entries"), [("diag", 6), ("full", 9), ("tied", 3), ("spherical", 3)]
)
def test_unflatten_returns_the_draws_that_were_flattened(form, entries, dtype):
    prior = mixture_prior(3, 2, covariance=form, dtype=dtype)
    model = unscaled_model(prior, form, dtype)
    theta = prior.sample(6, seed=(0, 1))._asdict()
    points = flatten(model, theta)
    assert points.shape == (6, 2 + 6 + entries)
    back, _ = unflatten(model, points)
    eps = np.finfo(dtype).eps
    for name, v in theta.items():
        # Entries off the diagonal of a matrix have the error of the diagonal, which is near 1.
        atol = 10 * eps if name == "precisions" and form in MATRIX_FORMS else 0
        np.testing.assert_allclose(back[name], v, rtol=100 * eps, atol=atol)


def free_entries(site, value):
    """Return the entries of a variable [1, ...] that determine it.

    K - 1 proportions, the lower triangle of a matrix, or all.
    """
    if site.name == "weights":
        return value[0, :-1]
    if site.transformation in MATRIX_TRANSFORMATIONS:
        return tf.boolean_mask(value[0], np.broadcast_to(np.tri(value.shape[-1]) > 0, site.shape))
    return tf.reshape(value, [-1])


@pytest.mark.parametrize("form", [*FORMS, "sticks"])
def test_log_det_jacobian_of_unflatten_equals_that_by_automatic_differentiation(form):
    if form == "sticks":
        form, prior = "diag", stick_breaking_prior(3, 2, dtype="float64")
    else:
        prior = mixture_prior(3, 2, covariance=form, dtype="float64")
    model = unscaled_model(prior, form)
    size = flatten(model, prior.sample(1, seed=(0, 1))._asdict()).shape[1]
    point = tf.constant(np.random.default_rng(0).normal(size=(1, size)))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(point)
        theta, log_det_jacobian = unflatten(model, point)
        flat = tf.concat([free_entries(site, theta[site.name]) for site in model.sites], axis=0)
    jacobian = tape.jacobian(flat, point, experimental_use_pfor=False)[:, 0]
    expected = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det_jacobian[0], expected, rtol=1e-12)


def test_layout_of_a_tied_covariance_shares_its_coordinates():
    """Weights first, then means by component; the entries of the matrix are shared."""
    prior = mixture_prior(3, 2, covariance="tied", dtype="float64")
    layout = coordinate_layout(unscaled_model(prior, "tied"))
    assert layout.size == 2 + 6 + 3
    np.testing.assert_array_equal(layout.own, [[2, 3], [4, 5], [6, 7]])
    np.testing.assert_array_equal(layout.shared, [8, 9, 10])
