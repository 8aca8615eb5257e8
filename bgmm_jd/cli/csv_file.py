"""Read a table of numbers from a text file, or say in one sentence why it cannot be used."""

import csv
import itertools
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

_BLANKS = r"\s+"  # pandas' separator for any number of blanks


class BadInput(Exception):
    """An error that the user can correct; its text is the whole message."""


class Table(NamedTuple):
    """Rows [N, D] that were read from a file, and the name of each column."""

    X: np.ndarray
    columns: tuple[str, ...]

    @property
    def frame(self) -> pd.DataFrame:
        """Return the rows with the names of their columns."""
        return pd.DataFrame(self.X, columns=list(self.columns))


class Layout(NamedTuple):
    """How a file is laid out.

    separator : what separates values.
    names : of the columns; None if the file has none.
    skip : number of lines above the data.
    """

    separator: str
    names: list[str] | None
    skip: int


def read_csv(path: Path, columns: str | None = None) -> Table:
    """Read the rows of a text file of numbers.

    Parameters
    ----------
    path : Path
        The file. A first line without any number is taken for the names of the columns.
    columns : str, optional
        The columns to read, by name or by number from 1, separated by commas; by default all.

    Returns
    -------
    Table

    Raises
    ------
    BadInput
        If the file cannot be read, its lines differ in length, one of the columns does not exist
        or has anything but finite numbers, or two of them have the same name.
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
        names = [" ".join(names)]  # one name of several words
    if len(names) != frame.shape[1]:
        raise BadInput(f"{path} has {len(names)} names above {frame.shape[1]} columns.")
    chosen = range(len(names)) if columns is None else _choose(names, columns)
    if columns is None and "" in names:
        raise BadInput(
            f"{path} has no name for column {names.index('') + 1}, which may be a row number. "
            "Name the columns to fit with --columns."
        )
    chosen_names = tuple(names[d] or f"column {d + 1}" for d in chosen)
    if len(set(chosen_names)) < len(chosen_names):
        raise BadInput(
            f"{path} has columns of the same name: {', '.join(chosen_names)}. Rename them, or "
            "leave some out with --columns."
        )
    numbers = [_numbers(path, layout, frame[d], names[d]) for d in chosen]
    return Table(np.stack(numbers, axis=1), chosen_names)


def _layout(path: Path) -> Layout:
    # utf-8-sig, because spreadsheets write a byte order mark before the first name.
    with path.open(encoding="utf-8-sig", newline="") as lines:
        filled = ((skip, line) for skip, line in enumerate(lines) if line.strip())
        skip, line = next(filled, (0, ""))
    if not line:
        raise BadInput(f"{path} is empty.")
    line = line.rstrip("\r\n").removeprefix("#")  # np.savetxt writes "#" before the names
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
            # Names are not read by pandas, which takes a surplus column for row labels.
            header=None,
            skiprows=layout.skip,
            skipinitialspace=True,
            encoding="utf-8-sig",
            low_memory=False,  # otherwise pandas warns of columns of mixed types
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
            f"column '{name}' has no value in line {line}. Remove such lines, or fill in the "
            "values."
        )
    raise BadInput(
        f"column '{name}' has '{cell}' in line {line}, which is not a finite number. "
        "Select columns of numbers with --columns."
    )


def _line_number(path: Path, skip: int, row: int) -> int:
    """Return the line number, from 1, of a row of data; empty lines contain no row."""
    with path.open(encoding="utf-8-sig") as lines:
        numbered = (n for n, line in enumerate(lines, 1) if n > skip and line.strip())
        return next(itertools.islice(numbered, int(row), None))
