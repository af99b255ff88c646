"""Hooks on tensors: when they are called, what they are given, and what they may put in its place.

Hooks on modules are in test_modules.py.
"""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from networks import close, draw

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn
from tinygrad_rnn.tape import Tape


def leaf(*shape: int, seed: int = 1, device: str | None = None) -> tg.Tensor:
    return draw(*shape, seed=seed, device=device, requires_grad=True)


def test_a_hook_on_a_leaf_sees_the_whole_gradient_once(device: str) -> None:
    x = leaf(3, device=device)
    seen: list[Any] = []
    x.register_hook(seen.append)
    (2 * x + x * x + x[1]).sum().backward()
    assert len(seen) == 1
    assert type(seen[0]) is tg.Tensor
    assert not seen[0].requires_grad
    close(seen[0], x.grad, 0)
    close(x.grad, 2 + 2 * x.numpy() + [0, 3, 0], 1e-14)


def test_a_hook_on_an_interior_value_sees_the_whole_gradient_once(device: str) -> None:
    x = leaf(3, device=device)
    seen: list[Any] = []
    h = tg.tanh(x)
    h.register_hook(seen.append)
    (h * h + 3 * h).sum().backward()
    (g,) = seen
    close(g, 2 * h.numpy() + 3)
    close(x.grad, g.numpy() * (1 - h.numpy() ** 2))
    assert h.grad is None


def test_a_hook_replaces_the_gradient_from_there_on(device: str) -> None:
    x, w = leaf(3, device=device), leaf(3, seed=2, device=device)
    h = w * x
    h.register_hook(lambda g: 10 * g)
    y = h + x
    y.backward(tg.ones_like(y))
    close(w.grad, 10 * x.numpy())
    close(x.grad, 10 * w.numpy() + 1)

    x.grad = None
    x.register_hook(lambda g: g.detach() * 0 + 7)
    (x * x).sum().backward()
    assert x.grad.tolist() == [7, 7, 7]
    # What was there already is added to and not replaced.
    (x * x).sum().backward()
    assert x.grad.tolist() == [14, 14, 14]


def test_hooks_are_called_in_order_each_with_what_the_one_before_left() -> None:
    x = leaf(2)
    seen: list[Any] = []
    x.register_hook(lambda g: g + 1)
    x.register_hook(seen.append)
    x.register_hook(lambda g: g * 2)
    x.sum().backward()
    assert seen[0].tolist() == [2, 2]
    assert x.grad.tolist() == [4, 4]


def test_removing_hooks() -> None:
    x = leaf(2)
    first = x.register_hook(lambda g: g + 1)
    second = x.register_hook(lambda g: g * 10)
    first.remove()
    first.remove()
    x.sum().backward()
    assert x.grad.tolist() == [10, 10]
    second.remove()
    x.grad = None
    with x.register_hook(lambda g: g - 1):
        x.sum().backward()
    x.sum().backward()
    assert x.grad.tolist() == [1, 1]

    once: list[Any] = []

    def hook(g: tg.Tensor) -> None:
        once.append(g)
        handle.remove()

    handle = x.register_hook(hook)
    x.sum().backward()
    x.sum().backward()
    assert len(once) == 1


def test_hooks_on_one_of_several_results_and_on_the_differentiated_value() -> None:
    x = leaf(4)
    a, b = tg.split(x, parts=2)
    b.register_hook(lambda g: g * 5)
    y = (a + 2 * b).sum()
    seen: list[Any] = []
    y.register_hook(seen.append)
    y.backward()
    assert x.grad.tolist() == [1, 1, 10, 10]
    assert seen[0].item() == 1


def test_a_hook_and_retain_grad_at_one_value() -> None:
    x = leaf(3)
    h = 2 * x
    h.register_hook(lambda g: g * 3)
    h.retain_grad()
    h.sum().backward()
    assert h.grad.tolist() == [3, 3, 3]
    assert x.grad.tolist() == [6, 6, 6]
    other = 2 * x
    other.register_hook(lambda g: None)
    other.sum().backward()
    assert other.grad is None


def test_what_a_hook_keeps_or_shares_is_not_what_backward_adds_to() -> None:
    x, z = leaf(2), leaf(2)
    kept: list[tg.Tensor] = []
    shared = tg.tensor([1.0, 2.0], np.float64)
    x.register_hook(kept.append)
    z.register_hook(lambda g: shared)
    for _ in range(2):
        (x + z).sum().backward()
    assert [g.tolist() for g in kept] == [[1, 1], [1, 1]]
    assert z.grad.tolist() == [2, 4]
    assert shared.tolist() == [1, 2]
    x.grad = None
    x.register_hook(lambda g: tg.broadcast_to(tg.tensor(3.0, np.float64), (2,)))
    x.sum().backward()
    assert x.grad.data.flags.writeable
    assert x.grad.data.flags.c_contiguous
    x.grad = None
    with x.register_hook(lambda g: g.data.fill(9)):  # changes a copy
        x.sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_hooks_of_second_order() -> None:
    """With create_graph a hook's own work is on the tape too."""
    x = leaf(3)
    h = x * x
    with h.register_hook(lambda g: g * h):
        (h * h).sum().backward(create_graph=True)
    g, x.grad = x.grad, None
    values = x.numpy()
    close(g, 4 * values**5, 1e-12)
    g.sum().backward()
    close(x.grad, 20 * values**4, 1e-12)


def test_hooks_and_rules_may_use_a_tape_of_their_own() -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        inner = tg.tensor(x, requires_grad=True)
        (tg.tanh(inner) * tg.tensor(g)).sum().backward()
        return inner.grad.array

    outer = tg.Primitive("outer", lambda xp, x: xp.tanh(x), [rule])
    x, scale, seen = leaf(3), leaf(3), list[bool]()
    y = outer(x)
    y.register_hook(lambda g: seen.append((g * scale).requires_grad))
    total = y.sum()
    with tg.no_grad():
        total.backward()
    assert seen == [True]
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(x.numpy()) ** 2)


def test_functions_that_return_gradients_call_no_hooks() -> None:
    x = leaf(3)
    x.register_hook(lambda g: g * 100)
    y = (x * x).sum()
    close(tg.jacobian(y, x), 2 * x.numpy())


def test_a_hook_within_a_recurrent_network() -> None:
    """The total gradient of the state at one step, and the gradient stopped there."""
    cell = rnn.GRUCell(2, 3).to(np.float64)
    xs, h = leaf(4, 1, 2), tg.zeros((1, 3), np.float64)
    seen: list[Any] = []
    for t, x in enumerate(xs):
        _, h = cell(x, h)
        if t == 1:
            h.register_hook(lambda g: [seen.append(g), g * 0][1])
    (h * h).sum().backward()
    assert np.any(seen[0].numpy() != 0)
    touched = np.any(xs.grad.numpy() != 0, axis=(1, 2))
    assert touched.tolist() == [False, False, True, True]


def test_a_hook_on_a_parameter_outlives_a_move() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.register_hook(lambda g: g * 0)
    layer.to("strict")(tg.ones((3, 2), device="strict")).sum().backward()
    assert layer.weight.grad.tolist() == [[0, 0]]
    assert layer.bias.grad.tolist() == [3]


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_have_no_hooks(how: str) -> None:
    x = leaf(2)
    x.register_hook(lambda g: g * 2)
    copied = copy.deepcopy(x) if how == "deepcopy" else pickle.loads(pickle.dumps(x))
    copied.sum().backward()
    assert copied.grad.tolist() == [1, 1]


def test_bad_hooks() -> None:
    with pytest.raises(RuntimeError, match="register_hook: this value does not require a gradient"):
        tg.ones(2).register_hook(lambda g: g)
    x = leaf(2)
    with pytest.raises(TypeError, match="a hook must be a function, got int"):
        x.register_hook(3)  # pyright: ignore[reportArgumentType]
    wrong: list[Any] = [3.0, np.ones(2), tg.ones(3, np.float64), tg.ones(2)]
    wrong.append(tg.ones(2, np.float64, "strict"))
    other = leaf(2)
    for found in wrong:
        with (
            x.register_hook(lambda g, found=found: found),
            pytest.raises(ValueError, match="backward: a hook must return None or a Tensor like"),
        ):
            (x + other).sum().backward()
        assert x.grad is None
        assert other.grad is None
    h = x * 2
    h.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        (h + other).sum().backward()
    assert other.grad is None


def test_the_message_of_a_bad_hook() -> None:
    x = leaf(2)
    x.register_hook(lambda g: g.sum())
    with pytest.raises(ValueError, match="backward") as caught:
        x.sum().backward()
    assert str(caught.value) == (
        "backward: a hook must return None or a Tensor like the gradient that it was given, "
        "float64 (2,) on cpu, got float64 ()"
    )


def test_without_hooks_nothing_is_made_for_them() -> None:
    x = leaf(3)
    y = (tg.tanh(x) * x).sum()
    handles = [x, y, *(v for r in Tape([y]).records for v in r.inputs if isinstance(v, tg.Tensor))]
    y.backward()
    assert all(value.watch is None for value in handles)
