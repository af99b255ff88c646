"""The rows of a page as columns of numbers and texts: what each is, reads and comes from."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.lab.page.rows import Loop, Rows, Source
from tinygrad_rnn.lab.page.rules import description, shown_path
from tinygrad_rnn.tape import Origin, Record, code_at
from tinygrad_rnn.tape.order import result_key

NAMES = (
    "op", "name", "layer", "step", "reverse", "line", "equation", "params", "kind", "bytes",
    "results", "merged", "inputs", "loop",
)  # fmt: skip
"""The columns: numbers, and of texts and operations their numbers, -1 where there is none."""


class Texts:
    """Texts by their numbers, each of them once."""

    def __init__(self) -> None:
        self.number: dict[str, int] = {}

    def of(self, text: str | None) -> int:
        """The number of a text, -1 for None and the empty one."""
        return self.number.setdefault(text, len(self.number)) if text else -1

    def all(self) -> list[str]:
        """All texts in the order of their numbers."""
        return list(self.number)


class Columns:
    """Makes the columns of the rows that are shown; ``number`` says which one each becomes."""

    def __init__(self, rows: Rows, number: dict[int, int]) -> None:
        self.rows = rows
        self.number = number
        self.texts = Texts()
        self._places: dict[str, None] = {}
        self._primitives: dict[Any, int] = {}
        self._outside: dict[Loop, list[Source]] = {}

    def made(self, merged: np.ndarray) -> dict[str, list[Any]]:
        """The columns; ``merged`` says of each row how many it stands for."""
        columns: dict[str, list[Any]] = {name: [] for name in NAMES}
        inside = {
            row: loop
            for loop in self.rows.loops.values()
            for row in range(loop.first, loop.first + loop.rows)
            if row in self.number
        }
        records = {row: record for record, row in self.rows.record.items() if row in self.number}
        leaves = {row: key for key, row in self.rows.leaf.items()}
        loops = {record: k for k, record in enumerate(self.rows.loops)}
        for row in self.number:
            if row in leaves:
                found = self._leaf(leaves[row])
            elif row in inside:
                found = self._inner(row, inside[row])
            else:
                found = self._record(records[row])
            found |= {
                "merged": int(merged[row]),
                "loop": loops.get(records[row], -1) if row in records else -1,
            }
            for name in NAMES:
                columns[name].append(found[name])
        return columns

    def _leaf(self, key: Any) -> dict[str, Any]:
        value = self.rows.leaf_values[key]
        array = value.array
        # What another tape has computed is a leaf of this one.
        source = None if value.record is None else f"from {value.record.primitive.name}"
        return self._origin(value.record.origin if value.record else None) | {
            "op": -1,
            "name": self.texts.of(value.name),
            "params": self.texts.of(source),
            "kind": self.texts.of(f"{array.dtype} {tuple(array.shape)}"),
            "bytes": array.nbytes,
            "results": 1,
            "inputs": [],
        }

    def _record(self, record: Record) -> dict[str, Any]:
        loop = self.rows.loops.get(record)
        inputs = [self.rows.source(x) for x in record.inputs]
        params = dict(record.params)
        if loop is not None:
            params = {"steps": loop.steps, "reverse": loop.reverse}
            inputs = loop.results()
        name = self.rows.names.get(result_key(record, 0))
        return self._origin(record.origin) | {
            "op": self._operation(record.primitive),
            "name": self.texts.of(name),
            "params": self._params(params),
            "kind": self._kinds([(y.dtype, y.shape) for y in record.results]),
            "bytes": sum(y.nbytes for y in record.results),
            "results": len(record.results),
            "inputs": [self.source(x) for x in inputs],
        }

    def _inner(self, row: int, loop: Loop) -> dict[str, Any]:
        outside = self._outside.get(loop)
        if outside is None:
            outside = self._outside[loop] = [self.rows.source(x) for x in loop.record.inputs]
        op = loop.op(row)
        sizes = [v.dtype.itemsize * int(np.prod(v.shape)) for v in op.outputs]
        return self._origin(loop.origin(row)) | {
            "op": self._operation(op.primitive),
            "name": -1,
            "params": self._params(op.params),
            "kind": self._kinds([(v.dtype, v.shape) for v in op.outputs]),
            "bytes": sum(sizes),
            "results": len(op.outputs),
            "inputs": [self.source(x) for x in loop.sources(row, outside)],
        }

    def _origin(self, origin: Origin | None) -> dict[str, Any]:
        origin = origin or Origin()
        line, equation = (p and self._place(p) for p in (origin.line, origin.equation))
        return {
            "layer": self.texts.of(origin.layer),
            "step": -1 if origin.step is None else origin.step,
            "reverse": int(origin.reverse),
            "line": self.texts.of(line),
            "equation": self.texts.of(equation),
        }

    def _place(self, place: str) -> str:
        file, _, number = place.rpartition(":")
        found = f"{shown_path(file)}:{number}"
        self._places[found] = None
        return found

    def _operation(self, primitive: Any) -> int:
        return self._primitives.setdefault(primitive, len(self._primitives))

    def operations(self) -> list[dict[str, Any]]:
        """What is to be said of each operation, in the order of their numbers."""
        return [description(primitive) for primitive in self._primitives]

    def code(self) -> dict[str, str]:
        """The text of each line of code that a row comes from, by its place."""
        return {place: code_at(place) for place in self._places}

    def _params(self, params: dict[str, Any]) -> int:
        parts = [f"{name}={_short(repr(value))}" for name, value in params.items()]
        return self.texts.of(", ".join(parts))

    def _kinds(self, results: list[tuple[Any, Any]]) -> int:
        kinds = [f"{dtype} {tuple(shape)}" for dtype, shape in results]
        return self.texts.of(" / ".join(kinds))

    def source(self, source: Source) -> Any:
        """A row as its number, a number in the tape as text, one of several results as a pair."""
        if isinstance(source, str):
            return _short(source)
        row, slot = source if isinstance(source, tuple) else (source, 0)
        number = self.number[int(self.rows.shown[row])]
        return [number, slot] if slot else number


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
