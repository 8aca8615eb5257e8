"""The parameters of a posterior's surrogate, and the surrogate that TFP trains further."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
import tf_keras
from builders import problem_for, started, two_groups_of_unlike_scale
from tensorflow_probability import distributions as tfd

import bgmm_jd

FORMS = ("diag", "full", "tied", "spherical")
Root = tfd.JointDistributionCoroutine.Root


@tfd.JointDistributionCoroutine
def own_prior():
    """Yield log-normal scales, Student t means and a fixed number."""
    ones = np.ones((2, 2))
    yield Root(tfd.Independent(tfd.LogNormal(0.0 * ones, ones), 2, name="scales"))
    yield Root(tfd.Deterministic(np.float64(7.0), name="fixed"))
    yield Root(tfd.Independent(tfd.StudentT(5.0 * ones, 0.0 * ones, 9.0), 2, name="means"))
    yield Root(tfd.Dirichlet(np.ones(2), name="weights"))


def posterior_at_start(posterior, covariance="diag", prior=None):
    """Return a posterior whose parameters are those at which a fit of two groups begins."""
    X = two_groups_of_unlike_scale()
    problem = problem_for(X, 2, covariance, prior=prior)
    return replace(posterior, approximation=started(problem))


@pytest.fixture(params=[*FORMS, "own", "sticks"])
def started_posterior(request, two_clusters_posterior):
    prior = {
        "own": own_prior,
        "sticks": bgmm_jd.stick_breaking_prior(2, 2, dtype="float64"),
    }.get(request.param)
    form = request.param if request.param in FORMS else "diag"
    return posterior_at_start(two_clusters_posterior, form, prior)


# --- Parameters -----------------------------------------------------------------------------------


def test_parameters_of_a_fit_are_those_of_its_surrogate(two_clusters_posterior):
    """By TFP's distributions; `test_members` has every prior."""
    p = two_clusters_posterior.parameters
    draws = two_clusters_posterior.surrogate.sample(20, seed=(0, 1))
    assert tuple(p) == draws._fields
    rebuilt = {
        "weights": tfd.Dirichlet(**p["weights"]),
        "means": tfd.Independent(tfd.Normal(**p["means"]), 2),
        "precisions": tfd.Independent(tfd.Gamma(**p["precisions"]), 2),
    }
    found = sum(rebuilt[name].log_prob(draw) for name, draw in draws._asdict().items())
    expected = two_clusters_posterior.surrogate.log_prob(draws)
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_parameters_follow_the_order_of_the_components(two_clusters_posterior):
    turned = bgmm_jd.relabel(two_clusters_posterior, [1, 0])
    for name, parameters in two_clusters_posterior.parameters.items():
        for key, value in parameters.items():
            np.testing.assert_array_equal(turned.parameters[name][key], value[::-1])


def test_parameters_cannot_be_written(two_clusters_posterior):
    parameters = two_clusters_posterior.parameters
    with pytest.raises(ValueError, match="read-only"):
        parameters["means"]["loc"][0] = 0.0
    with pytest.raises(TypeError):
        parameters["means"]["loc"] = np.zeros((2, 2))


# --- The trainable surrogate ----------------------------------------------------------------------


def test_trainable_surrogate_is_the_joint_distribution_of_the_posterior(started_posterior):
    surrogate = bgmm_jd.trainable_surrogate(started_posterior)
    draws = started_posterior.surrogate.sample(20, seed=(0, 1))
    assert surrogate.event_shape._asdict() == started_posterior.surrogate.event_shape._asdict()
    # Variables hold logs of positive parameters, which cost a rounding each.
    expected = started_posterior.surrogate.log_prob(draws)
    np.testing.assert_allclose(surrogate.log_prob(draws), expected, rtol=1e-9)


def test_gradient_of_the_elbo_reaches_every_variable(started_posterior):
    surrogate = bgmm_jd.trainable_surrogate(started_posterior)
    with tf.GradientTape() as tape:
        draws, log_q = surrogate.experimental_sample_and_log_prob(8, seed=(0, 1))
        elbo = tf.reduce_mean(sum(tf.reduce_sum(v**2) for v in draws) - log_q)
    gradients = tape.gradient(elbo, surrogate.trainable_variables)
    assert len(gradients) > 0
    for variable, gradient in zip(surrogate.trainable_variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.name
        assert np.any(gradient != 0.0), variable.name


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("diag", {"weights_concentration", "means_loc", "means_scale"}
         | {"precisions_concentration", "precisions_mean"}),
        ("full", {"weights_concentration", "means_loc", "means_scale_tril"}
         | {"precisions_excess", "precisions_mean_tril"}),
    ],
)  # fmt: skip
def test_variables_are_named_after_variable_and_parameter(two_clusters_posterior, form, expected):
    surrogate = bgmm_jd.trainable_surrogate(posterior_at_start(two_clusters_posterior, form))
    assert {v.name.split(":")[0] for v in surrogate.trainable_variables} == expected


def test_training_raises_the_elbo_of_a_target_of_ones_own(two_clusters, two_clusters_posterior):
    """Student t components in place of normal ones, by Adam; the posterior stays as it is."""

    def target(*theta):
        weights, means, precisions = (theta[fields.index(name)] for name in NAMES)
        components = tfd.Independent(tfd.StudentT(np.float64(2.0), means, precisions**-0.5), 1)
        rows = tfd.MixtureSameFamily(tfd.Categorical(probs=weights), components)
        log_likelihood = tf.reduce_sum(rows.log_prob(two_clusters[:, np.newaxis]), axis=0)
        return two_clusters_posterior.prior.log_prob(*theta) + log_likelihood

    def elbo(surrogate):
        draws, log_q = surrogate.experimental_sample_and_log_prob(1000, seed=(0, 1))
        values = target(*draws) - log_q
        return np.mean(values), np.std(values) / 1000**0.5

    NAMES = ("weights", "means", "precisions")
    surrogate = bgmm_jd.trainable_surrogate(two_clusters_posterior)
    fields = list(surrogate.event_shape._fields)
    kept = two_clusters_posterior.surrogate.sample(2, seed=(0, 1))
    before, error = elbo(surrogate)
    tfp.vi.fit_surrogate_posterior(
        target,
        surrogate,
        optimizer=tf_keras.optimizers.Adam(0.1),
        num_steps=20,
        sample_size=16,
        seed=(0, 2),
    )
    after, _ = elbo(surrogate)
    assert after > before + 5.0 * error
    again = two_clusters_posterior.surrogate.sample(2, seed=(0, 1))
    for one, other in zip(kept, again, strict=True):
        np.testing.assert_array_equal(one, other)
