"""Several arrays made one and one made several, in dual pairs: concat / split, stack / unstack."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Never

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray
from tinygrad_rnn.ops.promotion import together
from tinygrad_rnn.ops.shaping import as_shape, dimensions, normalise_axis
from tinygrad_rnn.tape import Primitive


def _filled(gs: Sequence[Any], ys: Sequence[AnyArray]) -> list[AnyArray]:
    """Cotangents with zeros in place of those of results that nothing depends on."""
    return [zeros_like_p(y) if g is None else g for g, y in zip(gs, ys, strict=True)]


def _split_forward(xp: Any, x: Array, sizes: tuple[int, ...], axis: int) -> tuple[Array, ...]:
    before = (slice(None),) * axis
    parts: list[Array] = []
    start = 0
    for size in sizes:
        parts.append(x[(*before, slice(start, start + size))])
        start += size
    return tuple(parts)


def _concat_rule(
    needed: Any, gs: Sequence[Any], ys: Any, *xs: AnyArray, axis: int
) -> Sequence[AnyArray]:
    return split_p(gs[0], sizes=tuple(x.shape[axis] for x in xs), axis=axis)


def _concat_forward(xp: Any, *xs: Array, axis: int) -> Array:
    return xp.concatenate(xs, axis=axis)


def _stack_rule(
    needed: Any, gs: Sequence[Any], ys: Any, *xs: AnyArray, axis: int
) -> Sequence[AnyArray]:
    return unstack(gs[0], axis)


def _stack_forward(xp: Any, *xs: Array, axis: int) -> Array:
    return xp.stack(xs, axis=axis)


zeros_like_p = Primitive("zeros_like", lambda xp, x: xp.zeros_like(x), [None])
concat_p = Primitive("concat", _concat_forward, joint_rule=_concat_rule, promote=together)
split_p = Primitive(
    "split",
    _split_forward,
    joint_rule=lambda needed, gs, ys, x, sizes, axis: [concat(_filled(gs, ys), axis)],
    multiple=True,
)
stack_p = Primitive("stack", _stack_forward, joint_rule=_stack_rule, promote=together)
unstack_p = Primitive(
    "unstack",
    lambda xp, x, axis: tuple(x[(slice(None),) * axis + (k,)] for k in range(x.shape[axis])),
    joint_rule=lambda needed, gs, ys, x, axis: [stack(_filled(gs, ys), axis)],
    multiple=True,
)


def concat(xs: Sequence[A], axis: int = 0) -> A:
    """Arrays joined along an existing axis; the other sizes must agree."""
    xs = _several(xs, "concat")
    k = normalise_axis(axis, xs[0], "concat")
    for x in xs:
        if x.ndim != xs[0].ndim or any(
            a != b for j, (a, b) in enumerate(zip(x.shape, xs[0].shape, strict=True)) if j != k
        ):
            shapes = ", ".join(str(tuple(x.shape)) for x in xs)
            raise ValueError(f"concat: shapes must agree except along axis {k}, got {shapes}")
    return concat_p(*xs, axis=k)


def split(
    x: A,
    *places: Never,
    parts: int | None = None,
    sizes: Sequence[int] | None = None,
    axis: int = -1,
) -> tuple[A, ...]:
    """X cut along an axis into so many equal ``parts``, or into parts of the given ``sizes``.

    What is wanted is said by name: in PyTorch ``split(x, 2)`` are chunks of 2 along axis 0, in
    NumPy two parts.
    """
    if places:
        raise TypeError(_two_readings(*places))
    if (parts is None) == (sizes is None):
        raise TypeError("split: give parts= or sizes=, one of the two")
    k = normalise_axis(axis, x, "split")
    size = x.shape[k]
    if sizes is None:
        count = _count(parts, "split", "parts")
        if size % count:
            raise ValueError(f"split: axis {k} of size {size} has no {count} equal parts")
        return split_p(x, sizes=(size // count,) * count, axis=k)
    found = as_shape(sizes, "split")
    if sum(found) != size or any(part < 0 for part in found):
        raise ValueError(f"split: sizes {found} do not add up to {size}, the size of axis {k}")
    return split_p(x, sizes=found, axis=k)


def _two_readings(second: Any, axis: Any = None, *more: Any) -> str:
    """Why split does not guess what its second argument means where it has no name."""
    place = "" if axis is None else f", {axis!r}"
    there, here = (0, -1) if axis is None else (axis, axis)
    said = f"split: split(x, {second!r}{place}) cuts into"
    if isinstance(second, int | np.integer):
        return (
            f"{said} chunks of {second} along axis {there} in PyTorch; write split(x, "
            f"parts={second}, axis={here}) for {second} equal parts, or sizes=[...]"
        )
    return (
        f"{said} parts of these sizes along axis {there} in PyTorch; write split(x, "
        f"sizes={second!r}, axis={there}) for that, or axis=-1 for the last axis"
    )


def _count(number: Any, who: str, name: str) -> int:
    if isinstance(number, bool) or not hasattr(number, "__index__") or number < 1:
        raise ValueError(f"{who}: {name} must be a positive integer, got {number!r}")
    return number.__index__()


def chunk(x: A, chunks: int, axis: int = 0) -> tuple[A, ...]:
    """X cut along an axis into parts of ceil(size / chunks), the last of them smaller.

    They may be fewer than ``chunks``: 5 entries give 2, 2 and 1 for 3 and for 4 chunks.
    """
    k = normalise_axis(axis, x, "chunk")
    count, size = _count(chunks, "chunk", "chunks"), x.shape[k]
    if size == 0:
        return split_p(x, sizes=(0,) * count, axis=k)
    each = -(-size // count)
    rest = (size % each,) if size % each else ()
    return split_p(x, sizes=(each,) * (size // each) + rest, axis=k)


def stack(xs: Sequence[A], axis: int = 0) -> A:
    """Arrays of one shape joined along a new axis."""
    xs = _several(xs, "stack")
    k = normalise_axis(axis, xs[0], "stack", new=1)
    if any(tuple(x.shape) != tuple(xs[0].shape) for x in xs):
        shapes = ", ".join(str(tuple(x.shape)) for x in xs)
        raise ValueError(f"stack: shapes must be equal, got {shapes}")
    return stack_p(*xs, axis=k)


def unstack(x: A, axis: int = 0) -> tuple[A, ...]:
    """The slices of x along an axis, which disappears."""
    return unstack_p(x, axis=normalise_axis(axis, x, "unstack"))


def _several(xs: Sequence[A], who: str) -> Sequence[A]:
    if not isinstance(xs, list | tuple) or not xs:
        what = "an empty one" if isinstance(xs, list | tuple) else f"a {type(xs).__name__}"
        raise TypeError(f"{who}: expected a list or tuple of Tensors, got {what}")
    for x in xs:
        dimensions(x, who)
    return xs
