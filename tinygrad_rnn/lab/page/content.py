"""Everything that a page says about a tape, as data: lists, texts, and arrays in base64."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.lab.page.measures import LARGEST_SAMPLE, MEASURES, Measures, sample_size
from tinygrad_rnn.lab.page.outline import Node, Outline
from tinygrad_rnn.lab.page.passes import Passes
from tinygrad_rnn.lab.page.rows import Loop, Rows, Source
from tinygrad_rnn.lab.page.rules import code_line, description, shown_path
from tinygrad_rnn.tape import Origin, Record, Tape
from tinygrad_rnn.tape.order import result_key

MOST_ROWS = 24_000
"""The most rows of a page; of a larger tape, equal time steps are shown as one."""


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


class TapeContent:
    """What a page says about a tape."""

    def __init__(self, tape: Tape, most_rows: int = MOST_ROWS) -> None:
        self.rows = Rows(tape)
        self.outline = Outline(self.rows, most_rows)
        self.kept = np.flatnonzero(self.rows.shown == np.arange(len(self.rows.shown)))
        self.number = {int(row): k for k, row in enumerate(self.kept)}
        self.texts = Texts()
        counts = np.diff([*self.rows.first, self.rows.arrays])
        arrays = int(counts[self.kept].sum())
        self.largest = sample_size(2 * arrays)
        self.passes = Passes(tape, self.rows, self.largest)
        self._merge(counts)
        self.loops = list(self.rows.loops)

    def _merge(self, counts: np.ndarray) -> None:
        """Let the measures of what is shown be those of all that is merged into it."""
        rows, passes = self.rows, self.passes
        order = np.argsort(rows.shown, kind="stable")
        shown = rows.shown[order]
        self.merged = np.ones(len(order), int)
        for group in np.split(order, np.flatnonzero(np.diff(shown)) + 1):
            if len(group) == 1:
                continue
            kept = int(rows.shown[group[0]])
            self.merged[kept] = len(group)
            alike = group[counts[group] == counts[kept]]
            for slot in range(counts[kept]):
                arrays = np.array([rows.first[k] + slot for k in alike])
                passes.values.merge(rows.first[kept] + slot, arrays)
                passes.cotangents.merge(rows.first[kept] + slot, arrays)
            if not np.isnan(passes.shares[group]).all():
                passes.shares[kept] = np.nanmean(passes.shares[group])

    def data(self) -> dict[str, Any]:
        """The content of the page."""
        rows, passes = self.rows, self.passes
        listed = self._rows()
        arrays = [
            rows.first[row] + slot
            for row, count in zip(self.kept, listed["results"], strict=True)
            for slot in range(count)
        ]
        records = len(rows.tape.records)
        total = sum(y.nbytes for record in rows.tape.records for y in record.results)
        return {
            "records": records,
            "bytes": total,
            "gradient": _rounded(passes.total**0.5) if passes.backwards else None,
            "backwards": passes.backwards,
            "notes": [*passes.notes, *self._notes()],
            "rows": listed,
            "values": _measured(passes.values, arrays),
            "cotangents": _measured(passes.cotangents, arrays),
            "shares": _coded(passes.shares[self.kept], "<f8"),
            "uses": {self.number[k]: self._uses(uses) for k, uses in passes.uses.items()},
            "outline": self._items(self.outline.roots),
            "outputs": [self._source(rows.source(y)) for y in rows.tape.outputs],
            "operations": self._operations(),
            "code": {text: code_line(text) for text in self._places},
            "texts": self.texts.all(),
        }

    def _notes(self) -> list[str]:
        notes = [
            f"Of every array at most {self.largest} elements are in this file, at even distances "
            "along each axis; its measures are those of all elements."
        ]
        if self.largest < LARGEST_SAMPLE:
            notes[0] += f" (Smaller tapes show up to {LARGEST_SAMPLE}.)"
        if self.outline.every > 1:
            notes.append(
                f"The tape has {len(self.rows.first)} rows, so {self.outline.every} time steps or "
                "repetitions in a row are shown as one: the first of them, with the smallest min, "
                "the mean of the means, the largest max, and the norm of all together."
            )
        if self.outline.together > 1:
            notes.append(
                f"Up to {self.outline.together} records in a row that do not repeat are shown as "
                "the first of them, with the measures of all."
            )
        return notes

    def _rows(self) -> dict[str, list[Any]]:
        self._places: set[str] = set()
        self.primitives: dict[str, Any] = {}
        names = (
            "op", "name", "layer", "step", "reverse", "line", "equation", "params", "kind",
            "bytes", "results", "merged", "inputs", "loop",
        )  # fmt: skip
        columns: dict[str, list[Any]] = {name: [] for name in names}
        inside = {
            row: loop
            for loop in self.rows.loops.values()
            for row in range(loop.first, loop.first + loop.rows)
            if row in self.number
        }
        whole: dict[Record, list[Source]] = {}
        records = {row: record for record, row in self.rows.record.items() if row in self.number}
        leaves = {row: key for key, row in self.rows.leaf.items()}
        loops = {record: k for k, record in enumerate(self.rows.loops)}
        for row in self.kept.tolist():
            if row in leaves:
                found = self._leaf(leaves[row])
            elif row in inside:
                found = self._inner(row, inside[row], whole)
            else:
                found = self._record(records[row])
            found |= {
                "merged": int(self.merged[row]),
                "loop": loops.get(records[row], -1) if row in records else -1,
            }
            for name in names:
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
            "inputs": [self._source(x) for x in inputs],
        }

    def _inner(self, row: int, loop: Loop, whole: dict[Record, list[Source]]) -> dict[str, Any]:
        outside = whole.get(loop.record)
        if outside is None:
            outside = [self.rows.source(x) for x in loop.record.inputs]
            whole[loop.record] = outside
        op = loop.op(row)
        sizes = [v.dtype.itemsize * int(np.prod(v.shape)) for v in op.outputs]
        return self._origin(loop.origin(row)) | {
            "op": self._operation(op.primitive),
            "name": -1,
            "params": self._params(op.params),
            "kind": self._kinds([(v.dtype, v.shape) for v in op.outputs]),
            "bytes": sum(sizes),
            "results": len(op.outputs),
            "inputs": [self._source(x) for x in loop.sources(row, outside)],
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
        self._places.add(found := f"{shown_path(file)}:{number}")
        return found

    def _operation(self, primitive: Any) -> int:
        self.primitives.setdefault(primitive.name, primitive)
        return self.texts.of(primitive.name)

    def _operations(self) -> dict[str, Any]:
        return {name: description(primitive) for name, primitive in self.primitives.items()}

    def _params(self, params: dict[str, Any]) -> int:
        parts = [f"{name}={_short(repr(value))}" for name, value in params.items()]
        return self.texts.of(", ".join(parts))

    def _kinds(self, results: list[tuple[Any, Any]]) -> int:
        kinds = [f"{dtype} {tuple(shape)}" for dtype, shape in results]
        return self.texts.of(" / ".join(kinds))

    def _source(self, source: Source) -> Any:
        """A row as its number, a number in the tape as text, one of several results as a pair."""
        if isinstance(source, str):
            return _short(source)
        row, slot = source if isinstance(source, tuple) else (source, 0)
        number = self.number[int(self.rows.shown[row])]
        return [number, slot] if slot else number

    def _uses(self, uses: list[tuple[int, float, float]]) -> list[list[float]]:
        """Who added to the gradient of a leaf: rows, norms, shares; in the order of the rows."""
        norms: dict[int, float] = {}
        shares: dict[int, float] = {}
        for row, norm, share in sorted(uses):
            k = self.number[int(self.rows.shown[row])]
            norms[k] = max(norms.get(k, 0.0), norm)
            shares[k] = shares.get(k, 0.0) + share
        return [
            [*norms],
            [_rounded(x) for x in norms.values()],
            [_rounded(x) for x in shares.values()],
        ]

    def _items(self, items: Sequence[Node | int]) -> list[Any]:
        return [self._node(x) if isinstance(x, Node) else self.number[x] for x in items]

    def _node(self, node: Node) -> dict[str, Any]:
        found: dict[str, Any] = {
            "title": node.title,
            "kind": node.kind,
            "items": self._items(node.items),
        }
        if node.merged > 1:
            found["merged"] = node.merged
        if node.loop is not None:
            found["loop"] = self.loops.index(node.loop)
        return found


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."


def _rounded(x: float) -> float | None:
    """A number of six digits, None for what JSON has no word for."""
    return float(f"{x:.6g}") if np.isfinite(x) else None


def _coded(values: Any, kind: str) -> str:
    return b64encode(np.asarray(values).astype(kind).tobytes()).decode()


def _measured(measures: Measures, arrays: list[int]) -> dict[str, Any]:
    """The measures and samples of some arrays, in this order."""
    shapes: dict[tuple[int, ...], int] = {}
    sampled = [measures.samples.get(k) for k in arrays]
    sizes = [0 if s is None else len(s) for s in sampled]
    present = [s for s in sampled if s is not None]
    return {
        "measures": list(MEASURES),
        "numbers": _coded(measures.values[arrays], "<f8"),
        "zeros": _coded(measures.zeros[arrays], "<f4"),
        "strange": {
            k: measures.strange[array] for k, array in enumerate(arrays) if array in measures.strange
        },
        "sizes": _coded(sizes, "<u2"),
        "shape": [
            shapes.setdefault(measures.shapes[k], len(shapes)) if k in measures.shapes else -1
            for k in arrays
        ],
        "shapes": [[*shape] for shape in shapes],
        "samples": _coded(np.concatenate(present) if present else [], "<i2"),
    }
