"""The tape as a drawing: folded, as SVG or as DOT."""

from __future__ import annotations

import os
from pathlib import Path

from tinygrad_rnn.lab.drawing.dot import dot_text
from tinygrad_rnn.lab.drawing.graph import drawn
from tinygrad_rnn.lab.drawing.layout import laid_out
from tinygrad_rnn.lab.drawing.svg import svg
from tinygrad_rnn.lab.written import write_text
from tinygrad_rnn.tape import Tape

__all__ = ["draw"]


def draw(tape: Tape, path: str | os.PathLike[str]) -> Path:
    """Write."""
    box = drawn(tape)
    return write_text(
        path, dot_text(box) if Path(path).suffix == ".dot" else svg(laid_out(box)), "draw"
    )
