"""`bgmm-jd report FIT [FILE]`."""

import argparse
from pathlib import Path
from typing import Any

import bgmm_jd
from bgmm_jd.cli.compare_command import comparison_of
from bgmm_jd.cli.inputs import FIT_HELP, add_reading, load_fit, rows_for, stem_of
from bgmm_jd.cli.messages import errors_of_input
from bgmm_jd.cli.outputs import check_outputs, write

SUMMARY = "write a report of a fit as HTML"
DESCRIPTION = """\
Write a report of a fit as one HTML file: how far to trust it, components, plots, cost, and how to
repeat it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `report`."""
    add = parser.add_argument
    add("fit", metavar="FIT", type=Path, help=FIT_HELP)
    add("file", metavar="FILE", type=Path, nargs="?", help="rows to show (default: of the fit)")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.html",
        help="HTML file (default: FIT.html in the current directory)",
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


def run(arguments: argparse.Namespace) -> bool:
    """Write a report."""
    name = stem_of(arguments.fit)
    out = arguments.out or Path(name + ".html")
    rows_of = [] if arguments.file is None else [arguments.file]
    check_outputs([out], [arguments.fit, *rows_of, *arguments.compare])
    posterior = load_fit(arguments.fit)
    rows = None if arguments.file is None else rows_for(posterior, arguments)
    options: dict[str, Any] = {"title": arguments.title or name}
    if arguments.compare:
        fits = [arguments.fit, *arguments.compare]
        options["comparison"] = comparison_of(fits)
    with errors_of_input():
        write(lambda path: bgmm_jd.report(posterior, rows, path=path, **options), out, "report")
    return True
