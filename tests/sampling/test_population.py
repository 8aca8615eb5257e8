"""Moved draws of a poor proposal, against an exact evidence and draws of a good proposal."""

from dataclasses import replace

import numpy as np
import pytest
from exact_evidence import exact_log_evidence
from hard_cases import invariants

import bgmm_jd
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.sampling.chain_posterior import accurate_density
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import OUT_OF_REACH
from bgmm_jd.sampling.population import draw_population
from bgmm_jd.sampling.proposal import propose
from bgmm_jd.sampling.relabelling import centre_of, labels_of
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Proposal

ROWS = np.random.default_rng(3).normal(size=10)
Z_ALARM = 4.5  # false alarms: 7e-6


@pytest.fixture(scope="module")
def posterior():
    return bgmm_jd.fit(ROWS[:, np.newaxis], 2, restarts=1, progress=False)


def whole_of(posterior, mixture):
    """Return what is known of a posterior if that mixture is the proposal for all of it."""
    problem = posterior.problem
    labels = labels_of(problem)
    found = propose(problem, mixture, labels, 3_000, np.random.default_rng(1))
    return WholePosterior(
        Proposal(mixture, found.effective / 3_000),
        OUT_OF_REACH,
        found.khat,
        (centre_of(found.points),),
        np.ones(1),
        np.array([found.khat]),
        is_scouted=True,
    )


def test_moved_draws_of_a_narrow_proposal_have_the_posterior_and_its_evidence(posterior):
    mixture = posterior.approximation.proposal.mixture
    narrow = mixture._replace(factors=0.5 * mixture.factors, df=50.0)
    whole = whole_of(posterior, narrow)
    assert whole.khat > KHAT_LIMIT
    approximation = posterior.approximation
    found = draw_population(accurate_density(approximation), whole, narrow, seed=2)
    assert is_sound(found.bank.mixing, posterior.settings.chains)
    exact = exact_log_evidence(posterior, ROWS)
    jacobian = posterior.problem.data.log_det_jacobian
    error = found.evidence.log - jacobian - exact
    assert abs(error) < Z_ALARM * found.evidence.se < 0.5
    ours = replace(posterior, approximation=replace(approximation, bank=found.bank, proposal=None))
    moved, proposed = (invariants(one.sample(4_000)) for one in (ours, posterior))
    effective = min(found.bank.mixing.effective, 1_000.0)
    limit = Z_ALARM * (2.0 / effective) ** 0.5
    sd = proposed.std(axis=0)
    assert (np.abs(moved.mean(axis=0) - proposed.mean(axis=0)) / sd < limit).all()
    assert (np.abs(np.log(moved.std(axis=0) / sd)) < limit).all()


def test_groups_disagree_where_the_weights_are_useless(posterior):
    """One member at a far place: a single draw of each group has nearly all the weight.

    Groups from there may agree with each other on their way: early moves differ from late ones.
    """
    mixture = posterior.approximation.proposal.mixture
    first = mixture._replace(
        weights=np.ones(1), means=mixture.means[:1] + 3.0, factors=0.05 * mixture.factors[:1]
    )
    whole = whole_of(posterior, first)
    target = accurate_density(posterior.approximation)
    for seed in range(10):
        found = draw_population(target, whole, first, seed)
        assert not is_sound(found.bank.mixing, posterior.settings.chains)
        assert np.isnan(found.evidence.log)
