"""Posteriors against those of NUTS, under the published prior.

`reference/README.md` says how the references were made.
"""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import bgmm_jd

pytestmark = pytest.mark.slow

VARIABLES = ("weights", "means", "precisions")
SEEDS = range(5)


def matched(reference, means):
    """Return our labels in the order of the reference's components."""
    cost = ((reference.mean["means"][:, None] - means) ** 2).sum(axis=2)
    return linear_sum_assignment(cost)[1]


def deviations(reference, mean, sd):
    """Return |posterior mean - reference mean| in reference sds, and sd ratios, by parameter."""
    order = matched(reference, mean["means"])
    errors = [
        np.abs(mean[name][order] - reference.mean[name]) / reference.sd[name] for name in VARIABLES
    ]
    ratios = [sd[name][order] / reference.sd[name] for name in VARIABLES]
    return tuple(np.concatenate([v.ravel() for v in kind]) for kind in (errors, ratios))


def surrogate_moments(posterior):
    """Return the means and sds of the surrogate, in closed form."""
    found, _ = posterior.surrogate.sample_distributions(seed=(0, 0))
    return tuple(
        {name: getattr(getattr(found, name), kind)().numpy() for name in VARIABLES}
        for kind in ("mean", "stddev")
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_surrogate_of_separated_clusters_agrees_with_nuts(reference, seed):
    """Every mean of the mean field alone is within 0.1 sd, and every sd within 5 %."""
    nuts = reference("three_clusters")
    posterior = bgmm_jd.fit(nuts.X, 3, prior=bgmm_jd.mixture_prior(3, 2), seed=seed)
    errors, ratios = deviations(nuts, *surrogate_moments(posterior))
    assert errors.max() < 0.1
    assert np.abs(ratios - 1).max() < 0.05
    assert posterior.status is bgmm_jd.Status.CONVERGED


@pytest.mark.parametrize("seed", SEEDS)
def test_surrogate_fitted_in_minibatches_agrees_with_nuts(reference, seed):
    """With batches of 500, every mean is within 0.2 sd and every sd within 10 %."""
    nuts = reference("three_clusters")
    posterior = bgmm_jd.fit(nuts.X, 3, prior=bgmm_jd.mixture_prior(3, 2), seed=seed, batch_size=500)
    errors, ratios = deviations(nuts, *surrogate_moments(posterior))
    assert errors.max() < 0.2
    assert np.abs(ratios - 1).max() < 0.1


def monte_carlo_error(draws, kept=0.5):
    """Return four standard errors of a mean, in sds, and of an sd, as a fraction of itself.

    Importance weights leave an effective sample of at least half the draws. With some 20 parameters
    in a data set, the false-alarm rate is one in 800 data sets.
    """
    effective = draws * kept
    return 4 / np.sqrt(effective), 4 / np.sqrt(2 * effective)


@pytest.mark.parametrize(
    "name", ["three_clusters", "overlap", "faithful_diag", "line_overlap", "five_features"]
)
def test_calibrated_draws_under_the_published_prior_agree_with_nuts(reference, name):
    """Every mean is within 0.08 sd and every sd within 5 %, apart from Monte Carlo error."""
    nuts = reference(name)
    prior = bgmm_jd.mixture_prior(nuts.K, nuts.X.shape[1])
    mean_error, sd_error = monte_carlo_error(4_000)
    for seed in SEEDS:
        posterior = bgmm_jd.fit(nuts.X, nuts.K, prior=prior, seed=seed)
        draws = posterior.sample(4_000, seed=seed)
        mean = {name: v.mean(axis=0, dtype=np.float64) for name, v in draws.items()}
        sd = {name: v.std(axis=0, dtype=np.float64) for name, v in draws.items()}
        errors, ratios = deviations(nuts, mean, sd)
        assert errors.max() < 0.08 + mean_error, seed
        assert np.abs(ratios - 1).max() < 0.05 + sd_error, seed
        assert posterior.khat < 0.5, seed
        assert posterior.status is bgmm_jd.Status.CONVERGED, seed


def test_mean_field_of_overlapping_components_is_too_narrow(reference):
    """Some sd is below three quarters of the posterior's, which is why fits are calibrated."""
    nuts = reference("overlap")
    posterior = bgmm_jd.fit(nuts.X, 2, prior=bgmm_jd.mixture_prior(2, 2))
    _, ratios = deviations(nuts, *surrogate_moments(posterior))
    assert ratios.min() < 0.75
