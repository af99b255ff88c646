"""A profile in the trace event format, which Chrome and Perfetto open.

Source: Google, "Trace Event Format", 2016: https://docs.google.com/document/d/
1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU. Times are microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tinygrad_rnn.lab.profiling.inside import Loops
from tinygrad_rnn.lab.profiling.memory import Change
from tinygrad_rnn.lab.profiling.watch import Span

ROWS = {"forward": 1, "backward": 2}
"""The threads as which forward and backward passes are drawn."""


def chrome_trace(spans: Sequence[Span], changes: Sequence[Change], loops: Loops | None) -> str:
    """The text of a trace file."""
    events = [_named("process_name", 0, "tinygrad_rnn")]
    events += [_named("thread_name", row, phase) for phase, row in ROWS.items()]
    for span in spans:
        events.append(_slice(span))
        events += _parts(span, loops)
    events += _counters(changes)
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _named(what: str, row: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": 1, "tid": row, "ts": 0, "args": {"name": name}}


def _slice(span: Span) -> dict[str, Any]:
    origin = span.origin
    about: dict[str, Any] = {"layer": span.layer, "bytes": span.nbytes}
    if origin.step is not None:
        about |= {"step": origin.step, "reverse": origin.reverse}
    for name in ("line", "equation"):
        if place := getattr(origin, name):
            about[name] = place
    return _complete(span.operation, span, span.start, span.seconds, about)


def _complete(
    name: str, span: Span, start: float, seconds: float, about: dict[str, Any]
) -> dict[str, Any]:
    return {
        "ph": "X",
        "name": name,
        "cat": span.phase,
        "ts": round(start * 1e6, 3),
        "dur": round(seconds * 1e6, 3),
        "pid": 1,
        "tid": ROWS[span.phase],
        "args": about,
    }


def _parts(span: Span, loops: Loops | None) -> Iterator[dict[str, Any]]:
    """The parts of a replayed loop one after the other, as long as they are in proportion."""
    if loops is None or not span.pieces:
        return
    phases = {piece.what for piece in span.pieces}
    parts = [p for p in loops.parts if p.layer == span.layer and p.phase in phases]
    total = sum(part.seconds for part in parts)
    start = span.start
    for part in parts:
        seconds = span.own * part.seconds / total if total else 0.0
        about = {"what": part.what, "lines": [*part.lines], "scaled": True}
        yield _complete(part.kind, span, start, seconds, about)
        start += seconds


def _counters(changes: Sequence[Change]) -> Iterator[dict[str, Any]]:
    total = 0
    for change in changes:
        total += change.nbytes
        yield {
            "ph": "C",
            "name": "memory",
            "ts": round(change.seconds * 1e6, 3),
            "pid": 1,
            "tid": 0,
            "args": {"bytes alive": total},
        }
