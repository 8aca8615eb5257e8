"""Fits whose rows are read by other processes, which may die."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from builders import QUICK
from deadly_rows import DeadlyRows
from touching_clusters import K, assert_same_bits, labelled_rows

import bgmm_jd
from bgmm_jd.settings import FullDataSettings, Settings, SourceSettings

pytestmark = pytest.mark.slow

# Chunks of 2,032 rows and parts of 4,064: eight of 30,000 rows.
CHUNKS = Settings(
    sources=SourceSettings(numbers_in_memory=1, rows_per_slice=16, chunks_per_part=2),
    full_data=FullDataSettings(averaged_passes=4, averaged_rows=1),
)
OPTIONS = QUICK | {"settings": CHUNKS}
ARMED_AFTER = 2  # passes: workers die in the third


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, labelled_rows()[0])
    return bgmm_jd.table(path)


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    """Return the fit by the present process, and its number of passes."""
    return fit_deadly(DeadlyRows(source, tmp_path_factory.mktemp("none"), 0), None)


def assert_resumed(source, path, undisturbed):
    """Assert that the same fit goes on from a checkpoint without workers, to the same bits."""
    found, passes = fit_deadly(DeadlyRows(source, path.parent, 0), None, checkpoint=path)
    assert passes < undisturbed[1]
    assert_same_bits(found, undisturbed[0])


def fit_deadly(rows, executor, **options):
    """Fit deadly rows, armed after two passes; return the posterior and the number of passes."""
    passes = []

    def arm(progress):
        if progress.phase == "passes":
            passes.append(progress.steps)
        if len(passes) == ARMED_AFTER:
            rows.arm()

    found = bgmm_jd.fit(rows, K, executor=executor, callback=arm, **(OPTIONS | options))
    return found, len(passes)


def process_pool(workers):
    spawn = multiprocessing.get_context("spawn")
    return concurrent.futures.ProcessPoolExecutor(workers, mp_context=spawn)


@contextlib.contextmanager
def dask_client(workers):
    """Yield the client of a cluster on this machine; its workers are started anew when they die."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "90s"}),
        distributed.LocalCluster(n_workers=workers, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def mortal_workers(client, count):
    """Start workers that nobody starts anew, and have them import the library."""
    address = client.scheduler_info()["address"]
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny"]
    command += ["--no-dashboard", "--nthreads", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = [subprocess.Popen(command, env=environment, **quiet) for _ in range(count)]
    try:
        client.wait_for_workers(count, timeout=120)
        client.run(__import__, "bgmm_jd")
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_process_pool_gives_the_bits_of_the_present_process(source, undisturbed, workers):
    with process_pool(workers) as executor:
        found = bgmm_jd.fit(source, K, executor=executor, **OPTIONS)
    assert_same_bits(found, undisturbed[0])


@pytest.mark.parametrize("deaths", [1, 2], ids=["one", "both"])
def test_dask_gives_the_same_bits_though_workers_are_killed(source, undisturbed, tmp_path, deaths):
    """By SIGKILL inside of a task of the third pass."""
    rows = DeadlyRows(source, tmp_path, deaths)
    with dask_client(2) as client:
        first = set(client.run(os.getpid).values())
        found, passes = fit_deadly(rows, client.get_executor(pure=False))
    assert passes == undisturbed[1]
    assert len(rows.killed() & first) == deaths
    assert_same_bits(found, undisturbed[0])


def test_workers_that_do_not_come_back_are_an_error_that_names_the_checkpoint(
    source, undisturbed, tmp_path
):
    rows, path = DeadlyRows(source, tmp_path, 2), tmp_path / "fit.npz"
    impatient = replace(CHUNKS, sources=replace(CHUNKS.sources, patience=20.0))
    with dask_client(0) as client, mortal_workers(client, 2):
        executor = client.get_executor(pure=False)
        with pytest.raises(TimeoutError, match="no result for 20 s") as caught:
            fit_deadly(rows, executor, checkpoint=path, settings=impatient)
    assert len(rows.killed()) == 2
    assert f"The checkpoint {path} has what" in caught.value.__notes__[0]
    assert_resumed(source, path, undisturbed)


def test_broken_process_pool_is_an_error_that_names_the_checkpoint(source, undisturbed, tmp_path):
    rows, path = DeadlyRows(source, tmp_path, 1), tmp_path / "fit.npz"
    with (
        process_pool(2) as executor,
        pytest.raises(concurrent.futures.BrokenExecutor) as caught,
    ):
        fit_deadly(rows, executor, checkpoint=path)
    assert f"The checkpoint {path} has what" in caught.value.__notes__[0]
    assert_resumed(source, path, undisturbed)
