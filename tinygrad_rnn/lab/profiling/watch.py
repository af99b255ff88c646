"""The observer of a profile: a clock before and after each record, forward and backward."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tinygrad_rnn.backends import find_backend
from tinygrad_rnn.lab.profiling.memory import Kind, Memory
from tinygrad_rnn.replay import is_replayed
from tinygrad_rnn.replay.ran import Piece, backward_pieces, forward_pieces
from tinygrad_rnn.tape import (
    Deferred,
    Observer,
    Origin,
    Record,
    Traced,
    current_place,
)
from tinygrad_rnn.tape.operation import Operation


class Span(NamedTuple):
    """What one record took, forward or backward, or what adding up gradients of a leaf took.

    Attributes
    ----------
    start, seconds : when it began since the beginning of the profile, and how long it took.
    own : the seconds of it that no record within it took.
    phase : ``"forward"`` or ``"backward"``; whatever a backward pass computes is backward.
    operation : the name of the primitive.
    origin : where the record comes from; of a gradient rule, where the forward record does.
    nbytes : memory that is new with its results, in bytes; 0 for views.
    pieces : of a replayed loop, the compiled programs that it ran.
    names : of a replayed loop, what its inputs are called, None for those without a name.
    """

    start: float
    seconds: float
    own: float
    phase: str
    operation: str
    origin: Origin
    nbytes: int
    pieces: tuple[Piece, ...] = ()
    names: tuple[str | None, ...] = ()

    @property
    def layer(self) -> str:
        """The layer as tables name it: the path of names, ``(model)`` for the outermost module."""
        layer = self.origin.layer
        return "(outside)" if layer is None else layer or "(model)"

    @property
    def place(self) -> str:
        """File and line of the cell's equation, or of the user's, without folders."""
        return self.origin.short_line


class _Open:
    """A record that has begun: when, what took time within it, which cotangents came to it."""

    __slots__ = ("arrived", "inner", "key", "start")

    def __init__(self, key: object, start: float, arrived: tuple[Any, ...]) -> None:
        self.key, self.start, self.arrived, self.inner = key, start, arrived, 0.0


class _Walked(NamedTuple):
    """Where a backward pass has come to: when, what was accounted for then, which record."""

    seconds: float
    accounted: float
    position: int


class Watch(Observer):
    """Writes down what each record takes.

    Attributes
    ----------
    spans : in the order in which they ended.
    own : the seconds that this observer itself took.
    accounted : those, and the seconds of all records.
    walking : the seconds between the records of backward passes, in which cotangents are added up
        and records freed.
    """

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spans: list[Span] = []
        self.own = self.accounted = self.walking = 0.0
        self.memory = Memory(self.clock)
        self._open: list[_Open] = []
        self._walked: _Walked | None = None
        self._combines: dict[Any, Callable[..., Any]] = {}

    def clock(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.began

    # What an observer sees

    def before_forward(
        self, primitive: Operation, inputs: tuple[Any, ...], params: dict[str, Any]
    ) -> None:
        at = self.clock()
        if self._walked and current_place.get().origin.forward is None:
            self._walked = None  # that backward pass is over
            self.memory.look_at_gradients()
        self._begin(primitive, at, next(x.array for x in inputs if isinstance(x, Traced)))

    def after_forward(self, record: Record) -> None:
        at = self._waited(record.results[0])
        origin = record.origin or Origin()
        pieces: list[Piece] = []
        self._see_inputs(record)
        back = origin.forward is not None
        nbytes = self._see(record.results, "gradients" if back else "results", record)
        if is_replayed(record):
            self.memory.see_held(record.params["held"], origin.layer)
            pieces = forward_pieces(record)
        self._end(record.primitive, at, _phase(back), record, origin, nbytes, pieces)

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        at = self.clock()
        if self._walked and self._walked.position > record.position:
            gone = at - self._walked.seconds
            self.walking += gone - (self.accounted - self._walked.accounted)
        self._walked = None
        self._see_inputs(record)
        self._see(cotangents, "gradients", record)
        self._begin(record, at, record.results[0], cotangents)

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        at = self._waited(record.results[0])
        nbytes = self._see(cotangents, "gradients", record)
        pieces: list[Piece] = []
        if is_replayed(record):
            arrived = next((o.arrived for o in reversed(self._open) if o.key is record), ())
            pieces = backward_pieces(record, arrived, cotangents)
        for g in cotangents:
            if isinstance(g, Deferred):
                g.combine = self._timed(g.combine, record)
        origin = record.origin or Origin()
        self._end(record, at, "backward", record, origin, nbytes, pieces)
        if not self._open:
            self._walked = _Walked(self.clock(), self.accounted, record.position)

    def _timed(self, combine: Callable[..., Any], record: Record) -> Callable[..., Any]:
        """What adds up contributions, with a clock; the same one for the same."""
        known = self._combines.get(combine)
        if known is not None:
            return known
        name = record.primitive.name

        def timed(shape: tuple[int, ...], dtype: Any, parts: Any) -> Any:
            at = self.clock()
            self._begin(timed, at, parts[0][0])
            found = combine(shape, dtype, parts)
            at = self._waited(found)
            origin = current_place.get().origin
            nbytes = self._see_one(found, Kind("gradients", origin.layer, name))
            self._end(timed, at, "backward", name, origin, nbytes)
            return found

        self._combines[combine] = self._combines[timed] = timed
        return timed

    # Clocks

    def _waited(self, value: Any) -> float:
        """The time when all work on a value's device is done."""
        array = value.array if isinstance(value, Traced) else value
        backend = find_backend(array)
        if backend is not None:
            backend.wait(array)
        return self.clock()

    def _begin(self, key: object, at: float, value: Any, arrived: tuple[Any, ...] = ()) -> None:
        entry = _Open(key, 0.0, arrived)
        outer = self._open[-1] if self._open else None
        self._open.append(entry)
        entry.start = self._waited(value)
        self._spend(entry.start - at, outer)

    def _spend(self, seconds: float, outer: _Open | None) -> None:
        """Account for time of this observer, within a record that is under way or outside all."""
        self.own += seconds
        if outer is None:
            self.accounted += seconds
        else:
            outer.inner += seconds

    def _end(
        self,
        key: object,
        at: float,
        phase: str,
        operation: Record | str,
        origin: Origin,
        nbytes: int,
        pieces: Sequence[Piece] = (),
    ) -> None:
        while self._open:
            entry = self._open.pop()
            if entry.key is key:
                break  # others, above it, have raised
        else:
            return
        name = operation if isinstance(operation, str) else operation.primitive.name
        seconds = at - entry.start
        own = seconds - entry.inner
        inputs = operation.inputs if isinstance(operation, Record) and pieces else ()
        names = tuple(x.name if isinstance(x, Traced) else None for x in inputs)
        self.spans.append(
            Span(entry.start, seconds, own, phase, name, origin, nbytes, tuple(pieces), names)
        )
        outer = self._open[-1] if self._open else None
        if outer is None:
            self.accounted += seconds
        else:
            outer.inner += seconds
        self._spend(self.clock() - at, outer)

    # Memory

    def _see_inputs(self, record: Record) -> None:
        """What a record reads; nearly all of it is known."""
        layer = record.origin and record.origin.layer
        self.memory.span = len(self.spans)
        for x in record.inputs:
            if not isinstance(x, Traced):
                self.memory.see(x, Kind("inputs", layer))
            elif x.record is not None:
                self.memory.see(x.array, Kind("results", None, x.record.primitive.name))
            elif x.needs_grad:
                self.memory.see_leaf(x, layer)
            else:
                self.memory.see(x.array, Kind("inputs", layer, x.name or ""))

    def _see(self, values: Sequence[Any], what: str, record: Record) -> int:
        """Take note of what a record gives; the bytes that are new."""
        self.memory.span = len(self.spans)
        self.memory.look_at_pool()  # first, as a loop keeps what lay idle before
        kind = Kind(what, record.origin and record.origin.layer, record.primitive.name)
        return sum(self._see_one(value, kind) for value in values)

    def _see_one(self, value: Any, kind: Kind) -> int:
        if isinstance(value, Deferred):
            return sum(self._see_one(part, kind) for part in value.parts)
        return self.memory.see(value.array if isinstance(value, Traced) else value, kind)


def _phase(back: bool) -> str:
    return "backward" if back else "forward"
