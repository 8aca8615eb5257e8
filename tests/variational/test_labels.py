"""The labels of the components: their matching, and what permuting them moves."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from builders import identity_tensors
from tensorflow_probability import bijectors as tfb
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.variational.labels import (
    is_exchangeable,
    is_permutable,
    match_labels,
    order_preferred_by_prior,
    permute_components,
    permute_parameters,
)
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.parameters import map_parameters, trainable_variables
from bgmm_jd.variational.structure import model_of
from bgmm_jd.variational.surrogate import surrogate_in_data_units


def test_matching_has_the_least_distance_of_all_permutations():
    rng = np.random.default_rng(1)
    means, others = rng.normal(size=(2, 5, 2))
    best = min(
        itertools.permutations(range(5)),
        key=lambda order: ((means - others[list(order)]) ** 2).sum(),
    )
    np.testing.assert_array_equal(match_labels(means, others), best)


def test_matching_follows_the_weights_of_the_components():
    """With equal weights the least total gives the partner nearest to both to the second mean.

    If the first component has nearly all the weight, it goes to the first.
    """
    means, others = np.array([[0.0], [1.0]]), np.array([[1.1], [-8.0]])
    np.testing.assert_array_equal(match_labels(means, others), [1, 0])
    np.testing.assert_array_equal(match_labels(means, others, np.array([1.0, 1e-6])), [0, 1])


def test_components_that_are_not_finite_take_the_places_that_are_left():
    means = np.array([[0.0], [1.0], [2.0]], np.float32)
    others = np.array([[np.nan], [2.1], [0.2]], np.float32)
    np.testing.assert_array_equal(match_labels(means, others), [2, 0, 1])
    order = match_labels(means, others, np.array([np.inf, np.nan, 1.0]))
    assert sorted(order) == [0, 1, 2]


def test_prior_is_exchangeable_unless_means_have_locations_of_their_own():
    apart = [[-1.0], [0.0], [1.0]]
    for form in FORMS:
        assert is_exchangeable(model_of(bgmm_jd.mixture_prior(3, 2, covariance=form), form))
        prior = bgmm_jd.mixture_prior(3, 2, covariance=form, mean_loc=apart)
        assert not is_exchangeable(model_of(prior, form))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("distinct", ["means", "weights", "precisions", "all"])
def test_order_preferred_by_prior_has_the_highest_density_of_all_orders(distinct, seed):
    """Against all 24 orders of four components, from an order that is not that of the prior."""
    rng = np.random.default_rng(seed)
    arguments = {
        "means": {"mean_loc": 3.0 * rng.standard_normal((4, 2))},
        "weights": {"weight_concentration": [1.0, 9.0, 30.0, 3.0]},
        "precisions": {"precision_rate": [[30.0], [1.0], [5.0], [100.0]]},
    }
    arguments["all"] = arguments["means"] | arguments["weights"] | arguments["precisions"]
    standardization = identity_tensors(2, "float32")
    prior = bgmm_jd.mixture_prior(4, 2, **arguments[distinct])
    model = model_of(prior).standardized(standardization)
    drawn = model.prior.sample(seed=(seed, 1))._asdict()
    places = rng.permutation(4)
    theta = {name: v.numpy()[places] for name, v in drawn.items()}

    def density(order):
        arranged = {name: tf.constant(v[order][np.newaxis]) for name, v in theta.items()}
        return float(log_prior(model, arranged)[0])

    best = max(density(list(order)) for order in itertools.permutations(range(4)))
    # Two swaps may be left, each with less than the gain of 0.01 nats for which one is made.
    assert density(order_preferred_by_prior(model, theta)) == pytest.approx(best, abs=0.02)


def test_exchangeability_follows_the_variables_of_a_prior():
    """It is cached only for a prior without variables."""
    loc = tf.Variable(np.zeros((2, 1), np.float32))
    Root = tfd.JointDistributionCoroutine.Root

    @tfd.JointDistributionCoroutine
    def prior():
        yield Root(tfd.Dirichlet([1.0, 1.0], name="weights"))
        yield Root(tfd.Independent(tfd.Normal(loc, 1.0), 2, name="means"))
        gamma = tfd.Gamma(np.ones((2, 1), np.float32), 1.0)
        yield Root(tfd.Independent(gamma, 2, name="precisions"))

    model = model_of(prior)
    assert is_exchangeable(model)
    loc.assign([[-1.0], [1.0]])
    assert not is_exchangeable(model)


def test_permuting_components_moves_only_what_belongs_to_them():
    """Not a tied covariance, nor a hyperparameter of length K."""
    model = model_of(bgmm_jd.mixture_prior(2, 2, covariance="tied"), "tied")
    rng = np.random.default_rng(0)
    theta = {
        "weights": rng.normal(size=(5, 2)),
        "means": rng.normal(size=(5, 2, 2)),
        "precisions": rng.normal(size=(5, 2, 2)),
        "hyper": rng.normal(size=(5, 2)),
    }
    found = permute_components(model, theta, np.array([1, 0]))
    for name in ("weights", "means"):
        np.testing.assert_array_equal(found[name], theta[name][:, ::-1])
    for name in ("precisions", "hyper"):
        np.testing.assert_array_equal(found[name], theta[name])
    diag = permute_components(model_of(bgmm_jd.mixture_prior(2, 2)), theta, np.array([1, 0]))
    np.testing.assert_array_equal(diag["precisions"], theta["precisions"][:, ::-1])


@pytest.mark.parametrize("form", FORMS)
def test_permuted_parameters_are_the_surrogate_of_permuted_draws(form):
    prior = bgmm_jd.mixture_prior(2, 2, covariance=form, dtype="float64")
    standardization = identity_tensors(2, "float64")
    model = model_of(prior, form).standardized(standardization)
    rng = np.random.default_rng(1)
    params = map_parameters(
        lambda constraint, v: constraint.forward(rng.normal(0, 0.3, v.shape)).numpy(),
        model.sites,
        trainable_variables(model.sites, "float64"),
    )
    order = np.array([1, 0])
    before = surrogate_in_data_units(model, params)
    after = surrogate_in_data_units(model, permute_parameters(model.sites, params, order))
    theta = before.sample(4, seed=(0, 1))._asdict()
    moved = permute_components(model, theta, order)
    np.testing.assert_allclose(after.log_prob(**moved), before.log_prob(**theta), rtol=1e-12)


def test_model_is_not_permutable_where_proportions_have_one_coordinate_fewer():
    def mixture():
        Root = tfd.JointDistributionCoroutine.Root
        yield Root(tfd.Independent(tfd.Normal(np.zeros((2, 1)), 1.0), 2, name="means"))
        yield Root(tfd.Independent(tfd.Gamma(np.ones((2, 1)), 1.0), 2, name="precisions"))
        yield Root(tfd.RelaxedOneHotCategorical(1.0, probs=np.ones(2), name="weights"))

    assert not is_permutable(model_of(tfd.JointDistributionCoroutine(mixture)))
    assert is_permutable(model_of(bgmm_jd.mixture_prior(2, 1)))


def test_order_of_a_fit_is_the_same_for_all_seeds(three_clusters):
    """Two of the published clusters have the same first coordinate, -2; the second separates."""
    prior = bgmm_jd.mixture_prior(3, 2)
    for seed in range(3):
        posterior = bgmm_jd.fit(three_clusters.X, 3, prior=prior, seed=seed, finish="none")
        means = posterior.sample(100)["means"]
        np.testing.assert_allclose(means.mean(axis=0)[:, 1], [-4, 0, 4], atol=0.3)


def test_components_of_a_fit_keep_the_order_of_init(three_clusters):
    init = [[-2.0, 4.0], [-2.0, -4.0], [2.0, 0.0]]
    prior = bgmm_jd.mixture_prior(3, 2)
    means = bgmm_jd.fit(three_clusters.X, 3, prior=prior, init=init).sample(100)["means"]
    np.testing.assert_allclose(means.mean(axis=0), init, atol=0.3)


def test_order_preferred_by_ascending_means_is_found_where_no_swap_reaches_it():
    """From [2, 3, 0, 1] no swap of two components makes the means ascend."""
    means = tfd.TransformedDistribution(
        tfd.Sample(tfd.Normal(np.float64(0.0), 3.0), [1, 4]),
        tfb.Chain([tfb.Transpose([1, 0]), tfb.Ascending()]),
        name="means",
    )

    @tfd.JointDistributionCoroutine
    def prior():
        Root = tfd.JointDistributionCoroutine.Root
        yield Root(tfd.Dirichlet(np.full(4, 2.0), name="weights"))
        yield Root(means)
        yield Root(tfd.Independent(tfd.Gamma(np.full((4, 1), 5.0), 5.0), 2, name="precisions"))

    model = model_of(prior)
    assert model.site("means").links_components
    assert not is_permutable(model)
    theta = {
        "weights": np.full(4, 0.25),
        "means": np.array([[3.0], [4.0], [1.0], [2.0]]),
        "precisions": np.ones((4, 1)),
    }
    standardized = model.standardized(identity_tensors(1, tf.float64))
    np.testing.assert_array_equal(order_preferred_by_prior(standardized, theta), [2, 3, 0, 1])
