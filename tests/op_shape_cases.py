"""The rows of shaping and products."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_rows import (
    ANY,
    NUMBERS,
    Example,
    along,
    any_axes,
    any_shape,
    drawn,
    either_sign,
    listed,
    one,
    real,
    row,
)

from tinygrad_rnn import ops


@drawn(one((1, 3), shape=(2, 4, 3)))
def broadcasting(draw: Any) -> Example:
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=1, min_side=0, max_side=3, max_dims=3)
    )
    lead = draw(st.lists(st.integers(0, 2), max_size=1))
    (small,) = shapes.input_shapes
    full = tuple(draw(st.integers(0, 3)) if n == 1 else n for n in small)
    return one(small, shape=(*lead, *full))


@drawn(one((2, 4, 3), shape=(1, 3)))
def summing(draw: Any) -> Example:
    shape = draw(any_shape())
    lead = draw(st.integers(0, len(shape)))
    return one(shape, shape=tuple(draw(st.sampled_from((1, n))) for n in shape[lead:]))


@drawn(one((2, 6), shape=(3, -1, 2)))
def reshaping(draw: Any) -> Example:
    sizes = draw(st.lists(st.integers(0, 3), max_size=3))
    target = draw(st.permutations(sizes))
    if target and math.prod(sizes) and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return one(tuple(sizes), shape=tuple(target))


@drawn(one((2, 3, 4), axes=(2, 0, -2)))
def permuting(draw: Any) -> Example:
    shape = draw(any_shape())
    order = draw(st.permutations(range(len(shape))))
    axes = tuple(either_sign(draw, k, len(shape)) for k in order)
    return one(shape, axes=draw(st.sampled_from((None, axes))))


@drawn(one((2, 3, 4), a=0, b=-1))
def two_axes(draw: Any) -> Example:
    shape = draw(any_shape(1))
    axis = st.integers(-len(shape), len(shape) - 1)
    return one(shape, a=draw(axis), b=draw(axis))


@drawn(one((2, 3), axis=(0, -1)))
def some_axes(draw: Any) -> Example:
    shape = draw(any_shape())
    return one(shape, axis=any_axes(draw, len(shape)))


@drawn(one((2, 3), axis=-2))
def new_axis(draw: Any) -> Example:
    shape = draw(any_shape())
    return one(shape, axis=draw(st.integers(-len(shape) - 1, len(shape))))


@drawn(one((1, 3, 1), axis=-1))
def unit_axes(draw: Any) -> Example:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=2))
    units = [k for k, n in enumerate(shape) if n == 1]
    if not units or draw(st.booleans()):
        return one(shape, axis=None)
    return one(shape, axis=either_sign(draw, draw(st.sampled_from(units)), len(shape)))


@drawn(Example(((2, 1, 3), (2, 2, 3), (2, 0, 3)), (real,) * 3, {"axis": -2}))
def joining(draw: Any) -> Example:
    shape = draw(any_shape(1))
    k = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    shapes = tuple((*shape[:k], n, *shape[k + 1 :]) for n in sizes)
    return Example(shapes, (real,) * len(sizes), {"axis": either_sign(draw, k, len(shape))})


@drawn(Example(((2, 3),) * 3, (real,) * 3, {"axis": -1}))
def piling(draw: Any) -> Example:
    shape = draw(any_shape())
    count = draw(st.integers(1, 3))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Example((shape,) * count, (real,) * count, {"axis": axis})


@drawn(one((2, 6), sizes=(1, 0, 5), axis=-1))
def cutting(draw: Any) -> Example:
    shape = draw(any_shape(1))
    k = draw(st.integers(0, len(shape) - 1))
    if draw(st.booleans()):
        parts = draw(st.integers(1, 3))
        size, cut = parts * draw(st.integers(0, 2)), {"parts": parts}
    else:
        sizes = tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)))
        size, cut = sum(sizes), {"sizes": sizes}
    shape = (*shape[:k], size, *shape[k + 1 :])
    return one(shape, **cut, axis=either_sign(draw, k, len(shape)))


@drawn(one((2, 3), widths=((1, 0), (0, 2)), value=0.5))
def padding(draw: Any) -> Example:
    shape = draw(any_shape())
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return one(shape, widths=tuple(draw(pair) for _ in shape), value=draw(st.sampled_from((0, 2))))


@drawn(one((2, 3), repeats=(2, 1, 2)))
def tiling(draw: Any) -> Example:
    counts = st.lists(st.integers(0, 2), max_size=3).map(tuple)
    return one(draw(any_shape()), repeats=draw(counts | st.integers(0, 2)))


@drawn(Example(((3, 1, 2, 3), (2, 3, 4)), (real, real)))
def multiplying(draw: Any) -> Example:
    shapes = draw(
        hnp.mutually_broadcastable_shapes(
            signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3
        )
    )
    return Example(tuple(shapes.input_shapes), (real, real))


@drawn(Example(((2, 3, 4), (5, 4), (5,)), (real,) * 3))
def affine(draw: Any) -> Example:
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    inputs, outputs = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    shapes = ((*lead, inputs), (outputs, inputs), (outputs,))[: draw(st.sampled_from((2, 3)))]
    return Example(shapes, (real,) * len(shapes))


def contraction(equation: str, *shapes: tuple[int, ...]) -> Example:
    return Example(shapes, (real,) * len(shapes), {"equation": equation})


def _sum_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    lead = x.ndim - len(shape)
    kept = tuple(k + lead for k, n in enumerate(shape) if n == 1)
    return np.sum(x, axis=tuple(range(lead)) + kept).reshape(shape)


def _split(x: np.ndarray, axis: int, parts: int = 1, sizes: Any = ()) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1] if sizes else parts, axis)


def _chunk(x: np.ndarray, chunks: int, axis: int) -> list[np.ndarray]:
    size = x.shape[axis]
    each = -(-size // chunks)
    return np.split(x, range(each, size, each) if size else chunks, axis)


SHAPE_CASES = [
    # Shaping
    row("broadcast_to", ops.broadcast_to, np.broadcast_to, broadcasting, ANY),
    row("sum_to", ops.sum_to, _sum_to, summing, NUMBERS),
    row("reshape", ops.reshape, lambda x, shape: np.reshape(x, shape), reshaping, ANY),
    row("transpose", ops.transpose, np.transpose, permuting, ANY),
    row(
        "swapaxes",
        lambda x, a, b: ops.swapaxes(x, a, b),
        lambda x, a, b: np.swapaxes(x, a, b),
        two_axes,
        ANY,
        covers=("transpose",),
    ),
    row(
        "moveaxis",
        lambda x, a, b: ops.moveaxis(x, a, b),
        lambda x, a, b: np.moveaxis(x, a, b),
        two_axes,
        ANY,
        covers=("transpose",),
    ),
    row("flip", ops.flip, np.flip, some_axes, ANY),
    row("expand_dims", ops.expand_dims, np.expand_dims, new_axis, ANY, covers=("reshape",)),
    row("squeeze", ops.squeeze, np.squeeze, unit_axes, ANY, covers=("reshape",)),
    row(
        "concat",
        lambda *xs, axis: ops.concat(xs, axis),
        lambda *xs, axis: np.concatenate(xs, axis),
        joining,
        ANY,
        covers=("concat", "split"),
    ),
    row(
        "stack",
        lambda *xs, axis: ops.stack(xs, axis),
        lambda *xs, axis: np.stack(xs, axis),
        piling,
        ANY,
        covers=("stack", "unstack"),
    ),
    row("split", ops.split, _split, cutting, ANY, covers=("split", "concat", "zeros_like")),
    row(
        "chunk",
        ops.chunk,
        _chunk,
        listed(
            one((5, 2), chunks=3, axis=0),
            one((2, 7), chunks=5, axis=-1),
            one((3, 1), chunks=4, axis=0),
            one((2, 0), chunks=2, axis=1),
        ),
        ANY,
        covers=("split", "concat", "zeros_like"),
    ),
    row(
        "unstack",
        ops.unstack,
        lambda x, axis: list(np.moveaxis(x, axis, 0)),
        along(real, 1),
        ANY,
        covers=("unstack", "stack"),
    ),
    row(
        "pad",
        ops.pad,
        lambda x, widths, value: np.pad(x, widths, constant_values=value) if x.ndim else x,
        padding,
        NUMBERS,
        covers=("pad", "unpad"),
    ),
    row("tile", ops.tile, lambda x, repeats: np.tile(x, repeats), tiling, ANY, covers=("reshape",)),
    # Products
    row("matmul", ops.matmul, np.matmul, multiplying, NUMBERS),
    row(
        "linear",
        ops.linear,
        lambda x, w, b=0: x @ w.T + b,
        affine,
    ),
    row(
        "outer",
        ops.outer,
        np.outer,
        listed(Example(((3,), (2,)), (real, real)), Example(((0,), (2,)), (real, real))),
        covers=(),
    ),
    row(
        "einsum",
        lambda *xs, equation: ops.einsum(equation, *xs),
        lambda *xs, equation: np.einsum(equation, *xs),
        listed(
            contraction("tbi,oi->tbo", (2, 3, 4), (5, 4)),
            contraction("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
            contraction("ij,ij", (2, 3), (2, 3)),
            contraction("bi, bj -> bij", (2, 3), (2, 2)),
            contraction("ij->ji", (2, 3)),
            contraction("ijk->j", (2, 3, 2)),
            contraction("i,j->", (2,), (3,)),
            contraction("ij,k->i", (2, 3), (4,)),
            contraction("ij,jk->ik", (2, 0), (0, 3)),
            contraction(",i->i", (), (3,)),
        ),
    ),
]
