"""The commands: `python -m bgmm_jd` (a demonstration) and `python -m bgmm_jd fit FILE.csv -k K`."""

from __future__ import annotations

import argparse
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.csv_file import BadInput, Table, read_csv

_GOOD, _DOUBTFUL, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130

_FIGURES = (".png", ".pdf", ".svg")
_DRAWS = 1_000
# Up to this many rows the netCDF file also has the pointwise groups that `az.loo` and `az.plot_ppc`
# need. Their size is draws x rows.
_POINTWISE_ROWS = 5_000

_DESCRIPTION = """\
Fit Bayesian Gaussian mixtures. Without a command, run a demonstration: fit two well-known data
sets, print summaries, and write a figure (PNG) and posterior draws (netCDF) of each fit."""

_FIT_DESCRIPTION = """\
Fit a Gaussian mixture to the numeric columns of a CSV file with one row per line, values separated
by commas, semicolons, tabs or blanks, and optionally a first line of column names. Ctrl-C ends the
fit; its results up to then are written."""


class Outputs(NamedTuple):
    """The files to which the results are written."""

    netcdf: Path
    figure: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 for a good fit; 1 if a fit needs attention, in which case its results are
        written; 2 for bad input; 130 after Ctrl-C before there was any result.
    """
    arguments = _parser().parse_args(argv)
    try:
        return _fit_file(arguments) if arguments.command == "fit" else _demonstrate(arguments)
    except BadInput as error:
        print(f"bgmm_jd: {error}", file=sys.stderr)
        return _BAD_INPUT
    except KeyboardInterrupt:
        print("bgmm_jd: interrupted.", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bgmm_jd", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=bgmm_jd.__version__)
    parser.add_argument(
        "--out",
        dest="directory",
        metavar="DIR",
        type=Path,
        default=Path("bgmm_jd-demo"),
        help="directory for the files of the demonstration (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", metavar="")
    _add_fit(
        commands.add_parser("fit", help="fit the rows of a CSV file", description=_FIT_DESCRIPTION)
    )
    return parser


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE.csv", type=Path, help="file with the rows to fit")
    add("-k", dest="K", type=int, required=True, metavar="K", help="number of components")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.nc",
        help="netCDF file for the draws (default: FILE.nc in the current directory)",
    )
    add("--plot", type=Path, metavar="OUT.png", help="figure (default: as -o, but ending in .png)")
    add("--columns", metavar="A,B,...", help="columns to fit, by name or by number from 1")
    add(
        "--covariance",
        metavar="FORM",
        default="diag",
        help="form of the covariances: diag, full, tied or spherical (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=int,
        metavar="B",
        help="rows per optimisation step (default: depends on the number of rows)",
    )
    add("--seed", type=int, default=0, help="equal seeds give equal results (default: %(default)s)")
    add(
        "--keep-compiled",
        metavar="DIR",
        help="directory, writable by you alone, that keeps compiled programs for later runs",
    )


def _demonstrate(arguments: argparse.Namespace) -> int:
    from bgmm_jd import datasets

    directory: Path = arguments.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the directory {directory}: {error.strerror}.") from None
    code = _GOOD
    for example in (datasets.three_clusters(), datasets.old_faithful()):
        stem = directory / example.title.lower().replace(" ", "_")
        outputs = Outputs(stem.with_suffix(".nc"), stem.with_suffix(".png"))
        _check_outputs(outputs)
        table = Table(example.X, example.columns)
        status = _fit_table(example.title, table, example.K, {}, outputs)
        print()
        code = code if status.good else _DOUBTFUL
        if status is bgmm_jd.Status.INTERRUPTED:
            break
    return code


def _fit_file(arguments: argparse.Namespace) -> int:
    file: Path = arguments.file
    netcdf = arguments.out or Path(file.stem + ".nc")
    outputs = Outputs(netcdf, arguments.plot or netcdf.parent / (netcdf.stem + ".png"))
    table = read_csv(file, arguments.columns)
    _check_outputs(outputs, file)
    if arguments.keep_compiled is not None:
        _keep_compiled(arguments.keep_compiled)
    settings = {"covariance": arguments.covariance, "seed": arguments.seed}
    if arguments.batch_size is not None:
        settings["batch_size"] = arguments.batch_size
    status = _fit_table(file.name, table, arguments.K, settings, outputs)
    return _GOOD if status.good else _DOUBTFUL


def _keep_compiled(directory: str) -> None:
    try:
        bgmm_jd.keep_compiled(directory)
    except (ValueError, OSError) as error:
        raise BadInput(f"cannot keep compiled programs in {directory}: {error}") from None


def _check_outputs(outputs: Outputs, source: Path | None = None) -> None:
    """Check before the fit that its results can be written."""
    for path in outputs:
        parent = path.parent
        if path.is_dir() or not parent.is_dir() or not os.access(parent, os.W_OK):
            raise BadInput(f"cannot write {path}: its directory must exist and be writable.")
    if outputs.figure.suffix.lower() not in _FIGURES:
        raise BadInput(f"cannot write {outputs.figure}: its name must end in {_FIGURES}.")
    taken = [path.resolve() for path in (*outputs, source) if path is not None]
    if len(set(taken)) != len(taken):
        raise BadInput("the data, the netCDF file and the figure must be three different files.")


def _fit_table(
    title: str, table: Table, K: int, settings: dict[str, Any], outputs: Outputs
) -> bgmm_jd.Status:
    """Fit a table, print a summary, write the files, and return the fit's status."""
    N, D = table.X.shape
    print(f"{title}: {N:,} rows x {D} features, K = {K}", flush=True)
    print("features: " + ", ".join(table.columns))
    posterior, seconds = _fit(table.frame, K, settings)
    X = table.X if N <= _POINTWISE_ROWS else None
    idata = bgmm_jd.to_inference_data(posterior, X, draws=_DRAWS, seed=settings.get("seed", 0))
    import arviz as az  # after to_inference_data, which suppresses arviz 0.23's daily notice

    # For independent draws the diagnostics of Markov chains say nothing.
    print(az.summary(idata, kind="all" if posterior.has_chains else "stats").to_string())
    print(
        f"elbo {posterior.elbo:,.2f} +/- {posterior.elbo_se:.2f} nats, {posterior.diagnostic}, "
        f"{len(posterior.elbo_trace):,} steps, {seconds:.1f} s with compilation"
    )
    print(f"How far to trust it: {posterior.status}", flush=True)
    _write(title, table, posterior, idata, outputs)
    return posterior.status


def _fit(X: pd.DataFrame, K: int, settings: dict[str, Any]) -> tuple[bgmm_jd.Posterior, float]:
    start = time.perf_counter()
    with warnings.catch_warnings():
        # The status is printed under the summary.
        warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
        try:
            posterior = bgmm_jd.fit(X, K, **settings)
        except (ValueError, TypeError) as error:
            if not _was_raised_by_library(error):
                raise
            raise BadInput(str(error)) from None
    return posterior, time.perf_counter() - start


def _was_raised_by_library(error: Exception) -> bool:
    """Return whether this library raised the error, about its input; any other is a defect."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("bgmm_jd.")


def _write(
    title: str, table: Table, posterior: bgmm_jd.Posterior, idata: Any, outputs: Outputs
) -> None:
    _save(idata.to_netcdf, outputs.netcdf, "draws; read them with arviz.from_netcdf")
    ax = bgmm_jd.plot_density(posterior, table.X)
    ax.set_title(title)
    figure: Any = ax.figure
    _save(figure.savefig, outputs.figure, "data, fitted density and components")


def _save(save: Callable[[Path], Any], path: Path, what: str) -> None:
    try:
        save(path)
    except OSError as error:  # a full disk, a file that is open elsewhere
        raise BadInput(f"cannot write {path}: {error}") from None
    print(f"Wrote {path} ({what})", flush=True)
