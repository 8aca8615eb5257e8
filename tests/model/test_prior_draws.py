"""Draws of a prior, against draws of TFP's own distributions."""

import numpy as np
import pytest
from scipy import stats
from tensorflow_probability import distributions as tfd

import bgmm_jd
from bgmm_jd.backend.random import fold_in, stateless_seed
from bgmm_jd.model.prior_draws import draw_prior, is_independent

N, ALARM = 4_000, 1e-6  # level of each Kolmogorov-Smirnov test


def own_prior():
    def model():
        yield tfd.JointDistributionCoroutine.Root(tfd.Dirichlet([2.0, 2.0], name="weights"))

    return tfd.JointDistributionCoroutine(model)


@pytest.mark.parametrize("covariance", ["diag", "full", "tied", "spherical"])
def test_draws_have_the_distribution_of_tfp(covariance):
    prior = bgmm_jd.mixture_prior(2, 2, covariance=covariance, dtype="float64")
    found = draw_prior(prior, N, seed=(1, 2))
    expected = prior.sample(N, seed=(3, 4))._asdict()
    assert list(found) == list(expected)
    for name, value in found.items():
        assert value.dtype == expected[name].dtype
        ours, theirs = (np.reshape(v, (N, -1)) for v in (value, expected[name]))
        for one, other in zip(ours.T, theirs.T, strict=True):
            assert stats.ks_2samp(one, other).pvalue > ALARM


def test_equal_seeds_give_equal_draws_and_others_do_not():
    prior = bgmm_jd.mixture_prior(3, 1)
    first, again, other = (draw_prior(prior, 5, seed)["means"] for seed in [(0, 1), (0, 1), (0, 2)])
    np.testing.assert_array_equal(first, again)
    assert (np.asarray(first) != np.asarray(other)).all()


def test_variables_of_one_seed_are_independent():
    prior = bgmm_jd.mixture_prior(2, 1, dtype="float64")
    draws = draw_prior(prior, N, seed=(5, 6))
    correlation, _ = stats.spearmanr(draws["means"][:, 0, 0], draws["precisions"][:, 0, 0])
    assert abs(correlation) < 5.0 / N**0.5  # false alarms: 6e-7


def test_draws_of_a_coroutine_of_ones_own_are_those_of_tfp():
    prior = own_prior()
    assert not is_independent(prior)
    found = draw_prior(prior, 4, seed=(7, 8))["weights"]
    np.testing.assert_array_equal(found, prior.sample(4, seed=(7, 8)).weights)


def test_small_concentrations_are_left_to_tfp():
    prior = bgmm_jd.mixture_prior(2, 1, weight_concentration=0.01)
    found = draw_prior(prior, 4, seed=(7, 8))["weights"]
    expected = tfd.Dirichlet([0.01, 0.01]).sample(4, seed=fold_in(stateless_seed((7, 8)), 0))
    np.testing.assert_array_equal(found, expected)
