"""What a record says, as numbers: whatever looks for repetition compares these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from tinygrad_rnn.tape.order import record_of
from tinygrad_rnn.tape.origin import Origin
from tinygrad_rnn.tape.record import Record, Traced

_NUMBER = re.compile(r"\d+")
_SLOTS = 20  # bits of a wire that say which result of a record it comes from


Ints: TypeAlias = "np.ndarray[Any, np.dtype[np.int64]]"


class Tokens(NamedTuple):
    """Records as numbers, one of each per record.

    Attributes
    ----------
    same : equal where two records say the same: operation, layer, names of the leaves among the
        inputs, kinds of the results, parameters of the operation up to numbers in them.
    alike : what is equal to it up to numbers in names, by ``same``: one weight for all layers.
    layer : which of ``layers``, the first of which is None.
    steps : the time steps of the loops around, the outermost first, -1 for none.
    way : the direction of the innermost loop, and whether it belongs to a backward pass.
    wires : where each input comes from: record and result, -1 for what no record computed. Those
        of record k are ``wires[first[k] : first[k + 1]]``.
    nbytes : of the results of all records before, and of all at the end.
    """

    same: Ints
    alike: list[int]
    layer: Ints
    layers: list[str | None]
    steps: Ints
    way: Ints
    wires: Ints
    first: Ints
    nbytes: Ints

    def wiring(self, start: int, stop: int) -> bytes:
        """How records are connected among themselves, wherever their other inputs come from."""
        wires = self.wires[self.first[start] : self.first[stop]] - (start << _SLOTS)
        return np.maximum(wires, -1).tobytes()

    def agreeing(self, start: int, length: int, count: int) -> int:
        """Of so many stretches of records that say the same, how many of the first are connected
        among themselves as the very first is.
        """
        first = self.first[start]
        each = int(self.first[start + length] - first)
        wires = self.wires[first : first + count * each].reshape(count, each)
        begins = start + length * np.arange(count)
        wires = np.maximum(wires - (begins[:, None] << _SLOTS), -1)
        same = (wires == wires[0]).all(axis=1)
        return count if same.all() else int(same.argmin())


def tokens(records: Sequence[Record]) -> Tokens:
    """What each of some records says."""
    known: dict[tuple[Any, ...], int] = {}
    layers: dict[str | None, int] = {None: 0}
    places: dict[Record, int] = {}
    same: list[int] = []
    layer: list[int] = []
    steps: list[tuple[int, ...]] = []
    way: list[int] = []
    wires: list[int] = []
    first = [0]
    nbytes = [0]
    nowhere = Origin()
    for k, record in enumerate(records):
        origin = record.origin or nowhere
        place = layers.setdefault(origin.layer, len(layers))
        names: list[str | None] = []
        for x in record.inputs:
            name = wire = None
            if isinstance(x, Traced):
                if x.record is None:
                    name = x.name
                else:
                    wire, slot = places.get(x.record), x.slot
            elif isinstance(x, Record | tuple):  # the key of an input of a freed record
                key = cast("Record | tuple[Record, int]", x)
                wire = places.get(record_of(key))
                slot = key[1] if isinstance(key, tuple) else 0
            elif not hasattr(x, "dtype"):
                name = type(x).__name__
            names.append(name)
            wires.append(-1 if wire is None else (wire << _SLOTS) + slot)  # pyright: ignore[reportPossiblyUnboundVariable]
        results = record.results
        kinds = tuple([(y.dtype.num, y.shape) for y in results])
        size = nbytes[-1]
        for y in results:
            size += y.nbytes
        inside = record.inside
        form = _form(record.params), inside and id(inside[1])
        token = (record.primitive, kinds, form, (*names,), origin.layer)
        same.append(known.setdefault(token, len(known)))
        layer.append(place)
        steps.append(origin.steps)
        way.append(2 * origin.reverse + (origin.forward is not None))
        first.append(len(wires))
        nbytes.append(size)
        places[record] = k
    depth = max(map(len, steps), default=0)
    table = np.full((len(records), depth + 1), -1)
    for k, found in enumerate(steps) if depth else ():
        table[k, : len(found)] = found
    alike: dict[tuple[Any, ...], int] = {}
    return Tokens(
        np.array(same, np.int64),
        [alike.setdefault(_without_numbers(token), len(alike)) for token in known],
        np.array(layer, np.int64),
        [*layers],
        table,
        np.array(way, np.int64),
        np.array(wires, np.int64),
        np.array(first, np.int64),
        np.array(nbytes, np.int64),
    )


def _form(value: Any) -> Any:
    """A parameter of an operation up to the numbers in it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        return tuple([(name, _form(item)) for name, item in found.items()])
    if isinstance(value, tuple | list):
        return tuple([_form(item) for item in cast("tuple[Any, ...]", value)])
    return (value.dtype.num, value.shape) if hasattr(value, "dtype") else type(value).__name__


def without_numbers(name: str) -> str:
    """A name with a sign in place of each number in it."""
    return _NUMBER.sub("#", name)


def _without_numbers(token: tuple[Any, ...]) -> tuple[Any, ...]:
    *rest, names, layer = token
    names = tuple([without_numbers(name) if isinstance(name, str) else name for name in names])
    return (*rest, names, layer and without_numbers(layer))
