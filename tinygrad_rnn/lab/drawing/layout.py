"""Where boxes and edges lie: layers from above to below, few crossings, nothing upon another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from tinygrad_rnn.lab.drawing.graph import Box

LETTER, LINE = 7.9, 18.0
"""How wide a letter of 13 points is, and how high a line of text."""

PAD, GAP, ROW = 12.0, 22.0, 34.0
"""Around text, between boxes beside each other, and between layers, where edges turn."""

LANE = 10.0
"""Between the ways of edges that return."""

Point = tuple[float, float]


@dataclass
class Placed:
    """A box with its place: the left upper corner from that of the box around it.

    ``edges`` are points that a curve goes through, ``returns`` the corners of those that lead to
    the next step, each with the number of values.
    """

    box: Box
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    below: list[Placed] = field(default_factory=list["Placed"])
    edges: list[tuple[list[Point], int]] = field(default_factory=list[tuple[list[Point], int]])
    returns: list[tuple[list[Point], int]] = field(default_factory=list[tuple[list[Point], int]])


@dataclass
class _Spot:
    """A box within its layer, or the way of an edge through a layer (``box`` is None)."""

    layer: int
    box: Placed | None
    up: list[_Spot] = field(default_factory=list["_Spot"])
    down: list[_Spot] = field(default_factory=list["_Spot"])
    order: float = 0.0
    x: float = 0.0

    @property
    def width(self) -> float:
        return 8.0 if self.box is None else self.box.width


def laid_out(box: Box) -> Placed:
    """The box with everything in it in its place."""
    placed = Placed(box)
    if not box.below:
        texts = [box.title, *box.lines]
        placed.width = max(len(text) for text in texts) * LETTER + 2 * PAD
        placed.height = len(texts) * LINE + PAD
        return placed
    placed.below = [laid_out(below) for below in box.below]
    spots, chains = _spots(placed)
    layers = _layers(spots)
    _order(layers)
    _spread(layers)
    _place(placed, layers, chains)
    return placed


def _spots(placed: Placed) -> tuple[list[_Spot], dict[tuple[int, int], list[_Spot]]]:
    """Boxes in layers, each below all that it reads, and the ways of edges through layers."""
    depth = [0] * len(placed.below)
    for source, target in sorted(placed.box.edges, key=lambda edge: edge[1]):
        depth[target] = max(depth[target], depth[source] + 1)
    spots = [_Spot(layer, below) for layer, below in zip(depth, placed.below, strict=True)]
    found, chains = [*spots], dict[tuple[int, int], list[_Spot]]()
    for source, target in placed.box.edges:
        chain = [spots[source]]
        for layer in range(depth[source] + 1, depth[target]):
            chain.append(_Spot(layer, None))
            found.append(chain[-1])
        chain.append(spots[target])
        for above, below in itertools.pairwise(chain):
            above.down.append(below)
            below.up.append(above)
        chains[source, target] = chain
    return found, chains


def _layers(spots: list[_Spot]) -> list[list[_Spot]]:
    layers: list[list[_Spot]] = [[] for _ in range(1 + max(spot.layer for spot in spots))]
    for spot in spots:
        layers[spot.layer].append(spot)
    return layers


def _order(layers: list[list[_Spot]]) -> None:
    """Order each layer by where its neighbours are, down and up some times."""
    for layer in layers:
        for k, spot in enumerate(layer):
            spot.order = k
    for turn in range(8):
        way = layers[1:] if turn % 2 == 0 else layers[-2::-1]
        for layer in way:
            for spot in layer:
                near = spot.up if turn % 2 == 0 else spot.down
                if near:
                    spot.order = sum(other.order for other in near) / len(near)
            layer.sort(key=lambda spot: spot.order)
            for k, spot in enumerate(layer):
                spot.order = k


def _spread(layers: list[list[_Spot]]) -> None:
    """Give every spot its middle, as near to its neighbours as there is room."""
    for layer in layers:
        x = 0.0
        for spot in layer:
            spot.x = x + spot.width / 2
            x += spot.width + GAP
    for turn in range(12):
        way = layers[1:] if turn % 2 == 0 else layers[-2::-1]
        for layer in way:
            wanted = [_middle(spot, turn % 2 == 0) for spot in layer]
            _settle(layer, wanted)


def _middle(spot: _Spot, upwards: bool) -> float:
    near = (spot.up if upwards else spot.down) or spot.up or spot.down
    return sum(other.x for other in near) / len(near) if near else spot.x


def _settle(layer: list[_Spot], wanted: list[float]) -> None:
    """The places nearest to those wanted that keep order and gaps: neighbours pushed together."""
    blocks: list[tuple[float, list[int]]] = []  # the middle that a block wants for its first spot
    offset = [0.0]
    for a, b in itertools.pairwise(layer):
        offset.append(offset[-1] + (a.width + b.width) / 2 + GAP)
    for k, place in enumerate(wanted):
        blocks.append((place - offset[k], [k]))
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0]:
            (a, first), (b, second) = blocks[-2], blocks.pop()
            both = (a * len(first) + b * len(second)) / (len(first) + len(second))
            blocks[-1] = (both, [*first, *second])
    for start, members in blocks:
        for k in members:
            layer[k].x = start + offset[k]


def _place(
    placed: Placed, layers: list[list[_Spot]], chains: dict[tuple[int, int], list[_Spot]]
) -> None:
    box = placed.box
    left = min(spot.x - spot.width / 2 for layer in layers for spot in layer) - PAD
    lanes = len(box.returns)
    top = LINE + PAD + (ROW if lanes else 6)
    tops: list[float] = []
    heights: list[float] = []
    for layer in layers:
        tops.append(top)
        heights.append(max(spot.box.height if spot.box else 0.0 for spot in layer))
        for spot in layer:
            spot.x -= left
            if spot.box is not None:
                spot.box.x = spot.x - spot.width / 2
                spot.box.y = top
        top += heights[-1] + ROW
    right = max(spot.x + spot.width / 2 for layer in layers for spot in layer)
    placed.height = top - (0 if lanes else ROW - PAD)
    title = len(box.title) * LETTER + 2 * PAD
    placed.width = max(right + PAD + (lanes + 1) * LANE * bool(lanes), title)
    for edge, chain in chains.items():
        points: list[Point] = []
        for spot in chain:
            if spot.box is None:
                points += [
                    (spot.x, tops[spot.layer]),
                    (spot.x, tops[spot.layer] + heights[spot.layer]),
                ]
        first, last = chain[0].box, chain[-1].box
        assert first is not None
        assert last is not None
        middle = first.x + first.width / 2
        foot = tops[chain[0].layer] + heights[chain[0].layer]
        start = [(middle, first.y + first.height), (middle, foot)]
        placed.edges.append(([*start, *points, (last.x + last.width / 2, last.y)], box.edges[edge]))
    layer_of = {id(spot.box): spot.layer for layer in layers for spot in layer if spot.box}
    for lane, ((source, target), count) in enumerate(box.returns.items()):
        a, b = placed.below[source], placed.below[target]
        below = tops[layer_of[id(a)]] + heights[layer_of[id(a)]] + 9 + 4 * (lane % 4)
        above = tops[layer_of[id(b)]] - 9 - 4 * (lane % 4)
        x = right + LANE * (lane + 1)
        start, end = a.x + a.width * 0.75, b.x + b.width * 0.75
        corners = [(start, a.y + a.height), (start, below), (x, below)]
        corners += [(x, above), (end, above), (end, b.y)]
        placed.returns.append((corners, count))
