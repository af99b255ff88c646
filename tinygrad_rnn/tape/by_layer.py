"""Records grouped by layer and time step, and what repeats: shapes, each made once.

Nothing recurses over records: layers lie as deep as names have parts, loops as deep as they are
nested.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from operator import attrgetter
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.tape.repeats import Shape, Shapes, fold
from tinygrad_rnn.tape.tokens import Tokens, without_numbers

Names = tuple[str, ...]


class _Unit(NamedTuple):
    """A shape on its way into layers: the names that still lead to it."""

    path: Names
    shape: Shape


class Grouping:
    """Makes the shape of a tape from what its records say."""

    def __init__(self, said: Tokens) -> None:
        self._said = said
        self._shapes = Shapes()
        self._known: dict[tuple[object, ...], list[Shape]] = {}
        self._paths: list[Names] = [(*name.split("."),) if name else () for name in said.layers]
        self._same = [self._shapes.record(k, alike) for k, alike in enumerate(said.alike)]

    def tape(self) -> Shape:
        """The shape of all records."""
        items = self._within(0, len(self._said.same), 0, 0)
        return self._shapes.of("tape", items)

    def _within(self, start: int, stop: int, depth: int, level: int) -> list[Shape]:
        """What some records are, ``depth`` names and ``level`` loops inside."""
        units: list[_Unit] = []
        place = start
        for first, last in self._loops(start, stop, level):
            units += self._single(place, first, depth)
            units += self._steps(first, last, depth, level)
            place = last
        units += self._single(place, stop, depth)
        return self._layers(units, start, depth)

    def _single(self, start: int, stop: int, depth: int) -> Iterator[_Unit]:
        said = self._said
        same, layer = said.same[start:stop].tolist(), said.layer[start:stop].tolist()
        for token, place in zip(same, layer, strict=True):
            yield _Unit(self._paths[place][depth:], self._same[token])

    def _loops(self, start: int, stop: int, level: int) -> Iterator[tuple[int, int]]:
        """Where loops begin and end: steps that only rise or only fall, in one direction."""
        said = self._said
        steps, ways = said.steps[start:stop, level], said.way[start:stop]
        if not (steps >= 0).any():
            return
        # The direction that a record knows is that of its innermost loop; of others it says -2, and
        # -1 in a backward pass.
        ways = np.where(said.steps[start:stop, level + 1] >= 0, ways % 2 - 2, ways)
        changes = np.flatnonzero((np.diff(steps) != 0) | (np.diff(ways) != 0)) + 1
        begin, before, way, sign = start, -1, -2, 0
        for k in (0, *changes.tolist()):
            t, now = int(steps[k]), int(ways[k])
            turn = int(np.sign(t - before))
            other = (now - way) % 2 if now < 0 or way < 0 else now != way
            if before >= 0 and (t < 0 or other or turn * sign < 0):
                yield begin, start + k
                before = -1
            if before < 0:
                begin, way, sign = start + k, now, 0
            else:
                way, sign = max(way, now), sign or turn
            before = t
        if before >= 0:
            yield begin, stop

    def _steps(self, start: int, stop: int, depth: int, level: int) -> Iterator[_Unit]:
        """The time steps of one loop, those that are equal as one shape."""
        said = self._said
        layers: list[int] = said.layer[start:stop].tolist()
        paths = [self._paths[k] for k in {*layers}]
        inside = len(_shared(paths))
        steps = said.steps[start:stop, level]
        bounds = [start, *(start + 1 + np.flatnonzero(np.diff(steps))).tolist(), stop]
        for content, equal in groupby(pairwise(bounds), lambda pair: self._content(*pair, level)):
            (first, last), *more = equal
            key = (content, inside, level)
            if key not in self._known:
                self._known[key] = self._within(first, last, inside, level + 1)
            shape = self._shapes.of("steps", self._known[key], 1 + len(more), depth=level)
            yield _Unit(paths[0][depth:inside], shape)

    def _content(self, start: int, stop: int, level: int) -> tuple[bytes, ...]:
        """All that records say, by which equal time steps are known."""
        said = self._said
        parts = (said.same, said.way, said.steps[:, level + 1 :])
        return *(part[start:stop].tobytes() for part in parts), said.wiring(start, stop)

    def _layers(self, units: Sequence[_Unit], start: int, depth: int) -> list[Shape]:
        """Units in their layers, with what repeats folded."""
        items: list[Shape] = []
        place = start
        for name, found in groupby(units, lambda unit: unit.path[:1]):
            run = [*found]
            if name:
                shared = _shared([unit.path for unit in run])
                below = [_Unit(unit.path[len(shared) :], unit.shape) for unit in run]
                inside = depth + len(shared)
                within = self._layers(below, place, inside)
                label = without_numbers(".".join(shared))
                items.append(self._shapes.of("layer", within, name=label, depth=inside))
            else:
                items += [unit.shape for unit in run]
            place += sum(unit.shape.length for unit in run)
        return self._repeats(items, start)

    def _repeats(self, items: Sequence[Shape], start: int) -> list[Shape]:
        """What repeats with the same names first, then what does with other numbers in them."""
        exact = fold(self._shapes, items, start, attrgetter("number"), self._said.agreeing)
        return self._alike(exact, start)

    def _alike(self, items: Sequence[Shape], start: int) -> list[Shape]:
        found: list[Shape] = []
        place = start
        for item in items:
            if item.kind == "repeat":
                body = self._alike(item.items, place)
                found.append(self._shapes.of("repeat", body, item.count))
            else:
                found.append(item)
            place += item.length
        if len({shape.alike for shape in found}) == len({*found}):
            return found  # those that are alike are the same, which are folded
        return fold(self._shapes, found, start, attrgetter("alike"), self._said.agreeing)


def _shared(paths: Sequence[Names]) -> Names:
    """The names that all paths begin with."""
    first, last = min(paths), max(paths)
    for k, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return first[:k]
    return min(first, last, key=len)
