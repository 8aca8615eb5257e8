"""The rows that a pass has read are counted, whoever reads them."""

import concurrent.futures
from dataclasses import dataclass, replace

import numpy as np
import pytest
from blas_libraries import blas_threads
from rows_in_parts import reader_of
from threadpoolctl import threadpool_limits

from bgmm_jd.data.source import Block, Layout, Source
from bgmm_jd.sources.reader import Statistic, statistic_of_part

ROWS = Statistic(lambda chunk: len(chunk.values), sum)


@dataclass(frozen=True, repr=False)
class CutOff(Source):
    """The rows `first` to `last` of 5,000, of which those from `end` on are gone."""

    end: int
    first: int = 0
    last: int = 5_000

    @property
    def layout(self):
        return Layout(features=1, dtype=np.dtype(np.float64), count=self.last - self.first)

    def blocks(self):
        yield Block(np.zeros((max(0, min(self.end, self.last) - self.first), 1)), None)

    def part(self, first, last):
        return replace(self, first=first, last=last)


@pytest.fixture(params=[False, True], ids=["present process", "executor"])
def executor(request):
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        yield threads if request.param else None


def results(end, executor):
    reader = reader_of(CutOff(end), executor=executor)  # of parts of 3,000 rows
    return list(replace(reader, count=5_000).results(ROWS))


def test_pass_reads_all_rows_in_parts(executor):
    assert results(5_000, executor) == [3_000, 2_000]


@pytest.mark.parametrize("end", [4_999, 3_000, 0])
def test_pass_that_reads_fewer_rows_than_before_is_an_error(executor, end):
    with pytest.raises(ValueError, match=r"had \d+ rows in the first pass, and \d+ in a later one"):
        results(end, executor)


class Submitted(concurrent.futures.Executor):
    """Has one result for all tasks: a future."""

    def __init__(self, future):
        self.future = future

    def submit(self, function, /, *arguments):
        return self.future


def test_executor_without_a_result_is_an_error_in_bounded_time():
    never = concurrent.futures.Future()
    reader = replace(reader_of(CutOff(5_000), executor=Submitted(never)), patience=0.01)
    with pytest.raises(TimeoutError, match=r"no result for 0 s\. Look whether its workers"):
        list(reader.results(ROWS))
    assert never.cancelled()


def test_reader_may_wait_for_ever():
    done = concurrent.futures.Future()
    done.set_result(3_000)
    reader = reader_of(CutOff(5_000), executor=Submitted(done))
    assert reader.patience == np.inf
    assert list(reader.results(ROWS)) == [3_000, 3_000]


def test_error_of_a_task_that_has_timed_out_itself_is_raised_as_it_is():
    failed = concurrent.futures.Future()
    failed.set_exception(TimeoutError("the disk does not answer"))
    reader = replace(reader_of(CutOff(5_000), executor=Submitted(failed)), patience=60.0)
    with pytest.raises(TimeoutError, match="the disk does not answer"):
        list(reader.results(ROWS))


def test_tasks_of_an_executor_have_one_blas_thread_as_the_fit_has():
    """The process that runs the task has two."""

    def count_threads(prepared):
        assert len(list(prepared)) == 5  # chunks of 1,000 rows
        return blas_threads()

    of_threads = Statistic(lambda chunk: chunk, count_threads)
    with threadpool_limits(2, user_api="blas"):
        found = statistic_of_part(of_threads, CutOff(5_000), 0, 1_000, 1)
    assert set(found) == {1}
