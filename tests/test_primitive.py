"""tinygrad_rnn.primitive: an operation of the user's own, and what is said about a wrong one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import leaf

import tinygrad_rnn as tg


def test_rules_serve_both_orders() -> None:
    swish = tg.primitive(
        "swish",
        lambda xp, x: x / (1 + xp.exp(-x)),
        [lambda g, y, x: g * (y + tg.sigmoid(x) * (1 - y))],
        doc="x sigmoid(x)",
    )
    x = leaf(3, 2)
    assert tg.check_gradients(swish, x, order=2)
    np.testing.assert_allclose(swish(x).numpy(), (x * tg.sigmoid(x)).numpy())
    assert repr(swish) == "<primitive swish>"
    assert swish.__name__ == swish.name == "swish"
    assert swish.__doc__ == "x sigmoid(x)"


def test_arrays_in_arrays_out() -> None:
    double = tg.primitive("double", lambda xp, x: x * 2, [lambda g, y, x: g * 2])
    found = double(np.ones(3))
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, [2, 2, 2])
    with pytest.raises(TypeError, match=r"^double: expected a Tensor or an array, got \(str\)$"):
        double("x")


def test_parameters_reach_forward_and_rules() -> None:
    scale = tg.primitive(
        "scale", lambda xp, x, factor: x * factor, [lambda g, y, x, factor: g * factor]
    )
    x = leaf(3)
    scale(x, factor=5.0).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [5, 5, 5])
    assert "scale(%0, factor=5.0)" in str(tg.Tape.of(scale(x, factor=5.0)))


def test_a_joint_rule_with_several_results() -> None:
    seen: list[tuple[Any, Any]] = []

    def rule(needed: Any, gs: Any, ys: Any, r: Any, angle: Any) -> list[Any]:
        seen.append((list(needed), [g is None for g in gs]))
        x, y = ys
        g_x, g_y = (v * 0 if g is None else g for g, v in zip(gs, ys, strict=True))
        return [
            g_x * tg.ops.cos(angle) + g_y * tg.ops.sin(angle) if needed[0] else None,
            g_y * x - g_x * y if needed[1] else None,
        ]

    polar = tg.primitive(
        "polar",
        lambda xp, r, angle: (r * xp.cos(angle), r * xp.sin(angle)),
        joint_rule=rule,
        multiple=True,
    )
    r, angle = leaf(3), leaf(3, seed=1)
    assert tg.check_gradients(lambda r, a: polar(r, a), [r, angle], order=2)
    assert tg.check_gradients(lambda r, a: polar(r, a)[1], [r, angle], order=2)
    seen.clear()
    x, _ = polar(r, angle.detach())
    x.sum().backward()
    assert seen == [([True, False], [False, True])]


def test_a_result_that_is_no_float_carries_no_gradient() -> None:
    def rule(needed: Any, gs: Any, ys: Any, x: Any) -> list[Any]:
        assert gs[1] is None
        assert ys[1].dtype == np.int64
        return [gs[0] * 3]

    ranked = tg.primitive(
        "ranked",
        lambda xp, x: (x * 3, xp.argsort(x)),
        joint_rule=rule,
        multiple=True,
    )
    x = leaf(4)
    tripled, order = ranked(x)
    assert tripled.requires_grad
    assert not order.requires_grad
    assert order.dtype == np.int64
    tripled.sum().backward(create_graph=True)
    np.testing.assert_array_equal(x.grad.numpy(), [3, 3, 3, 3])


def test_missing_sums_over_broadcast_axes_are_added() -> None:
    add = tg.primitive("plus", lambda xp, a, b: a + b, [lambda g, y, a, b: g] * 2)
    a, b, c = leaf(3, 1), leaf(2), leaf()
    (add(add(a, b), c) * tg.arange(6, dtype="float64").reshape(3, 2)).sum().backward()
    np.testing.assert_array_equal(a.grad.numpy(), [[1], [5], [9]])
    np.testing.assert_array_equal(b.grad.numpy(), [6, 9])
    assert c.grad.item() == 15


def test_none_stands_for_no_gradient() -> None:
    for rules in ([None], [lambda g, y, x: None]):
        stop = tg.primitive("stop", lambda xp, x: x * 1, rules)
        x = leaf(3)
        (stop(x) * x).sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), x.numpy())
        only = leaf(3)
        (stop(tg.tanh(only)).sum() + x.sum()).backward()
        assert only.grad is None


def test_a_rule_in_another_dtype_is_cast() -> None:
    for dtype in (np.float16, np.float32):
        wide = tg.primitive("wide", lambda xp, x: x * 2, [lambda g, y, x: g.astype("float64") * 2])
        x = leaf(3, dtype=dtype)
        wide(x).sum().backward()
        assert x.grad.dtype == dtype
        np.testing.assert_array_equal(x.grad.numpy(), [2, 2, 2])


def test_forward_may_return_a_scalar_or_a_python_number() -> None:
    for forward in (lambda xp, x: x.sum(), lambda xp, x: np.float64(3), lambda xp, x: 3.0):
        reduce = tg.primitive("reduce", forward, [lambda g, y, x: g + 0 * x])
        y = reduce(leaf(3))
        assert isinstance(y.data, np.ndarray)
        assert y.shape == ()


# Wrong operations: one sentence that names them


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"rules": [None], "joint_rule": lambda *a: []},
            "mine: give rules or a joint_rule, not both",
        ),
        (
            {"rules": [None], "multiple": True},
            "mine: an operation with several results needs a joint_rule",
        ),
    ],
)
def test_contradictions_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        tg.primitive("mine", lambda xp, x: x, **options)


WRONG_RULES: dict[str, tuple[dict[str, Any], str]] = {
    "too few rules": (
        {"rules": [lambda g, y, a, b: g]},
        r"mine: 2 arguments need 2 gradient rules \(or a joint_rule\), there are 1",
    ),
    "no rules": ({}, "mine: 2 arguments need 2 gradient rules .*, there are 0"),
    "a shape that was not broadcast": (
        {"rules": [lambda g, y, a, b: g[:2], None]},
        r"mine: the gradient rule of argument 0 gave float64 \(2,\) for an input of "
        r"float64 \(3,\)",
    ),
    "too few axes": (
        {"rules": [None, lambda g, y, a, b: g.sum()]},
        r"mine: the gradient rule of argument 1 gave float64 \(\) for an input of float64 \(3,\)",
    ),
    "a number": (
        {"rules": [lambda g, y, a, b: 1.0, None]},
        "mine: the gradient rule of argument 0 gave a float for an input of",
    ),
    "a list": (
        {"rules": [lambda g, y, a, b: [1.0, 2.0, 3.0], None]},
        "mine: the gradient rule of argument 0 gave a list of 3 for an input of",
    ),
    "a joint rule with one cotangent": (
        {"joint_rule": lambda needed, gs, ys, a, b: [gs[0]]},
        "mine: the joint_rule must return a list of 2 cotangents, one per argument, got a list "
        "of 1",
    ),
    "a joint rule that returns an array": (
        {"joint_rule": lambda needed, gs, ys, a, b: gs[0]},
        "mine: the joint_rule must return a list of 2 cotangents",
    ),
}


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("case", WRONG_RULES)
def test_a_wrong_rule(case: str, create_graph: bool) -> None:
    options, message = WRONG_RULES[case]
    mine = tg.primitive("mine", lambda xp, a, b: a + b, **options)
    a, b = leaf(3), leaf(3, seed=1)
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as caught:
        mine(a, b).sum().backward(create_graph=create_graph)
    assert "\n" not in str(caught.value)
    assert a.grad is None
    assert b.grad is None


def test_a_rule_with_the_wrong_arguments_is_found_by_its_note() -> None:
    mine = tg.primitive("mine", lambda xp, x: x * 1, [lambda g, x: g])
    with pytest.raises(TypeError, match="positional arguments") as caught:
        mine(leaf(3)).sum().backward()
    assert caught.value.__notes__ == ["in a gradient rule of 'mine'"]


WRONG_FORWARDS: dict[str, tuple[Any, bool, str]] = {
    "list": (lambda xp, x: [1.0], False, "mine: forward must return an array.*; got list"),
    "tuple": (lambda xp, x: (x, x), False, "mine: forward .* pass multiple=True; got tuple"),
    "none": (lambda xp, x: None, False, "mine: forward must return an array.*; got NoneType"),
    "one array": (lambda xp, x: x, True, "mine: forward must return a tuple of arrays.*ndarray"),
    "list in a tuple": (lambda xp, x: (x, [1]), True, "mine: forward must .*; got list"),
}


@pytest.mark.parametrize("case", WRONG_FORWARDS)
def test_a_wrong_forward(case: str) -> None:
    forward, multiple, message = WRONG_FORWARDS[case]
    mine = tg.primitive(
        "mine", forward, joint_rule=lambda needed, gs, ys, x: [gs[0]], multiple=multiple
    )
    with pytest.raises(TypeError, match=f"^{message}"):
        mine(leaf(3))


@pytest.mark.parametrize("kind", [ValueError, TypeError, IndexError])
def test_an_error_in_forward_names_the_operation_and_its_operands(kind: type[Exception]) -> None:
    def fail(xp: Any, x: Any, n: Any) -> Any:
        raise kind("this does not fit")

    mine = tg.primitive("mine", fail)
    message = r"^mine: this does not fit \(operands: float64 \(3,\), 2\)$"
    with pytest.raises(kind, match=message):
        mine(leaf(3), 2)
    with pytest.raises(kind, match=message):
        mine(leaf(3).data, 2)


def test_an_error_of_numpy_that_takes_more_than_a_message() -> None:
    mine = tg.primitive("mine", lambda xp, x: xp.add(x, np.array(["a"])))
    with pytest.raises(TypeError, match=r"^mine: ufunc 'add' did not contain a loop"):
        mine(leaf(1))
    axis = tg.primitive("axis", lambda xp, x: xp.sum(x, axis=3))
    with pytest.raises((IndexError, ValueError), match=r"^axis: axis 3 is out of bounds"):
        axis(leaf(1))


@pytest.mark.parametrize("operand", ["a", [1.0], None, 1j, {1: 2}])
def test_an_operand_that_is_no_array(operand: Any) -> None:
    with pytest.raises(TypeError, match=r"^multiply: expected a Tensor, an array or a number, got"):
        leaf(1) * operand


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"^add: .*\(operands: float64 \(3,\), float64 \(2,\)\)"):
        leaf(3) + leaf(2)
