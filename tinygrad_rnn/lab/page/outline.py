"""The folded tape as a page shows it: a tree with rows as leaves, small enough to be opened.

Where a tape has too many rows, time steps and other repetitions that follow each other are merged:
the page shows the first one of each few, with the measures of all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinygrad_rnn.lab.page.rows import Loop, Rows
from tinygrad_rnn.tape import Group, Record


@dataclass
class Node:
    """A part of the tape that can be folded.

    Attributes
    ----------
    title : what it is called, within what is around it.
    kind : "leaves", or that of the group (see :class:`~tinygrad_rnn.tape.folding.Group`), "loop"
        for the time steps of one loop together, "step" for one of them, "replayed" for a loop that
        is one record.
    items : nodes and numbers of rows, in order.
    merged : how many repetitions, or records, are shown as one.
    loop : of a replayed loop, its record.
    """

    title: str
    kind: str
    items: list[Node | int] = field(default_factory=list)
    merged: int = 1
    loop: Record | None = None


class Outline:
    """The tree of a page.

    Attributes
    ----------
    roots : the nodes at the top.
    every, together : how many repetitions, and how many records in a row, are shown as one.
    """

    def __init__(self, rows: Rows, most: int) -> None:
        self.rows = rows
        self.every = self.together = 1
        root = rows.tape.folded()
        self.row_of = np.array([rows.record[r] for r in rows.tape.records], np.int64)
        while self._size(root, self.every) > most:
            self.every *= 2
            if self._size(root, self.every) == self._size(root, 2 * self.every):
                break
        leaves = Node("parameters and inputs", "leaves", self._leaves(most))
        self.roots: list[Node | int] = [leaves, *self._nodes(root.repetition())]
        while self.together < most and _count(self.roots[1:]) > most:
            self.together *= 2
            self.roots[1:] = self._put_together(self.roots[1:])
        while (rows.shown != rows.shown[rows.shown]).any():  # what is merged into what is merged
            rows.shown = rows.shown[rows.shown]

    def _size(self, group: Group, every: int) -> int:
        """How many rows a group takes where so many repetitions are shown as one."""
        if group.kind == "record":
            loop = self._loop(group)
            return 1 if loop is None else 1 + len(loop.program.ops) * -(-loop.steps // every)
        each = sum(self._size(below, every) for below in group.repetition())
        return each * -(-group.count // every)

    def _loop(self, group: Group) -> Loop | None:
        return self.rows.loops.get(self.rows.tape.records[group.start])

    def _nodes(self, groups: Sequence[Group], above: str = "") -> list[Node | int]:
        found: list[Node | int] = []
        for group in groups:
            if group.kind == "record":
                loop = self._loop(group)
                row = int(self.row_of[group.start])
                found.append(row if loop is None else self._replayed(loop, row))
            elif group.kind == "steps":
                before = found[-1] if found else None
                if not (isinstance(before, Node) and before.kind == "loop"):
                    found.append(before := Node("", "loop"))
                before.items += self._steps(group, above)
            elif group.kind == "repeat":
                found.append(self._repeated(group, above))
            else:
                layer = group.layer
                name = layer.removeprefix(f"{above}.") if layer and above else layer
                items = self._nodes(group.repetition(), layer or above)
                found.append(Node(name or "the model itself", "layer", items))
        for node in found:
            if isinstance(node, Node) and node.kind == "loop":
                node.title = (
                    f"time steps {_span([n.title for n in node.items if isinstance(n, Node)])}"
                )
        return found

    def _repeated(self, group: Group, above: str) -> Node:
        """What repeats; layers that are the same but for their names stand beside each other."""
        parts = self._parts(group, above)
        layers = [x for part in parts for x in part.items if isinstance(x, Node)]
        if all(x.kind == "layer" for x in layers) and len(layers) == sum(
            len(part.items) for part in parts
        ):
            for part, layer in zip(parts, layers, strict=False):
                layer.merged = part.merged
            return Node(f"{layers[0].title} ... {layers[-1].title}", "layers", [*layers])
        return Node(f"{group.count} times the same", "repeat", [*parts])

    def _steps(self, group: Group, above: str) -> list[Node]:
        first, last = group.steps or (0, 0)
        way = 1 if last >= first else -1
        nodes = self._parts(group, above)
        for k, node in enumerate(nodes):
            t = first + way * k * self.every
            end = t + way * (node.merged - 1)
            node.title = f"t = {t}" if node.merged == 1 else f"t = {t} ... {end}"
            node.kind = "step"
        return nodes

    def _parts(self, group: Group, above: str) -> list[Node]:
        """One node for each repetition that is shown."""
        nodes: list[Node] = []
        each = len(group) // group.count
        for k in range(0, group.count, self.every):
            merged = min(self.every, group.count - k)
            start = group.start + k * each
            for other in range(1, merged):
                self._merge(start, start + other * each, each)
            which = f"{k + 1}" if merged == 1 else f"{k + 1} ... {k + merged}"
            title = f"{which} of {group.count}"
            nodes.append(Node(title, "part", self._nodes(group.repetition(k), above), merged))
        return nodes

    def _merge(self, kept: int, other: int, count: int) -> None:
        """Show some records, with the rows of their loops, as the ones before that are alike."""
        rows, row_of = self.rows, self.row_of
        begin, end = self._bounds(kept, count)
        start, stop = self._bounds(other, count)
        if end - begin == stop - start:
            rows.shown[start:stop] = np.arange(begin, end)
        else:  # programs of different lengths: the records at least
            rows.shown[start:stop] = row_of[kept]
            rows.shown[row_of[other : other + count]] = row_of[kept : kept + count]

    def _bounds(self, start: int, count: int) -> tuple[int, int]:
        """The rows of some records in a row."""
        loop = self.rows.loops.get(self.rows.tape.records[start])
        first = int(self.row_of[start]) if loop is None else loop.first
        return first, int(self.row_of[start + count - 1]) + 1

    def _replayed(self, loop: Loop, row: int) -> Node:
        ops = len(loop.program.ops)
        node = Node(f"replayed loop of {loop.steps} steps", "replayed", loop=loop.record)
        shown = self.rows.shown
        for step in range(0, loop.steps, self.every):
            merged = min(self.every, loop.steps - step)
            first = loop.row(step, 0)
            for other in range(1, merged):
                start = loop.row(step + other, 0)
                shown[start : start + ops] = shown[first : first + ops]
            t, end = loop.time(step), loop.time(step + merged - 1)
            title = f"t = {t}" if merged == 1 else f"t = {t} ... {end}"
            node.items.append(Node(title, "step", [*range(first, first + ops)], merged))
        node.items.append(row)
        return node

    def _leaves(self, most: int) -> list[Node | int]:
        """The rows of the leaves; where there are very many, those without a name together."""
        found: list[Node | int] = []
        together = 1 + 10 * len(self.rows.leaf) // most
        run: list[int] = []
        for key, row in self.rows.leaf.items():
            if self.rows.leaf_values[key].name:
                run = []
            elif run and len(run) < together:
                self.rows.shown[row] = run[0]
                run.append(row)
                continue
            else:
                run = [row]
            found.append(row)
        return found

    def _put_together(self, items: Sequence[Node | int]) -> list[Node | int]:
        """Show of two rows in a row the first; a part that is one row gives way to that."""
        found: list[Node | int] = []
        waiting: int | None = None
        for item in items:
            if isinstance(item, Node):
                item.items = self._put_together(item.items)
                if len(item.items) > 1 or isinstance(item.items[0], Node):
                    found.append(item)
                    waiting = None
                    continue
                item = item.items[0]
            if waiting is None:
                found.append(item)
                waiting = item
            else:
                self.rows.shown[item] = waiting
                waiting = None
        return found


def _count(items: Sequence[Node | int]) -> int:
    """How many rows there are in all."""
    return sum(_count(item.items) if isinstance(item, Node) else 1 for item in items)


def _span(titles: Sequence[str]) -> str:
    """From where to where: ``0 ... 49`` of ``t = 0`` and so on."""
    if not titles:
        return ""
    first, last = titles[0].split(" ")[2], titles[-1].split(" ")[-1]
    return first if first == last else f"{first} ... {last}"
