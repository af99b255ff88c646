"""The tape as something to be read: printing, parts of it, its backward pass, observers."""

from __future__ import annotations

import copy
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn


def leaf(*shape: int, name: str | None = None) -> tg.Tensor:
    values = np.random.default_rng(len(shape)).standard_normal(shape)
    x = tg.tensor(values, requires_grad=True)
    x.name = name
    return x


# Printing


def test_a_program_reads_top_to_bottom() -> None:
    weight, x = leaf(3, 2, name="weight"), tg.tensor(np.ones((4, 3), np.float32))
    h = tg.tanh(x.astype(np.float64) @ weight)
    first, _ = tg.split(h, parts=2)
    text = str(tg.Tape.of((first * np.ones(1)).sum()))
    assert [" ".join(line.split()) for line in text.splitlines()] == [
        "tape of 5 records, 232 B of results",
        "%0: float64 (4, 3) 96 B leaf",
        "weight: float64 (3, 2) 48 B leaf",
        "%2: float64 (4, 2) 64 B matmul(%0, weight)",
        "%3: float64 (4, 2) 64 B tanh(%2)",
        "%4, %5: float64 (4, 1) 64 B split(%3, sizes=(1, 1), axis=1)",
        "%6: float64 (4, 1) 32 B multiply(%4, float64(1,))",
        "%7: float64 () 8 B sum(%6, axis=(0, 1), keepdims=False)",
        "result: %7",
    ]


def test_two_leaves_of_one_name_are_told_apart() -> None:
    a, b = leaf(2, name="weight"), leaf(2, name="weight")
    lines = str(tg.Tape.of(a * b)).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["weight:", "%1:", "%2:"]
    assert lines[3].endswith("multiply(weight, %1)")


def test_a_name_that_looks_like_a_number_is_no_trap() -> None:
    a, b = leaf(2, name="%1"), leaf(2)
    names = [line.split()[0] for line in str(tg.Tape.of(a * b)).splitlines()[1:-1]]
    assert len(set(names)) == 3


def test_long_calls_are_shortened() -> None:
    x = leaf(2)
    text = str(tg.Tape.of(tg.stack([x * float(k) for k in range(20)])))
    assert re.search(r"stack\(%1, %2, \.\.\. %20, axis=0\)", text)
    parts = tg.unstack(leaf(20))
    assert re.search(r"%1 \.\.\. %20: ", str(tg.Tape.of(parts[3])))


def test_an_empty_tape_prints() -> None:
    x = leaf(2, name="x")
    text = str(tg.Tape.of(x))
    assert text.splitlines()[0] == "tape of 0 records, 0 B of results"
    assert text.splitlines()[-1] == "result: x"


def test_a_freed_tape_prints() -> None:
    x = leaf(2)
    y = tg.tanh(x).sum()
    y.backward()
    text = str(tg.Tape.of(y))
    assert "freed" in text
    assert "sum(...)" in text
    assert "freed" in tg.Tape.of(y)._repr_html_()


def test_html_escapes_what_it_shows() -> None:
    x = leaf(2, name="<b>&")
    html = tg.Tape.of(tg.primitive("<i>", lambda xp, x: x * 1, [None])(x))._repr_html_()
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;b&gt;&amp;" in html
    assert html.startswith("<table>")


@pytest.mark.parametrize("named", [False, True])
def test_printing_is_linear_in_the_number_of_records(named: bool) -> None:
    class Counting(str):
        hashed = 0
        compared = 0

        def __hash__(self) -> int:
            Counting.hashed += 1
            return super().__hash__()

        def __eq__(self, other: object) -> bool:
            Counting.compared += 1
            return super().__eq__(other)

    work: list[int] = []
    for count in (200, 400):
        Counting.hashed = Counting.compared = 0
        y = 0.0
        for k in range(count):
            y = leaf(1, name=Counting(f"weight.{k}")) * 2.0 + y
        str(tg.Tape.of(y))
        work.append(Counting.hashed + Counting.compared)
    assert work[1] <= 2 * work[0] + 10


# Names


def test_parameters_have_their_names_at_once() -> None:
    both = rnn.Bidirectional(rnn.Recurrent(rnn.GRUCell(3, 3)), rnn.GRU(3, 3))
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3)))
    model.rnn = rnn.Stacked([both, rnn.LSTM(6, 2, bidirectional=True)])
    text = str(tg.Tape.of(model(tg.ones((2, 3))), model.rnn(tg.ones((4, 2, 3)))[0]))
    for name, parameter in [*model.named_parameters()]:
        assert parameter.name == name
        assert f"\n  {name}: " in text
    model.other = copy.deepcopy(model.rnn)
    assert {p.name for p in model.other.parameters()} == {
        f"other.{name}" for name, _ in model.other.named_parameters()
    }
    model.layers[1].parameters()
    assert model.layers[1].layers[0].weight.name == "layers.1.layers.0.weight"  # no shorter one
    own = nn.Parameter(np.ones(3))
    own.name = "gain"
    model.gains = [own]
    assert own.name == "gain"


def test_intermediate_values_keep_their_names_in_print() -> None:
    x = leaf(4)
    x.name = "x"
    h = tg.tanh(x)
    h.name = "hidden"
    first, second = tg.split(h * 2.0, parts=2)
    second.name = "rest"
    loss = first.sum() + second.sum()
    loss.name = "loss"
    lines = [" ".join(line.split()) for line in str(tg.Tape.of(loss)).splitlines()]
    assert lines[2] == "hidden: float64 (4,) 32 B tanh(x)"
    assert lines[4].startswith("%3, rest: ")
    assert lines[-1] == "result: loss"


def test_a_backward_tape_says_from_which_forward_lines_it_is() -> None:
    x = leaf(3)
    x.name = "x"
    forward = tg.Tape.of((tg.tanh(x) * 2.0).sum())
    assert [line.split(":")[0].strip() for line in str(forward).splitlines()[2:5]] == [
        "%1", "%2", "%3",
    ]  # fmt: skip
    backward = forward.backward()
    assert "   from tanh, %1 of the forward tape" in str(backward)
    notes = [line.partition("   # ")[2] for line in str(backward).splitlines() if "   # " in line]
    assert notes == [f"back from %{k}" for k in (3, 3, 2, 1, 1, 1)]
    assert "back from %1" in backward._repr_html_()


# Parts of a tape


def test_tape_of_has_its_records_in_order_and_its_inputs() -> None:
    a, b, c = leaf(2), leaf(2), tg.tensor(np.ones(2))
    y, z = a * c + b, tg.exp(b)
    tape = tg.Tape.of(y, z)
    positions = [record.position for record in tape]
    assert positions == sorted(positions)
    assert [record.primitive.name for record in tape] == ["multiply", "add", "exp"]
    assert len(tape) == 3
    assert [id(x) for x in tape.inputs] == [id(a), id(c), id(b)]
    assert tape.outputs == (y, z) or [id(v) for v in tape.outputs] == [id(y), id(z)]
    assert repr(tape) == "<tape of 3 records>"


def test_tape_between_an_interior_value_and_the_result() -> None:
    a, b = leaf(2, name="a"), leaf(2, name="b")
    h = tg.tanh(a)
    other = tg.exp(b)
    y = h * other + h
    tape = tg.Tape.of(y, inputs=[h])
    assert [record.primitive.name for record in tape] == ["multiply", "add"]
    assert {id(x) for x in tape.inputs} == {id(h), id(other)} or len(tape.inputs) == 2
    assert str(tape).count("   from ") == 2


def test_tape_of_refuses_what_is_no_tensor() -> None:
    with pytest.raises(TypeError, match=r"^Tape.of: expected Tensors, got float$"):
        tg.Tape.of(2.0)


def test_what_needs_no_gradient_has_no_tape() -> None:
    assert len(tg.Tape.of(tg.tensor([1.0]) * 2)) == 0


# The backward pass as a tape


def test_the_backward_pass_is_a_program_that_computes_the_gradients() -> None:
    x, weight = leaf(3, name="x"), leaf(3, name="weight")
    y = (tg.tanh(x) * weight).sum()
    backward = tg.Tape.of(y).backward()
    text = str(backward)
    assert "broadcast_to" in text
    assert text.splitlines()[-1].startswith("result: ")
    assert [id(v) for v in tg.Tape.of(y).inputs] == [id(x), id(weight)]
    for found, expected in zip(
        backward.outputs,
        [weight.numpy() * (1 - np.tanh(x.numpy()) ** 2), np.tanh(x.numpy())],
        strict=True,
    ):
        np.testing.assert_allclose(found.numpy(), expected)
    assert x.grad is None
    y.backward()
    np.testing.assert_allclose(x.grad.numpy(), backward.outputs[0].numpy())


def test_the_backward_pass_holds_nothing_of_the_forward_pass() -> None:
    x = leaf(3)
    y = tg.exp(tg.sin(x))
    forward = tg.Tape.of(y)
    backward = forward.backward(np.ones(3))
    assert not {*forward} & {*backward}
    again = tg.Tape.of(*backward.outputs, inputs=[x])
    assert len(again) > 0


def test_the_backward_pass_wants_a_gradient_per_output() -> None:
    x = leaf(3)
    tape = tg.Tape.of(x * 2, x.sum())
    with pytest.raises(ValueError, match=r"^Tape.backward: expected 2 gradients.*got 1$"):
        tape.backward(np.ones(3))
    with pytest.raises(RuntimeError, match="one element, got shape"):
        tape.backward()
    (gradient,) = tape.backward(np.ones(3), 2.0).outputs
    np.testing.assert_array_equal(gradient.numpy(), [4, 4, 4])


# Observers


class Log(tg.Observer):
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.cotangents: dict[str, Any] = {}

    def before_forward(self, primitive: Any, inputs: Any, params: Any) -> None:
        self.events.append(("before", primitive.name))

    def after_forward(self, record: Any) -> None:
        assert all(isinstance(y, np.ndarray) for y in record.results)
        self.events.append(("after", record.primitive.name))

    def before_backward(self, record: Any, cotangents: Any) -> None:
        assert len(cotangents) == len(record.results)
        self.events.append(("before back", record.primitive.name))

    def after_backward(self, record: Any, cotangents: Any) -> None:
        assert len(cotangents) == len(record.inputs)
        self.cotangents[record.primitive.name] = cotangents
        self.events.append(("after back", record.primitive.name))


def test_observers_see_every_record_in_order() -> None:
    x = leaf(3)
    log = Log()
    tg.sin(x)
    with tg.observe(log):
        y = tg.tanh(x * 2.0).sum()
        tg.exp(tg.tensor([1.0], dtype="float64"))
    forward = ["multiply", "tanh", "sum", "exp"]
    assert log.events == [(when, name) for name in forward for when in ("before", "after")]
    log.events.clear()
    with tg.observe(log):
        y.backward()
    backward = ["sum", "tanh", "multiply"]
    assert log.events == [
        (when, name) for name in backward for when in ("before back", "after back")
    ]
    assert log.cotangents["multiply"][1] is None
    np.testing.assert_array_equal(log.cotangents["multiply"][0], x.grad.numpy())
    log.events.clear()
    tg.sin(x).sum().backward()
    assert log.events == []


def test_observers_see_the_records_that_a_backward_pass_makes() -> None:
    x = leaf(3)
    y = tg.tanh(x).sum()
    log = Log()
    with tg.observe(log):
        y.backward(create_graph=True)
    counts = Counter(log.events)
    assert counts["before back", "tanh"] == 1
    assert counts["before", "multiply"] >= 2


def test_several_observers_nest() -> None:
    outer, inner = Log(), Log()
    with tg.observe(outer):
        tg.exp(leaf(1))
        with tg.observe(inner):
            tg.sin(leaf(1))
    assert [name for _, name in outer.events] == ["exp", "exp", "sin", "sin"]
    assert [name for _, name in inner.events] == ["sin", "sin"]


def test_under_no_grad_observers_see_what_is_on_no_tape() -> None:
    log = Log()
    with tg.observe(log), tg.no_grad():
        y = tg.exp(leaf(1))
    assert log.events == [("before", "exp"), ("after", "exp")]
    assert y.is_leaf


@pytest.mark.parametrize(
    "method", ["before_forward", "after_forward", "before_backward", "after_backward"]
)
def test_an_exception_in_an_observer_propagates(method: str) -> None:
    class Stop(Exception):
        pass

    def stop(self: Any, *args: Any) -> None:
        raise Stop

    observer = type("Stopping", (tg.Observer,), {method: stop})()
    x = leaf(3)

    def run() -> None:
        with tg.observe(observer):
            tg.exp(x).sum().backward()

    with pytest.raises(Stop):
        run()
    assert x.grad is None
    tg.exp(x).sum().backward()
    assert x.grad is not None


def test_while_somebody_looks_records_know_the_line_of_the_user() -> None:
    x = leaf(3)
    with lab.look():
        y = tg.logsumexp(x * 2.0)
    z = y * 2
    multiply, logsumexp, last = tg.Tape.of(z)
    here = test_while_somebody_looks_records_know_the_line_of_the_user.__code__
    assert multiply.origin == lab.Origin(line=f"{here.co_filename}:{here.co_firstlineno + 3}")
    assert logsumexp.origin == multiply.origin
    assert last.origin is None
    assert f"# {Path(multiply.origin.line).name}" in str(tg.Tape.of(z))
