"""The status of a fit: each cause alone, and the most serious of several."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.fitting.verdict import decide_status
from bgmm_jd.model.prior_summaries import smallest_weight
from bgmm_jd.optimization.restarts import Restart
from bgmm_jd.optimization.status import Status
from bgmm_jd.posterior.draws import draw_standardized
from bgmm_jd.posterior.prediction import expected_counts
from bgmm_jd.settings import Settings
from bgmm_jd.variational.approximation import Mixing

GOOD = Status.CONVERGED

# Restarts as (agrees, elbo, status), beside a best elbo of -100.
BEST = (True, -100.0, GOOD)
FAR_BELOW = (False, -120.0, GOOD)
RIVAL = (False, -101.0, GOOD)


def decided(
    khat=0.1,
    smallest_count=50.0,
    status=GOOD,
    restarts=(BEST,) * 4,
    searches=3,
    starts=1,
    **whole,
):
    order = np.arange(2)
    ends = tuple(
        Restart({}, order, elbo, 160, end, agrees, starts) for agrees, elbo, end in restarts
    )
    return decide_status(status, -100.0, ends, searches, khat, smallest_count, Settings(), **whole)


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({}, Status.CONVERGED),
        ({"khat": 0.8}, Status.KHAT_TOO_HIGH),
        ({"khat": np.nan}, Status.CONVERGED),
        ({"smallest_count": 0.4}, Status.COMPONENT_EMPTY),
        ({"status": Status.STEP_LIMIT}, Status.STEP_LIMIT),
        ({"status": Status.DIVERGED, "khat": 0.9}, Status.DIVERGED),
        ({"restarts": (BEST, RIVAL)}, Status.ONE_OF_SEVERAL_MODES),
        # Draws of the whole posterior are right of rivals.
        ({"restarts": (BEST, BEST, RIVAL), "shares": (0.99, 0.01)}, Status.CONVERGED),
        ({"restarts": (BEST, RIVAL), "shares": (0.7, 0.3)}, Status.SEVERAL_MODES),
        ({"shares": (0.7, 0.3), "khat": 0.8}, Status.KHAT_TOO_HIGH),
        # Where Markov chains made the draws, k-hat says nothing of them.
        ({"khat": 0.8, "shares": (1.0,), "mixing": Mixing(1.02, 900.0)}, Status.CONVERGED),
        ({"shares": (1.0,), "mixing": Mixing(1.06, 900.0)}, Status.CHAINS_NOT_MIXED),
        ({"shares": (1.0,), "mixing": Mixing(1.02, 300.0)}, Status.CHAINS_NOT_MIXED),
        ({"shares": (1.0,), "mixing": Mixing(np.nan, np.nan)}, Status.CHAINS_NOT_MIXED),
        ({"restarts": (BEST,), "starts": 1, "shares": (1.0,)}, Status.RESTARTS_DISAGREE),
        (
            {"restarts": (BEST,), "starts": 1, "shares": (1.0,), "is_scouted": True},
            Status.CONVERGED,
        ),
        ({"restarts": (BEST, FAR_BELOW, FAR_BELOW)}, Status.RESTARTS_DISAGREE),
        ({"restarts": (BEST, FAR_BELOW), "searches": 2}, Status.CONVERGED),
        # Two starts of one run agree, and so does one search that had no second to compare with.
        ({"restarts": (BEST, FAR_BELOW), "starts": 2}, Status.CONVERGED),
        ({"restarts": (BEST,), "starts": 1}, Status.RESTARTS_DISAGREE),
        ({"restarts": (BEST,), "searches": 1}, Status.CONVERGED),
        ({"restarts": (BEST, BEST, FAR_BELOW)}, Status.CONVERGED),
        ({"restarts": (BEST, (False, -101.0, Status.INTERRUPTED))}, Status.INTERRUPTED),
        ({"khat": 0.8, "smallest_count": 0.1}, Status.KHAT_TOO_HIGH),
    ],
)
def test_status_is_the_most_serious_finding(evidence, expected):
    assert decided(**evidence) is expected


def test_text_of_every_status_is_its_name_and_advice():
    for status in Status:
        assert str(status).startswith(status.name.lower().replace("_", " "))
        assert status.value.endswith(".")
    good = [status for status in Status if status.good]
    assert good == [Status.CONVERGED, Status.SEVERAL_MODES]


def two_tight_clusters(N):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(-9, 1, (N // 2, 1)), rng.normal(9, 1, (N // 2, 1))])


@pytest.mark.slow
def test_empty_component_is_reported_under_a_prior_that_expects_rows_in_all():
    """Two tight clusters and K = 3."""
    prior = bgmm_jd.mixture_prior(3, 1, mean_scale=10.0, weight_concentration=0.15)
    assert smallest_weight(prior) * 1000 > 0.05
    with pytest.warns(RuntimeWarning, match="khat too high|component empty|several modes"):
        posterior = bgmm_jd.fit(two_tight_clusters(1000), 3, prior=prior, finish="none")
    assert all(np.isfinite(v).all() for v in posterior.sample(100).values())


def test_empty_component_is_not_reported_under_a_sparse_prior():
    """Two tight clusters and K = 4: at least one component holds no row."""
    prior = bgmm_jd.mixture_prior(4, 1, mean_scale=10.0, weight_concentration=0.05)
    assert smallest_weight(prior) * 200 < 0.05
    posterior = bgmm_jd.fit(two_tight_clusters(200), 4, prior=prior)
    assert posterior.status is Status.CONVERGED
    assert expected_counts(posterior, draw_standardized(posterior, 200, seed=0).theta).min() < 1
    assert all(np.isfinite(v).all() for v in posterior.sample(100).values())
