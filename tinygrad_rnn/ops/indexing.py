"""Reading by index. ``getitem`` and ``place`` are duals, as are ``take`` and ``scatter_add``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from tinygrad_rnn.backends import Array, backend_of
from tinygrad_rnn.ops.arrays import A, AnyArray, raw
from tinygrad_rnn.ops.joining import concat
from tinygrad_rnn.ops.ranges import check_range
from tinygrad_rnn.ops.shaping import dimensions, normalise_axis, reshape
from tinygrad_rnn.ops.templates import (
    ArraySlot,
    Template,
    check_template,
    filled,
    names_twice,
    split_index,
)
from tinygrad_rnn.tape import Deferred, Primitive


def _getitem_forward(xp: Any, x: Array, *arrays: Array, template: Template) -> Array:
    check_template(x, template, arrays, "getitem")
    return x[filled(template, arrays)]


def _place_forward(
    xp: Any, *inputs: Array, shape: tuple[int, ...], dtype: Any, templates: tuple[Template, ...]
) -> Array:
    out = xp.zeros(shape, dtype=dtype)
    for template, g, arrays in _parts(templates, inputs):
        index = filled(template, arrays)
        if names_twice(template, arrays):
            check_template(out, template, arrays, "place")
            backend_of(out).scatter_add(out, index, g)
        else:
            out[index] += g
    return out


def _parts(
    templates: Sequence[Template], inputs: Sequence[Any]
) -> Iterator[tuple[Template, Any, list[Any]]]:
    """Each template with the value and the index arrays that belong to it."""
    items = iter(inputs)
    for template in templates:
        count = sum(isinstance(t, ArraySlot) for t in template)
        yield template, next(items), [*islice(items, count)]


def _place_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[AnyArray],
    *inputs: AnyArray,
    shape: tuple[int, ...],
    dtype: Any,
    templates: tuple[Template, ...],
) -> list[Any]:
    cotangents: list[Any] = []
    for template, _, arrays in _parts(templates, inputs):
        want = needed[len(cotangents)]
        cotangents.append(getitem_p(gs[0], *arrays, template=template) if want else None)
        cotangents.extend([None] * len(arrays))
    return cotangents


def _place_all(shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any, ...]]) -> AnyArray:
    """Zeros of ``shape`` with every part ``(g, template, *arrays)`` added at its index."""
    inputs = [item for g, _, *arrays in parts for item in (g, *arrays)]
    templates = tuple(part[1] for part in parts)
    return place_p(*inputs, shape=shape, dtype=dtype, templates=templates)


def _getitem_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Any,
    x: AnyArray,
    *arrays: AnyArray,
    template: Template,
) -> list[Any]:
    return [Deferred(_place_all, gs[0], template, *arrays), *[None] * len(arrays)]


getitem_p = Primitive("getitem", _getitem_forward, joint_rule=_getitem_rule)
place_p = Primitive("place", _place_forward, joint_rule=_place_rule)


def getitem(x: A, index: Any) -> A:
    """``x[index]`` as NumPy reads it; the gradient of an element read twice counts twice."""
    template, arrays = split_index(x, index, "getitem")
    return getitem_p(x, *arrays, template=template)


def place(g: A, index: Any, shape: tuple[int, ...]) -> A:
    """Zeros of ``shape`` to which ``g`` is added at ``index``: the dual of getitem."""
    template, arrays = split_index(g, index, "place")
    return place_p(g, *arrays, shape=tuple(shape), dtype=raw(g).dtype, templates=(template,))


def _take_forward(xp: Any, x: Array, indices: Array) -> Array:
    check_range(indices, x.shape[0], "take")
    return x[indices]


def _scatter_forward(xp: Any, values: Array, indices: Array, rows: int) -> Array:
    out = xp.zeros((rows, *values.shape[indices.ndim :]), dtype=values.dtype)
    backend_of(out).scatter_add(out, indices, values)
    return out


take_p = Primitive(
    "take", _take_forward, [lambda g, y, x, indices: Deferred(_scatter_rows, indices, g), None]
)
scatter_add_p = Primitive(
    "scatter_add",
    _scatter_forward,
    [lambda g, y, values, indices, rows: take_p(g, indices), None],
)


def _scatter_rows(shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any, Any]]) -> AnyArray:
    """The gradient of the rows that were taken: one sum over every place where they were."""
    if len(parts) == 1:
        ((indices, g),) = parts
    else:
        indices = concat([reshape(i, (i.size,)) for i, _ in parts])
        g = concat([reshape(g, (i.size, *shape[1:])) for i, g in parts])
    return scatter_add_p(g, indices, rows=shape[0])


def take(x: A, indices: Any, axis: int | None = None) -> A:
    """The entries of x along ``axis`` at integer ``indices`` (of any shape), 0 <= index < size.

    Only a vector needs no ``axis``: of anything else NumPy and PyTorch would take from the values
    as one long row.
    """
    if axis is None and dimensions(x, "take") != 1:
        raise TypeError(
            f"take: x has shape {tuple(x.shape)}; write take(x, indices, axis=0) for its rows, or "
            "take(reshape(x, -1), indices) for single values, as NumPy and PyTorch read it"
        )
    k = normalise_axis(0 if axis is None else axis, x, "take")
    template, arrays = split_index(x, (slice(None),) * k + (indices,), "take")
    if arrays and raw(arrays[0]).dtype.kind != "b":
        if k == 0:
            return take_p(x, arrays[0])
        check_range(raw(arrays[0]), x.shape[k], "take")
    return getitem_p(x, *arrays, template=template)


def scatter_add(values: A, indices: A, rows: int) -> A:
    """Zeros of ``rows`` rows to which ``values[k]`` is added at row ``indices[k]``."""
    check_range(raw(indices), rows, "scatter_add")
    return scatter_add_p(values, indices, rows=rows)
