"""A table of numbers from a file of a user, or one sentence on why it cannot be used."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from bgmm_jd.cli.csv_numbers import Numbers

_SHOWN_NAMES = 10


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
    """

    path: Path
    names: list[str]
    numbers: Callable[[int], Numbers]
    place: Callable[[int], str]
    notes: list[str]


def table_of(sheet: Sheet, columns: Sequence[str] | None, allow_missing: bool) -> Table:
    """Return the columns of numbers, or those that are asked for, or raise BadInput.

    Parameters
    ----------
    columns : names or numbers from 1; by default all columns of numbers.
    allow_missing : whether a value may be missing, which is then NaN.
    """
    positions = range(len(sheet.names)) if columns is None else _chosen(sheet.names, columns)
    found = {d: sheet.numbers(d) for d in positions}
    notes = list(sheet.notes)
    if columns is None:
        kept = {d: numbers for d, numbers in found.items() if not numbers.is_text}
        notes += _note_of_text(sheet, [d for d in found if d not in kept])
        found = kept
        _check_unnamed(sheet, list(found))
    if not found:
        raise BadInput(f"{sheet.path} has no column of numbers.")
    names = tuple(_name(sheet.names, d) for d in found)
    if len(set(names)) < len(names):
        raise BadInput(
            f"{sheet.path} has columns of the same name: {', '.join(names)}. Rename them, or "
            "leave some out with --columns."
        )
    for d, numbers in found.items():
        _check_numbers(sheet, d, numbers, allow_missing)
    return Table(np.stack([n.values for n in found.values()], axis=1), names, tuple(notes))


def as_names(columns: str) -> list[str]:
    """Return the names in a list such as `a,"b, c",3`, with quotes around those with commas."""
    return [name.strip() for name in next(csv.reader([columns], skipinitialspace=True), [""])]


def _chosen(names: list[str], columns: Sequence[str]) -> list[int]:
    chosen = []
    for wanted in columns:
        if wanted in names:
            chosen.append(names.index(wanted))
        elif wanted.isdecimal() and 1 <= int(wanted) <= len(names):
            chosen.append(int(wanted) - 1)
        elif wanted in (numbered := [_name(names, d) for d in range(len(names))]):
            chosen.append(numbered.index(wanted))
        else:
            raise BadInput(f"there is no column {wanted!r}; the file has {', '.join(names)}.")
    if len(set(chosen)) != len(chosen):
        raise BadInput(f"--columns must name each column once; got {','.join(columns)}.")
    return chosen


def _name(names: list[str], d: int) -> str:
    return names[d] or f"column {d + 1}"


def _note_of_text(sheet: Sheet, left_out: list[int]) -> list[str]:
    """Return one line on the columns that are no numbers; none if there are none."""
    if not left_out:
        return []
    names = ", ".join(_name(sheet.names, d) for d in left_out[:_SHOWN_NAMES])
    more = len(left_out) - _SHOWN_NAMES
    names += f" and {more} more" if more > 0 else ""
    noun = "a column" if len(left_out) == 1 else f"{len(left_out)} columns"
    return [f"left out {noun} without numbers: {names}."]


def _check_unnamed(sheet: Sheet, positions: list[int]) -> None:
    """Raise if a column has no name where others have one: it may be a row number."""
    unnamed = [d for d in positions if not sheet.names[d]]
    if any(sheet.names) and unnamed:
        raise BadInput(
            f"{sheet.path} has no name for column {unnamed[0] + 1}, which may be a row number. "
            "Name the columns to use with --columns."
        )


def _check_numbers(sheet: Sheet, d: int, numbers: Numbers, allow_missing: bool) -> None:
    name = _name(sheet.names, d)
    wrong = np.flatnonzero(~numbers.missing & ~np.isfinite(numbers.values))
    if len(wrong):
        raise BadInput(
            f"column '{name}' has '{numbers.cell(wrong[0])}' in {sheet.place(wrong[0])}, which is "
            "not a finite number. Correct it, or select other columns with --columns."
        )
    absent = np.flatnonzero(numbers.missing)
    if len(absent) and not allow_missing:
        raise BadInput(
            f"column '{name}' has no value in {sheet.place(absent[0])}. Remove such rows, fill in "
            "the values, or pass --missing marginalize, which integrates them out."
        )
    if len(absent) == len(numbers.missing):
        raise BadInput(f"column '{name}' has no value at all. Leave it out with --columns.")
