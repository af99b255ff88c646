"""Numbers of replayed loops: nan, random numbers, dtypes, derivatives of any order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from replayed import (
    LSTM,
    B,
    H,
    I,
    LSTMState,
    assert_same,
    compare,
    gradients,
    loss_of,
    normal,
    zero_state,
)

import tinygrad_rnn as tg
from tinygrad_rnn import ops, tape

# Values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_propagate(emitter: str, bad: float) -> None:
    values = normal(5, B, I).numpy().copy()
    values[2, 1, 3] = bad
    xs, state, cell = tg.tensor(values, requires_grad=True), zero_state(), LSTM()

    def step(x: Any, s: LSTMState) -> Any:
        h, end = cell(x, s)
        return (h, tg.max(x, -1), tg.relu(x), tg.softmax(x, -1), tg.where(x > 0, x, h[:, :I])), end

    with np.errstate(all="ignore"):
        unrolled = tape.leaves(list(tg.scan(step, xs, state, unroll=True)))
        assert_same(tape.leaves(list(tg.scan(step, xs, state))), unrolled)
        wanted = [xs, *cell.parameters]
        truth = gradients(step, xs, state, wanted, unroll=True)
        assert_same(gradients(step, xs, state, wanted), truth)


def test_padding_of_nan_under_a_mask_reaches_no_gradient(emitter: str) -> None:
    values = normal(5, B, I).numpy().copy()
    lengths = np.array([5, 2, 3])
    mask = np.arange(5)[:, None] < lengths
    values[~mask] = np.nan
    raw, state, cell = tg.tensor(values, requires_grad=True), zero_state(), LSTM()
    masks = tg.tensor(mask[..., None])

    def step(inputs: Any, s: LSTMState) -> Any:
        x, on = inputs
        h, end = cell(tg.where(on, x, 0.0), s)
        return tg.where(on, h, 0.0), LSTMState(
            *(tg.where(on, a, b) for a, b in zip(end, s, strict=True))
        )

    compare(step, (raw, masks), state, [raw, *cell.parameters, *state])
    assert all(np.isfinite(v.grad.numpy()).all() for v in cell.parameters)


def test_random_numbers_are_those_of_the_unrolled_loop(emitter: str) -> None:
    xs, h, w = normal(5, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def inner(x: Any, s: Any) -> Any:
        s = ops.dropout(tg.tanh(s + x), 0.3)
        return s, s

    def step(x: Any, s: Any) -> Any:
        noisy = ops.dropout(x, 0.5) + ops.dropout(s, 0.25) @ w
        _, last = tg.scan(inner, noisy, s[0], unroll=unroll)
        return noisy, tg.tanh(noisy + ops.dropout(last, 0.5))

    found: list[Any] = []
    for unroll in (True, False):
        tg.manual_seed(5)
        values = tape.leaves(list(tg.scan(step, xs, h, unroll=unroll)))
        state = ops.generator_state()
        tg.manual_seed(5)
        grads = gradients(step, xs, h, [xs, h, w], unroll=unroll)
        found.append((values, grads, state))
    assert_same(found[1][0], found[0][0])
    assert_same(found[1][1], found[0][1])
    assert found[0][2] == found[1][2]


def test_checkpoints_reuse_the_random_numbers(emitter: str) -> None:
    xs, h, w = normal(7, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        s = tg.tanh(ops.dropout(x, 0.5) + ops.dropout(s, 0.25) @ w)
        return s, s

    found: list[Any] = []
    for options in ({"unroll": True}, {"checkpoint": 2}, {"checkpoint": "sqrt"}):
        tg.manual_seed(5)
        found.append(gradients(step, xs, h, [xs, h, w], **options))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_checkpoint_inside_and_outside_a_step(emitter: str) -> None:
    cell, xs, state = LSTM(), normal(4, B, I), zero_state()
    wanted = [xs, *cell.parameters, *state]

    def random_step(x: Any, s: LSTMState) -> Any:
        return cell(ops.dropout(x, 0.5), s)

    truth: Any = None
    for variant in ("plain", "inside", "outside"):
        step = tg.checkpoint(random_step) if variant == "inside" else random_step

        def run(x: Any, h: Any, c: Any, step: Any = step) -> Any:
            return loss_of(*tg.scan(step, x, LSTMState(h, c)))

        if variant == "outside":
            run = tg.checkpoint(run)
        for v in wanted:
            v.grad = None
        tg.manual_seed(3)
        run(xs, *state).backward()
        found = [v.grad.numpy() for v in wanted]
        truth = truth or found
        assert_same(found, truth)


# Derivatives


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint": 2}])
def test_higher_derivatives(emitter: str, options: dict[str, Any]) -> None:
    cell, state = LSTM(), zero_state()
    xs = normal(3, B, I)
    truth_options = {"unroll": True, "reverse": options.get("reverse", False)}

    def loss(h: Any, chosen: Any) -> Any:
        return loss_of(*tg.scan(cell, xs, LSTMState(h, state.c), **chosen))

    direction = normal(B, H, seed=8)
    found: list[list[Any]] = []
    for chosen in (options, truth_options):

        def f(h: Any, chosen: Any = chosen) -> Any:
            return loss(h, chosen)

        def first(h: Any, f: Any = f) -> Any:
            return tg.sum(tg.grad(f)(h) * direction)

        def second(h: Any, first: Any = first) -> Any:
            return tg.sum(tg.sin(tg.grad(first)(h)) * direction)

        for v in cell.parameters:
            v.grad = None
        second(state.h).backward()
        found.append(
            [
                tg.grad(f)(state.h),
                tg.grad(first)(state.h),
                tg.grad(second)(state.h),
                tg.jvp(f, [state.h], [direction])[1],
                tg.hvp(f, state.h, direction),
                *(v.grad.numpy().copy() for v in cell.parameters),
            ]
        )
    assert_same(found[0], found[1], 1e-10)


def test_jacobian(emitter: str) -> None:
    cell, xs, c = LSTM(), normal(2, B, I), zero_state().c
    found = [
        tg.jacobian(lambda h, u=unroll: tg.scan(cell, xs, LSTMState(h, c), unroll=u)[0])(
            normal(B, H, seed=4)
        )
        for unroll in (False, True)
    ]
    assert_same([found[0]], [found[1]])


def test_a_loop_within_a_loop(emitter: str) -> None:
    xs, h, w = normal(3, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any, unroll: bool = False) -> Any:
        def inner(column: Any, total: Any) -> Any:
            total = tg.tanh(total @ w + column * tg.mean(x))
            return total * s[0], total

        ys, last = tg.scan(inner, s, x[0], unroll=unroll, reverse=True)
        return last, tg.tanh(ys + x)

    wanted = [xs, h, w]
    truth = gradients(lambda x, s: step(x, s, True), xs, h, wanted, unroll=True)
    assert_same(gradients(step, xs, h, wanted), truth)
    second = [
        tg.grad(lambda v, s=s: tg.sum(tg.sin(tg.grad(lambda u: loss_of(*s(u)))(v))))(h)
        for s in (
            lambda u: tg.scan(step, xs, u),
            lambda u: tg.scan(lambda x, v: step(x, v, True), xs, u, unroll=True),
        )
    ]
    assert_same(second[:1], second[1:], 1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(emitter: str, dtype: Any) -> None:
    cell, xs, state = LSTM(dtype), normal(5, B, I, dtype=dtype), zero_state(dtype)
    wanted = [xs, *cell.parameters, *state]
    tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    truth = tape.leaves(list(tg.scan(cell, xs, state, unroll=True)))
    assert_same(tape.leaves(list(tg.scan(cell, xs, state))), truth, tolerance)
    grads = gradients(cell, xs, state, wanted, unroll=True)
    assert_same(gradients(cell, xs, state, wanted), grads, tolerance * 4)
