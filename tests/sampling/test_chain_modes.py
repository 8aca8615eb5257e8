"""Modes whose chains stay near them, and modes whose chains leave for another."""

from dataclasses import replace

import numpy as np
import pytest
from small_problems import two_groups

import bgmm_jd
from bgmm_jd.sampling import chain_modes
from bgmm_jd.sampling.chain_modes import ModeDraws, draw_mode, modes_that_hold
from bgmm_jd.sampling.chain_posterior import accurate_density
from bgmm_jd.sampling.modes import draws_at_modes
from bgmm_jd.sampling.relabelling import Labels, labels_of
from bgmm_jd.settings import ChainSettings
from bgmm_jd.variational.approximation import Centre, Mixing
from bgmm_jd.variational.coordinates import CoordinateLayout

NONE = np.empty(0, int)
LABELS = Labels(CoordinateLayout(2, np.array([[0], [1]]), NONE, NONE), is_free=False, budget=1)
CHAINS, MOVES = 4, 50


def drawn(number, begun, ended):
    """Return chains that begin at one point, and are at another from the tenth move on."""
    rng = np.random.default_rng(number)
    points = 0.1 * rng.normal(size=(CHAINS, MOVES, 2))
    points[:, :10] += begun
    points[:, 10:] += ended
    centre = Centre(np.array(begun), np.array([0.1, 0.1]))
    return ModeDraws(number, centre, points, np.ones((CHAINS, MOVES), bool), Mixing(1.0, 500.0))


LEFT, RIGHT, ABOVE = [0.0, 1.0], [5.0, 1.0], [0.0, 9.0]


def test_a_single_mode_keeps_all_its_draws():
    (one,) = modes_that_hold([drawn(0, LEFT, RIGHT)], LABELS)
    assert one.is_inside.all()


def test_modes_whose_chains_stay_are_kept():
    held = modes_that_hold([drawn(0, LEFT, LEFT), drawn(1, RIGHT, RIGHT)], LABELS)
    assert [one.mode for one in held] == [0, 1]
    assert all(one.is_inside.all() for one in held)


def test_a_mode_whose_chains_leave_is_no_mode_and_its_part_goes_to_the_others():
    """The first chains of the other mode are where the lost one was, which is now theirs too."""
    modes = [drawn(0, LEFT, LEFT), drawn(1, RIGHT, ABOVE), drawn(2, ABOVE, RIGHT)]
    held = modes_that_hold(modes, LABELS)
    assert [one.mode for one in held] == [0]
    assert held[0].is_inside.all()


def test_draws_at_another_mode_are_marked():
    """A tenth of the draws, fewer than half: the mode is kept without them."""
    visitor = drawn(1, RIGHT, RIGHT)
    visitor.points[:, :5] += np.array(LEFT) - np.array(RIGHT)
    held = modes_that_hold([drawn(0, LEFT, LEFT), visitor], LABELS)
    assert [one.is_inside.mean() for one in held] == [1.0, 0.9]
    assert not held[1].is_inside[:, :5].any()


@pytest.mark.parametrize(("effective", "moves"), [(5.0, 100), (60.0, 200), (300.0, 400)])
def test_chains_end_where_as_many_moves_as_they_may_take_would_not_do(
    monkeypatch, effective, moves
):
    """60 effective draws after 200 of 400 moves may become 240, and 400 are needed."""
    settings = bgmm_jd.Settings(chains=ChainSettings(chains=8, warm_up=(5, 5), most_moves=400))
    posterior = bgmm_jd.fit(two_groups(64), 2, finish="none", settings=settings)
    problem = replace(posterior.problem, execution="graph")
    approximation = replace(posterior.approximation, problem=problem)
    labels, rng = labels_of(problem), np.random.default_rng(0)
    (points,) = draws_at_modes(approximation, [], labels, rng, 300)
    monkeypatch.setattr(chain_modes, "mixing", lambda drawn: Mixing(1.3, effective))
    found = draw_mode(accurate_density(approximation), 0, points, labels, rng, 1e9)
    assert found.points.shape[:2] == (8, moves)
