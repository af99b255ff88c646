"""Lowering: every operation that the loop can run fast, in terms of the few of plain.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.plain import FILL, HALF, SLICE
from tinygrad_rnn.replay.program.program import Op, Program, Value
from tinygrad_rnn.replay.program.rewrite import Rewriter, rewrite
from tinygrad_rnn.replay.program.trace import DETACH
from tinygrad_rnn.replay.program.verify import verified, verify_rewritten
from tinygrad_rnn.tape import Primitive


class Lowering:
    """The rules, one method per primitive."""

    def __init__(self, rewriter: Rewriter) -> None:
        self.r = rewriter

    # Building blocks

    def elementwise(self, primitive: Primitive, *inputs: Any, **params: Any) -> Value:
        given = [x for x in inputs if isinstance(x, Value)]
        shape = np.broadcast_shapes(*(x.shape for x in given))
        dtype = given[-1].dtype
        if primitive in (ops.equal, ops.isfinite):
            dtype = np.dtype(bool)
        return self.r.emit(primitive, inputs, shape, dtype, **params)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if tuple(shape) == x.shape:
            return x
        return self.r.emit(P.reshape, [x], shape, x.dtype, shape=tuple(shape))

    def slice(self, x: Value, axis: int, start: int, stop: int) -> Value:
        if (start, stop) == (0, x.shape[axis]):
            return x
        shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        return self.r.emit(SLICE, [x], shape, x.dtype, axis=axis, start=start, stop=stop)

    def reduce(self, primitive: Primitive, x: Value) -> Value:
        axis = len(x.shape) - 1
        shape = (*x.shape[:-1], 1)
        return self.r.emit(primitive, [x], shape, x.dtype, axis=(axis,), keepdims=True)

    def concat(self, parts: Sequence[Value], axis: int) -> Value:
        parts = [p for p in parts if p.shape[axis]] or list(parts[:1])
        if len(parts) == 1:
            return parts[0]
        first = parts[0].shape
        shape = (*first[:axis], sum(p.shape[axis] for p in parts), *first[axis + 1 :])
        return self.r.emit(P.concat, parts, shape, parts[0].dtype, axis=axis)

    def fill(self, value: float, shape: Sequence[int], dtype: Any) -> Value:
        shape = tuple(shape)
        return self.r.emit(FILL, [value], shape, dtype, shape=shape, dtype=dtype)

    # Rules: each gives the values of the outputs, or None to keep the op

    def identity(self, op: Op, x: Value) -> list[Value] | None:
        return [x]

    copy = identity

    def floor(self, op: Op, x: Value) -> list[Value] | None:
        """An integer is its own floor, which kernels need not know."""
        return None if x.dtype.kind == "f" else [x]

    ceil = round = floor

    def sign(self, op: Op, x: Value) -> list[Value] | None:
        return [x] if x.dtype == np.bool_ else None

    def zeros_like(self, op: Op, x: Value) -> list[Value] | None:
        return [self.fill(0, x.shape, x.dtype)]

    def rounded(self, x: Value, how: dict[str, Any]) -> Value:
        """An operand of a product in its precision. Rounding is a line of its own, fused into the
        kernel before, and done once for what does not change and for what is transposed.
        """
        if not how:
            return x
        for op in self.r.ops:
            if op.primitive is P.transpose and op.outputs[0] is x:
                halves = [self.rounded(before, how) for before in op.values()]
                return self.r.emit(P.transpose, halves, x.shape, HALF, **op.params)
        return self.r.emit(P.cast, [x], x.shape, HALF, dtype=HALF)

    def product(self, op: Op, a: Value, b: Value, how: dict[str, Any]) -> Value:
        """All rows of ``a`` times a matrix."""
        rows = self.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        shape, y = (rows.shape[0], b.shape[1]), op.outputs[0]
        return self.reshape(self.r.emit(P.matmul, [rows, b], shape, y.dtype, **how), y.shape)

    def linear(
        self, op: Op, x: Value, weight: Value, bias: Value | None = None, **how: Any
    ) -> list[Value]:
        x, weight = self.rounded(x, how), self.rounded(weight, how)
        turned = self.r.emit(P.transpose, [weight], weight.shape[::-1], weight.dtype, axes=(1, 0))
        y = self.product(op, x, turned, how)
        return [y if bias is None else self.elementwise(ops.add, y, bias)]

    def matmul(self, op: Op, a: Any, b: Any, **how: Any) -> list[Value] | None:
        if len(b.shape) != 2 or (len(a.shape) == 2 and not how):
            return None
        return [self.product(op, self.rounded(a, how), self.rounded(b, how), how)]

    def _reduction(
        self, op: Op, x: Value, axis: tuple[int, ...], keepdims: bool
    ) -> list[Value] | None:
        rank = len(x.shape)
        trailing = tuple(range(rank - len(axis), rank))
        if not axis or axis != trailing or (len(axis) == 1 and keepdims) or x.dtype.kind != "f":
            return None
        if x.dtype == np.float16:
            return None
        flat = self.reshape(x, (*x.shape[: rank - len(axis)], math.prod(x.shape[axis[0] :])))
        return [self.reshape(self.reduce(op.primitive, flat), op.outputs[0].shape)]

    sum = max = min = _reduction

    def mean(self, op: Op, x: Value, axis: tuple[int, ...], keepdims: bool) -> list[Value] | None:
        rank = len(x.shape)
        count = math.prod(x.shape[a] for a in axis)
        if axis != tuple(range(rank - len(axis), rank)) or not count or x.dtype == np.float16:
            return None
        flat = self.reshape(x, (*x.shape[: rank - len(axis)], count))
        total = self.elementwise(ops.divide, self.reduce(P.sum, flat), count)
        return [self.reshape(total, op.outputs[0].shape)]

    def sum_to(self, op: Op, x: Value, shape: tuple[int, ...]) -> list[Value] | None:
        if shape != (*x.shape[:-1], 1) or x.dtype == np.float16 or not shape:
            return None
        return [self.reduce(P.sum, x)]

    def _weights(self, x: Value) -> tuple[Value, Value, Value]:
        """X less its largest element, the exponentials, and their sum, 1 in place of 0."""
        top = self.reduce(P.max, x)
        top = self.elementwise(ops.where, self.elementwise(ops.equal, top, -math.inf), 0.0, top)
        shifted = self.elementwise(ops.subtract, x, top)
        weight = self.elementwise(ops.exp, shifted)
        total = self.reduce(P.sum, weight)
        total = self.elementwise(ops.where, self.elementwise(ops.equal, total, 0.0), 1.0, total)
        return shifted, weight, total

    def _last(self, x: Value, axis: int) -> bool:
        return axis == len(x.shape) - 1 and x.dtype != np.float16 and x.shape[-1] > 0

    def softmax(self, op: Op, x: Value, axis: int) -> list[Value] | None:
        if not self._last(x, axis):
            return None
        _, weight, total = self._weights(x)
        return [self.elementwise(ops.divide, weight, total)]

    def log_softmax(self, op: Op, x: Value, axis: int) -> list[Value] | None:
        if not self._last(x, axis):
            return None
        shifted, _, total = self._weights(x)
        return [self.elementwise(ops.subtract, shifted, self.elementwise(ops.log, total))]

    def logsumexp(self, op: Op, x: Value, axis: int, keepdims: bool) -> list[Value] | None:
        if not self._last(x, axis):
            return None
        top = self.reduce(P.max, x)
        top = self.elementwise(ops.where, self.elementwise(ops.isfinite, top), top, 0.0)
        weight = self.elementwise(ops.exp, self.elementwise(ops.subtract, x, top))
        total = self.elementwise(ops.log, self.reduce(P.sum, weight))
        return [self.reshape(self.elementwise(ops.add, total, top), op.outputs[0].shape)]

    def split(self, op: Op, x: Value, sizes: tuple[int, ...], axis: int) -> list[Value]:
        parts: list[Value] = []
        start = 0
        for size in sizes:
            parts.append(self.slice(x, axis, start, start + size))
            start += size
        return parts

    def unstack(self, op: Op, x: Value, axis: int) -> list[Value]:
        return [
            self.reshape(self.slice(x, axis, k, k + 1), y.shape) for k, y in enumerate(op.outputs)
        ]

    def stack(self, op: Op, *xs: Value, axis: int) -> list[Value] | None:
        if not all(isinstance(x, Value) for x in xs):  # pyright: ignore[reportUnnecessaryIsInstance]
            return None
        thick = [self.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in xs]
        return [self.concat(thick, axis)]

    def unpad(self, op: Op, x: Value, widths: Any) -> list[Value]:
        for axis, (before, after) in enumerate(widths):
            x = self.slice(x, axis, before, x.shape[axis] - after)
        return [x]

    def pad(self, op: Op, x: Value, widths: Any, value: float) -> list[Value]:
        for axis, sides in enumerate(widths):
            around = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in sides]
            parts = [self.fill(value, s, x.dtype) if s[axis] else None for s in around]
            found = [p for p in (parts[0], x, parts[1]) if p is not None]
            x = self.concat(found, axis)
        return [x]

    def getitem(
        self, op: Op, x: Value, *arrays: Value, template: tuple[Any, ...]
    ) -> list[Value] | None:
        ranges = _ranges(template, x.shape)
        if arrays or ranges is None:
            return None
        for axis, (start, stop) in enumerate(ranges):
            x = self.slice(x, axis, start, stop)
        return [self.reshape(x, op.outputs[0].shape)]

    def place(
        self, op: Op, *parts: Any, shape: tuple[int, ...], dtype: Any, templates: tuple[Any, ...]
    ) -> list[Value] | None:
        """Parts that lie side by side along one axis are joined, with zeros in between."""
        ranges = [_ranges(t, shape) for t in templates]
        if not shape or len(parts) != len(templates) or any(r is None for r in ranges):
            return None
        found = cast("list[list[tuple[int, int]]]", ranges)
        open_axes = {a for r in found for a, n in enumerate(shape) if r[a] != (0, n)}
        if len(open_axes) > 1 or any(p.dtype != dtype for p in parts):
            return None
        axis = open_axes.pop() if open_axes else 0
        order = sorted(range(len(parts)), key=lambda k: found[k][axis])
        pieces: list[Value] = []
        end = 0

        def gap(until: int) -> None:
            if until > end:
                wide = (*shape[:axis], until - end, *shape[axis + 1 :])
                pieces.append(self.fill(0, wide, dtype))

        for k in order:
            start, stop = found[k][axis]
            if start < end:
                return None
            gap(start)
            pieces.append(self.reshape(parts[k], (*shape[:axis], stop - start, *shape[axis + 1 :])))
            end = stop
        gap(shape[axis])
        return [self.concat(pieces, axis)]


_RULES = {
    primitive: primitive.name
    for primitive in (
        P.identity, P.zeros_like, P.linear, P.matmul, P.sum, P.max, P.min, P.mean, P.sum_to,
        P.softmax, P.log_softmax, P.logsumexp, P.split, P.unstack, P.stack, P.pad, P.unpad,
        P.getitem, P.place, ops.copy, ops.floor, ops.ceil, ops.round, ops.sign,
    )
} | {DETACH: "identity"}  # fmt: skip


def _ranges(template: Any, shape: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """(start, stop) along each axis for an index of integers and slices of step one."""
    items = [t for t in template if t is not None]
    if any(isinstance(t, bool) or not (t is Ellipsis or isinstance(t, int | slice)) for t in items):
        return None
    if Ellipsis in items:
        k = items.index(Ellipsis)
        items[k : k + 1] = [slice(None)] * (len(shape) - len(items) + 1)
    items += [slice(None)] * (len(shape) - len(items))
    found: list[tuple[int, int]] = []
    for item, size in zip(items, shape, strict=True):
        if isinstance(item, int):
            start = item % size
            found.append((start, start + 1))
            continue
        start, stop, step = item.indices(size)
        if step != 1:
            return None
        found.append((start, max(start, stop)))
    return found


@verified(verify_rewritten)
def lower(program: Program) -> Program:
    """The same program in plain operations."""

    def rule(rewriter: Rewriter, op: Op) -> bool:
        name = _RULES.get(op.primitive)
        if name is None:
            return False
        inputs = [rewriter.current(x) for x in op.inputs]
        mark = len(rewriter.ops)
        found = getattr(Lowering(rewriter), name)(op, *inputs, **op.params)
        if found is None:
            del rewriter.ops[mark:]
            return False
        rewriter.replacement.update(zip(op.outputs, found, strict=True))
        return True

    return rewrite(program, rule)
