"""Reading and writing by index. ``getitem`` and ``place`` are duals, as are ``take`` and
``scatter_add``.

An index is split into a template and its arrays, so that index arrays are ordinary inputs of the
tape: ``x[2, :, i]`` has the template ``(2, slice(None), ArraySlot(0))`` and the array ``i``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinygrad_rnn.backends import Array, as_array, backend_of, device_of, find_backend
from tinygrad_rnn.ops import promotion
from tinygrad_rnn.ops.joining import concat
from tinygrad_rnn.ops.shaping import broadcast_to, dimensions, normalise_axis, reshape
from tinygrad_rnn.tape import Deferred, Primitive, Traced


class ArraySlot(NamedTuple):
    """The place of the k-th index array in a template."""

    k: int

    def __repr__(self) -> str:
        return f"array {self.k}"


Template = tuple[Any, ...]


def _raw(value: Any) -> Any:
    return value.array if isinstance(value, Traced) else value


def _bound(value: Any) -> int | None:
    return None if value is None else value.__index__()


def _is_array(item: Any) -> bool:
    """Whether an item of an index is an array. NumPy's scalars count as numbers."""
    if isinstance(item, Traced):
        return True
    return find_backend(item) is not None and not isinstance(item, np.generic)


def _split_index(x: Array, index: Any, who: str) -> tuple[Template, list[Array]]:
    template: list[Any] = []
    arrays: list[Array] = []
    for item in cast("tuple[Any, ...]", index if isinstance(index, tuple) else (index,)):
        if isinstance(item, list):
            item = backend_of(_raw(x)).from_host(
                np.asarray(item, dtype=None if item else np.intp), device_of(_raw(x))
            )
        if isinstance(item, slice):
            bounds = cast("slice[Any, Any, Any]", item)
            template.append(slice(*map(_bound, (bounds.start, bounds.stop, bounds.step))))
        elif item is None or item is Ellipsis:
            template.append(item)
        elif _is_array(item):
            dtype = _raw(item).dtype
            if dtype.kind not in "iub":
                raise IndexError(f"{who}: an index must be integer or boolean, got {dtype}")
            template.append(ArraySlot(len(arrays)))
            arrays.append(item)
        elif isinstance(item, bool | np.bool_):
            template.append(bool(cast("Any", item)))
        elif hasattr(item, "__index__"):
            template.append(item.__index__())
        else:
            raise IndexError(
                f"{who}: an index is made of integers, slices, ..., None and integer or boolean "
                f"arrays, got {type(item).__name__}"
            )
    return tuple(template), arrays


def _fill(template: Template, arrays: Sequence[Array]) -> Any:
    """The index that NumPy understands."""
    index = tuple(arrays[t.k] if isinstance(t, ArraySlot) else t for t in template)
    return index[0] if len(index) == 1 else index


def check_range(
    index: Array,
    size: int,
    who: str,
    lowest: int = 0,
    names: tuple[str, str] = ("index", "entries"),
) -> None:
    """Raise IndexError unless lowest <= index < size everywhere.

    On a GPU this reads two numbers back, because an index out of range would wrap silently there.
    """
    backend = backend_of(index)
    if index.size == 0:
        return
    ends = backend.xp.stack([backend.xp.min(index), backend.xp.max(index)])
    low, high = (int(end) for end in backend.to_host(ends))
    if low < lowest or high >= size:
        bad = low if low < lowest else high
        one, all_ = names
        raise IndexError(f"{who}: {one} {bad} is out of range for {size} {all_}")


def _check_template(x: Array, template: Template, arrays: Sequence[Array], who: str) -> None:
    """The range check of integer index arrays where the backend itself makes none."""
    if not arrays or backend_of(x).checks_indices:
        return
    axis = 0
    consumed = sum(
        arrays[t.k].ndim if isinstance(t, ArraySlot) and arrays[t.k].dtype.kind == "b" else 1
        for t in template
        if t is not None and t is not Ellipsis and not isinstance(t, bool)
    )
    for t in template:
        if t is Ellipsis:
            axis += x.ndim - consumed
        elif isinstance(t, ArraySlot) and arrays[t.k].dtype.kind == "b":
            axis += arrays[t.k].ndim
        elif isinstance(t, ArraySlot):
            if axis < x.ndim:
                check_range(arrays[t.k], x.shape[axis], who, lowest=-x.shape[axis])
            axis += 1
        elif t is not None and not isinstance(t, bool):
            axis += 1


def _repeats(template: Template, arrays: Sequence[Array]) -> bool:
    """Whether the index can name an element twice, which needs an integer array."""
    return any(arrays[t.k].dtype.kind in "iu" for t in template if isinstance(t, ArraySlot))


# Reading


def _getitem_forward(xp: Any, x: Array, *arrays: Array, template: Template) -> Array:
    _check_template(x, template, arrays, "getitem")
    return x[_fill(template, arrays)]


def _place_forward(
    xp: Any, *inputs: Array, shape: tuple[int, ...], dtype: Any, templates: tuple[Template, ...]
) -> Array:
    out = xp.zeros(shape, dtype=dtype)
    position = 0
    for template in templates:
        count = sum(isinstance(t, ArraySlot) for t in template)
        g, *arrays = inputs[position : position + 1 + count]
        index = _fill(template, arrays)
        if _repeats(template, arrays):
            _check_template(out, template, arrays, "place")
            backend_of(out).scatter_add(out, index, g)
        else:
            out[index] += g
        position += 1 + count
    return out


def _place_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[Array],
    *inputs: Array,
    shape: tuple[int, ...],
    dtype: Any,
    templates: tuple[Template, ...],
) -> list[Any]:
    cotangents: list[Any] = []
    for template in templates:
        count = sum(isinstance(t, ArraySlot) for t in template)
        start = len(cotangents)
        arrays = inputs[start + 1 : start + 1 + count]
        cotangents.append(getitem_p(gs[0], *arrays, template=template) if needed[start] else None)
        cotangents.extend([None] * count)
    return cotangents


def _place_all(shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any, ...]]) -> Array:
    """Zeros of ``shape`` with every part ``(g, template, *arrays)`` added at its index."""
    inputs = [item for g, _, *arrays in parts for item in (g, *arrays)]
    templates = tuple(part[1] for part in parts)
    return place_p(*inputs, shape=shape, dtype=dtype, templates=templates)


def _getitem_rule(
    needed: Sequence[bool], gs: Sequence[Any], ys: Any, x: Array, *arrays: Array, template: Template
) -> list[Any]:
    return [Deferred(_place_all, gs[0], template, *arrays), *[None] * len(arrays)]


getitem_p = Primitive("getitem", _getitem_forward, joint_rule=_getitem_rule)
place_p = Primitive("place", _place_forward, joint_rule=_place_rule)


def getitem(x: Array, index: Any) -> Array:
    """``x[index]`` as NumPy reads it; the gradient of an element read twice counts twice."""
    template, arrays = _split_index(x, index, "getitem")
    return getitem_p(x, *arrays, template=template)


def place(g: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of ``shape`` to which ``g`` is added at ``index``: the dual of getitem."""
    template, arrays = _split_index(g, index, "place")
    return place_p(g, *arrays, shape=tuple(shape), dtype=_raw(g).dtype, templates=(template,))


def _take_forward(xp: Any, x: Array, indices: Array) -> Array:
    check_range(indices, x.shape[0], "take")
    return x[indices]


take_p = Primitive(
    "take",
    _take_forward,
    [
        lambda g, y, x, indices: Deferred(_scatter_rows, indices, g),
        None,
    ],
)
scatter_add_p = Primitive(
    "scatter_add",
    lambda xp, values, indices, rows: _scatter_forward(xp, values, indices, rows),
    [lambda g, y, values, indices, rows: take_p(g, indices), None],
)


def _scatter_forward(xp: Any, values: Array, indices: Array, rows: int) -> Array:
    out = xp.zeros((rows, *values.shape[indices.ndim :]), dtype=values.dtype)
    backend_of(out).scatter_add(out, indices, values)
    return out


def _scatter_rows(shape: tuple[int, ...], dtype: Any, parts: Sequence[tuple[Any, Any]]) -> Array:
    """The gradient of the rows that were taken: one sum over every place where they were."""
    if len(parts) == 1:
        ((indices, g),) = parts
    else:
        indices = concat([reshape(i, (i.size,)) for i, _ in parts])
        g = concat([reshape(g, (i.size, *shape[1:])) for i, g in parts])
    return scatter_add_p(g, indices, rows=shape[0])


def take(x: Array, indices: Any, axis: int | None = None) -> Array:
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
    template, arrays = _split_index(x, (slice(None),) * k + (indices,), "take")
    if not arrays or _raw(arrays[0]).dtype.kind == "b":
        return getitem_p(x, *arrays, template=template)
    if k:
        check_range(_raw(arrays[0]), x.shape[k], "take")
        return getitem_p(x, *arrays, template=template)
    return take_p(x, arrays[0])


def scatter_add(values: Array, indices: Array, rows: int) -> Array:
    """Zeros of ``rows`` rows to which ``values[k]`` is added at row ``indices[k]``."""
    check_range(_raw(indices), rows, "scatter_add")
    return scatter_add_p(values, indices, rows=rows)


# Writing


def _put_forward(xp: Any, x: Array, values: Array, *arrays: Array, template: Template) -> Array:
    _check_template(x, template, arrays, "at.set")
    index = _fill(template, arrays)
    if _repeats(template, arrays):
        count = xp.zeros(x.shape, dtype=np.int32)
        backend_of(x).scatter_add(count, index, xp.ones_like(count[index]))
        if x.size and int(backend_of(x).to_host(xp.max(count))) > 1:
            raise IndexError(
                "at.set: the index names an element twice; use .add, or unique indices"
            )
    out = x.copy()
    out[index] = values
    return out


def _put_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Any,
    x: Array,
    values: Array,
    *arrays: Array,
    template: Template,
) -> list[Any]:
    to_values = getitem_p(gs[0], *arrays, template=template) if needed[1] else None
    if to_values is not None and to_values.ndim < values.ndim:
        # Axes of size one in front are left out when values are written.
        lead = (1,) * (values.ndim - to_values.ndim)
        to_values = reshape(to_values, (*lead, *to_values.shape))
    return [
        put_p(gs[0], 0.0, *arrays, template=template) if needed[0] else None,
        to_values,
        *[None] * len(arrays),
    ]


put_p = Primitive("at.set", _put_forward, joint_rule=_put_rule)


class At:
    """``x.at[index]``: writing that returns a new value and leaves x as it is."""

    def __init__(self, x: Array) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> AtIndex:
        return AtIndex(self._x, index)


class AtIndex:
    """The elements of x at one index, to be written."""

    def __init__(self, x: Array, index: Any) -> None:
        self._x = x
        self._template, self._arrays = _split_index(x, index, "at")

    def set(self, values: Any) -> Array:
        """X with ``values`` (broadcast) at the index, which must not name an element twice."""
        return put_p(self._x, values, *self._arrays, template=self._template)

    def add(self, values: Any) -> Array:
        """X with ``values`` (broadcast) added at the index; repetitions all count."""
        x, raw = self._x, _raw(self._x)
        arrays = [_raw(array) for array in self._arrays]
        _check_template(raw, self._template, arrays, "at.add")
        try:
            target = raw[_fill(self._template, arrays)]
        except IndexError as error:
            raise IndexError(f"at.add: {error}") from error
        if not isinstance(values, Traced) and not find_backend(values):
            values = backend_of(raw).from_host(
                as_array(np.asarray(values)), backend_of(raw).device_of(raw)
            )
        shape = _raw(values).shape
        extra = len(shape) - target.ndim
        if extra > 0 and math.prod(shape[:extra]) == 1:
            values = reshape(values, shape[extra:])
        if _raw(values).dtype != raw.dtype:
            values = promotion.cast(values, raw.dtype)
        spread = broadcast_to(values, target.shape)
        placed = place_p(
            spread,
            *self._arrays,
            shape=tuple(x.shape),
            dtype=_raw(x).dtype,
            templates=(self._template,),
        )
        return x + placed


def scatter(x: Array, index: Any, values: Any) -> Array:
    """A copy of x with ``values`` at ``index``: what ``x[index] = values`` would do in place."""
    return AtIndex(x, index).set(values)
