"""Ctrl-C, held back where it would lose a result or be lost itself."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C was pressed, which raises nothing meanwhile.

    Pressed again, it is raised as usual. Nothing is changed where it does not raise
    KeyboardInterrupt: in other threads than the main one, and under a handler of the user's own.
    """
    pressed = threading.Event()

    def note(*_: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield pressed.is_set
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def interrupts_after() -> Iterator[None]:
    """Raise KeyboardInterrupt only when the block has ended, if Ctrl-C was pressed in it.

    For calls of TensorFlow: where its C++ code calls Python, as it does while it traces, an
    exception of a signal handler is lost, or turns into one of another type.
    """
    with held_interrupts() as is_interrupted:
        yield
    if is_interrupted():
        raise KeyboardInterrupt
