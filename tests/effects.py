"""What the tests of steps that do more than operations share: a loop, and two such steps."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn.replay import UnrolledWarning

T, B, H = 4, 2, 3


def inputs(steps: int = T) -> tuple[tg.Tensor, tg.Tensor]:
    rng = np.random.default_rng(3)
    return (
        tg.tensor(rng.standard_normal((steps, B, H)), requires_grad=True),
        tg.tensor(rng.standard_normal((B, H)), requires_grad=True),
    )


def run(step: Any, unroll: bool, steps: int = T) -> list[np.ndarray]:
    """Outputs, last state and gradients."""
    xs, h = inputs(steps)
    ys, last = tg.scan(step, xs, h, unroll=unroll)
    (ys * ys).sum().backward()
    return [v.numpy() for v in (ys, last, xs.grad, h.grad)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def compare(make: Callable[[], Any], steps: int = T) -> tuple[Any, Any]:
    """Two equal steps, one replayed and one unrolled: the same numbers, and a warning."""
    ours, theirs = make(), make()
    with pytest.warns(UnrolledWarning, match="runs unrolled") as caught:
        found = run(ours, unroll=False, steps=steps)
    assert len(caught) == 1
    assert caught[0].filename == inspect.getfile(make)
    assert_same(found, run(theirs, unroll=True, steps=steps))
    return ours, theirs


class Counter:
    def __init__(self) -> None:
        self.t = 0

    def __call__(self, x: Any, h: Any) -> Any:
        self.t += 1
        h = tg.tanh(h + self.t * x)
        return h, h


class Config:
    def __init__(self) -> None:
        self.gain = 1.0
