"""Coordinates of components that hold no rows: which they are, and what density they have."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.calibration import calibrate, importance_sampling, relocation
from bgmm_jd.calibration.empty_components import (
    candidate_rows,
    expected_rows,
    find_empty_components,
    log_prob_of_empty,
)
from bgmm_jd.data.rows import Missing, Rows
from bgmm_jd.data.standardize import standardize
from bgmm_jd.data.units import as_standardization_tensors, identity_standardization
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.model.prior_summaries import prior_moments
from bgmm_jd.variational import approximation
from bgmm_jd.variational.approximation import Approximation, MultivariateNormal
from bgmm_jd.variational.coordinates import coordinate_layout, flatten, unflatten
from bgmm_jd.variational.parameters import parameters_from_moments
from bgmm_jd.variational.structure import model_of
from bgmm_jd.variational.surrogate import surrogate_in_data_units

K, D = 4, 2
UNITS = as_standardization_tensors(identity_standardization(D), "float64")


@tfd.JointDistributionCoroutine
def half_normal():
    """Weights without a twin's name for them, and scales on the positive half of the line."""
    root = tfd.JointDistributionCoroutine.Root
    yield root(tfd.Dirichlet(np.full(K, 0.3), name="weights"))
    yield root(tfd.Sample(tfd.Normal(np.float64(0), 2.0), (K, D), name="means"))
    yield root(tfd.Sample(tfd.HalfNormal(np.float64(1)), (K, D), name="scales"))


@tfd.JointDistributionCoroutine
def cholesky_factors():
    """Scales that are matrices."""
    root = tfd.JointDistributionCoroutine.Root
    yield root(tfd.Dirichlet(np.full(K, 0.5), name="weights"))
    yield root(tfd.Sample(tfd.Normal(np.float64(0), 2.0), (K, D), name="means"))
    factor = tfb.FillScaleTriL(tfb.Exp(), diag_shift=None)
    normal = tfd.Sample(tfd.Normal(np.float64(0), 0.5), (K, D * (D + 1) // 2))
    yield root(tfd.TransformedDistribution(normal, factor, name="scales"))


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


def inside_of(name):
    """A surrogate with the prior's means and half its sds, by 4,000 draws."""
    prior = PRIORS[name]
    model = model_of(prior, COVARIANCES.get(name, "diag"))
    draws = prior.sample(4_000, seed=(0, 9))._asdict()
    moments = {key: (np.mean(v, axis=0), 0.5 * np.std(v, axis=0)) for key, v in draws.items()}
    # What a triangular matrix has above its diagonal is no variable.
    moments = {key: (m, np.where(sd > 0.0, sd, sd.max())) for key, (m, sd) in moments.items()}
    values = parameters_from_moments(model.sites, moments, UNITS, "float64")
    data = standardize(np.random.default_rng(0).normal(size=(50, D)))
    return Approximation(model, identity_standardization(D), data, "graph", values, np.arange(K))


def spare_in(inside, weights):
    """With draws of the mean field, but for these weights."""
    draws = approximation.draw_mean_field(inside, 64, seed=4)
    theta = draws.theta | {"weights": tf.constant(np.tile(weights, (64, 1)))}
    mean, rng = approximation.points_of(inside, draws).mean(axis=0), np.random.default_rng(0)
    return find_empty_components(inside.model, inside.values, UNITS, mean, theta, inside.data, rng)


def test_which_they_are():
    """A break stays that is an empty component's own, or has only empty ones beyond it."""
    inside = inside_of("sticks")
    found = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    np.testing.assert_array_equal(found.components, [False, True, False, True])
    np.testing.assert_array_equal(found.breaks, [False, True, True])
    # Of the 3 breaks, 8 means and 8 precisions: the first break, and what is of components 0 and 2.
    rows = [3 + 2 * k + d for k in (0, 2) for d in range(D)]
    np.testing.assert_array_equal(found.informed, [0, *rows, *np.add(rows, K * D)])


@pytest.mark.parametrize("name", PRIORS)
def test_what_all_components_share_is_never_spare(name):
    inside = inside_of(name)
    found = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    plan = coordinate_layout(inside.model, UNITS)
    expected = [*plan.weights[:1], *plan.own[[0, 2]].ravel(), *plan.shared]
    np.testing.assert_array_equal(found.informed, np.sort(expected))


def test_none_where_all_hold_rows():
    assert spare_in(inside_of("sticks"), [0.6, 0.1, 0.15, 0.15]) is None


def test_none_where_components_cannot_be_told_apart():
    """Ascending means: each coordinate moves all that come after."""

    @tfd.JointDistributionCoroutine
    def ascending():
        root = tfd.JointDistributionCoroutine.Root
        yield root(tfd.Dirichlet(np.ones(K), name="weights"))
        increasing = tfb.Chain([tfb.Transpose([1, 0]), tfb.Ascending(), tfb.Transpose([1, 0])])
        normal = tfd.Sample(tfd.Normal(np.float64(0), 1.0), (K, 1))
        yield root(tfd.TransformedDistribution(normal, increasing, name="means"))
        yield root(tfd.Sample(tfd.Gamma(np.float64(2), 1.0), (K, 1), name="precisions"))

    model, units = (
        model_of(ascending),
        as_standardization_tensors(identity_standardization(1), "float64"),
    )
    values = parameters_from_moments(model.sites, prior_moments(ascending), units, "float64")
    data = standardize(np.tile([[0.0], [2.0]], (25, 1)))
    inside = Approximation(model, identity_standardization(1), data, "graph", values, np.arange(K))
    draws = approximation.draw_mean_field(inside, 64, seed=4)
    theta = draws.theta | {"weights": tf.constant(np.tile([0.5, 1e-9, 0.5, 1e-9], (64, 1)))}
    mean = approximation.points_of(inside, draws).mean(axis=0)
    assert (
        find_empty_components(model, values, units, mean, theta, data, np.random.default_rng(0))
        is None
    )


def test_none_where_the_prior_ties_them_together():
    """Means around a common one: an empty component tells nothing, but it is told of."""

    @tfd.JointDistributionCoroutine
    def hierarchical():
        root = tfd.JointDistributionCoroutine.Root
        centre = yield root(tfd.Normal(np.float64(0), 1.0, name="centre"))
        yield root(tfd.Dirichlet(np.ones(K), name="weights"))
        yield tfd.Sample(tfd.Normal(centre, 1.0), (K, D), name="means")
        yield root(tfd.Sample(tfd.Gamma(np.float64(2), 1.0), (K, D), name="precisions"))

    inside = inside_of("dirichlet")
    model = model_of(hierarchical)
    values = parameters_from_moments(model.sites, prior_moments(hierarchical), UNITS, "float64")
    tied = inside._replace(model=model, values=values)
    assert spare_in(inside, [0.5, 1e-9, 0.5, 1e-9]) is not None
    assert spare_in(tied, [0.5, 1e-9, 0.5, 1e-9]) is None


def test_rows_that_are_worth_little_in_all():
    """Weights of rows that add up to 1 leave no component out."""
    X = np.random.default_rng(0).normal(size=(60, 2)) + np.repeat([[0.0], [6.0]], 30, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = bgmm_jd.fit(
            X,
            2,
            sample_weight=np.full(60, 1 / 60),
            restarts=1,
            max_steps=200,
            execution="graph",
            progress=False,
        )
    assert found.inside.spare is None


def test_the_gradient_beside_them():
    """By the informed coordinates, of points whose others are those of the mean field."""
    inside = inside_of("dirichlet")
    inside = inside._replace(spare=spare_in(inside, [0.6, 1e-9, 0.4, 1e-9]))
    at, rng = inside.informed, np.random.default_rng(5)
    beside = rng.normal(size=(2, coordinate_layout(inside.model, UNITS).size))
    points = rng.normal(size=(2, 2, 9))
    whole = np.repeat(beside[:, np.newaxis], 2, axis=1)
    whole[..., at] = points
    expected = calibrate._gradient(inside._replace(spare=None), beside)(whole)[..., at]
    found = calibrate._gradient(inside, beside)(points)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_census(form):
    """Of two far clusters, by what their rows count for, over slices as over all."""
    inside = inside_of(form if form in COVARIANCES else "dirichlet")
    theta = dict(approximation.draw_mean_field(inside, 1, seed=4).theta)
    theta["means"] = tf.constant([[[0.0, 0.0], [50.0, 0.0], [99.0, 0.0], [0.0, 99.0]]], tf.float64)
    theta["precisions"] = tf.eye(2, batch_shape=[1, K], dtype=tf.float64)
    if form in ("diag", "spherical"):
        theta["precisions"] = tf.ones([1, K, D if form == "diag" else 1], tf.float64)
    if form == "tied":
        theta["precisions"] = tf.eye(2, batch_shape=[1], dtype=tf.float64)
    X = np.zeros((50, D))
    X[:20, 0] = 50.0
    model = model_of(bgmm_jd.mixture_prior(K, D, covariance=form, dtype="float64"), form)
    for weight, each in ((None, 1.0), (np.full(50, 0.5), 0.5)):
        held, log_density = expected_rows(model, theta, Rows(X, weight))
        np.testing.assert_allclose(held, [30 * each, 20 * each, 0.0, 0.0], atol=1e-9)
        expected = tf.math.log(theta["weights"])[0, :2].numpy() - np.log(2.0 * np.pi)
        np.testing.assert_allclose(log_density[[49, 0]], expected, rtol=1e-9)


@pytest.mark.parametrize("name", sorted(PRIORS.keys() - {"tied"}))
def test_the_density_of_all_is_that_of_the_surrogate(name):
    """If everything stays: the surrogate's own density, with the volume of the coordinates."""
    inside = inside_of(name)
    sites, values = inside.model.sites, tf.nest.map_structure(tf.constant, inside.values)
    theta = approximation.draw_mean_field(inside, 20, seed=1).theta
    spare = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    everything = spare._replace(components=np.ones(K, bool), breaks=np.ones(K - 1, bool))
    found = log_prob_of_empty(inside.model, inside.values, UNITS, theta, everything)
    expected = surrogate_in_data_units(sites, values, UNITS).log_prob(list(theta.values()))
    _, volume = unflatten(sites, flatten(sites, theta, UNITS), UNITS)
    np.testing.assert_allclose(found, expected + volume, rtol=1e-9)


@pytest.mark.parametrize("to_weigh", [False, True])
@pytest.mark.parametrize("name", PRIORS)
def test_the_density_of_a_proposal_has_the_mass_one(name, to_weigh):
    """The mean of (the surrogate's density / the proposal's) over proposals is 1.

    Those to be weighed have an empty component at a row in half of the draws. The normal part is
    the surrogate's of that part, but half as wide again. Six standard errors of 20,000 draws: a
    false alarm of 2e-9 each.
    """
    inside = inside_of(name)
    inside = inside._replace(spare=spare_in(inside, [0.6, 1e-9, 0.4, 1e-9]))
    points = approximation.points_of(inside, approximation.draw_mean_field(inside, 5_000, seed=2))
    points = points[:, inside.informed]
    normal = MultivariateNormal(points.mean(axis=0), np.diag(1.5 * points.std(axis=0)))
    found = importance_sampling.draw_proposal(
        inside._replace(normal=normal), 20_000, np.random.default_rng(3), to_weigh=to_weigh
    )
    values = tf.nest.map_structure(tf.constant, inside.values)
    surrogate = surrogate_in_data_units(inside.model.sites, values, UNITS)
    ratio = np.exp(surrogate.log_prob(list(found.theta.values())) - found.log_q)
    assert abs(ratio.mean() - 1.0) < 6.0 * ratio.std() / len(ratio) ** 0.5
    assert ratio.std() / len(ratio) ** 0.5 < 0.1  # or it would say nothing


@pytest.mark.parametrize("name", PRIORS)
def test_the_gain_of_placing(name):
    """It is the ratio of two densities: over draws of the one below, its mean is 1.

    Two out of three of the spare components' draws have a weight here. Six standard errors, but the
    ratio is skew: a false alarm of some 1e-6.
    """
    inside = inside_of(name)
    spare = spare_in(inside, [0.6, 1e-9, 1e-9, 1e-9])
    draws = approximation.draw_mean_field(inside, 20_000, seed=6).theta
    arrays = {key: v.numpy() for key, v in draws.items()}
    form, means = inside.model.covariance, inside.values["means"]
    gain = np.exp(relocation.log_density_ratio(spare, arrays, form, means, share=0.7))
    error = gain.std() / len(gain) ** 0.5
    assert abs(gain.mean() - 1.0) < 6.0 * error
    assert error < 0.05  # or it would say nothing
    assert np.mean(np.abs(gain - 1.0) > 0.1) > 0.1  # it is far from 1 in many draws


def test_placed_components_are_at_rows():
    """Where covariances are small, each is at one of the rows that it may be put at, by chance."""
    inside = inside_of("dirichlet")
    spare = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    arrays = {
        k: v.numpy() for k, v in approximation.draw_mean_field(inside, 8_000, seed=6).theta.items()
    }
    arrays["precisions"][:] = 1e12
    rng = np.random.default_rng(7)
    choice = relocation.choose_relocations(spare, 8_000, 0.5, rng)
    form, means = inside.model.covariance, inside.values["means"]
    moved = relocation.relocate_means(spare, choice, arrays, form, means, rng)
    apart = np.abs(moved[tuple(choice)][:, np.newaxis] - spare.rows).max(axis=-1)
    assert apart.min(axis=1).max() < 1e-4  # a hundred sds
    counts = np.bincount(apart.argmin(axis=1), minlength=len(spare.rows))
    assert stats.chisquare(counts, spare.chance * len(choice.draws)).pvalue > 1e-6
    still = np.ones((8_000, K), bool)
    still[tuple(choice)] = False
    np.testing.assert_array_equal(moved[still], arrays["means"][still])
    assert set(choice.components) == {1, 3}


def test_a_draw_that_is_no_covariance_stops_nothing():
    """A float32 precision matrix may not be positive definite, or out of range."""
    inside = inside_of("full")
    spare = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    arrays = {
        k: v.numpy() for k, v in approximation.draw_mean_field(inside, 100, seed=6).theta.items()
    }
    arrays["precisions"][:30] = [[1e4, 1e4], [1e4, 1e4 - 1e-3]]
    arrays["precisions"][30:60] = np.inf
    rng = np.random.default_rng(7)
    choice = relocation.choose_relocations(spare, 100, 0.9, rng)
    form, means = inside.model.covariance, inside.values["means"]
    with np.errstate(invalid="ignore", over="ignore"):
        moved = relocation.relocate_means(spare, choice, arrays, form, means, rng)
        gain = relocation.log_density_ratio(
            spare, arrays | {"means": moved}, form, means, share=0.5
        )
    assert np.isfinite(moved[:30]).all()
    assert np.isfinite(gain[60:]).all()


def test_breaks_of_a_chosen_component():
    """It has a row more, and what is left at each break before it, too: 1e-6 each."""
    inside = inside_of("sticks")
    spare = spare_in(inside, [0.6, 1e-9, 1e-9, 1e-9])
    choice = relocation.Relocations(np.arange(20_000), np.full(20_000, 1))
    breaks = special.expit(
        relocation.draw_stick_coordinates(spare, choice, 20_000, np.random.default_rng(8))
    )
    pairs = spare.pairs + np.array([[0, 1], [1, 0], [0, 0]])
    for found, (a, b) in zip(breaks.T, pairs, strict=True):
        assert stats.kstest(found, stats.beta(a, b).cdf).pvalue > 1e-6


def test_rows_to_be_put_at():
    """Complete ones, by weight, oftener where they are alone; a sample if they are many."""
    values = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    observed = Missing(np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([0, 1, 0, 0]))
    log_density = np.array([-2.0, -1e4, -2.0, -2.0 - np.log(8.0)])
    weight, rng = np.array([1.0, 1.0, 2.0, 1.0]), np.random.default_rng(0)
    rows, chance = candidate_rows(Rows(values, weight, observed), log_density, rng)
    np.testing.assert_array_equal(rows, values[[0, 2, 3]])
    expected = np.array([1.0, 2.0, 1.0]) / 8.0 + np.array([1.0, 2.0, 8.0]) / 22.0
    np.testing.assert_allclose(chance, expected, rtol=1e-12)
    many = Rows(np.random.default_rng(1).normal(size=(10_000, D)))
    rows, chance = candidate_rows(many, np.zeros(10_000), rng)
    assert len(rows) == len(chance) < 10_000
    np.testing.assert_allclose(chance.sum(), 1.0)


@pytest.mark.parametrize("name", ["sticks", "dirichlet"])
def test_breaks_of_the_mean_field(name):
    """With nothing chosen the breaks have the Beta law of the mean field: a false alarm of 1e-6."""
    inside = inside_of(name)
    spare = spare_in(inside, [0.6, 1e-9, 0.4, 1e-9])
    rng = np.random.default_rng(8)
    none = relocation.choose_relocations(spare, 20_000, 0.0, rng)
    breaks = special.expit(relocation.draw_stick_coordinates(spare, none, 20_000, rng))
    for found, (a, b) in zip(breaks.T, spare.pairs, strict=True):
        assert stats.kstest(found, stats.beta(a, b).cdf).pvalue > 1e-6
