"""SIGINT and SIGTERM at each phase of a fit, in leave-one-out, and while a file is written.

Those during optimisation are in `test_child_processes.py`.
"""

import os
import signal

import numpy as np
import pytest
from child_processes import child_process, wait_for

import bgmm_jd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals of POSIX"),
]

FIT = """
import sys
import numpy as np
import bgmm_jd

def show(progress):
    print(progress.phase, flush=True)

found = bgmm_jd.fit(np.load(sys.argv[1]), 2, callback=show, execution="graph", restarts=1,
                    finish=sys.argv[2], progress=False)
bgmm_jd.save(found, sys.argv[3])
"""

COMPARE = """
import sys
import numpy as np
import bgmm_jd

X = np.load(sys.argv[1])
fits = {k: bgmm_jd.fit(X, k, execution="graph", restarts=1, finish="none", progress=False)
        for k in (1, 2)}
print("compare", flush=True)
while True:
    bgmm_jd.compare(fits)
"""

SAVE = """
import sys
import numpy as np
import bgmm_jd

found = bgmm_jd.fit(np.load(sys.argv[1]), 2, execution="graph", restarts=1, finish="none",
                    progress=False)
bgmm_jd.save(found, sys.argv[2])
print("saved", flush=True)
while True:
    bgmm_jd.save(found, sys.argv[2])
"""


@pytest.fixture
def rows(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    return tmp_path / "X.npy"


@pytest.mark.parametrize("phase", ["starts", "elbo", "calibration", "whole posterior", "chains"])
def test_sigterm_ends_a_fit_at_any_phase_and_leaves_no_file(rows, tmp_path, phase):
    finish = "hmc" if phase in ("whole posterior", "chains") else "none"
    with child_process(FIT, rows, finish, tmp_path / "fit.nc") as child:
        wait_for(child, phase)
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
    assert os.listdir(tmp_path) == ["X.npy"]


@pytest.mark.parametrize("phase", ["elbo", "calibration", "whole posterior", "chains"])
def test_sigint_after_the_search_keeps_the_fit_which_says_so(rows, tmp_path, phase):
    finish = "hmc" if phase in ("whole posterior", "chains") else "none"
    with child_process(FIT, rows, finish, tmp_path / "fit.nc") as child:
        wait_for(child, phase)
        child.send_signal(signal.SIGINT)
        child.stdout.read()
        assert child.wait(300) == 0
    found = bgmm_jd.load(tmp_path / "fit.nc")
    assert found.status is bgmm_jd.Status.INTERRUPTED
    assert np.isfinite(found.sample(50)["means"]).all()


def test_sigint_while_starts_are_looked_for_is_raised(rows, tmp_path):
    with child_process(FIT, rows, "none", tmp_path / "fit.nc") as child:
        wait_for(child, "starts")
        child.send_signal(signal.SIGINT)
        assert child.wait(300) == -signal.SIGINT  # as Python ends after KeyboardInterrupt
    assert os.listdir(tmp_path) == ["X.npy"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_leave_one_out(rows, number):
    with child_process(COMPARE, rows) as child:
        wait_for(child, "compare")
        child.send_signal(number)
        assert child.wait(60) == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_a_file_is_replaced_leaves_a_whole_one(rows, tmp_path, number):
    """After SIGTERM, which ends the process at once, a temporary file may stay beside it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with child_process(SAVE, rows, folder / "fit.nc") as child:
        wait_for(child, "saved")
        child.send_signal(number)
        assert child.wait(60) == -number
    names = set(os.listdir(folder))
    assert np.isfinite(bgmm_jd.load(folder / "fit.nc").elbo)
    left = {name for name in names if name.startswith(".") and name.endswith(".tmp")}
    assert names - left == {"fit.nc"}
    assert not left or number == signal.SIGTERM
