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
from tinygrad_rnn.lab.written import write_text
from tinygrad_rnn.replay import wanted_of
from tinygrad_rnn.replay.program.stage import Stages
from tinygrad_rnn.replay.stages import stages_of
from tinygrad_rnn.tape import Origin, Record, Tape

_ASSETS = Path(__file__).parent / "assets"
_SCRIPTS = (
    "data", "formats", "outline", "wires", "tree", "steps", "charts", "details", "stages", "search",
    "main",
)  # fmt: skip


def to_html(what: Tape | Stages, path: str | os.PathLike[str]) -> Path:
    """Write a page about a tape, or about how a step is compiled, and return its path.

    The page is one file that a browser opens without a network. It shows the tape folded by layer
    and time step; values and cotangents as the forward and the backward pass come to them, as a
    heat map, as numbers and over t; of every record its equation, its gradient rule and the share
    of the gradient that passes through it; what each use of a parameter adds to its gradient; and
    of replayed loops the step after each pass, down to the source of its kernels.

    Records know their layers and steps if they were made within :func:`~tinygrad_rnn.lab.look`.
    Where every result of the tape has one element, the backward pass is run for the page; no
    ``.grad`` changes, no hook is called, and the tape is kept. A replayed loop is run again
    step by step, which takes the memory of an unrolled one for as long as this lasts.

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
    if isinstance(what, Stages):
        title = "a step as it is compiled"
        content = {"title": title, "loops": [stage_content(what, title)]}
    elif isinstance(what, Tape):
        _check(what)
        tape = TapeContent(what)
        content = {"title": "tape", "tape": tape.data(), "loops": _loops(tape.loops)}
    else:
        raise TypeError(
            f"to_html: expected a Tape, such as tg.Tape.of(loss), or Stages, got "
            f"{type(what).__name__}"
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


def _loops(records: Sequence[Record]) -> list[dict[str, Any]]:
    """The stages of each loop."""
    found: list[dict[str, Any]] = []
    for record in records:
        origin = record.origin or Origin()
        where = f"{origin.layer}: " if origin.layer else ""
        replay = record.params["replay"]
        stages = stages_of(replay, wanted_of(replay, record.inputs), origin.inside)
        found.append(stage_content(stages, f"{where}how the step is compiled"))
    return found


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
