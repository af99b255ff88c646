"""Passes broken on purpose: verifying finds each of them, and names the pass.

What it finds in passes that are not broken is held by every other test, since it is on in all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn.replay.cache import CACHE

T, B, H = 5, 3, 4


def normal(*shape: int) -> tg.Tensor:
    values = np.random.default_rng([1, *shape]).standard_normal(shape)
    return tg.tensor(0.5 * values, requires_grad=True)


W, V, U, LATE = normal(H, 2 * H), normal(2 * H, H), normal(2 * H, 2 * H), normal(H, H)


def step(x: tg.Tensor, state: Any) -> Any:
    """A bit of everything: views, reductions, a call, a part of each kind."""
    h, c = state
    a, b = tg.split(x @ W + h @ W + tg.relu(c) @ U, parts=2, axis=-1)
    mean = tg.mean(a, axis=-1, keepdims=True)
    a = tg.tanh(a - mean) * tg.cumsum(b, axis=-1)
    c = tg.concat([a, b], axis=-1) * 0.5 + c
    h = tg.sigmoid(c @ V) * h
    return (h @ LATE, tg.sum(c * c)), (h, c)


def run(wanted: bool = True) -> None:
    """Compiled anew, forward and backward."""
    CACHE.known.clear()
    try:
        ys, ends = tg.scan(step, normal(T, B, H), (normal(B, H), normal(B, 2 * H)))
        loss: Any = sum(tg.sum(v * v) for v in (*ys, *ends))
        if wanted:
            loss.backward()
    finally:
        CACHE.known.clear()


def run_twice_differentiated() -> None:
    CACHE.known.clear()
    x = normal(T, B, H)
    ys, _ = tg.scan(step, x, (normal(B, H), normal(B, 2 * H)))
    (g,) = tg.grad(lambda x: tg.sum(x), (x,)) if False else (ys[0],)
    tg.sum(g).backward(create_graph=True)
    CACHE.known.clear()
