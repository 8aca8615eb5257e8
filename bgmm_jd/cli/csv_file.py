"""Read a text file of values, as people and programs write them."""

import gzip
import io
import itertools
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from bgmm_jd.cli.csv_layout import (
    BLANKS,
    NO_SEPARATOR,
    Layout,
    layout_of,
    records,
    without_comments,
)
from bgmm_jd.cli.csv_numbers import decimal_mark, missing_spellings, numbers_of
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
    layout = layout_of(lines, header)
    if layout is None:
        raise BadInput(f"{path} is empty.")
    plain = without_comments(lines[layout.skip :])
    frame = _parsed(path, plain, layout)
    notes = _notes(path, layout)
    frame, names = _with_names(path, frame, layout, notes)
    mark, remark = decimal or "", ""
    if not mark:
        texts = [c for _, c in frame.items() if not pd.api.types.is_numeric_dtype(c)]
        mark, remark = decimal_mark(texts, layout.separator)
    notes += [remark] if remark else []

    def place(row: int) -> str:
        found = next(itertools.islice(records(plain, layout.separator), int(row), None))
        return f"line {layout.skip + found.first}"

    return Sheet(path, names, lambda d: numbers_of(frame.iloc[:, d], mark), place, notes)


def _text(path: Path) -> str:
    """Return the text of a file, which may be compressed by gzip."""
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
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


def _parsed(path: Path, lines: list[str], layout: Layout) -> pd.DataFrame:
    """Return the cells: numbers where no comma can be a decimal mark, and otherwise texts."""
    text = "\n".join(lines)
    has_commas = '"' in text if layout.separator == "," else "," in text
    try:
        return pd.read_csv(
            io.StringIO(text),
            sep=layout.separator,
            # Names are not read by pandas, which takes a surplus column for row labels.
            header=None,
            dtype=str if has_commas else None,
            skipinitialspace=True,
            na_values=missing_spellings(),
            keep_default_na=False,
            low_memory=False,  # otherwise pandas warns of columns of mixed types
        )
    except pd.errors.EmptyDataError:
        raise BadInput(f"{path} has no rows of data.") from None
    except pd.errors.ParserError as error:
        found = re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error))
        if found is None:
            raise BadInput(f"cannot read {path}: {error}") from None
        expected, line, seen = map(int, found.groups())
        line += layout.skip
        raise BadInput(f"{path} has {seen} values in line {line}, not {expected}.") from None


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
