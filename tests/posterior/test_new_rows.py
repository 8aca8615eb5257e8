"""Predictions for the rows of a source, against those for the same rows in memory."""

import concurrent.futures
import pickle
from collections.abc import Iterator

import numpy as np
import pytest

import bgmm_jd
from bgmm_jd.sources.reader import Reader, Statistic
from bgmm_jd.sources.weighted import WeightedRows

FUNCTIONS = [bgmm_jd.predict, bgmm_jd.predict_proba, bgmm_jd.log_density]


@pytest.fixture(scope="module")
def X():
    """Return more rows than two blocks have: [150000, 2], in float64."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(150_000, 2)) + rng.choice([-4.0, 4.0], (150_000, 1)) * [1.0, 0.0]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_blocks_of_a_source_are_the_predictions_of_its_rows(two_clusters_posterior, X, function):
    """To rounding: blocks of other sizes are summed in another order."""
    source = bgmm_jd.batches(lambda: np.split(X, [1, 70_000, 70_000]))
    found = function(two_clusters_posterior, source, draws=3)
    assert isinstance(found, Iterator)
    blocks = list(found)
    assert [len(block) for block in blocks] == [2**16, 2**16, 150_000 - 2 * 2**16]
    expected = function(two_clusters_posterior, X, draws=3)
    np.testing.assert_allclose(np.concatenate(blocks), expected, rtol=1e-9, atol=1e-12)


def test_imputations_of_a_source_keep_what_is_observed(two_clusters_posterior, two_clusters):
    X = two_clusters.copy()
    X[::3, 1] = np.nan
    source = bgmm_jd.batches(lambda: [X[:7], X[7:]])
    found = np.concatenate(list(bgmm_jd.impute(two_clusters_posterior, source, draws=4)), axis=1)
    np.testing.assert_array_equal(found, bgmm_jd.impute(two_clusters_posterior, X, draws=4))
    assert np.isfinite(found).all()


def test_source_of_other_columns_is_an_error_at_once(two_clusters_posterior):
    source = bgmm_jd.batches(lambda: [np.zeros((3, 5))])
    for function in (*FUNCTIONS, bgmm_jd.impute):
        with pytest.raises(ValueError, match="X must have 2 columns, in the order of the fit"):
            function(two_clusters_posterior, source)


def test_bad_row_of_a_source_is_an_error_with_its_number(two_clusters_posterior, X):
    rows = X.copy()
    rows[123_456, 1] = np.nan
    found = bgmm_jd.predict(two_clusters_posterior, bgmm_jd.batches(lambda: [rows]), draws=1)
    next(found)
    with pytest.raises(ValueError, match=r"column 1 has nan \(first in row 123456\)"):
        next(found)


def test_weights_of_a_source_play_no_part_in_predictions(two_clusters_posterior, two_clusters):
    source = WeightedRows(bgmm_jd.batches(lambda: [two_clusters]), np.zeros(40))
    labels = next(bgmm_jd.predict(two_clusters_posterior, source))
    np.testing.assert_array_equal(labels, bgmm_jd.predict(two_clusters_posterior, two_clusters))


def test_functions_that_need_rows_in_memory_refuse_a_source(two_clusters_posterior):
    source = bgmm_jd.batches(lambda: [np.zeros((3, 2))])
    with pytest.raises(ValueError, match=r"in memory here.*bgmm_jd\.sample_rows"):
        bgmm_jd.select(source, 2)


# --- Through an executor, and with progress -------------------------------------------------------


class Windowed(concurrent.futures.Executor):
    """Runs each task when it is submitted, from its pickle, and counts those not yet asked for."""

    def __init__(self):
        self.waiting = self.most = self.count = 0

    def submit(self, function, /, *arguments):
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        future, found = Counted(self), function(*arguments)
        future.set_result(found)
        self.waiting, self.count = self.waiting + 1, self.count + 1
        self.most = max(self.most, self.waiting)
        return future


class Counted(concurrent.futures.Future):
    def __init__(self, executor):
        super().__init__()
        self.executor = executor

    def result(self, timeout=None):
        self.executor.waiting -= 1
        return super().result(timeout)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_executor_gives_the_same_bits_as_the_present_process(
    two_clusters_posterior, X, function, tmp_path
):
    np.save(tmp_path / "x.npy", X)
    source, executor = bgmm_jd.table(tmp_path / "x.npy"), Windowed()
    found = list(function(two_clusters_posterior, source, draws=2, executor=executor))
    alone = list(function(two_clusters_posterior, source, draws=2))
    assert len(found) == len(alone) == executor.count == 3
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_executor_imputes_the_same_bits_by_random_numbers_of_each_block(
    two_clusters_posterior, tmp_path
):
    """Two blocks of 4,194 equal rows under 1,000 draws."""
    np.save(tmp_path / "x.npy", np.tile([[np.nan, 1.0]], (8_388, 1)))
    source, executor = bgmm_jd.table(tmp_path / "x.npy"), Windowed()
    found = list(bgmm_jd.impute(two_clusters_posterior, source, draws=1_000, executor=executor))
    alone = list(bgmm_jd.impute(two_clusters_posterior, source, draws=1_000))
    assert len(found) == len(alone) == executor.count == 2
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (found[0][:, :, 0] != found[1][:, :, 0]).all()


def test_tasks_are_submitted_as_their_results_are_taken(X, tmp_path):
    """Four wait beside the one that is taken next."""
    np.save(tmp_path / "x.npy", X[:50])
    source, executor = bgmm_jd.table(tmp_path / "x.npy"), Windowed()
    reader = Reader(
        source=source, chunk_rows=2, chunks_per_part=1, ahead=1, executor=executor, waiting=4
    )
    taken = 0
    for taken, _ in enumerate(reader.results(Statistic(id, list)), start=1):
        assert executor.waiting == min(4, 25 - taken)
    assert (taken, executor.most) == (25, 5)


def test_executor_is_refused_where_it_cannot_read_the_rows(two_clusters_posterior, X):
    batches = bgmm_jd.batches(lambda: [X])
    for function in (*FUNCTIONS, bgmm_jd.impute):
        with pytest.raises(ValueError, match="batches come one after the other"):
            function(two_clusters_posterior, batches, executor=Windowed())
        with pytest.raises(ValueError, match=r"X is in memory\. Leave executor out"):
            function(two_clusters_posterior, X[:5], executor=Windowed())


def test_progress_ends_with_the_number_of_rows(two_clusters_posterior, X, tmp_path, capsys):
    np.save(tmp_path / "x.npy", X)
    source = bgmm_jd.table(tmp_path / "x.npy")
    list(bgmm_jd.predict(two_clusters_posterior, source, draws=1))
    assert capsys.readouterr().err == ""
    list(bgmm_jd.predict(two_clusters_posterior, source, draws=1, progress=True))
    assert capsys.readouterr().err.startswith("150,000 of 150,000 rows, ")
