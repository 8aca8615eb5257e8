"""A filter that removes TensorFlow's start-up lines from standard error.

TensorFlow's C++ code writes information lines to file descriptor 2 when it is imported, when its
runtime starts and when XLA compiles for the first time. Python's `logging` does not see them, and
the environment variable that disables them would also silence later warnings that concern the user.
The descriptor is therefore redirected during those three moments only, and while a program is
loaded from disk; everything that is not one of these lines is written afterwards.
"""

import contextlib
import functools
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

_STARTUP_LINE = re.compile(
    rb"^(?:[IWE]\d{4} \d\d:\d\d:\d+\.\d+ .*"  # absl: severity, date, time, thread, file
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] .*"  # the older format of the same lines
    rb"|WARNING: All log messages before absl::InitializeLog\(\).*"
    rb"|To enable the following instructions: .*)\n?$"
)

# The descriptor belongs to the process: only one thread at a time may redirect and restore it.
_LOCK = threading.RLock()


@contextlib.contextmanager
def filter_startup_log() -> Iterator[None]:
    """Hold back what is written to file descriptor 2, and write it without start-up lines on exit.

    The whole process is affected, including output of Python and of other threads.
    """
    with _LOCK, _filter_startup_log():
        yield


@contextlib.contextmanager
def _filter_startup_log() -> Iterator[None]:
    try:
        held = tempfile.TemporaryFile()  # noqa: SIM115  closed below
    except OSError:  # no folder can be written
        yield
        return
    with held:
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error, as under pythonw, and so nothing to filter
            yield
            return
        _flush_standard_error()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            _flush_standard_error()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            with contextlib.suppress(OSError):  # its reader has gone
                for line in held:
                    if not _STARTUP_LINE.match(line):
                        os.write(2, line)


def _flush_standard_error() -> None:
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: it is closed
            sys.stderr.flush()


@functools.cache
def start_tensorflow() -> None:
    """Start TensorFlow's devices and XLA, once per process, without their start-up lines."""
    import tensorflow as tf  # not at the top: importing it is itself done under the filter

    with filter_startup_log():
        # lgamma makes XLA use a component that writes a line of its own.
        tf.function(tf.math.lgamma, jit_compile=True)(tf.ones([2]))
