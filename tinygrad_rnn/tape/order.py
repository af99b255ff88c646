"""The order of the tape: what identifies a value on it, and which records lead to one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from tinygrad_rnn.tape.record import Key, Record, Traced, key_of


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
            elif isinstance(value, Record | tuple):  # the key of an input of a freed record
                record = record_of(value)  # pyright: ignore[reportUnknownArgumentType]
            else:
                continue
            if record is not None and record not in seen and record.position >= since:
                seen.add(record)
                stack.append(record.inputs)
    return sorted(seen - given, key=lambda record: record.position)


def between(inputs: Sequence[Traced], records: Iterable[Record]) -> list[Record]:
    """Those of ``records`` (in order) that depend on one of ``inputs``."""
    keys = {key_of(value) for value in inputs}
    dependent: dict[Record, None] = {}
    for record in records:
        for value in record.inputs:
            if isinstance(value, Traced):
                key, source = key_of(value), value.record
            elif record.freed:
                key, source = value, record_of(value)
            else:
                continue
            if source in dependent or key in keys:
                dependent[record] = None
                break
    return list(dependent)


def record_of(key: Any) -> Record:
    return cast("Record", key[0] if isinstance(key, tuple) else key)
