"""The rows of indexing and of losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_rows import (
    ANY,
    Example,
    any_shape,
    around,
    below,
    condition,
    drawn,
    either_sign,
    listed,
    one,
    real,
    row,
    unique,
)

from tinygrad_rnn import ops


@drawn(one((3, 4), index=(slice(None, None, -2), None, -1)))
def basic_index(draw: Any) -> Example:
    shape = draw(any_shape())
    return one(shape, index=draw(hnp.basic_indices(shape, allow_newaxis=True)))


def indexed(shape: tuple[int, ...], index: tuple[Any, ...], *arrays: Any) -> Example:
    """An index in which the letters "a", "b" stand for arrays given as (shape, domain)."""
    return Example(
        (shape, *(a[0] for a in arrays)), (real, *(a[1] for a in arrays)), {"index": index}
    )


def writing(shape: tuple[int, ...], index: Any, values: tuple[int, ...], *arrays: Any) -> Example:
    """The same with values to write at the index."""
    return Example(
        (shape, values, *(a[0] for a in arrays)),
        (real, real, *(a[1] for a in arrays)),
        {"index": index},
    )


def with_arrays(index: Any, arrays: Sequence[Any]) -> Any:
    """The index with its letters replaced."""
    if not isinstance(index, tuple):
        return index
    filled = tuple(arrays["ab".index(i)] if isinstance(i, str) else i for i in index)
    return filled[0] if len(filled) == 1 else filled


ALL = slice(None)
ARRAY_INDICES = listed(
    indexed((4, 3), ("a",), ((5,), around(4))),
    indexed((4, 3), (ALL, "a"), ((2, 2), around(3))),
    indexed((4, 3), ("a", "b"), ((2, 1), around(4)), ((3,), around(3))),
    indexed((4, 3, 2), ("a", ALL, "b"), ((3,), around(4)), ((3,), around(2))),
    indexed((4, 3, 2), ("a", slice(None, None, -1), 1), ((3,), around(4))),
    indexed((4, 3, 2), (..., "a"), ((3,), around(2))),
    indexed((4, 3), (None, "a", slice(1, None)), ((2,), around(4))),
    indexed((4, 3), ("a",), ((4,), condition)),
    indexed((4, 3), ("a",), ((4, 3), condition)),
    indexed((4, 3), (2, "a"), ((3,), condition)),
    indexed((4, 3), ("a",), ((0,), below(4))),
    indexed((4,), ("a",), ((), around(4))),
)
PLACES = listed(
    Example(((5, 2), (5,)), (real, below(3)), {"index": ("a",), "shape": (3, 2)}),
    Example(((2, 2), (2,)), (real, below(3)), {"index": (ALL, "a"), "shape": (2, 3)}),
    Example(((2,),), (real,), {"index": (slice(None, None, 2), 1), "shape": (3, 2)}),
    Example(((),), (real,), {"index": (-1, 1), "shape": (3, 2)}),
)
WRITES = listed(
    writing((4, 3), ("a",), (3,), ((2,), unique(4))),
    writing((4, 3), (slice(None, None, -2),), (2, 1)),
    writing((4, 3), (1, -1), ()),
    writing((4, 3), (..., "a"), (4, 2), ((2,), unique(3))),
    writing((4, 3), ("a",), (), ((4, 3), condition)),
    writing((4, 3), ("a", "b"), (3,), ((3,), unique(4)), ((3,), unique(3))),
    writing((0, 3), (ALL,), (3,)),
)
ADDITIONS = listed(
    writing((4, 3), ("a",), (6, 3), ((6,), below(4))),
    writing((4, 3), (ALL, "a"), (), ((2, 2), around(3))),
    writing((4, 3), (slice(1, 3),), (3,)),
    writing((4, 3), ("a",), (1,), ((4,), condition)),
)


@drawn(Example(((4, 3), (2, 5)), (real, below(4)), {"axis": 0}))
def taking(draw: Any) -> Example:
    shape = draw(any_shape(1))
    k = draw(st.integers(0, len(shape) - 1))
    shape = (*shape[:k], draw(st.integers(1, 4)), *shape[k + 1 :])
    indices = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    axis = either_sign(draw, k, len(shape))
    return Example((shape, indices), (real, below(shape[k])), {"axis": axis})


@drawn(Example(((2, 3, 4), (2, 3)), (real, below(5)), {"rows": 5}))
def scattering(draw: Any) -> Example:
    indices = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4))
    rest = draw(hnp.array_shapes(min_dims=0, max_dims=1, min_side=0, max_side=2))
    rows = draw(st.integers(1, 4))
    return Example(((*indices, *rest), indices), (real, below(rows)), {"rows": rows})


@drawn(Example(((2, 3, 4), (2, 3)), (real, below(4))))
def labelled(draw: Any) -> Example:
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    classes = draw(st.integers(1, 4))
    return Example(((*lead, classes), lead), (real, below(classes)))


@drawn(Example(((2, 3),), (below(4),), {"classes": 4}))
def labels_alone(draw: Any) -> Example:
    classes = draw(st.integers(1, 4))
    return Example((draw(any_shape()),), (below(classes),), {"classes": classes})


def _scatter_add(values: np.ndarray, indices: np.ndarray, rows: int) -> np.ndarray:
    return _place(values, indices, index=("a",), shape=(rows, *values.shape[indices.ndim :]))


def _place(g: np.ndarray, *arrays: np.ndarray, index: Any, shape: Any) -> np.ndarray:
    return _add_at(np.zeros(shape, g.dtype), g, *arrays, index=index)


def _add_at(x: np.ndarray, values: np.ndarray, *arrays: np.ndarray, index: Any) -> np.ndarray:
    out = x.copy()
    np.add.at(out, with_arrays(index, arrays), values)
    return out


def _write(x: np.ndarray, values: np.ndarray, *arrays: np.ndarray, index: Any) -> np.ndarray:
    out = x.copy()
    out[with_arrays(index, arrays)] = values
    return out


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picked = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return np.log(np.sum(np.exp(logits), axis=-1)) - picked


INDEX_CASES = [
    # Indexing
    row(
        "getitem",
        lambda x, index: ops.getitem(x, index),
        lambda x, index: x[index],
        basic_index,
        ANY,
        covers=("getitem", "place"),
    ),
    row(
        "getitem, arrays",
        lambda x, *arrays, index: ops.getitem(x, with_arrays(index, arrays)),
        lambda x, *arrays, index: x[with_arrays(index, arrays)],
        ARRAY_INDICES,
        covers=("getitem", "place"),
        reads_host=True,
    ),
    row(
        "place",
        lambda g, *arrays, index, shape: ops.place(g, with_arrays(index, arrays), shape),
        _place,
        PLACES,
        covers=("place", "getitem"),
        reads_host=True,
    ),
    row(
        "take",
        ops.take,
        lambda x, i, axis: np.take(x, i, axis),
        taking,
        covers=("take", "scatter_add"),
        reads_host=True,
    ),
    row(
        "scatter_add",
        ops.scatter_add,
        _scatter_add,
        scattering,
        covers=("scatter_add", "take"),
        reads_host=True,
    ),
    row(
        "scatter",
        lambda x, v, *arrays, index: ops.scatter(x, with_arrays(index, arrays), v),
        _write,
        WRITES,
        covers=("at.set",),
        reads_host=True,
    ),
    row(
        "at add",
        lambda x, v, *arrays, index: ops.At(x)[with_arrays(index, arrays)].add(v),
        _add_at,
        ADDITIONS,
        covers=("place",),
        reads_host=True,
    ),
    # Losses
    row(
        "cross_entropy",
        ops.cross_entropy,
        _cross_entropy,
        labelled,
        covers=("cross_entropy", "cross_entropy_cotangent"),
        reads_host=True,
    ),
    row(
        "one_hot",
        ops.one_hot,
        lambda labels, classes: np.eye(classes, dtype=np.float32)[labels],
        labels_alone,
        order=0,
        reads_host=True,
    ),
]
