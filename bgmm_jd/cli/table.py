"""A table of numbers from a file of a user, or one sentence on why it cannot be used."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bgmm_jd.cli.csv_numbers import Numbers

_SHOWN_NAMES = 10
MARGINALIZE = "pass --missing marginalize, which integrates them out"


class BadInput(Exception):
    """An error that the user can correct; its text is the whole message."""


class Table(NamedTuple):
    """Rows [N, D] that were read from a file, the name of each column, and what to say of it."""

    X: np.ndarray
    columns: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pd.DataFrame:
        """Return the rows with the names of their columns."""
        return pd.DataFrame(self.X, columns=list(self.columns))


class Sheet(NamedTuple):
    """All columns of a file.

    path : of the file.
    names : of the columns; "" where one has none.
    numbers : makes numbers of a column, given its position.
    place : names the line or row of a file, for messages, given the position of a row.
    notes : what to say of how the file was read.
    labels : number of columns before the first, which label the rows.
    """

    path: Path
    names: list[str]
    numbers: Callable[[int], Numbers]
    place: Callable[[int], str]
    notes: list[str]
    labels: int = 0


def table_of(
    sheet: Sheet,
    columns: Sequence[str] | None,
    allow_missing: bool,
    *,
    by_number: bool = True,
    advice: str = MARGINALIZE,
) -> Table:
    """Return the columns of numbers, or those that are asked for, or raise BadInput.

    Parameters
    ----------
    columns : names, or numbers from 1 in the file; by default all columns of numbers.
    allow_missing : whether a value may be missing, which is then NaN.
    by_number : whether a column may be given by its number.
    advice : what else to do where a value is missing and must not be.
    """
    positions: Sequence[int] = range(len(sheet.names))
    if columns is not None:
        positions = [_position(sheet, wanted, by_number) for wanted in columns]
        if len(set(positions)) != len(positions):
            raise BadInput(f"--columns must name each column once; got {','.join(columns)}.")
    found = {d: sheet.numbers(d) for d in positions}
    notes = list(sheet.notes)
    if columns is None:
        kept = {d: numbers for d, numbers in found.items() if not numbers.is_text}
        notes += _note_of_text(sheet, [d for d in found if d not in kept])
        found = kept
        _check_unnamed(sheet, list(found))
    if not found:
        raise BadInput(f"{sheet.path} has no column of numbers.")
    names = tuple(_name(sheet, d) for d in found)
    if len(set(names)) < len(names):
        raise BadInput(
            f"{sheet.path} has columns of the same name: {', '.join(names)}. Rename them, or "
            "leave some out with --columns."
        )
    for d, numbers in found.items():
        _check_numbers(sheet, d, numbers)
        _check_missing(sheet, d, numbers, "" if allow_missing else advice)
    return Table(np.stack([n.values for n in found.values()], axis=1), names, tuple(notes))


def as_names(columns: str) -> list[str]:
    """Return the names in a list such as `a,"b, c",3`, with quotes around those with commas."""
    return [name.strip() for name in next(csv.reader([columns], skipinitialspace=True), [""])]


def _position(sheet: Sheet, wanted: str, by_number: bool) -> int:
    """Return the position of a column that is asked for by name or by number, or raise."""
    names = [_name(sheet, d) for d in range(len(sheet.names))]
    if names.count(wanted) > 1:
        raise BadInput(f"{sheet.path} has several columns of the name {wanted!r}. Rename them.")
    if wanted in names:
        return names.index(wanted)
    found = int(wanted) - 1 - sheet.labels if by_number and wanted.isdecimal() else -1
    if not 0 <= found < len(names):
        raise BadInput(f"there is no column {wanted!r}; the file has {', '.join(names)}.")
    return found


def _name(sheet: Sheet, d: int) -> str:
    """Return the name of a column, or its number in the file."""
    return sheet.names[d] or f"column {d + 1 + sheet.labels}"


def _note_of_text(sheet: Sheet, left_out: list[int]) -> list[str]:
    """Return one line on the columns that are no numbers; none if there are none."""
    if not left_out:
        return []
    names = ", ".join(_name(sheet, d) for d in left_out[:_SHOWN_NAMES])
    more = len(left_out) - _SHOWN_NAMES
    names += f" and {more} more" if more > 0 else ""
    noun = "a column" if len(left_out) == 1 else f"{len(left_out)} columns"
    return [f"left out {noun} with fewer than half numbers: {names}."]


def _check_unnamed(sheet: Sheet, positions: list[int]) -> None:
    """Raise if a column has no name where others have one: it may be a row number."""
    unnamed = [d for d in positions if not sheet.names[d]]
    if any(sheet.names) and unnamed:
        raise BadInput(
            f"{sheet.path} has no name for {_name(sheet, unnamed[0])}, which may be a row number. "
            "Name the columns to use with --columns."
        )


def _check_numbers(sheet: Sheet, d: int, numbers: Numbers) -> None:
    """Raise if a value is neither missing nor a finite number."""
    wrong = np.flatnonzero(~numbers.missing & ~np.isfinite(numbers.values))
    if len(wrong):
        raise BadInput(
            f"column '{_name(sheet, d)}' has '{numbers.cell(wrong[0])}' in "
            f"{sheet.place(wrong[0])}, which is not a finite number. Correct "
            "it, or select other columns with --columns."
        )


def _check_missing(sheet: Sheet, d: int, numbers: Numbers, advice: str) -> None:
    """Raise if no value is there, or if there is advice, which forbids that any is missing."""
    name, absent = _name(sheet, d), np.flatnonzero(numbers.missing)
    if len(absent) and advice:
        raise BadInput(
            f"column '{name}' has no value in {sheet.place(absent[0])}. Remove such rows, fill in "
            f"the values, or {advice}."
        )
    if len(absent) == len(numbers.missing):
        raise BadInput(f"column '{name}' has no value at all. Leave it out with --columns.")
