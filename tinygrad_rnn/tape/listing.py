"""A tape as a program to be read: one line for each leaf and each record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from tinygrad_rnn.tape.order import result_key
from tinygrad_rnn.tape.record import Key, Record, Traced, key_of


class Line(NamedTuple):
    """One line of the program: what it defines, of what kind and size, and by which call."""

    names: str
    kind: str
    nbytes: int
    call: str


def format_bytes(count: int) -> str:
    """A count of bytes for reading: ``512 B``, ``3.2 KiB``, ``1.5 MiB``."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{count} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def lines(
    records: Sequence[Record], outputs: Sequence[Traced], forward: Mapping[int, str]
) -> tuple[list[Line], list[str], dict[Key, str]]:
    """The lines of the program, the names of its results, and those of all values.

    ``forward`` says what the records of the forward pass are called, by their positions.
    """
    names: dict[Key, str] = {}
    taken: set[str] = set()
    listing: list[Line] = []
    given = _given_names(records, outputs)

    def define(key: Key, name: str | None = None) -> str:
        if name is None or name in taken or name.startswith("%"):
            name = f"%{len(names)}"
        names[key] = name
        taken.add(name)
        return name

    def operand(value: Any) -> str:
        if not isinstance(value, Traced):
            return f"{value.dtype}{tuple(value.shape)}" if hasattr(value, "dtype") else repr(value)
        key = key_of(value)
        if key not in names:
            array = value.array
            name = define(key, value.name)
            role = "leaf" if value.record is None else _source(value.record, forward)
            kind = f"{array.dtype} {tuple(array.shape)}"
            listing.append(Line(name, kind, array.nbytes, role))
        return names[key]

    for record in records:
        if record.freed:
            name = define(result_key(record, 0))
            listing.append(Line(name, "freed", 0, f"{record.primitive.name}(...)"))
            continue
        arguments = [_span([operand(value) for value in record.inputs])]
        arguments += [f"{name}={shortened(repr(value))}" for name, value in record.params.items()]
        keys = [result_key(record, slot) for slot in range(len(record.results))]
        defined = [define(key, given.get(key)) for key in keys]
        kinds = dict.fromkeys(f"{r.dtype} {tuple(r.shape)}" for r in record.results)
        nbytes = sum(r.nbytes for r in record.results)
        call = f"{record.primitive.name}({', '.join(arguments)})"
        note = _note(record, forward)
        call += note and f"   # {note}"
        listing.append(Line(_span(defined), " / ".join(kinds), nbytes, call))
    return listing, [operand(output) for output in outputs], names


def _given_names(records: Sequence[Record], outputs: Sequence[Traced]) -> dict[Key, str]:
    """The names that somebody gave to values which records have computed.

    A record holds no handle to its results, but those that read them do.
    """
    groups = (*(record.inputs for record in records if not record.freed), outputs)
    values = (value for group in groups for value in group if isinstance(value, Traced))
    return {key_of(x): x.name for x in values if x.name and x.record is not None}


def _source(record: Record, forward: Mapping[int, str]) -> str:
    """Of which record a value is that a tape reads and does not compute."""
    name = forward.get(record.position)
    line = record.origin and record.origin.line
    parts = (f"from {record.primitive.name}", name and f"{name} of the forward tape", line)
    return ", ".join(part for part in parts if part)


def _note(record: Record, forward: Mapping[int, str]) -> str:
    """Where a record comes from, as far as that is known."""
    origin = record.origin
    if origin is None:
        return ""
    name = None if origin.forward is None else forward.get(origin.forward)
    return ", ".join(part for part in (name and f"back from {name}", str(origin)) if part)


def names_of(records: Sequence[Record], outputs: Sequence[Traced]) -> dict[int, str]:
    """What the printed program calls the first result of each record, by the record's position."""
    names = lines(records, outputs, {})[2]
    return {key.position: name for key, name in names.items() if isinstance(key, Record)}


def _span(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 8 else f"{names[0]}, {names[1]}, ... {names[-1]}"


def shortened(text: str) -> str:
    """A text, cut where it is too long for a line."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def program(
    records: Sequence[Record], outputs: Sequence[Traced], forward: Mapping[int, str]
) -> str:
    """The tape as text."""
    listing, results, _ = lines(records, outputs, forward)
    total = sum(r.nbytes for record in records for r in record.results)
    head = f"tape of {len(records)} records, {format_bytes(total)} of results"
    width = max((len(line.names) for line in listing), default=0)
    body = [
        f"  {line.names + ':':<{width + 1}} {line.kind:<20} {format_bytes(line.nbytes):>9}   "
        f"{line.call}"
        for line in listing
    ]
    return "\n".join([head, *body, f"result: {', '.join(results)}"])


def table(records: Sequence[Record], outputs: Sequence[Traced], forward: Mapping[int, str]) -> str:
    """The tape as an HTML table, for notebooks."""
    listing, results, _ = lines(records, outputs, forward)
    rows = "".join(
        f"<tr><td>{escape(line.names)}</td><td>{escape(line.kind)}</td>"
        f"<td>{format_bytes(line.nbytes)}</td><td><code>{escape(line.call)}</code></td></tr>"
        for line in listing
    )
    head = "<tr><th>name</th><th>kind</th><th>size</th><th>operation</th></tr>"
    return f"<table>{head}{rows}</table><p>result: {escape(', '.join(results))}</p>"
