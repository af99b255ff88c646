"""Operations that move values, in dual pairs: each is the gradient of the other.

broadcast_to / sum_to, pad / slice; reshape, transpose and flip are their own duals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray, is_integer
from tinygrad_rnn.ops.promotion import cast
from tinygrad_rnn.tape import Primitive, register_conform

Axis: TypeAlias = "int | Sequence[int] | None"
"""One axis, several, or all of them for None."""


def dimensions(x: AnyArray, who: str) -> int:
    """How many axes x has, or one sentence on what it is if no array."""
    try:
        return x.ndim
    except AttributeError:
        kind = type(x).__name__
        raise TypeError(f"{who}: expected a Tensor or an array, got {kind}") from None


def normalise_axis(axis: int, x: AnyArray, who: str, new: int = 0) -> int:
    """An axis of x counted from the front, or one sentence on why there is no such axis.

    ``new`` says how many axes the result will have beyond those of x.
    """
    ndim = dimensions(x, who) + new
    if not is_integer(axis):
        got = f"a {type(axis).__name__}" if hasattr(axis, "shape") else repr(axis)
        raise TypeError(f"{who}: an axis must be an integer, got {got}")
    if not -ndim <= axis < ndim:
        raise IndexError(f"{who}: axis {axis} is out of range for {ndim} dimensions")
    return int(axis) % ndim


def normalise_axes(axis: Axis, x: AnyArray, who: str) -> tuple[int, ...]:
    """The axes of x named, counted from the front and sorted; all of them for None."""
    if axis is None:
        return tuple(range(dimensions(x, who)))
    given: Any = axis if isinstance(axis, tuple | list) else (axis,)
    axes = sorted(normalise_axis(a, x, who) for a in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{who}: axes {tuple(given)} name one axis twice")
    return tuple(axes)


def reduced_axes(axis: Axis, x: AnyArray, who: str) -> tuple[int, ...]:
    """The axes to be rid of: a single number has none, but is taken for 0 and -1 as in NumPy."""
    if is_integer(axis) and axis in (0, -1) and not dimensions(x, who):
        return ()
    return normalise_axes(axis, x, who)


def as_shape(shape: Any, who: str) -> tuple[int, ...]:
    """A number or a sequence of numbers as a shape."""
    sizes: Any = (shape,) if isinstance(shape, int | np.integer) else shape
    try:
        return tuple(int(size.__index__()) for size in sizes)
    except (TypeError, AttributeError):
        raise TypeError(f"{who}: a shape must be integers, got {shape!r}") from None


def accumulating(name: str) -> Callable[..., Array]:
    """``xp.<name>`` along axes, with float32 sums where x is float16, int64 for all integers."""

    def forward(xp: Any, x: Array, **where: Any) -> Array:
        function = getattr(xp, name)
        if x.dtype == np.float16:
            return function(x, dtype=np.float32, **where).astype(np.float16)
        return function(x, dtype=None if x.dtype.kind == "f" else np.int64, **where)

    return forward


sum_along = accumulating("sum")


# broadcast_to / sum_to


def _sum_to_forward(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    lead = x.ndim - len(shape)
    axes = tuple(range(lead)) + tuple(
        lead + k for k, size in enumerate(shape) if size == 1 and x.shape[lead + k] != 1
    )
    kept = tuple(1 if k in axes else size for k, size in enumerate(x.shape))
    if lead < 0 or kept[lead:] != shape:
        raise ValueError(f"sum_to: shape {shape} cannot have been broadcast to {tuple(x.shape)}")
    return sum_along(xp, x, axis=axes).reshape(shape)


broadcast_to_p = Primitive(
    "broadcast_to",
    lambda xp, x, shape: xp.broadcast_to(x, shape),
    [lambda g, y, x, shape: sum_to(g, x.shape)],
)
sum_to_p = Primitive("sum_to", _sum_to_forward, [lambda g, y, x, shape: broadcast_to(g, x.shape)])


def broadcast_to(x: A, shape: Any) -> A:
    """X repeated along new and size-one axes up to ``shape``."""
    return broadcast_to_p(x, shape=as_shape(shape, "broadcast_to"))


def sum_to(x: A, shape: Any) -> A:
    """X summed over the axes along which ``shape`` would be broadcast to that of x."""
    return sum_to_p(x, shape=as_shape(shape, "sum_to"))


def _conform(g: A, shape: tuple[int, ...], dtype: Any) -> A:
    """A cotangent in the shape and dtype of the value it belongs to."""
    if tuple(g.shape) != tuple(shape):
        g = sum_to(g, shape)
    return g if g.dtype == dtype else cast(g, dtype)


register_conform(_conform)


# reshape, transpose, flip

reshape_p = Primitive(
    "reshape",
    lambda xp, x, shape: x.reshape(shape),
    [lambda g, y, x, shape: reshape(g, x.shape)],
)
transpose_p = Primitive(
    "transpose",
    lambda xp, x, axes: x.transpose(axes),
    [lambda g, y, x, axes: transpose(g, [axes.index(k) for k in range(len(axes))])],
)
flip_p = Primitive(
    "flip", lambda xp, x, axis: xp.flip(x, axis), [lambda g, y, x, axis: flip(g, axis)]
)


def reshape(x: A, shape: Any) -> A:
    """The same values in row-major order under another shape; one size may be -1."""
    sizes = as_shape(shape, "reshape")
    dimensions(x, "reshape")
    if -1 in sizes:
        known = math.prod(size for size in sizes if size != -1)
        total = math.prod(x.shape)
        if sizes.count(-1) > 1 or known == 0 or total % known:
            raise ValueError(f"reshape: {tuple(x.shape)} does not fit into {sizes}")
        sizes = tuple(total // known if size == -1 else size for size in sizes)
    if math.prod(sizes) != math.prod(x.shape):
        raise ValueError(f"reshape: {tuple(x.shape)} does not fit into {sizes}")
    return reshape_p(x, shape=sizes)


def transpose(x: A, axes: Sequence[int] | None = None) -> A:
    """The axes in another order, by default reversed."""
    if axes is None:
        order = tuple(range(dimensions(x, "transpose")))[::-1]
    else:
        order = tuple(normalise_axis(a, x, "transpose") for a in axes)
        if sorted(order) != list(range(x.ndim)):
            raise ValueError(
                f"transpose: axes must name each of {x.ndim} axes once, got {tuple(axes)}"
            )
    return transpose_p(x, axes=order)


def swapaxes(x: A, axis1: int, axis2: int) -> A:
    """Two axes exchanged."""
    a, b = (normalise_axis(k, x, "swapaxes") for k in (axis1, axis2))
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return transpose_p(x, axes=tuple(order))


def moveaxis(x: A, source: int, destination: int) -> A:
    """One axis moved to another place, the others in their order."""
    a, b = (normalise_axis(k, x, "moveaxis") for k in (source, destination))
    order = [k for k in range(x.ndim) if k != a]
    order.insert(b, a)
    return transpose_p(x, axes=tuple(order))


def flip(x: A, axis: Axis = None) -> A:
    """The order of the values reversed along the given axes, by default all."""
    return flip_p(x, axis=normalise_axes(axis, x, "flip"))


def expand_dims(x: A, axis: int) -> A:
    """A new axis of size one at ``axis``."""
    k = normalise_axis(axis, x, "expand_dims", new=1)
    return reshape_p(x, shape=(*x.shape[:k], 1, *x.shape[k:]))


def squeeze(x: A, axis: Axis = None) -> A:
    """Axes of size one removed, by default all of them."""
    if axis is None:
        axes = tuple(k for k, size in enumerate(x.shape) if size == 1)
    else:
        axes = reduced_axes(axis, x, "squeeze")
    for k in axes:
        if x.shape[k] != 1:
            raise ValueError(f"squeeze: axis {k} has size {x.shape[k]}, not 1")
    return reshape_p(x, shape=tuple(size for k, size in enumerate(x.shape) if k not in axes))


# pad / tile

pad_p = Primitive(
    "pad",
    lambda xp, x, widths, value: xp.pad(x, widths, constant_values=value) if widths else x.copy(),
    [lambda g, y, x, widths, value: unpad_p(g, widths=widths)],
)
unpad_p = Primitive(
    "unpad",
    lambda xp, x, widths: x[
        tuple(slice(a, n - b) for (a, b), n in zip(widths, x.shape, strict=True))
    ],
    [lambda g, y, x, widths: pad_p(g, widths=widths, value=0)],
)


def pad(x: A, widths: Sequence[tuple[int, int]], value: float = 0) -> A:
    """``widths[k] = (before, after)`` elements of ``value`` added along each axis k."""
    ndim = dimensions(x, "pad")
    try:
        pairs = tuple((int(a), int(b)) for a, b in widths)
    except (TypeError, ValueError):
        raise TypeError(f"pad: expected {ndim} pairs (before, after), got {widths!r}") from None
    if len(pairs) != ndim or any(a < 0 or b < 0 for a, b in pairs):
        raise ValueError(f"pad: expected {ndim} pairs (before, after) of counts >= 0, got {pairs}")
    return pad_p(x, widths=pairs, value=value)


def tile(x: A, repeats: int | Sequence[int]) -> A:
    """X laid side by side ``repeats[k]`` times along each axis, as ``numpy.tile`` does."""
    counts = as_shape(repeats, "tile")
    ndim = max(len(counts), dimensions(x, "tile"))
    counts = (1,) * (ndim - len(counts)) + counts
    sizes = (1,) * (ndim - x.ndim) + tuple(x.shape)
    if any(count < 0 for count in counts):
        raise ValueError(f"tile: counts must be >= 0, got {counts}")
    pairs = [n for size in sizes for n in (1, size)]
    spread = [n for count, size in zip(counts, sizes, strict=True) for n in (count, size)]
    whole = tuple(count * size for count, size in zip(counts, sizes, strict=True))
    return reshape(broadcast_to(reshape(x, pairs), spread), whole)
