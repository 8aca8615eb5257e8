"""`bgmm-jd compare FIT FIT ...`."""

import argparse
from pathlib import Path

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.inputs import FIT_HELP, load_fit, stem_of
from bgmm_jd.cli.messages import errors_of_input, tell
from bgmm_jd.cli.outputs import check_outputs, write
from bgmm_jd.cli.select_command import SHOWN
from bgmm_jd.cli.table import BadInput

SUMMARY = "compare fits of the same rows"
DESCRIPTION = """\
Compare fits of the same rows by evidence and by leave-one-out cross-validation."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `compare`."""
    add = parser.add_argument
    add("fits", metavar="FIT", type=Path, nargs="+", help=FIT_HELP)
    add("-o", "--out", type=Path, metavar="OUT.csv", help="CSV file for the whole table")


def run(arguments: argparse.Namespace) -> bool:
    """Print a table of fits, and write it where asked for."""
    if arguments.out is not None:
        check_outputs([arguments.out], arguments.fits)
    table = comparison_of(arguments.fits)
    tell(table[SHOWN].to_string())
    if arguments.out is not None:
        write(table.to_csv, arguments.out, "the table")
    return True


def comparison_of(paths: list[Path]) -> pd.DataFrame:
    """Return the comparison of fits by the names of their files."""
    names = [stem_of(path) for path in paths]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    if len(set(names)) < len(names):
        raise BadInput(f"each fit must be named once; got {', '.join(names)}.")
    fits = {name: load_fit(path) for name, path in zip(names, paths, strict=True)}
    with errors_of_input():
        return bgmm_jd.compare(fits)
