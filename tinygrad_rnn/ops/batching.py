"""Every operation for all time steps at once: what the replay does with work outside the loop.

A rule ``batch(stacked, *inputs, **params)`` gets inputs of which some, those that ``stacked``
names, have a leading axis of T steps, and returns results that have it. Operations without a rule
are run step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.ops import (
    indexing,
    joining,
    linear_algebra,
    promotion,
    reductions,
    scaled,
    shaping,
    whole_axis,
)
from tinygrad_rnn.ops.arrays import AnyArray
from tinygrad_rnn.tape import Primitive

Stacked = Sequence[bool]


def batched(primitive: Primitive, stacked: Stacked, inputs: Sequence[Any], params: Any) -> Any:
    """The results of ``primitive`` at all time steps, with a leading time axis."""
    if primitive.kernel is not None:
        return primitive(*_aligned(stacked, inputs), **params)
    assert primitive.batch is not None, primitive.name
    return primitive.batch(stacked, *inputs, **params)


def _aligned(stacked: Stacked, inputs: Sequence[Any]) -> list[Any]:
    """Stacked inputs with axes of size one behind time, so that they broadcast as single steps."""
    steps = [getattr(x, "ndim", 0) - s for x, s in zip(inputs, stacked, strict=True)]
    rank = max(steps)
    return [
        shaping.reshape(x, (x.shape[0], *(1,) * (rank - n), *x.shape[1:])) if s and n < rank else x
        for x, s, n in zip(inputs, stacked, steps, strict=True)
    ]


def _all_stacked(stacked: Stacked, inputs: Sequence[Any]) -> list[Any]:
    """Inputs that are the same at every step are repeated."""
    steps = next(x.shape[0] for x, s in zip(inputs, stacked, strict=True) if s)
    return [
        x if s else shaping.broadcast_to(x, (steps, *x.shape))
        for x, s in zip(inputs, stacked, strict=True)
    ]


def _along_axis(primitive: Primitive) -> Callable[..., Any]:
    """The rule of an operation along one axis or several."""

    def rule(stacked: Stacked, x: AnyArray, *, axis: Any, **params: Any) -> Any:
        axes = tuple(a + 1 for a in axis) if isinstance(axis, tuple) else axis + 1  # pyright: ignore
        return primitive(x, axis=axes, **params)

    return rule


def _joining(primitive: Primitive) -> Callable[..., Any]:
    def rule(stacked: Stacked, *xs: AnyArray, axis: int) -> Any:
        return primitive(*_all_stacked(stacked, xs), axis=axis + 1)

    return rule


def linear_p(
    stacked: Stacked, x: AnyArray, weight: AnyArray, *bias: AnyArray, **how: str
) -> AnyArray:
    if any(stacked[1:]):
        weight_t = shaping.swapaxes(weight, -1, -2)
        y = matmul_p((stacked[0], stacked[1]), x, weight_t, **how)
        if not bias:
            return y
        b, is_stacked = bias[0], stacked[2]
        return y + (shaping.reshape(b, (len(b), *(1,) * (y.ndim - 2), -1)) if is_stacked else b)
    rows = shaping.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))
    y = linear_algebra.linear_p(rows, weight, *bias, **how)
    return shaping.reshape(y, (*x.shape[:-1], weight.shape[0]))


def matmul_p(stacked: Stacked, a: AnyArray, b: AnyArray, **how: str) -> AnyArray:
    if stacked[0] and not stacked[1] and b.ndim == 2:
        rows = shaping.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        y = linear_algebra.matmul_p(rows, b, **how)
        return shaping.reshape(y, (*a.shape[:-1], b.shape[-1]))
    return linear_algebra.matmul_p(*_aligned(stacked, (a, b)), **how)


def sum_to_p(stacked: Stacked, x: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    lead = x.ndim - 1 - len(shape)
    axes = tuple(
        k for k in range(1, x.ndim) if k <= lead or (shape[k - 1 - lead] == 1 and x.shape[k] != 1)
    )
    return shaping.reshape(reductions.sum(x, axes), (x.shape[0], *shape))


def broadcast_to_p(stacked: Stacked, x: AnyArray, shape: tuple[int, ...]) -> AnyArray:
    aligned = shaping.reshape(x, (x.shape[0], *(1,) * (len(shape) + 1 - x.ndim), *x.shape[1:]))
    return shaping.broadcast_to(aligned, (x.shape[0], *shape))


def getitem_p(stacked: Stacked, x: AnyArray, *arrays: AnyArray, template: Any) -> AnyArray:
    return indexing.getitem(x, (slice(None), *template))


def take_p(stacked: Stacked, x: AnyArray, indices: AnyArray) -> AnyArray:
    return indexing.take(x, indices, 0)


def einsum_p(
    stacked: Stacked, *operands: AnyArray, terms: tuple[str, ...], output: str
) -> AnyArray:
    letter = next(c for c in "zyxwvutsrqponmlkjihgfedcba" if c not in "".join(terms))
    new = [letter + t if s else t for t, s in zip(terms, stacked, strict=True)]
    return linear_algebra.einsum(f"{','.join(new)}->{letter}{output}", *operands)


for _primitive in (
    reductions.argmax_p, reductions.argmin_p, reductions.cumsum_p, reductions.sum_p,
    reductions.mean_p, reductions.max_p, reductions.min_p, reductions.prod_p, reductions.norm_p,
    reductions.any_p, reductions.all_p, whole_axis.logsumexp_p, whole_axis.softmax_p,
    whole_axis.log_softmax_p, shaping.flip_p, joining.split_p, joining.unstack_p,
):  # fmt: skip
    _primitive.batch = _along_axis(_primitive)
for _primitive in (joining.concat_p, joining.stack_p):
    _primitive.batch = _joining(_primitive)

scaled.exponent_p.batch = lambda stacked, x: scaled.exponent_p(x)
scaled.ldexp_p.batch = lambda stacked, x, k: scaled.ldexp_p(*_aligned(stacked, (x, k)))
promotion.cast_p.batch = lambda stacked, x, dtype: promotion.cast(x, dtype)
linear_algebra.linear_p.batch = linear_p
linear_algebra.matmul_p.batch = matmul_p
linear_algebra.einsum_p.batch = einsum_p
shaping.sum_to_p.batch = sum_to_p
shaping.broadcast_to_p.batch = broadcast_to_p
shaping.reshape_p.batch = lambda stacked, x, shape: shaping.reshape(x, (len(x), *shape))
shaping.transpose_p.batch = lambda stacked, x, axes: shaping.transpose(
    x, (0, *(a + 1 for a in axes))
)
joining.zeros_like_p.batch = lambda stacked, x: joining.zeros_like_p(x)
shaping.pad_p.batch = lambda stacked, x, widths, value: shaping.pad_p(
    x, widths=((0, 0), *widths), value=value
)
shaping.unpad_p.batch = lambda stacked, x, widths: shaping.unpad_p(x, widths=((0, 0), *widths))
indexing.getitem_p.batch = getitem_p
indexing.take_p.batch = take_p


def can_batch(primitive: Primitive, stacked: Stacked) -> bool:
    """Whether all time steps can be computed at once, where ``stacked`` inputs change with time."""
    if primitive is indexing.getitem_p:
        return len(stacked) == 1
    if primitive is indexing.take_p:
        return not stacked[0]
    return primitive.kernel is not None or primitive.batch is not None
