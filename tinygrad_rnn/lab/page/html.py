"""One self-contained file of HTML: data, style and script in it, nothing to be fetched."""

from __future__ import annotations

import json
import os
from html import escape
from pathlib import Path
from typing import Any

from tinygrad_rnn.lab.page.content import TapeContent
from tinygrad_rnn.lab.written import write_text
from tinygrad_rnn.tape import Tape

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = (
    "data", "formats", "outline", "tree", "wires", "steps", "charts", "details", "stages", "search",
    "main",
)  # fmt: skip


def to_html(what: Any, path: str | os.PathLike[str]) -> Path:
    """Write a page about a tape."""
    if isinstance(what, Tape):
        if not what.records:
            raise ValueError("to_html: a tape without records")
        content = {"title": "tape", "tape": TapeContent(what).data(), "loops": []}
    return write_text(path, page(content), "to_html")


def page(content: dict[str, Any]) -> str:
    """The page that shows a content."""
    parts = {
        "title": escape(content["title"]),
        "style": _asset("page.css"),
        "script": "\n".join(_asset(f"{name}.js") for name in _SCRIPTS),
        "data": _in_script(json.dumps(content, separators=(",", ":"), allow_nan=False)),
    }
    before, *pieces = _asset("page.html").split("{{")
    found = [before]
    for piece in pieces:
        name, _, text = piece.partition("}}")
        found += [parts[name], text]
    return "".join(found)


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text("utf-8")


def _in_script(text: str) -> str:
    """JSON that ends no script element, whatever it holds."""
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
