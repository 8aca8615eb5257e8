"""`bgmm-jd predict FIT FILE`."""

import argparse
import sys
from pathlib import Path

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.inputs import FILE_HELP, FIT_HELP, add_reading, load_fit, rows_for, stem_of
from bgmm_jd.cli.messages import discard_output, errors_of_input
from bgmm_jd.cli.outputs import check_outputs, write
from bgmm_jd.cli.table import BadInput

SUMMARY = "tell the components of the rows of a file"
DESCRIPTION = """\
Write the most probable component of each row of a file and the probabilities of all components,
one line for each row, in their order. Columns are found by the names of the fit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `predict`."""
    add = parser.add_argument
    add("fit", metavar="FIT", type=Path, help=FIT_HELP)
    add("file", metavar="FILE", type=Path, help=FILE_HELP)
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.csv",
        help="CSV file; - for standard output (default: FILE.predicted.csv in the current "
        "directory)",
    )
    add_reading(parser)


def run(arguments: argparse.Namespace) -> bool:
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
        _print_table(table)
    else:
        what = "components and their probabilities"
        write(lambda path: table.to_csv(path, index=False, float_format="%.6g"), out, what)
    return True


def _print_table(table: pd.DataFrame) -> None:
    """Print a table, or as much of it as the program wants that reads it, such as `head`."""
    stream = sys.stdout
    if stream is None or stream.closed:
        raise BadInput("there is no standard output to write to. Use -o OUT.csv.")
    try:
        table.to_csv(stream, index=False, float_format="%.6g")
        stream.flush()
    except BrokenPipeError:
        discard_output(stream)
    except OSError as error:
        discard_output(stream)
        raise BadInput(f"cannot write to standard output: {error.strerror or error}.") from None
