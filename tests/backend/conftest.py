"""Shared by the tests of this folder."""

import signal

import pytest


@pytest.fixture
def usual_handler():
    """Let Ctrl-C raise KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
