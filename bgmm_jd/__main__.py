"""`python -m bgmm_jd`, the demonstration, and `python -m bgmm_jd fit FILE.csv -k K`."""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import re
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

import bgmm_jd
from bgmm_jd.inference_data import to_inference_data
from bgmm_jd.plots import plot_density

_GOOD, _DOUBTFUL, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130

_BLANKS = r"\s+"  # pandas' word for any number of blanks between values
_FIGURES = (".png", ".pdf", ".svg")
_DRAWS = 1_000
# Up to here the netCDF has the pointwise groups too: `az.loo` and `az.plot_ppc` need them, and
# they hold draws times rows numbers.
_POINTWISE_ROWS = 5_000

_DESCRIPTION = """\
Bayesian Gaussian mixtures. Without a command: the demonstration, which fits two well-known data
sets, prints what it found and writes each fit's figure (PNG) and draws (netCDF)."""


class BadInput(Exception):
    """Something the user can mend; its text is all there is to say."""


class Table(NamedTuple):
    """What was read from a file: rows [N, D], and a name for each column."""

    X: np.ndarray
    columns: tuple[str, ...]


class Outputs(NamedTuple):
    """Where the results go."""

    netcdf: Path
    figure: Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        The exit code: 0 if all went well, 1 if the fit needs attention (its results are written),
        2 for bad input, 130 if it was interrupted before there was anything to keep.
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
        help="directory for the demonstration's files (default: %(default)s)",
    )
    commands = parser.add_subparsers(dest="command", metavar="")
    _add_fit(commands.add_parser("fit", help="fit the rows of a CSV file", description=_FIT))
    return parser


_FIT = """\
Fit a Gaussian mixture to the numeric columns of a CSV file: one row per line, values separated by
commas, semicolons, tabs or blanks, with or without a first line of column names. Ctrl-C ends the
fit and keeps what it has."""


def _add_fit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", metavar="FILE.csv", type=Path)
    add("-k", dest="K", type=int, required=True, metavar="K", help="number of components")
    add("-o", "--out", type=Path, metavar="OUT.nc", help="netCDF file (default: FILE.nc, here)")
    add("--plot", type=Path, metavar="OUT.png", help="figure (default: as -o, ending in .png)")
    add("--columns", metavar="A,B,...", help="fit these columns, by name or number from 1")
    add("--covariance", default="diag", help="form of the covariances (default: %(default)s)")
    add(
        "--batch-size",
        type=int,
        metavar="B",
        help="rows per step (default: chosen by their number)",
    )
    add("--seed", type=int, default=0, help="equal seeds give equal results (default: 0)")


def _demonstrate(arguments: argparse.Namespace) -> int:
    from bgmm_jd import examples

    directory: Path = arguments.directory
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the directory {directory}: {error.strerror}.") from None
    code = _GOOD
    for example in (examples.three_clusters(), examples.old_faithful()):
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
    settings = {"covariance": arguments.covariance, "seed": arguments.seed}
    if arguments.batch_size is not None:
        settings["batch_size"] = arguments.batch_size
    status = _fit_table(file.name, table, arguments.K, settings, outputs)
    return _GOOD if status.good else _DOUBTFUL


def _check_outputs(outputs: Outputs, source: Path | None = None) -> None:
    """Before the fit, not after it, a place that cannot be written to is found out."""
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
    """Fit, print, write; return how the fit went."""
    N, D = table.X.shape
    print(f"{title}: {N:,} rows x {D} features, K = {K}", flush=True)
    print("features: " + ", ".join(f"{d} {name}" for d, name in enumerate(table.columns)))
    posterior, seconds = _fit(table.X, K, settings)
    idata = to_inference_data(
        posterior, table.X if N <= _POINTWISE_ROWS else None, _DRAWS, settings.get("seed", 0)
    )
    import arviz as az  # after to_inference_data, which keeps arviz 0.23's daily notice quiet

    # The draws are independent: diagnostics of Markov chains would say nothing about the fit.
    print(az.summary(idata, kind="stats").to_string())
    print(
        f"elbo {posterior.elbo:,.2f} +/- {posterior.elbo_se:.2f} nats, k-hat {posterior.khat:.2f}, "
        f"{len(posterior.elbo_trace):,} steps, {seconds:.1f} s with compilation"
    )
    print(f"How far to trust it: {posterior.status}", flush=True)
    _write(title, table, posterior, idata, outputs)
    return posterior.status


def _fit(X: np.ndarray, K: int, settings: dict[str, Any]) -> tuple[bgmm_jd.Posterior, float]:
    start = time.perf_counter()
    with warnings.catch_warnings():
        # The same sentence is printed under the summary.
        for status in bgmm_jd.Status:
            warnings.filterwarnings("ignore", re.escape(str(status)), RuntimeWarning)
        try:
            posterior = bgmm_jd.fit(X, K, **settings)
        except (ValueError, TypeError) as error:
            if not _at_the_door(error):
                raise
            raise BadInput(str(error)) from None
    return posterior, time.perf_counter() - start


def _at_the_door(error: Exception) -> bool:
    """Whether this library raised the error, of what it was given; any other is a defect."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_globals["__name__"].startswith("bgmm_jd.")


def _write(
    title: str, table: Table, posterior: bgmm_jd.Posterior, idata: Any, outputs: Outputs
) -> None:
    _save(idata.to_netcdf, outputs.netcdf, "draws; arviz.from_netcdf reads them")
    ax = plot_density(posterior, table.X, names=table.columns)
    ax.set_title(title)
    figure: Any = ax.figure
    _save(figure.savefig, outputs.figure, "data, fitted density, components")


def _save(save: Callable[[Path], Any], path: Path, what: str) -> None:
    try:
        save(path)
    except OSError as error:  # a full disk, a file that is open elsewhere
        raise BadInput(f"cannot write {path}: {error}") from None
    print(f"Wrote {path} ({what})", flush=True)


class Layout(NamedTuple):
    """How a file is laid out: what separates values, names (or None), lines above the data."""

    separator: str
    names: list[str] | None
    skip: int


def read_csv(path: Path, columns: str | None = None) -> Table:
    """Read the rows of a file of numbers.

    Parameters
    ----------
    path : Path
        A first line without any number holds the names of the columns.
    columns : str, optional
        The columns wanted, by name or by number from 1, separated by commas; by default all.

    Raises
    ------
    BadInput
        If the file cannot be read, its lines differ in length, or a wanted column is not there
        or holds anything but finite numbers.
    """
    try:
        layout = _layout(path)
        frame = _parse(path, layout)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise BadInput(f"cannot read {path}: it is not text in UTF-8.") from None
    names = layout.names or [f"column {d + 1}" for d in range(frame.shape[1])]
    if layout.separator == _BLANKS and frame.shape[1] == 1:
        names = [" ".join(names)]  # of several words
    if len(names) != frame.shape[1]:
        raise BadInput(f"{path} has {len(names)} names above {frame.shape[1]} columns.")
    chosen = range(len(names)) if columns is None else _choose(names, columns)
    if columns is None and "" in names:
        raise BadInput(
            f"{path} has no name for column {names.index('') + 1}, which may be a row number. "
            "Name the columns to fit with --columns."
        )
    numbers = [_numbers(path, layout, frame[d], names[d]) for d in chosen]
    return Table(np.stack(numbers, axis=1), tuple(names[d] for d in chosen))


def _layout(path: Path) -> Layout:
    # utf-8-sig: spreadsheets put a byte order mark before the first name
    with path.open(encoding="utf-8-sig", newline="") as lines:
        filled = ((skip, line) for skip, line in enumerate(lines) if line.strip())
        skip, line = next(filled, (0, ""))
    if not line:
        raise BadInput(f"{path} is empty.")
    line = line.rstrip("\r\n").removeprefix("#")  # which np.savetxt puts before the names
    separator = next((s for s in ("\t", ";", ",") if s in line), _BLANKS)
    if separator == _BLANKS:
        cells = line.split()
    else:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=separator))]
    if any(map(_is_number, cells)):
        return Layout(separator, None, skip)
    return Layout(separator, cells, skip + 1)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parse(path: Path, layout: Layout) -> pd.DataFrame:
    try:
        return pd.read_csv(
            path,
            sep=layout.separator,
            # Not pandas' own reading of names, which takes a surplus column for row labels.
            header=None,
            skiprows=layout.skip,
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,  # which would warn of columns of mixed types
        )
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} has no rows of data.") from None
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise BadInput(f"cannot read {path}: {error}") from None
        expected, line, seen = found.groups()
        raise BadInput(f"{path} has {seen} values in line {line}, not {expected}.") from None


def _choose(names: list[str], columns: str) -> list[int]:
    chosen = []
    for wanted in (part.strip() for part in columns.split(",")):
        if wanted in names:
            chosen.append(names.index(wanted))
        elif wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            chosen.append(int(wanted) - 1)
        else:
            raise BadInput(f"there is no column {wanted!r}; the file has {', '.join(names)}.")
    if len(set(chosen)) != len(chosen):
        raise BadInput(f"--columns must name each column once; got {columns}.")
    return chosen


def _numbers(path: Path, layout: Layout, column: pd.Series, name: str) -> np.ndarray:
    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if not len(bad):
        return values
    cell, line = column.iloc[bad[0]], _line_number(path, layout.skip, bad[0])
    if pd.isna(cell):
        raise BadInput(
            f"column '{name}' has no value in line {line}. Remove such lines, or fill them in."
        )
    raise BadInput(
        f"column '{name}' has '{cell}' in line {line}, which is not a finite number. "
        "Choose columns of numbers with --columns."
    )


def _line_number(path: Path, skip: int, row: int) -> int:
    """The line, from 1, of a row of data: lines that are empty hold none."""
    with path.open(encoding="utf-8-sig") as lines:
        numbered = (n for n, line in enumerate(lines, 1) if n > skip and line.strip())
        return next(itertools.islice(numbered, int(row), None))


if __name__ == "__main__":
    sys.exit(main())
