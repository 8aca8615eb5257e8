"""Particles from the prior, against an exact evidence and a posterior that is known to be hard."""

import json
from dataclasses import replace

import numpy as np
import pytest
from builders import problem_for
from exact_evidence import exact_log_evidence
from hard_cases import HARD, fit_case, invariants

import bgmm_jd
from bgmm_jd.sampling import annealed_posterior
from bgmm_jd.sampling.annealed_posterior import draw_annealed, may_anneal
from bgmm_jd.sampling.annealing import Annealed
from bgmm_jd.sampling.chain_posterior import accurate_density
from bgmm_jd.sampling.chains import is_sound
from bgmm_jd.sampling.evidence import OUT_OF_REACH, Evidence
from bgmm_jd.settings import AnnealingSettings, Settings

ROWS = np.random.default_rng(3).normal(size=10)
Z_ALARM = 4.5  # false alarms: 7e-6
SIZE = 12 * AnnealingSettings().kept_moves  # of a group that a test makes up


def annealed(posterior, seed=1):
    """Return what particles from the prior tell of a posterior."""
    approximation = posterior.approximation
    target = accurate_density(approximation)
    return draw_annealed(target, approximation, [], posterior.khat, seed)


def log_evidence_of(found, posterior):
    """Return the log evidence in the units of the data."""
    return found.evidence.log - posterior.problem.data.log_det_jacobian


def draws_of(found, posterior, n=4_000):
    """Return invariants of draws of a bank."""
    approximation = replace(posterior.approximation, bank=found.bank, proposal=None)
    draws = replace(posterior, approximation=approximation).sample(n)
    return invariants({name: v.astype(np.float64) for name, v in draws.items()})


@pytest.fixture(scope="module")
def ten_rows():
    return bgmm_jd.fit(ROWS[:, np.newaxis], 2, restarts=1, progress=False)


def test_particles_of_ten_rows_have_the_posterior_and_its_evidence(ten_rows):
    found = annealed(ten_rows)
    assert is_sound(found.bank.mixing, ten_rows.settings.chains)
    assert found.is_scouted
    error = log_evidence_of(found, ten_rows) - exact_log_evidence(ten_rows, ROWS)
    assert abs(error) < Z_ALARM * found.evidence.se < 0.5
    ours, proposed = draws_of(found, ten_rows), invariants(ten_rows.sample(4_000))
    limit = Z_ALARM * (2.0 / min(found.bank.mixing.effective, 1_000.0)) ** 0.5
    sd = proposed.std(axis=0)
    assert (np.abs(ours.mean(axis=0) - proposed.mean(axis=0)) / sd < limit).all()
    assert (np.abs(np.log(ours.std(axis=0) / sd)) < limit).all()


def test_particles_have_the_posterior_of_five_components_for_galaxies():
    """The limits are those of `benchmarks/hard.py`, not taken from what is found."""
    case = json.loads((HARD / "gal_std_K5.json").read_text())
    truth, posterior = case["refined"], fit_case(case, seed=0, finish="none")
    found = annealed(posterior)
    assert is_sound(found.bank.mixing, posterior.settings.chains)
    slack = 3.0 * np.hypot(truth["log_evidence_se"], found.evidence.se)
    error = log_evidence_of(found, posterior) - truth["log_evidence"]
    assert abs(error) < 0.15 + slack
    mean, sd = (np.array(truth[key])[:-1] for key in ("mean", "sd"))
    ours = draws_of(found, posterior)
    assert (np.abs(ours.mean(axis=0) - mean) < 0.15 * sd).all()
    np.testing.assert_allclose(ours.std(axis=0) / sd, 1.0, atol=0.12)


def test_groups_of_too_few_particles_disagree(ten_rows):
    few = AnnealingSettings(particles=4, most_groups=4, moves=1, leapfrogs=1, kept_moves=2)
    problem = replace(ten_rows.problem, settings=replace(ten_rows.settings, annealing=few))
    approximation = replace(ten_rows.approximation, problem=problem)
    found = annealed(replace(ten_rows, approximation=approximation))
    assert not is_sound(found.bank.mixing, ten_rows.settings.chains)


def test_groups_are_added_while_they_disagree(ten_rows, monkeypatch):
    settings, taken = ten_rows.settings.annealing, []

    def groups_elsewhere(target, centre, labels, rng):
        """Return groups that are narrow, and each at a place of its own."""
        place = 10.0 * rng.standard_normal((settings.groups, 1, labels.layout.size))
        taken.append(place)
        points = place + rng.standard_normal((settings.groups, SIZE, labels.layout.size))
        return Annealed(points, np.zeros(settings.groups))

    monkeypatch.setattr(annealed_posterior, "new_groups", groups_elsewhere)
    monkeypatch.setattr(annealed_posterior, "evidence_of_mode", lambda *_: OUT_OF_REACH)
    found = annealed(ten_rows)
    assert len(taken) == settings.most_groups // settings.groups > 1
    assert len(found.bank.points) == settings.most_groups * SIZE


def test_no_groups_are_added_to_those_that_tell_nothing(ten_rows, monkeypatch):
    """Far from each other, and with evidences that are far apart: as many more would not help."""
    settings, taken = ten_rows.settings.annealing, []

    def groups_apart(target, centre, labels, rng):
        taken.append(rng.standard_normal((settings.groups, SIZE, labels.layout.size)))
        apart = 10.0 * np.arange(settings.groups)
        return Annealed(taken[-1] + apart[:, np.newaxis, np.newaxis], apart)

    monkeypatch.setattr(annealed_posterior, "new_groups", groups_apart)
    found = annealed(ten_rows)
    assert len(taken) == 1
    assert np.isnan(found.evidence.log)


def test_evidence_is_that_of_the_groups_where_no_proposal_overlaps(ten_rows, monkeypatch):
    unknown = Evidence(float("nan"), float("nan"))
    monkeypatch.setattr(annealed_posterior, "evidence_of_mode", lambda *_: unknown)
    found = annealed(ten_rows)
    error = log_evidence_of(found, ten_rows) - exact_log_evidence(ten_rows, ROWS)
    # The error is estimated from four groups: Student's t with 3 degrees of freedom, 2e-4.
    assert abs(error) < 20.0 * found.evidence.se
    assert 0.0 < found.evidence.se < 0.5


def test_nothing_is_returned_where_the_prior_has_no_likelihood(ten_rows, monkeypatch):
    nowhere = Annealed(np.empty((4, 0, 5)), np.full(4, -np.inf))
    monkeypatch.setattr(annealed_posterior, "anneal", lambda *_: nowhere)
    assert annealed(ten_rows) is None


def test_particles_are_for_small_data_whose_labels_can_be_matched():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    assert may_anneal(problem_for(rows, 3))
    assert not may_anneal(problem_for(np.tile(rows, (10, 1)), 3))
    # Six products of features, three features and a constant.
    full = Settings(annealing=AnnealingSettings(most_numbers=200 * 3 * 10))
    assert may_anneal(problem_for(rows, 3, covariance="full", settings=full))
    less = Settings(annealing=AnnealingSettings(most_numbers=200 * 3 * 10 - 1))
    assert not may_anneal(problem_for(rows, 3, covariance="full", settings=less))
    sticks = bgmm_jd.stick_breaking_prior(3, 3)
    assert not may_anneal(problem_for(rows, 3, prior=sticks))
