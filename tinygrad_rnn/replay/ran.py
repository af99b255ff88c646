"""Which compiled programs the record of a replayed loop has run, forward and backward."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from tinygrad_rnn.replay.passes.gradient import Backward, Wanted
from tinygrad_rnn.replay.primitive import roles
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.run.replay import Held, Replay
from tinygrad_rnn.tape import Record


class Piece(NamedTuple):
    """A compiled program as a record has run it: over so many steps, and how many times.

    ``back`` is the backward step that it was compiled from.
    """

    what: Literal["forward", "computed again", "backward"]
    replay: Replay
    compiled: Compiled
    steps: int
    times: int = 1
    back: Backward | None = None


def forward_pieces(record: Record) -> list[Piece]:
    """What ran forward of a replayed loop."""
    replay, steps, held = _run_of(record)
    if held is not None and held.every is None:
        return [Piece("forward", replay, replay.training(held.wanted).forward, steps)]
    inference = replay.inference(steps)
    if held is None:
        return [Piece("forward", replay, inference, steps)]
    return _segments("forward", replay, inference, steps, held)


def backward_pieces(record: Record, arrived: Sequence[Any], given: Sequence[Any]) -> list[Piece]:
    """What ran backward of a replayed loop, to which cotangents ``arrived``, and which gave some.

    Nothing for a pass that is itself on the tape: there the loops are records of their own.
    """
    replay, steps, held = _run_of(record)
    if held is None or any(isinstance(g, tuple) or hasattr(g, "record") for g in given):
        return []
    program = replay.program
    consts, xs, _ = roles(program, [g is not None for g in given])
    ys = [g is not None and y.dtype.kind == "f" for g, y in zip(arrived, program.ys, strict=False)]
    wanted = Wanted((*consts,), (*xs,), True, (*ys,))
    back, compiled = replay.backward_program(held.wanted, wanted)
    if held.every is None:
        return [Piece("backward", replay, compiled, steps, 1, back)]
    again = replay.training(held.wanted).forward
    return [
        *_segments("computed again", replay, again, steps, held),
        *_segments("backward", replay, compiled, steps, held, back),
    ]


def _run_of(record: Record) -> tuple[Replay, int, Held | None]:
    params = record.params
    return params["replay"], params["steps"], params["held"]


def _segments(
    what: Any,
    replay: Replay,
    compiled: Compiled,
    steps: int,
    held: Held,
    back: Backward | None = None,
) -> list[Piece]:
    segments = replay.segments(steps, held.every or steps)
    lengths = Counter(part.stop - part.start for part in segments)
    return [Piece(what, replay, compiled, n, times, back) for n, times in lengths.items()]
