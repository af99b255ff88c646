"""The clock of the tape: the positions of records, and when memory was overwritten.

Memory is known by the array that owns it, in which all others lie that are views of it. So a
parameter, what ``detach`` gave, a transpose, and another Tensor made from the same array share one
:class:`Memory`, whoever made the view. It is written down only once somebody overwrites it, and
costs an operation nothing.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any

from tinygrad_rnn.backends import Array, backend_of

_positions = itertools.count()


def next_position() -> int:
    """The position on the tape that the next record comes after."""
    return next(_positions)


class Memory(weakref.ref[Any]):
    """Memory that has been overwritten: how often, and at which position for the last time."""

    __slots__ = ("count", "key", "position")
    key: int
    count: int
    position: int


_memories: dict[int, Memory] = {}
_lock = threading.Lock()
_latest = -1


def _forget(memory: Memory) -> None:
    _memories.pop(memory.key, None)


def _memory(array: Array) -> Memory | None:
    owner = backend_of(array).owner(array)
    found = _memories.get(id(owner))
    return found if found is not None and found() is owner else None


def mark_overwritten(array: Array, version: int = 0) -> None:
    """Say that the elements of an array are other ones from now on, those of all its views too.

    The version of its memory is higher afterwards, also than the given one.
    """
    global _latest
    with _lock:
        memory, position = _memory(array), next_position()
        if memory is None:
            owner = backend_of(array).owner(array)
            memory = Memory(owner, _forget)
            memory.key, memory.count, memory.position = id(owner), 0, position
            _memories[memory.key] = memory  # whole, since other threads read without the lock
        memory.position = _latest = position
        memory.count = max(memory.count, version) + 1


def version_of(array: Array) -> int:
    """How often the memory of an array has been overwritten."""
    memory = _memory(array)
    return 0 if memory is None else memory.count


def is_overwritten(array: Array, since: int) -> bool:
    """Whether the memory of an array has been overwritten after a position."""
    memory = _memory(array)
    return memory is not None and memory.position > since


def overwritten_since(position: int) -> dict[int, int]:
    """What was overwritten after a position: where last, by :func:`owner_id`."""
    if _latest < position:
        return {}
    return {key: found.position for key, found in [*_memories.items()] if found.position > position}


def owner_id(array: Array) -> int:
    """What memory is known by while a view of it lives."""
    return id(backend_of(array).owner(array))
