"""What repeats in a sequence, one after the other: folded in one pass, repeats within it too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_SAVED = 8  # lines that a repetition has to save, else it reads better as it stands
_TRIED = 32  # earlier places of an element from which a repetition may have begun,
_CHECKED = 4  # and of those how many are looked at closely


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """What is folded, wherever on the tape it stands: it is the same object in all such places.

    Attributes
    ----------
    kind : "record", "layer", "steps" or "repeat".
    items : what it holds, once.
    count : how often.
    length : how many records that is in all.
    number : its own.
    alike : equal for shapes that differ in numbers of names alone.
    depth : of a layer, how many names lead to it.
    """

    kind: str
    items: tuple[Shape, ...]
    count: int
    length: int
    number: int
    alike: int
    depth: int = 0
    lines: int = 1


class Shapes:
    """All shapes of a tape."""

    def __init__(self) -> None:
        self._made: dict[tuple[object, ...], Shape] = {}
        self._alike: dict[tuple[object, ...], int] = {}

    def record(self, same: int, alike: int) -> Shape:
        """One record, by its tokens."""
        key = ("record", same)
        if key not in self._made:
            number = self._alike.setdefault(("record", alike), len(self._alike))
            self._made[key] = Shape("record", (), 1, 1, len(self._made), number)
        return self._made[key]

    def of(
        self, kind: str, items: Sequence[Shape], count: int = 1, name: str = "", depth: int = 0
    ) -> Shape:
        """Some shapes in a row, so many times; the name is without numbers."""
        items = (*items,)
        key = (kind, count, name, depth, *items)
        found = self._made.get(key)
        if found is None:
            alike = (kind, count, name, depth, *[item.alike for item in items])
            number = self._alike.setdefault(alike, len(self._alike))
            length = count * sum(item.length for item in items)
            lines = 1 + sum(item.lines for item in items)
            made = len(self._made)
            found = Shape(kind, items, count, length, made, number, depth, lines)
            self._made[key] = found
        return found


def fold(
    shapes: Shapes,
    items: Sequence[Shape],
    start: int,
    key: Callable[[Shape], int],
    agreeing: Callable[[int, int, int], int],
) -> list[Shape]:
    """Some shapes in a row, of records from ``start`` on, with what repeats among them folded.

    Those are the same that have one ``key``, and whose records are connected in one way:
    ``agreeing(start, length, count)`` says of so many stretches of records from ``start`` on how
    many of the first are.
    """
    given = np.fromiter(map(key, items), np.int64, len(items))
    lengths = np.fromiter((item.length for item in items), np.int64, len(items))
    places = [start, *(start + np.cumsum(lengths)).tolist()]  # of which record each item begins
    row: list[Shape] = []  # what has been seen, folded
    keys: list[int] = []  # of the row
    begins: list[int] = []  # with which item each of the row begins
    before: list[int] = []  # where in the row the same was before, -1 for nowhere
    latest: dict[int, int] = {}

    def push(item: Shape, key: int, begin: int) -> None:
        before.append(latest.get(key, -1))
        latest[key] = len(row)
        row.append(item)
        keys.append(key)
        begins.append(begin)

    def repeated(period: int, end: int) -> int:
        """Fold what the last ``period`` of the row repeat; where it ends, 0 if it does not."""
        lines = sum(item.lines for item in row[-period:])
        count = max(2, 1 + -(-_SAVED // lines))
        first = len(row) - count * period
        if first < 0 or any(
            keys[k : k + period] != keys[-period:] for k in range(first, len(row) - period, period)
        ):
            return 0
        begin, each = places[begins[first]], end - begins[-period]
        length = (places[end] - begin) // count
        if agreeing(begin, length, count) < count:
            return 0
        more = count
        while True:  # looks ahead twice as far each time
            ahead = given[end : end + more * each]
            unlike = np.flatnonzero(ahead != given[end - each : end - each + len(ahead)])
            wanted = count + (int(unlike[0]) if len(unlike) else len(ahead)) // each
            agreed = agreeing(begin, length, wanted)
            end += (agreed - count) * each
            going_on, count = agreed - count == more, agreed
            if not going_on:
                break
            more *= 2
        body, begin = row[-period:], begins[first]
        while len(row) > first:
            row.pop()
            begins.pop()
            latest[keys.pop()] = before.pop()
        shape = shapes.of("repeat", body, count)
        push(shape, key(shape), begin)
        return end

    def folded(end: int) -> int:
        """Fold what ends with the newest item and goes on from there; where it ends, 0 if not."""
        last, earlier, checked = len(row) - 1, before[-1], 0
        for _ in range(_TRIED):
            period = last - earlier
            if earlier + 1 < period or checked == _CHECKED:
                break
            if keys[-2 * period : -period] == keys[-period:]:
                stop = repeated(period, end)
                if stop:
                    return stop
                checked += 1
            earlier = before[earlier]
        return 0

    end = 0
    while end < len(items):
        push(items[end], int(given[end]), end)
        end += 1
        while stop := folded(end):
            end = stop
    return row
