"""Compiled programs on disk: later processes reuse them, and only safe folders are accepted.

Each fit runs in a process of its own.
"""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import bgmm_jd
from bgmm_jd.backend import compilation_cache

FIT = """
import json, sys
import bgmm_jd
from bgmm_jd.datasets import old_faithful
bgmm_jd.keep_compiled(sys.argv[1])
posterior = bgmm_jd.fit(old_faithful().X, 2, max_steps=40, restarts=1, calibrate=False)
print(json.dumps([posterior.elbo, posterior.elbo_trace.tolist()]))
"""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess:
    env = {name: value for name, value in os.environ.items() if name != "TF_XLA_FLAGS"}
    command = [sys.executable, "-W", "ignore", "-c", script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=True)


def programs(folder: Path) -> dict[str, int]:
    """The programs in a folder, and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.pb")}


@pytest.mark.slow
def test_second_process_compiles_nothing_and_gives_the_same_fit(tmp_path):
    """It finds every program, and writes nothing to standard error, as the first one."""
    folder = tmp_path / "programs"
    first = run(FIT, str(folder))
    kept = programs(folder)
    assert kept
    second = run(FIT, str(folder))
    assert programs(folder) == kept
    assert json.loads(second.stdout) == json.loads(first.stdout)
    assert first.stderr == second.stderr == ""
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


@pytest.fixture
def not_started(monkeypatch):
    """The state of a process in which TensorFlow has not started, with other flags set.

    In this process it has, and starting another one takes seconds; the flags are put back.
    """
    monkeypatch.setattr(compilation_cache, "tensorflow_has_started", lambda: False)
    monkeypatch.setenv("TF_XLA_FLAGS", "--tf_xla_clustering_debug=false")


def test_other_flags_are_kept_and_an_earlier_folder_is_replaced(not_started, tmp_path):
    for name in ("one", "other"):
        bgmm_jd.keep_compiled(tmp_path / name)
        kept, ours = os.environ["TF_XLA_FLAGS"].split()
        assert kept == "--tf_xla_clustering_debug=false"
        assert f"directory={tmp_path / name}/" in ours
        assert compilation_cache.is_enabled()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folder_that_others_can_write_to_is_refused(not_started, tmp_path, mode):
    folder = tmp_path / "programs"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ValueError, match=r"writable by nobody else.*chmod go-w"):
        bgmm_jd.keep_compiled(folder)
    assert not compilation_cache.is_enabled()


def test_path_with_blanks_is_refused(not_started, tmp_path):
    with pytest.raises(ValueError, match="no blanks"):
        bgmm_jd.keep_compiled(tmp_path / "my programs")


def test_second_call_with_the_same_folder_has_no_effect_after_the_start(
    not_started, tmp_path, monkeypatch
):
    """As in a notebook whose first cell is run again, after a fit."""
    bgmm_jd.keep_compiled(tmp_path)
    monkeypatch.setattr(compilation_cache, "tensorflow_has_started", lambda: True)
    bgmm_jd.keep_compiled(tmp_path)
    with pytest.raises(RuntimeError, match="before TensorFlow starts"):
        bgmm_jd.keep_compiled(tmp_path / "another")


def test_keep_compiled_is_refused_after_tensorflow_has_started():
    """A fit, or anything that makes a tensor, has started TensorFlow."""
    assert not compilation_cache.is_enabled()
    bgmm_jd.mixture_prior(2, 1).sample(seed=0)
    with pytest.raises(RuntimeError, match="before TensorFlow starts"):
        bgmm_jd.keep_compiled("programs")
    assert compilation_cache.tensorflow_has_started()
    assert not Path("programs").exists()
