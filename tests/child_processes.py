"""Processes that a test starts, and signals."""

import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

import bgmm_jd

ROOT = pathlib.Path(bgmm_jd.__file__).parents[1]


def child_process(code: str, *arguments: Any) -> subprocess.Popen:
    """Start a process that runs code, whose standard output is read.

    Ctrl-C is not ignored in it, as it is in the background of a shell and in what is started there.
    """
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=_heed_interrupts if os.name == "posix" else None,
    )


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_for(child: subprocess.Popen, line: str) -> None:
    """Read the output of a process up to a line."""
    for found in child.stdout or ():
        if found.strip() == line:
            return
    raise AssertionError(f"the process ended before it wrote {line!r}")
