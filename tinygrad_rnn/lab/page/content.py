"""Everything that a page says about a tape, as data: lists, texts, and arrays in base64."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.lab.page.columns import Columns
from tinygrad_rnn.lab.page.measures import LARGEST_SAMPLE, MEASURES, Measures, sample_size
from tinygrad_rnn.lab.page.outline import Node, Outline
from tinygrad_rnn.lab.page.passes import Passes
from tinygrad_rnn.lab.page.rows import Rows
from tinygrad_rnn.tape import Tape

MOST_ROWS = 24_000
"""The most rows of a page; of a larger tape, equal time steps are shown as one."""


class TapeContent:
    """What a page says about a tape."""

    def __init__(self, tape: Tape) -> None:
        self.rows = Rows(tape)
        self.outline = Outline(self.rows, MOST_ROWS)
        self.kept = np.flatnonzero(self.rows.shown == np.arange(len(self.rows.shown)))
        self.number = {int(row): k for k, row in enumerate(self.kept)}
        self.columns = Columns(self.rows, self.number)
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
        listed = self.columns.made(self.merged)
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
            "uses": self._all_uses(),
            "outline": self._items(self.outline.roots),
            "outputs": [self.columns.source(rows.source(y)) for y in rows.tape.outputs],
            "operations": self.columns.operations(),
            "code": self.columns.code(),
            "texts": self.columns.texts.all(),
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

    def _all_uses(self) -> dict[int, Any]:
        """The uses of each leaf that is shown, with those of what is shown as it."""
        found: dict[int, list[tuple[int, float, float]]] = {}
        for leaf, uses in self.passes.uses.items():
            found.setdefault(self.number[int(self.rows.shown[leaf])], []).extend(uses)
        return {leaf: self._uses(uses) for leaf, uses in found.items()}

    def _uses(self, uses: list[tuple[int, float, float]]) -> list[list[Any]]:
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
            k: measures.strange[array]
            for k, array in enumerate(arrays)
            if array in measures.strange
        },
        "sizes": _coded(sizes, "<u2"),
        "shape": [
            shapes.setdefault(measures.shapes[k], len(shapes)) if k in measures.shapes else -1
            for k in arrays
        ],
        "shapes": [[*shape] for shape in shapes],
        "samples": _coded(np.concatenate(present) if present else [], "<i2"),
    }
