"""Where what is not finite begins, and how it spreads through the forward pass."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.lab.anomaly.came_in import called
from tinygrad_rnn.lab.anomaly.finding import Finding, at_place
from tinygrad_rnn.lab.anomaly.hints import OWNED, Case, hint_for
from tinygrad_rnn.lab.anomaly.ranges import (
    Range,
    array_of,
    bad_elements,
    first_index,
    host,
    is_finite,
    range_of,
    spread_out,
)
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.tape import Origin, Record

MADE, CAME_IN, MASKED, MEANT = range(4)
"""How much a source is to blame: it is a fault; inf that came in; a row that is masked; a mask."""

MOVING = {
    "broadcast_to", "cast", "concat", "copy", "flip", "getitem", "identity", "pad", "reshape",
    "split", "stack", "to_device", "transpose", "unpad", "unstack", "where",
}  # fmt: skip
"""What hands elements on and computes nothing of them."""

PICKING = ("take",)
"""What does not read the elements that it does not give."""

ROWS = ("logsumexp", "max", "log_softmax", "cross_entropy")
"""What gives an infinity where a whole row, or a label, is masked with -inf."""

_numbers = count()


class Source:
    """Where something that is not finite begins.

    Attributes
    ----------
    finding : what is to be said of it.
    rank, order : how much it is to blame, and how many were found before.
    read : whether the operation is known that computes with it first.
    spoilt : what becomes of an infinity that began here, and in which operation.
    dropped : the operation that read it and gave finite numbers.
    """

    def __init__(self, finding: Finding, rank: int = MADE) -> None:
        self.finding, self.rank, self.order = finding, rank, next(_numbers)
        self.read = finding.came_in is None
        self.spoilt: str | None = None
        self.dropped: tuple[str, str] | None = None

    def told(self, *notes: str, **changes: Any) -> Finding:
        """What is to be said in the end."""
        spoilt = filter(None, [self.spoilt])
        return replace(self.finding, notes=(*self.finding.notes, *spoilt, *notes), **changes)

    def spoil(self, value: str, record: Record, replayed: bool) -> None:
        """Remember what becomes of it: nan before an infinity."""
        if self.spoilt is None or (value == "nan" and not self.spoilt.startswith("nan")):
            self.spoilt = f"{value} comes of it in {place_of(record, replayed)}"

    def read_by(self, record: Record, replayed: bool) -> None:
        """Remember who computes with it first."""
        if self.read:
            return
        self.read = True
        self.finding = replace(
            self.finding,
            operation=record.primitive.name,
            where=place_of(record, replayed),
            origin=origin_of(record),
            ranges=ranges_of(record),
        )


class Spread(NamedTuple):
    """From which sources the nan and the infinities in an array come."""

    nan: tuple[Source, ...] = ()
    inf: tuple[Source, ...] = ()

    def worst(self) -> Source | None:
        """The source that is most to blame."""
        return min(self.nan or self.inf, key=lambda one: (one.rank, one.order), default=None)

    def is_fault(self) -> bool:
        """Whether it is more than an infinity that was meant to be one: what no operation made
        may be -inf, as the moves that a parameter forbids.
        """
        harms = (
            one.rank == MADE and not (one.finding.came_in and one.finding.value == "-inf")
            for one in self.inf
        )
        return bool(self.nan) or any(harms)


def together(spreads: Iterable[Spread]) -> Spread:
    """The sources of several arrays."""
    found = [*spreads]
    nan, inf = ({s: None for one in found for s in one[k]} for k in (0, 1))
    return Spread((*nan,), (*inf,))


class Book:
    """Which arrays are not finite, as long as they live, and from which sources."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Spread]] = {}
        self._unread: dict[int, Spread] = {}
        self._left: list[Spread] = []  # the first and the last of what nothing has read

    def find(self, value: Any) -> Spread | None:
        """What is known of an array or a Tensor."""
        known = self._known.get(id(array_of(value)))
        return known and known[1]

    def read(self, value: Any) -> Spread | None:
        """The same; the value has been read, so that what becomes of it is seen elsewhere."""
        self._unread.pop(id(array_of(value)), None)
        return self.find(value)

    def write(self, array: Array, spread: Spread, read: bool = False) -> None:
        """Know an array from now on."""
        key = id(array)
        self._known[key] = weakref.ref(array, partial(self._forget, key)), spread
        if not read:
            self._unread[key] = spread

    def _forget(self, key: int, _: Any) -> None:
        self._known.pop(key, None)
        self._leave(self._unread.pop(key, Spread()))

    def _leave(self, spread: Spread) -> None:
        if spread.is_fault():
            self._left = [*self._left[:1], spread]

    def end(self, failed: bool) -> Source | None:
        """What is most to blame for what nothing has read: the last of it where the block failed,
        else the first.
        """
        for spread in self._unread.values():
            self._leave(spread)
        found, self._left, self._unread = self._left, [], {}
        return found[-1 if failed else 0].worst() if found else None


def ranges_of(record: Record) -> tuple[Range, ...]:
    """What the operands of a record hold."""
    return tuple([range_of(x, getattr(x, "name", None)) for x in record.inputs])


def origin_of(record: Record) -> Origin:
    """Where a record comes from, as far as that is known."""
    return (record.origin or Origin())._replace(inside=())


def place_of(record: Record, replayed: bool = False, backward: bool = False) -> str:
    """A record in words."""
    return at_place(record.primitive.name, origin_of(record), replayed, backward)


def handed_in(value: Any, record: Record, replayed: bool) -> Source:
    """A value that no operation made, and that a record reads first."""
    array = array_of(value)
    held, bad = range_of(value), bad_elements(array)
    is_array = hasattr(array, "dtype")
    what, parameter = called(value, array) if is_array else (f"the number {array}", None)
    finding = Finding(
        f"holds {held.holds}" if is_array else "is an operand",
        record.primitive.name,
        held.holds,
        place_of(record, replayed),
        origin_of(record),
        came_in=what,
        parameter=parameter,
        ranges=ranges_of(record),
        result=held if is_array else None,
        index=first_index(bad),
        hint=next((OWNED[kind] for kind in OWNED if what.startswith(f"the {kind} ")), None),
    )
    if held.nan or parameter or isinstance(value, Parameter):
        return Source(finding, MADE)
    return Source(finding, CAME_IN if held.inf and held.dtype else MEANT)


def made_by(
    record: Record, result: Array, bad: Any, verdict: str, replayed: bool, rank: int = MADE
) -> Source:
    """A value that a record made not finite, at the elements in ``bad``."""
    held, ranges, index = range_of(result), ranges_of(record), first_index(bad)
    value = range_of(float(host(result)[index])).holds or held.holds
    case = Case(value, at_elements(record, bad), ranges, record.params, str(result.dtype))
    finding = Finding(
        verdict.format(value=value),
        record.primitive.name,
        value,
        place_of(record, replayed, is_backward(record)),
        origin_of(record),
        backward=is_backward(record),
        parameter=next(iter(record.parameters), None),
        ranges=ranges,
        result=held,
        index=index,
        hint=hint_for(record.primitive.name, False, case),
    )
    return Source(finding, rank)


def is_backward(record: Record) -> bool:
    """Whether a backward pass that can be differentiated again made a record."""
    return record.origin is not None and record.origin.forward is not None


def at_elements(record: Record, bad: Any, values: Sequence[Any] | None = None) -> list[Any]:
    """What each operand, or what is given, holds at the elements in ``bad``; all of it where it
    has another shape.
    """
    found: list[Any] = []
    for one in map(host, record.inputs if values is None else values):
        same = None if record.primitive.kernel is None else spread_out(one, bad.shape)
        found.append(one if same is None else same[bad])
    return found


def fresh(record: Record, values: Sequence[Any], bad: Any) -> Any:
    """The elements in ``bad`` at which all values that they are made of are finite.

    Where an operation is not one on each element by itself: all, if all values are finite.
    """
    wrong = [bad_elements(x) for x in values]
    if not any(one.any() for one in wrong):
        return bad
    same = [spread_out(one, bad.shape) for one in wrong]
    if record.primitive.kernel is None or any(one is None for one in same):
        return np.zeros_like(bad)
    return bad & ~np.logical_or.reduce(same)


def spread_by(record: Record, result: Array, arrived: Sequence[Spread], replayed: bool) -> Spread:
    """The sources of a result that is not finite, from those of its operands."""
    held, bad = range_of(result), bad_elements(result)
    new = fresh(record, record.inputs, bad)
    before = together(arrived)
    nan, inf = [*before.nan], [*before.inf]
    if new.any():
        tainted = not all(map(is_finite, record.inputs))
        of = "where its operands are finite" if tainted else "of finite operands"
        is_nan = np.isnan(host(result))
        for sources, own in ((nan, new & is_nan), (inf, new & ~is_nan)):
            if own.any():
                sources.append(made_by(record, result, own, f"gives {{value}} {of}", replayed))
    if held.nan and not nan:
        makers = [one for one in before.inf if one.rank <= CAME_IN]
        for one in makers:
            one.spoil("nan", record, replayed)
        nan += makers or [_of_infinite(record, result, before.inf, replayed)]
    elif not held.nan and not new.any() and record.primitive.name in ROWS and inf:
        of = "gives {value}, since a row or a label is masked with -inf"
        inf.append(made_by(record, result, bad, of, replayed, MASKED))
        for one in inf:
            if one.rank <= CAME_IN:
                one.spoil(inf[-1].finding.value, record, replayed)
    return Spread((*nan,) if held.nan else (), (*inf,) if held.inf or held.minus_inf else ())


def _of_infinite(record: Record, result: Array, inf: Sequence[Source], replayed: bool) -> Source:
    """Nan that an operation made of infinities which were meant to be some."""
    of = "gives {value} of operands that hold an infinity"
    made = made_by(record, result, np.isnan(host(result)), of, replayed)
    from_arrays = [one.finding for one in inf if one.finding.result and one.finding.result.dtype]
    notes = [f"{f.came_in} {f.verdict}: {f.result}" for f in from_arrays if f.came_in][:2]
    made.finding = replace(made.finding, notes=(*notes,))
    return made
