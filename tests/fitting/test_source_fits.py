"""Fits of rows that are read from a source."""

import concurrent.futures
import multiprocessing
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from builders import QUICK
from touching_clusters import MEANS, K, N, assert_same_bits, labelled_rows
from traced_functions import traced

import bgmm_jd
from bgmm_jd.data.far_rows import FarRowsWarning
from bgmm_jd.fitting import search
from bgmm_jd.settings import FullDataSettings, OptimizationSettings, Settings, SourceSettings

# Chunks of 2,032 rows and parts of 4,064; as few rows in memory as the first phase reads.
CHUNKS = Settings(sources=SourceSettings(numbers_in_memory=1, rows_per_slice=16, chunks_per_part=2))


@pytest.fixture(scope="module")
def X():
    return labelled_rows()[0]


@pytest.fixture(scope="module")
def in_memory(X):
    return bgmm_jd.fit(X, K, **QUICK)


@pytest.fixture(scope="module")
def from_batches(X):
    source = bgmm_jd.batches(lambda: np.array_split(X, 7))
    return bgmm_jd.fit(source, K, settings=CHUNKS, **QUICK)


def assert_same_posterior(one, other):
    """Elbo within 4 standard errors, means within 0.03 sds, sds within 3 %: of the mean field.

    Plus four standard errors of 40,000 draws: 4 sqrt(2 / 40000) = 0.028 of a difference of means,
    and 4 / sqrt(40000) = 0.02 of a ratio of sds.
    """
    assert abs(one.elbo - other.elbo) < 4.0 * np.hypot(one.elbo_se, other.elbo_se)
    a, b = (posterior.sample(40_000, calibrate=False) for posterior in (one, other))
    for name in a:
        sd = a[name].std(axis=0)
        shift = np.abs(a[name].mean(axis=0) - b[name].mean(axis=0)) / sd
        assert shift.max() < 0.03 + 0.03
        assert np.abs(b[name].std(axis=0) / sd - 1.0).max() < 0.03 + 0.02


def test_rows_of_a_source_that_fit_in_memory_are_fitted_as_an_array(two_clusters, tmp_path):
    np.save(tmp_path / "x.npy", two_clusters)
    weight = np.tile([1.0, 0.5], 20)
    np.save(tmp_path / "w.npy", np.column_stack([two_clusters, weight]))
    a, b = (
        bgmm_jd.fit(X, 2, sample_weight=w, **QUICK)
        for X, w in [
            (two_clusters, weight),
            (bgmm_jd.table(tmp_path / "w.npy", weight=2), None),
        ]
    )
    assert a.elbo == b.elbo
    np.testing.assert_array_equal(a.sample(10)["means"], b.sample(10)["means"])
    np.testing.assert_array_equal(b.problem.data.rows.weight, weight)


def test_fit_of_a_source_finds_the_clusters(from_batches):
    """A mean has the standard error of its cluster's rows: within 5 of them."""
    assert from_batches.status.good
    assert from_batches.calibration == "curvature at the mean"
    means = from_batches.sample(500)["means"]
    assert (np.abs(means.mean(axis=0) - MEANS) < 5.0 * means.std(axis=0)).all()
    counts = N * from_batches.sample(500)["weights"].mean(axis=0)
    np.testing.assert_allclose(means.std(axis=0)[:, 0], counts**-0.5, rtol=0.3)


def test_passes_from_the_same_parameters_share_a_scan(X):
    """Two scans survey the rows, one serves the averaged passes and one the elbo."""
    scans, passes = [], []

    def scan():
        scans.append(len(scans))
        return [X]

    source = bgmm_jd.batches(scan)
    before = len(scans)
    few = replace(CHUNKS, full_data=FullDataSettings(averaged_passes=4, averaged_rows=1))
    bgmm_jd.fit(
        source,
        K,
        settings=few,
        calibrate=False,
        callback=lambda progress: passes.append(progress.phase),
        **QUICK,
    )
    assert len(scans) - before == 2 + passes.count("passes") + 1 + 1


def test_another_number_of_rows_compiles_nothing(X, from_batches):
    before = traced()
    fewer = bgmm_jd.batches(lambda: [X[:17_000]])
    found = bgmm_jd.fit(fewer, K, settings=CHUNKS, **QUICK)
    assert found.status.good
    assert found.problem.data.shape[0] == 17_000 != from_batches.problem.data.shape[0]
    assert traced() <= before


@pytest.mark.slow
def test_sample_of_many_rows_is_fitted_before_all_of_them(X, monkeypatch):
    """Of 2,000 in 30,000 rows; a sample of more than an eighth is not. The first phase has 500.

    By the programs that read the source.
    """
    fitted, functions, optimize = [], [], search.optimize_full_data

    def noted(problem, *arguments):
        fitted.append(problem.data.shape[0])
        return optimize(problem, *arguments)

    monkeypatch.setattr(search, "optimize_full_data", noted)
    first_phase = OptimizationSettings(subsample_rows=500, subsample_rows_per_component=1)
    for rows in (4_000, 2_000):
        in_memory = replace(CHUNKS.sources, numbers_in_memory=2 * rows)
        settings = replace(CHUNKS, sources=in_memory, optimization=first_phase)
        source = bgmm_jd.batches(lambda: [X])
        assert bgmm_jd.fit(source, K, settings=settings, calibrate=False, **QUICK).status.good
        functions.append(traced())
    assert fitted == [30_000, 2_000, 30_000]
    assert functions[1] == functions[0]


def test_posterior_of_a_source_has_no_rows_and_can_be_saved(from_batches, tmp_path):
    with pytest.raises(ValueError, match=r"fitted to a source.*bgmm_jd\.sample_rows"):
        bgmm_jd.occupied_components(from_batches)
    bgmm_jd.save(from_batches, tmp_path / "posterior.nc")
    loaded = bgmm_jd.load(tmp_path / "posterior.nc")
    np.testing.assert_array_equal(loaded.sample(5)["means"], from_batches.sample(5)["means"])
    assert "30,000 rows x 2" in repr(loaded)


@pytest.mark.slow
def test_fit_of_a_source_is_that_of_its_rows_in_memory(in_memory, from_batches):
    assert_same_posterior(in_memory, from_batches)


@pytest.mark.slow
def test_file_memmap_and_batches_give_the_same_bits(X, from_batches, tmp_path):
    np.save(tmp_path / "x.npy", X)
    for source in (bgmm_jd.table(tmp_path / "x.npy"), np.load(tmp_path / "x.npy", mmap_mode="r")):
        found = bgmm_jd.fit(source, K, settings=CHUNKS, **QUICK)
        assert_same_bits(found, from_batches)


@pytest.mark.slow
def test_dask_array_gives_the_same_bits(X, from_batches):
    dask_array = pytest.importorskip("dask.array")
    source = bgmm_jd.table(dask_array.from_array(X, chunks=(7_001, 1)))
    found = bgmm_jd.fit(source, K, settings=CHUNKS, **QUICK)
    assert_same_bits(found, from_batches)


@pytest.mark.slow
def test_parquet_gives_the_same_bits_and_names(X, from_batches, tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for number, part in enumerate(np.array_split(X, 3)):
        table = pa.table({"u": part[:, 0], "v": part[:, 1]})
        pq.write_table(table, tmp_path / f"{number}.parquet", row_group_size=3_000)
    found = bgmm_jd.fit(bgmm_jd.table(tmp_path), K, settings=CHUNKS, **QUICK)
    assert found.feature_names == ("u", "v")
    assert_same_bits(found, from_batches)


@pytest.mark.slow
def test_rows_sorted_by_cluster_give_the_same_posterior(in_memory):
    X, label = labelled_rows()
    source = bgmm_jd.batches(lambda: [X[np.argsort(label, kind="stable")]])
    assert_same_posterior(in_memory, bgmm_jd.fit(source, K, settings=CHUNKS, **QUICK))


@pytest.mark.slow
def test_fit_with_weights_and_missing_entries_is_that_in_memory(X):
    rng = np.random.default_rng(1)
    rows, weight = X.copy(), rng.choice([0.0, 1.0, 2.0], N)
    rows[rng.random(rows.shape) < 0.05] = np.nan
    options = {"covariance": "full", "missing": "marginalize", **QUICK}
    source = bgmm_jd.batches(
        lambda: zip(np.array_split(rows, 5), np.array_split(weight, 5), strict=True)
    )
    expected = bgmm_jd.fit(rows, K, sample_weight=weight, **options)
    assert_same_posterior(expected, bgmm_jd.fit(source, K, settings=CHUNKS, **options))


PEAK = """
import sys
import bgmm_jd

posterior = bgmm_jd.fit(bgmm_jd.table(sys.argv[1]), 4, finish="none", progress=False, restarts=1)
assert posterior.status.good, posterior.status
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_peak_memory_does_not_grow_with_the_rows_of_a_file(tmp_path):
    """5e5 and 4e6 rows of 8 columns: 15 and 122 MiB of float32. `ru_maxrss` will not do:
    it begins with what the parent process has.

    Both are more than are kept in memory. One copy of the rows that are more would be 107 MiB.
    """
    peaks = []
    for rows in (500_000, 4_000_000):
        path = tmp_path / "rows.npy"
        write_clusters(path, rows)
        run = [sys.executable, "-c", PEAK, str(path)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) / 2**10)
    assert peaks[1] - peaks[0] < 64.0, peaks


def write_clusters(path, rows, block=100_000):
    """Write rows of four clusters in 8 columns, some at a time."""
    mapped = np.lib.format.open_memmap(path, "w+", np.float32, (rows, 8))
    rng = np.random.default_rng(2)
    means = rng.normal(size=(4, 8)) * 3.0
    for first in range(0, rows, block):
        label = rng.integers(0, 4, block)
        mapped[first : first + block] = means[label] + rng.normal(size=(block, 8))
    mapped.flush()


# --- Errors at the door ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 100}, ValueError, "batch_size must be 'auto' for rows that are read"),
        ({"finish": "hmc"}, ValueError, "finish='hmc' needs all rows in memory"),
        ({"init": np.zeros(N, int)}, ValueError, r"init must be means \[K, D\] or a posterior"),
        ({"sample_weight": np.ones(N)}, ValueError, "yield pairs of rows and weights"),
        ({"executor": 3}, TypeError, "must be a concurrent.futures.Executor.*got int"),
        ({"covariance": "round"}, ValueError, "covariance"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_options_that_a_source_does_not_allow_are_errors(X, options, error, message):
    source = bgmm_jd.batches(lambda: [X])
    with pytest.raises(error, match=message):
        bgmm_jd.fit(source, K, **{"settings": CHUNKS, **options})


def test_executor_of_rows_in_memory_is_an_error(two_clusters):
    with (
        concurrent.futures.ThreadPoolExecutor() as executor,
        pytest.raises(ValueError, match=r"X is in memory\. Leave executor out"),
    ):
        bgmm_jd.fit(two_clusters, 2, executor=executor)


def test_pool_of_forked_processes_is_an_error_with_advice(X, tmp_path):
    np.save(tmp_path / "x.npy", X)
    fork = multiprocessing.get_context("fork")
    with (
        concurrent.futures.ProcessPoolExecutor(1, mp_context=fork) as executor,
        pytest.raises(ValueError, match=r"mp_context=multiprocessing\.get_context\('spawn'\)"),
    ):
        bgmm_jd.fit(bgmm_jd.table(tmp_path / "x.npy"), K, executor=executor)


def test_entries_that_may_be_codes_are_warned_of_with_a_row(X):
    """The warning comes before the fit, which it stops here as an error."""
    rows = X.copy()
    rows[20_001, 1] = -9_999.0
    source = bgmm_jd.batches(lambda: [rows])
    with pytest.raises(FarRowsWarning, match="row 20001 has -9999"):
        bgmm_jd.fit(source, K, settings=CHUNKS, **QUICK)
