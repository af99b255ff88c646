"""The tape: depth, freeing, what a backward pass makes, and what it puts off."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from networks import leaf

import tinygrad_rnn as tg
from tinygrad_rnn.tape import Traced

DEEP = 100_000


@contextmanager
def without_collector() -> Iterator[None]:
    """Reference counting alone frees what is freed within the block."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def chain(x: tg.Tensor, length: int) -> tg.Tensor:
    y = x
    for _ in range(length):
        y = y + 1.0
    return y


# Depth


def test_a_deep_tape_is_differentiated() -> None:
    x = leaf(2)
    chain(x, DEEP).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.ones(2))


def test_a_deep_tape_is_differentiated_with_create_graph() -> None:
    x = leaf(2)
    y = x * x
    (gradient,) = tg.vjp(lambda x: chain(x * x, DEEP).sum(), x)[1](1.0)
    np.testing.assert_allclose(gradient.numpy(), 2 * x.numpy())
    gradient.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), [2, 2])
    del y


def test_a_deep_tape_is_freed_without_backward() -> None:
    x = leaf(2)
    with without_collector():
        y = chain(x, DEEP)
        record = weakref.ref(y.record.inputs[0])
        del y
        assert record() is None
        assert gc.collect() == 0


def test_a_deep_tape_prints_copies_and_pickles() -> None:
    x = leaf(2)
    x.name = "x"
    y = chain(x, DEEP)
    tape = tg.Tape.of(y)
    assert len(tape) == DEEP
    assert len(str(tape).splitlines()) == 5
    lines = tape.listing(unfold=True).splitlines()
    assert len(lines) == DEEP + 3
    assert lines[1].split()[0] == "x:"
    assert lines[-2].split()[-2:] == [f"add(%{DEEP - 1},", "1.0)"]
    assert lines[-1] == f"result: %{DEEP}"
    assert tape._repr_html_().count("<tr>") == 4
    assert len(repr(y)) < 100
    for copied in (copy.copy(y), copy.deepcopy(y), pickle.loads(pickle.dumps(y))):
        np.testing.assert_array_equal(copied.numpy(), y.numpy())
        assert copied.is_leaf
        assert not copied.requires_grad


def test_copies_of_a_leaf_keep_their_wish_for_a_gradient_and_their_name() -> None:
    x = leaf(3)
    x.name = "weight"
    for copied in (copy.copy(x), copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert copied.requires_grad
        assert copied.name == "weight"
    deep = copy.deepcopy({"a": x, "b": x})
    assert deep["a"] is deep["b"]
    assert not np.shares_memory(deep["a"].data, x.data)


def test_a_tape_is_neither_copied_nor_pickled() -> None:
    tape = tg.Tape.of(leaf(2).sum())
    for how in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            how(tape)


def test_a_wide_tape_is_differentiated() -> None:
    x = leaf(3)
    total = tg.stack([x * float(k) for k in range(1000)]).sum()
    assert len(tg.Tape.of(total).listing(unfold=True).splitlines()) == 1000 + 5
    total.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full(3, 999 * 500.0))


# What a plain backward makes


def test_a_plain_backward_makes_no_tensor_but_the_seed_and_the_gradients(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weight, x = leaf(4, 4), leaf(3, 4, seed=1)
    h = x
    for _ in range(5):
        h = tg.tanh(h @ weight) * h + h[0]
    loss = (h * h).sum()
    made: list[tuple[int, ...]] = []
    initialise = Traced.__init__

    def counting(self: Traced, array: Any, *args: Any) -> None:
        made.append(array.shape)
        initialise(self, array, *args)

    monkeypatch.setattr(Traced, "__init__", counting)
    monkeypatch.setattr(sys.modules[tg.Tensor.__module__], "_begin", counting)  # for results
    loss.backward()
    assert sorted(made) == [(), (3, 4), (4, 4)]


def test_forward_and_backward_make_no_reference_cycle() -> None:
    weight, x = leaf(4, 4), leaf(3, 4, seed=1)
    step = tg.checkpoint(lambda h: tg.tanh(h @ weight))
    with without_collector():
        for _ in range(3):
            h = x[:, ::-1]
            parts = tg.split(tg.concat([h, tg.softmax(h) @ weight]), parts=2, axis=0)
            loss = step(tg.where(parts[0] > 0, parts[1], 0.0)).sum()
            loss.backward()
            tg.grad(lambda v: (v * x.detach()).sum())(x.detach())
            tg.jvp(lambda v: v * v, [x.detach()], [x.detach()])
            str(tg.Tape.of(loss))
        del h, parts, loss
        assert gc.collect() == 0


def test_only_the_gradients_that_are_needed_are_computed() -> None:
    calls: list[str] = []

    def rule(name: str) -> Any:
        def counted(g: Any, y: Any, a: Any, b: Any) -> Any:
            calls.append(name)
            return g * (b if name == "a" else a)

        return counted

    product = tg.primitive("product", lambda xp, a, b: a * b, [rule("a"), rule("b")])
    a, b, c = leaf(3), leaf(3, seed=1), leaf(3, seed=2)
    product(a, b.detach()).sum().backward()
    assert calls == ["a"]
    calls.clear()
    frozen = product(b.detach(), c.detach())
    assert frozen.is_leaf
    product(frozen, c).sum().backward()
    assert calls == ["b"]
    calls.clear()
    y = product(product(a, b), c)
    tg.jacobian(y[0], c)
    assert calls == ["b"]
    calls.clear()
    tg.split(product(a, b), parts=3)[1].sum().backward()
    assert calls == ["a", "b"]


# Contributions that are put off


def records_of(gradient: tg.Tensor, name: str) -> int:
    return sum(record.primitive.name == name for record in tg.Tape.of(gradient))


class Names(tg.Observer):
    """Collects the names of what is computed while differentiating with create_graph."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def before_forward(self, primitive: Any, inputs: Any, params: Any) -> None:
        self.names.append(primitive.name)


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_weight_used_at_every_step_gets_one_product(create_graph: bool) -> None:
    weight, x = leaf(3, 3), leaf(5, 3, seed=1)
    products: list[Any] = []

    def run(steps: int) -> int:
        weight.grad = x.grad = None
        h = x
        for _ in range(steps):
            h = tg.tanh(h @ weight)
        calls: list[str] = []
        if create_graph:
            observer = Names()
            with tg.observe(observer):
                h.sum().backward(create_graph=True)
            calls = observer.names
        else:
            matmul = np.matmul
            try:
                np.matmul = lambda a, b, out=None: calls.append("matmul") or matmul(a, b, out=out)
                h.sum().backward()
            finally:
                np.matmul = matmul
        products.append(weight.grad.numpy())
        return calls.count("matmul")

    assert [run(steps) for steps in (1, 2, 7)] == [2, 3, 8]
    point, direction = weight.numpy(), np.random.default_rng(3).standard_normal((3, 3))

    def value(w: np.ndarray) -> float:
        h = x.numpy()
        for _ in range(7):
            h = np.tanh(h @ w)
        return float(h.sum())

    numeric = (value(point + 1e-6 * direction) - value(point - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(np.sum(products[-1] * direction), numeric, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("create_graph", [False, True])
def test_reading_in_a_loop_makes_one_buffer(create_graph: bool) -> None:
    x = leaf(50, 4)
    observer = Names()
    loss = sum(((k + 1.0) * (x[k] * x[k]).sum() for k in range(50)), 0.0)
    with tg.observe(observer):
        loss.backward(create_graph=create_graph)
    assert observer.names.count("place") == int(create_graph)
    expected = 2 * np.arange(1, 51)[:, None] * x.numpy()
    np.testing.assert_allclose(x.grad.numpy(), expected)
    if create_graph:
        first = x.grad
        x.grad = None
        first.sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), expected / x.numpy())


def test_a_deferred_contribution_arrives_in_the_dtype_of_its_value() -> None:
    weight = leaf(3, 2, dtype=np.float32)
    x = leaf(4, 3)
    (x @ weight).sum().backward()
    assert weight.grad.dtype == np.float32
    assert x.grad.dtype == np.float64


def test_an_array_that_is_also_deferred_is_not_added_to() -> None:
    from tinygrad_rnn.tape import Deferred

    def rule(needed: Any, gs: Any, ys: Any, a: Any, b: Any) -> list[Any]:
        shared = gs[0] * b
        return [shared, Deferred(lambda shape, dtype, parts: sum(p for (p,) in parts) * 1, shared)]

    mixed = tg.primitive("mixed", lambda xp, a, b: a * b, joint_rule=rule)
    a, b = leaf(3), leaf(3, seed=1)
    middle = a * 1.0
    (middle * 7.0 + mixed(middle, b)).sum().backward()
    np.testing.assert_allclose(b.grad.numpy(), b.numpy())
    np.testing.assert_allclose(a.grad.numpy(), 7 + b.numpy())
