"""Priors of every structure, and models and surrogate parameters made from them."""

import numpy as np
import tensorflow as tf
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.data.units import Standardization, as_standardization_tensors, whitening
from bgmm_jd.model.priors import stick_breaking_prior
from bgmm_jd.variational.parameters import map_parameters, trainable_variables
from bgmm_jd.variational.structure import model_of

K, D = 3, 2
Root = tfd.JointDistributionCoroutine.Root
STANDARDIZATION = as_standardization_tensors(
    Standardization(np.array([50.0, 3.0]), np.array([10.0, 0.2])), tf.float64
)
# Whitened rows, by an upper triangular matrix for `precisions` and by a lower one for `scales`.
UPPER, LOWER = (
    as_standardization_tensors(whitening(np.array([50.0, 3.0]), np.array(scale)), tf.float64)
    for scale in ([[10.0, -4.0], [0.0, 0.2]], [[10.0, 0.0], [0.1, 0.2]])
)
ONE = np.ones((K, D))


def over_event(distribution, name):
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


@tfd.JointDistributionCoroutine
def own_prior():
    """Yield variables in another order, one of them fixed, and means that depend on another.

    No family of the surrogate matches those of `scales` and `means`.
    """
    yield Root(over_event(tfd.HalfNormal(ONE), "scales"))
    width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
    scale = width[..., tf.newaxis, tf.newaxis] * ONE
    yield tfd.Independent(tfd.StudentT(5.0 * ONE, 0.0 * ONE, scale), 2, name="means")
    yield Root(tfd.Deterministic(np.float64(7.0), name="fixed"))
    yield Root(tfd.Sample(tfd.Normal(np.float64(0.0), 1.0), 4, name="extra"))
    yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))


def prior_of(**distributions):
    """Make a coroutine of independent variables with these names."""

    def model():
        for name, distribution in distributions.items():
            yield Root(over_event(distribution, name))

    return tfd.JointDistributionCoroutine(model)


def lower_triangles(*batch):
    """Make Cholesky factors [..., D, D] of normal entries, exponentiated on the diagonal."""
    free = D * (D + 1) // 2
    base = tfd.MultivariateNormalDiag(np.zeros((*batch, free)), np.ones(free))
    return tfd.TransformedDistribution(base, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None))


def precision_matrices(*batch):
    """Make products of such factors with their transposes."""
    base = tfd.MultivariateNormalDiag(np.zeros((*batch, 3)), 0.5 * np.ones(3))
    cholesky = tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)
    return tfd.TransformedDistribution(base, tfb.Chain([tfb.CholeskyOuterProduct(), cholesky]))


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
    "precisions of another family": prior_of(
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
    "precisions of another family": "tied",
    "one scale for all features": "spherical",
}
STANDARDIZATION_OF = {}


def add_whitened(name, standardization, prior=None, form=None):
    """Add the prior of that name, or another one, for rows that are whitened."""
    PRIORS[f"{name}, whitened"] = PRIORS[name] if prior is None else prior
    FORM_OF[f"{name}, whitened"] = form or FORM_OF[name]
    STANDARDIZATION_OF[f"{name}, whitened"] = standardization


def wishart_prior_with(means):
    """Make a prior with these means and a precision matrix for each component."""
    precisions = tfd.Sample(tfd.WishartTriL(np.float64(5.0), np.eye(D)), K)
    return prior_of(weights=tfd.Dirichlet(ONE[:, 0]), means=means, precisions=precisions)


add_whitened("full", UPPER)
add_whitened("tied", UPPER)
add_whitened("scales that are matrices", LOWER)
add_whitened("precisions of another family", UPPER)
add_whitened(
    "means of another family",
    UPPER,
    wishart_prior_with(tfd.StudentT(5.0 * ONE, 0.0 * ONE, ONE)),
    "full",
)
add_whitened("bounded means", UPPER, wishart_prior_with(tfd.Uniform(-200 * ONE, 200 * ONE)), "full")


def standardized_model(prior, form="diag", standardization=STANDARDIZATION):
    return model_of(prior, form).standardized(standardization)


def random_params(model, seed=0):
    """Make constrained parameters of a surrogate in float64, no two of them equal."""
    rng = np.random.default_rng(seed)

    def value(constraint, leaf):
        free = rng.normal(0, 0.3, leaf.shape)
        if isinstance(constraint, tfb.TransformDiagonal):
            free = np.tril(free)
        return tf.constant(constraint.forward(free))

    return map_parameters(value, model.sites, trainable_variables(model.sites, tf.float64))
