"""Parameters in each form of covariance, with the matrices that they stand for written out."""

from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd.data import units
from bgmm_jd.data.affine_maps import Elementwise
from bgmm_jd.data.rows import Rows
from bgmm_jd.distributions import bijectors
from bgmm_jd.model import likelihood, priors
from bgmm_jd.model.covariance_forms import (
    FORMS,
    MATRIX_FORMS,
    SCALE_VARIABLES,
    scale_shape,
    transformation_of,
)

# The transformations of variables whose last two axes are features.
MATRIX_TRANSFORMATIONS = (
    units.Transformation.SCALE_MATRIX,
    units.Transformation.PRECISION_MATRIX,
)

K, D = 2, 3  # unequal, so that no confusion of axes can hide
Root = tfd.JointDistributionCoroutine.Root

every_form = pytest.mark.parametrize("form", FORMS)
either_scale_variable = pytest.mark.parametrize("name", SCALE_VARIABLES)


class Drawn(NamedTuple):
    """Parameters as the model takes them, and the covariance matrices [..., K, D, D] they mean."""

    theta: dict[str, np.ndarray]
    covariances: np.ndarray


def random_factors(rng, shape):
    """Draw lower Cholesky factors [..., D, D] of covariances with condition numbers of dozens."""
    features = shape[-1]
    lower = np.tril(rng.uniform(-0.7, 0.7, shape), -1)
    return lower + np.exp(rng.uniform(-0.5, 0.5, shape)) * np.eye(features)


def drawn(form, name, sample=(), seed=0, components=K, features=D):
    """Draw parameters with `precisions` or `scales` and any leading sample shape."""
    rng = np.random.default_rng(seed)
    shape = (*sample, *scale_shape(form, components, features))
    theta = {
        "weights": rng.dirichlet(np.full(components, 3.0), size=sample),
        "means": rng.normal(0, 2, (*sample, components, features)),
    }
    if form in MATRIX_FORMS:
        lower = random_factors(rng, shape)
        found = lower @ lower.swapaxes(-1, -2)
        theta[name] = lower if name == "scales" else symmetric(np.linalg.inv(found))
        found = found if form == "full" else found[..., np.newaxis, :, :]
    else:
        sd = rng.gamma(3.0, 0.5, shape)
        theta[name] = sd if name == "scales" else sd**-2
        found = (sd**2)[..., np.newaxis] * np.eye(features)
    full = (*sample, components, features, features)
    return Drawn(theta, np.broadcast_to(found, full))


def symmetric(matrix):
    return (matrix + matrix.swapaxes(-1, -2)) / 2


def tensors(theta, dtype=tf.float64):
    return {name: tf.constant(value, dtype) for name, value in theta.items()}


def as_rows(values, dtype=tf.float64):
    return Rows(tf.constant(values, dtype))


def row_log_likelihood(theta, values, form, dtype=tf.float64):
    """Return the library's likelihood of NumPy arrays, as an array."""
    return likelihood.row_log_likelihood(
        tensors(theta, dtype), as_rows(values, dtype), form
    ).numpy()


def log_joint_label(theta, covariances, values):
    """Return log p(x_n, label_n = k) under one draw, entry by entry, by scipy: [K, N].

    Features are scaled to variances of 1, as scipy takes columns of unequal scale for singular.
    """
    found = []
    for weight, mean, matrix in zip(theta["weights"], theta["means"], covariances, strict=True):
        sd = np.sqrt(np.diag(matrix))
        law = stats.multivariate_normal(cov=matrix / np.outer(sd, sd))
        density = np.atleast_1d(law.logpdf((values - mean) / sd))
        found.append(np.log(weight) + density - np.log(sd).sum())
    return np.array(found)


# --- Other units --------------------------------------------------------------------------------


def standardization_of(form):
    """Return columns of unequal scale, except for the form that needs columns of one scale."""
    scale = [0.03] * 3 if form == "spherical" else [1000.0, 0.03, 2.0]
    return units.Standardization(np.array([5000.0, -0.2, 1.0]), np.array(scale))


def unstandardized(theta, form):
    """Convert each variable to the units of X."""
    return {
        name: units.unstandardize(transformation_of(name, form), value, standardization_of(form))
        for name, value in theta.items()
    }


def standardized(theta, form):
    """Convert each variable to standardised units."""
    return {
        name: units.standardize_value(
            transformation_of(name, form), value, standardization_of(form)
        )
        for name, value in theta.items()
    }


def free_entries(form, value):
    """Return the free numbers of a value: of a matrix, those on and below the diagonal."""
    return value[..., *np.tril_indices(D)].ravel() if form in MATRIX_FORMS else value.ravel()


def from_free_entries(form, name, numbers):
    shape = scale_shape(form, K, D)
    if form not in MATRIX_FORMS:
        return numbers.reshape(shape)
    value = np.zeros(shape)
    value[..., *np.tril_indices(D)] = numbers.reshape(*shape[:-2], -1)
    if name == "scales":
        return value
    return value + np.tril(value, -1).swapaxes(-1, -2)


def numerical_log_det_jacobian(form, name):
    """Return log |dx / dz| of means and scale variable, by unit steps in their free entries.

    x is in the units of X, z in standardised units.
    """

    def in_data_units(point):
        theta = {
            "means": point[: K * D].reshape(K, D),
            name: from_free_entries(form, name, point[K * D :]),
        }
        theta = unstandardized(theta, form)
        return np.concatenate([theta["means"].ravel(), free_entries(form, theta[name])])

    theta, _ = drawn(form, name, seed=7)
    start = np.concatenate([theta["means"].ravel(), free_entries(form, theta[name])])
    columns = [in_data_units(start + step) - in_data_units(start) for step in np.eye(len(start))]
    return np.linalg.slogdet(np.stack(columns))[1]


# --- Priors -------------------------------------------------------------------------------------


def prior_of(form, name, components=K, features=D, shift=0.0, scale=1.0):
    """Make a float64 prior over `precisions` or `scales`, in the units of `shift` and `scale`."""
    if name == "precisions":
        square = np.square(scale)
        rate = square[:1] if form == "spherical" and np.ndim(square) else square
        return priors.mixture_prior(
            components,
            features,
            covariance=form,
            mean_loc=shift,
            mean_scale=3.0 * scale,
            precision_concentration=2.0,
            precision_rate=rate,
            dtype="float64",
        )
    shape = scale_shape(form, components, features)
    if form in MATRIX_FORMS:
        numbers = np.zeros((*shape[:-2], features * (features + 1) // 2))
        # Scaled by row, as a factor of a covariance is.
        rows = np.broadcast_to(np.asarray(scale, np.float64), (features,))
        log_det = np.log(rows) @ np.arange(1, features + 1)
        scaled = bijectors.ChangeOfUnits(
            Elementwise(None, tf.constant(rows[:, np.newaxis]), log_det, event_ndims=2)
        )
        scales = tfd.TransformedDistribution(
            tfd.Independent(tfd.Normal(numbers, 0.5), 1),
            tfb.Chain([scaled, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)]),
        )
    else:
        centre = np.broadcast_to(np.log(scale), (features,))[: shape[-1]]
        scales = tfd.LogNormal(np.broadcast_to(centre, shape), np.float64(0.5))
    own = len(shape) - (2 if form in MATRIX_FORMS else 0)
    means = tfd.Normal(np.full((components, features), shift), 3.0 * np.asarray(scale))

    def model():
        yield Root(tfd.Dirichlet(np.full(components, 2.0), name="weights"))
        yield Root(tfd.Independent(means, 2, name="means"))
        yield Root(tfd.Independent(scales, own, name="scales"))

    return tfd.JointDistributionCoroutine(model)


def prior_in_data_units(form, name):
    return prior_of(
        form, name, shift=standardization_of(form).shift, scale=standardization_of(form).scale
    )
