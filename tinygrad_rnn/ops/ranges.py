"""Whether integers lie in their range, without a look at the device where that is known already.

On a GPU an index out of range would wrap silently, and to look for one waits for all that was
launched before. So the range of integers that come from the host is noted while they are there.
"""

from __future__ import annotations

import weakref
from typing import Any

from tinygrad_rnn.backends import Array, backend_of, there
from tinygrad_rnn.tape import version_of


class _Range(weakref.ref[Any]):
    """The least and the largest element of an array that is still there and unchanged."""

    __slots__ = ("ends", "key", "version")
    key: int
    version: int
    ends: tuple[int, int]


_noted: dict[int, _Range] = {}


def _forget(noted: _Range) -> None:
    _noted.pop(noted.key, None)


def note_range(array: Array, lowest: int, highest: int) -> None:
    """Say what the elements of an integer array lie between, until it is overwritten."""
    noted = _noted[id(array)] = _Range(array, _forget)
    noted.key, noted.version, noted.ends = id(array), version_of(array), (lowest, highest)


@there
def _ends(array: Array) -> tuple[int, int]:
    noted = _noted.get(id(array))
    if noted is not None and noted() is array and noted.version == version_of(array):
        return noted.ends
    backend = backend_of(array)
    ends = backend.xp.stack([backend.xp.min(array), backend.xp.max(array)])
    low, high = (int(end) for end in backend.to_host(ends))
    return low, high


def check_range(
    index: Array,
    size: int,
    who: str,
    lowest: int = 0,
    names: tuple[str, str] = ("index", "entries"),
) -> None:
    """Raise IndexError unless lowest <= index < size everywhere.

    On a GPU this reads two numbers back where the range is not noted.
    """
    if index.size == 0:
        return
    low, high = _ends(index)
    if low < lowest or high >= size:
        bad = low if low < lowest else high
        one, all_ = names
        raise IndexError(f"{who}: {one} {bad} is out of range for {size} {all_}")
