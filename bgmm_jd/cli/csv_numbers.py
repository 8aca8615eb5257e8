"""Numbers as people write them: decimal commas, thousands separators, ways to say "missing"."""

import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

# In lower case. Statistical packages, spreadsheets and people write these for "no value".
MISSING = frozenset(
    ("", ".", "-", "--", "?", "na", "n/a", "<na>", "nan", "-nan", "null", "none", "nil", "missing")
) | {f"#{error}" for error in ("n/a", "na", "value!", "div/0!", "ref!", "num!", "name?", "null!")}

_GROUPING = " '\u2019\u00a0\u202f"  # blanks and apostrophes between thousands
_SEPARATORS = {".": f"[,{_GROUPING}]", ",": f"[.{_GROUPING}]"}  # by decimal mark


def _pattern(mark: str) -> str:
    """Return a regular expression of the numbers with a decimal mark.

    "1." is one of them, and "1," is not: it may be a cell and a separator.
    """
    fraction = r"\.\d*" if mark == "." else r",\d+"
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{_SEPARATORS[mark]}\d{{3}})+)"
    return rf"[+-]?(?:{whole}(?:{fraction})?|{re.escape(mark)}\d+)(?:[eE][+-]?\d+)?"


_WITH = {mark: _pattern(mark) for mark in _SEPARATORS}


class Numbers(NamedTuple):
    """A column as numbers.

    values : float64 [N], NaN where a cell is missing or no number.
    missing : bool [N].
    cell : returns the text of a cell.
    """

    values: np.ndarray
    missing: np.ndarray
    cell: Callable[[int], str]

    @property
    def is_text(self) -> bool:
        """Return whether the column is something else than numbers, or empty.

        Fewer than half of its cells are numbers: the others are no mistakes then.
        """
        known = np.count_nonzero(~self.missing)
        numbers = np.count_nonzero(~self.missing & ~np.isnan(self.values))
        return bool(2 * numbers < known or known == 0)


def is_missing(text: str) -> bool:
    """Return whether a cell says that there is no value."""
    return text.strip().lower() in MISSING


def is_number(text: str) -> bool:
    """Return whether a cell is a number, with a decimal point or a decimal comma."""
    return any(re.fullmatch(pattern, text.strip()) for pattern in _WITH.values())


def missing_spellings() -> list[str]:
    """Return the usual spellings of "no value" for a parser that heeds capitals."""
    return sorted({f(m) for m in MISSING for f in (str, str.upper, str.capitalize)} | {"NaN"})


def decimal_mark(columns: Iterable[pd.Series], separator: str) -> tuple[str, str]:
    """Return the decimal mark of a file, "." or ",", and a remark if that is a guess.

    Parameters
    ----------
    columns : that pandas has not read as numbers: of texts, of logical values, of long integers.
    separator : between the values of the file. Beside ";" the decimal mark is usually a comma.
    """
    counts, unclear = {".": 0, ",": 0}, ""
    for column in columns:
        cells = column.dropna().astype(str).str.strip()
        with_point, with_comma = (cells.str.fullmatch(_WITH[mark]) for mark in (".", ","))
        counts["."] += int((with_point & ~with_comma).sum())
        counts[","] += int((with_comma & ~with_point).sum())
        both = cells[with_point & with_comma & cells.str.contains(",", regex=False)]
        unclear = unclear or (both.iloc[0] if len(both) else "")
    if counts[","] or counts["."]:
        return ("," if counts[","] >= counts["."] else "."), ""
    if not unclear:
        return ".", ""
    mark = "," if separator == ";" else "."
    meaning = "a decimal comma" if mark == "," else "a thousands separator"
    other = "." if mark == "," else ","
    return mark, f"the comma in '{unclear}' is read as {meaning}; if not, say --decimal '{other}'."


def numbers_of(column: pd.Series, mark: str) -> Numbers:
    """Return a column of texts, or of numbers already, as numbers with the given decimal mark."""
    if pd.api.types.is_bool_dtype(column):  # TRUE and FALSE are no measurements
        column = column.astype(str)
    if pd.api.types.is_numeric_dtype(column):
        values = column.to_numpy(np.float64, na_value=np.nan)
        return Numbers(values, np.isnan(values), lambda row: str(column.iloc[row]))
    cells = column.astype(object).where(column.notna(), "").astype(str).str.strip()
    missing = cells.str.lower().isin(MISSING)
    written = ~missing & cells.str.fullmatch(_WITH[mark])
    plain = cells[written].str.replace(_SEPARATORS[mark], "", regex=True)
    values = np.full(len(cells), np.nan)
    values[written.to_numpy()] = plain.str.replace(",", ".", regex=False).astype(np.float64)
    infinite = cells.str.fullmatch(r"[+-]?inf(?:inity)?", case=False)
    values[infinite.to_numpy(bool)] = np.inf  # a number, though one that is refused
    return Numbers(values, missing.to_numpy(bool), lambda row: cells.iloc[row])
