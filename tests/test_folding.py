"""A tape as a tree of groups: by layer, by time step, by what repeats; nothing lost, nothing told
that is not so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.tape import Group

T, B, I, H = 6, 2, 3, 5


class Leaky(rnn.Cell):
    """h_t = tanh(W x_t + h_{t-1} V)."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(np.ones((hidden_size, input_size)))
        self.v = nn.Parameter(np.ones((hidden_size, hidden_size)))

    def step(self, x: Any, state: Any) -> Any:
        h = tg.tanh(tg.linear(x, self.w) + state @ self.v)
        return h, h


class ByHand(nn.Module):
    """Cells in a loop of the user's, whose layers alternate."""

    def __init__(self, count: int = 2) -> None:
        self.cells = [rnn.GRUCell(H if k else I, H) for k in range(count)]
        self.head = nn.Linear(H, 4)

    def forward(self, x: Any) -> Any:
        states: list[Any] = [cell.initial_state(B) for cell in self.cells]
        outputs = []
        for x_t in x:
            y = x_t
            for k, cell in enumerate(self.cells):
                y, states[k] = cell(y, states[k])
            outputs.append(self.head(y))
        return tg.stack(outputs)


def both() -> rnn.Stacked:
    """Two levels of a user's cell in both directions."""

    def level(size: int) -> rnn.Bidirectional:
        return rnn.Bidirectional(*(rnn.Recurrent(Leaky(size), unroll=True) for _ in "ab"))

    return rnn.Stacked([level(I), level(2 * H)])


def tape_of(model: nn.Module, look: bool = True, steps: int = T, grad: bool = False) -> tg.Tape:
    x = draw(steps, B, I, requires_grad=grad)
    with lab.look() if look else nullcontext():
        y = randomise(model)(x)
        y = y[0] if isinstance(y, tuple) else y
        return tg.Tape.of((y * y).sum())


def all_records(group: Group) -> Iterator[int]:
    """The numbers of the records of a group, of every repetition of all that is in it."""
    if group.kind == "record":
        yield group.start
    for k in range(group.count):
        for below in group.repetition(k):
            yield from all_records(below)


def check(tape: tg.Tape) -> Group:
    """Hold what the docstring of Group says against the records; the whole tape as a group."""
    root = tape.folded()
    assert [*all_records(root)] == [*range(len(tape))]
    assert root.records == tape.records
    assert root.nbytes == sum(y.nbytes for record in tape for y in record.results)
    places = {record: k for k, record in enumerate(tape)}
    for _, group in root.walk():
        each = len(group) // group.count
        assert group.stop - group.start == each * group.count
        if group.kind == "layer":
            for record in group.records:
                assert f"{record.origin.layer}.".startswith(f"{group.layer}.")
        for k in range(group.count):
            here = group.records[k * each : (k + 1) * each]
            assert [*map(said, here)] == [*map(said, group.records[:each])]
            start = group.start + k * each
            assert wiring(here, places, start) == wiring(group.records[:each], places, group.start)
            if group.kind == "steps":
                assert {r.origin.steps[: len(r.origin.around) + 1] for r in here}
                assert {group.step(k)} <= {step for r in here for step in r.origin.steps}
    return root


def said(record: Any) -> Any:
    return record.primitive.name, [(y.dtype, y.shape) for y in record.results], len(record.inputs)


def wiring(records: Any, places: dict[Any, int], start: int) -> list[list[int]]:
    """How records are connected among themselves."""
    found = [[places.get(getattr(x, "record", None), -1) for x in r.inputs] for r in records]
    return [[max(place - start, -1) for place in row] for row in found]


def outline(group: Group) -> list[Any]:
    """A group as nested lists, its records by the names of their operations."""
    found: list[Any] = []
    for below in group.repetition():
        if below.kind == "record":
            found.append(below.records[0].primitive.name)
            continue
        name = below.layer if below.kind == "layer" else below.steps or below.count
        found.append((name, outline(below)))
    return found


GATES = "linear linear add split sigmoid sigmoid tanh sigmoid multiply multiply add tanh multiply"
GRU = (
    "linear split linear split add sigmoid multiply add tanh add sigmoid subtract multiply "
    "multiply add"
)
LEAKY = ["linear", "matmul", "add", "tanh"]


# By layer and time step


def test_layers_and_equal_time_steps_in_both_directions() -> None:
    tape = tape_of(both(), grad=True)

    def way(layer: str, *steps: int) -> Any:
        return layer, ["unstack", (steps, LEAKY), "stack"]

    assert outline(check(tape)) == [
        (
            "layers",
            [
                (f"layers.{k}", [
                    way(f"layers.{k}.forward_layer.cell", 0, T - 1),
                    way(f"layers.{k}.backward_layer.cell", T - 1, 0),
                    "concat",
                ])
                for k in (0, 1)
            ],
        ),
        "multiply",
        "sum",
    ]  # fmt: skip


def test_layers_that_are_named_by_numbers_are_one_group() -> None:
    model = rnn.LSTM(I, H, num_layers=4, unroll=True)
    root = check(tape_of(model, steps=50, grad=True))
    steps = ((0, 49), GATES.split())
    parts = ["unstack", steps, "stack"]  # the first layer unstacks another shape
    assert outline(root) == [("l0", parts), (3, [("l1", parts)]), "multiply", "sum"]
    layers = root.repetition()[1]
    (first,) = layers.repetition()
    assert [layers.repetition(k)[0].layer for k in range(3)] == ["l1", "l2", "l3"]
    assert layers.in_last(first).layer == "l3"
    assert len(layers.in_last(first)) == len(first) == 652
    with pytest.raises(IndexError, match=r"^Group\.repetition: 3 is not among 3 repetitions$"):
        layers.repetition(3)
    totals = root.totals()
    assert [total.layer for total in totals] == ["l0", "l1", "l2", "l3", None]
    assert [total.records for total in totals] == [652] * 4 + [2]
    assert sum(total.nbytes for total in totals) == root.nbytes


def test_the_first_time_step_is_a_step_like_the_others_unless_it_does_something_else() -> None:
    x, w = draw(T, B, H), draw(H, H, requires_grad=True)
    w.name = "w"

    def step(x: Any, h: Any) -> Any:
        y = tg.tanh(x + h @ w)
        return y, y

    def steps(h: Any) -> list[Any]:
        with lab.look():
            return outline(check(tg.Tape.of(tg.scan(step, x, h, unroll=True)[0])))

    assert steps(draw(B, H)) == [((0, 5), ["matmul", "add", "tanh"]), "stack"]
    assert steps(draw(B, H, requires_grad=True)) == steps(draw(B, H))
    named = draw(B, H, requires_grad=True)
    named.name = "h_0"
    assert steps(named) == [
        ((0, 0), ["matmul", "add", "tanh"]),
        ((1, 5), ["matmul", "add", "tanh"]),
        "stack",
    ]


def test_the_steps_of_a_backward_pass() -> None:
    backward = tape_of(rnn.Recurrent(Leaky(), unroll=True)).backward()
    found = [group for _, group in check(backward).walk() if group.kind == "steps"]
    assert [group.steps for group in found] == [(T - 1, 1), (0, 0)]
    assert [group.count for group in found] == [T - 1, 1]


def test_loops_with_nothing_between_them() -> None:
    """Whose outputs nobody wants, so that on the tape one follows the other at once."""
    layer = randomise(rnn.Recurrent(Leaky(), unroll=True))
    ways = randomise(rnn.Bidirectional(*(rnn.Recurrent(Leaky(), unroll=True) for _ in "ab")))
    with lab.look():
        _, h = layer(draw(T, B, I))
        again = tg.Tape.of(layer(draw(T, B, I), h)[1])
        first, second = ways(draw(T, B, I))[1]
        both = tg.Tape.of(first, second)
    (cell,) = check(again).repetition()
    assert outline(cell) == [((0, T - 1), LEAKY)] * 2
    assert outline(check(both)) == [
        ("forward_layer.cell", [((0, T - 1), LEAKY)]),
        ("backward_layer.cell", [((T - 1, 0), LEAKY)]),
    ]


def test_loops_within_loops() -> None:
    def inner(x: Any, h: Any) -> Any:
        return h, tg.sin(h) + x

    def outer(x: Any, h: Any) -> Any:
        _, h = tg.scan(inner, x, h, reverse=True, unroll=True)
        return h, tg.cos(h)

    x, h = draw(4, 3), draw(requires_grad=True)
    with lab.look():
        tape = tg.Tape.of(tg.scan(outer, x, h, unroll=True)[1])
    assert outline(check(tape)) == [((0, 3), [((2, 0), ["sin", "add"]), "cos"])]


# By repetition


@pytest.mark.parametrize("look", [True, False])
def test_a_loop_of_the_user_whose_layers_alternate(look: bool) -> None:
    root = check(tape_of(ByHand(), look, grad=True))
    cell: Any = GRU.split()
    cells: Any = [(2, [("cells.0", cell)] if look else cell)]
    step = ["getitem", ("cells", cells), ("head", ["linear"])] if look else None
    step = step or ["getitem", *cells, "linear"]
    kinds = [item[0] if isinstance(item, tuple) else item for item in outline(root)]
    assert "unstack" not in kinds or kinds[0] == "unstack"
    step = [item for item in step if item != "getitem" or "unstack" not in kinds]
    assert [item for item in outline(root) if item != "unstack"] == [
        (T, step), "stack", "multiply", "sum",
    ]  # fmt: skip


def test_what_has_no_origin_is_folded_by_repetition_and_names() -> None:
    root = check(tape_of(rnn.LSTM(I, H, num_layers=3, unroll=True), look=False, steps=50))
    times = [group.count for _, group in root.walk() if group.count > 1]
    assert times == [2, 50, 50]
    assert len(outline(root)) == 5


def test_fifty_layers_of_one_kind() -> None:
    model = nn.Sequential(*(part for _ in range(50) for part in (nn.Linear(H, H), tg.tanh)))
    for look in (True, False):
        with lab.look() if look else nullcontext():
            tape = tg.Tape.of(randomise(model)(draw(2, H)))
        (layers,) = check(tape).repetition()
        assert layers.count == 50
        if look:
            linear = layers.repetition()[0]
            assert (linear.layer, layers.in_last(linear).layer) == ("layers.0", "layers.98")


def test_repeats_within_repeats() -> None:
    x = draw(3, requires_grad=True)
    for _ in range(7):
        for _ in range(20):
            x = tg.sin(x)
        x = tg.cos(x) * 2.0
    assert outline(check(tg.Tape.of(x))) == [(7, [(20, ["sin"]), "cos", "multiply"])]


def test_few_lines_stand_as_they_are() -> None:
    x = draw(3, requires_grad=True)
    for _ in range(3):
        x = tg.sin(x) * 2.0
    assert outline(tg.Tape.of(x).folded()) == ["sin", "multiply"] * 3


def test_what_is_connected_otherwise_is_not_the_same() -> None:
    def chain(odd: Callable[[Any, Any], Any]) -> list[int]:
        x = draw(3, requires_grad=True)
        for k in range(12):
            a, b = tg.sin(x), tg.cos(x)
            x = (odd(a, b) if k == 7 else a * b) + 1.0
        return [group.count for group in check(tg.Tape.of(x)).repetition()]

    assert chain(lambda a, b: a * b) == [12]
    counts = chain(lambda a, b: b * a)
    assert (counts[0], max(counts[1:]), len(counts)) == (7, 4, 6)


def test_time_steps_that_are_connected_otherwise_stand_by_themselves() -> None:
    steps = iter(range(T))

    def step(x: Any, h: Any) -> Any:
        a, b = tg.sin(h), tg.cos(h)
        h = x + (b * a if next(steps) == 3 else a * b)
        return h, h

    with lab.look():
        tape = tg.Tape.of(tg.scan(step, draw(T, H), draw(H, requires_grad=True), unroll=True)[1])
    found = [group.steps for group in check(tape).repetition()]
    assert found == [(0, 2), (3, 3), (4, 5)]


def test_other_results_of_one_operation_are_not_the_same() -> None:
    x = draw(4, requires_grad=True)
    for k in range(9):
        a, b = tg.split(x, parts=2)
        x = tg.concat([a, b] if k != 4 else [a, a])
        x = tg.exp(tg.sin(x))
    counts = [group.count for group in check(tg.Tape.of(x)).repetition()]
    assert (counts[0], max(counts[1:]), len(counts)) == (4, 4, 6)


def test_other_parameters_are_not_the_same_but_other_numbers_are() -> None:
    weights = [draw(3, requires_grad=True) for _ in range(2)]
    weights[0].name, weights[1].name = "gain", "bias"
    x = draw(3, requires_grad=True)
    for k in range(20):
        x = x * weights[k % 2] + float(k)
    (group,) = check(tg.Tape.of(x)).repetition()
    assert (group.count, len(group)) == (10, 40)
    for k in (0, 1):
        weights[k].name = f"weight.{k}"
    (group,) = check(tg.Tape.of(x)).repetition()
    assert (group.count, len(group)) == (10, 40)  # not 20 of one weight, of another number each


def test_loops_that_run_other_programs_are_not_the_same() -> None:
    x = y = draw(T, B, H, requires_grad=True)
    for kind in ("tanh", "relu") * 8:
        x, _ = randomise(rnn.RNN(H, H, nonlinearity=kind))(x)
        y, _ = randomise(rnn.RNN(H, H, nonlinearity="tanh"))(y)
    tape = tg.Tape.of(x)
    assert {record.inside[0] for record in tape} == {T}
    assert [(group.count, len(group)) for group in check(tape).repetition()] == [(8, 16)]
    assert [group.count for group in check(tg.Tape.of(y)).repetition()] == [16]


# Any tape


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.integers(0, 10**6))
def test_any_tape_is_told_whole_and_true(counts: list[int], seed: int) -> None:
    """Loops within loops of random operations on random values, sometimes with another one."""
    rng = np.random.default_rng(seed)
    values = [draw(2, requires_grad=True) for _ in range(3)]

    def run(depth: int, blocks: list[Any]) -> None:
        for block in blocks:
            if isinstance(block, tuple):
                for _ in range(block[0]):
                    run(depth + 1, block[1])
            elif rng.random() < 0.02:
                values[0] = tg.cos(values[1])
            else:
                what, a, b, c = block
                values[a] = values[b] + values[c] if what else tg.sin(values[b] * values[c])

    def blocks(depth: int) -> list[Any]:
        made: list[Any] = [[*rng.integers(3, size=4)] for _ in range(rng.integers(1, 5))]
        for count in counts[depth : depth + 1]:
            made.insert(rng.integers(len(made)), (4 * count + 1, blocks(depth + 1)))
        return made

    run(0, blocks(0))
    check(tg.Tape.of(*values))


def test_a_tape_without_records_and_one_that_is_freed() -> None:
    assert tg.Tape.of(draw(2, requires_grad=True)).folded().repetition() == []
    assert tg.Tape.of(draw(2)).folded().totals() == []
    x = draw(2, requires_grad=True)
    y = x
    for _ in range(30):
        y = tg.sin(y)
    y.sum().backward()
    root = tg.Tape.of(y).folded()
    assert [*all_records(root)] == [*range(30)]
    assert root.nbytes == 0
    assert Counter(group.kind for _, group in root.walk())["record"] == 1
