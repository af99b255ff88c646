"""Views as strides: slice, transpose, reshape and broadcast_to of a Ref, without a copy."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.lower import SLICE
from tinygrad_rnn.replay.program.loop import Ref
from tinygrad_rnn.replay.program.program import Op


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in elements."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def viewed(op: Op, ref: Ref) -> Ref | None:
    """What a view op makes of a Ref, None where that would take a copy."""
    shape = op.outputs[0].shape
    if op.primitive is SLICE:
        axis, start = op.params["axis"], op.params["start"]
        return ref._replace(shape=shape, offset=ref.offset + start * ref.strides[axis])
    if op.primitive is P.transpose:
        axes: tuple[int, ...] = op.params["axes"]
        return ref._replace(shape=shape, strides=tuple(ref.strides[a] for a in axes))
    if op.primitive is P.broadcast_to:
        return spread(ref, shape)
    strides = _reshaped(ref.shape, ref.strides, shape)
    return None if strides is None else ref._replace(shape=shape, strides=strides)


def spread(ref: Ref, shape: Sequence[int]) -> Ref:
    """A Ref broadcast to a shape: stride 0 along the axes that repeat."""
    lead = len(shape) - len(ref.shape)
    strides = [0] * lead + [
        0 if have == 1 and want != 1 else stride
        for have, want, stride in zip(ref.shape, shape[lead:], ref.strides, strict=True)
    ]
    return ref._replace(shape=tuple(shape), strides=tuple(strides))


def _reshaped(
    shape: Sequence[int], strides: Sequence[int], new: Sequence[int]
) -> tuple[int, ...] | None:
    """Strides under another shape, None where the elements do not lie that way.

    Axes of both shapes are matched in groups of equal size; within a group the old axes must lie
    behind each other.
    """
    if math.prod(shape) == 0:
        return contiguous(new)
    old = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    found: list[int] = []
    k = 0
    i = 0
    while i < len(new):
        if new[i] == 1:
            found.append(0)
            i += 1
            continue
        size, j = new[i], i + 1
        count, end = old[k][0], k + 1
        while size != count:
            if size < count:
                size *= new[j]
                j += 1
            else:
                if old[end - 1][1] != old[end][0] * old[end][1]:
                    return None
                count *= old[end][0]
                end += 1
        step = old[end - 1][1]
        inner: list[int] = []
        for n in reversed(new[i:j]):
            inner.append(step if n != 1 else 0)
            step *= n
        found += reversed(inner)
        k, i = end, j
    return tuple(found)
