"""A pass over one data set by several engines, and Spark's mixture, each in its own process.

Run as a script, `_engines.py ENGINE PATH K`, it makes one fit and prints the result as its last
line. ENGINE is one of ENGINES; PATH names a .npy file, and for Spark a parquet file.
"""

import contextlib
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from _common import installed
from _processes import last_line

import bgmm_jd

ENGINES = ("npy", "pool 1", "pool 2", "dask 1", "dask 2", "spark")
NEEDS = {"dask": "distributed", "spark": "pyspark"}


class EngineFit(NamedTuple):
    """A fit in a process.

    seconds : of the call, with compilation; of Spark, without the start of its session.
    steps : passes to the fixed point; of Spark, iterations of EM.
    step_seconds : median between two passes, or the mean of iterations.
    log_density : elbo; of Spark, the log likelihood.
    """

    seconds: float
    steps: int
    step_seconds: float
    log_density: float


def available() -> list[str]:
    """Return the engines whose packages are installed."""
    return [name for name in ENGINES if installed(NEEDS.get(name.split()[0], "numpy"))]


def fit_by_engine(engine: str, path: Path, K: int) -> EngineFit:
    """Make one fit in a new process."""
    return EngineFit(**last_line([sys.executable, __file__, engine, str(path), str(K)]))


def fit(engine: str, path: str, K: int) -> EngineFit:
    """Make one fit in this process, by the workers of an engine, and time its passes."""
    if engine == "spark":
        return spark_fit(path, K)
    times: list[float] = []

    def note(progress: bgmm_jd.Progress) -> None:
        if progress.phase == "passes":
            times.append(time.perf_counter())

    with workers(engine) as executor:
        begun = time.perf_counter()
        posterior = bgmm_jd.fit(
            bgmm_jd.table(path), K, restarts=1, progress=False, callback=note, executor=executor
        )
        seconds = time.perf_counter() - begun
    return EngineFit(seconds, len(times), statistics.median(np.diff(times)), posterior.elbo)


@contextlib.contextmanager
def workers(engine: str) -> Iterator[Executor | None]:
    """Yield the executor of an engine, with so many workers; None for the present process."""
    name, _, count = engine.partition(" ")
    if name == "npy":
        yield None
    elif name == "pool":
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(count), mp_context=spawn) as executor:
            yield executor
    else:
        import dask
        from distributed import Client, LocalCluster

        dask.config.set({"distributed.deploy.lost-worker-timeout": "90s"})
        options: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None}
        with (
            LocalCluster(n_workers=int(count), **options) as cluster,
            Client(cluster) as client,
        ):
            yield client.get_executor(pure=False)


def spark_fit(path: str, K: int) -> EngineFit:
    """Fit Spark's GaussianMixture, full covariances by EM, on two local cores."""
    from pyspark.ml.clustering import GaussianMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    session = SparkSession.builder.master("local[2]").config("spark.driver.memory", "4g")
    spark = session.config("spark.ui.enabled", "false").getOrCreate()
    frame = spark.read.parquet(path)
    rows = VectorAssembler(inputCols=frame.columns, outputCol="features").transform(frame).cache()
    rows.count()
    begun = time.perf_counter()
    summary = GaussianMixture(k=K, seed=0, maxIter=100, tol=0.01).fit(rows).summary
    seconds = time.perf_counter() - begun
    found = EngineFit(seconds, summary.numIter, seconds / summary.numIter, summary.logLikelihood)
    spark.stop()
    return found


if __name__ == "__main__":
    print(json.dumps(fit(sys.argv[1], sys.argv[2], int(sys.argv[3]))._asdict()))
