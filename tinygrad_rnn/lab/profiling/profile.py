"""What a profile found: times and bytes by layer and by operation, and the peak of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.lab.picture import Picture
from tinygrad_rnn.lab.profiling.chrome import chrome_trace
from tinygrad_rnn.lab.profiling.inside import Loops, look_inside
from tinygrad_rnn.lab.profiling.memory import Change, Kind, Peak, ordered, peak_of
from tinygrad_rnn.lab.profiling.pictures import profile_picture
from tinygrad_rnn.lab.profiling.watch import Span, Watch
from tinygrad_rnn.lab.table import (
    aligned,
    format_seconds,
    format_share,
    shortened,
)
from tinygrad_rnn.lab.written import write_csv, write_text
from tinygrad_rnn.tape import format_bytes

ROWS = 10
"""Rows of each of a printed profile's tables; the rest is one row, and all of it is in the CSV."""

WALKING = "between, in backward: cotangents added up, records freed"
BETWEEN = "between records: Python, data, optimizer, tracing"
ITSELF = "the profile itself"


class Row(NamedTuple):
    """What is said of one layer, or of one operation.

    Attributes
    ----------
    name : the layer's path of names or the operation's name.
    records : how many there were, forward and backward.
    forward, backward : seconds that no record within them took.
    nbytes : memory that they made, in bytes, whether or not it lived on.
    """

    name: str
    records: int
    forward: float
    backward: float
    nbytes: int

    @property
    def seconds(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


class Profile:
    """Where the time and the memory of a block went; see :func:`tinygrad_rnn.lab.profile`.

    Everything is known when the block is over.

    Attributes
    ----------
    seconds : the wall time of the block, which is the sum of the ``own`` times of all ``spans``,
        of ``walking``, ``between`` and ``itself``.
    walking : seconds of backward passes between their records: cotangents are added up, records
        are freed.
    between : seconds that lie between records otherwise: Python, data, the optimizer, and the
        tracing of recurrent layers, which is done at each call while somebody looks.
    itself : seconds that the profile took to write things down.
    """

    def __init__(self) -> None:
        self.watch: Watch | None = None
        self._found: tuple[list[Span], list[Change]] | None = None
        self._loops: Loops | None = None
        self.seconds = self.walking = self.between = self.itself = 0.0

    def begin(self, watch: Watch) -> None:
        """The block begins."""
        if self.watch is not None or self._found is not None:
            raise RuntimeError("profile: one block each; write lab.profile() again for another")
        self.watch = watch

    def finish(self, _: None) -> None:
        """The block is over, with or without an error."""
        watch = self.watch
        if watch is None or self._found is not None:
            return
        self.seconds = watch.clock()
        watch.memory.close()
        self.walking, self.itself = watch.walking, watch.own
        own = sum(span.own for span in watch.spans)
        self.between = self.seconds - own - self.walking - self.itself
        self._found = watch.spans, ordered(watch.memory.changes)
        self.watch = None

    def _known(self) -> tuple[list[Span], list[Change]]:
        if self._found is None:
            raise RuntimeError("profile: read it behind the block, not while it runs")
        return self._found

    @property
    def spans(self) -> list[Span]:
        """A :class:`Span` for each record, forward and backward, in the order in which they end."""
        return self._known()[0]

    @property
    def changes(self) -> list[Change]:
        """Every :class:`Change` of memory, in the order of time."""
        return self._known()[1]

    # Time

    def by_layer(self) -> list[Row]:
        """A row for each layer, the one that took most time first."""
        return _rows(self.spans, lambda span: span.layer)

    def by_operation(self) -> list[Row]:
        """A row for each operation, the one that took most time first."""
        return _rows(self.spans, lambda span: span.operation)

    def inside(self) -> Loops:
        """Where the time of the replayed loops goes: kernels, products, what is around the loop.

        Each part of each compiled loop is run by itself, three times, on random numbers of the same
        shapes; what has to be compiled for that takes a second each the first time. By itself a
        part is slower or quicker than in the loop, since the cache holds something else, so the
        parts' times are scaled to what the loop took in the profile.
        """
        if self._loops is None:
            self._loops = look_inside(self.spans)
        return self._loops

    # Memory

    @cached_property
    def peak(self) -> Peak:
        """The most memory that was alive at once, when, and what it was.

        That is the memory of what records read and made, of ``.grad``, and of what replayed loops
        keep or have ready to be used again. What no record reads is not seen: the moments of an
        optimizer, data that waits for its turn, what an operation frees before it ends.
        """
        return peak_of(self.changes)

    @property
    def peak_record(self) -> Span | None:
        """The record that set the peak, None where that was before all records."""
        return self.spans[self.peak.span] if 0 <= self.peak.span < len(self.spans) else None

    @property
    def memory(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds, and the bytes alive from then on: two arrays of the same length."""
        times = np.array([change.seconds for change in self.changes])
        return times, np.cumsum([change.nbytes for change in self.changes], dtype=np.int64)

    # Written and shown

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a row for each phase, layer and operation: records, seconds, bytes made.

        What lies between records has rows without a layer.
        """
        rows: list[Sequence[object]] = []
        for phase in ("forward", "backward"):
            found = _rows(
                (span for span in self.spans if span.phase == phase),
                lambda span: (span.layer, span.operation),
            )
            rows += [(phase, *r.name, r.records, f"{r.seconds:.9f}", r.nbytes) for r in found]
        rows += [("", "", name, "", f"{seconds:.9f}", "") for name, seconds in self._outside()]
        head = ["phase", "layer", "operation", "records", "seconds", "bytes"]
        return write_csv(path, head, rows, "Profile.to_csv")

    def to_chrome(self, path: str | os.PathLike[str]) -> Path:
        """Write a trace that chrome://tracing and https://ui.perfetto.dev open.

        It has a slice for each record, forward and backward passes apart, with layer, step, line
        and bytes, and the memory alive as a counter. If :meth:`inside` was asked for before, the
        parts of replayed loops lie within their slices, one after the other and scaled.
        """
        text = chrome_trace(self.spans, self.changes, self._loops)
        return write_text(path, text, "Profile.to_chrome")

    def picture(self) -> Picture:
        """Time by layer and by operation, forward and backward, and memory over time.

        If :meth:`inside` was asked for before, a panel says what it found.
        """
        if not self.spans:
            raise ValueError("Profile.picture: no record ran in the block; call the model in it")
        return profile_picture(
            self.seconds,
            {"layer": self.by_layer(), "operation": self.by_operation()},
            {name.partition(":")[0]: seconds for name, seconds in self._outside()},
            self.changes,
            self.peak,
            self._loops,
        )

    def _outside(self) -> list[tuple[str, float]]:
        """What no record took."""
        return [(WALKING, self.walking), (BETWEEN, self.between), (ITSELF, self.itself)]

    def __str__(self) -> str:
        spans = self.spans
        back = sum(span.phase == "backward" for span in spans)
        head = (
            f"profile of {format_seconds(self.seconds)}: {len(spans) - back} records forward, "
            f"{back} backward; peak of memory {format_bytes(self.peak.nbytes)}"
        )
        parts = [head, self._table("layer", self.by_layer()), *self._between_lines()]
        parts += [self._table("operation", self.by_operation()), self._memory_lines()]
        if any(span.pieces for span in spans):
            parts.append("replayed loops: print(p.inside()) looks into them")
        return "\n\n".join(parts)

    def __repr__(self) -> str:
        if self._found is None:
            return "<profile that is not over>"
        return f"<profile of {format_seconds(self.seconds)}, {len(self.spans)} records>"

    def _table(self, title: str, rows: list[Row]) -> str:
        shown, rest = rows[:ROWS], rows[ROWS:]
        if rest:
            counts = sum(r.records for r in rest), sum(r.nbytes for r in rest)
            times = sum(r.forward for r in rest), sum(r.backward for r in rest)
            shown = [*shown, Row(f"{len(rest)} others", counts[0], *times, counts[1])]
        cells = [(title, "records", "forward", "backward", "of all", "made")]
        for r in shown:
            forward, backward = (format_seconds(s) if s else "" for s in (r.forward, r.backward))
            share = format_share(r.seconds, self.seconds)
            name = shortened(r.name, 42)
            cells.append((name, f"{r.records:,}", forward, backward, share, format_bytes(r.nbytes)))
        return aligned(cells)

    def _between_lines(self) -> list[str]:
        rows = [
            (name, format_seconds(max(seconds, 0.0)), format_share(seconds, self.seconds))
            for name, seconds in self._outside()
        ]
        return [aligned(rows)]

    def _memory_lines(self) -> str:
        record = self.peak_record
        by = "before all records"
        if record is not None:
            source = shortened(f"{record.layer}, {record.place}".removesuffix(", "), 50)
            by = f"set by {record.operation}, {record.phase} ({source})"
        highest, when = format_bytes(self.peak.nbytes), format_seconds(self.peak.seconds)
        lines = [f"peak of {highest} at {when}, {by}"]
        groups: dict[tuple[str, str], int] = {}
        for kind, nbytes in self.peak.alive.items():
            key = kind.what, _layer_of(kind)
            groups[key] = groups.get(key, 0) + nbytes
        largest = sorted(groups.items(), key=lambda item: -item[1])
        cells = [
            (what, shortened(layer, 42), format_bytes(n), format_share(n, self.peak.nbytes))
            for (what, layer), n in largest[:ROWS]
        ]
        if len(largest) > ROWS:
            rest = sum(n for _, n in largest[ROWS:])
            share = format_share(rest, self.peak.nbytes)
            cells.append((f"{len(largest) - ROWS} others", "", format_bytes(rest), share))
        return "\n".join([*lines, aligned(cells, left=2)] if cells else lines)


def _layer_of(kind: Kind) -> str:
    return "" if kind.layer is None else kind.layer or "(model)"


def _rows(spans: Iterable[Span], key: Callable[[Span], object]) -> list[Row]:
    """Spans by a key, which becomes the name of the rows; those that took longest first."""
    found: dict[object, list[float]] = {}
    for span in spans:
        row = found.setdefault(key(span), [0, 0.0, 0.0, 0])
        row[0] += 1
        row[1 if span.phase == "forward" else 2] += span.own
        row[3] += span.nbytes
    rows = [Row(name, *numbers) for name, numbers in found.items()]  # pyright: ignore
    return sorted(rows, key=lambda row: -row.seconds)
