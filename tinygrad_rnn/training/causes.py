"""Where inf and nan come from, when a loss is not finite: the batch, the state or the model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.backends import find_backend, to_host
from tinygrad_rnn.ops.arrays import raw


def nonfinite_part(name: str, tree: Any) -> str | None:
    """The first floating leaf of a tree that holds inf or nan, in words; None if there is none.

    ``name`` is what the tree is called. Leaves that are no floating numbers are not looked at.
    """
    for path, leaf in _leaves(name, tree):
        array = raw(leaf)
        if isinstance(array, float | np.floating):
            array = np.asarray(array)
        if find_backend(array) is None or array.dtype.kind != "f":
            continue
        finite = np.isfinite(to_host(array))
        bad = finite.size - int(np.count_nonzero(finite))
        if bad:
            return (
                f"{path}, {array.dtype} {tuple(array.shape)}, holds inf or nan in {bad:,} of its "
                f"{finite.size:,} elements"
            )
    return None


def _leaves(name: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """What is no container, under the Python that leads to it."""
    stack = [(name, tree)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, dict):
            found = [(f"{path}[{key!r}]", part) for key, part in value.items()]
        elif hasattr(value, "_asdict"):  # a NamedTuple
            found = [(f"{path}.{key}", part) for key, part in value._asdict().items()]
        elif isinstance(value, list | tuple):
            found = [(f"{path}[{k}]", part) for k, part in enumerate(value)]
        elif is_dataclass(value) and not isinstance(value, type):
            found = [(f"{path}.{f.name}", getattr(value, f.name)) for f in fields(value)]
        else:
            yield path, value
            continue
        stack += reversed(found)
