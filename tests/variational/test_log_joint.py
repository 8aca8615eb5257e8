"""The target of the fit, against the model written out with numpy and scipy in the units of X."""

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors
from scipy import special, stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

from bgmm_jd import mixture_prior
from bgmm_jd.data import minibatches
from bgmm_jd.data.rows import Rows, gather_rows
from bgmm_jd.data.units import (
    Standardization,
    as_standardization_tensors,
    log_det_jacobian,
    standardize_value,
    unstandardize,
    whitening,
)
from bgmm_jd.distributions.exchangeable_wishart import ExchangeableWishart
from bgmm_jd.model import likelihood as likelihood_module
from bgmm_jd.model.covariance_forms import cholesky_name, transformation_of
from bgmm_jd.variational.log_joint import log_joint, log_prior, log_prior_by_variable
from bgmm_jd.variational.structure import model_of

N, S, K, D = 23, 5, 3, 2
SHIFT, SCALE = np.array([50.0, -3.0]), np.array([10.0, 0.2])
STANDARDIZATION = as_standardization_tensors(Standardization(SHIFT, SCALE), tf.float64)
Root = tfd.JointDistributionCoroutine.Root


@tfd.JointDistributionCoroutine
def own_prior():
    """Scales, another order, a hyperparameter that the means depend on, a fixed variable."""
    width = yield Root(tfd.Gamma(np.float64(2.0), 1.0, name="width"))
    yield Root(tfd.Independent(tfd.HalfNormal(np.full((K, D), 4.0)), 2, name="scales"))
    means = tfd.Normal(np.zeros((K, D)), 20.0 * width[..., tf.newaxis, tf.newaxis])
    yield tfd.Independent(means, 2, name="means")
    weights = np.array([0.2, 0.3, 0.5])
    yield Root(tfd.Independent(tfd.Deterministic(weights), 1, name="weights"))


PUBLISHED = mixture_prior(
    K,
    D,
    mean_loc=[40.0, -3.0],
    mean_scale=[20.0, 0.5],
    precision_concentration=2.0,
    precision_rate=[50.0, 0.02],
    dtype="float64",
)


def standardized(prior, form="diag"):
    return model_of(prior, form).standardized(STANDARDIZATION)


def draws(model):
    """Return [S] draws in standardised units."""
    rng = np.random.default_rng(0)
    shapes = {site.name: (S, *site.shape) for site in model.sites}
    found = {
        "weights": rng.dirichlet(np.ones(K), S),
        "means": rng.normal(size=(S, K, D)),
        "precisions": rng.gamma(3.0, size=(S, K, D)),
        "scales": rng.gamma(3.0, size=(S, K, D)),
        "width": rng.gamma(3.0, size=S),
    }
    found = {name: found[name] for name in shapes}
    for site in model.sites:
        if site.fixed is not None:
            found[site.name] = np.tile(site.fixed, (S, 1))
    return {name: tf.constant(v, tf.float64) for name, v in found.items()}


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(1).normal(size=(N, D))


def log_prior_of_published(theta):
    """Return the log density in the units of X."""
    rate = np.array([50.0, 0.02])
    return (
        stats.dirichlet(np.full(K, 2.0)).logpdf(theta["weights"].T)
        + stats.norm([40.0, -3.0], [20.0, 0.5]).logpdf(theta["means"]).sum((1, 2))
        + stats.gamma(2.0, scale=1 / rate).logpdf(theta["precisions"]).sum((1, 2))
    )


def log_prior_of_own(theta):
    width = theta["width"][:, None, None]
    return (
        stats.gamma(2.0).logpdf(theta["width"])
        + stats.halfnorm(scale=4.0).logpdf(theta["scales"]).sum((1, 2))
        + stats.norm(0.0, 20.0 * width).logpdf(theta["means"]).sum((1, 2))
    )


# Prior, its density in the units of X, and log |dx / dz| of x in the units of X and z standardised:
# a mean has the units of X, a scale too, a precision the inverse square.
CASES = {
    "published": (PUBLISHED, log_prior_of_published, K * np.log(SCALE).sum() * (1 - 2)),
    "own": (own_prior, log_prior_of_own, K * np.log(SCALE).sum() * (1 + 1)),
}


def in_data_units(theta):
    standardization = Standardization(SHIFT, SCALE)
    return {
        name: unstandardize(transformation_of(name, "diag"), v.numpy(), standardization)
        for name, v in theta.items()
    }


def as_rows(rows, weight=None):
    return Rows(tf.constant(rows), None if weight is None else tf.constant(weight))


def row_log_likelihood(theta, X):
    """Return [S, N], by scipy."""
    sd = theta["scales"] if "scales" in theta else theta["precisions"] ** -0.5
    each = stats.norm.logpdf(X[:, None], theta["means"][:, None], sd[:, None]).sum(axis=-1)
    return special.logsumexp(each, b=theta["weights"][:, None], axis=-1)


@pytest.mark.parametrize("name", CASES)
def test_log_prior_is_the_density_in_data_units_and_the_jacobian(name):
    prior, density, jacobian = CASES[name]
    model = standardized(prior)
    theta = draws(model)
    found = log_prior(model, theta)
    # Some 20 terms in float64, of at most 100 nats.
    np.testing.assert_allclose(found, density(in_data_units(theta)) + jacobian, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "free"),
    [("published", ["weights", "means", "precisions"]), ("own", ["width", "scales", "means"])],
)
def test_log_prior_by_variable_sums_to_the_density_without_fixed_variables(name, free):
    prior, density, _ = CASES[name]
    model = standardized(prior)
    theta = draws(model)
    found = log_prior_by_variable(model, theta)
    assert list(found) == free
    theta = in_data_units(theta)
    np.testing.assert_allclose(sum(found.values()), density(theta), rtol=1e-12)
    if name == "own":  # the means depend on the width
        means = stats.norm(0.0, 20.0 * theta["width"][:, None, None]).logpdf(theta["means"])
        np.testing.assert_allclose(found["means"], means.sum((1, 2)), rtol=1e-12)


def with_precisions(*members):
    """Make a prior with these members, the last of them `precisions`, each from those before it."""

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        yield Root(tfd.Sample(tfd.Normal(np.float64(0), 9.0), (K, D), name="means"))
        found = []
        for member in members:
            found.append((yield member(*found)))

    return prior


TRIL = np.array([[0.6, 0.0], [-0.2, 0.3]])
WISHARTS = {
    "sample": lambda: with_precisions(
        lambda: Root(tfd.Sample(tfd.WishartTriL(np.float64(5), TRIL), K, name="precisions"))
    ),
    "independent": lambda: with_precisions(
        lambda: Root(
            tfd.Independent(tfd.WishartTriL(np.array([3.0, 5.0, 9.0]), TRIL), 1, name="precisions")
        )
    ),
    "exchangeable": lambda: with_precisions(
        lambda: Root(ExchangeableWishart(K, TRIL, 6.0, 2.0, 4.0, 0.01, name="precisions"))
    ),
    "tied": lambda: with_precisions(
        lambda: Root(tfd.WishartTriL(np.float64(5), TRIL, name="precisions"))
    ),
    "hierarchical": lambda: with_precisions(
        lambda: Root(tfd.WishartTriL(np.float64(7), TRIL, name="scale")),
        lambda scale: tfd.Sample(
            tfd.WishartTriL(np.float64(5), tf.linalg.cholesky(scale)), K, name="precisions"
        ),
    ),
}


@pytest.mark.parametrize("name", WISHARTS)
def test_log_prior_by_cholesky_factors_is_that_of_the_matrices(name):
    """The prior does not decompose the matrices itself."""
    prior = WISHARTS[name]()
    model = standardized(prior, "tied" if name == "tied" else "full")
    drawn = prior.sample(S, seed=(0, 1))._asdict()
    theta = {
        n: standardize_value(transformation_of(n, model.covariance), v, STANDARDIZATION)
        for n, v in drawn.items()
    }
    jacobian = log_det_jacobian(model.transformations_and_shapes, STANDARDIZATION)
    for matrix in set(theta) - {"weights", "means"}:
        theta[cholesky_name(matrix)] = tf.linalg.cholesky(theta[matrix])
    expected = prior.log_prob(**drawn) + jacobian
    np.testing.assert_allclose(log_prior(model, theta), expected, rtol=1e-12)
    theta["precisions"] *= np.nan  # the matrix is not read
    np.testing.assert_allclose(log_prior(model, theta), expected, rtol=1e-12)
    parts = prior.log_prob_parts(**drawn)._asdict()
    for variable, found in log_prior_by_variable(model, theta).items():
        np.testing.assert_allclose(found, parts.pop(variable), rtol=1e-12)
    assert not parts


# --- Whitened rows ------------------------------------------------------------------------------

UPPER = np.array([[10.0, -4.0], [0.0, 0.2]])
LOWER = np.array([[10.0, 0.0], [0.1, 0.2]])
COVARIANCE_OF_MEANS = np.array([[400.0, 3.0], [3.0, 0.25]])


def matrix_prior(name, form):
    """Make a prior with correlated means, and scale matrices in the units of X."""
    batch = (K,) if form == "full" else ()
    precisions = tfd.WishartTriL(np.float64(5.0), np.linalg.inv(LOWER))
    factors = tfd.Sample(tfd.Normal(np.float64(0.0), 0.5), (*batch, 3))
    # Row by row: the diagonal, of which the logs are normal, and the element below it.
    factors = tfd.TransformedDistribution(factors, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None))

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        means = tfd.MultivariateNormalTriL(SHIFT, np.linalg.cholesky(COVARIANCE_OF_MEANS))
        yield Root(tfd.Sample(means, K, name="means"))
        if name == "precisions":
            yield Root(tfd.Sample(precisions, batch, name=name))
        else:
            yield Root(tfd.Independent(factors, 0, name=name))

    return prior


def log_prior_of_matrices(name, theta):
    """Return the log density in the units of X, by scipy, [S]."""
    found = stats.dirichlet(np.full(K, 2.0)).logpdf(theta["weights"].T)
    means = stats.multivariate_normal(SHIFT, COVARIANCE_OF_MEANS)
    found = found + means.logpdf(theta["means"]).sum(axis=1)
    matrices = theta[name].reshape(S, -1, D, D)
    if name == "precisions":
        root = np.linalg.inv(LOWER)
        law = stats.wishart(5, root @ root.T)
        return found + np.array([sum(law.logpdf(matrix) for matrix in each) for each in matrices])
    diagonal = np.log(np.diagonal(matrices, axis1=-2, axis2=-1))
    free = np.concatenate([diagonal, matrices[..., 1, :1]], axis=-1)
    densities = stats.norm(0.0, 0.5).logpdf(free).sum(axis=-1) - diagonal.sum(axis=-1)
    return found + densities.sum(axis=1)


def jacobian_of_matrices(name, form):
    """Return log |dx / dz| of the means and of the free entries of the matrices, by hand.

    A mean is multiplied by the matrix. The entries a, b, c of a lower triangular matrix become
    LOWER_11 a, LOWER_21 a + LOWER_22 b and LOWER_22 c; and a symmetric matrix P, in the order P_11,
    P_21, P_22, has the Jacobian |F|^3 under F P F^T.
    """
    count = K if form == "full" else 1
    if name == "precisions":
        return K * np.log(10.0 * 0.2) - 3 * count * np.log(10.0 * 0.2)
    return K * np.log(10.0 * 0.2) + count * np.log(10.0 * 0.2 * 0.2)


@pytest.mark.parametrize("form", ["full", "tied"])
@pytest.mark.parametrize("name", ["precisions", "scales"])
def test_log_prior_of_whitened_variables_is_the_density_in_data_units_and_the_jacobian(name, form):
    prior = matrix_prior(name, form)
    where = whitening(SHIFT, UPPER if name == "precisions" else LOWER)
    model = model_of(prior, form).standardized(as_standardization_tensors(where, tf.float64))
    rng = np.random.default_rng(0)
    shape = (S, K, D, D) if form == "full" else (S, D, D)
    lower = np.tril(rng.uniform(-0.7, 0.7, shape), -1) + rng.uniform(0.5, 2.0, shape) * np.eye(D)
    z = {
        "weights": rng.dirichlet(np.ones(K), S),
        "means": rng.normal(size=(S, K, D)),
        name: lower if name == "scales" else lower @ lower.swapaxes(-1, -2),
    }
    matrix = where.scale
    inverse = np.linalg.inv(matrix)
    theta = {
        "weights": z["weights"],
        "means": SHIFT + z["means"] @ matrix.T,
        name: matrix @ z[name] if name == "scales" else inverse.T @ z[name] @ inverse,
    }
    expected = log_prior_of_matrices(name, theta) + jacobian_of_matrices(name, form)
    found = log_prior(model, {v: tf.constant(value) for v, value in z.items()})
    # Matrices have entries that differ by a factor of 1e4: their determinants lose as much.
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    if name == "precisions":
        factor = {cholesky_name(name): tf.constant(lower)}
        found = log_prior(model, {v: tf.constant(value) for v, value in z.items()} | factor)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_log_joint_is_the_density_in_data_units_and_both_jacobians(name, rows):
    """Of theta and of X."""
    prior, density, jacobian = CASES[name]
    model = standardized(prior)
    theta = draws(model)
    unstandardized = in_data_units(theta)
    likelihood = row_log_likelihood(unstandardized, SHIFT + SCALE * rows).sum(axis=1)
    expected = density(unstandardized) + jacobian + likelihood + N * np.log(SCALE).sum()
    found = log_joint(model, theta, as_rows(rows))
    assert found.shape == [S]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_prior_in_float32_takes_draws_in_float64(rows):
    """The likelihood stays in float64; the prior is as accurate as its own dtype."""
    half, full = (
        standardized(mixture_prior(K, D, mean_scale=[60.0, 4.0], dtype=dtype))
        for dtype in ("float32", "float64")
    )
    theta = draws(full)
    found, expected = (log_prior(model, theta).numpy() for model in (half, full))
    assert found.dtype == np.float64
    # Draws of means and precisions are rounded: eps times their size times the prior's slope,
    # tens of nats each.
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    likelihoods = [
        log_joint(model, theta, as_rows(rows)) - prior
        for model, prior in ((half, found), (full, expected))
    ]
    np.testing.assert_allclose(*likelihoods, rtol=1e-12)


def test_weight_that_underflows_in_the_priors_dtype_has_a_density():
    """A sparse prior in float32 makes such weights in a fit in float64."""
    prior = mixture_prior(K, D, mean_scale=[60.0, 4.0], weight_concentration=0.1)
    model = standardized(prior)
    theta = {name: v[:1] for name, v in draws(model).items()}
    theta["weights"] = tf.constant([[1e-60, 0.4, 0.6]], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        found = log_prior(model, theta)
    assert np.all(np.isfinite(found))
    for gradient in tape.gradient(found, theta).values():
        assert np.all(np.isfinite(gradient))


def test_row_weight_is_the_power_of_the_rows_likelihood(rows):
    """A weight of two repeats the row, a weight of zero leaves it out."""
    model = standardized(PUBLISHED)
    theta = draws(model)
    weight = np.array([2.0, 0.0] + [1.0] * (N - 2))
    found = log_joint(model, theta, as_rows(rows, weight))
    repeated = as_rows(np.repeat(rows, weight.astype(int), axis=0))
    expected = log_joint(model, theta, repeated)
    np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize("B", [1, 5, 12, 22, 23])
def test_estimates_from_batches_average_to_all_rows_over_an_epoch(B, rows):
    """At fixed draws they are unbiased, also where B does not divide N = 23."""
    model = standardized(PUBLISHED)
    theta = draws(model)
    batches = minibatches.equal_batches(N, B)
    seed = tf.constant([3, 4])
    full = log_joint(model, theta, as_rows(rows))
    for epoch in (0, 2):
        parts = []
        for step in range(epoch * batches.count, (epoch + 1) * batches.count):
            indices, real = minibatches.batch_indices(batches, tf.constant(step), seed)
            batch = gather_rows(as_rows(rows), indices)._replace(weight=tf.cast(real, tf.float64))
            parts.append(log_joint(model, theta, batch, batches.count).numpy())
        # Rounding of sums of 23 rows.
        np.testing.assert_allclose(np.mean(parts, axis=0), full, rtol=1e-13)
        if batches.count > 1:  # and no single batch gives that value
            assert np.all(np.ptp(parts, axis=0) > 1e-3)


def test_order_of_rows_and_of_components_does_not_change_the_density(rows):
    model = standardized(mixture_prior(K, D, mean_scale=[60.0, 4.0], dtype="float64"))
    theta = draws(model)
    expected = log_joint(model, theta, as_rows(rows))
    shuffled = np.random.default_rng(2).permutation(rows)
    found = log_joint(model, theta, as_rows(shuffled))
    np.testing.assert_allclose(found, expected, rtol=1e-13)
    moved = {name: tf.gather(v, [2, 0, 1], axis=1) for name, v in theta.items()}
    found = log_joint(model, moved, as_rows(rows))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_sum_over_many_float32_rows_can_be_accumulated_in_float64():
    """2^22 equal rows: in float32 alone their sum would be wrong in the fifth digit or so."""
    standardization = identity_tensors(1, tf.float32)
    model = model_of(mixture_prior(1, 1)).standardized(standardization)
    theta = {
        "weights": tf.ones([1, 1]),
        "means": tf.constant([[[0.3]]]),
        "precisions": tf.constant([[[1.7]]]),
    }
    rows = Rows(tf.zeros([2**22, 1]))
    found = log_joint(model, theta, rows, accumulate=tf.float64)
    assert found.dtype == tf.float64
    first = gather_rows(rows, [0])
    one = likelihood_module.row_log_likelihood(theta, first, "diag").numpy().astype(np.float64)
    expected = 2**22 * one[0, 0] + log_prior(model, theta).numpy()
    # The row's value is given; its sum in float64 is exact to eps times sqrt(N) or so.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_gradient_reaches_every_variable(rows):
    model = standardized(own_prior)
    theta = draws(model)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        value = log_joint(model, theta, as_rows(rows))
    for name, gradient in tape.gradient(value, theta).items():
        assert np.all(np.isfinite(gradient)), name
        assert np.any(gradient != 0), name
