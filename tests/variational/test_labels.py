"""One labelling: orders, alignment, and that they change nothing else."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.data.units import as_standardization_tensors, identity_standardization
from bgmm_jd.model.covariance_forms import FORMS
from bgmm_jd.variational.labels import (
    is_exchangeable,
    is_permutable,
    match_labels,
    order_by_separation,
    order_preferred_by_prior,
    permute_components,
    permute_parameters,
)
from bgmm_jd.variational.log_joint import log_prior
from bgmm_jd.variational.parameters import map_parameters, trainable_variables
from bgmm_jd.variational.structure import model_of, sites_of
from bgmm_jd.variational.surrogate import surrogate_in_data_units


def test_separated_uses_the_feature_that_tells_apart():
    """The first feature has two means 0.01 apart, the second none closer than 4."""
    means = np.array([[-2.00, 4.0], [2.0, 0.0], [-2.01, -4.0]])
    np.testing.assert_array_equal(order_by_separation(means), [2, 1, 0])


def test_separated_does_not_depend_on_the_order_that_comes():
    means = np.random.default_rng(0).normal(size=(4, 3))
    sorted_means = means[order_by_separation(means)]
    for order in itertools.permutations(range(4)):
        shuffled = means[list(order)]
        np.testing.assert_array_equal(shuffled[order_by_separation(shuffled)], sorted_means)


def test_align_is_the_best_of_all_permutations():
    rng = np.random.default_rng(1)
    means, others = rng.normal(size=(2, 5, 2))
    best = min(
        itertools.permutations(range(5)),
        key=lambda order: ((means - others[list(order)]) ** 2).sum(),
    )
    np.testing.assert_array_equal(match_labels(means, others), best)


def test_align_by_what_is_known():
    """The least total would give the first its third place, so that the second goes less far."""
    means, others = np.array([[0.0], [1.0]]), np.array([[1.1], [-8.0]])
    np.testing.assert_array_equal(match_labels(means, others), [1, 0])
    np.testing.assert_array_equal(match_labels(means, others, np.array([1.0, 1e-6])), [0, 1])


def test_exchangeable_priors():
    apart = [[-1.0], [0.0], [1.0]]
    for form in FORMS:
        assert is_exchangeable(model_of(bgmm_jd.mixture_prior(3, 2, covariance=form), form))
        prior = bgmm_jd.mixture_prior(3, 2, covariance=form, mean_loc=apart)
        assert not is_exchangeable(model_of(prior, form))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("of", ["means", "weights", "precisions", "all"])
def test_the_order_that_the_prior_prefers(of, seed):
    """Against all 24 orders of four components, in an order that is not that of the prior."""
    rng = np.random.default_rng(seed)
    told = {
        "means": {"mean_loc": 3.0 * rng.standard_normal((4, 2))},
        "weights": {"weight_concentration": [1.0, 9.0, 30.0, 3.0]},
        "precisions": {"precision_rate": [[30.0], [1.0], [5.0], [100.0]]},
    }
    wanted = told["means"] | told["weights"] | told["precisions"] if of == "all" else told[of]
    model = model_of(bgmm_jd.mixture_prior(4, 2, **wanted))
    drawn = model.prior.sample(seed=(seed, 1))._asdict()
    places = rng.permutation(4)
    theta = {name: v.numpy()[places] for name, v in drawn.items()}
    units = as_standardization_tensors(identity_standardization(2), "float32")

    def density(order):
        arranged = {name: tf.constant(v[order][np.newaxis]) for name, v in theta.items()}
        return float(log_prior(model, arranged, units)[0])

    best = max(density(list(order)) for order in itertools.permutations(range(4)))
    # Two exchanges that are left, each for less than what counts as better.
    assert density(order_preferred_by_prior(model, theta, units)) == pytest.approx(best, abs=0.02)


def test_exchangeable_as_long_as_a_variable_of_the_prior_says_so():
    """The answer for a prior without variables is kept."""
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


def test_arrange_moves_what_belongs_to_components():
    """And nothing else: a tied covariance, a hyperparameter of the length of K."""
    sites = sites_of(bgmm_jd.mixture_prior(2, 2, covariance="tied"), "tied")
    rng = np.random.default_rng(0)
    theta = {
        "weights": rng.normal(size=(5, 2)),
        "means": rng.normal(size=(5, 2, 2)),
        "precisions": rng.normal(size=(5, 2, 2)),
        "hyper": rng.normal(size=(5, 2)),
    }
    found = permute_components(sites, theta, np.array([1, 0]))
    for name in ("weights", "means"):
        np.testing.assert_array_equal(found[name], theta[name][:, ::-1])
    for name in ("precisions", "hyper"):
        np.testing.assert_array_equal(found[name], theta[name])
    diag = permute_components(sites_of(bgmm_jd.mixture_prior(2, 2)), theta, np.array([1, 0]))
    np.testing.assert_array_equal(diag["precisions"], theta["precisions"][:, ::-1])


@pytest.mark.parametrize("form", FORMS)
def test_values_in_another_order_are_the_surrogate_of_draws_in_that_order(form):
    sites = sites_of(bgmm_jd.mixture_prior(2, 2, covariance=form, dtype="float64"), form)
    units = as_standardization_tensors(identity_standardization(2), "float64")
    rng = np.random.default_rng(1)
    values = map_parameters(
        lambda constraint, v: constraint.forward(rng.normal(0, 0.3, v.shape)).numpy(),
        sites,
        trainable_variables(sites, "float64"),
    )
    order = np.array([1, 0])
    before = surrogate_in_data_units(sites, values, units)
    after = surrogate_in_data_units(sites, permute_parameters(sites, values, order), units)
    theta = before.sample(4, seed=(0, 1))._asdict()
    moved = permute_components(sites, theta, order)
    np.testing.assert_allclose(after.log_prob(**moved), before.log_prob(**theta), rtol=1e-12)


def test_proportions_without_parameters_of_their_own_keep_their_order():
    def mixture():
        Root = tfd.JointDistributionCoroutine.Root
        yield Root(tfd.Independent(tfd.Normal(np.zeros((2, 1)), 1.0), 2, name="means"))
        yield Root(tfd.Independent(tfd.Gamma(np.ones((2, 1)), 1.0), 2, name="precisions"))
        yield Root(tfd.RelaxedOneHotCategorical(1.0, probs=np.ones(2), name="weights"))

    assert not is_permutable(sites_of(tfd.JointDistributionCoroutine(mixture)))
    assert is_permutable(sites_of(bgmm_jd.mixture_prior(2, 1)))


def test_relabel_moves_everything_together(two_clusters, two_clusters_posterior):
    posterior = two_clusters_posterior
    turned = bgmm_jd.relabel(posterior, [1, 0])
    for name, v in posterior.sample(50).items():
        np.testing.assert_array_equal(turned.sample(50)[name], v[:, ::-1])
    np.testing.assert_array_equal(
        bgmm_jd.predict(turned, two_clusters), 1 - bgmm_jd.predict(posterior, two_clusters)
    )
    np.testing.assert_array_equal(
        bgmm_jd.log_density(turned, two_clusters), bgmm_jd.log_density(posterior, two_clusters)
    )
    np.testing.assert_allclose(
        turned.surrogate.sample_distributions(seed=(0, 0))[0].means.mean(),
        posterior.surrogate.sample_distributions(seed=(0, 0))[0].means.mean()[::-1],
    )
    again = bgmm_jd.relabel(turned, [1, 0])
    np.testing.assert_array_equal(again.sample(50)["means"], posterior.sample(50)["means"])


def test_relabel_by_weight(three_clusters):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-5, 1, (10, 2)), rng.normal(5, 1, (30, 2))])
    posterior = bgmm_jd.relabel(bgmm_jd.fit(X, 2, restarts=1), "weights")
    weights = posterior.sample(200)["weights"].mean(axis=0)
    assert weights[0] > weights[1]


@pytest.mark.parametrize("order", [[0, 0], [0, 1, 2], "means", [1, 2]])
def test_relabel_refuses(two_clusters_posterior, order):
    with pytest.raises(ValueError, match="order must be"):
        bgmm_jd.relabel(two_clusters_posterior, order)


def test_order_is_the_same_for_all_seeds(three_clusters):
    """Two of the published clusters have the same first coordinate, -2: the second tells."""
    prior = bgmm_jd.mixture_prior(3, 2)
    for seed in range(3):
        means = bgmm_jd.fit(three_clusters.X, 3, prior=prior, seed=seed).sample(100)["means"]
        np.testing.assert_allclose(means.mean(axis=0)[:, 1], [-4, 0, 4], atol=0.3)


def test_given_means_keep_their_order(three_clusters):
    init = [[-2.0, 4.0], [-2.0, -4.0], [2.0, 0.0]]
    prior = bgmm_jd.mixture_prior(3, 2)
    means = bgmm_jd.fit(three_clusters.X, 3, prior=prior, init=init).sample(100)["means"]
    np.testing.assert_allclose(means.mean(axis=0), init, atol=0.3)
