"""Ctrl-C is noted while it is held back, and raised as usual otherwise."""

import signal
import threading

import pytest

from bgmm_jd.backend.interrupts import held_interrupts, interrupts_after

pytestmark = pytest.mark.usefixtures("usual_handler")


def test_interrupt_is_noted_and_raises_nothing_until_the_end():
    with held_interrupts() as is_interrupted:
        assert not is_interrupted()
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_second_interrupt_is_raised_and_the_handler_restored():
    with pytest.raises(KeyboardInterrupt), held_interrupts():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handler_of_the_users_own_stays():
    called = []
    signal.signal(signal.SIGINT, lambda *_: called.append(True))
    with held_interrupts() as is_interrupted:
        signal.raise_signal(signal.SIGINT)
        assert not is_interrupted()
    assert called == [True]


def test_other_threads_change_no_handler():
    found = []

    def run():
        with held_interrupts() as is_interrupted:
            found.append((is_interrupted(), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(False, signal.default_int_handler)]


def test_interrupt_is_raised_after_the_block():
    ended = False
    with pytest.raises(KeyboardInterrupt), interrupts_after():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        ended = True
    assert ended


def test_interrupt_of_an_inner_block_is_held_by_the_outer_one():
    with held_interrupts() as is_interrupted:
        with interrupts_after():
            signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
