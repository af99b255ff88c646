"""A replayed loop once more, operation by operation, to find where something went wrong in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import tape
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay.primitive import roles
from tinygrad_rnn.replay.program.program import evaluate
from tinygrad_rnn.replay.run.replay import Replay
from tinygrad_rnn.tape import Record
from tinygrad_rnn.tensor import Tensor


def is_replayed(record: Record) -> bool:
    """Whether a record is a whole loop."""
    return isinstance(record.params.get("replay"), Replay)


def rerun(
    record: Record,
    cotangents: Sequence[Any] | None = None,
    at_step: Callable[[int], None] = lambda t: None,
) -> None:
    """Compute a replayed loop step by step, with every operation shown to the observers.

    ``at_step(t)`` is called before each step. With the ``cotangents`` of its results the loop is
    differentiated too, from its last step to its first.
    """
    replay: Replay = record.params["replay"]
    program, steps = replay.program, record.params["steps"]
    arrays = map(raw, record.inputs)
    inputs = [Tensor(x, cotangents is not None and x.dtype.kind == "f") for x in arrays]
    consts, xs, state = roles(program, inputs)
    columns = [[Tensor(x.array[t], x.requires_grad) for t in range(steps)] for x in xs]
    outputs: list[list[Any]] = [[None] * steps for _ in program.ys]
    recording = tape.no_grad() if cotangents is None else tape.enable_grad()
    with recording, np.errstate(all="ignore"):
        for t in reversed(range(steps)) if replay.reverse else range(steps):
            at_step(t)
            known = evaluate(program, consts, [column[t] for column in columns], state)
            for series, v in zip(outputs, program.ys, strict=True):
                series[t] = known[v]
            state = [known[v] for v in program.next_state]
    if cotangents is None:
        return
    pairs: list[tuple[Tensor, Tensor]] = []
    ends = cotangents[len(outputs) : len(outputs) + len(state)]
    for series, g in zip(outputs, cotangents, strict=False):
        if g is not None:
            pairs += [(y, Tensor(raw(g)[t])) for t, y in enumerate(series)]
    pairs += [(y, Tensor(raw(g))) for y, g in zip(state, ends, strict=True) if g is not None]
    pairs = [(y, g) for y, g in pairs if y.requires_grad]
    targets = [x for x in [*inputs, *(row for column in columns for row in column)] if x.needs_grad]
    with np.errstate(all="ignore"):
        tape.differentiate([y for y, _ in pairs], [g for _, g in pairs], targets)
