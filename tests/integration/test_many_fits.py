"""Many fits in one process: what was compiled is used again, and memory stays within a bound."""

import sys

import numpy as np
import pytest
from builders import QUICK
from resident_memory import resident
from traced_functions import traced

import bgmm_jd

GROUPS = 40


def groups_of(first, last):
    """Return forty groups of rows of different numbers."""
    rng = np.random.default_rng(0)
    sizes = np.linspace(first, last, GROUPS).astype(int)
    assert len(set(sizes)) == GROUPS
    return [8.0 * (np.arange(n)[:, None] % 2) + rng.standard_normal((n, 2)) for n in sizes]


def fit_and_predict(groups):
    for X in groups:
        posterior = bgmm_jd.fit(X, 2, **QUICK)
        bgmm_jd.predict(posterior, X, draws=20)
        posterior.sample(20)


@pytest.mark.slow
def test_second_round_of_groups_of_different_sizes_compiles_nothing():
    groups = groups_of(20, 215)
    fit_and_predict(groups)
    before = traced()
    fit_and_predict(groups)
    assert traced() <= before


def test_groups_that_are_padded_to_one_size_share_its_programs():
    largest, *others = groups_of(22, 61)[::-1]
    fit_and_predict([largest])
    before = traced()
    assert before
    fit_and_predict(others[::8])
    assert traced() <= before


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_does_not_grow_with_the_number_of_fits_of_one_shape():
    """120 fits may take 50 MiB.

    A posterior takes less than 0.1 MiB. Programs that are kept, or traced again, take some MiB for
    each fit.
    """
    groups = groups_of(22, 61)
    fit_and_predict(groups)
    before = resident()
    fit_and_predict(groups * 3)
    assert resident() - before < 50.0
