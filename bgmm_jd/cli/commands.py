"""The command line: `bgmm-jd COMMAND`, and `python -m bgmm_jd` with its demonstration."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import bgmm_jd
from bgmm_jd.cli import (
    compare_command,
    fit_command,
    predict_command,
    report_command,
    select_command,
)
from bgmm_jd.cli.demonstration import demonstrate
from bgmm_jd.cli.messages import open_missing_streams, say, warnings_as_lines
from bgmm_jd.cli.table import BadInput

_GOOD, _DOUBTFUL, _BAD_INPUT, _INTERRUPTED = 0, 1, 2, 130

_MODULES = {
    "fit": fit_command,
    "select": select_command,
    "predict": predict_command,
    "report": report_command,
    "compare": compare_command,
}

_DEMONSTRATION = """\
Fit Bayesian Gaussian mixtures. Without a command, run a demonstration: fit two well-known data
sets, print summaries, and write a figure (PNG) and posterior draws (netCDF) of each fit."""
_COMMANDS = "Fit Bayesian Gaussian mixtures to the rows of a file."
_CODES = """\
exit codes: 0 good; 1 the fit needs attention, and its results are written; 2 bad input; 130 Ctrl-C
before all results were written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, with a demonstration where there is no command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; by default those of the process.

    Returns
    -------
    int
        The exit code: 0 for a good fit; 1 if a fit needs attention, in which case its results are
        written; 2 for bad input; 130 after Ctrl-C before all results were written.
    """
    parser = _parser("python -m bgmm_jd", _DEMONSTRATION)
    parser.add_argument(
        "--out",
        dest="directory",
        metavar="DIR",
        type=Path,
        default=Path("bgmm_jd-demo"),
        help="directory for the files of the demonstration (default: %(default)s)",
    )
    parser.set_defaults(run=lambda arguments: demonstrate(arguments.directory))
    return _run(parser, argv)


def bgmm_jd_command(argv: Sequence[str] | None = None) -> int:
    """Run the command `bgmm-jd`, which prints its help where it is given no command.

    Parameters and the exit code are those of `main`.
    """
    parser = _parser("bgmm-jd", _COMMANDS)

    def show_help(arguments: argparse.Namespace) -> bool:
        parser.print_help()
        raise BadInput("say which command to run, such as `bgmm-jd fit FILE -k 3`.")

    parser.set_defaults(run=show_help)
    return _run(parser, argv)


def _run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    open_missing_streams()
    arguments = parser.parse_args(argv)
    try:
        with warnings_as_lines():
            return _GOOD if arguments.run(arguments) else _DOUBTFUL
    except BadInput as error:
        say(str(error))
        return _BAD_INPUT
    except KeyboardInterrupt:
        say("interrupted.")
        return _INTERRUPTED


def _parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of all commands; `run` of what it returns carries one out."""
    parser = argparse.ArgumentParser(prog=name, description=description, epilog=_CODES)
    parser.add_argument("--version", action="version", version=bgmm_jd.__version__)
    commands = parser.add_subparsers(metavar="COMMAND")
    for command, module in _MODULES.items():
        one = commands.add_parser(
            command, help=module.SUMMARY, description=module.DESCRIPTION, epilog=_CODES
        )
        module.add_arguments(one)
        one.set_defaults(run=module.run)
    return parser
