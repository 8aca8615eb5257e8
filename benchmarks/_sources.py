"""Fits of one data set in memory and from files, each in a process of its own.

Run as a script, `_sources.py KIND PATH K`, it makes one fit and prints the result as its last line.
"""

import json
import statistics
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _common import installed
from _processes import Shape, chunks_of_rows, last_line, peak

import bgmm_jd

KINDS = ("memory", "npy", "parquet")


class SourceFit(NamedTuple):
    """The first call of `fit` in a process.

    pass_seconds : median between two passes.
    peak_mib : of the resident memory of the process; `before_mib` after all imports.
    """

    seconds: float
    passes: int
    pass_seconds: float
    before_mib: float
    peak_mib: float
    elbo: float
    elbo_se: float
    status: str


def write_files(shape: Shape, folder: Path, kinds: Collection[str] = KINDS) -> dict[str, Path]:
    """Write the rows, some at a time, and return the file of each kind of fit."""
    paths = {"memory": folder / "rows.npy", "npy": folder / "rows.npy"}
    mapped = np.lib.format.open_memmap(
        paths["npy"], "w+", np.dtype(shape.dtype), (shape.N, shape.D)
    )
    for part, rows in chunks_of_rows(shape):
        mapped[part] = rows
    mapped.flush()
    if "parquet" in kinds and installed("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        names = [f"x{column}" for column in range(shape.D)]
        paths["parquet"] = folder / "rows.parquet"
        schema = pa.schema([(name, pa.from_numpy_dtype(shape.dtype)) for name in names])
        with pq.ParquetWriter(paths["parquet"], schema, compression="zstd") as writer:
            for part, _ in chunks_of_rows(shape):
                columns = dict(zip(names, np.array(mapped[part]).T, strict=True))
                writer.write_table(pa.table(columns))
    return {kind: path for kind, path in paths.items() if kind in kinds}


def fit_in_process(kind: str, path: Path, K: int) -> SourceFit:
    """Make one fit in a new process."""
    found = last_line([sys.executable, __file__, kind, str(path), str(K)])
    return SourceFit(**found)


def fit(kind: str, path: str, K: int) -> SourceFit:
    """Make one fit in this process, and time its passes by its reports."""
    times: list[float] = []

    def note(progress: bgmm_jd.Progress) -> None:
        if progress.phase == "passes":
            times.append(time.perf_counter())

    before = 2**10 * peak()
    X = np.load(path) if kind == "memory" else bgmm_jd.table(path)
    begun = time.perf_counter()
    posterior = bgmm_jd.fit(X, K, restarts=1, progress=False, callback=note)
    return SourceFit(
        seconds=time.perf_counter() - begun,
        passes=len(times),
        pass_seconds=statistics.median(np.diff(times)),
        before_mib=before,
        peak_mib=2**10 * peak(),
        elbo=posterior.elbo,
        elbo_se=posterior.elbo_se,
        status=posterior.status.name,
    )


if __name__ == "__main__":
    print(json.dumps(fit(sys.argv[1], sys.argv[2], int(sys.argv[3]))._asdict()))
