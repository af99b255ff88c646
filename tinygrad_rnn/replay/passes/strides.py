"""Views as strides: slice, transpose, reshape and broadcast_to of a Ref, without a copy, and where
the parts of a concat lie in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.passes.plain import SLICE
from tinygrad_rnn.replay.program.loop import Ref
from tinygrad_rnn.replay.program.program import Op
from tinygrad_rnn.replay.program.verify import PassError, verified
from tinygrad_rnn.replay.program.verify_loop import elements


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in elements."""
    return tuple(math.prod(shape[k + 1 :]) for k in range(len(shape)))


def _verify_view(found: Ref | None, op: Op, ref: Ref) -> None:
    if found is not None:
        _verify_places(found, ref, op.primitive.forward(np, elements(ref), **op.params))


def _verify_part(found: Ref, op: Op, ref: Ref, k: int) -> None:
    axis: int = op.params["axis"]
    ends = np.cumsum([x.shape[axis] for x in op.values()])
    _verify_places(found, ref, np.split(elements(ref), ends, axis)[k])


def _verify_spread(found: Ref, ref: Ref, shape: Sequence[int]) -> None:
    if found != ref or ref.shape != shape:
        _verify_places(found, ref, np.broadcast_to(elements(ref), shape))


def _verify_places(found: Ref, ref: Ref, wanted: np.ndarray) -> None:
    """The elements are those that NumPy gives of the places of all of them."""
    if found[:2] != ref[:2] or not np.array_equal(elements(found), wanted):
        raise PassError(f"{found} is not what is wanted of {ref}")


@verified(_verify_view)
def viewed(op: Op, ref: Ref) -> Ref | None:
    """What a view op makes of a Ref, None where that would take a copy."""
    shape = op.outputs[0].shape
    if op.primitive is SLICE:
        return _cut(ref, op.params["axis"], op.params["start"], shape)
    if op.primitive is P.transpose:
        axes: tuple[int, ...] = op.params["axes"]
        return ref._replace(shape=shape, strides=tuple(ref.strides[a] for a in axes))
    if op.primitive is P.broadcast_to:
        return spread(ref, shape)
    strides = _reshaped(ref.shape, ref.strides, shape)
    return None if strides is None else ref._replace(shape=shape, strides=strides)


@verified(_verify_part)
def joined(op: Op, ref: Ref, k: int) -> Ref:
    """Where part ``k`` of a concat lies in it."""
    axis: int = op.params["axis"]
    parts = [*op.values()]
    return _cut(ref, axis, sum(x.shape[axis] for x in parts[:k]), parts[k].shape)


def _cut(ref: Ref, axis: int, start: int, shape: tuple[int, ...]) -> Ref:
    return ref._replace(shape=shape, offset=ref.offset + start * ref.strides[axis])


@verified(_verify_spread)
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
