"""Writing by index, which makes a new value: ``x.at[index].set(values)`` and ``.add(values)``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Generic

import numpy as np

from tinygrad_rnn.backends import Array, as_array, backend_of, device_of, find_backend, there
from tinygrad_rnn.ops.arrays import A, AnyArray, raw
from tinygrad_rnn.ops.indexing import getitem_p, place_p
from tinygrad_rnn.ops.promotion import cast
from tinygrad_rnn.ops.shaping import broadcast_to, reshape
from tinygrad_rnn.ops.templates import Template, check_template, filled, names_twice, split_index
from tinygrad_rnn.tape import Primitive


def _put_forward(xp: Any, x: Array, values: Array, *arrays: Array, template: Template) -> Array:
    check_template(x, template, arrays, "at.set")
    index = filled(template, arrays)
    if names_twice(template, arrays):
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
    x: AnyArray,
    values: AnyArray,
    *arrays: AnyArray,
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


@there
def _picked(array: Array, index: Any) -> Array:
    return array[index]


class At(Generic[A]):
    """``x.at[index]``: writing that returns a new value and leaves x as it is."""

    def __init__(self, x: A) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> AtIndex[A]:
        return AtIndex(self._x, index)


class AtIndex(Generic[A]):
    """The elements of x at one index, to be written."""

    def __init__(self, x: A, index: Any) -> None:
        self._x = x
        self._template, self._arrays = split_index(x, index, "at")

    def set(self, values: Any) -> A:
        """X with ``values`` (broadcast) at the index, which must not name an element twice."""
        return put_p(self._x, values, *self._arrays, template=self._template)

    def add(self, values: Any) -> A:
        """X with ``values`` (broadcast) added at the index; repetitions all count."""
        x, array = self._x, raw(self._x)
        arrays = [raw(each) for each in self._arrays]
        check_template(array, self._template, arrays, "at.add")
        try:
            target = _picked(array, filled(self._template, arrays))
        except IndexError as error:
            raise IndexError(f"at.add: {error}") from error
        if find_backend(raw(values)) is None:
            values = backend_of(array).from_host(as_array(np.asarray(values)), device_of(array))
        shape = raw(values).shape
        extra = len(shape) - target.ndim
        if extra > 0 and math.prod(shape[:extra]) == 1:
            values = reshape(values, shape[extra:])
        if raw(values).dtype != array.dtype:
            values = cast(values, array.dtype)
        placed = place_p(
            broadcast_to(values, target.shape),
            *self._arrays,
            shape=tuple(array.shape),
            dtype=array.dtype,
            templates=(self._template,),
        )
        return x + placed


def scatter(x: A, index: Any, values: Any) -> A:
    """A copy of x with ``values`` at ``index``: what ``x[index] = values`` would do in place."""
    return AtIndex(x, index).set(values)
