"""One self-contained file of HTML: data, style and script in it, nothing to be fetched."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from tinygrad_rnn.lab.page.content import TapeContent
from tinygrad_rnn.lab.page.stage_content import stage_content
from tinygrad_rnn.lab.replayed import Replayed, stages
from tinygrad_rnn.lab.written import write_text
from tinygrad_rnn.nn import Module
from tinygrad_rnn.replay.program.program import Program
from tinygrad_rnn.tape import Record, Tape

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = (
    "data", "formats", "outline", "wires", "tree", "steps", "charts", "cards", "details",
    "stages", "search", "main",
)  # fmt: skip


def to_html(
    what: Tape | Replayed | Module | Record | Program, path: str | os.PathLike[str]
) -> Path:
    """Write a page about a tape, or about how steps are compiled, and return its path.

    The page is one file that a browser opens without a network. It shows the tape folded by layer
    and time step; values and cotangents as the forward and the backward pass come to them, as a
    heat map, as numbers and over t; of every record its equation, its gradient rule and the share
    of the gradient that passes through it; what each use of a parameter adds to its gradient; and
    of replayed loops the step after each pass, down to the source of its kernels.

    ``what`` is a tape; or, for a page of the stages alone, what :func:`~tinygrad_rnn.lab.stages`
    returns, or a layer of cells, the record of a replayed loop, or the program of its step.

    Records know their layers and steps if they were made within :func:`~tinygrad_rnn.lab.look`.
    Where every result of the tape has one element, the backward pass is run for the page; no
    ``.grad`` changes, no hook is called, and the tape is kept. A replayed loop is run again
    step by step, which takes the memory of an unrolled one for as long as this lasts. A page takes
    about half a second for each thousand records.

    Of every array the page has min, mean, max, norm, the share of zeros and the counts of NaN and
    infinities over all elements; and up to 1,024 elements themselves, at even distances along each
    axis, fewer where there are so many arrays that all of them would take over 3 MiB. Up to 24,000
    records and operations of replayed loops are shown each; of a larger tape time steps, other
    repetitions and, if need be, records that follow each other are shown as one, which the page
    says.

    The share of the gradient: when all leaves move along their own gradient, the loss changes, to
    first order, by the square of the gradient's norm; the share of a record is the part of this
    change that passes through its results, the sum of cotangent times change. It is 1 at the loss,
    and 1 in sum over records that all ways to the loss pass one of; where ways cancel, it can be
    below 0 or above 1.

    Raises
    ------
    ValueError
        if the tape has no records.
    RuntimeError
        if it was freed by a backward pass, or what it read has been overwritten since.
    OSError
        if the file cannot be written.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> layer = tg.rnn.LSTM(3, 5)
    >>> with lab.look():
    ...     output, _ = layer(tg.ones((50, 2, 3)))
    ...     loss = (output * output).mean()
    >>> path = lab.to_html(tg.Tape.of(loss), getfixture("tmp_path") / "tape.html")
    """
    if isinstance(what, Tape):
        _check(what)
        tape = TapeContent(what)
        loops, stages_of = _loops(tape.loops)
        content = {"title": "tape", "tape": tape.data(), "loops": loops, "stages_of": stages_of}
    elif isinstance(what, Replayed | Module | Record | Program):
        found = what if isinstance(what, Replayed) else stages(what)
        loops = [stage_content(loop, name) for name, loop in found.loops.items()]
        content = {"title": "from equations to kernels", "loops": loops}
    else:
        raise TypeError(
            "to_html: expected a Tape, such as tg.Tape.of(loss), a layer, or what lab.stages "
            f"returns, got {type(what).__name__}"
        )
    return write_text(path, _page(content), "to_html")


def _check(tape: Tape) -> None:
    if not tape.records:
        raise ValueError(
            "to_html: the tape has no records; compute the value from something that requires a "
            "gradient, outside no_grad"
        )
    for record in tape.records:
        if record.freed:
            raise RuntimeError(
                f"to_html: the tape has been freed by a backward pass (at "
                f"{record.primitive.name!r}); write the page before it, or pass retain_graph=True"
            )


def _loops(records: Sequence[Record]) -> tuple[list[dict[str, Any]], list[int]]:
    """The stages of some loops, what is alike once, and which are those of each loop."""
    contents: list[dict[str, Any]] = []
    numbers: list[int] = []
    known: dict[Any, int] = {}
    for record in records:
        key = record.params["replay"], record.origin and record.origin.layer
        if key not in known:
            known[key] = len(contents)
            ((name, found),) = stages(record).loops.items()
            contents.append(stage_content(found, name))
        numbers.append(known[key])
    return contents, numbers


def _page(content: dict[str, Any]) -> str:
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
    return text.replace("<", "\\u003c")
