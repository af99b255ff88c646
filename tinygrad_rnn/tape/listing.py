"""A tape as a program to be read: one line for each leaf and each record."""

from __future__ import annotations

from collections.abc import Sequence
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


def lines(records: Sequence[Record], outputs: Sequence[Traced]) -> tuple[list[Line], list[str]]:
    """The lines of the program and the names of its results."""
    names: dict[Key, str] = {}
    taken: set[str] = set()
    listing: list[Line] = []

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
            role = "leaf" if value.record is None else f"from {value.record.primitive.name}"
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
        defined = [define(result_key(record, slot)) for slot in range(len(record.results))]
        kinds = dict.fromkeys(f"{r.dtype} {tuple(r.shape)}" for r in record.results)
        nbytes = sum(r.nbytes for r in record.results)
        call = f"{record.primitive.name}({', '.join(arguments)})"
        if record.frame:
            call += f"   # {record.frame}"
        listing.append(Line(_span(defined), " / ".join(kinds), nbytes, call))
    return listing, [operand(output) for output in outputs]


def _span(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 8 else f"{names[0]}, {names[1]}, ... {names[-1]}"


def shortened(text: str) -> str:
    """A text, cut where it is too long for a line."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def program(records: Sequence[Record], outputs: Sequence[Traced]) -> str:
    """The tape as text."""
    listing, results = lines(records, outputs)
    total = sum(r.nbytes for record in records for r in record.results)
    head = f"tape of {len(records)} records, {format_bytes(total)} of results"
    width = max((len(line.names) for line in listing), default=0)
    body = [
        f"  {line.names + ':':<{width + 1}} {line.kind:<20} {format_bytes(line.nbytes):>9}   "
        f"{line.call}"
        for line in listing
    ]
    return "\n".join([head, *body, f"result: {', '.join(results)}"])


def table(records: Sequence[Record], outputs: Sequence[Traced]) -> str:
    """The tape as an HTML table, for notebooks."""
    listing, results = lines(records, outputs)
    rows = "".join(
        f"<tr><td>{escape(line.names)}</td><td>{escape(line.kind)}</td>"
        f"<td>{format_bytes(line.nbytes)}</td><td><code>{escape(line.call)}</code></td></tr>"
        for line in listing
    )
    head = "<tr><th>name</th><th>kind</th><th>size</th><th>operation</th></tr>"
    return f"<table>{head}{rows}</table><p>result: {escape(', '.join(results))}</p>"
