"""Chunks of one size from blocks of any sizes, and reading ahead."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from rows_in_parts import cut

from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.chunks import chunks_of, read_ahead

X = np.arange(46.0).reshape(23, 2)


@pytest.mark.parametrize("sizes", [[], [1], [7, 0, 7], [1] * 22, [20]], ids=str)
def test_chunks_have_one_size_however_the_rows_are_cut(sizes):
    chunks = list(chunks_of(cut(X, sizes), 5))
    assert [len(chunk.values) for chunk in chunks] == [5, 5, 5, 5, 3]
    assert [chunk.first for chunk in chunks] == [0, 5, 10, 15, 20]
    np.testing.assert_array_equal(np.concatenate([chunk.values for chunk in chunks]), X)


def test_weights_of_chunks_stay_beside_their_rows():
    weight = np.arange(23.0)
    source = batches(lambda: zip(np.split(X, [4, 17]), np.split(weight, [4, 17]), strict=True))
    for chunk in chunks_of(source, 6):
        np.testing.assert_array_equal(chunk.values[:, 0], 2.0 * chunk.weight)


def test_items_read_ahead_come_in_order():
    assert list(read_ahead(range(100), 2)) == list(range(100))


def test_at_most_so_many_items_are_read_ahead():
    """Those that wait, one that waits to be put, and the one that was taken."""
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    reading = read_ahead(items(), 2)
    for number in reading:
        assert len(made) <= number + 1 + 2 + 1
    assert len(made) == 50


def test_exception_of_the_reading_thread_is_raised():
    def items():
        yield 1
        raise ValueError("a broken file")

    reading = read_ahead(items(), 2)
    assert next(reading) == 1
    with pytest.raises(ValueError, match="a broken file"):
        next(reading)


def test_reading_ends_with_its_reader():
    made = []

    def items():
        while True:  # without end
            made.append(threading.current_thread())
            yield 0

    reading = read_ahead(items(), 2)
    next(reading)
    reading.close()
    before = len(made)
    list(read_ahead(range(5), 2))  # gives another item the time to be made
    assert len(made) == before


def test_passes_one_after_the_other_share_a_thread_and_those_at_a_time_do_not():
    def threads():
        while True:
            yield threading.current_thread()

    first = read_ahead(threads(), 2)
    second = read_ahead(threads(), 2)
    used = {next(first), next(second)}
    assert len(used) == 2
    first.close()
    second.close()
    for _ in range(3):
        again = read_ahead(threads(), 2)
        assert next(again) in used
        again.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_child_has_threads_of_its_own():
    """Those of its parent do not run in it: a child that waited for one would never end."""
    code = (
        "import os\n"
        "from bgmm_jd.sources.chunks import read_ahead\n"
        "assert list(read_ahead(range(3), 1)) == [0, 1, 2]\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(list(read_ahead(range(3), 1)) != [0, 1, 2])\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)
