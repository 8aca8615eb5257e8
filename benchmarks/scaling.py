"""Time, memory and quality of `fit` on very many rows, beside scikit-learn, and the cost of a pass.

The rows come from K overlapping components in D features: means 1.2 times standard normal, sds
from 0.6 to 1.4, weights Dirichlet(5); float32, the same numbers in every part. The prior and all
settings are the defaults. More than 4,096 rows of this shape are fitted in two phases: a subsample
of that size, and then accelerated passes over all rows. Each number comes from a separate process,
so that no measurement finds programs compiled, or memory taken, by another.

    million   The first and the second call with the same seed; `compile` is the difference.
              `passes` is the number of passes to the fixed point; the numbers of further passes,
              which are averaged or estimate the elbo, are printed below the table. scikit-learn:
              BayesianGaussianMixture of the same model (covariance_type="diag",
              weight_concentration_prior_type="dirichlet_distribution" with the concentration of
              the default prior here, max_iter=1000), with its defaults otherwise: tolerance 1e-3
              on the bound, one start by k-means, and its own priors of means and precisions.
              `ratio` is its time over that of a second call, and of a first.
              Then the quality: largest |posterior mean - optimum's| in the optimum's sds, and
              min..max of sd / the optimum's. The optimum is the average of two float64 fits of the
              same rows from the means of the float32 fit. Each has draws of its own, 16 times as
              many slices, a hundredth of the tolerance and ten times the averaged passes. The row
              `optimum` compares the first to the second; it is twice the noise of their average.
              `float64` is a fit of the same rows in float64, and `float32 to float64` compares the
              two at the same settings.
              `log density` is that of all rows at the posterior means less that of the optimum, in
              nats: a fit far below it is at another solution.
              Last the default fit beside scikit-learn's on several data sets of this shape:
              `of first` and `of second` are its time over ours, `ahead` the log density of all rows
              at our posterior means less that at its.
    memory    The peak of the resident memory of the process less what it had after
              all imports with the rows in place: GiB, and as a multiple of the rows. That of
              scikit-learn is after three iterations.
    rows      From 10,000 rows on. `pass` is the median time of a pass after the fit, `ns` that time
              per row.
    shapes    One pass for several K and D, diagonal and full, and the lower limit of its
              arithmetic (`floor`), measured in the same process: per slice of the rows, the product
              of [2 K, F] with [F, rows], an exp of each number in it, and the product of these
              [2 K, rows] with [rows, F], as in the gradient. A slice has 2 draws, and there are
              F = 2 D columns (diagonal) or D (D + 1) / 2 + D (full). It is compiled by XLA as the
              pass is, and includes neither the draws nor the columns nor the sums over components.
              `statistics` says whether the pass uses sufficient statistics, and so is a product of
              matrices.
    forms     Each form of covariance: one pass, and a second call, as multiples of the diagonal
              ones. scikit-learn's iteration of the same form is timed as the difference of two fits
              from random responsibilities, which cost nothing, with 1 and with 4 iterations.
    sources   The first call of `fit` with one restart for the same rows in memory, in a .npy file
              and, where pyarrow is installed, in a parquet file (zstd). `pass` is the median time
              between two passes, `ns` that time per row; memory in MiB, with all imports.
    engines   The same rows in a .npy file, read by the present process, by process pools of one and
              two workers, and by Dask with one and two. Beside them Spark's own GaussianMixture,
              where pyspark and a Java runtime are installed (the extra `benchmark`): maximum
              likelihood by EM with full covariances, from parquet that is cached in memory;
              `steps` are its iterations, and it has no posterior.
    fresh     Seconds in a fresh process: importing tensorflow and tensorflow_probability alone;
              importing bgmm_jd, and the first and second fit of the three clusters (N = 3,000,
              D = 2, K = 3); and the same with the programs that an earlier process left on disk
              (`bgmm_jd.keep_compiled`). Medians of three.

Run it:  python benchmarks/scaling.py [--part million memory rows shapes forms sources engines
                                            fresh]
         [--rows 1e6] [--kinds memory npy parquet] [--engines npy "pool 1" ... spark]
         [--cap 1e7] [--shape-rows 2e5] [--data-sets 5] [--pass-calls 10] [--seed 0]
It prints the tables, and writes each part to benchmarks/results/scaling_PART.json.
"""

import argparse
import importlib.metadata
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from _common import cell, installed, load, show, write_result
from _engines import ENGINES, EngineFit, available, fit_by_engine
from _inside import FORMS
from _million import OPTIMUM_SEEDS, million, without_moments
from _processes import (
    D,
    Fitted,
    K,
    Memory,
    Pass,
    Shape,
    fitted,
    last_line,
    one_pass,
    peer,
)
from _sources import KINDS, SourceFit, fit_in_process, write_files

ROWS = (10**4, 10**5, 10**6, 10**7)
SIZES = (2, 4, 8, 16, 32, 64)
SHAPE_FORMS = ("diag", "full")
OTHER_K, OTHER_D = 8, 8  # the value of one while the other takes those of SIZES
FRESH_RUNS = 3


# Memory.


def memory(given: argparse.Namespace) -> dict[str, Any]:
    """Measure the peak of a first call, of two, and of scikit-learn."""
    shape = Shape(given.rows)
    found = {"bgmm_jd": fitted(shape, seed=given.seed, calls=2).memory}
    if given.peer:
        found["scikit-learn"] = peer(shape, seed=given.seed, max_iter=3).memory
    show("GiB", MEMORY_HEADER, [memory_cells(name, m, shape) for name, m in found.items()])
    return {"rows_gib": shape.gib, "memory": found}


MEMORY_HEADER = ["method", "rows", "before", "first call", "of rows", "all calls", "of rows"]


def memory_cells(name: str, found: Memory, shape: Shape) -> list[str]:
    """Return the cells of a method's memory, in the order of MEMORY_HEADER."""
    cells = [name, f"{shape.gib:.4f}", f"{found.before:.3f}"]
    for most in (found.first, found.last):
        over = most - found.before
        cells += [f"{over:.3f}", f"{over / shape.gib:.1f}"]
    return cells


# Numbers of rows.


def rows(given: argparse.Namespace) -> dict[str, Any]:
    """Measure fits of ten thousand rows and more, up to the cap."""
    found = {
        N: fitted(Shape(N), seed=given.seed, calls=2, pass_calls=given.pass_calls)
        for N in filter(given.cap.__ge__, ROWS)
    }
    show("By rows", ROWS_HEADER, [rows_cells(N, fit) for N, fit in found.items()])
    return {"fits": {N: without_moments(fit) for N, fit in found.items()}}


ROWS_HEADER = [
    "N",
    "pass ms",
    "ns",
    "passes",
    "first call",
    "second call",
    "status",
    "rows GiB",
    "peak GiB",
]


def rows_cells(N: int, fit: Fitted) -> list[str]:
    """Return the cells of one number of rows, in the order of ROWS_HEADER."""
    return [
        f"{N:,}",
        f"{1e3 * fit.pass_seconds:.1f}",
        f"{1e9 * fit.pass_seconds / N:.0f}",
        str(fit.passes),
        f"{fit.seconds[0]:.2f}",
        f"{fit.seconds[1]:.2f}",
        fit.status,
        f"{Shape(N).gib:.4f}",
        f"{fit.memory.first - fit.memory.before:.3f}",
    ]


# Shapes.


def shapes(given: argparse.Namespace) -> dict[str, Any]:
    """Measure a pass for each K at one D, then for each D at one K, diagonal and full."""
    by_K = [(k, OTHER_D) for k in SIZES]
    by_D = [(OTHER_K, d) for d in SIZES if d != OTHER_D]
    measured = []
    for covariance in SHAPE_FORMS:
        for k, d in by_K + by_D:
            shape = Shape(given.shape_rows, K=k, D=d, covariance=covariance)
            try:
                found = one_pass(shape, seed=given.seed, pass_calls=given.pass_calls)
            except RuntimeError as error:  # a shape may be too large for the machine
                print(f"{shape} is left out. {error}", flush=True)
                continue
            measured.append((shape, found))
            print("  ".join(shape_cells(shape, found)), flush=True)
    show("One pass", SHAPE_HEADER, [shape_cells(*pair) for pair in measured])
    return {
        "passes": [
            {"shape": shape, "found": found, "ratio": found.seconds / found.floor}
            for shape, found in measured
        ]
    }


SHAPE_HEADER = ["covariance", "K", "D", "F", "statistics", "pass ms", "floor ms", "ratio"]


def shape_cells(shape: Shape, found: Pass) -> list[str]:
    """Return the cells of a shape, in the order of SHAPE_HEADER."""
    return [
        shape.covariance,
        str(shape.K),
        str(shape.D),
        f"{shape.columns:,}",
        "yes" if found.use_statistics else "no",
        f"{1e3 * found.seconds:.1f}",
        f"{1e3 * found.floor:.1f}",
        f"{found.seconds / found.floor:.2f}",
    ]


# Forms of covariance.


class Form(NamedTuple):
    """A fit of one form, and the seconds of an iteration of scikit-learn, NaN without it."""

    fit: Fitted
    iteration: float


def forms(given: argparse.Namespace) -> dict[str, Any]:
    """Measure each form of covariance on the same rows."""
    found = {covariance: one_form(covariance, given) for covariance in FORMS}
    show("By form", FORM_HEADER, form_rows(found))
    return {
        "forms": {
            name: {"fit": without_moments(form.fit), "iteration": form.iteration}
            for name, form in found.items()
        }
    }


def one_form(covariance: str, given: argparse.Namespace) -> Form:
    """Measure two calls of a fit of this form, and an iteration of scikit-learn."""
    shape = Shape(given.rows, covariance=covariance)
    fit = fitted(shape, seed=given.seed, calls=2, pass_calls=given.pass_calls)
    return Form(fit, iteration_seconds(shape, given.seed) if given.peer else math.nan)


def iteration_seconds(shape: Shape, seed: int, more: int = 4) -> float:
    """Return the seconds of an iteration of scikit-learn, by a fit with more of them and with one.

    The fits begin with random responsibilities, because the time of k-means differs from run to
    run, and have a tolerance of 0, so that none stops early.
    """
    few, many = (
        peer(shape, seed=seed, max_iter=n, init_params="random", tol=0.0) for n in (1, more)
    )
    return (many.seconds - few.seconds) / (many.iterations - few.iterations)


FORM_HEADER = [
    "covariance",
    "pass ms",
    "of diag",
    "passes",
    "first call",
    "second call",
    "of diag",
    "status",
    "scikit-learn's iteration ms",
    "of diag",
    "of a pass",
]


def form_rows(found: Mapping[str, Form]) -> list[list[str]]:
    """Return a row for each form."""
    diag = found["diag"]
    return [
        [
            name,
            f"{1e3 * fit.pass_seconds:.0f}",
            f"{fit.pass_seconds / diag.fit.pass_seconds:.2f}",
            str(fit.passes),
            f"{fit.seconds[0]:.2f}",
            f"{fit.seconds[1]:.2f}",
            f"{fit.seconds[1] / diag.fit.seconds[1]:.2f}",
            fit.status,
            cell(1e3 * iteration, ".0f"),
            cell(iteration / diag.iteration, ".2f"),
            cell(iteration / fit.pass_seconds, ".2f"),
        ]
        for name, (fit, iteration) in found.items()
    ]


# Rows in files.


def sources(given: argparse.Namespace) -> dict[str, Any]:
    """Measure a fit of the same rows in memory and from files."""
    shape = Shape(given.rows)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(shape, Path(folder), given.kinds)
        found = {kind: fit_in_process(kind, path, shape.K) for kind, path in paths.items()}
    show("By source", SOURCES_HEADER, [source_cells(*pair, given.rows) for pair in found.items()])
    return {"rows_mib": 2**10 * shape.gib, "fits": found}


SOURCES_HEADER = [
    "rows",
    "first call",
    "passes",
    "pass ms",
    "ns",
    "imports MiB",
    "peak MiB",
    "elbo",
    "+/-",
    "status",
]


def source_cells(kind: str, fit: SourceFit, N: int) -> list[str]:
    """Return the cells of one kind of rows, in the order of SOURCES_HEADER."""
    return [
        kind,
        f"{fit.seconds:.1f}",
        str(fit.passes),
        f"{1e3 * fit.pass_seconds:.0f}",
        f"{1e9 * fit.pass_seconds / N:.0f}",
        f"{fit.before_mib:,.0f}",
        f"{fit.peak_mib:,.0f}",
        f"{fit.elbo:,.2f}",
        f"{fit.elbo_se:.2f}",
        fit.status,
    ]


# Engines.


def engines(given: argparse.Namespace) -> dict[str, Any]:
    """Measure fits of the same rows by several engines."""
    shape = Shape(given.rows)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_files(shape, Path(folder))
        for engine in filter(given.engines.__contains__, available()):
            path = paths["parquet" if engine == "spark" else "npy"]
            found[engine] = fit_by_engine(engine, path, shape.K)
            print("  ".join(engine_cells(engine, found[engine], given.rows)), flush=True)
    show("By engine", ENGINES_HEADER, [engine_cells(*pair, given.rows) for pair in found.items()])
    return {"fits": found}


ENGINES_HEADER = ["engine", "first call", "steps", "step ms", "ns", "elbo or log likelihood"]


def engine_cells(engine: str, fit: EngineFit, N: int) -> list[str]:
    """Return the cells of an engine, in the order of ENGINES_HEADER."""
    return [
        engine,
        f"{fit.seconds:.1f}",
        str(fit.steps),
        f"{1e3 * fit.step_seconds:.0f}",
        f"{1e9 * fit.step_seconds / N:.0f}",
        f"{fit.log_density:,.1f}",
    ]


# A fresh process.

IMPORT = """
import json, time
begun = time.perf_counter()
import tensorflow, tensorflow_probability
print(json.dumps({"tensorflow": time.perf_counter() - begun}))
"""
FIRST_FIT = """
import json, sys, time
times = [time.perf_counter()]
import bgmm_jd
from bgmm_jd.datasets import three_clusters
times.append(time.perf_counter())
if sys.argv[1:]:
    bgmm_jd.keep_compiled(sys.argv[1])
X = three_clusters().X
for _ in range(2):
    bgmm_jd.fit(X, 3, progress=False)
    times.append(time.perf_counter())
names = ("bgmm_jd", "first", "second")
print(json.dumps({n: b - a for n, a, b in zip(names, times, times[1:])}))
"""


def fresh(given: argparse.Namespace) -> dict[str, Any]:
    """Measure imports and first fits in fresh processes; the kinds of processes alternate."""
    with tempfile.TemporaryDirectory() as folder:
        last_line([sys.executable, "-c", FIRST_FIT, folder])  # writes its programs to disk
        runs = [_fresh_run(folder) for _ in range(FRESH_RUNS)]
    found = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    show("Seconds in a fresh process", FRESH_HEADER, fresh_rows(found))
    return {"runs": runs, "medians": found}


def _fresh_run(folder: str) -> dict[str, float]:
    """Return seconds of imports alone, of imports and fits, and of these with programs on disk."""
    plain = last_line([sys.executable, "-c", FIRST_FIT])
    kept = last_line([sys.executable, "-c", FIRST_FIT, folder])
    found = last_line([sys.executable, "-c", IMPORT])
    return found | plain | {f"{name}, kept": value for name, value in kept.items()}


FRESH_HEADER = [
    "programs",
    "import tensorflow, tfp",
    "import bgmm_jd",
    "first fit",
    "import and first fit",
    "ratio",
    "second fit",
    "over first",
]


def fresh_rows(found: Mapping[str, float]) -> list[list[str]]:
    """Return a row for programs compiled anew, and one for those read from disk."""
    rows = []
    for name, suffix in (("compiled", ""), ("from disk", ", kept")):
        alone = found["tensorflow"]
        begun, first, second = (found[n + suffix] for n in ("bgmm_jd", "first", "second"))
        cells = [alone, begun, first, begun + first, (begun + first) / alone]
        rows.append([name, *(f"{cell:.2f}" for cell in [*cells, second, second / first])])
    return rows


# The command line.

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "million": million,
    "memory": memory,
    "rows": rows,
    "shapes": shapes,
    "forms": forms,
    "sources": sources,
    "engines": engines,
    "fresh": fresh,
}


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Fits of very many rows.")
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument(
        "--rows", type=_count, default=10**6, help="of million, memory, forms, sources, engines"
    )
    parser.add_argument("--cap", type=_count, default=10**7, help="limit of N in the part rows")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of sources")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES, help="by name")
    parser.add_argument("--shape-rows", type=_count, default=200_000, help="of the part shapes")
    parser.add_argument(
        "--data-sets", type=_count, default=5, help="of million, beside scikit-learn"
    )
    parser.add_argument("--pass-calls", type=_count, default=10, help="timed passes")
    parser.add_argument("--seed", type=int, default=0, help="seed of the fits")
    given = parser.parse_args()
    if given.seed in OPTIMUM_SEEDS or given.seed < 0 or given.cap < ROWS[0]:
        parser.error(f"--seed must be 0 or more and none of {OPTIMUM_SEEDS}, --cap {ROWS[0]:,}")
    given.peer = installed("sklearn")
    return given


def _count(text: str) -> int:
    """Return a positive integer from text such as 1e6."""
    value = float(text)
    if value < 1 or value != int(value):
        raise ValueError(text)
    return int(value)


def main() -> None:
    """Run the chosen parts, print their tables and write a file for each."""
    given = arguments()
    if not given.peer:
        print("scikit-learn is not installed, so it is left out: pip install scikit-learn")
    for part in given.part:
        settings = {name: v for name, v in vars(given).items() if name != "part"}
        settings |= {"K": K, "D": D, "load_before": load()}
        if given.peer:
            settings["scikit-learn"] = importlib.metadata.version("scikit-learn")
        path = write_result(f"scaling_{part}", {"settings": settings, **PARTS[part](given)})
        print(f"\nWritten to {path.name}.\n", flush=True)


if __name__ == "__main__":
    main()
