"""The checks are checked: fed with a wrong rule, forward or kernel expression, they must fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_cases import CASES
from op_checks import Recorder, check_backward, check_forward, check_kernels, leaf, make
from op_rows import Case, elementwise, listed, one, real, row
from op_shape_cases import multiplying

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.tape import Primitive


def constant(x: Any) -> Any:
    """The value cut from the tape, which is right at first order and wrong at the second."""
    return x.detach() if isinstance(x, tg.Tensor) else x


def cube(rule: Callable[..., Any]) -> Primitive:
    return Primitive("cube", lambda xp, x: x * x * x, [rule])


def product(*rules: Callable[..., Any]) -> Primitive:
    return Primitive("product", lambda xp, a, b: xp.matmul(a, b), rules)


RIGHT_LEFT = lambda g, y, a, b: g @ ops.swapaxes(b, -1, -2)  # noqa: E731
SQUARE = listed(one((2, 3)))
MATRICES = multiplying
WRONG_RULES = {
    "sign": row("cube", cube(lambda g, y, x: -3 * g * x * x), None, SQUARE),
    "factor": row("cube", cube(lambda g, y, x: 2 * g * x * x), None, SQUARE),
    "zero": row("cube", cube(lambda g, y, x: g * 0), None, SQUARE),
    "second order": row("cube", cube(lambda g, y, x: 3 * g * constant(x * x)), None, SQUARE),
    "second order in g": row("cube", cube(lambda g, y, x: 3 * constant(g) * x * x), None, SQUARE),
    "second order through y": row(
        "exp",
        Primitive("exp", lambda xp, x: xp.exp(x), [lambda g, y, x: g * constant(y)]),
        None,
        SQUARE,
    ),
    "missing sum": row(
        "total",
        Primitive(
            "total",
            lambda xp, x: xp.sum(x, axis=0),
            [lambda g, y, x: ops.broadcast_to(g, x.shape) / x.shape[0]],
        ),
        None,
        SQUARE,
    ),
    "transposed": row(
        "flipped",
        Primitive(
            "flipped",
            lambda xp, x: xp.transpose(x, (1, 0)),
            [lambda g, y, x: ops.reshape(g, x.shape)],
        ),
        None,
        SQUARE,
    ),
    "other operand": row(
        "product", product(RIGHT_LEFT, lambda g, y, a, b: ops.swapaxes(a, -1, -2) @ (2 * g)), None,
        MATRICES,
    ),
    "swapped": row(
        "difference",
        Primitive(
            "difference",
            lambda xp, a, b: a - b,
            [lambda g, y, a, b: -g, lambda g, y, a, b: g],
        ),
        None,
        elementwise(real, real),
    ),
    "gradient withheld": row(
        "difference",
        Primitive("difference", lambda xp, a, b: a - b, [lambda g, y, a, b: g, None]),
        None,
        elementwise(real, real),
    ),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_RULES.values(), ids=WRONG_RULES.keys())
def test_a_wrong_rule_is_found(wrong: Case, device: str) -> None:
    with pytest.raises(tg.GradientError, match=r"-order gradient of (input|cotangent) \d"):
        check_backward(wrong, wrong.draw.typical, device, "plain", 0)


@pytest.mark.parametrize("name", ["second order", "second order in g", "second order through y"])
def test_a_rule_wrong_at_second_order_passes_the_first(name: str) -> None:
    wrong = WRONG_RULES[name]
    check_backward(dataclasses.replace(wrong, order=1), wrong.draw.typical, "cpu", "plain", 0)
    with pytest.raises(tg.GradientError, match="second-order"):
        check_backward(wrong, wrong.draw.typical, "cpu", "plain", 0)


def test_the_same_rules_done_right_pass(device: str) -> None:
    right = [
        row("cube", cube(lambda g, y, x: 3 * g * x * x), None, SQUARE),
        row("product", product(RIGHT_LEFT, lambda g, y, a, b: ops.swapaxes(a, -1, -2) @ g), None,
            MATRICES),
    ]  # fmt: skip
    for case in right:
        check_backward(case, case.draw.typical, device, "plain", 0)


def test_a_random_function_is_refused() -> None:
    x = tg.tensor(np.ones(3), requires_grad=True)
    with pytest.raises(tg.GradientError, match="two values at one point"):
        tg.check_gradients(lambda x: x * float(np.random.default_rng().random()), [x])


def _mutating(xp: Any, x: Any) -> Any:
    x *= 2
    return x * 1


WRONG_FORWARDS = {
    "value": (lambda xp, x: xp.exp(x) * 1.001, np.exp),
    "dtype": (lambda xp, x: xp.exp(x).astype("d"), np.exp),
    "shape": (lambda xp, x: xp.exp(x)[None], np.exp),
    "mutated input": (_mutating, lambda x: 2 * x),
}


@pytest.mark.parametrize(
    ("forward", "reference"), WRONG_FORWARDS.values(), ids=WRONG_FORWARDS.keys()
)
def test_a_wrong_forward_is_found(forward: Any, reference: Any, device: str) -> None:
    wrong = row("exp", Primitive("exp", forward), reference, SQUARE)
    with pytest.raises(AssertionError):
        check_forward(wrong, wrong.draw.typical, "f", ("plain",), device, 0)


@pytest.mark.parametrize(
    ("right", "expression"),
    [
        (ops.tanh, "tanh(x0) * 1.0001"),
        (ops.subtract, "x1 - x0"),
        (ops.maximum, "minimum(x0, x1)"),
        (ops.where, "select(x0, x2, x1)"),
        (ops.sigmoid, "1 / (1 + exp(x0))"),
    ],
    ids=str,
)
def test_a_wrong_kernel_expression_is_found(right: Primitive, expression: str) -> None:
    (case,) = [c for c in CASES if c.name == right.name]
    inputs = [leaf(array) for array in make(case.draw.typical, "d", 0)]
    for kernel, fails in ((right.kernel, False), (expression, True)):
        copy = Primitive(right.name, right.forward, kernel=kernel)
        recorder = Recorder()
        with tg.observe(recorder):
            copy(*inputs)
        if fails:
            with pytest.raises(AssertionError, match=right.name):
                check_kernels(recorder.records)
        else:
            check_kernels(recorder.records)


def test_the_gpu_is_not_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that was asked for and is missing fails the test."""
    import conftest

    from tinygrad_rnn import backends

    def missing(device: str) -> Any:
        raise backends.DeviceError("no such device")

    monkeypatch.setattr(backends, "backend_for", missing)
    with pytest.raises(pytest.fail.Exception, match=r"asked to run on 'cuda': no such device"):
        conftest.usable("cuda")
