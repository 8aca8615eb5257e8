"""`bgmm-jd predict`, `report` and `compare`: commands that read fits."""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.fit_command import FILE_HELP
from bgmm_jd.cli.inputs import add_reading, load_fit, rows_for, stem_of
from bgmm_jd.cli.messages import errors_of_input
from bgmm_jd.cli.outputs import check_outputs, write
from bgmm_jd.cli.select_command import SHOWN
from bgmm_jd.cli.table import BadInput

PREDICT = """\
Write the most probable component of each row of a file and the probabilities of all components,
one line for each row, in their order. Columns are found by the names of the fit."""
REPORT = """\
Write a report of a fit as one HTML file: how far to trust it, components, plots, cost, and how to
repeat it."""
COMPARE = """\
Compare fits of the same rows by evidence and by leave-one-out cross-validation."""
_FIT_HELP = "file of a fit, which ends in .fit.nc"


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict`."""
    add = parser.add_argument
    add("fit", metavar="FIT", type=Path, help=_FIT_HELP)
    add("file", metavar="FILE", type=Path, help=FILE_HELP)
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.csv",
        help="CSV file; - for standard output (default: FILE.predicted.csv)",
    )
    add_reading(parser)


def run_predict(arguments: argparse.Namespace) -> bool:
    """Write labels and probabilities of rows."""
    out = arguments.out or Path(stem_of(arguments.file) + ".predicted.csv")
    to_terminal = str(out) == "-"
    if not to_terminal:
        check_outputs([out], [arguments.fit, arguments.file])
    posterior = load_fit(arguments.fit)
    rows = rows_for(posterior, arguments)
    with errors_of_input():
        found = bgmm_jd.predict_proba(posterior, rows)
    labels = posterior.component_names or range(posterior.K)
    table = pd.DataFrame(found, columns=[f"probability_{label}" for label in labels])
    table.insert(0, "component", [labels[k] for k in found.argmax(axis=1)])
    if to_terminal:
        table.to_csv(sys.stdout, index=False, float_format="%.6g")
    else:
        what = "components and their probabilities"
        write(lambda path: table.to_csv(path, index=False, float_format="%.6g"), out, what)
    return True


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    add = parser.add_argument
    add("fit", metavar="FIT", type=Path, help=_FIT_HELP)
    add("file", metavar="FILE", type=Path, nargs="?", help="rows to show (default: of the fit)")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.html",
        help="HTML file (default: as FIT, but ending in .html)",
    )
    add("--title", help="heading (default: the name of the fit)")
    add(
        "--compare",
        type=Path,
        metavar="FIT",
        nargs="+",
        default=[],
        help="fits of the same rows, to compare with",
    )
    add_reading(parser)


def run_report(arguments: argparse.Namespace) -> bool:
    """Write a report."""
    name = stem_of(arguments.fit)
    out = arguments.out or Path(name + ".html")
    sources = [arguments.fit, *([] if arguments.file is None else [arguments.file])]
    check_outputs([out], sources)
    posterior = load_fit(arguments.fit)
    rows = None if arguments.file is None else rows_for(posterior, arguments)
    options: dict[str, Any] = {"title": arguments.title or name}
    if arguments.compare:
        fits = [arguments.fit, *arguments.compare]
        options["comparison"] = _comparison(fits)
    with errors_of_input():
        write(lambda path: bgmm_jd.report(posterior, rows, path=path, **options), out, "report")
    return True


def add_compare(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare`."""
    add = parser.add_argument
    add("fits", metavar="FIT", type=Path, nargs="+", help=_FIT_HELP)
    add("-o", "--out", type=Path, metavar="OUT.csv", help="CSV file for the whole table")


def run_compare(arguments: argparse.Namespace) -> bool:
    """Print a table of fits, and write it where asked for."""
    if arguments.out is not None:
        check_outputs([arguments.out], arguments.fits)
    table = _comparison(arguments.fits)
    print(table[SHOWN].to_string())
    if arguments.out is not None:
        write(table.to_csv, arguments.out, "the table")
    return True


def _comparison(paths: list[Path]) -> pd.DataFrame:
    """Return the comparison of fits by the names of their files."""
    names = [stem_of(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise BadInput(f"each fit must be named once; got {', '.join(names)}.")
    fits = {name: load_fit(path) for name, path in zip(names, paths, strict=True)}
    with errors_of_input():
        return bgmm_jd.compare(fits)
