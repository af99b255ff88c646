"""The order of the tape: what identifies a value on it, and which records lead to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tinygrad_rnn.tape.primitive import Record, Traced

Key = Traced | Record | tuple[Record, int]


def key_of(value: Traced) -> Key:
    """What identifies a value on the tape: a leaf itself, else its record (and slot, if not 0)."""
    record = value.record
    if record is None:
        return value
    return (record, value.slot) if value.slot else record


def result_key(record: Record, slot: int) -> Key:
    """The key of one result of a record."""
    return (record, slot) if slot else record


def collect(outputs: Iterable[Any], since: int = 0, before: Iterable[Record] = ()) -> list[Record]:
    """Every record from position ``since`` on that ``outputs`` depend on, in order.

    Those in ``before`` count as done, and so does what they alone depend on.
    """
    given = set(before)
    seen: set[Record] = {*given}
    stack = [outputs]
    while stack:
        for value in stack.pop():
            if isinstance(value, Traced):
                record = value.record
                if record is not None and record not in seen and record.position >= since:
                    seen.add(record)
                    stack.append(record.inputs)
    return sorted(seen - given, key=lambda record: record.position)


def between(inputs: Sequence[Traced], records: Iterable[Record]) -> list[Record]:
    """Those of ``records`` (in order) that depend on one of ``inputs``, and those freed."""
    keys = {key_of(value) for value in inputs}
    dependent: dict[Record, None] = {}
    for record in records:
        if record.freed:
            dependent[record] = None
        for value in record.inputs:
            if isinstance(value, Traced) and (value.record in dependent or key_of(value) in keys):
                dependent[record] = None
                break
    return list(dependent)
