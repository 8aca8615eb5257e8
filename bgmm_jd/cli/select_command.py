"""`bgmm-jd select FILE -k 1:8`."""

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import bgmm_jd
from bgmm_jd.cli.fit_command import add_fitting, describe, fitting_options, save_fit
from bgmm_jd.cli.inputs import FILE_HELP, FIT_ENDING, add_reading, read_table, stem_of
from bgmm_jd.cli.messages import errors_of_input, tell
from bgmm_jd.cli.outputs import beside, check_figure, check_outputs, write, write_figure

SUMMARY = "choose K and the form of the covariances"
DESCRIPTION = """\
Fit every number of components and form of covariance to the columns of numbers in a file, print a
table that compares them by evidence and by leave-one-out cross-validation, and keep the best."""

SHOWN = ["log_evidence", "log_evidence_se", "elpd_loo", "se", "khat", "status"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("file", metavar="FILE", type=Path, help=FILE_HELP)
    add(
        "-k",
        dest="K",
        type=as_numbers,
        default=range(1, 9),
        metavar="1:8",
        help="numbers of components: from 1 to 8, or some such as 2,4,6 (default: 1:8)",
    )
    add(
        "--covariance",
        metavar="FORM,...",
        default="diag",
        help="forms of the covariances: diag, full, tied, spherical (default: %(default)s)",
    )
    add(
        "-o",
        "--out",
        type=Path,
        metavar="OUT.csv",
        help="the table (default: FILE.selection.csv in the current directory)",
    )
    add("--plot", type=Path, metavar="OUT.png", help="figure (default: as -o, but ending in .png)")
    add(
        "--save",
        type=Path,
        metavar="OUT.fit.nc",
        help="the best fit, for predict, report and compare (default: as -o, ending in .fit.nc)",
    )
    add("--report", type=Path, metavar="OUT.html", help="report of the best fit with the table")
    add_fitting(parser)
    add_reading(parser)


def as_numbers(text: str) -> list[int]:
    """Return the numbers of components in "1:8" (1 to 8) or "2,4,6".

    Raises
    ------
    argparse.ArgumentTypeError
        If the text is neither.
    """
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if found and int(found[1]) <= int(found[2]):
        return list(range(int(found[1]), int(found[2]) + 1))
    if re.fullmatch(r"\d+(,\d+)*", text):
        return list(dict.fromkeys(int(part) for part in text.split(",")))
    raise argparse.ArgumentTypeError(f"must be as 1:8 or 2,4,6; got {text!r}")


def run(arguments: argparse.Namespace) -> bool:
    """Fit all combinations, write the results, and return whether the best fit is good."""
    file: Path = arguments.file
    out = arguments.out or Path(stem_of(file) + ".selection.csv")
    plot = arguments.plot or beside(out, ".png")
    save = arguments.save or beside(out, FIT_ENDING)
    table = read_table(arguments, None, allow_missing=arguments.missing is not None)
    page = [] if arguments.report is None else [arguments.report]
    check_outputs([out, plot, save, *page], [file])
    check_figure(plot)
    forms = list(dict.fromkeys(arguments.covariance.split(",")))
    numbers = ", ".join(map(str, arguments.K))
    describe(file.name, table, f"K = {numbers}, covariance = {', '.join(forms)}")
    with warnings.catch_warnings(), errors_of_input():
        # The status is printed under the table.
        warnings.simplefilter("ignore", bgmm_jd.StatusWarning)
        selection = bgmm_jd.select(table.frame, arguments.K, forms, **fitting_options(arguments))
    best = selection.best
    save_fit(best, save)  # before anything that can fail or be interrupted
    tell(selection.table[SHOWN].to_string())
    tell(f"The best is {selection.table.index[0]}. How far to trust it: {best.status}")
    write(selection.table.to_csv, out, "the table")
    what = "evidence and elpd by number of components"
    write_figure(lambda: bgmm_jd.plot_selection(selection)[0].figure, plot, what)
    title = f"{file.name}: {selection.table.index[0]}"
    shown: dict[str, Any] = {"comparison": selection, "title": title}
    X = table.frame
    for path in page:
        write(lambda target: bgmm_jd.report(best, X, path=target, **shown), path, "report")
    return best.status.good and len(selection.posteriors) == len(arguments.K) * len(forms)
