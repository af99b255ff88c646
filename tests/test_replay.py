"""Steps replayed: what must be traced again, what a step may look like, what leaves the loop."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from replayed import LSTM, B, H, I, LSTMState, assert_same, compare, loss_of, normal, zero_state

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, tape
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.plain import is_product

scan_module = importlib.import_module("tinygrad_rnn.replay.scan")

# What a step closes over


def test_a_number_that_changes_is_seen(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    rate = [0.5]

    def step(x: Any, s: Any) -> Any:
        s = s * rate[0] + x
        return s, s

    for value in (0.5, 0.25, 1, 1.0, True, float("nan"), 0.5):
        rate[0] = value
        with np.errstate(invalid="ignore"):
            assert_same(
                tape.leaves(list(tg.scan(step, xs, h))),
                tape.leaves(list(tg.scan(step, xs, h, unroll=True))),
            )


def test_captured_values_are_bound_afresh(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    for seed in range(3):
        mask = normal(B, H, seed=seed, grad=False)
        encoded = tg.tanh(normal(H, H, seed=seed + 10)).detach()

        def step(x: Any, s: Any, mask: Any = mask, encoded: Any = encoded) -> Any:
            s = tg.tanh(x * mask + s @ encoded)
            return s, s

        compare(step, xs, h, [xs, h])


def test_a_captured_array_may_change_in_place(emitter: str) -> None:
    xs, h = normal(4, B, H, grad=False), normal(B, H, seed=1, grad=False)
    weight = normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        s = tg.tanh(x + s @ weight)
        return s, s

    for _ in range(3):
        compare(step, xs, h, [weight])
        weight.data = weight.detach() * 0.5


def test_the_same_value_in_several_roles(emitter: str) -> None:
    """Input, initial state and captured at once: the gradients add up."""
    xs = normal(H, B, H)
    h = normal(B, H, seed=1)

    def step(x: Any, state: Any) -> Any:
        a, b = state
        a = tg.tanh(a + h * 0.5 + tg.mean(xs, 0))
        return (a, x[0]), (b + x[1], a)

    compare(step, (xs, xs), (h, h), [xs, h])


def test_equal_steps_share_one_program() -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)

    def make(weight: tg.Tensor) -> Any:
        return lambda x, s: (s, tg.tanh(x + s @ weight))

    recipes = [
        scan_module.trace(make(normal(H, H, seed=k)), xs, h, T, False)[0]
        for k, T in ((1, 4), (2, 3))
    ]
    assert recipes[0].replay is recipes[1].replay


def test_detach_and_no_grad_inside_a_step(emitter: str) -> None:
    xs, h, weight = normal(4, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        with tg.no_grad():
            gate = tg.sigmoid(s @ weight)
        s = tg.tanh(gate * s + x.detach() * x + s.copy() @ weight)
        return gate, s

    compare(step, xs, h, [xs, h, weight])


def test_a_gradient_taken_inside_a_step(emitter: str) -> None:
    """Fast weights: the state moves down the gradient of the step's own loss."""
    xs, h, weight = normal(3, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        g = tg.grad(lambda v: tg.sum((tg.tanh(v @ weight) - x) ** 2))(s)
        return g, s - 0.1 * g

    compare(step, xs, h, [xs, h, weight])


# What a step must not do


@pytest.mark.parametrize(
    "look",
    [
        lambda x, s: float(tg.sum(s)),
        lambda x, s: bool(tg.sum(x) > 0),
        lambda x, s: s.numpy(),
        lambda x, s: x.data,
        lambda x, s: x.tolist(),
        lambda x, s: np.asarray(s.detach()),
        lambda x, s: bool(ops.dropout_mask(x, 0.5)[0, 0] > 0),
    ],
)
def test_reading_a_value_names_the_line_and_the_way_out(look: Callable[..., Any]) -> None:
    def step(x: Any, s: Any) -> Any:
        look(x, s)
        return s, s

    xs, h = normal(4, B, H), normal(B, H, seed=1)
    message = r"(?s)^scan: the step reads .* at .*test_replay\.py.*:\d+.*unroll=True"
    with pytest.raises(replay.ReadError, match=message) as caught:
        tg.scan(step, xs, h)
    assert "\n" not in str(caught.value)
    tg.scan(step, xs.detach(), h.detach(), unroll=True)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize(
    ("following", "message"),
    [
        (lambda s: (s,), r" a state like .*, float64 \(3, 5\), got tuple\(float64"),
        (lambda s: s[:, :2], r"got float64 \(3, 2\): are y and the state exchanged\? .*"),
        (
            lambda s: s.astype(np.float32),
            r"got float32 \(3, 5\): are y and the state exchanged\? .*",
        ),
        (lambda s: 1.0, " Tensors, got a float$"),
    ],
)
def test_a_state_that_changes_its_form(following: Any, message: str, unroll: bool) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    with pytest.raises(TypeError, match=f"^scan: the step must return.*{message}"):
        tg.scan(lambda x, s: (s, following(s)), xs, h, unroll=unroll)


def test_wrong_arguments() -> None:
    h = normal(B, H)

    def step(x: Any, s: Any) -> Any:
        return s, s

    with pytest.raises(TypeError, match=r"^scan: the step must return \(y, state\), .* a Tensor$"):
        tg.scan(lambda x, s: s, normal(2, 3), h)
    with pytest.raises(ValueError, match=r"^scan: xs must have .* \(2, 3\), \(4, 3\)$"):
        tg.scan(step, (normal(2, 3), normal(4, 3)), h)
    with pytest.raises(ValueError, match=r"^scan: xs must have .* got \(0, 3\)$"):
        tg.scan(step, tg.zeros((0, 3)), h)
    with pytest.raises(ValueError, match=r"^scan: expected at least one Tensor over time$"):
        tg.scan(step, (), h)
    with pytest.raises(TypeError, match=r"^scan: xs must be Tensors in containers, got a float$"):
        tg.scan(step, 1.0, h)
    for wrong in (0, True, "cube", 1.5):
        with pytest.raises(ValueError, match=r"^checkpoint: expected"):
            tg.scan(step, normal(2, 3), h, checkpoint=wrong)  # pyright: ignore


# Shapes of steps


def test_a_step_without_parameters_and_without_its_state(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    compare(lambda x, s: (tg.tanh(x), s), xs, h, [xs, h])
    compare(lambda x, s: (s, x), xs, h, [xs, h], reverse=True)
    compare(lambda x, s: ((x, x, s), (s[1], s[0])), xs, (h, normal(B, H, seed=2)), [xs, h])
    compare(lambda x, s: (s[0], (s[0] * x, s[0])), xs, (h, normal(B, H, seed=2)), [xs, h])


def test_y_is_a_parameter_or_a_constant(emitter: str) -> None:
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2, 3, seed=2)
    compare(lambda x, s: ((w, tg.zeros(2), s), tg.tanh(s + x)), xs, h, [xs, h, w])
    compare(lambda x, s: (w, tg.zeros((B, H), np.float64)), xs, h, [w])


@pytest.mark.parametrize("T", [1, B])
@pytest.mark.parametrize("batch", [1, B])
def test_one_step_one_sequence_and_as_many_as_steps(emitter: str, T: int, batch: int) -> None:
    cell, xs = LSTM(), normal(T, batch, I)
    state = LSTMState(normal(batch, H, seed=4), normal(batch, H, seed=5))
    for options in ({}, {"reverse": True}, {"checkpoint": 1}):
        compare(cell, xs, state, [xs, *cell.parameters, *state], **options)


def test_a_state_read_elsewhere_than_where_it_is_written(emitter: str) -> None:
    xs, h = normal(4, H, H), normal(H, H, seed=1)
    steps: list[Callable[[Any], Any]] = [
        lambda s: s + tg.transpose(s),
        lambda s: s + s[1:2],
        lambda s: s - tg.sum(s, -1, keepdims=True),
        lambda s: s - tg.max(tg.tanh(s), -1, keepdims=True) * tg.transpose(s),
        lambda s: tg.softmax(s, -1) + tg.concat([s[:, 2:], s[:, :2]], -1),
        lambda s: tg.concat([s[2:], s[:2]], 0) * s,
        lambda s: tg.flip(s, -1) * s,
    ]
    for change in steps:
        compare(lambda x, s, f=change: (x, tg.tanh(f(s) + x)), xs, h, [xs, h])
        compare(lambda x, s, f=change: (tg.sum(f(s)), f(s) * 0.1 + x), xs, h, [xs, h])
    narrow = normal(H, 1, seed=2)
    compare(
        lambda x, s: (x, (tg.sum(s[0] * x, -1, keepdims=True), tg.tanh(s[1] * s[0]))),
        xs, (narrow, h), [xs, narrow, h],
    )  # fmt: skip
    compare(
        lambda x, s: (x, (tg.sum(s[1], -1, keepdims=True), tg.sum(s[0], -1, keepdims=True))),
        xs, (narrow, narrow), [xs, narrow],
    )  # fmt: skip


def test_one_value_as_a_part_and_as_a_whole(emitter: str) -> None:
    """What is reshaped in one piece can't lie within a concatenation as well."""
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2 * H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        a = tg.tanh(s + x)
        flat = tg.reshape(a, (-1,)) * 0.5
        return flat, tg.tanh(tg.concat([a, x], -1) @ w + tg.reshape(flat, (B, H)))

    compare(step, xs, h, [xs, h, w])


def test_a_parameter_on_the_left_and_one_that_is_spread(emitter: str) -> None:
    xs, h, w, v = normal(4, B, H), normal(B, H, seed=1), normal(B, B, seed=2), normal(H, seed=3)
    compare(lambda x, s: (tg.sum(v), tg.tanh(w @ s + x)), xs, h, [xs, h, w, v])
    truth: Any = None
    for unroll in (True, False):
        v.grad = None
        several = [tg.scan(lambda x, s: (tg.sum(v), s), xs, h, unroll=unroll) for _ in range(3)]
        loss_of(several, ()).backward()
        truth = truth or [v.grad.numpy().copy()]
        assert_same([v.grad.numpy()], truth)


def test_parameters_in_pieces(emitter: str) -> None:
    """Gradients of pieces that were joined, and of a whole that was taken apart."""
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2 * H, H, seed=2)
    pieces = [normal(H, H, seed=3), normal(H, H, seed=4)]

    def step(x: Any, s: Any, pieces: Any = pieces) -> Any:
        first, second = tg.split(w, parts=2, axis=0)
        z = tg.linear(x, tg.concat(pieces, 0))
        s = tg.tanh(tg.tanh(s @ first.T) @ second + tg.sum(z, axis=1, keepdims=True))
        return z, s

    compare(step, xs, h, [xs, h, w, *pieces])
    gradient = tg.grad(
        lambda *p: loss_of(*tg.scan(lambda x, s: step(x, s, p), xs, h)), argnums=(0, 1)
    )
    parts = [part.array for part in gradient(*pieces)]
    assert not np.shares_memory(*parts)
    assert all(part.base is None for part in parts)  # a piece does not hold the whole


# What is moved out of the loop


def products(lines: Any) -> int:
    return sum(is_product(op) or op.primitive in (P.matmul, P.linear, P.einsum) for op in lines)


def test_the_products_of_an_lstm_leave_the_loop() -> None:
    cell, xs, state = LSTM(), normal(6, B, I), zero_state()
    recipe, _ = scan_module.trace(cell, xs, state, 6, False)
    parts = recipe.replay.inference().parts
    assert (products(parts.before), products(parts.loop), products(parts.after)) == (1, 1, 0)
    ys, end = tg.scan(cell, xs, state)
    loss_of(ys, end).backward()
    (found,) = [
        compiled
        for (_, wanted), (_, compiled) in recipe.replay._backward.items()
        if all(wanted.xs) and all(wanted.consts)
    ]
    parts = found.parts
    assert products(parts.loop) == 1
    assert products(parts.before) == 0
    assert products(parts.after) == 3  # dW, dU and dx
    assert not parts.reasons


def test_an_operation_without_a_rule_for_all_steps_stays_in_the_loop(emitter: str) -> None:
    wave = tg.primitive("wave", lambda xp, x: xp.sin(x), [lambda g, y, x: g * ops.cos(x)])
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        return wave(s @ w), tg.tanh(wave(x @ w) + s)

    compare(step, xs, h, [xs, h, w])
    recipe, _ = scan_module.trace(step, xs, h, 4, False)
    parts = recipe.replay.inference().parts
    assert any(op.primitive is wave for op in parts.loop)
    assert any("wave" in reason and "batching rule" in reason for reason in parts.reasons)
