"""What the commands read: tables of rows, and fits."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import bgmm_jd
from bgmm_jd.cli.csv_file import read_csv
from bgmm_jd.cli.messages import errors_of_input, say
from bgmm_jd.cli.parquet_file import is_parquet, read_parquet
from bgmm_jd.cli.table import MARGINALIZE, BadInput, Table, as_names, table_of

FIT_ENDING = ".fit.nc"
FILE_HELP = "CSV file, which may be compressed by gzip, or parquet file, with the rows"
_FIT_AGAIN = "fit again with --missing marginalize, without which the fit was made"
FIT_HELP = f"file of a fit, which ends in {FIT_ENDING}"


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options on how a file of rows is read."""
    add = parser.add_argument
    add(
        "--columns",
        metavar="A,B,...",
        help="columns to use, by name, or by number in the file, where the first is 1 even if it "
        "labels the rows; quote a name with commas: '\"a, b\",c'",
    )
    add(
        "--header",
        action="store_true",
        help="the first line has the names of the columns, even if they are numbers",
    )
    add(
        "--decimal",
        choices=[".", ","],
        help="decimal mark (default: what the numbers show)",
    )


def read_table(
    arguments: argparse.Namespace,
    columns: Sequence[str] | None,
    allow_missing: bool,
    advice: str = MARGINALIZE,
) -> Table:
    """Read the rows of a file, and say how where that is not obvious.

    Parameters
    ----------
    arguments : with `file`, and those of `add_reading`.
    columns : names of those to use if `--columns` says none; by default all that hold numbers.
    allow_missing : whether a value may be missing.
    advice : what to do about a missing value, other than to remove it or fill it in.
    """
    path: Path = arguments.file
    if is_parquet(path):
        sheet = read_parquet(path)
    else:
        sheet = read_csv(path, header=arguments.header, decimal=arguments.decimal)
    by_number = arguments.columns is not None
    asked = as_names(arguments.columns) if by_number else columns
    table = table_of(sheet, asked, allow_missing, by_number=by_number, advice=advice)
    for note in table.notes:
        say(f"note: {note}")
    return table


def rows_for(posterior: bgmm_jd.Posterior, arguments: argparse.Namespace) -> pd.DataFrame:
    """Read the rows that a fit is applied to.

    Columns are found by the names of the fit, or taken in the order of `--columns`.
    """
    names = posterior.feature_names
    table = read_table(arguments, names, posterior.missing is not None, _FIT_AGAIN)
    if names is not None and len(table.columns) == len(names):
        return pd.DataFrame(table.X, columns=list(names))
    return table.frame


def load_fit(path: Path) -> bgmm_jd.Posterior:
    """Load a fit, or raise BadInput."""
    try:
        with errors_of_input():
            return bgmm_jd.load(path)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}.") from None
    except BadInput as error:
        raise BadInput(
            f"{error} Give the file that `bgmm-jd fit` has written, which ends in {FIT_ENDING}."
        ) from None


def stem_of(path: Path) -> str:
    """Return the name of a file without its endings, such as `.csv.gz` or `.fit.nc`."""
    name = path.name.removesuffix(".gz")
    return name.removesuffix(FIT_ENDING) if name.endswith(FIT_ENDING) else Path(name).stem
