"""Steps wired at random from the operations, for the comparison of replayed and unrolled loops.

A case is a list of numbers, so that Hypothesis can shrink it: each line names an operation and, by
counting back in what has been computed so far, its operands. Bounds of all values are followed, and
what could grow is brought back, so that loops of several steps stay comparable to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import backends, ops, tape

LIMIT = 48
"""Elements of a value; larger ones are reduced."""

WAVE = tg.primitive(
    "wave",
    lambda xp, x: xp.sin(x) * 0.5,
    [lambda g, y, x: g * ops.cos(x) * 0.5],
    doc="An operation of a user's, without a kernel and without a batching rule",
)


class Pair(NamedTuple):
    first: Any
    second: Any


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


def form(values: list[Any], code: int) -> Any:
    """Values in containers of some form."""
    if len(values) == 1 and code % 2 == 0:
        return values[0]
    match code % 4:
        case 0:
            return tuple(values)
        case 1:
            return Pair(values[0], tuple(values[1:]))
        case 2:
            return Pair((), Pair(tuple(values[:1]), tuple(values[1:])))
        case _:
            return {"one": values[:1], "others": tuple(values[1:])}


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


Operation = Callable[[Pool, int, int, int], None]
OPERATIONS: list[Operation] = []


def operation(function: Operation) -> Operation:
    OPERATIONS.append(function)
    return function


UNARY: list[tuple[Callable[[Any], Any], Callable[[float], float]]] = [
    (tg.tanh, lambda b: 1),
    (tg.sigmoid, lambda b: 1),
    (lambda x: -x, lambda b: b),
    (lambda x: 1 - x, lambda b: b + 1),
    (tg.sin, lambda b: 1),
    (tg.cos, lambda b: 1),
    (tg.abs, lambda b: b),
    (tg.relu, lambda b: b),
    (tg.leaky_relu, lambda b: b),
    (tg.gelu, lambda b: b),
    (tg.softplus, lambda b: b + 1),
    (tg.erf, lambda b: 1),
    (tg.expm1, lambda b: math.exp(b)),
    (lambda x: tg.exp(-tg.abs(x)), lambda b: 1),
    (lambda x: tg.log1p(x * x), lambda b: b),
    (lambda x: tg.log(x * x + 0.5), lambda b: b + 1),
    (lambda x: tg.sqrt(x * x + 0.5), lambda b: b + 1),
    (tg.square, lambda b: b * b),
    (lambda x: tg.clip(x, -0.71, 0.83), lambda b: 1),
    (lambda x: tg.floor(x * 2.7 + 0.123), lambda b: 2.7 * b + 2),
    (lambda x: tg.ceil(x * 2.3 + 0.321), lambda b: 2.3 * b + 2),
    (lambda x: tg.round(x * 1.7 + 0.213), lambda b: 1.7 * b + 2),
    (lambda x: tg.sign(x + 0.0321), lambda b: 1),
    (lambda x: ops.remainder(x, 0.7), lambda b: 1),
    (lambda x: tg.power(x * x + 0.5, 1.5), lambda b: (b * b + 1) ** 1.5),
    (lambda x: tg.power(1.3, x), lambda b: 1.3**b),
    (lambda x: x.detach(), lambda b: b),
    (ops.identity, lambda b: b),
    (tg.no_grad()(lambda x: tg.tanh(x) * x), lambda b: b),
    (lambda x: tg.grad(lambda v: tg.sum(tg.sin(v) * v))(x), lambda b: b + 1),
    (lambda x: tg.grad(lambda v: tg.sum(tg.sin(v) * x.detach()))(x.detach()), lambda b: b),
    (lambda x: x.copy(), lambda b: b),
    (lambda x: tg.zeros_like(x) + 0.25, lambda b: 1),
    (lambda x: tg.ones_like(x), lambda b: 1),
    (WAVE, lambda b: 1),
    (tg.checkpoint(lambda x: tg.tanh(x) * x), lambda b: b),
    (lambda x: tg.sign(x + 0.0321).astype(np.float32).astype(x.dtype), lambda b: 1),
]

BINARY: list[tuple[Callable[[Any, Any], Any], Callable[[float, float], float]]] = [
    (tg.Tensor.__add__, lambda a, b: a + b),  # pyright: ignore[reportAttributeAccessIssue]
    (lambda x, y: x * y, lambda a, b: a * b),
    (lambda x, y: x - y, lambda a, b: a + b),
    (lambda x, y: x / (y * y + 1), lambda a, b: a),
    (lambda x, y: tg.maximum(x, y + 0.0137), lambda a, b: max(a, b) + 1),
    (lambda x, y: tg.minimum(x, y - 0.0173), lambda a, b: max(a, b) + 1),
    (lambda x, y: tg.power(x * x + 0.5, y), lambda a, b: (a * a + 2) ** b),
    (lambda x, y: x * 0.5 + y * 0.5, max),
]

REDUCTIONS: list[Callable[..., Any]] = [
    tg.sum, tg.mean, tg.max, tg.min,
    lambda x, axis, keepdims: tg.norm(x * x + 0.1, axis=axis, keepdims=keepdims),
    lambda x, axis, keepdims: tg.prod(tg.sigmoid(x), axis, keepdims),
    lambda x, axis, keepdims: tg.var(x, axis, keepdims=keepdims),
    lambda x, axis, keepdims: tg.sqrt(tg.var(x, axis, keepdims=keepdims) + 0.1),
]  # fmt: skip


@operation
def unary(p: Pool, a: int, b: int, c: int) -> None:
    function, bound = UNARY[b % len(UNARY)]
    x, size = p.take(a)
    p.put(function(x), bound(size))


@operation
def binary(p: Pool, a: int, b: int, c: int) -> None:
    function, bound = BINARY[c % len(BINARY)]
    x, size = p.take(a)
    y, other = p.alike(x, b)
    p.put(function(x, y), bound(size, other))


@operation
def gate(p: Pool, a: int, b: int, c: int) -> None:
    """What lies between two values, as in a GRU."""
    x, size = p.take(a)
    y, other = p.alike(x, b)
    z = tg.sigmoid(x)
    p.put(z * y + (1 - z) * x, size + other)


@operation
def product(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.matrix(a)
    n = x.shape[-1]
    m = (p.case.H, p.case.K, 4 * p.case.H)[c % 3]
    bias = p.captured.weight((m,), b) if b % 3 else None
    if c % 2:
        y = tg.linear(x, p.captured.weight((m, n), b), bias)
    else:
        y = x @ p.captured.weight((n, m), b)
        y = y if bias is None else y + bias
    p.put(y, size * n + 1)


@operation
def gates(p: Pool, a: int, b: int, c: int) -> None:
    """Linear, then parts of it."""
    x, size = p.matrix(a)
    n, m = x.shape[-1], p.case.H
    z = tg.linear(x, p.captured.weight((3 * m, n), c), p.captured.weight((3 * m,), c))
    h, other = p.alike(z, b)
    z = z + h
    first, second, third = tg.split(z, parts=3, axis=-1)
    p.put(tg.sigmoid(first), 1)
    p.put(tg.tanh(second), 1)
    p.put(third, size * n + 1 + other)


@operation
def computed_weight(p: Pool, a: int, b: int, c: int) -> None:
    """A product with what is computed from parameters alone, or from the time step's values."""
    x, size = p.matrix(a)
    n = x.shape[-1]
    w = tg.tanh(p.captured.weight((n, p.case.H), b)) @ p.captured.weight((p.case.H, n), b)
    if c % 2:
        w = w * tg.cos(tg.mean(p.take(b)[0]))
    p.put(x @ w, size * n * p.case.H * 2)


@operation
def left_product(p: Pool, a: int, b: int, c: int) -> None:
    """A parameter times what changes."""
    x, size = p.matrix(a)
    rows = x.shape[-2]
    p.put(p.captured.weight((p.case.K, rows), b) @ x, size * rows)


@operation
def attention(p: Pool, a: int, b: int, c: int) -> None:
    """Products of matrices of which both change."""
    x, size = p.matrix(a)
    scores = x @ tg.swapaxes(tg.tanh(x) if c % 2 else x, -1, -2)
    p.put(tg.softmax(scores, axis=-1 if b % 3 else -2) @ x, size)


@operation
def einsum(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.matrix(a)
    n = x.shape[-1]
    if c % 2:
        y = tg.einsum("bh,hk->bk", _flat(x), p.captured.weight((n, p.case.K), b))
    else:
        y = tg.einsum("bh,bk->hk", _flat(x), _flat(x))
    p.put(y, size * size * LIMIT + size * n)


def _flat(x: Any) -> Any:
    return tg.reshape(x, (-1, x.shape[-1]))


@operation
def reduction(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.take(a)
    every = tuple(range(x.ndim))
    axes: tuple[Any, ...] = (-1, None, *every, every[1:], (), every)
    axis = axes[b % len(axes)] if x.ndim else None
    which = c % len(REDUCTIONS)
    y = REDUCTIONS[which](x, axis=axis, keepdims=bool(c & 8))
    p.put(y, size * size * LIMIT if which in (0, 4) else size * size + size)


@operation
def along(p: Pool, a: int, b: int, c: int) -> None:
    """Softmax and its kind, cumulative sums, layer normalisation."""
    x, size = p.take(a)
    x = tg.expand_dims(x, 0) if not x.ndim else x
    axis = -1 if b % 2 else b // 2 % x.ndim
    match c % 6:
        case 0:
            p.put(tg.softmax(x, axis), 1)
        case 1:
            p.put(tg.log_softmax(x, axis), 2 * size + 3)
        case 2:
            p.put(tg.logsumexp(x, axis, keepdims=bool(c & 8)), size + 3)
        case 3:
            p.put(tg.cumsum(x, axis), size * x.shape[axis])
        case 4:
            centred = x - tg.mean(x, axis, keepdims=True)
            scale = tg.sqrt(tg.mean(centred * centred, axis, keepdims=True) + 0.1)
            p.put(centred / scale * p.captured.weight((x.shape[-1],), b), 6 * size)
        case _:
            p.put(tg.flip(x, axis), size)


@operation
def parts(p: Pool, a: int, b: int, c: int) -> None:
    """Slices, elements and pieces."""
    x, size = p.take(a)
    if not x.ndim:
        return p.put(x[None, ...], size)
    n = x.shape[-1]
    start = b % n
    match c % 8:
        case 0:
            y = x[..., start:]
        case 1:
            y = x[..., : n - start]
        case 2:
            y = x[..., start - n if b & 8 else start]
        case 3:
            y = x[b % len(x)]
        case 4:
            y = x[..., ::-1]
        case 5:
            y = tg.concat([x[..., start:], x[..., :start]], axis=-1)
        case 6:
            left, right = tg.split(x, sizes=[start, n - start], axis=-1)
            return (p.put(left, size) if start else None) or p.put(right, size)
        case _:
            pieces = tg.unstack(x, b % x.ndim)
            y = tg.stack(pieces[::-1], b % x.ndim)
            p.put(pieces[0], size)
    p.put(y, size)


@operation
def joined(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.take(a)
    y, other = p.alike(x, b)
    shape = np.broadcast_shapes(x.shape, y.shape)
    x, y = tg.broadcast_to(x, shape), tg.broadcast_to(y, shape)
    parts = [x, y, x] if c % 5 == 0 else [x, y]
    if c % 2 or not shape:
        p.put(tg.stack(parts, c // 2 % (len(shape) + 1)), max(size, other))
    else:
        p.put(tg.concat(parts, c // 2 % len(shape) - len(shape)), max(size, other))


@operation
def shaped(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.take(a)
    rank = x.ndim
    match c % 8:
        case 0:
            y = tg.reshape(x, (-1,))
        case 1:
            y = tg.transpose(x)
        case 2:
            y = tg.expand_dims(x, b % (rank + 1))
        case 3:
            y = tg.squeeze(x)
        case 4:
            y = tg.broadcast_to(x, (2, *x.shape))
        case 5 if rank:
            y = tg.reshape(tg.transpose(x), (x.shape[-1], -1))
        case 6 if rank:
            y = tg.pad(x, [(b % 2, c // 8 % 2)] * rank, 0.5)
        case 7 if rank:
            y = tg.tile(x, 2)
        case _:
            y = tg.reshape(x, (1, *x.shape))
    p.put(y, max(size, 0.5))


@operation
def compared(p: Pool, a: int, b: int, c: int) -> None:
    """A mask, and what it chooses."""
    x, size = p.take(a)
    y, other = p.alike(x, b)
    masks = [tg.greater, tg.less, tg.less_equal, tg.greater_equal, tg.not_equal]
    mask = masks[c % 5](x, y * 0.5 + 0.0137)
    if p.bools and c & 8:
        with suppress(ValueError):
            mask = (mask & p.bools[-1]) if c & 16 else (~mask | p.bools[-1])
    if mask.size <= LIMIT and mask.ndim <= 3:
        p.bools.append(mask)
        p.put(tg.where(mask, x, y if c % 3 else 0.0), max(size, other))
        p.put(mask.astype(x.dtype) * 0.5, 0.5)


@operation
def masked(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.take(a)
    if p.bools:
        mask = p.bools[-1 - b % len(p.bools)]
        try:
            chosen = tg.where(mask, 0.0, x) if c % 2 else tg.where(mask, x, x * 0.5)
        except ValueError:
            return
        p.put(chosen, size)


@operation
def constants(p: Pool, a: int, b: int, c: int) -> None:
    """Numbers, raw arrays, and parameters as they are."""
    x, size = p.take(a)
    match c % 4:
        case 0:
            p.put(x * p.captured.constant(x.shape), size)
        case 1:
            p.put(p.captured.weight(x.shape, b), 1)
        case 2:
            p.put(p.captured.weight((), b) * x + 0.3, size + 1)
        case _:
            p.put(tg.full_like(x, 0.5), 1)


@operation
def integers(p: Pool, a: int, b: int, c: int) -> None:
    """Indices that change with time."""
    x, size = p.matrix(a)
    n = x.shape[-1]
    flat = _flat(x)
    if not p.ints:
        indices = p.captured.indices(len(flat), n)
    else:
        drawn = p.ints[-1 - b % len(p.ints)]
        indices = tg.broadcast_to(tg.reshape(drawn, (-1,))[:1], (len(flat),)) % n
    match c % 6:
        case 0:
            p.put(tg.take(p.captured.weight((n, p.case.H), b), indices, 0), 1)
        case 1:
            p.put(flat[p.captured.indices(3, len(flat))], size)
        case 2:
            p.put(ops.cross_entropy(flat, indices), size + 3)
        case 3:
            p.put(tg.one_hot(indices, n, x.dtype) * flat, size)
        case 4:
            p.put(tg.scatter(flat, b % len(flat), 0.25), size)
        case _:
            p.put(flat[tg.Tensor(p.captured.indices(len(flat), n).array), indices % n]
                  if len(flat) > n else x, size)  # fmt: skip


@operation
def counted(p: Pool, a: int, b: int, c: int) -> None:
    """Arithmetic on integers."""
    if p.ints:
        n = p.ints[-1 - a % len(p.ints)]
        p.ints.append((n + (b % 3 + 1)) % 5)
        p.bools.append(tg.equal(n % 2, 0))
        p.put(n.astype(p.captured.dtype) * 0.2, 1)


@operation
def dropped(p: Pool, a: int, b: int, c: int) -> None:
    x, size = p.take(a)
    p.put(x * ops.dropout_mask(x, 0.5), 2 * size)


@operation
def nested(p: Pool, a: int, b: int, c: int) -> None:
    """A loop inside the step, over an axis of a value."""
    x, _ = p.matrix(a)
    w = p.captured.weight((x.shape[-1],), b)
    outside, _ = p.alike(x[0], b)
    if np.broadcast_shapes(outside.shape, x[0].shape) != x[0].shape:
        outside = x[0]

    def inner(v: Any, h: Any) -> Any:
        h = tg.tanh(h * w + v * outside if c % 2 else h * w - v)
        return (h * 0.5 if c & 4 else h), h

    start = tg.zeros_like(x[0]) if c & 8 else x[0] * 0.5
    ys, last = tg.scan(inner, x, start, reverse=bool(c & 2), unroll=p.unroll)
    p.put(ys, 1)
    p.put(last, 1)


CODES = {function.__name__: k for k, function in enumerate(OPERATIONS)}


@dataclass
class Step:
    """The step of a case, replayed or unrolled."""

    captured: Captured
    unroll: bool

    def __call__(self, x: Any, state: Any) -> tuple[Any, Any]:
        case = self.captured.case
        p = Pool(self.captured, self.unroll)
        inputs = [*tape.leaves(state), *tape.leaves(x)]
        for value in inputs:
            if value.dtype.kind == "f":
                p.floats.append((value, 1.5))
            else:
                p.ints.append(value)
        if not p.floats:
            p.floats.append((p.captured.weight((case.B, case.H), 0), 1))
        for line in case.lines:
            OPERATIONS[line.code % len(OPERATIONS)](p, line.a, line.b, line.c)
        ys = [p.take(k)[0] for k in case.ys]
        ys += p.bools[-1:] if case.forms & 64 else []
        ys += p.ints[-1:] if case.forms & 128 else []
        starts = tape.leaves(state)
        following = [self.next(p, k, s) for k, s in zip(case.following, starts, strict=True)]
        return form(ys, case.forms), tape.rebuild(state, following)

    def next(self, p: Pool, k: int, s: Any) -> Any:
        """The next value of a state: computed, itself, another one, an input or a constant."""
        if s.dtype.kind != "f":
            alike = [n for n in p.ints if n.shape == s.shape]
            return alike[-1 - k % len(alike)]
        return p.fitted(k, s.shape)


class Inputs(NamedTuple):
    xs: list[tg.Tensor]
    state: list[tg.Tensor]


def inputs(case: Case, device: str, dtype: Any) -> Inputs:
    """The leaves of a case."""
    rng = np.random.default_rng(case.seed)
    backend = backends.backend_for(device)

    def leaf(kind: int, lead: tuple[int, ...], bit: int) -> tg.Tensor:
        shape = (*lead, *case.shape(kind))
        if case.is_int(kind):
            host, wanted = rng.integers(0, 4, shape), False
        else:
            host, wanted = rng.uniform(-1, 1, shape).astype(dtype), bool(case.wants >> bit & 1)
        return tg.Tensor(backend.from_host(np.asarray(host), device), wanted)

    xs = [leaf(kind, (case.T,), 5 + k) for k, kind in enumerate(case.xs)]
    return Inputs(xs, [leaf(kind, (), 9 + k) for k, kind in enumerate(case.states)])


@st.composite
def cases(draw: Any, lines: int = 9, steps: int = 4) -> Case:
    """Any case."""
    number = st.integers(0, 63)
    B, H, K = (draw(st.integers(1, 3)) for _ in range(3))
    T = draw(st.integers(1, steps))
    kinds = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    xs = draw(st.lists(kinds, min_size=1, max_size=3))
    states = draw(st.lists(kinds, min_size=1, max_size=4))
    code = st.sampled_from(sorted(CODES.values()))
    line = st.builds(Line, code, number, number, number)
    return Case(
        T=T,
        B=B,
        H=H,
        K=K,
        xs=tuple(xs),
        states=tuple(states),
        lines=tuple(draw(st.lists(line, min_size=1, max_size=lines))),
        ys=tuple(draw(st.lists(number, min_size=1, max_size=3))),
        following=tuple(draw(number) for _ in states),
        forms=draw(st.integers(0, 255)),
        wants=draw(st.integers(0, 2**13 - 1)) | draw(st.sampled_from([0, 2**13 - 1])),
        used=draw(st.integers(0, 255)) | draw(st.sampled_from([0, 255])),
        reverse=draw(st.booleans()),
        checkpoint=draw(st.sampled_from([None, None, None, 1, 2, "sqrt"])),
        seed=draw(st.integers(0, 99)),
    )
