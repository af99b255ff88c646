"""A backward pass: what it refuses, that nothing is half-done, and where gradients end up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import leaf

import tinygrad_rnn as tg

DEEP = 100_000
# Errors, and that nothing is half-done


def test_backward_of_what_needs_no_gradient() -> None:
    with pytest.raises(RuntimeError, match=r"^backward: the value does not depend on anything"):
        tg.tensor([1.0]).backward()
    with pytest.raises(RuntimeError, match="does not depend on anything"):
        (leaf(2) > 0).sum().backward()


def test_backward_of_many_elements_needs_a_gradient() -> None:
    x = leaf(2, 3)
    with pytest.raises(RuntimeError, match=r"one element, got shape \(2, 3\)"):
        (x * 2).backward()
    (x * 2).backward(np.ones((2, 3)))
    np.testing.assert_array_equal(x.grad.numpy(), np.full((2, 3), 2.0))


@pytest.mark.parametrize(
    "gradient", [np.ones(3), np.ones((2, 3), np.float32), np.ones((1, 3)), 1.0]
)
def test_backward_refuses_a_gradient_that_does_not_fit(gradient: Any) -> None:
    x = leaf(2, 3)
    with pytest.raises(ValueError, match=r"backward: the gradient must be float64 \(2, 3\)"):
        (x * 2).backward(gradient)
    assert x.grad is None


def test_backward_takes_a_number_for_a_scalar_and_any_element_count_of_one() -> None:
    x = leaf(2, dtype=np.float32)
    x.sum().backward(3.0)
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3])
    y = leaf(1, 1)
    (y * 2).backward()
    np.testing.assert_array_equal(y.grad.numpy(), [[2]])


def test_backward_of_a_leaf() -> None:
    x = leaf()
    x.backward()
    x.backward()
    assert x.grad.item() == 2
    assert x.grad.data is not x.data


def test_a_second_backward_over_a_freed_tape_says_so() -> None:
    x = leaf(3)
    y = x * x
    first, second = y.sum(), (y * 2).sum()
    first.backward()
    kept = x.grad.numpy().copy()
    for value in (first, second):
        with pytest.raises(RuntimeError, match="freed by an earlier backward pass"):
            value.backward()
        with pytest.raises(RuntimeError, match="retain_graph=True"):
            tg.jacobian(value, x)
    np.testing.assert_array_equal(x.grad.numpy(), kept)


def test_retain_graph_keeps_the_tape() -> None:
    x = leaf(3)
    loss = (x * x).sum()
    for count in (1, 2, 3):
        loss.backward(retain_graph=count < 3)
        np.testing.assert_allclose(x.grad.numpy(), 2 * count * x.numpy())


def test_create_graph_gives_gradients_that_can_be_differentiated() -> None:
    x = leaf(3)
    (x**3).sum().backward(create_graph=True)
    first = x.grad
    np.testing.assert_allclose(first.numpy(), 3 * x.numpy() ** 2)
    x.grad = None
    first.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * x.numpy())


def test_gradients_of_a_graph_accumulate_out_of_place() -> None:
    x = leaf(3)
    (x**3).sum().backward(create_graph=True)
    first, values = x.grad, x.grad.numpy().copy()
    (x * 5).sum().backward()
    np.testing.assert_array_equal(first.numpy(), values)
    np.testing.assert_allclose(x.grad.numpy(), values + 5)


@pytest.mark.parametrize("how", ["assign", "in place"])
def test_an_overwritten_parameter_is_named_and_changes_no_gradient(how: str) -> None:
    other, weight = leaf(3, seed=1), leaf(3)
    weight.name = "weight"
    other.data = np.ones(3)
    loss = (tg.tanh(weight * weight) * other).sum() + other.sum()
    if how == "assign":
        weight.data = np.zeros(3)
    else:
        weight.data[...] = 0
        weight.mark_changed()
    with pytest.raises(RuntimeError, match="parameter 'weight' used by 'multiply'") as caught:
        loss.backward()
    assert "overwritten" in str(caught.value)
    assert weight.grad is None
    assert other.grad is None


def test_an_overwritten_tensor_without_a_name() -> None:
    x = leaf(3)
    hidden = tg.tanh(x)
    loss = (hidden * x).sum()
    hidden.data = np.zeros(3)
    with pytest.raises(RuntimeError, match="a tensor used by 'multiply' has been overwritten"):
        loss.backward()


def test_overwriting_before_forward_or_after_backward_is_fine() -> None:
    x = leaf(3)
    for _ in range(3):
        x.data -= 0.1 * x.data
        (x * x).sum().backward()
    x.grad.data[...] = 0
    assert x.version == 3


def test_an_accumulated_gradient_counts_as_overwritten() -> None:
    x = leaf(3)
    (x * x).sum().backward()
    x.grad.requires_grad = True
    penalty = (x.grad * x.grad).sum()
    x.grad.requires_grad = False
    (x * x).sum().backward()
    with pytest.raises(RuntimeError, match="overwritten"):
        penalty.backward()


def test_an_error_in_a_rule_leaves_every_grad_alone() -> None:
    def broken(g: Any, y: Any, x: Any) -> Any:
        raise ZeroDivisionError("no")

    failing = tg.primitive("failing", lambda xp, x: x * 1, [broken])
    x, z = leaf(3), leaf(3, seed=1)
    (z * 2).sum().backward()
    with pytest.raises(ZeroDivisionError) as caught:
        (failing(x * 2) * z).sum().backward()
    assert caught.value.__notes__ == ["in a gradient rule of 'failing'"]
    assert x.grad is None
    np.testing.assert_array_equal(z.grad.numpy(), [2, 2, 2])


# Where gradients end up


def assert_owned(*gradients: tg.Tensor) -> None:
    for g in gradients:
        assert g.data.flags.c_contiguous
        assert g.data.flags.writeable
        assert g.data.base is None
        assert not g.requires_grad
    for k, a in enumerate(gradients):
        assert not any(np.shares_memory(a.data, b.data) for b in gradients[:k])


PASSING = tg.primitive("passing", lambda xp, a, b: a + b, [lambda g, y, a, b: g] * 2)
VIEWS = tg.primitive(
    "views",
    lambda xp, a, b: a * 2 + xp.pad(b, ((0, 1), (0, 0))) * 2,
    joint_rule=lambda needed, gs, ys, a, b: (lambda both: [both, both[:-1]])(gs[0] * 2),
)
RESULT = tg.primitive("result", lambda xp, x: xp.exp(x), [lambda g, y, x: y])
SAVED = np.ones((3, 2))
FUNCTIONS: dict[str, Any] = {
    "add": lambda a, b: a + b,
    "user primitive returning g": PASSING,
    "broadcast": lambda a, b: tg.broadcast_to(a + b, (4, 3, 2)),
    "transpose": lambda a, b: (a + b).T,
    "two transposes": lambda a, b: a.T * 2.0 + a.T * 3.0 + b.T,
    "reshape": lambda a, b: a.reshape(6) + b.reshape(6),
    "stack": lambda a, b: tg.stack([a, b]),
    "concat": lambda a, b: tg.concat([a, a, b]),
    "unstack": lambda a, b: sum(tg.unstack(a), 0.0) + sum(tg.unstack(b.T, 1), 0.0),
    "flip": lambda a, b: tg.flip(a) + tg.flip(b),
    "slices": lambda a, b: a[:2] + b[1:],
    "views of one buffer": lambda a, b: VIEWS(a, b[:2]) + VIEWS(b, a[:2]),
}


@pytest.mark.parametrize("mode", ["plain", "create_graph"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_of_leaves_are_owned_and_accumulate(name: str, mode: str) -> None:
    function = FUNCTIONS[name]
    a, b = leaf(3, 2), leaf(3, 2, seed=1)
    weight = tg.tensor(np.random.default_rng(5).standard_normal(function(a, b).shape))

    def run() -> None:
        (function(a, b) * weight).sum().backward(create_graph=mode == "create_graph")

    run()
    assert_owned(a.grad, b.grad)
    once = [a.grad.numpy().copy(), b.grad.numpy().copy()]
    for times in (2, 3):
        run()
        np.testing.assert_allclose(a.grad.numpy(), times * once[0])
        np.testing.assert_allclose(b.grad.numpy(), times * once[1])
    with np.errstate(all="ignore"):
        direction = np.random.default_rng(6).standard_normal((3, 2))
        with tg.no_grad():
            ends = [
                float((function(tg.tensor(a.numpy() + e * direction), b) * weight).sum())
                for e in (1e-6, -1e-6)
            ]
    np.testing.assert_allclose(
        (ends[0] - ends[1]) / 2e-6, np.sum(once[0] * direction), atol=1e-6, rtol=1e-4
    )


def test_the_seed_and_the_forward_results_are_never_written_to() -> None:
    x = leaf(3)
    seed = np.ones(3)
    y = RESULT(x)
    z = y + x
    values = y.numpy().copy()
    z.backward(seed, retain_graph=True)
    (x + x + x).backward(seed)
    np.testing.assert_array_equal(seed, np.ones(3))
    np.testing.assert_array_equal(y.numpy(), values)
    assert not np.shares_memory(x.grad.data, y.data)
    fan = RESULT(x)
    kept = fan.numpy().copy()
    (fan + 0.0).sum().backward(retain_graph=True)
    inner = leaf(3)
    out = RESULT(inner * 1.0)
    ((inner * 1.0) + out).sum().backward(retain_graph=True)
    np.testing.assert_array_equal(fan.numpy(), kept)


def test_a_result_that_is_returned_as_cotangent_is_not_added_to() -> None:
    x = leaf(3)
    middle = x * 1.0
    y = RESULT(middle)
    values = y.numpy().copy()
    (y + middle * 2.0 + middle * 3.0).sum().backward(retain_graph=True)
    np.testing.assert_array_equal(y.numpy(), values)
    np.testing.assert_allclose(x.grad.numpy(), values + 5)


def test_retain_grad_keeps_the_gradient_of_an_interior_value() -> None:
    x = leaf(3)
    hidden = x * 2
    hidden.retain_grad()
    (hidden * hidden).sum().backward()
    np.testing.assert_allclose(hidden.grad.numpy(), 2 * hidden.numpy())
    np.testing.assert_allclose(x.grad.numpy(), 4 * hidden.numpy())
    assert_owned(hidden.grad, x.grad)
    with pytest.raises(RuntimeError, match="retain_grad: this value does not require a gradient"):
        tg.tensor(1.0).retain_grad()


def test_retain_grad_of_an_output_and_of_a_second_result() -> None:
    x = leaf(4)
    first, second = tg.split(x, parts=2)
    second.retain_grad()
    loss = (second * 3).sum() + first.sum()
    loss.retain_grad()
    loss.backward()
    assert loss.grad.item() == 1
    np.testing.assert_array_equal(second.grad.numpy(), [3, 3])
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1, 3, 3])


def test_zero_dimensional_gradients_are_arrays() -> None:
    x = leaf()
    (x * x + tg.sin(x)).backward()
    assert isinstance(x.grad.data, np.ndarray)
    x.grad.data[...] = 4.0
    assert x.grad.item() == 4
