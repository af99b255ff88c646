"""A step wired at random: its case, what it closes over, and what it has computed so far."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import backends

LIMIT = 48
"""Elements of a value; larger ones are reduced."""


class Line(NamedTuple):
    """One operation, and numbers that choose its operands and options."""

    code: int
    a: int
    b: int
    c: int


@dataclass(frozen=True)
class Case:
    """A step, its inputs, and what is asked of the loop."""

    T: int
    B: int
    H: int
    K: int
    xs: tuple[int, ...]
    states: tuple[int, ...]
    lines: tuple[Line, ...]
    ys: tuple[int, ...]
    following: tuple[int, ...]
    forms: int
    wants: int
    used: int
    reverse: bool
    checkpoint: int | str | None
    seed: int

    def shape(self, kind: int) -> tuple[int, ...]:
        """The shape of a leaf; the last two kinds are integers."""
        B, H, K = self.B, self.H, self.K
        shapes = (B, H), (B, K), (B, H, K), (B, 1), (H,), (), (B,), (1, H), (B,), ()
        return shapes[kind % len(shapes)]

    def is_int(self, kind: int) -> bool:
        return kind % 10 >= 8


@dataclass
class Captured:
    """What the step closes over, made when it is first asked for."""

    case: Case
    device: str
    dtype: Any
    found: dict[Any, Any] = field(default_factory=dict)

    def array(self, shape: tuple[int, ...], key: Any) -> Any:
        seed = [self.case.seed, len(shape), *shape, *key]
        host = np.random.default_rng(seed).uniform(-1, 1, shape).astype(self.dtype)
        return backends.backend_for(self.device).from_host(np.asarray(host), self.device)

    def weight(self, shape: tuple[int, ...], k: int) -> tg.Tensor:
        """A parameter, of which some want no gradient."""
        k %= 2
        if (shape, k) not in self.found:
            wanted = bool(self.case.wants >> (len(self.found) % 5) & 1)
            self.found[shape, k] = tg.Tensor(self.array(shape, (k,)), wanted)
        return self.found[shape, k]

    def constant(self, shape: tuple[int, ...]) -> Any:
        """A raw array."""
        return self.found.setdefault(("raw", shape), self.array(shape, (9,)))

    def indices(self, count: int, size: int) -> tg.Tensor:
        if ("index", count, size) not in self.found:
            host = np.random.default_rng(self.case.seed).integers(0, size, count)
            array = backends.backend_for(self.device).from_host(host, self.device)
            self.found["index", count, size] = tg.Tensor(array)
        return self.found["index", count, size]

    @property
    def leaves(self) -> list[tg.Tensor]:
        return [x for x in self.found.values() if isinstance(x, tg.Tensor) and x.requires_grad]


class Pool:
    """What one run of a step has computed so far; float values with a bound of their size."""

    def __init__(self, captured: Captured, unroll: bool) -> None:
        self.captured, self.unroll = captured, unroll
        self.case = captured.case
        self.floats: list[tuple[Any, float]] = []
        self.bools: list[Any] = []
        self.ints: list[Any] = []

    def take(self, back: int) -> tuple[Any, float]:
        return self.floats[-1 - back % len(self.floats)]

    def alike(self, x: Any, back: int) -> tuple[Any, float]:
        """A value that broadcasts with x to no more than fits."""
        fitting: list[tuple[Any, float]] = []
        for value, bound in self.floats:
            try:
                shape = np.broadcast_shapes(x.shape, value.shape)
            except ValueError:
                continue
            if math.prod(shape) <= LIMIT:
                fitting.append((value, bound))
        return fitting[-1 - back % len(fitting)] if fitting else (x, 3)

    def matrix(self, back: int) -> tuple[Any, float]:
        """A value of at least two axes."""
        x, bound = self.take(back)
        return (tg.reshape(x, (1, -1)) if x.ndim < 2 else x), bound

    def put(self, value: Any, bound: float) -> None:
        if not value.size:
            return
        while value.ndim > 3 or math.prod(value.shape) > LIMIT:
            value = tg.mean(value, 0)
        if bound > 3:
            value, bound = (tg.tanh(value), 1.0) if value.ndim % 2 else (value * (2 / bound), 2.0)
        self.floats.append((value, bound))

    def fitted(self, back: int, shape: tuple[int, ...]) -> Any:
        """A value brought to a shape and to a bound of one."""
        alike = [(v, b) for v, b in self.floats if v.shape == shape]
        if alike and back % 8:
            value, bound = alike[-1 - back % len(alike)]
        else:
            value, bound = self.take(back)
            try:
                value = tg.broadcast_to(value, shape)
            except ValueError:
                value = tg.broadcast_to(tg.sum(value) * (1 / max(value.size, 1)), shape)
        return value if bound <= 1.5 else tg.tanh(value)
