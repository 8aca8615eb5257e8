"""A pass over the rows of a source against one over the same rows in memory."""

import pickle
from concurrent.futures import Executor, Future
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from builders import ONE_SEEDING, started
from small_problems import OVERLAPPING_ROWS, unconstrained
from source_problems import (
    SEED,
    assert_same,
    assert_same_bits,
    in_batches,
    pass_of,
    sample_and_problem,
    started_in_memory,
)

from bgmm_jd.data.standardize import rows_in_memory
from bgmm_jd.optimization.full_data import pass_evaluator
from bgmm_jd.settings import FullDataSettings, OptimizationSettings, SourceSettings
from bgmm_jd.sources.batches import batches
from bgmm_jd.sources.table import table

# Chunks of 35 rows, and parts of 105. Of 300 rows, 150 are in memory.
SMALL = replace(
    ONE_SEEDING,
    full_data=FullDataSettings(slices=7),
    sources=SourceSettings(numbers_in_memory=300, rows_per_slice=5, chunks_per_part=3),
    optimization=OptimizationSettings(subsample_rows=100, subsample_rows_per_component=1),
)


def rows_and_weights(weights=False, missing=False):
    rng = np.random.default_rng(5)
    label = rng.random(OVERLAPPING_ROWS) < 0.4
    X = rng.normal(size=(OVERLAPPING_ROWS, 2)) * [1.0, 0.7] + 3.0 * label[:, np.newaxis]
    if missing:
        X[rng.random(X.shape) < 0.1] = np.nan
    weight = rng.choice([0.5, 1.0, 2.0], OVERLAPPING_ROWS) if weights else None
    return X, weight


def problem_of_source(source, covariance="diag", missing=False, executor=None):
    rows, problem = sample_and_problem(source, SMALL, covariance, missing, executor)
    assert len(rows.values) == 150
    return problem


def slow(case):
    return pytest.param(case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "case",
    [
        {},
        slow({"covariance": "full"}),
        slow({"covariance": "tied", "weights": True}),
        slow({"covariance": "spherical"}),
        slow({"weights": True, "missing": True}),
        slow({"covariance": "full", "missing": True}),
    ],
    ids=str,
)
def test_pass_over_a_source_is_that_over_its_rows_in_memory(case):
    """In float64, in which sums of 300 rows in another order differ by some 1e-13 of them."""
    covariance, missing = case.get("covariance", "diag"), case.get("missing", False)
    X, weight = rows_and_weights(case.get("weights", False), missing)
    problem = problem_of_source(in_batches(X, [100, 1, 0, 52], weight), covariance, missing)
    start = started_in_memory(problem, X, weight)
    in_memory = start.problem
    assert problem.data.total_weight == pytest.approx(in_memory.data.total_weight)
    jacobian = in_memory.data.log_det_jacobian
    assert problem.data.log_det_jacobian == pytest.approx(jacobian, rel=1e-12)
    image, elbo = pass_of(problem, start)
    expected, expected_elbo = pass_of(in_memory, start)
    assert_same(image, expected, rtol=1e-8, atol=1e-9)
    assert elbo == pytest.approx(expected_elbo, rel=1e-11)
    before = tf.nest.flatten(unconstrained(start))
    moved = [np.abs(a - b).max() for a, b in zip(tf.nest.flatten(image), before, strict=True)]
    assert max(moved) > 1e-2  # otherwise the start is the optimum, and nothing is tested


@pytest.mark.parametrize("missing", [False, slow(True)], ids=["complete", "missing"])
def test_pass_over_the_sample_of_a_source_is_that_over_its_rows_in_memory(missing):
    """150 of 300 rows, in chunks of 35: the last has ten."""
    X, weight = rows_and_weights(weights=True, missing=missing)
    problem = problem_of_source(in_batches(X, [100], weight), missing=missing)
    sample = rows_in_memory(problem.data)
    assert sample.sampling_fraction == 0.5
    assert sample.total_weight == pytest.approx(problem.data.total_weight)
    in_memory = problem.on(sample._replace(sampling_fraction=1.0))
    start = started(in_memory)
    found, elbo = pass_of(problem.on(sample), start)
    expected, expected_elbo = pass_of(in_memory, start)
    assert_same(found, expected, rtol=1e-8, atol=1e-9)
    assert elbo == pytest.approx(expected_elbo, rel=1e-11)


@pytest.mark.parametrize("sizes", [[], [35], [1, 2, 3, 200, 0]], ids=str)
def test_pass_has_the_same_bits_however_the_rows_are_cut(sizes):
    X, _ = rows_and_weights()
    one, other = (problem_of_source(in_batches(X, cuts)) for cuts in ([7] * 42, sizes))
    start = started_in_memory(one, X)
    assert_same_bits(pass_of(one, start), pass_of(other, start))


@pytest.mark.parametrize(("numbers", "scans"), [(2**20, 1), (1, 3), (300, 2)])
def test_passes_that_share_a_scan_have_the_bits_of_one_after_the_other(numbers, scans):
    """14 draws of two mixtures: 10 numbers each, so that two sets are at most 300 numbers."""
    X, _ = rows_and_weights()
    read = []

    def scan():
        read.append(len(read))
        return [X]

    problem = problem_of_source(batches(scan))
    limited = replace(SMALL.sources, numbers_of_draws=numbers)
    problem = replace(problem, settings=replace(SMALL, sources=limited))
    start = started_in_memory(problem, X)
    free, before = unconstrained(start), len(read)
    passes = pass_evaluator(problem, start.params, SEED)
    together = [one for some in passes.together(free, [4, 0, 2]) for one in some]
    assert len(read) - before == scans
    for found, number in zip(together, [4, 0, 2], strict=True):
        assert_same_bits(found, passes(free, number))


class LastFirst(Executor):
    """Runs tasks in the present process: all of them pickled, each twice, and the last first."""

    def __init__(self):
        self.waiting, self.count = [], 0

    def submit(self, function, /, *arguments):
        future = Lazy(self)
        self.waiting.append((future, pickle.dumps((function, arguments))))
        return future

    def run_all(self):
        while self.waiting:
            future, task = self.waiting.pop()
            for _ in range(2):
                function, arguments = pickle.loads(task)
                found = function(*arguments)
            self.count += 1
            future.set_result(found)


class Lazy(Future):
    """A result that is computed when it is first asked for."""

    def __init__(self, executor):
        super().__init__()
        self.executor = executor

    def result(self, timeout=None):
        self.executor.run_all()
        return super().result(timeout)


def test_executor_gives_the_same_bits_in_any_order(tmp_path):
    """300 rows are three parts of 105, read in the census, for the scatter, and in a pass."""
    X, _ = rows_and_weights()
    np.save(tmp_path / "x.npy", X)
    source, executor = table(tmp_path / "x.npy"), LastFirst()
    alone, shared = problem_of_source(source), problem_of_source(source, executor=executor)
    start = started_in_memory(alone, X)
    assert_same_bits(pass_of(alone, start), pass_of(shared, start))
    assert executor.count == 9


def test_batches_cannot_be_shared_among_workers():
    X, _ = rows_and_weights()
    with pytest.raises(ValueError, match="rows of which each worker can read its own"):
        problem_of_source(in_batches(X, [7]), executor=LastFirst())


def test_source_that_has_other_rows_in_a_later_pass_is_an_error():
    X, _ = rows_and_weights()
    rows = [X]
    problem = problem_of_source(batches(lambda: rows))
    start = started_in_memory(problem, X)
    rows.append(X[:1])
    with pytest.raises(ValueError, match="had 300 rows in the first pass, and 301 in a later one"):
        pass_of(problem, start)
