"""More components than clusters, under priors that leave superfluous components empty."""

from dataclasses import replace

import numpy as np
import pytest
from emptying_priors import K_MAX, SIZES, D, N, emptying_prior, four_clusters

import bgmm_jd
from bgmm_jd.fitting.verdict import smallest_expected_count
from bgmm_jd.model.prior_summaries import smallest_weight
from bgmm_jd.model.priors import (
    stick_breaking_prior,
)
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.occupancy import occupied_components
from bgmm_jd.posterior.restart_posteriors import restart_posteriors
from bgmm_jd.reporting.inference_data import to_inference_data
from bgmm_jd.variational.approximation import draw_mean_field
from bgmm_jd.variational.structure import model_of

pytestmark = pytest.mark.slow

# Probabilities of four, five and six occupied components, printed by reference/make_occupied.py.
BY_GIBBS = {"sticks": [0.69, 0.29, 0.03], "sparse": [0.77, 0.22, 0.01]}


def fit_with(prior):
    X = four_clusters()
    return bgmm_jd.fit(X, K_MAX, prior=prior, restarts=2, execution="graph", progress=False)


@pytest.fixture(scope="module")
def sticks():
    return fit_with(emptying_prior("sticks"))


@pytest.fixture(scope="module")
def sparse():
    return fit_with(emptying_prior("sparse"))


either_prior = pytest.mark.parametrize("name", ["sticks", "sparse"])


@either_prior
def test_probabilities_of_occupied_components_are_those_of_a_gibbs_sampler(name, request):
    """The sampler is `reference/make_occupied.py`.

    With a larger concentration five components are more probable than four: a small one beside one
    of the four. The sampler's standard error of a probability is 0.03, and that of 1,000 draws
    0.02. The limit of four standard errors has a false-alarm rate of 1e-4 for each of the three.
    """
    posterior = request.getfixturevalue(name)
    numbers = occupied_components(posterior, draws=1_000)
    assert numbers.sum() == pytest.approx(1.0)
    assert numbers.argmax() == 4
    assert np.abs(numbers[4:7] - BY_GIBBS[name]).max() < 4.0 * np.hypot(0.03, 0.02)
    assert numbers[:4].sum() == 0.0  # four clusters 8 sds apart are never three


@either_prior
def test_empty_components_leave_the_status_converged(name, request):
    posterior = request.getfixturevalue(name)
    assert posterior.status is Status.CONVERGED
    assert all(restart.status is Status.CONVERGED for restart in posterior.restarts)
    assert smallest_weight(posterior.prior) * N < 0.05


@either_prior
def test_occupied_components_have_the_weights_and_means_of_the_clusters(name, request):
    """The posterior mean is within 0.3 standard errors of the mean of the cluster's rows.

    The standard error of n rows is 1 / sqrt(n), and the prior counts for far less than a row.
    """
    posterior = request.getfixturevalue(name)
    theta = bgmm_jd.relabel(posterior, "weights").sample(400)
    np.testing.assert_array_less(theta["weights"].mean(axis=0)[4:], 0.01)
    share = theta["weights"].mean(axis=0)[:4]
    # Each count over N; the prior counts for a few rows.
    np.testing.assert_allclose(share, SIZES[::-1] / N, atol=4 / N)
    X = four_clusters()
    parts = np.split(X, np.cumsum(SIZES)[:-1])
    expected = np.array([part.mean(axis=0) for part in parts])[::-1]
    error = 1.0 / np.sqrt(SIZES[::-1, np.newaxis])
    assert (np.abs(theta["means"].mean(axis=0)[:4] - expected) < 0.3 * error).all()


def test_smallest_count_is_infinite_only_under_priors_that_allow_empty_components(sticks):
    """Stick-breaking with its default concentration 1 and a sparse Dirichlet do; others do not."""
    draws = draw_mean_field(sticks.problem, sticks.approximation.params, 32, seed=0)
    share = draws.theta["weights"].numpy().mean(axis=0)
    dirichlet = {"concentration": (2.0 + N * share).astype(np.float32)}

    def smallest_count(prior):
        problem = replace(sticks.problem, model=model_of(prior))
        params = sticks.approximation.params
        if not problem.model.is_stick_breaking:
            params = {**params, "weights": dirichlet}
        approximation = replace(sticks.approximation, problem=problem, params=params)
        return smallest_expected_count(replace(sticks, approximation=approximation))

    assert np.isinf(smallest_count(stick_breaking_prior(K_MAX, D)))
    assert np.isinf(smallest_count(bgmm_jd.mixture_prior(K_MAX, D, weight_concentration=0.01)))
    assert smallest_count(bgmm_jd.mixture_prior(K_MAX, D)) < 1.0


def test_median_of_the_smallest_weight_is_some_rows_under_the_default_prior():
    assert smallest_weight(bgmm_jd.mixture_prior(K_MAX, D)) * N > 1.0
    assert smallest_weight(stick_breaking_prior(1, D)) == 1.0


def test_relabel_under_stick_breaking_permutes_all_but_the_surrogate(sticks):
    """The breaks of a stick cannot be permuted, as the docstring of `surrogate` says."""
    order = np.random.default_rng(0).permutation(K_MAX)
    moved = bgmm_jd.relabel(sticks, order)
    before, after = sticks.sample(20, seed=2), moved.sample(20, seed=2)
    for name in ("weights", "means", "precisions"):
        np.testing.assert_array_equal(after[name], before[name][:, order])
    X = four_clusters()
    proba = bgmm_jd.predict_proba(sticks, X)[:, order]
    np.testing.assert_array_equal(bgmm_jd.predict_proba(moved, X), proba)
    for posterior in (sticks, moved):
        draws = posterior.surrogate.sample(4_000, seed=(0, 1))
        np.testing.assert_allclose(draws.weights.numpy().sum(axis=-1), 1.0, rtol=1e-5)
        assert np.isfinite(posterior.surrogate.log_prob(draws)).all()
        own = sticks.sample(4_000, seed=1, calibrate=False)["means"].mean(axis=0)
        occupied = draws.weights.numpy().mean(axis=0) > 0.05
        found = draws.means.numpy().mean(axis=0)
        np.testing.assert_allclose(found[occupied], own[occupied], atol=0.05)


def test_occupied_components_of_restart_chains_are_matched(sticks):
    idata = to_inference_data(sticks, draws=50, chains="restarts")
    means, weights = idata["posterior"]["means"].values, idata["posterior"]["weights"].values
    assert means.shape == (2, 50, K_MAX, D)
    assert np.isfinite(means).all()
    occupied = weights[0].mean(axis=0) > 0.05
    assert occupied.sum() == 4
    one, other = means[:, :, occupied].mean(axis=1)
    # The posterior sds of a mean are at most 1 / sqrt(200), and clusters are 8 apart. Five standard
    # errors of two means of 50 draws have a false-alarm rate of 5e-6 over 8 numbers.
    assert np.abs(one - other).max() < 5.0 * (2.0 / 50.0) ** 0.5 / SIZES.min() ** 0.5


@either_prior
def test_draws_of_a_chain_are_mostly_distinct(name, request):
    """Nearly all draws of the posterior differ, and half those of a restart.

    Importance weights of a restart may be less even: one that ended beside the best optimum has a
    fifth component with a row or two, which may also be empty.
    """
    fitted = request.getfixturevalue(name)
    for posterior, fewest in ((fitted, 40), *((one, 25) for one in restart_posteriors(fitted))):
        assert len(np.unique(posterior.sample(50)["means"][:, 0, 0])) > fewest


def test_prior_for_another_number_of_components_is_refused():
    with pytest.raises(ValueError, match=r"'weights' must have shape \[4\]"):
        bgmm_jd.fit(four_clusters(), 4, prior=stick_breaking_prior(K_MAX, D))
