"""The elbo, the k-hat and the status of a fitted surrogate, with and without calibration."""

from dataclasses import replace

import numpy as np
import pytest
from builders import with_settings
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.calibration.psis import KHAT_LIMIT
from bgmm_jd.fitting import assess as assess_module
from bgmm_jd.fitting.assess import assess, elbo_of_surrogate
from bgmm_jd.fitting.search import SearchPlan, SearchResult
from bgmm_jd.optimization.restarts import Optimum
from bgmm_jd.optimization.single_run import RunResult
from bgmm_jd.optimization.status import Status
from bgmm_jd.sampling.evidence import Evidence
from bgmm_jd.sampling.whole_posterior import WholePosterior
from bgmm_jd.variational.approximation import Bank, Centre, Mixing, draw_mean_field

PLAN = SearchPlan(batch_size=40, restarts=1, init=None, max_steps=100, optimizer="natural", seed=3)


def ignored(report):
    """Show no progress."""


@pytest.fixture
def surrogate(two_clusters_posterior):
    """The fitted surrogate of two clusters, without its calibration."""
    approximation = two_clusters_posterior.approximation
    problem = replace(approximation.problem, execution="graph")
    return replace(approximation, problem=problem, calibration=None, proposal=None)


def found_at(approximation):
    """Return the result of a search that ended at these parameters."""
    best = RunResult(approximation.params, np.full(20, -100.0), -100.0, Status.CONVERGED)
    return SearchResult(best, (), (Optimum(best.params, -100.0, 4),), 3, 40, 0.5)


def test_assessment_does_what_is_requested(surrogate):
    """The elbo is that of the surrogate in all cases, and k-hat is that of what makes the draws."""
    plain, without = assess(surrogate, found_at(surrogate), PLAN, None, ignored)
    calibrated, found = assess(surrogate, found_at(surrogate), PLAN, "none", ignored)
    whole, known = assess(surrogate, found_at(surrogate), PLAN, "auto", ignored)
    assert plain.calibration is None
    assert calibrated.calibration is not None
    assert plain.proposal is calibrated.proposal is None
    assert whole.proposal is not None
    assert len({without.khat, found.khat, known.khat}) == 3
    assert max(without.khat, found.khat, known.khat) < KHAT_LIMIT
    for one in (without, found, known):
        assert (one.elbo, one.elbo_se) == (without.elbo, without.elbo_se)
        assert one.status is Status.CONVERGED
        assert len(one.modes) == 1
    assert np.isnan(found.evidence.log)
    assert np.isfinite(known.evidence.log)
    assert known.modes[0].share == 1.0
    assert set(known.seconds) == {"calibration", "whole posterior"}


@pytest.mark.parametrize("value", [np.nan, 1e200])
def test_assessment_of_parameters_out_of_range_is_diverged(surrogate, value):
    """An elbo of NaN or -inf says so, whatever the steps before it reached, without a warning."""
    means = surrogate.params["means"]
    params = {**surrogate.params, "means": {**means, "loc": np.full_like(means["loc"], value)}}
    broken = replace(surrogate, params=params)
    approximation, found = assess(broken, found_at(broken), PLAN, "auto", ignored)
    assert approximation is broken
    assert found.status is Status.DIVERGED
    assert np.isnan(found.khat)


@pytest.mark.parametrize(("lost", "expected"), [(400, Status.DIVERGED), (3, Status.CONVERGED)])
def test_draws_out_of_range_are_diverged_if_they_are_most(surrogate, monkeypatch, lost, expected):
    """A precision too small for the dtype has an infinite coordinate; the elbo may be finite."""

    def partly_lost(problem, params, n, seed):
        draws = draw_mean_field(problem, params, n, seed)
        points = draws.points.copy()
        points[:lost, -1] = -np.inf
        return draws._replace(points=points)

    monkeypatch.setattr(assess_module, "draw_mean_field", partly_lost)
    _, found = assess(surrogate, found_at(surrogate), PLAN, "none", ignored)
    assert np.isfinite(found.elbo)
    assert found.status is expected


def test_elbo_estimates_by_draws_and_by_passes_agree(surrogate):
    """Within five standard errors of both; many rows are read in passes."""
    draws = draw_mean_field(surrogate.problem, surrogate.params, 500, seed=3)
    elbo, error = elbo_of_surrogate(surrogate, draws, PLAN)
    by_passes, other_error = elbo_of_surrogate(surrogate, draws, replace(PLAN, batch_size=None))
    assert 0.0 < error < 0.5
    assert 0.0 < other_error < 0.5
    assert abs(elbo - by_passes) < 5 * np.hypot(error, other_error)


@pytest.mark.parametrize("function", ["elbo_of_surrogate", "with_calibration"])
def test_interrupt_after_the_last_step_keeps_the_converged_parameters(monkeypatch, function):
    """What is not known is NaN."""

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(assess_module, function, interrupted)
    with pytest.warns(RuntimeWarning, match="interrupted"):
        posterior = bgmm_jd.fit(two_groups(64), 2)
    assert posterior.status is bgmm_jd.Status.INTERRUPTED
    assert np.isnan(posterior.khat)
    assert np.isnan(posterior.elbo_se) == (function == "elbo_of_surrogate")
    assert posterior.elbo == pytest.approx(posterior.elbo_trace[-20:].mean(), abs=1.0)
    assert np.isfinite(posterior.sample(10)["means"]).all()


def two_optima(approximation):
    """Return the result of a search that has found another optimum, one nat below the best."""
    found = found_at(approximation)
    params = approximation.params
    loc = params["means"]["loc"]
    other = {**params, "means": {**params["means"], "loc": loc + 0.5}}
    return found._replace(optima=(*found.optima, Optimum(other, -101.0, 2)))


@pytest.mark.parametrize(("optima", "expected"), [(found_at, []), (two_optima, ["chains"])])
def test_chains_follow_where_draws_are_of_one_of_several_optima(
    surrogate, monkeypatch, optima, expected
):
    """Whatever the k-hat, which is that of the best one alone."""
    called = []
    monkeypatch.setattr(assess_module, "find_whole_posterior", lambda *_: None)
    monkeypatch.setattr(assess_module, "may_anneal", lambda *_: False)
    monkeypatch.setattr(assess_module, "draw_chains", lambda *_: called.append("chains"))
    _, found = assess(surrogate, optima(surrogate), PLAN, "auto", ignored)
    assert found.khat < 0.5
    assert called == expected


def with_plain_efficiency(surrogate, efficiency):
    """Return the surrogate with another demand on one t distribution, and rows that are not few."""
    proposal = surrogate.problem.settings.proposal
    return with_settings(
        surrogate, proposal=replace(proposal, always_numbers=0, plain_efficiency=efficiency)
    )


def test_no_more_is_done_where_one_t_distribution_is_enough(surrogate, monkeypatch):
    """Clusters 8 sds apart: the posterior is nearly normal."""

    def unexpected(*_):
        raise AssertionError

    monkeypatch.setattr(assess_module, "with_refined_calibration", unexpected)
    easy = with_plain_efficiency(surrogate, 0.2)
    approximation, found = assess(easy, found_at(surrogate), PLAN, "auto", ignored)
    assert approximation.proposal.efficiency >= 0.2
    assert found.khat == found.whole.khat < 0.5
    assert found.seconds.keys() == {"calibration", "whole posterior"}


def test_the_whole_posterior_goes_on_from_the_attempt_to_the_same_end(surrogate, monkeypatch):
    """Where the draws of one t distribution are not good enough, none are drawn twice."""
    demanding = with_plain_efficiency(surrogate, 1.0)
    _, gone_on = assess(demanding, found_at(surrogate), PLAN, "auto", ignored)
    monkeypatch.setattr(assess_module, "attempt_plainly", lambda *_: None)
    _, anew = assess(demanding, found_at(surrogate), PLAN, "auto", ignored)
    assert gone_on.evidence == anew.evidence
    assert gone_on.khat == anew.khat


def moved(rhat, effective, log_evidence):
    """Return draws that were moved, with how they have mixed and what evidence they tell."""
    bank = Bank(np.zeros((1, 2)), 1, np.zeros(1, int), Mixing(rhat, effective))
    evidence, centre = Evidence(log_evidence, 0.1), Centre(np.zeros(2), np.ones(2))
    return WholePosterior(
        None, evidence, 0.9, (centre,), np.ones(1), np.full(1, np.nan), True, bank
    )


UNSOUND, KNOWN, SOUND = (1.2, 200.0, np.nan), (1.1, 50.0, 0.0), (1.01, 900.0, 0.0)
MIXED = (1.01, 900.0, np.nan)


@pytest.mark.parametrize(
    ("groups", "chains", "expected"),
    [
        (KNOWN, UNSOUND, KNOWN),
        (UNSOUND, UNSOUND, UNSOUND),
        (KNOWN, SOUND, SOUND),
        (KNOWN, MIXED, MIXED),
    ],
)
def test_groups_that_disagree_are_kept_if_chains_have_not_mixed_either(
    surrogate, monkeypatch, groups, chains, expected
):
    """But not without an evidence: they may have missed the optimum. The draws are told apart by
    how they have mixed.
    """
    monkeypatch.setattr(assess_module, "with_refined_calibration", lambda one, *_: (one, 0.9))
    monkeypatch.setattr(assess_module, "attempt_plainly", lambda *_: None)
    monkeypatch.setattr(assess_module, "find_whole_posterior", lambda *_: None)
    monkeypatch.setattr(assess_module, "draw_annealed", lambda *_: moved(*groups))
    monkeypatch.setattr(assess_module, "draw_chains", lambda *_: moved(*chains))
    approximation, found = assess(surrogate, found_at(surrogate), PLAN, "auto", ignored)
    assert approximation.bank.mixing == Mixing(*expected[:2])
    np.testing.assert_equal(found.evidence.log, expected[2])


def test_elbo_that_is_not_finite_is_a_divergence(monkeypatch):
    monkeypatch.setattr(assess_module, "elbo_of_surrogate", lambda *arguments: (np.nan, np.nan))
    with pytest.warns(RuntimeWarning, match="diverged"):
        posterior = bgmm_jd.fit(two_groups(64), 2)
    assert posterior.status is bgmm_jd.Status.DIVERGED
