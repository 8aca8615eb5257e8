"""Threads that are kept for the next pass.

glibc gives threads pools of memory, of which each keeps up to 64 MiB that have been freed, and a
new thread may be given another pool than the one before it: passes that each start a thread fill
one pool after the other. A fit of 4e6 rows of 8 columns peaked at 1,677 MiB with a thread for each
pass and at 1,563 with one that is kept (a run each, by a script that is not kept).
"""

import os
import queue
import threading
from collections.abc import Callable


class ReadingThread:
    """A daemon thread that runs one function after the other.

    The threads of `concurrent.futures` are waited for when the interpreter ends: one that reads
    from a connection that hangs would keep the process alive.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Callable[[], None], threading.Event]] = (
            queue.SimpleQueue()
        )
        threading.Thread(target=self._work, name="bgmm_jd-reader", daemon=True).start()

    def run(self, function: Callable[[], None]) -> threading.Event:
        """Run a function that raises nothing; the event tells when it has ended."""
        ended = threading.Event()
        self._waiting.put((function, ended))
        return ended

    def _work(self) -> None:
        while True:
            function, ended = self._waiting.get()
            function()
            del function  # and what it holds
            _idle.append(self)
            ended.set()


_idle: list[ReadingThread] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # a child has no thread but the one that forked


def run_in_thread(function: Callable[[], None]) -> threading.Event:
    """Run a function that raises nothing in an idle thread, or in a new one.

    Returns
    -------
    threading.Event
        Set when the function has ended.
    """
    try:
        thread = _idle.pop()
    except IndexError:
        thread = ReadingThread()
    return thread.run(function)
