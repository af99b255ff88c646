"""What a printed tape says, as rows: of all its values, or of its groups, opened here and there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.tape.folding import Group
from tinygrad_rnn.tape.names import Names, printable, span
from tinygrad_rnn.tape.origin import without_folders
from tinygrad_rnn.tape.record import Record, Traced

Around = tuple[Group, ...]
"""The folded groups around a record, the innermost first."""


class Row(NamedTuple):
    """One row: what a group is (``head``), or a value with the call that gives it.

    ``depth`` is that of the group, ``program`` what the operation runs inside, where that is shown,
    ``line`` that of the user or of the equation. ``numbers`` are those of the records of which the
    row speaks, one for each repetition; ``value`` is what no record of the tape has computed.
    """

    depth: int
    head: str = ""
    names: str = ""
    kind: str = ""
    nbytes: int = 0
    call: str = ""
    note: str = ""
    line: str = ""
    program: str = ""
    numbers: Sequence[int] = ()
    value: Traced | None = None


def format_bytes(count: int) -> str:
    """A count of bytes for reading: ``512 B``, ``3.2 KiB``, ``1.5 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def shortened(text: str) -> str:
    """A text, cut where it is too long for a line."""
    return text if len(text) <= 60 else f"{text[:57]}..."


class Rows:
    """Makes the rows of a tape.

    ``forward`` says what the records of the forward pass are called, by their positions. ``unfold``
    is the layer whose repetitions and programs are all shown; True for those of the whole tape.
    """

    def __init__(
        self,
        records: Sequence[Record],
        outputs: Sequence[Traced],
        forward: Mapping[int, str],
        unfold: str | bool,
    ) -> None:
        self.names = Names(records, outputs)
        self._records = records
        self._forward = forward
        self._unfold = unfold

    def flat(self) -> Iterator[Row]:
        """A row for each value."""
        outside = self.names.outside
        for k, record in enumerate(self._records):
            for value in outside.get(k, ()):
                yield self._leaf(value)
            inputs = () if record.freed else record.inputs
            operands = [self.names.of(x) if isinstance(x, Traced) else _constant(x) for x in inputs]
            settings = [f"{name}={shortened(repr(x))}" for name, x in record.params.items()]
            origin = record.origin
            line = origin and origin.forward not in self._forward and without_folders(origin.line)
            place = str(origin._replace(line=line or None)) if origin else ""
            row = self._record(k, 1, operands, settings, (k,), bool(self._unfold), place)
            yield row if self._unfold else self._brief(k, row)
        yield from map(self._leaf, outside.get(len(self._records), ()))

    def tree(self, root: Group) -> Iterator[Row]:
        """Rows of groups, and of what is in them once."""
        for group in root.repetition():
            yield from self._group(group, 1, "", (), np.zeros(1, np.int64), self._unfold is True)

    def _group(
        self, group: Group, depth: int, layer: str, around: Around, twins: Any, opened: bool
    ) -> Iterator[Row]:
        """Rows of a group in a layer.

        ``twins`` says how many records later the same stands in each repetition around.
        """
        if group.kind == "record":
            yield self._folded_record(group.start, depth, layer, around, twins, opened)
            return
        below = group.repetition()
        opened = opened or (group.layer is not None and self._is_unfolded(group.layer))
        if group.kind == "layer":
            layer = group.layer or ""
            if len(below) == 1 and below[0].kind == "repeat" and len(below[0].repetition()) == 1:
                yield from self._group(below[0], depth, layer, around, twins, opened)
                return
            yield Row(depth, _head(_layers(group, around), group))
        elif group.count > 1 and (opened or self._holds_unfolded(group)):
            deeper = len(below) > 1 or below[0].kind != "layer"
            for k in range(group.count):
                if deeper:
                    yield Row(depth, _one(group, k))
                for one in group.repetition(k):
                    yield from self._group(one, depth + deeper, layer, around, twins, opened)
            return
        else:
            if group.count > 1:
                each = len(group) // group.count
                twins = np.add.outer(twins, each * np.arange(group.count)).ravel()
                around = (group, *around)
            label = _steps(group)
            if group.kind == "repeat" and len(below) == 1 and below[0].layer:
                layer = below[0].layer
                label = _layers(below[0], around)
                below = below[0].repetition()
            yield Row(depth, _head(label, group))
        for one in below:
            yield from self._group(one, depth + 1, layer, around, twins, opened)

    def _holds_unfolded(self, group: Group) -> bool:
        return isinstance(self._unfold, str) and any(
            self._is_unfolded(total.layer or "") for total in group.totals()
        )

    def _is_unfolded(self, layer: str) -> bool:
        return f"{layer}.".startswith(f"{self._unfold}.")

    def _leaf(self, value: Traced) -> Row:
        array, record = value.array, value.record
        kind = f"{array.dtype} {tuple(array.shape)}"
        role = "leaf" if record is None else self._source(record)
        return Row(1, "", self.names.of(value), kind, array.nbytes, role, value=value)

    def _source(self, record: Record) -> str:
        """Of which record a value is that the tape reads and does not compute."""
        name = self._forward.get(record.position)
        line = without_folders(record.origin.line) if record.origin else ""
        parts = (f"from {record.primitive.name}", name and f"{name} of the forward tape", line)
        return ", ".join(part for part in parts if part)

    def _folded_record(
        self, k: int, depth: int, layer: str, around: Around, twins: Any, opened: bool
    ) -> Row:
        record = self._records[k]
        count = 0 if record.freed else len(record.inputs)
        operands = [self._operand(k, j, layer, around) for j in range(count)]
        others = [self._records[k + len(group) // group.count] for group in around]
        settings: list[str] = []
        for name, value in record.params.items():
            text = shortened(repr(value))
            same = all(shortened(repr(other.params.get(name))) == text for other in others)
            settings.append(f"{name}={text}" + ("" if same else " ..."))
        row = self._record(k, depth, operands, settings, k + twins, opened, "")
        return self._brief(k, row)

    def _brief(self, k: int, row: Row) -> Row:
        """A row without the names and kinds between the first and the last."""
        first, *more = self.names.results(k, self._records[k])
        names = f"{first} ... {more[-1]}" if len(more) > 1 else row.names
        kind, slash, _ = row.kind.partition(" / ")
        return row._replace(names=names, kind=f"{kind} ..." if slash else kind)

    def _record(
        self, k: int, depth: int, operands: Sequence[str], settings: Sequence[str],
        numbers: Sequence[int], opened: bool, place: str,
    ) -> Row:  # fmt: skip
        record = self._records[k]
        name, inside, origin = record.primitive.name, record.inside, record.origin
        program = ""
        if record.freed:
            call = f"{name}(...)"
        elif inside is not None:
            call = f"{name}({inside[0]} x {inside[1]!r}, {span(operands)})"
            program = _with_lines(str(inside[1]), record) if opened else ""
        else:
            call = f"{name}({', '.join(filter(None, (span(operands), *settings)))})"
        forward = None if origin is None else origin.forward
        back = None if forward is None else self._forward.get(forward)
        note = ", ".join(filter(None, (back and f"back from {back}", place)))
        kinds = dict.fromkeys(f"{y.dtype} {tuple(y.shape)}" for y in record.results)
        return Row(
            depth,
            names=span(self.names.results(k, record)),
            kind=" / ".join(kinds) if kinds else "freed",
            nbytes=sum(y.nbytes for y in record.results),
            call=call,
            note=note,
            line=origin.short_line if origin else "",
            program=program,
            numbers=numbers,
        )

    def _operand(self, k: int, j: int, layer: str, around: Around) -> str:
        """Input j of record k, as what it is in all repetitions."""
        text = self._text(k, j, layer)
        place = self._place(k, j)
        for group in around:
            start, each = group.start, len(group) // group.count
            if place >= start:  # computed in the same repetition
                break
            other = self._text(k + each, j, layer)
            if start <= self._place(k + each, j) < start + each:
                outer = "" if group is around[0] else f" (x {group.count:,})"
                return f"previous {other}{outer}"
            if other != text:
                return f"{text} ..."
        return text

    def _place(self, k: int, j: int) -> int:
        """The number of the record that has computed an input, -1 for none."""
        value = self._records[k].inputs[j]
        record = value.record if isinstance(value, Traced) else None
        return -1 if record is None else self.names.places.get(record, -1)

    def _text(self, k: int, j: int, layer: str) -> str:
        value = self._records[k].inputs[j]
        if not isinstance(value, Traced):
            return _constant(value)
        if value.record is None:
            name = printable(value.name or "")
            return name.removeprefix(f"{layer}.") if name else _constant(value.array)
        if self.names.is_inside(value):
            return self.names.of(value)
        name = self._forward.get(value.record.position)
        return f"forward {name}" if name else f"from {value.record.primitive.name}"


def _with_lines(program: str, record: Record) -> str:
    """The text of a program, its operations (which are indented) with the lines they come from."""
    origins = iter(record.origin.inside if record.origin else ())
    found: list[str] = []
    for text in program.splitlines():
        origin = next(origins, None) if text.startswith(" ") else None
        line = origin and origin.short_line
        found.append(f"{text}   # {line}" if line else text)
    return "\n".join(found)


def _constant(value: Any) -> str:
    return f"{value.dtype}{tuple(value.shape)}" if hasattr(value, "dtype") else repr(value)


def _head(label: str, group: Group) -> str:
    """What a group is, and what it comes to."""
    count = group.count
    size = f"{_records(len(group) // count)}, {format_bytes(group.nbytes // count)}"
    if count == 1:
        return f"{label}: {size}"
    return f"{label} (x {count:,}): {size} each" if label else f"x {count:,}: {size} each"


def _layers(group: Group, around: Around) -> str:
    """The name of a layer, and where others repeat it, the last of theirs."""
    first = group.layer or ""
    names = (outer.in_last(group).layer or "" for outer in around)
    last = next((name for name in names if name != first), "")
    return f"{first} ... {last}" if last else first


def _steps(group: Group) -> str:
    """Which time steps a group is, if it is any."""
    if group.steps is None:
        return ""
    first, last = group.steps
    return f"step {first}" if group.count == 1 else f"steps {first} ... {last}"


def _records(count: int) -> str:
    return f"{count:,} record{'s' * (count != 1)}"


def _one(group: Group, k: int) -> str:
    """One repetition of a group."""
    return f"step {group.step(k)}" if group.steps else f"{k + 1} of {group.count:,}"
