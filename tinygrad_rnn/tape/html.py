"""Plain tables for notebooks: escaped, without a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], code: int | None = None) -> str:
    """A table of texts; the column ``code`` is set as code."""
    titles = "".join(f"<th>{escape(text)}</th>" for text in head)
    lines = [f"<table><tr>{titles}</tr>"]
    for row in rows:
        cells = [escape(text) for text in row]
        if code is not None:
            cells[code] = f'<code style="white-space: pre-wrap">{cells[code]}</code>'
        lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "".join(lines) + "</table>"


def html_paragraph(text: str) -> str:
    """A text under or over a table."""
    return f"<p>{escape(text)}</p>"
