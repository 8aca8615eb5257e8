"""Fit many data sets of varying shapes in one process, and print how its memory grows.

    python benchmarks/many_fits.py --fits 1000

Rows number 20 to 215, features 1 to 3, components 1 to 4, with diagonal or full covariances, all at
random. TensorFlow keeps what it has compiled: memory grows with the number of shapes that rows and
components are padded to, and not with the number of fits.
"""

import argparse
import json
import mmap
import pathlib
import time
import warnings

import numpy as np
from _common import RESULTS, table, versions
from tensorflow.python.eager import context

import bgmm_jd


def resident() -> float:
    """Return the resident memory of the process in MiB, on Linux."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE / 2**20


def fit_one(rng: np.random.Generator) -> None:
    """Fit a random data set, and use the posterior."""
    N, D, K = int(rng.integers(20, 216)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    X = 8.0 * rng.integers(0, K, (N, 1)) + rng.standard_normal((N, D))
    covariance = ("diag", "full")[rng.integers(2)]
    posterior = bgmm_jd.fit(
        X, K, covariance=covariance, execution="graph", restarts=1, finish="none", progress=False
    )
    bgmm_jd.predict(posterior, X, draws=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--fits", type=int, default=1_000)
    fits = parser.parse_args().fits
    warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
    rng, begun, rows = np.random.default_rng(0), time.perf_counter(), []
    for number in range(fits + 1):
        if number % max(1, fits // 10) == 0:
            traced = len(context.context().list_function_names())
            rows.append((number, resident(), traced, time.perf_counter() - begun))
            print(rows[-1], flush=True)
        if number < fits:
            fit_one(rng)
    header = ("fits", "MiB", "functions that TensorFlow keeps", "seconds")
    print(table(header, [[f"{value:,.0f}" for value in row] for row in rows]))
    found = [dict(zip(header, row, strict=True)) for row in rows]
    result = {"name": "many fits", "versions": versions(), "growth": found}
    (RESULTS / "many_fits.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
