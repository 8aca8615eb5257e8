"""Read a text file of values, as people and programs write them."""

import csv
import io
import itertools
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bgmm_jd.cli.csv_layout import (
    BLANKS,
    NO_SEPARATOR,
    Layout,
    comments,
    layout_of,
    looks_like_row,
    records,
    usual_width,
    without_comments,
)
from bgmm_jd.cli.csv_numbers import decimal_mark, missing_spellings, numbers_of
from bgmm_jd.cli.size_limits import decompressed
from bgmm_jd.cli.table import BadInput, Sheet

_GZIP = b"\x1f\x8b"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_EMPTY_CELLS = " \t,;|"  # all that is in the empty lines at the end of a spreadsheet


def read_csv(path: Path, *, header: bool = False, decimal: str | None = None) -> Sheet:
    """Read all columns of a text file.

    Parameters
    ----------
    path : Path
    header : bool
        Whether the first line has the names of the columns, even if these are numbers.
    decimal : {".", ","}, optional
        The decimal mark; by default what the numbers of the file show.

    Raises
    ------
    BadInput
        If the file cannot be read, or its lines differ in length.
    """
    lines = _text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip(_EMPTY_CELLS):
        lines.pop()
    try:
        layout = layout_of(lines, header, decimal)
    except csv.Error as error:
        raise BadInput(f"cannot read {path}: a quote may not be closed ({error}).") from None
    if layout is None:
        raise BadInput(f"{path} is empty.")
    below = lines[layout.skip :]
    plain = without_comments(below)
    frame = _parsed(path, plain, layout, decimal)
    notes = _notes(path, layout) + _note_of_comments(below, layout, frame.shape[1])
    frame, names = _with_names(path, frame, layout, notes)
    mark, remark = decimal or "", ""
    if not mark:
        texts = [c for _, c in frame.items() if not pd.api.types.is_numeric_dtype(c)]
        mark, remark = decimal_mark(texts, layout.separator)
    notes += [remark] if remark else []

    def place(row: int) -> str:
        found = next(itertools.islice(records(plain, layout.separator), int(row), None))
        return f"line {layout.skip + found.first}"

    left_out = int(frame.columns[0]) if len(frame.columns) else 0
    return Sheet(path, names, lambda d: numbers_of(frame.iloc[:, d], mark), place, notes, left_out)


def _text(path: Path) -> str:
    """Return the text of a file, which may be compressed by gzip."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = decompressed(path, data)
    except (EOFError, zlib.error) as error:
        raise BadInput(f"cannot read {path}: it is no complete gzip file ({error}).") from None
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}.") from None
    # utf-8-sig, because spreadsheets write a byte order mark before the first name.
    encoding = "utf-16" if data.startswith(_UTF_16) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        raise BadInput(
            f"cannot read {path}: it is not text in UTF-8. Save it as CSV in UTF-8."
        ) from None


def _parsed(path: Path, lines: list[str], layout: Layout, decimal: str | None) -> pd.DataFrame:
    """Return the cells: numbers where no comma can be a decimal mark, and otherwise texts."""
    text = "\n".join(lines)
    has_commas = '"' in text if layout.separator == "," else "," in text
    as_text = has_commas or decimal == ","
    try:
        try:
            frame = _cells(text, layout.separator, as_text, None)
        except pd.errors.ParserError as error:
            if "Expected" not in str(error):
                raise
            frame = _cells(text, layout.separator, as_text, _width(path, lines, layout))
        if frame.iloc[:, -1].isna().any():  # as a short row leaves it
            _width(path, lines, layout)
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} has no rows of data.") from None
    except (pd.errors.ParserError, csv.Error) as error:
        raise BadInput(f"cannot read {path}: {error}") from None
    return frame


def _cells(text: str, separator: str, as_text: bool, width: int | None) -> pd.DataFrame:
    """Return the cells of a text, of as many columns as its first line has unless that is given."""
    return pd.read_csv(
        io.StringIO(text),
        sep=separator,
        # Names are not read by pandas, which takes a surplus column for row labels.
        header=None,
        names=None if width is None else range(width),
        index_col=False if width is not None else None,
        dtype=str if as_text else None,
        skipinitialspace=True,
        na_values=missing_spellings(),
        keep_default_na=False,
        low_memory=False,  # otherwise pandas warns of columns of mixed types
    )


def _width(path: Path, lines: list[str], layout: Layout) -> int:
    """Return the largest number of cells of a row; raise if a row is shorter or longer than usual.

    A separator may be at the end of some rows only, which leaves an empty cell there.
    """
    rows = [
        (record.first, len(record.cells), not record.cells[-1])
        for record in records(lines, layout.separator)
    ]
    widths = [width for _, width, _ in rows]
    # The names count too, which decides where only two rows differ.
    usual = usual_width([*widths, *([] if layout.names is None else [len(layout.names)])])
    ends = sum(is_empty for _, width, is_empty in rows if width == usual)
    has_ends = 2 * ends > widths.count(usual)
    for line, width, is_empty in rows:
        longer = width == usual + 1 and is_empty
        shorter = width == usual - 1 and has_ends
        if width != usual and not longer and not shorter:
            raise BadInput(
                f"{path} has {width} value{'s' if width > 1 else ''} in line "
                f"{layout.skip + line}, not {usual}."
            )
    return max(widths)


def _note_of_comments(lines: list[str], layout: Layout, width: int) -> list[str]:
    """Return one line on the comments that look like rows of the table; none without them."""
    found = (lines[position] for position in comments(lines))
    count = sum(looks_like_row(line, layout.separator, width) for line in found)
    if not count:
        return []
    which = "a line that begins" if count == 1 else f"{count:,} lines that begin"
    return [f"left out {which} with #, with as many values as a row has."]


def _notes(path: Path, layout: Layout) -> list[str]:
    """Return what to say of names and units."""
    if layout.units is not None:
        return [f"the line under the names, '{','.join(layout.units)}', is read as units."]
    if layout.names is None:
        first = ",".join(layout.first)
        return [
            f"{path} has no names of columns: its first line, '{first}', is read as data. If it "
            "has the names, say --header."
        ]
    return []


def _with_names(
    path: Path, frame: pd.DataFrame, layout: Layout, notes: list[str]
) -> tuple[pd.DataFrame, list[str]]:
    """Return the columns and their names, without empty columns at the end and row labels."""
    width = frame.shape[1]
    names = layout.names
    if names is None:
        return frame, [f"column {d + 1}" for d in range(width)]
    names = list(names)
    if layout.separator in (BLANKS, NO_SEPARATOR) and width == 1:
        names = [" ".join(names)]  # one name of several words
    while len(names) > width and not names[-1]:
        names.pop()
    while width and frame.iloc[:, width - 1].isna().all() and not "".join(names[width - 1 :]):
        width -= 1  # a separator at the end of each line
        names = names[:width]
    frame = frame.iloc[:, :width]
    labelled = len(names) == width - 1  # as R writes its row names
    if labelled and _are_labels(frame.iloc[:, 0]):
        names = ["", *names]
    if len(names) != width:
        raise BadInput(
            f"{path} has {len(names)} names above {width} columns. If lines stand above the names, "
            "begin them with #."
        )
    if names and not names[0] and _are_labels(frame.iloc[:, 0]):
        notes.append("the first column, which has no name, is read as labels of the rows.")
        return frame.iloc[:, 1:], names[1:]
    return frame, names


def _are_labels(column: pd.Series) -> bool:
    """Return whether a column without a name labels the rows: texts, or ascending whole numbers."""
    numbers = numbers_of(column, ".")
    if numbers.is_text:
        return True
    values = numbers.values
    return bool((values == np.round(values)).all() and (np.diff(values) > 0).all())
