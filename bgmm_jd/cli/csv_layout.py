"""How a text file of values is laid out: separator, names, units, comments."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from bgmm_jd.cli.csv_numbers import is_missing, is_number

BLANKS = r"\s+"  # pandas' separator for any number of blanks
NO_SEPARATOR = "\x1f"  # a single column: a character that no file has
_SEPARATORS = ("\t", ";", ",", "|", BLANKS)
_SAMPLE = 50  # lines that decide on the separator
_OPENED = re.compile(
    r'(?:^|[,;|\s])"(?:[^"]|"")*$'
)  # a quote before a value, not closed in its line
_QUOTED = re.compile(r'(^|[,;|\s])"(?:[^"]|"")*"')
_CLOSING = re.compile(r'^(?:[^"]|"")*"')


class Record(NamedTuple):
    """The cells of one row of a file, and the lines that it takes, from 1."""

    cells: list[str]
    first: int
    last: int


class Layout(NamedTuple):
    """How a file is laid out.

    separator : what separates values.
    names : of the columns; None if the file has none.
    units : the cells of a line of units under the names; None if there is none.
    first : the cells of the first line of data.
    skip : number of lines above the data.
    """

    separator: str
    names: list[str] | None
    units: list[str] | None
    first: list[str]
    skip: int


def without_comments(lines: Sequence[str]) -> list[str]:
    """Return the lines with empty ones in place of comments."""
    plain = list(lines)
    for position in comments(lines):
        plain[position] = ""
    return plain


def comments(lines: Sequence[str]) -> list[int]:
    """Return the positions of the comments, which begin with "#" outside quotes."""
    found = [position for position, line in enumerate(lines) if _is_comment(line)]
    outside, is_open, before = [], False, 0
    for position in found:
        for line in lines[before:position]:
            is_open = _leaves_quotes_open(line, is_open) if '"' in line else is_open
        if not is_open:
            outside.append(position)
        before = position + (not is_open)  # what is no comment may close the quotes
    return outside


def _leaves_quotes_open(line: str, is_open: bool) -> bool:
    """Return whether a value in quotes goes on in the next line, given whether one does here."""
    if is_open:
        closing = _CLOSING.match(line)
        if closing is None:
            return True
        line = line[closing.end() :]
    return _OPENED.search(_QUOTED.sub(r"\1", line)) is not None


def _is_comment(line: str) -> bool:
    """Return whether a line begins with "#", other than that of a spreadsheet's "#N/A"."""
    if not line.lstrip().startswith("#"):
        return False
    return not is_missing(re.split(r"[,;|\t ]", line.lstrip(), maxsplit=1)[0])


def layout_of(
    lines: Sequence[str], header: bool = False, decimal: str | None = None
) -> Layout | None:
    """Return how a file is laid out; None if it has nothing but comments and empty lines.

    Parameters
    ----------
    lines : of the file, without their ends.
    header : whether the first line has the names, even if these are numbers.
    decimal : the decimal mark, where it is known.
    """
    plain = without_comments(lines)
    separator = _separator(plain, decimal)
    filled = (record for record in records(plain, separator) if any(record.cells))
    first, second, third = (*islice(filled, 3), None, None, None)[:3]
    if first is None:
        return None
    names, units, skip = None, None, first.first - 1
    if header or _is_header(first.cells, second.cells if second else []):
        names, skip = first.cells, first.last
        if second and third and _is_units(second.cells, third.cells):
            units, skip = second.cells, second.last
    else:
        names = _names_in_comment(lines[: first.first - 1], separator, len(first.cells))
    return Layout(separator, names, units, first.cells, skip)


def records(lines: Sequence[str], separator: str) -> Iterator[Record]:
    """Yield the rows of a file, of which one may take several lines within quotes.

    As pandas does, it passes over empty lines, but not over those of empty cells.
    """
    if separator == BLANKS:
        lines = [" ".join(line.split()) for line in lines]
    delimiter = " " if separator == BLANKS else separator
    reader = csv.reader((line + "\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
    before = 0
    for cells in reader:
        cells = [" ".join(cell.split()) for cell in cells]
        after = reader.line_num
        # `""` alone in a line is an empty cell.
        if cells not in ([], [""]) or any(map(str.strip, lines[before:after])):
            yield Record(cells, before + 1, after)
        before = after


def usual_width(widths: Iterable[int]) -> int:
    """Return the most frequent number of cells of a row, the largest of equally frequent ones."""
    return max((count, width) for width, count in Counter(widths).items())[1]


def _separator(lines: Sequence[str], decimal: str | None) -> str:
    """Return the separator by which most rows have equal lengths and most cells are numbers."""
    sample = [line for line in lines[: 20 * _SAMPLE] if line.strip()][:_SAMPLE]
    separators = [*_SEPARATORS]
    if decimal == ",":  # the last resort then, and none if all commas are in numbers
        separators.remove(",")
        separators += [","] if "," in re.sub(r"(?<=\d),(?=\d)", "", "\n".join(sample)) else []
    scores = {separator: _score(sample, separator) for separator in separators}
    best = max(separators, key=scores.__getitem__)  # the first of equal ones
    return best if scores[best] > 0.0 else NO_SEPARATOR


def _score(sample: list[str], separator: str) -> float:
    """Return the share of rows of the usual length, times 1 + that of numbers among the cells.

    Numbers do not count in the first row, which may have names. 0 if a row is usually a single
    cell, or commas are in the numbers only, where they are decimal marks.
    """
    rows = [record.cells for record in records(sample, separator)]
    if not rows or (separator == "," and len(rows[0]) == 1):
        return 0.0
    width = usual_width(map(len, rows))
    usual = sum(len(row) == width for row in rows)
    if width == 1:
        return 0.0
    cells = [cell for row in rows[1:] or rows for cell in row if not is_missing(cell)]
    numbers = sum(map(is_number, cells)) / max(len(cells), 1)
    return usual / len(rows) * (1.0 + numbers)


def _is_text(cell: str) -> bool:
    return not is_number(cell) and not is_missing(cell)


def _is_header(first: list[str], second: list[str]) -> bool:
    """Return whether a first row has names: no number, or a text above a number."""
    if not any(map(_is_text, first)):
        return False
    pairs = zip(first, second, strict=False)
    return not any(map(is_number, first)) or any(_is_text(a) and is_number(b) for a, b in pairs)


def _is_units(row: list[str], following: list[str]) -> bool:
    """Return whether a row under the names has units: texts where numbers follow."""
    pairs = zip(row, following, strict=False)
    return not any(map(is_number, row)) and any(_is_text(a) and is_number(b) for a, b in pairs)


def _names_in_comment(above: Sequence[str], separator: str, width: int) -> list[str] | None:
    """Return the names in the last comment above the data, as `numpy.savetxt` writes them."""
    remarks = [line for line in above if _is_comment(line)]
    if not remarks:
        return None
    found = _cells_of_comment(remarks[-1], separator)
    return found if len(found) == width else None


def _cells_of_comment(line: str, separator: str) -> list[str]:
    """Return the cells of a comment without its "#"; none if it is empty."""
    text = re.sub("^#+ ?", "", line.lstrip())
    return next((record.cells for record in records([text], separator)), [])


def looks_like_row(comment: str, separator: str, width: int) -> bool:
    """Return whether a comment may be a row of the table: it has as many cells, and a number."""
    cells = _cells_of_comment(comment, separator)
    return len(cells) == width and any(map(is_number, cells))
