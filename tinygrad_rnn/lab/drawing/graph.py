"""The folded tape as boxes within boxes, with edges between those that stand beside each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.replay import is_replayed
from tinygrad_rnn.replay.program.program import Program, Value
from tinygrad_rnn.tape import Group, Record, Tape, Traced, format_bytes

MOST_BOXES = 80
"""From so many boxes on, nothing more is opened."""


class Box:
    """A group of records, or one of them, or an operation of a replayed loop.

    Attributes
    ----------
    title, lines : what it says; the lines are those of one that is not opened.
    kind : that of the group, "replayed", or "operation".
    below : the boxes within it; empty where it is not opened.
    edges : from which of ``below`` to which later one how many values go.
    returns : from which of ``below`` to which values go that the next step reads.
    """

    def __init__(self, title: str, kind: str, lines: Sequence[str] = ()) -> None:
        self.title = title
        self.kind = kind
        self.lines = (*lines,)
        self.below: list[Box] = []
        self.edges: dict[tuple[int, int], int] = {}
        self.returns: dict[tuple[int, int], int] = {}

    def walk(self) -> list[Box]:
        """The box and all below it, those around before those within."""
        found: list[Box] = []
        stack: list[Box] = [self]
        while stack:
            box = stack.pop()
            found.append(box)
            stack += box.below[::-1]
        return found

    def connect(self, source: int, target: int, returning: bool) -> None:
        """A value goes from one box within to another."""
        edges = self.returns if returning or source > target else self.edges
        if returning or source != target:
            edges[source, target] = edges.get((source, target), 0) + 1


class _Open:
    """A box with the groups, or the record, that it is of, as the tape is opened."""

    def __init__(self, box: Box, group: Group, above: _Open | None) -> None:
        self.box, self.group, self.above = box, group, above
        self.layer: str = group.layer or (above.layer if above else "")
        self.place = 0 if above is None else len(above.box.below)
        self.depth: int = 0 if above is None else above.depth + 1
        self.each = len(group) // group.count


def drawn(tape: Tape) -> Box:
    """The tape as a box, opened as far as it stays small enough to be read."""
    root = tape.folded()
    head = f"tape of {len(tape)} records, {format_bytes(root.nbytes)} of results"
    first = _Open(Box(head, "tape"), root, None)
    opened = [first]
    waiting, count = deque([first]), 1
    while waiting:
        here = waiting.popleft()
        if here.group.kind == "record":
            record = here.group.records[0]
            if (
                is_replayed(record)
                and count + len(record.params["replay"].program.ops) <= MOST_BOXES
            ):
                count += _open_replayed(here.box, record)
            continue
        parts = here.group.repetition()
        if count + len(parts) > MOST_BOXES:
            continue
        count += len(parts)
        for part in parts:
            box = Box(_title(part, here.layer), part.kind, _lines(part))
            found = _Open(box, part, here)
            here.box.below.append(box)
            opened.append(found)
            waiting.append(found)
    _connect(tape, opened)
    return first.box


def _title(group: Group, above: str) -> str:
    if group.kind == "record":
        record = group.records[0]
        if is_replayed(record):
            return f"replayed loop x {record.params['steps']} steps"
        return record.primitive.name
    if group.kind == "layer":
        layer = group.layer or ""
        return layer.removeprefix(f"{above}.") or "the model itself"
    if group.steps is not None:
        first, last = group.steps
        return f"t = {first}" if group.count == 1 else f"t = {first} ... {last} (x {group.count})"
    parts = group.repetition()
    if len(parts) == 1 and parts[0].layer:
        names = [
            p.layer.removeprefix(f"{above}.")
            for p in (parts[0], group.in_last(parts[0]))
            if p.layer
        ]
        return f"{' ... '.join(names)} (x {group.count})"
    return f"x {group.count}"


def _lines(group: Group) -> list[str]:
    if group.kind != "record":
        return [f"{len(group)} records, {format_bytes(group.nbytes)}"]
    return _of_record(group.records[0])


def _of_record(record: Record) -> list[str]:
    kinds = [f"{y.dtype} {tuple(y.shape)}" for y in record.results]
    return [_kinds(kinds), *(_cut(name) for name in record.parameters)]


def _kinds(kinds: Sequence[str]) -> str:
    if not kinds:
        return "freed"
    if len(kinds) == 1:
        return kinds[0]
    return f"{len(kinds)} x {kinds[0]}" if len(set(kinds)) == 1 else f"{len(kinds)} results"


def _cut(text: str) -> str:
    return text if len(text) <= 44 else f"...{text[-41:]}"


def _connect(tape: Tape, opened: Sequence[_Open]) -> None:
    """The edges between boxes, from all inputs of all records."""
    leaf = np.zeros(len(tape), np.int64)
    for number, here in enumerate(opened):
        # A later one is deeper, and what it is of are records of the first repetitions alone.
        leaf[here.group.start : here.group.stop] = number
    for here in reversed(opened):  # the other repetitions are as the first one
        if here.group.count > 1:
            own = slice(here.group.start, here.group.start + here.each)
            leaf[here.group.start : here.group.stop] = np.tile(leaf[own], here.group.count)
    place = {record: k for k, record in enumerate(tape.records)}
    for target, record in enumerate(tape.records):
        for value in record.inputs:
            source = place.get(value.record) if isinstance(value, Traced) and value.record else None
            if source is not None:
                _edge(opened[leaf[source]], opened[leaf[target]], source, target)


def _edge(a: _Open, b: _Open, source: int, target: int) -> None:
    """An edge between the boxes, of one box, that the two records are in."""
    above_a, above_b = a, b
    while above_a is not above_b:
        if above_a.depth >= above_b.depth:
            a, above_a = above_a, above_a.above or above_a
        else:
            b, above_b = above_b, above_b.above or above_b
    while a.depth > above_a.depth + 1:
        a = a.above or a
    while b.depth > above_a.depth + 1:
        b = b.above or b
    returning = _is_later(above_a, source, target)
    if a is not above_a:
        above_a.box.connect(a.place, b.place, returning)
    elif returning and above_a.group.kind == "record" and above_a.above:  # it reads itself
        above_a.above.box.connect(a.place, a.place, True)


def _is_later(here: _Open, source: int, target: int) -> bool:
    """Whether two records of a box are in different repetitions of it, or of one around it."""
    around = [here]
    while (above := around[-1].above) is not None:
        around.append(above)
    later = False
    for box in reversed(around):
        a, b = ((k - box.group.start) // box.each for k in (source, target))
        later = later or a != b
        source, target = source - a * box.each, target - b * box.each
    return later


def _open_replayed(box: Box, record: Record) -> int:
    """The program of a replayed loop within its box; returns how many boxes these are."""
    program: Program = record.params["replay"].program
    whole = record.origin.inside if record.origin else ()
    names = {
        v: x.name
        for v, x in zip(program.consts, record.inputs, strict=False)
        if isinstance(x, Traced) and x.name
    }
    place: dict[Any, int] = {}
    before = dict(zip(program.state, program.next_state, strict=True))
    for k, op in enumerate(program.ops):
        kinds = [f"{v.dtype} {v.shape}" for v in op.outputs]
        used = dict.fromkeys(_cut(names[x]) for x in op.values() if x in names)
        box.below.append(Box(op.primitive.name, "operation", [_kinds(kinds), *used]))
        place.update(dict.fromkeys(op.outputs, k))
    for k, op in enumerate(program.ops):
        for x in op.inputs:
            if not isinstance(x, Value):
                continue
            if x in place:
                box.connect(place[x], k, False)
            elif before.get(x) in place:
                box.connect(place[before[x]], k, True)
    if whole and whole[0].layer:
        box.title += f", {whole[0].layer}"
    return len(program.ops)
