"""What the time inside replayed loops goes to, part by part."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinygrad_rnn.lab.profiling.watch import Span
from tinygrad_rnn.lab.table import (
    aligned,
    format_seconds,
    format_share,
    shortened,
)
from tinygrad_rnn.lab.written import write_csv
from tinygrad_rnn.replay.ran import Piece
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.timed import Part, timed

ROWS = 24
"""Rows of the printed table; the rest is one row, and all of it is in the CSV."""


class LoopPart(NamedTuple):
    """A part of a replayed loop.

    Attributes
    ----------
    layer : whose loop it is.
    phase : ``"forward"``, ``"backward"``, or ``"computed again"`` for the forward pass of segments
        that a backward pass repeats.
    kind : ``"before"`` and ``"after"`` for what is done for all time steps at once; in the loop
        ``"product"``, ``"kernel"``, or ``"call"`` for an operation that is run as it is.
    what : the shapes of a product; the shape of a kernel and its operations; the operations before
        and after a loop and the shape of what they give.
    of : the parameter whose gradient it is, ``"the inputs"`` for what has no name, "" otherwise.
    lines : the lines of the cell that are in it, or whose gradient it is.
    calls : how many loops ran.
    seconds : of all of them, scaled to what they took in the profile.
    alone : seconds of one of them as measured by itself.
    multiply_adds : of products, with all time steps of one loop.
    nbytes : read and written in the loop by a kernel or product, with all its time steps.
    """

    layer: str
    phase: str
    kind: str
    what: str
    of: str
    lines: tuple[str, ...]
    calls: int
    seconds: float
    alone: float
    multiply_adds: int
    nbytes: int


@dataclass(frozen=True)
class Loops:
    """The parts of the replayed loops that a profile saw, in the order in which they run.

    Attributes
    ----------
    parts : a :class:`LoopPart` each; the seconds add up to what the loops took in the profile.
    failed : loops that could not be run by themselves, and why.
    """

    parts: tuple[LoopPart, ...]
    failed: tuple[str, ...] = ()

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a row for each part."""
        rows = (part._replace(lines=" ".join(part.lines)) for part in self.parts)  # type: ignore
        return write_csv(path, LoopPart._fields, rows, "Loops.to_csv")

    def __str__(self) -> str:
        """The parts that took most time, layer by layer."""
        if not (self.parts or self.failed):
            return "no replayed loops"
        total = sum(part.seconds for part in self.parts)
        largest = sorted(self.parts, key=lambda part: -part.seconds)[:ROWS]
        shown = [part for part in self.parts if part in largest]
        cells = [("layer", "", "part", "", "lines", "time", "share")]
        last = None
        for p in shown:
            share = format_share(p.seconds, total)
            layer, phase = ("", "") if (p.layer, p.phase) == last else (p.layer, p.phase)
            last = p.layer, p.phase
            what = f"gradient of {p.of.rpartition('.')[2]}" if p.of else p.what
            what, lines = shortened(what, 30), shortened(_lines(p.lines), 20)
            time = format_seconds(p.seconds)
            cells.append((shortened(layer, 20), phase, p.kind, what, lines, time, share))
        if len(self.parts) > len(shown):
            rest = total - sum(part.seconds for part in shown)
            share = format_share(rest, total)
            name = f"{len(self.parts) - len(shown)} others"
            cells.append((name, "", "", "", "", format_seconds(rest), share))
        alone = format_seconds(sum(part.alone * part.calls for part in self.parts))
        head = f"replayed loops, {format_seconds(total)}; their parts took {alone} by themselves, "
        head += "and are scaled to that"
        return "\n".join([head, aligned(cells, left=5), *self.failed])


def look_inside(spans: Iterable[Span]) -> Loops:
    """Run the parts of every loop that the spans ran."""
    groups: dict[tuple[str, tuple[tuple[Compiled, int], ...]], list[Span]] = {}
    for span in spans:
        if span.pieces:
            key = tuple((piece.compiled, piece.steps) for piece in span.pieces)
            groups.setdefault((span.layer, key), []).append(span)
    known: dict[tuple[Compiled, int], list[Part]] = {}
    parts: list[LoopPart] = []
    failed: list[str] = []
    for (layer, _), group in groups.items():
        try:
            for piece in group[0].pieces:
                key = piece.compiled, piece.steps
                if key not in known:
                    known[key] = timed(piece)
        except Exception as error:
            failed.append(f"{layer}: not looked into, since on random numbers {error}")
            continue
        found = [(piece, known[piece.compiled, piece.steps]) for piece in group[0].pieces]
        parts += _scaled(layer, group, found)
    return Loops(tuple(parts), tuple(failed))


def _scaled(
    layer: str, group: list[Span], found: list[tuple[Piece, list[Part]]]
) -> Iterator[LoopPart]:
    """The parts of loops that ran alike, so that they add up to the time that those took."""
    alone = sum(part.seconds * piece.times for piece, parts in found for part in parts)
    scale = sum(span.own for span in group) / alone if alone else 0.0
    inside = group[0].origin.inside
    for piece, parts in found:
        for part in parts:
            if part.seconds == 0:
                continue
            places = [inside[k].short_line for k in part.lines if k < len(inside)]
            yield LoopPart(
                layer,
                piece.what,
                part.kind,
                part.what,
                "" if part.of is None else group[0].names[part.of] or "the inputs",
                tuple(dict.fromkeys(places)),
                len(group) * piece.times,
                part.seconds * piece.times * scale,
                part.seconds,
                part.multiply_adds,
                part.nbytes,
            )


def _lines(lines: tuple[str, ...]) -> str:
    """The lines of each file from the first to the last: ``lstm.py:97-101``."""
    numbers: dict[str, list[int]] = {}
    for line in lines:
        file, _, number = line.rpartition(":")
        if file:
            numbers.setdefault(file, []).append(int(number))
    texts: list[str] = []
    for file, found in numbers.items():
        first, last = min(found), max(found)
        texts.append(f"{file}:{first}" if first == last else f"{file}:{first}-{last}")
    return ", ".join(texts)
