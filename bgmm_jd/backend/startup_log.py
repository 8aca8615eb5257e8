"""TensorFlow's start-up chatter, kept off a user's screen.

TensorFlow's C++ side writes information lines to file descriptor 2 when it is imported, when its
runtime starts and when XLA compiles for the first time. Python's `logging` cannot reach them, and
the environment variable that could would silence the user's own later warnings as well. So the
descriptor is set aside for exactly those three moments, and where a program comes from the disk;
whatever is not one of these lines is written out afterwards.
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
    rb"^(?:[IWE]\d{4} \d\d:\d\d:\d+\.\d+ .*"  # absl: severity and date, time, thread, file
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWE] .*"  # the older form of the same
    rb"|WARNING: All log messages before absl::InitializeLog\(\).*"
    rb"|To enable the following instructions: .*)\n?$"
)

# The descriptor is the process's: two threads must not both put it back.
_LOCK = threading.RLock()


@contextlib.contextmanager
def filter_startup_log() -> Iterator[None]:
    """Hold back file descriptor 2; on leaving, write what came except TensorFlow's chatter."""
    with _LOCK, _filter_startup_log():
        yield


@contextlib.contextmanager
def _filter_startup_log() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all, as under pythonw: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        sys.stderr and sys.stderr.flush()
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr and sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            for line in held:
                if not _STARTUP_LINE.match(line):
                    os.write(2, line)


@functools.cache
def start_tensorflow() -> None:
    """Start TensorFlow's devices and XLA, once in a process, without their lines on the screen."""
    import tensorflow as tf  # here, as importing it is one of the moments of `set_aside`

    with filter_startup_log():
        # lgamma takes XLA through a part of it that has a line of its own.
        tf.function(tf.math.lgamma, jit_compile=True)(tf.ones([2]))
