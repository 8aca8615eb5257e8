"""Posteriors against NUTS: see reference/README.md for how those were made."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import bgmm_jd

pytestmark = pytest.mark.slow

VARIABLES = ("weights", "means", "precisions")
SEEDS = range(5)


def matched(reference, means):
    """Our labels in the reference's order."""
    cost = ((reference.mean["means"][:, None] - means) ** 2).sum(axis=2)
    return linear_sum_assignment(cost)[1]


def deviations(reference, mean, sd):
    """|posterior mean - reference mean| in reference sds, and sd ratios, of every parameter."""
    order = matched(reference, mean["means"])
    errors = [
        np.abs(mean[name][order] - reference.mean[name]) / reference.sd[name] for name in VARIABLES
    ]
    ratios = [sd[name][order] / reference.sd[name] for name in VARIABLES]
    return tuple(np.concatenate([v.ravel() for v in kind]) for kind in (errors, ratios))


def of_surrogate(posterior):
    """Means and sds of the surrogate, in closed form."""
    found, _ = posterior.surrogate.sample_distributions(seed=(0, 0))
    return tuple(
        {name: getattr(getattr(found, name), kind)().numpy() for name in VARIABLES}
        for kind in ("mean", "stddev")
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_surrogate_of_three_clusters(reference, seed):
    """Well separated: the mean-field surrogate alone has every mean within 0.1 sd, every sd
    within 5 %."""
    nuts = reference("three_clusters")
    posterior = bgmm_jd.fit(nuts.X, 3, prior=bgmm_jd.mixture_prior(3, 2), seed=seed)
    errors, ratios = deviations(nuts, *of_surrogate(posterior))
    assert errors.max() < 0.1
    assert np.abs(ratios - 1).max() < 0.05
    assert posterior.status is bgmm_jd.Status.CONVERGED


@pytest.mark.parametrize("seed", SEEDS)
def test_surrogate_of_three_clusters_in_minibatches(reference, seed):
    """In batches of 500: every mean within 0.2 sd, every sd within 10 %."""
    nuts = reference("three_clusters")
    posterior = bgmm_jd.fit(nuts.X, 3, prior=bgmm_jd.mixture_prior(3, 2), seed=seed, batch_size=500)
    errors, ratios = deviations(nuts, *of_surrogate(posterior))
    assert errors.max() < 0.2
    assert np.abs(ratios - 1).max() < 0.1


def slack(draws, kept=0.5):
    """Monte Carlo error of 4,000 draws: of a mean in sds, and of an sd as a fraction of itself.

    Importance weights leave at least half of the draws' worth. Four standard errors, over some
    20 parameters a data set: a false alarm once in 800 data sets.
    """
    worth = draws * kept
    return 4 / np.sqrt(worth), 4 / np.sqrt(2 * worth)


@pytest.mark.parametrize(
    "name", ["three_clusters", "overlap", "faithful_diag", "line_overlap", "five_features"]
)
def test_draws_agree_with_nuts(reference, name):
    """Every mean within 0.08 sd and every sd within 5 %, beside Monte Carlo error; k-hat < 0.5."""
    nuts = reference(name)
    prior = bgmm_jd.mixture_prior(nuts.K, nuts.X.shape[1])
    mean_slack, sd_slack = slack(4_000)
    for seed in SEEDS:
        posterior = bgmm_jd.fit(nuts.X, nuts.K, prior=prior, seed=seed)
        draws = posterior.sample(4_000, seed=seed)
        mean = {name: v.mean(axis=0, dtype=np.float64) for name, v in draws.items()}
        sd = {name: v.std(axis=0, dtype=np.float64) for name, v in draws.items()}
        errors, ratios = deviations(nuts, mean, sd)
        assert errors.max() < 0.08 + mean_slack, seed
        assert np.abs(ratios - 1).max() < 0.05 + sd_slack, seed
        assert posterior.khat < 0.5, seed
        assert posterior.status is bgmm_jd.Status.CONVERGED, seed


def test_mean_field_alone_is_too_narrow(reference):
    """Where components overlap, the surrogate's sds are at most three quarters of the posterior's
    somewhere: what the calibration is for."""
    nuts = reference("overlap")
    posterior = bgmm_jd.fit(nuts.X, 2, prior=bgmm_jd.mixture_prior(2, 2))
    _, ratios = deviations(nuts, *of_surrogate(posterior))
    assert ratios.min() < 0.75
