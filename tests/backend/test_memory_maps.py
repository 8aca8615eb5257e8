"""A process that has compiled too many programs goes on without XLA, which would end it."""

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.backend import memory_maps
from bgmm_jd.backend.memory_maps import MemoryMapsWarning, within_memory_maps

X = np.random.default_rng(0).normal(size=(40, 1))


@pytest.fixture
def few_maps(tmp_path, monkeypatch):
    """Let the system allow 100 maps, and the process have 81; return the file with these."""
    limit = tmp_path / "max_map_count"
    limit.write_text("100\n")
    monkeypatch.setattr(memory_maps, "LIMIT", limit)
    maps = tmp_path / "maps"
    maps.write_text(81 * "one line each\n")
    monkeypatch.setattr(memory_maps, "MAPS", maps)
    return maps


def test_a_fit_runs_as_a_graph_near_the_limit(few_maps):
    options = {"restarts": 1, "calibrate": False, "progress": False, "seed": 1}
    with pytest.warns(MemoryMapsWarning, match=r"81 memory maps.*allows 100") as caught:
        found = bgmm_jd.fit(X, 1, **options)
    assert caught[0].filename == __file__
    assert found.problem.execution == "graph"
    expected = bgmm_jd.fit(X, 1, execution="graph", **options)
    np.testing.assert_array_equal(found.sample(10)["means"], expected.sample(10)["means"])


def test_nothing_changes_below_the_limit(few_maps):
    few_maps.write_text(80 * "one line each\n")
    assert within_memory_maps("xla", stacklevel=1) == "xla"


def test_other_modes_need_no_maps(few_maps):
    assert within_memory_maps("eager", stacklevel=1) == "eager"


@pytest.mark.parametrize("name", ["LIMIT", "MAPS"])
def test_nothing_changes_where_the_system_does_not_tell(few_maps, monkeypatch, tmp_path, name):
    monkeypatch.setattr(memory_maps, name, tmp_path / "missing")
    assert within_memory_maps("xla", stacklevel=1) == "xla"
