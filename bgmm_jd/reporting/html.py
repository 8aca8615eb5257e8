"""Pieces of HTML, in which every text of the user is escaped, and the page that holds them."""

import html
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

_HEAD = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<main>
"""
_FOOT = "</main>\n</body>\n</html>\n"


class Section(NamedTuple):
    """A part of the page: its heading and what stands under it, as HTML."""

    heading: str
    body: str


def page(title: str, lead: str, sections: Iterable[Section]) -> str:
    """Return a whole page, which needs no other file and no script."""
    style = resources.files("bgmm_jd.reporting").joinpath("report.css").read_text("utf-8")
    parts = [
        _HEAD.format(title=escaped(title), style=style),
        f'<h1>{escaped(title)}</h1>\n<p class="lead">{escaped(lead)}</p>\n',
        *(f"<section>\n<h2>{escaped(s.heading)}</h2>\n{s.body}</section>\n" for s in sections),
        _FOOT,
    ]
    return "".join(parts)


def escaped(text: object) -> str:
    """Return a text in which no character is read as HTML."""
    return html.escape(str(text))


def paragraph(text: str) -> str:
    """Return a paragraph of plain text."""
    return f"<p>{escaped(text)}</p>\n"


def code(text: str) -> str:
    """Return lines of code."""
    return f"<pre><code>{escaped(text)}</code></pre>\n"


def definitions(facts: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and what they are."""
    rows = "".join(f"<dt>{escaped(a)}</dt><dd>{escaped(b)}</dd>\n" for a, b in facts)
    return f"<dl>\n{rows}</dl>\n"


def table(caption: str, head: Sequence[str], body: str) -> str:
    """Return a table that is scrolled where it is wider than the page.

    Parameters
    ----------
    caption : plain text.
    head : of the columns, HTML.
    body : one or several `tbody`, HTML.
    """
    columns = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    # The caption is not scrolled with the table. Only what has the focus is scrolled by keys.
    return (
        f'<p class="caption">{escaped(caption)}</p>\n'
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escaped(caption)}">\n'
        f'<table aria-label="{escaped(caption)}">\n'
        f"<thead><tr>{columns}</tr></thead>\n{body}</table>\n</div>\n"
    )


def row(head: str, cells: Iterable[str], kind: str = "") -> str:
    """Return a row of a table from HTML; `kind` is its class."""
    attribute = f' class="{kind}"' if kind else ""
    values = "".join(f"<td>{cell}</td>" for cell in cells)
    return f'<tr{attribute}><th scope="row">{head}</th>{values}</tr>\n'
