"""Mean fields under several priors, and empty components in them."""

from dataclasses import replace

import numpy as np
import tensorflow as tf
from builders import identity_tensors
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.calibration.empty_components import find_empty_components
from bgmm_jd.data.standardize import standardize
from bgmm_jd.settings import Settings
from bgmm_jd.variational.approximation import Approximation, Problem, draw_mean_field
from bgmm_jd.variational.parameters import parameters_from_moments
from bgmm_jd.variational.structure import model_of

K, D = 4, 2
Root = tfd.JointDistributionCoroutine.Root

# Weights under which the second and the fourth component are empty.
SECOND_AND_FOURTH_EMPTY = (0.6, 1e-9, 0.4, 1e-9)


@tfd.JointDistributionCoroutine
def half_normal():
    """Scales on the positive half of the line, whose own family is not trainable."""
    yield Root(tfd.Dirichlet(np.full(K, 0.3), name="weights"))
    yield Root(tfd.Sample(tfd.Normal(np.float64(0), 2.0), (K, D), name="means"))
    yield Root(tfd.Sample(tfd.HalfNormal(np.float64(1)), (K, D), name="scales"))


@tfd.JointDistributionCoroutine
def cholesky_factors():
    """Scales that are matrices."""
    yield Root(tfd.Dirichlet(np.full(K, 0.5), name="weights"))
    yield Root(tfd.Sample(tfd.Normal(np.float64(0), 2.0), (K, D), name="means"))
    factor = tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)
    normal = tfd.Sample(tfd.Normal(np.float64(0), 0.5), (K, D * (D + 1) // 2))
    yield Root(tfd.TransformedDistribution(normal, factor, name="scales"))


PRIORS = {
    "sticks": bgmm_jd.stick_breaking_prior(K, D, dtype="float64"),
    "dirichlet": bgmm_jd.mixture_prior(K, D, dtype="float64"),
    "full": bgmm_jd.mixture_prior(K, D, covariance="full", dtype="float64"),
    "tied": bgmm_jd.mixture_prior(K, D, covariance="tied", dtype="float64"),
    "spherical": bgmm_jd.mixture_prior(K, D, covariance="spherical", dtype="float64"),
    "half-normal": half_normal,
    "factors": cholesky_factors,
}
COVARIANCES = {"full": "full", "tied": "tied", "spherical": "spherical", "factors": "full"}


def mean_field_for(prior, X, moments, covariance="diag"):
    """Return a mean field with the given moments, for rows in the units of the prior."""
    data = standardize(X)
    problem = Problem(
        model=model_of(prior, covariance),
        prior_standardization=identity_tensors(X.shape[1], X.dtype),
        data=data,
        execution="graph",
        settings=Settings(),
    )
    params = parameters_from_moments(problem.standardized_model, moments)
    return Approximation(problem=problem, params=params, order=np.arange(problem.model.K))


def mean_field_near(name):
    """Return a mean field with a prior's means and half its sds, by 4,000 draws."""
    prior = PRIORS[name]
    draws = prior.sample(4_000, seed=(0, 9))._asdict()
    moments = {key: (np.mean(v, axis=0), 0.5 * np.std(v, axis=0)) for key, v in draws.items()}
    # The entries of a triangular matrix above its diagonal are zero in all draws.
    moments = {key: (m, np.where(sd > 0.0, sd, sd.max())) for key, (m, sd) in moments.items()}
    X = np.random.default_rng(0).normal(size=(50, D))
    return mean_field_for(prior, X, moments, COVARIANCES.get(name, "diag"))


def with_correlated_means(approximation):
    """Return the mean field with a correlation of 0.8 between the features of each mean."""
    means = approximation.params["means"]
    tril = tf.matmul(means["scale_tril"], tf.constant([[1.0, 0.0], [0.8, 0.6]], tf.float64))
    params = {**approximation.params, "means": {**means, "scale_tril": tril}}
    return replace(approximation, params=params)


def empty_in(approximation, weights=SECOND_AND_FOURTH_EMPTY):
    """Return the empty components found from draws of the mean field, but with these weights."""
    problem, params = approximation.problem, approximation.params
    draws = draw_mean_field(problem, params, 64, seed=4)
    theta = draws.theta | {"weights": tf.constant(np.tile(weights, (64, 1)))}
    rng = np.random.default_rng(0)
    return find_empty_components(problem, params, draws._replace(theta=theta), rng)


def arrays_of(approximation, n, seed=6):
    """Return draws of the mean field by name, as arrays that can be written."""
    theta = draw_mean_field(approximation.problem, approximation.params, n, seed).theta
    return {name: v.numpy() for name, v in theta.items()}
