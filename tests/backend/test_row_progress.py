"""How many rows have been dealt with, on streams of every kind in place of standard error."""

import io
import re
import time
from contextlib import redirect_stderr

import pytest

from bgmm_jd.backend import row_progress
from bgmm_jd.backend.row_progress import with_progress

BLOCKS = [(700, "a"), (700, "b"), (100, "c")]


def test_bar_shows_the_rows_until_all_are_done(terminal):
    with redirect_stderr(terminal):
        found = with_progress(BLOCKS, 1_500, is_shown=True)
        assert [next(found), next(found)] == ["a", "b"]
        time.sleep(0.5)  # it is drawn ten times a second
        assert terminal.screen[0].rstrip().endswith("1,400 of 1,500 rows")
        assert list(found) == ["c"]
    assert terminal.screen == []


def test_bar_is_removed_where_the_rest_is_not_wanted(terminal):
    with redirect_stderr(terminal):
        found = with_progress(BLOCKS, None, is_shown=True)
        next(found)
        found.close()
    assert terminal.screen == []


@pytest.mark.parametrize(("total", "text"), [(1_500, "1,500 of 1,500 rows"), (None, "1,500 rows")])
def test_other_streams_have_a_line_at_the_end(total, text):
    with redirect_stderr(io.StringIO()) as stream:
        assert list(with_progress(BLOCKS, total, is_shown=True)) == ["a", "b", "c"]
    assert re.fullmatch(re.escape(text) + r", 0 s\n", stream.getvalue())


def test_long_work_has_a_line_every_few_seconds(monkeypatch):
    monkeypatch.setattr(row_progress, "SECONDS_BETWEEN", 0.0)
    with redirect_stderr(io.StringIO()) as stream:
        list(with_progress(BLOCKS, None, is_shown=True))
    lines = [line.removesuffix(", 0 s") for line in stream.getvalue().splitlines()]
    assert lines == ["700 rows", "1,400 rows", "1,500 rows", "1,500 rows"]


@pytest.mark.parametrize("is_shown", [True, False])
def test_without_a_stream_or_a_wish_nothing_is_written(is_shown):
    stream = None if is_shown else io.StringIO()
    with redirect_stderr(stream):
        assert list(with_progress(BLOCKS, 1_500, is_shown=is_shown)) == ["a", "b", "c"]
    assert stream is None or stream.getvalue() == ""


def test_closed_stream_is_no_error(terminal):
    with redirect_stderr(terminal):
        found = with_progress(BLOCKS, 1_500, is_shown=True)
        next(found)
        terminal.close()
        assert list(found) == ["b", "c"]
