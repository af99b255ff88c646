"""What a printed tape calls its values: by the names that they were given, else by numbers."""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_rnn.tape.order import result_key
from tinygrad_rnn.tape.record import Key, Record, Traced, key_of


class Names:
    """The names of all values of a tape.

    Attributes
    ----------
    places : the number of each record on the tape.
    outside : by the number of the record that reads them first, the values that the tape reads and
        does not compute; the outputs of the tape count as read by a record after the last.
    count : how many those are.
    """

    def __init__(self, records: Sequence[Record], outputs: Sequence[Traced]) -> None:
        self.places = {record: k for k, record in enumerate(records)}
        self.outside: dict[int, list[Traced]] = {}
        self.count = 0
        self._given: dict[Key, str] = {}
        self._numbers: dict[Key, int] = {}
        self._first: list[int] = []  # the number of the first result of each record
        given = _given_names(records, outputs)
        taken: set[str] = set()
        number = 0

        def define(key: Key, name: str | None) -> None:
            name = printable(name or "")
            if name and name not in taken and not name.startswith("%"):
                taken.add(name)
                self._given[key] = name

        def read(values: Sequence[object], reader: int) -> None:
            nonlocal number
            for value in values:
                if isinstance(value, Traced) and not self.is_inside(value):
                    key = key_of(value)
                    if key not in self._numbers:
                        self._numbers[key] = number
                        define(key, value.name)
                        self.outside.setdefault(reader, []).append(value)
                        self.count += 1
                        number += 1

        for k, record in enumerate(records):
            if not record.freed:
                read(record.inputs, k)
            self._first.append(number)
            count = len(record.results) or 1
            for slot in range(count) if given else ():
                key = result_key(record, slot)
                define(key, given.get(key))
            number += count
        read(outputs, len(records))

    def is_inside(self, value: Traced) -> bool:
        """Whether a record of the tape has computed the value, and is not freed."""
        record = value.record
        return record in self.places and (value.slot == 0 or not record.freed)

    def of(self, value: Traced) -> str:
        """The name of a value that the tape reads or computes."""
        key = key_of(value)
        if key in self._given:
            return self._given[key]
        if value.record is not None and self.is_inside(value):
            return f"%{self._first[self.places[value.record]] + value.slot}"
        return f"%{self._numbers[key]}"

    def results(self, k: int, record: Record) -> list[str]:
        """The names of the results of record k; one where it is freed."""
        keys = [result_key(record, slot) for slot in range(len(record.results) or 1)]
        return [self._given.get(key, f"%{self._first[k] + n}") for n, key in enumerate(keys)]


def _given_names(records: Sequence[Record], outputs: Sequence[Traced]) -> dict[Key, str]:
    """The names that somebody gave to values which records have computed.

    A record holds no handle to its results, but those that read them do.
    """
    groups = (*(record.inputs for record in records if not record.freed), outputs)
    values = (value for group in groups for value in group if isinstance(value, Traced))
    return {key_of(x): x.name for x in values if x.name and x.record is not None}


def printable(name: str) -> str:
    """A name of the user's in one line: what cannot be printed as Python writes it, ``\\n``."""
    if name.isprintable():
        return name
    return "".join(x if x.isprintable() else repr(x)[1:-1] for x in name)


def span(names: Sequence[str]) -> str:
    """Names in a row, of many the first ones and the last."""
    return ", ".join(names) if len(names) < 8 else f"{names[0]}, {names[1]}, ... {names[-1]}"
