"""Where records come from: layer, time step, direction, line and parameters, replayed and not."""

from __future__ import annotations

import contextvars
import gc
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.replay import is_replayed, rerun
from tinygrad_rnn.rnn.cells import lstm
from tinygrad_rnn.tape import Place, current_place

T, B, I, H = 4, 2, 3, 5


class Leaky(rnn.Cell):
    """h_t = tanh(W x_t + h_{t-1} V): equations on lines that are looked up by what they say."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(np.ones((hidden_size, input_size)))
        self.v = nn.Parameter(np.ones((hidden_size, hidden_size)))

    def step(self, x: Any, state: Any) -> Any:
        a = tg.linear(x, self.w)
        h = tg.tanh(a + state @ self.v)
        return h, h


def line_of(text: str, path: str = __file__) -> str:
    """The only line of a file that holds a text and no call of this function."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    (found,) = [k for k, line in enumerate(lines, 1) if text in line and "line_of(" not in line]
    return f"{path}:{found}"


EQUATIONS = [
    ("linear", line_of("a = tg.linear(x, self.w)"), "w"),
    ("matmul", line_of("h = tg.tanh(a + state"), "v"),
    ("add", line_of("h = tg.tanh(a + state"), ""),
    ("tanh", line_of("h = tg.tanh(a + state"), ""),
]
GATES = [
    ("linear", "weight_ih bias_ih"), ("linear", "weight_hh bias_hh"), ("add", ""), ("split", ""),
    ("sigmoid", ""), ("sigmoid", ""), ("tanh", ""), ("sigmoid", ""), ("multiply", ""),
    ("multiply", ""), ("add", ""), ("tanh", ""), ("multiply", ""),
]  # fmt: skip


class Model(nn.Module):
    """Two levels in both directions of a user's cell, an LSTM in both directions, a product."""

    def __init__(self, unroll: bool) -> None:
        def both(size: int) -> Any:
            return rnn.Bidirectional(*(rnn.Recurrent(Leaky(size), unroll=unroll) for _ in "ab"))

        self.encoder = rnn.Stacked([both(I), both(2 * H)])
        self.lstm = rnn.LSTM(2 * H, H, bidirectional=True, unroll=unroll)
        self.head = nn.Linear(2 * H, 1)

    def forward(self, x: Any) -> Any:
        y, _ = self.encoder(x)
        y, _ = self.lstm(y)
        return self.head(y)


Row = tuple[str, lab.Origin, tuple[str, ...]]


class Seen(tg.Observer):
    """What records say of themselves, forward and backward; replayed loops are run again."""

    def __init__(self) -> None:
        self.forward: list[Row] = []
        self.backward: list[Row] = []

    def after_forward(self, record: Any) -> None:
        self.forward.append(row(record))
        if is_replayed(record):
            rerun(record)

    def before_backward(self, record: Any, cotangents: Any) -> None:
        self.backward.append(row(record))
        if is_replayed(record):
            count = len(self.forward)
            rerun(record, cotangents)
            del self.forward[count:]


def row(record: Any) -> Row:
    return record.primitive.name, record.origin._replace(inside=()), record.parameters


def in_steps(rows: list[Row]) -> list[Row]:
    return [one for one in rows if one[1].step is not None]


def seen_in(call: Any) -> list[Row]:
    with tg.observe(seen := Seen()):
        call()
    return seen.forward


def layers(call: Any) -> list[tuple[str, str | None]]:
    """Names and layers of what a call records."""
    return [(name, origin.layer) for name, origin, _ in seen_in(call)]


def observed(unroll: bool) -> Seen:
    model, x = randomise(Model(unroll)), draw(T, B, I, requires_grad=True)
    with tg.observe(seen := Seen()):
        model(x).sum().backward()
    return seen


def expected_steps() -> list[Row]:
    """All that the loops of the model do, in order."""
    rows: list[Row] = []
    for level in (0, 1):
        for way in ("forward", "backward"):
            layer = f"encoder.layers.{level}.{way}_layer.cell"
            reverse = way == "backward"
            for t in reversed(range(T)) if reverse else range(T):
                for name, line, parameter in EQUATIONS:
                    origin = lab.Origin(layer, t, reverse, line=line)
                    rows.append((name, origin, (f"{layer}.{parameter}",) if parameter else ()))
    for suffix in ("l0", "l0_reverse"):
        reverse = suffix != "l0"
        for t in reversed(range(T)) if reverse else range(T):
            for name, words in GATES:
                line = line_of("y, _ = self.lstm(y)")
                origin = lab.Origin(f"lstm.{suffix}", t, reverse, line=line)
                rows.append((name, origin, tuple(f"lstm.{w}_{suffix}" for w in words.split())))
    return rows


def without_equations(rows: list[Row]) -> list[Row]:
    return [(name, origin._replace(equation=None), names) for name, origin, names in rows]


# Loops


@pytest.mark.parametrize("unroll", [True, False])
def test_every_record_of_every_step_forward_and_backward(unroll: bool) -> None:
    seen, expected = observed(unroll), expected_steps()
    assert without_equations(in_steps(seen.forward)) == expected
    assert without_equations(in_steps(seen.backward)) == expected[::-1]


@pytest.mark.parametrize("unroll", [True, False])
def test_the_equations_of_a_built_in_cell_have_lines_too(unroll: bool) -> None:
    file = Path(str(lstm.__file__))
    for name, origin, _ in in_steps(observed(unroll).forward):
        if str(origin.layer).startswith("encoder"):
            assert origin.equation is None
            continue
        path, _, number = str(origin.equation).rpartition(":")
        assert path == "tinygrad_rnn/rnn/cells/lstm.py"
        text = file.read_text(encoding="utf-8").splitlines()[int(number) - 1]
        words = {"add": "+", "multiply": "*", "tanh": "act(g) out(c)"}.get(name, name).split()
        assert any(word in text for word in words), (name, text)


def test_a_replayed_loop_knows_its_lines() -> None:
    model, x = randomise(Model(unroll=False)), draw(T, B, I)
    with lab.look():
        y = model(x)
    scans = [record for record in tg.Tape.of(y) if is_replayed(record)]
    assert [record.origin.layer for record in scans] == [
        *(f"encoder.layers.{k}.{w}_layer.cell" for k in (0, 1) for w in ("forward", "backward")),
        "lstm.l0",
        "lstm.l0_reverse",
    ]
    for k, record in enumerate(scans):
        origin, layer = record.origin, record.origin.layer
        assert origin.step is None
        assert origin.reverse == (k % 2 == 1)
        assert origin.line == line_of("y, _ = self.encoder(x)" if k < 4 else "y, _ = self.lstm(y)")
        assert len(origin.inside) == len(record.params["replay"].program.ops)
        if k < 4:
            assert record.parameters == (f"{layer}.w", f"{layer}.v")
            lines = [line for _, line, _ in EQUATIONS]
            here = [lab.Origin(layer, None, k % 2 == 1, line=line) for line in lines]
            assert [*origin.inside] == here
        else:
            suffix = str(layer).removeprefix("lstm.")
            assert {name for name in record.parameters if not name.endswith(suffix)} == set()
            assert len(record.parameters) == 4


def test_a_program_found_in_the_cache_has_the_lines_of_this_call() -> None:
    class Elsewhere(Leaky):
        def step(self, x: Any, state: Any) -> Any:
            b = tg.linear(x, self.w)
            h = tg.tanh(b + state @ self.v)
            return h, h

    def scan_of(cell: Any, look: bool) -> Any:
        with lab.look() if look else tg.enable_grad():
            y, _ = rnn.Recurrent(randomise(cell))(draw(T, B, I))
        (record,) = (record for record in tg.Tape.of(y) if is_replayed(record))
        return record

    first, second = scan_of(Leaky(), False), scan_of(Elsewhere(), True)
    third = scan_of(Leaky(), True)
    assert first.origin is None
    assert first.params["replay"] is second.params["replay"] is third.params["replay"]
    assert second.origin.inside[0].line == line_of("b = tg.linear(x, self.w)")
    assert third.origin.inside[0].line == line_of("a = tg.linear(x, self.w)")


def test_loops_within_loops_know_all_their_steps() -> None:
    def inner(x: Any, h: Any) -> Any:
        return h, tg.sin(h) + x

    def outer(x: Any, h: Any) -> Any:
        _, h = tg.scan(inner, x, h, reverse=True, unroll=unrolled)
        return h, tg.cos(h)

    found = []
    for unrolled in (True, False):
        x, h = draw(2, 3), tg.tensor(np.ones(()), requires_grad=True)
        with tg.observe(seen := Seen()):
            tg.scan(outer, x, h, unroll=unrolled)[1].backward()
        rows = [r for r in seen.forward if r[0] in ("sin", "cos")]
        back = [r for r in seen.backward if r[0] in ("sin", "cos")]
        steps = [(name, o.around, o.step, o.reverse) for name, o, _ in rows]
        each = [
            [*(("sin", (t,), k, True) for k in (2, 1, 0)), ("cos", (), t, False)] for t in (0, 1)
        ]
        assert steps == each[0] + each[1]
        assert [r[1].steps for r in back] == [(*s[1], s[2]) for s in steps[::-1]]
        assert rows[0][1].line == line_of("tg.sin(h) + x")
        found.append((rows, back))
    assert found[0] == found[1]


@pytest.mark.filterwarnings("ignore::tinygrad_rnn.replay.UnrolledWarning")
def test_the_traced_steps_of_a_loop_that_ends_unrolled() -> None:
    class Counting(Leaky):
        t = 0

        def step(self, x: Any, state: Any) -> Any:
            self.t += 1
            return super().step(x, state)

    class Keeping(Leaky):
        def __init__(self) -> None:
            super().__init__()
            self.kept: list[Any] = []

        def step(self, x: Any, state: Any) -> Any:
            h, _ = super().step(x, state)
            self.kept.append(h)
            return h, h

    for cell in (Counting(), Keeping()):
        rows = in_steps(seen_in(lambda: rnn.Recurrent(randomise(cell))(draw(T, B, I))))  # noqa: B023
        assert [(o.layer, o.step, o.line) for name, o, _ in rows if name == "tanh"] == [
            ("cell", t, EQUATIONS[-1][1]) for t in range(T)
        ]


def test_a_stream_knows_its_layers() -> None:
    for layer, name in [
        (rnn.Recurrent(Leaky()), "cell"),
        (rnn.Stacked([rnn.Recurrent(Leaky())]), "layers.0.cell"),
        (rnn.Residual(rnn.Recurrent(Leaky(H))), "layer.cell"),
        (rnn.LSTM(I, H), "l0"),
    ]:
        size = H if isinstance(layer, rnn.Residual) else I
        with tg.no_grad():
            rows = seen_in(partial(randomise(layer).step, draw(B, size)))
        assert name in {origin.layer for _, origin, _ in rows}
        assert {origin.layer for _, origin, _ in in_steps(rows)} == {name}


# Modules


def test_nested_modules() -> None:
    deep = nn.Sequential(nn.Linear(3, 3), tg.tanh, nn.Sequential(nn.Linear(3, 3), tg.sigmoid))
    assert layers(lambda: deep(tg.ones((2, 3)))) == [
        ("linear", "layers.0"),
        ("tanh", ""),
        ("linear", "layers.2.layers.0"),
        ("sigmoid", "layers.2"),
    ]
    assert layers(lambda: tg.tanh(tg.ones(3))) == [("tanh", None)]
    assert seen_in(lambda: deep(tg.ones((2, 3))))[2][2] == (
        "layers.2.layers.0.weight",
        "layers.2.layers.0.bias",
    )


def test_stacks_residuals_and_what_stands_between() -> None:
    stack = rnn.Stacked(
        [rnn.Residual(rnn.Recurrent(Leaky(H))), nn.Dropout(0.5), nn.Linear(H, 2), rnn.GRU(2, H)]
    )
    stack, x = randomise(stack), draw(T, B, H)
    found = dict.fromkeys(layer for _, layer in layers(lambda: stack(x)))
    assert [*found] == [
        "layers.0.layer.cell",
        "layers.0",
        "layers.1",
        "layers.2",
        "layers.3.l0",
        "layers.3",
    ]


@pytest.mark.parametrize("unroll", [True, False])
def test_cells_round_a_cell(unroll: bool) -> None:
    cell = rnn.Zoneout(rnn.VariationalDropout(Leaky(), inputs=0.5), 0.1)
    layer, x = rnn.Recurrent(randomise(cell), unroll=unroll), draw(T, B, I)
    rows = in_steps(seen_in(lambda: layer(x)))
    places = {(name, origin.layer) for name, origin, _ in rows}
    assert {("linear", "cell.cell.cell"), ("tanh", "cell.cell.cell")} <= places
    assert ("multiply", "cell.cell") in places
    assert ("where", "cell") in places


def test_a_module_that_is_used_twice() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            self.a = nn.Sequential(shared := nn.Linear(3, 3))
            self.b = nn.Sequential(shared)
            self.shared = shared

        def forward(self, x: Any) -> Any:
            return self.shared(self.b(self.a(x)))

    assert [layer for _, layer in layers(lambda: Twice()(tg.ones((2, 3))))] == [
        "a.layers.0",
        "b.layers.0",
        "a.layers.0",
    ]


def test_a_module_that_is_not_in_the_tree() -> None:
    class Holder(nn.Module):
        hidden = ("other",)

        def __init__(self) -> None:
            self.other = nn.Sequential(nn.Linear(3, 3))

        def forward(self, x: Any) -> Any:
            return self.other(x)

    model = nn.Sequential(Holder())
    assert layers(lambda: model(tg.ones((2, 3)))) == [("linear", "layers.0.Sequential.layers.0")]


def test_a_module_that_calls_the_one_around_it() -> None:
    class Parent(nn.Module):
        def __init__(self) -> None:
            self.child = Child()
            self.child.parent = self

        def forward(self, x: Any, depth: int = 1) -> Any:
            return self.child(x, depth) if depth else tg.tanh(x)

    class Child(nn.Module):
        parent: Any

        def __init__(self) -> None:
            self.weight = nn.Parameter(np.ones(3))

        def forward(self, x: Any, depth: int) -> Any:
            return self.parent(x * self.weight, depth - 1)

    parent = Parent()
    assert parent.child.weight.name == "child.weight"
    found = layers(lambda: parent(draw(3)))
    assert found == [("multiply", "child"), ("tanh", "")]


# The backward pass


def test_backward_records_know_the_forward_records() -> None:
    model, x = randomise(Model(unroll=True)), draw(T, B, I, requires_grad=True)
    with lab.look():
        forward = tg.Tape.of(model(x).sum())
    by_position = {record.position: record for record in forward}
    backward = forward.backward()
    assert {record.origin.forward for record in backward} <= {*by_position}
    for record in backward:
        origin, source = record.origin, by_position[record.origin.forward]
        same = source.origin._replace(forward=source.position)
        assert origin in (same, same.at_step(None, False, ()))  # or a sum over all steps
    assert any(record.origin.step == 2 and record.origin.reverse for record in backward)


@pytest.mark.parametrize("turned", [False, True])
def test_the_recorded_backward_pass_of_a_replayed_loop_knows_its_lines(turned: bool) -> None:
    layer, x = randomise(rnn.Recurrent(Leaky(), turned)), draw(T, B, I, requires_grad=True)
    layer(x)  # compiled while nobody looks
    with lab.look():
        forward = tg.Tape.of(layer(x)[0].sum())
    (loop,) = (record for record in forward if is_replayed(record))
    states, back = (record for record in forward.backward() if is_replayed(record))
    for record in (states, back):
        assert (record.origin.layer, record.origin.forward) == ("cell", loop.position)
        assert len(record.origin.inside) == len(record.params["replay"].program.ops)
        assert {line.layer for line in record.origin.inside} == {"cell"}
        lines = {line for _, line, _ in EQUATIONS} | {loop.origin.line}  # and sums of what arrives
        assert {line.line for line in record.origin.inside} <= lines
        assert (
            {line.reverse for line in record.origin.inside} == {record.origin.reverse} == {turned}
        )
    assert {line.forward for line in states.origin.inside} == {None}
    assert {line.forward for line in back.origin.inside} == {None, loop.position}


def test_what_a_checkpoint_computes_again_comes_from_where_it_came_from() -> None:
    class Half(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return tg.checkpoint(lambda x: tg.tanh(self.inner(x)))(x)

    model = nn.Sequential(Half())
    with tg.observe(first := Seen()):
        y = model(tg.ones((2, 3), requires_grad=True)).sum()
    with tg.observe(again := Seen()):
        y.backward()
    inner = [r for r in first.forward if r[0] in ("linear", "tanh")]
    assert [origin.layer for _, origin, _ in inner] == ["layers.0.inner", "layers.0"]
    assert [r for r in again.forward if r[0] in ("linear", "tanh")] == inner
    assert [r for r in again.backward if r[0] in ("linear", "tanh")] == inner[::-1]
    assert [o.layer for name, o, _ in again.backward if name == "checkpoint"] == ["layers.0"]


# Who looks, and for how long


def test_looking_changes_no_number() -> None:
    model = rnn.Stacked(
        [
            rnn.LSTM(I, H, 2, dropout=0.5),
            rnn.Recurrent(rnn.Zoneout(rnn.GRUCell(H, H), 0.2)),
            nn.Dropout(0.5),
            rnn.Recurrent(rnn.VariationalDropout(randomise(Leaky(H)), inputs=0.4)),
        ]
    )
    model, x = randomise(model), draw(T, B, I)
    found: list[Any] = []
    for switch in (tg.enable_grad, tg.enable_grad, lab.look, tg.enable_grad):
        tg.manual_seed(3)
        with switch():
            y, _ = model(x)
            y.sum().backward()
        found.append([y.numpy(), *(p.grad.numpy() for p in model.parameters())])
        model.zero_grad()
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.filterwarnings("error")
def test_a_step_that_calls_modules_is_replayed_while_somebody_looks() -> None:
    layer = nn.Sequential()
    layer.layers.append(nn.Linear(3, 3))
    with lab.look():
        _, h = tg.scan(lambda x, h: (h, layer(x) + h), tg.ones((T, B, 3)), tg.zeros((B, 3)))
    (loop,) = tg.Tape.of(h)
    assert [line.layer for line in loop.origin.inside] == ["layers.0", None]
    assert loop.parameters == ("layers.0.weight", "layers.0.bias")


def test_nobody_looks_and_nothing_is_known() -> None:
    for unroll in (True, False):
        y = randomise(Model(unroll))(draw(T, B, I)).sum()
        assert all(record.origin is None for record in tg.Tape.of(y))
        y.backward()
    assert current_place.get() == Place()


class Failing(nn.Module):
    def forward(self, x: Any) -> Any:
        raise KeyError


def test_exceptions_leave_the_place_as_it_was() -> None:
    def fails(x: Any) -> Any:
        raise KeyError

    def rule(g: Any, y: Any, x: Any) -> Any:
        raise KeyError

    odd = tg.primitive("odd", lambda xp, x: x * 1, [rule])
    failing: list[Any] = [
        lambda: nn.Sequential(nn.Linear(3, 3), Failing())(tg.ones((2, 3))),
        lambda: tg.scan(lambda x, h: fails(x), tg.ones(3), tg.ones(())),
        lambda: tg.scan(lambda x, h: fails(x), tg.ones(3), tg.ones(()), unroll=True),
        lambda: odd(tg.ones(3, requires_grad=True)).sum().backward(),
    ]
    for call in failing:
        with lab.look():
            with pytest.raises(KeyError):
                call()
            assert current_place.get() == Place()
            assert layers(lambda: tg.tanh(tg.ones(3))) == [("tanh", None)]


def test_threads_and_contexts_look_for_themselves() -> None:
    def look(k: int) -> None:
        model = nn.Sequential(*[tg.tanh] * k, nn.Linear(3, 3))
        for _ in range(20):
            found = layers(lambda: model(tg.ones((2, 3))))
            assert found == [("tanh", "")] * k + [("linear", f"layers.{k}")]

    def look_away() -> None:
        for _ in range(20):
            (record,) = tg.Tape.of(nn.Linear(3, 3)(tg.ones((2, 3))))
            assert record.origin is None

    with lab.look():
        at_once([*(lambda k=k: look(k) for k in range(3)), look_away])
        contextvars.Context().run(look_away)


def test_a_generator_looks_while_it_runs() -> None:
    model = nn.Sequential(nn.Linear(3, 3))

    class Lazily(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Linear(3, 3)

        def forward(self, x: Any) -> Iterator[Any]:
            yield self.inner(x)
            yield tg.tanh(x)

    @lab.look()
    def outputs() -> Iterator[Any]:
        yield model(tg.ones((2, 3)))
        yield from Lazily()(tg.ones((2, 3), requires_grad=True))

    found = []
    for y in outputs():
        (record,) = tg.Tape.of(y)
        found.append(record.origin.layer)
        assert all(record.origin is None for record in tg.Tape.of(model(tg.ones((2, 3)))))
        assert current_place.get() == Place()
    assert found == ["layers.0", "", None]  # its body runs when its module has returned


@pytest.mark.parametrize("unroll", [True, False])
def test_nothing_is_kept_alive(unroll: bool) -> None:
    model, x = randomise(Model(unroll)), draw(T, B, I, requires_grad=True)
    with lab.look():
        y = model(x).sum()
        record: Any = y.record
        y.backward()
        assert record.freed
    gone = [weakref.ref(value) for value in (y, x, *model.parameters())]
    gone += [weakref.ref(module) for module in model.modules()]  # pyright: ignore[reportArgumentType]
    origin = record.origin
    del model, x, y, record
    gc.collect()
    assert origin.layer is None
    assert [one() for one in gone if one() is not None] == []


def test_a_printed_tape_says_where_its_lines_are_from() -> None:
    model, x = randomise(Model(unroll=True)), draw(T, B, I)
    with lab.look():
        text = tg.Tape.of(model(x)).listing(unfold=True)
    line = Path(EQUATIONS[-1][1]).name  # a printed tape has no room for folders
    assert f"   # encoder.layers.1.backward_layer.cell, step 3, reversed, {line}" in text
    assert f"   # head, {Path(line_of('return self.head(y)')).name}" in text
    origin = lab.Origin("cell", 2, around=(4, 1), line="model.py:7")
    assert str(origin) == "cell, step 2 of step 1 of step 4, model.py:7"
