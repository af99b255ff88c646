"""An index split into a template and its arrays.

So index arrays are ordinary inputs of the tape: ``x[2, :, i]`` has the template ``(2, slice(None),
ArraySlot(0))`` and the array ``i``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias, cast

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, device_of, find_backend
from tinygrad_rnn.ops.arrays import AnyArray, raw
from tinygrad_rnn.ops.ranges import check_range
from tinygrad_rnn.tape import Traced


class ArraySlot(NamedTuple):
    """The place of the k-th index array in a template."""

    k: int

    def __repr__(self) -> str:
        return f"array {self.k}"


Template: TypeAlias = tuple[Any, ...]


def _bound(value: Any) -> int | None:
    return None if value is None else value.__index__()


def _is_array(item: Any) -> bool:
    """Whether an item of an index is an array. NumPy's scalars count as numbers."""
    if isinstance(item, Traced):
        return True
    return find_backend(item) is not None and not isinstance(item, np.generic)


def split_index(x: AnyArray, index: Any, who: str) -> tuple[Template, list[AnyArray]]:
    """The template of an index, and the arrays in it."""
    template: list[Any] = []
    arrays: list[AnyArray] = []
    for item in cast("tuple[Any, ...]", index if isinstance(index, tuple) else (index,)):
        if isinstance(item, list):
            item = backend_of(raw(x)).from_host(
                np.asarray(item, dtype=None if item else np.intp), device_of(raw(x))
            )
        if isinstance(item, slice):
            bounds = cast("slice[Any, Any, Any]", item)
            template.append(slice(*map(_bound, (bounds.start, bounds.stop, bounds.step))))
        elif item is None or item is Ellipsis:
            template.append(item)
        elif _is_array(item):
            dtype = raw(item).dtype
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


def filled(template: Template, arrays: Sequence[Array]) -> Any:
    """The index that NumPy understands."""
    index = tuple(arrays[t.k] if isinstance(t, ArraySlot) else t for t in template)
    return index[0] if len(index) == 1 else index


def check_template(x: Array, template: Template, arrays: Sequence[Array], who: str) -> None:
    """The range check of integer index arrays where the backend itself makes none."""
    if not arrays or backend_of(x).checks_indices:
        return
    counts = [_axes_of(t, arrays) for t in template]
    axis = 0
    for t, count in zip(template, counts, strict=True):
        if isinstance(t, ArraySlot) and arrays[t.k].dtype.kind != "b" and axis < x.ndim:
            check_range(arrays[t.k], x.shape[axis], who, lowest=-x.shape[axis])
        axis += x.ndim - sum(counts) if t is Ellipsis else count


def _axes_of(item: Any, arrays: Sequence[Array]) -> int:
    """How many axes an item of a template indexes by itself."""
    if item is None or item is Ellipsis or isinstance(item, bool):
        return 0
    is_mask = isinstance(item, ArraySlot) and arrays[item.k].dtype.kind == "b"
    return arrays[item.k].ndim if is_mask else 1


def names_twice(template: Template, arrays: Sequence[Array]) -> bool:
    """Whether the index can name an element twice, which needs an integer array."""
    return any(arrays[t.k].dtype.kind in "iu" for t in template if isinstance(t, ArraySlot))
