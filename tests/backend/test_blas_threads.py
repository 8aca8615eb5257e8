"""The number of BLAS threads during calls of the library, and after them."""

import threading

import numpy as np
import pytest
from blas_libraries import blas_threads
from builders import QUICK
from threadpoolctl import threadpool_limits

import bgmm_jd
from bgmm_jd.backend.blas_threads import one_blas_thread


@pytest.fixture(autouse=True)
def two_threads():
    """Let BLAS have two threads at first, on any machine."""
    with threadpool_limits(2, user_api="blas"):
        assert set(blas_threads()) == {2}
        yield


def test_calls_within_calls_have_one_thread_and_the_last_restores_the_number():
    with one_blas_thread():
        with one_blas_thread():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


def test_an_error_restores_the_number():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert set(blas_threads()) == {2}


def test_calls_in_two_threads_that_overlap_restore_the_number():
    """The first to enter is the first to leave, while the other still computes."""
    entered, may_leave = threading.Event(), threading.Event()

    def second():
        with one_blas_thread():
            entered.set()
            assert may_leave.wait(60)

    other = threading.Thread(target=second)
    with one_blas_thread():
        other.start()
        assert entered.wait(60)
    assert set(blas_threads()) == {1}
    may_leave.set()
    other.join()
    assert set(blas_threads()) == {2}
    with one_blas_thread():
        assert set(blas_threads()) == {1}
    assert set(blas_threads()) == {2}


def test_calls_in_another_thread_have_one_thread_too():
    """This thread has set the number, and the other one changes it."""
    seen = []

    def compute():
        with one_blas_thread():
            seen.extend(blas_threads())

    other = threading.Thread(target=compute)
    other.start()
    other.join()
    assert set(seen) == {1}
    assert set(blas_threads()) == {2}


def test_a_fit_has_one_thread_and_leaves_the_number_of_its_caller():
    seen = set()
    X = np.random.default_rng(0).normal(size=(40, 2))
    bgmm_jd.fit(X, 1, callback=lambda progress: seen.update(blas_threads()), **QUICK)
    assert seen == {1}
    assert set(blas_threads()) == {2}


def test_rows_of_an_iterator_are_made_with_one_thread(two_clusters_posterior):
    """The caller, who uses what the library has made, has as many as before."""
    seen = set()

    def scan():
        seen.update(blas_threads())
        yield np.zeros((3, 2))

    found = bgmm_jd.predict(two_clusters_posterior, bgmm_jd.batches(scan))
    assert set(blas_threads()) == {2}
    seen.clear()
    assert len(next(found)) == 3
    assert seen == {1}
    assert set(blas_threads()) == {2}
