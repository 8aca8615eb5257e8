"""Forms of covariance: each against the matrices that it stands for, written out.

Statistical tests state their false-alarm rate; all seeds are fixed.
"""

import functools
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, special, stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd import mixture, objective, prior, run, sampling, spread, surrogate, svi, units
from bgmm_jd.arviz_line import arviz_line
from bgmm_jd.covariance import spread_shape, unit_of
from bgmm_jd.data import centre_and_scale, cut_batches
from bgmm_jd.draws import stateless_seed
from bgmm_jd.fit import _prepare, _start
from bgmm_jd.posterior import log_densities, to_user
from bgmm_jd.rows import Rows, to_tensors

FORMS = ("diag", "full", "tied", "spherical")
MATRICES = ("full", "tied")
SPREADS = ("precisions", "scales")
K, D = 2, 3  # unlike, so that no mistake of axes can hide
Root = tfd.JointDistributionCoroutine.Root

every_form = pytest.mark.parametrize("form", FORMS)
either_spread = pytest.mark.parametrize("name", SPREADS)


class Drawn(NamedTuple):
    """Parameters as the model takes them, and the covariance matrices [..., K, D, D] they mean."""

    theta: dict[str, np.ndarray]
    covariances: np.ndarray


def random_factors(rng, shape):
    """Lower Cholesky factors [..., D, D] of covariances with a condition number of some dozens."""
    features = shape[-1]
    lower = np.tril(rng.uniform(-0.7, 0.7, shape), -1)
    return lower + np.exp(rng.uniform(-0.5, 0.5, shape)) * np.eye(features)


def drawn(form, name, sample=(), seed=0, components=K, features=D):
    rng = np.random.default_rng(seed)
    shape = (*sample, *spread_shape(form, components, features))
    theta = {
        "weights": rng.dirichlet(np.full(components, 3.0), size=sample),
        "means": rng.normal(0, 2, (*sample, components, features)),
    }
    if form in MATRICES:
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
    return mixture.row_log_likelihood(tensors(theta, dtype), as_rows(values, dtype), form).numpy()


def log_joint_label(theta, covariances, values):
    """One draw, entry by entry, by scipy: [K, N]."""
    return np.array(
        [
            np.log(weight) + stats.multivariate_normal(mean, covariance).logpdf(values)
            for weight, mean, covariance in zip(
                theta["weights"], theta["means"], covariances, strict=True
            )
        ]
    )


@pytest.fixture
def values():
    return np.random.default_rng(9).normal(0, 2, (7, D))


# --- The likelihood -----------------------------------------------------------------------------


@pytest.mark.parametrize("sample", [(), (4,), (2, 3)], ids=["one", "several", "axes"])
@either_spread
@every_form
def test_the_likelihood_is_that_of_a_mixture_distribution(values, form, name, sample):
    """tfd.MixtureSameFamily over matrices, each of several draws."""
    theta, covariances = drawn(form, name, sample)
    law = tfd.MixtureSameFamily(
        tfd.Categorical(probs=theta["weights"]),
        tfd.MultivariateNormalTriL(theta["means"], np.linalg.cholesky(covariances)),
    )
    by_row = values.reshape(len(values), *np.ones(len(sample), int), D)
    expected = np.moveaxis(law.log_prob(by_row).numpy(), 0, -1)
    found = row_log_likelihood(theta, values, form)
    assert found.shape == (*sample, len(values))
    # An inverse loses at most the condition number, some dozens, of a few eps.
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@either_spread
@every_form
def test_responsibilities_are_bayes_rule(values, form, name):
    theta, covariances = drawn(form, name, (2,), seed=1)
    found = mixture.responsibilities(tensors(theta), as_rows(values), form).numpy()
    for s in range(2):
        one = {variable: value[s] for variable, value in theta.items()}
        joint = log_joint_label(one, covariances[s], values)
        np.testing.assert_allclose(found[s], special.softmax(joint, axis=0), rtol=1e-9)


@either_spread
def test_full_with_diagonal_matrices_is_diag(values, name):
    theta, _ = drawn("diag", name, (4,))
    full = {**theta, name: theta[name][..., np.newaxis] * np.eye(D)}
    np.testing.assert_allclose(
        row_log_likelihood(full, values, "full"),
        row_log_likelihood(theta, values, "diag"),
        rtol=1e-12,
    )


@either_spread
def test_tied_is_full_with_equal_matrices(values, name):
    theta, _ = drawn("tied", name, (4,))
    full = {**theta, name: np.repeat(theta[name][:, np.newaxis], K, axis=1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "tied"),
        row_log_likelihood(full, values, "full"),
        rtol=1e-12,
    )


@either_spread
def test_spherical_is_diag_with_equal_numbers(values, name):
    theta, _ = drawn("spherical", name, (4,))
    diag = {**theta, name: np.repeat(theta[name], D, axis=-1)}
    np.testing.assert_allclose(
        row_log_likelihood(theta, values, "spherical"),
        row_log_likelihood(diag, values, "diag"),
        rtol=1e-12,
    )


@either_spread
@every_form
def test_narrow_clusters_far_from_zero_keep_their_digits_in_float32(form, name):
    """Two clusters a hundred of their sds from zero, as centred data can have them.

    The expanded form x^T P x - 2 x^T P mu + mu^T P mu would add numbers of 1e4 nats: 1e-3 and more
    is lost. Here a residual of 4 sds at most has an error of a few roundings of 100 sds, and its
    square, halved, 4 times that for each feature.
    """
    theta, covariances = drawn(form, name, seed=2)
    size = 0.01
    power = {"precisions": -2, "scales": 1}[name]
    theta = {
        **theta,
        "means": np.array([[1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]]),
        name: theta[name] * size**power,
    }
    theta = {variable: value.astype(np.float32) for variable, value in theta.items()}
    rng = np.random.default_rng(0)
    z = np.clip(rng.standard_normal((40, K, D)), -2, 2)
    noise = np.einsum("kij,nkj->nki", np.linalg.cholesky(covariances), z)
    far = (theta["means"] + size * noise).reshape(-1, D).astype(np.float32)
    widest = 100 / np.sqrt(np.linalg.eigvalsh(covariances).min())  # sds, in the narrowest direction
    eps = np.finfo(np.float32).eps
    found = row_log_likelihood(theta, far, form, tf.float32)
    expected = row_log_likelihood(theta, far.astype(np.float64), form)
    roundings = 2 * D * np.sqrt(D)
    np.testing.assert_allclose(found, expected, atol=4 * D * roundings * eps * widest)


@every_form
def test_gradients_are_those_of_the_density_written_out(values, form):
    """By differences, for `scales` and `precisions`; a matrix in its free entries."""
    for name in SPREADS:
        theta, _ = drawn(form, name, seed=3)
        theta = tensors(theta)
        with tf.GradientTape() as tape:
            tape.watch(theta)
            total = tf.reduce_sum(mixture.row_log_likelihood(theta, as_rows(values), form))
        gradient = tape.gradient(total, theta)
        rng = np.random.default_rng(0)
        step = {variable: rng.normal(size=value.shape) for variable, value in theta.items()}
        if form in MATRICES:
            free = np.tril if name == "scales" else symmetric
            step[name] = free(step[name])
        along = sum((step[v] * gradient[v].numpy()).sum() for v in theta)
        h = 1e-5
        up, down = (
            row_log_likelihood({v: theta[v] + s * h * step[v] for v in theta}, values, form).sum()
            for s in (1, -1)
        )
        # The third derivative times h^2, and eps over h: both below 1e-8 of some 100 nats.
        assert (up - down) / (2 * h) == pytest.approx(along, rel=1e-6, abs=1e-6)


# --- Spreads, in numpy --------------------------------------------------------------------------


@either_spread
@every_form
def test_spreads_of_draws(form, name):
    theta, covariances = drawn(form, name, (3, 4), seed=4)
    sd = np.sqrt(np.diagonal(covariances, axis1=-2, axis2=-1))
    own = {
        "diag": sd,
        "full": sd,
        "tied": sd[..., 0, :],
        "spherical": sd[..., 0],
    }[form]
    np.testing.assert_allclose(spread.sds(theta, form), own, rtol=1e-12)
    np.testing.assert_allclose(
        spread.by_component(theta, form), covariances, rtol=1e-12, atol=1e-13
    )
    root = spread.roots(theta, form)
    assert root.shape[: 2 + 2] == (3, 4, K, D)
    lower = root if form in MATRICES else root[..., np.newaxis] * np.eye(D)
    np.testing.assert_array_equal(np.triu(lower, 1), 0)
    np.testing.assert_allclose(
        lower @ lower.swapaxes(-1, -2), covariances, rtol=1e-12, atol=1e-13
    )
    z = np.random.default_rng(0).normal(size=(3, 4, K, D))
    np.testing.assert_allclose(
        spread.noise(root, z), (lower @ z[..., np.newaxis])[..., 0], rtol=1e-12, atol=1e-13
    )


@either_spread
@pytest.mark.parametrize("form", MATRICES)
def test_matrices_of_draws(form, name):
    theta, covariances = drawn(form, name, (5,), seed=5)
    own = covariances if form == "full" else covariances[:, 0]
    found = spread.covariances(theta, form)
    np.testing.assert_allclose(found, own, rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(found, found.swapaxes(-1, -2))
    correlations = spread.correlations(theta, form)
    for index in np.ndindex(own.shape[:-2]):
        sd = np.sqrt(np.diag(own[index]))
        np.testing.assert_allclose(
            correlations[index], own[index] / np.outer(sd, sd), rtol=1e-12, atol=1e-13
        )


# --- Units --------------------------------------------------------------------------------------


def where(form):
    """Units with columns of unlike scale, but for the form that needs columns of one."""
    scale = [0.03] * 3 if form == "spherical" else [1000.0, 0.03, 2.0]
    return units.Units(np.array([5000.0, -0.2, 1.0]), np.array(scale))


def moved(theta, form):
    return {
        name: units.to_user(unit_of(name, form), value, where(form))
        for name, value in theta.items()
    }


@either_spread
@every_form
def test_rows_have_the_density_of_the_rows_inside(form, name):
    """x = shift + scale z: p(x) = p(z) / prod(scale), in scipy's words on either side."""
    theta, covariances = drawn(form, name, (), seed=6)
    z = np.random.default_rng(1).normal(size=(5, D))
    x = where(form).shift + where(form).scale * z
    user = moved(theta, form)
    theirs = spread.by_component({v: a[np.newaxis] for v, a in user.items()}, form)[0]
    found = special.logsumexp(log_joint_label(user, theirs, x), axis=0)
    expected = special.logsumexp(log_joint_label(theta, covariances, z), axis=0)
    volume = np.log(where(form).scale).sum()
    # x - mean loses 5000 / 0.03 sds' worth of digits where the form is spherical: 1e5 eps.
    np.testing.assert_allclose(found, expected - volume, rtol=1e-8)
    np.testing.assert_allclose(row_log_likelihood(user, x, form), found, rtol=1e-8)
    back = {v: units.to_internal(unit_of(v, form), a, where(form)) for v, a in user.items()}
    for variable in theta:
        np.testing.assert_allclose(back[variable], theta[variable], rtol=1e-9, atol=1e-10)


def free_entries(form, name, value):
    """The numbers that can be chosen: below the diagonal and on it, of a matrix."""
    return value[..., *np.tril_indices(D)].ravel() if form in MATRICES else value.ravel()


def from_free_entries(form, name, numbers):
    shape = spread_shape(form, K, D)
    if form not in MATRICES:
        return numbers.reshape(shape)
    value = np.zeros(shape)
    value[..., *np.tril_indices(D)] = numbers.reshape(*shape[:-2], -1)
    if name == "scales":
        return value
    return value + np.tril(value, -1).swapaxes(-1, -2)


def jacobian(form, name):
    """log |d user / d internal| of means and spread, by unit steps in their free entries."""

    def user(point):
        theta = {
            "means": point[: K * D].reshape(K, D),
            name: from_free_entries(form, name, point[K * D :]),
        }
        there = moved(theta, form)
        return np.concatenate([there["means"].ravel(), free_entries(form, name, there[name])])

    theta, _ = drawn(form, name, seed=7)
    start = np.concatenate([theta["means"].ravel(), free_entries(form, name, theta[name])])
    columns = [user(start + step) - user(start) for step in np.eye(len(start))]
    return np.linalg.slogdet(np.stack(columns))[1]


def prior_of(form, name, components=K, features=D, shift=0.0, scale=1.0):
    """In the units of `shift` and `scale`; over either kind of spread, in float64."""
    if name == "precisions":
        square = np.square(scale)
        rate = square[:1] if form == "spherical" and np.ndim(square) else square
        return prior.mixture_prior(
            components,
            features,
            form,
            mean_loc=shift,
            mean_scale=3.0 * scale,
            precision_concentration=2.0,
            precision_rate=rate,
            dtype="float64",
        )
    shape = spread_shape(form, components, features)
    if form in MATRICES:
        numbers = np.zeros((*shape[:-2], features * (features + 1) // 2))
        # Scaled by row, as a factor of a covariance is.
        rows = np.broadcast_to(np.asarray(scale, np.float64), (features,))[:, np.newaxis]
        scaled = surrogate.ScaleMatrix(
            tf.constant(rows), tf.reduce_sum(np.log(rows[:, 0]) * np.arange(1, features + 1))
        )
        scales = tfd.TransformedDistribution(
            tfd.Independent(tfd.Normal(numbers, 0.5), 1),
            tfb.Chain([scaled, tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)]),
        )
    else:
        centre = np.broadcast_to(np.log(scale), (features,))[: shape[-1]]
        scales = tfd.LogNormal(np.broadcast_to(centre, shape), np.float64(0.5))
    own = len(shape) - (2 if form in MATRICES else 0)
    means = tfd.Normal(np.full((components, features), shift), 3.0 * np.asarray(scale))

    def model():
        yield Root(tfd.Dirichlet(np.full(components, 2.0), name="weights"))
        yield Root(tfd.Independent(means, 2, name="means"))
        yield Root(tfd.Independent(scales, own, name="scales"))

    return tfd.JointDistributionCoroutine(model)


def user_prior(form, name):
    return prior_of(form, name, shift=where(form).shift, scale=where(form).scale)


@either_spread
@every_form
def test_log_prior_is_the_density_of_the_variables_inside(form, name):
    """p(inside) = p(user) |d user / d inside|, the change found by differences."""
    density = user_prior(form, name)
    model = objective.model_of(density, prior.check_prior(density, K, D, form))
    draws = density.sample(5, seed=(0, 3))
    inside = {
        v: units.to_internal(unit_of(v, form), a.numpy(), where(form))
        for v, a in draws._asdict().items()
    }
    found = objective.log_prior(model, tensors(inside), units.as_tensors(where(form), tf.float64))
    expected = density.log_prob(draws) + jacobian(form, name)
    # Differences of numbers near 5000: eps times 5000 over the smallest change, 0.03.
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@either_spread
@every_form
def test_the_surrogate_in_user_units_is_the_law_of_its_draws_moved(form, name):
    """q(user) = q(inside) / |d user / d inside|, at a start: nothing needs to be trained."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, D)) + np.repeat([[-3.0, 0, 0], [3.0, 0, 0]], 20, axis=0)
    rows = where(form).shift + where(form).scale * z
    data = centre_and_scale(rows, common=form == "spherical")
    inside = _start(_prepare(data, K, form, user_prior(form, name), "eager"), None, 1, [0, 0])
    sites, here = inside.model.sites, inside.tensor_units
    mine = surrogate.joint(sites, inside.values, here, user=False)
    theirs = surrogate.joint(sites, inside.values, here, user=True)
    draws = mine.sample(20, seed=5)
    change = {v: unit_of(v, form) for v in draws._fields}
    user = [units.to_user(change[v], a, here) for v, a in draws._asdict().items()]
    volume = units.log_volume(inside.model.volumes, data.units)
    assert [v.shape for v in theirs.sample(2)] == [v[:2].shape for v in user]
    # A Wishart's density loses the condition number of a start's 20 rows twice.
    np.testing.assert_allclose(
        theirs.log_prob(*user), mine.log_prob(draws).numpy() - volume, rtol=1e-8
    )


# --- The prior ----------------------------------------------------------------------------------

A_PRIOR = {
    "mean_loc": np.array([[160.0, 0.0, 1.0], [200.0, 0.02, 2.0]]),
    "mean_scale": np.array([[50.0, 0.05, 3.0], [40.0, 0.03, 1.0]]),
    "weight_concentration": np.array([2.0, 3.0]),
}
CONCENTRATION = {
    "diag": np.array([[2.0, 1.5, 0.7], [1.8, 2.2, 3.0]]),
    "full": np.array([2.0, 0.8]),
    "tied": np.array(1.7),
    "spherical": np.array([[2.0], [0.8]]),
}
RATE = {
    "diag": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "full": np.array([[100.0, 5e-5, 1.0], [60.0, 9e-5, 2.0]]),
    "tied": np.array([100.0, 5e-5, 1.0]),
    "spherical": np.array([[3.0], [0.1]]),
}


def unlike_prior(form):
    return bgmm_jd.mixture_prior(
        K,
        D,
        form,
        precision_concentration=CONCENTRATION[form],
        precision_rate=RATE[form],
        dtype="float64",
        **A_PRIOR,
    )


def log_density_of_precisions(form, value):
    """Of one draw, by scipy."""
    a, b = CONCENTRATION[form], RATE[form]
    if form not in MATRICES:
        return stats.gamma(a, scale=1 / b).logpdf(value).sum()
    if form == "tied":
        return stats.wishart(2 * a + D - 1, np.diag(0.5 / b)).logpdf(value)
    return sum(
        stats.wishart(2 * a[k] + D - 1, np.diag(0.5 / b[k])).logpdf(value[k]) for k in range(K)
    )


@every_form
def test_mixture_prior_against_scipy(form):
    found = unlike_prior(form)
    assert prior.variable_shapes(found) == {
        "weights": (K,),
        "means": (K, D),
        "precisions": spread_shape(form, K, D),
    }
    draws = found.sample(6, seed=(0, 1))
    assert found.log_prob(draws).dtype == tf.float64
    for weights, means, precisions, density in zip(*draws, found.log_prob(draws), strict=True):
        expected = (
            stats.dirichlet(A_PRIOR["weight_concentration"]).logpdf(weights)
            + stats.norm(A_PRIOR["mean_loc"], A_PRIOR["mean_scale"]).logpdf(means).sum()
            + log_density_of_precisions(form, precisions.numpy())
        )
        np.testing.assert_allclose(density, expected, rtol=1e-10)


@every_form
def test_each_feature_has_the_gamma_law_stated(form):
    """The inverse of each feature's variance: at most 6 Kolmogorov-Smirnov tests a form, each with
    a false alarm of 1e-6."""
    draws = unlike_prior(form).sample(4_000, seed=(0, 2)).precisions.numpy()
    if form in MATRICES:
        draws = 1 / np.diagonal(np.linalg.inv(draws), axis1=-2, axis2=-1)
    a = CONCENTRATION["full"][:, np.newaxis] if form == "full" else CONCENTRATION[form]
    shape = draws.shape[1:]
    for index in np.ndindex(shape):
        law = stats.gamma(
            np.broadcast_to(a, shape)[index], scale=1 / np.broadcast_to(RATE[form], shape)[index]
        )
        assert stats.kstest(draws[:, *index], law.cdf).pvalue > 1e-6, index


@every_form
def test_equal_arguments_give_the_same_prior(form):
    assert unlike_prior(form) is unlike_prior(form)


@every_form
def test_the_default_prior_moves_with_the_columns(form):
    """That of the data's units is that of the units in which they are centred and scaled."""
    here = where(form)
    inside = prior.default_prior(K, D, form, "float64")
    user = prior.default_prior(K, D, form, "float64", here)
    draws = inside.sample(5, seed=(0, 4))
    theirs = moved({v: a.numpy() for v, a in draws._asdict().items()}, form)
    volume = jacobian(form, "precisions")
    np.testing.assert_allclose(
        user.log_prob(*theirs.values()), inside.log_prob(draws) - volume, rtol=1e-8
    )


# --- At the door --------------------------------------------------------------------------------


def independent(distribution, name):
    return tfd.Independent(distribution, len(distribution.batch_shape), name=name)


def variables(*distributions):
    def model():
        yield Root(tfd.Dirichlet(np.full(K, 2.0), name="weights"))
        yield Root(independent(tfd.Normal(np.zeros((K, D)), 1.0), "means"))
        for distribution in distributions:
            yield Root(distribution)

    return tfd.JointDistributionCoroutine(model)


def wishart(*shape, name="precisions"):
    df = np.full(shape[:-2], shape[-1] + 2.0)
    return independent(tfd.WishartTriL(df, np.eye(shape[-1])), name)


def gamma(*shape, name="precisions"):
    return independent(tfd.Gamma(np.full(shape, 2.0), 1.0), name)


@pytest.mark.parametrize(
    ("distributions", "message"),
    [
        ([], "one of 'precisions' and 'scales'"),
        ([gamma(K, D), gamma(K, D, name="scales")], "one of 'precisions' and 'scales'"),
        ([wishart(D, D), wishart(K, D, D, name="scales")], "one of 'precisions' and 'scales'"),
        ([wishart(K, D + 1, D + 1)], r"\[K, D, D\] \(full\).*\[2, 4, 4\]"),
        ([wishart(K + 1, D, D)], r"\[K, D, D\] \(full\).*\[3, 3, 3\]"),
        ([wishart(D - 1, D - 1)], r"\[D, D\] \(tied\).*\[2, 2\]"),
        ([gamma(K)], r"\[K, 1\] \(spherical\).*\[2\]"),
        ([gamma(D)], r"\[K, 1\] \(spherical\).*\[3\]"),
        ([gamma(K, D - 1)], r"\[K, D\].*\[2, 2\]"),
    ],
    ids=lambda value: None if isinstance(value, str) else "",
)
@every_form
def test_what_no_form_has_is_refused(form, distributions, message):
    with pytest.raises(ValueError, match=message):
        prior.check_prior(variables(*distributions), K, D, form)


@pytest.mark.parametrize("wanted", FORMS)
@either_spread
@every_form
def test_the_shape_of_the_prior_says_its_form(form, name, wanted):
    """Any other form that was asked for is refused; "diag" is the default, and asks for none."""
    own = prior_of(form, name)
    if wanted in (form, "diag"):
        assert prior.check_prior(own, K, D, wanted) == form
    else:
        with pytest.raises(ValueError, match=f"covariance='{wanted}' needs a prior whose '{name}'"):
            prior.check_prior(own, K, D, wanted)


@pytest.mark.parametrize("covariance", ["Full", "banded", "", None, 1])
def test_an_unknown_form_is_told(covariance):
    message = r"covariance must be one of \('diag', 'full', 'tied', 'spherical'\)"
    with pytest.raises(ValueError, match=message):
        bgmm_jd.fit(np.zeros((4, 2)), 2, covariance=covariance)
    with pytest.raises(ValueError, match=message):
        bgmm_jd.mixture_prior(2, 2, covariance)


@pytest.mark.parametrize(
    ("form", "name", "value"),
    [
        ("full", "precision_concentration", np.ones((K, D))),
        ("full", "precision_rate", np.ones((K, D, D))),
        ("tied", "precision_concentration", np.ones(K)),
        ("tied", "precision_rate", np.ones((K, D))),
        ("spherical", "precision_concentration", np.ones((K, D))),
        ("spherical", "precision_rate", np.ones(D)),
    ],
)
def test_what_does_not_broadcast_is_told(form, name, value):
    with pytest.raises(ValueError, match=f"{name} must broadcast to shape"):
        bgmm_jd.mixture_prior(K, D, form, **{name: value})


def test_where_the_shape_fits_several_forms_covariance_decides():
    """[2, 2] is [K, D] and [D, D]; [2, 1] is [K, D] and [K, 1] of one feature."""
    square, column = prior_of("diag", "scales", 2, 2), prior_of("diag", "scales", 2, 1)
    assert prior.check_prior(square, 2, 2) == "diag"
    assert prior.check_prior(column, 2, 1) == "diag"
    assert prior.check_prior(column, 2, 1, "spherical") == "spherical"
    tied = prior_of("tied", "precisions", 2, 2)
    assert prior.check_prior(tied, 2, 2, "tied") == "tied"
    with pytest.raises(ValueError, match="covariance='full'"):
        prior.check_prior(square, 2, 2, "full")


@either_spread
def test_matrices_are_not_taken_for_numbers_where_the_shape_fits_both(name):
    """A prior over matrices [D, D] is none over [K, D] numbers, which it would make negative."""
    with pytest.raises(ValueError, match="tied"):
        prior.check_prior(prior_of("tied", name, 2, 2), 2, 2)


@either_spread
def test_numbers_are_not_taken_for_a_matrix_where_the_shape_fits_both(name):
    """A prior over [K, D] numbers is none over matrices [D, D], which it would make asymmetric."""
    with pytest.raises(ValueError, match="diag"):
        prior.check_prior(prior_of("diag", name, 2, 2), 2, 2, "tied")
