"""A replayed loop once more, operation by operation, to find where something went wrong in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import tape
from tinygrad_rnn.backends import backend_of
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
    record: Record, cotangents: Sequence[Any] | None = None, unread: bool = False
) -> tuple[list[list[Any]], list[Any]]:
    """Compute a replayed loop step by step, with every operation shown to the observers.

    With the ``cotangents`` of its results the loop is differentiated too, from its last step to its
    first; with ``unread``, what nothing reads of a state has a gradient of 0, as it has in the
    replayed loop, where 0 times inf becomes nan. Every record knows its layer, time step and line,
    if somebody looked when the loop was made; else the time step, and the layer and the line of
    the loop.

    Gives the outputs, each a list over time, and the last state.
    """
    replay: Replay = record.params["replay"]
    program, steps = replay.program, record.params["steps"]
    wants = [cotangents is not None and _wants_gradient(x) for x in record.inputs]
    inputs = [Tensor(raw(x), want) for x, want in zip(record.inputs, wants, strict=True)]
    for x, given in zip(inputs, record.inputs, strict=True):
        x.name = given.name if isinstance(given, tape.Traced) else None
    origin = record.origin or tape.Origin()
    here = origin._replace(reverse=replay.reverse, inside=())
    lines = origin.inside or [here] * len(program.ops)
    consts, xs, state = roles(program, inputs)
    columns = [[Tensor(x.array[t], x.requires_grad) for t in range(steps)] for x in xs]
    outputs: list[list[Any]] = [[None] * steps for _ in program.ys]
    states: list[Any] = []
    recording = tape.no_grad() if cotangents is None else tape.enable_grad()
    with recording, np.errstate(all="ignore"):
        for t in reversed(range(steps)) if replay.reverse else range(steps):
            origins = [line.at_step(t, line.reverse, origin.steps) for line in lines]
            rows = [column[t] for column in columns]
            known = evaluate(program, consts, rows, state, origins)
            for series, v in zip(outputs, program.ys, strict=True):
                series[t] = known[v]
            state = [known[v] for v in program.next_state]
            states += state
    if cotangents is None:
        return outputs, state
    pairs: list[tuple[Tensor, Tensor]] = []
    ends = cotangents[len(outputs) : len(outputs) + len(state)]
    for series, g in zip(outputs, cotangents, strict=False):
        if g is not None:
            pairs += [(y, Tensor(raw(g)[t])) for t, y in enumerate(series)]
    pairs += [(y, Tensor(raw(g))) for y, g in zip(state, ends, strict=True) if g is not None]
    if unread:
        pairs += [(y, Tensor(backend_of(y.array).xp.zeros_like(y.array))) for y in states]
    pairs = [(y, g) for y, g in pairs if y.requires_grad]
    targets = [x for x in [*inputs, *(row for column in columns for row in column)] if x.needs_grad]
    with np.errstate(all="ignore"):
        tape.differentiate([y for y, _ in pairs], [g for _, g in pairs], targets)
    return outputs, state


def _wants_gradient(value: Any) -> bool:
    return isinstance(value, tape.Traced) and value.needs_grad
