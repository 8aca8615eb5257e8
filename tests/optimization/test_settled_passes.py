"""Passes over all rows that end because the elbo does not rise any more."""

from dataclasses import replace

import numpy as np
from builders import ONE_SEEDING
from small_problems import overlapping_start

from bgmm_jd.backend.random import stateless_seed
from bgmm_jd.optimization.full_data import optimize_full_data
from bgmm_jd.optimization.status import Status
from bgmm_jd.settings import FullDataSettings

SEED = stateless_seed(3)


def start_of(**full_data):
    """Return a start whose passes never come near enough to the fixed point."""
    settings = FullDataSettings(
        tolerance=0.0, averaged_passes=2, most_averaged_passes=2, **full_data
    )
    return overlapping_start(settings=replace(ONE_SEEDING, full_data=settings))


def passes(start, state=None, limit=100):
    """Return the result of passes, and the state after each of them."""
    states, no_elbos = [], np.empty(0)
    found = optimize_full_data(
        start.problem, start.params, SEED, lambda _: None, no_elbos, limit, state, states.append
    )
    return found, states


def test_passes_end_when_the_last_of_them_have_gained_too_little():
    start = start_of(settled_passes=6, settled_gain=0.01)
    found, states = passes(start)
    elbos = found.elbos
    assert found.status is Status.CONVERGED
    assert len(elbos) < 100
    assert elbos[-6:].max() - elbos[:-6].max() < 0.01
    assert elbos[-7:-1].max() - elbos[:-7].max() >= 0.01
    assert found.elbo == elbos.max()
    assert len(states) == len(elbos) + 2  # and the passes that are averaged


def test_passes_that_have_settled_do_not_go_on_when_they_are_resumed():
    start = start_of(settled_passes=6, settled_gain=0.01)
    whole, states = passes(start)
    settled = states[len(whole.elbos) - 1]
    resumed, later = passes(start, settled)
    assert len(later) == 2
    np.testing.assert_array_equal(resumed.elbos, whole.elbos)
    np.testing.assert_array_equal(resumed.params["means"]["loc"], whole.params["means"]["loc"])


def test_passes_that_go_on_gaining_reach_their_limit():
    found, _ = passes(start_of(settled_passes=6, settled_gain=-np.inf), limit=20)
    assert found.status is Status.STEP_LIMIT
