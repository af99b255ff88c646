"""The operations that a random step is wired from: each takes values of a pool and adds to it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
from random_values import LIMIT, Pool

import tinygrad_rnn as tg
from tinygrad_rnn import ops

WAVE = tg.primitive(
    "wave",
    lambda xp, x: xp.sin(x) * 0.5,
    [lambda g, y, x: g * ops.cos(x) * 0.5],
    doc="An operation of a user's, without a kernel and without a batching rule",
)


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
