"""A tape folded for readers: by layer, by time step, by what repeats.

Text, a page and a drawing show the same :class:`Group`, and each opens what it wants to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.tape.by_layer import Grouping
from tinygrad_rnn.tape.record import Record
from tinygrad_rnn.tape.repeats import Shape
from tinygrad_rnn.tape.tokens import Tokens, tokens


class LayerTotal(NamedTuple):
    """What the records of one layer come to, without those of layers within it.

    ``layer`` is "" for the outermost module, None for what belongs to none. ``nbytes`` are those of
    the results.
    """

    layer: str | None
    records: int
    nbytes: int


class _Tape(NamedTuple):
    """What all groups of a tape know of it."""

    records: tuple[Record, ...]
    said: Tokens


class Group:
    """Some records in a row that belong together, the same so and so many times.

    The whole tape is one, with ``kind`` "tape"; what a group holds are groups again, down to single
    records. Where things are the same up to numbers (of time steps, of indices, in the names of
    layers and parameters) they are one group, of which :attr:`count` repetitions follow each other.
    The same means: the same operations in the same order on the same parameters, with results of
    the same shapes, connected in the same way among themselves; where what comes from outside comes
    from may differ, as it does for the state of the first time step.

    Attributes
    ----------
    kind : "tape"; "layer", the records of a module; "steps", equal time steps of a loop, of which
        those that differ stand beside; "repeat", what else repeats: the steps of a loop of the
        user's, layers that are named by a number; "record", a single one.
    start, stop : the numbers of its records on the tape, of all repetitions; they are
        ``tape.records[start:stop]``.
    count : the number of repetitions, which have equally many records each. 1 for all but "steps"
        and "repeat".

    ``repetition(k)`` gives the groups within repetition k: made when they are asked for, so a
    tape of a million records costs what of it is shown. No record is copied.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> with lab.look():
    ...     y, _ = tg.rnn.LSTM(3, 5, unroll=True)(tg.ones((50, 2, 3)))
    >>> for depth, group in [*tg.Tape.of(y).folded().walk()][:4]:
    ...     print("  " * depth, group)
    <tape of 651 records>
       <layer l0 of 651 records>
         <steps 0 to 49 of 650 records>
           <record linear>
    """

    __slots__ = ("_shape", "_tape", "count", "kind", "start", "stop")

    def __init__(self, tape: _Tape, shape: Shape, start: int) -> None:
        self._tape = tape
        self._shape = shape
        self.kind = shape.kind
        self.count = shape.count
        self.start = start
        self.stop = start + shape.length

    def __repr__(self) -> str:
        if self.kind == "record":
            return f"<record {self.records[0].primitive.name}>"
        steps = "{} to {}".format(*self.steps) if self.steps else ""
        times = f"{self.count} times" if self.kind == "repeat" else ""
        what = " ".join(filter(None, (self.kind, self.layer, steps, times)))
        return f"<{what} of {len(self)} records>"

    def __len__(self) -> int:
        """The number of records in all repetitions."""
        return self.stop - self.start

    def repetition(self, k: int = 0) -> list[Group]:
        """The groups within repetition k, in order."""
        if not 0 <= k < self.count:
            raise IndexError(f"Group.repetition: {k} is not among {self.count} repetitions")
        start = self.start + k * (len(self) // self.count)
        groups: list[Group] = []
        for shape in self._shape.items:
            groups.append(Group(self._tape, shape, start))
            start = groups[-1].stop
        return groups

    def walk(self) -> Iterator[tuple[int, Group]]:
        """The group and all below it, in first repetitions, each with how deep it lies."""
        stack = [(0, self)]
        while stack:
            depth, group = stack.pop()
            yield depth, group
            stack += [(depth + 1, below) for below in reversed(group.repetition())]

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of all repetitions."""
        return self._tape.records[self.start : self.stop]

    @property
    def nbytes(self) -> int:
        """The bytes of the results of all repetitions; views count as if they were copies."""
        sums = self._tape.said.nbytes
        return int(sums[self.stop] - sums[self.start])

    @property
    def layer(self) -> str | None:
        """Of a layer, its path of names from the outermost module that was called; else None."""
        if self.kind != "layer":
            return None
        said = self._tape.said
        names = (said.layers[int(said.layer[self.start])] or "").split(".")
        return ".".join(names[: self._shape.depth])

    def in_last(self, group: Group) -> Group:
        """What ``group``, which is from the first repetition, is in the last one.

        So what changes from repetition to repetition can be said: ``layers.0 ... layers.49``.
        """
        each = len(self) // self.count
        return Group(self._tape, group._shape, group.start + (self.count - 1) * each)

    @property
    def steps(self) -> tuple[int, int] | None:
        """Of time steps, the first and the last one in the order in which they were made."""
        return (self.step(0), self.step(self.count - 1)) if self.kind == "steps" else None

    def step(self, k: int) -> int:
        """Of time steps, which one repetition k is."""
        start = self.start + k * (len(self) // self.count)
        return int(self._tape.said.steps[start, self._shape.depth])

    def totals(self) -> list[LayerTotal]:
        """Records and bytes of every layer, in the order of first use."""
        said, here = self._tape.said, slice(self.start, self.stop)
        layer = said.layer[here]
        counts: list[int] = np.bincount(layer, minlength=len(said.layers)).tolist()
        sizes = np.diff(said.nbytes[self.start : self.stop + 1])
        nbytes: list[float] = np.bincount(layer, sizes, len(said.layers)).tolist()
        numbers: list[int] = layer.tolist()
        order = dict.fromkeys(numbers)
        return [LayerTotal(said.layers[n], counts[n], int(nbytes[n])) for n in order]


def folded(records: Sequence[Record]) -> Group:
    """The records of a tape, in order, as one group."""
    said = tokens(records)
    return Group(_Tape((*records,), said), Grouping(said).tape(), 0)
