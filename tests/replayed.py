"""What the tests of replayed loops share: an LSTM as a step, and comparison with unrolled loops."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import tape

B, I, H = 3, 4, 5


def normal(*shape: int, seed: int = 0, grad: bool = True, dtype: Any = np.float64) -> tg.Tensor:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.5
    return tg.tensor(values.astype(dtype), requires_grad=grad)


class LSTMState(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor


class LSTM:
    """The equations of an LSTM, gates i, f, g, o."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.W = normal(4 * H, I, seed=1, dtype=dtype)
        self.U = normal(4 * H, H, seed=2, dtype=dtype)
        self.b = normal(4 * H, seed=3, dtype=dtype)

    @property
    def parameters(self) -> list[tg.Tensor]:
        return [self.W, self.U, self.b]

    def __call__(self, x: tg.Tensor, state: LSTMState) -> tuple[tg.Tensor, LSTMState]:
        z = tg.linear(x, self.W, self.b) + tg.linear(state.h, self.U)
        i, f, g, o = tg.split(z, parts=4, axis=-1)
        c = tg.sigmoid(f) * state.c + tg.sigmoid(i) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(c)
        return h, LSTMState(h, c)


def zero_state(dtype: Any = np.float64) -> LSTMState:
    return LSTMState(normal(B, H, seed=4, dtype=dtype), normal(B, H, seed=5, dtype=dtype))


def loss_of(ys: Any, end: Any) -> tg.Tensor:
    total: Any = 0.0
    for k, v in enumerate([*tape.leaves(ys), *tape.leaves(end)]):
        total = total + tg.sum(tg.sin(v * (k + 1.3)) * v)
    return total


def gradients(
    step: Any, xs: Any, state: Any, wanted: list[tg.Tensor], **options: Any
) -> list[np.ndarray]:
    for v in wanted:
        v.grad = None
    ys, end = tg.scan(step, xs, state, **options)
    loss_of(ys, end).backward()
    return [v.grad.numpy().copy() for v in wanted]


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    for a, b in zip(found, wanted, strict=True):
        a, b = (v.numpy() if isinstance(v, tg.Tensor) else v for v in (a, b))
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def compare(step: Any, xs: Any, state: Any, wanted: list[tg.Tensor], **options: Any) -> None:
    """Replay equals unrolled."""
    unrolled = tg.scan(step, xs, state, unroll=True, reverse=options.get("reverse", False))
    replayed = tg.scan(step, xs, state, **options)
    assert_same(tape.leaves(list(replayed)), tape.leaves(list(unrolled)))
    truth = gradients(step, xs, state, wanted, unroll=True, reverse=options.get("reverse", False))
    assert_same(gradients(step, xs, state, wanted, **options), truth)
