"""The tape as a drawing: folded, boxes within boxes, as SVG or as DOT."""

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
    """Draw the graph of a tape, folded by layer and time step, and return the path of the file.

    What is equal at all time steps is drawn once, with dashed edges to what the next step reads;
    of a replayed loop the program of its step. Boxes are opened from the outermost on until there
    are about 80 of them, so that the drawing of any tape can be read; the others say how many
    records and bytes they hold.

    Parameters
    ----------
    tape : its records know layers and steps if they were made within
        :func:`~tinygrad_rnn.lab.look`; else it is folded by what repeats.
    path : ``.svg``, which needs nothing installed, and is dark where the reader's system is; or
        ``.dot``, a text for Graphviz or for editors of graphs.

    Raises
    ------
    ValueError
        if the tape has no records, or for another suffix.
    OSError
        if the file cannot be written.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> with lab.look():
    ...     output, _ = tg.rnn.GRU(3, 5, unroll=True)(tg.ones((50, 2, 3)))
    >>> path = lab.draw(tg.Tape.of(output), getfixture("tmp_path") / "gru.svg")
    """
    if not isinstance(tape, Tape):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"draw: expected a Tape, such as tg.Tape.of(loss), got {type(tape).__name__}"
        )
    if not tape.records:
        raise ValueError(
            "draw: the tape has no records; compute the value from something that requires a "
            "gradient, outside no_grad"
        )
    suffix = Path(path).suffix
    if suffix not in (".svg", ".dot"):
        raise ValueError(f"draw: expected a path that ends in .svg or .dot, got {str(path)!r}")
    box = drawn(tape)
    return write_text(path, dot_text(box) if suffix == ".dot" else svg(laid_out(box)), "draw")
