"""Which memory is alive while somebody profiles, known without keeping any of it alive."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from tinygrad_rnn.backends import backend_of, find_backend
from tinygrad_rnn.backends.pool import POOL
from tinygrad_rnn.tape import Traced


class Kind(NamedTuple):
    """What memory is for.

    ``what`` is one of "parameters", "inputs", "results", "gradients", "kept by replayed loops" and
    "idle, to be used again"; ``layer`` and ``operation`` are those of the record that made it.
    """

    what: str
    layer: str | None = None
    operation: str = ""


class Change(NamedTuple):
    """Memory that came (``nbytes`` > 0) or went, while the record numbered ``span`` ran."""

    seconds: float
    kind: Kind
    nbytes: int
    span: int


class _Owner(weakref.ref[Any]):
    """The array that owns some memory, for as long as it lives."""

    __slots__ = ("key", "kind", "nbytes")
    key: int
    kind: Kind
    nbytes: int


_LEASED = Kind("kept by replayed loops")
_IDLE = Kind("idle, to be used again")


class Memory:
    """A log of the memory that came and went. Views count nothing, owners once.

    Parameters
    ----------
    clock : the seconds since the beginning.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.changes: list[Change] = []
        self.span = -1
        self._alive: dict[int, _Owner] = {}
        self._leases: weakref.WeakSet[Any] = weakref.WeakSet()
        self._known = {_LEASED: 0, _IDLE: 0}
        self._leaves: dict[int, weakref.ref[Traced]] = {}
        self.look_at_pool()

    def see(self, value: Any, kind: Kind) -> int:
        """Take note of the memory of an array; how many bytes of it were not known."""
        backend = find_backend(value)
        if backend is None:
            return 0
        owner = backend.owner(value)
        key = id(owner)
        if key in self._alive:
            return 0
        found = _Owner(owner, self._gone)
        found.key, found.kind, found.nbytes = key, kind, owner.nbytes
        self._alive[key] = found
        self._log(kind, found.nbytes)
        return found.nbytes

    def see_leaf(self, leaf: Traced, layer: str | None) -> None:
        """Take note of a value that no record made, and of its gradient, now and later."""
        key = id(leaf)
        if key in self._leaves:
            return
        self._leaves[key] = weakref.ref(leaf, lambda _: self._leaves.pop(key, None))
        kind = Kind("parameters" if leaf.needs_grad else "inputs", layer, leaf.name or "")
        self.see(leaf.array, kind)
        self._see_gradient(leaf)

    def look_at_gradients(self) -> None:
        """Take note of what a backward pass has left in ``.grad``."""
        for known in [*self._leaves.values()]:
            leaf = known()
            if leaf is not None:
                self._see_gradient(leaf)

    def _see_gradient(self, leaf: Traced) -> None:
        if leaf.grad is not None:
            self.see(leaf.grad.array, Kind("gradients", None, leaf.name or ""))

    def see_held(self, held: Any, layer: str | None) -> None:
        """Take note of what a replayed loop keeps for its backward pass."""
        if held is None:
            return
        self._leases.add(held)
        lent = {*map(id, held.lease.blocks)}
        for array in (*held.residuals, *(s for start in held.starts for s in start)):
            if id(backend_of(array).owner(array)) not in lent:
                self.see(array, _LEASED._replace(layer=layer))

    def look_at_pool(self) -> None:
        """Compare the pool of the replay with what it was."""
        with POOL.lock:
            idle = POOL.bytes
        leased = sum(held.lease.nbytes for held in self._leases)
        for kind, now in ((_LEASED, leased), (_IDLE, idle)):
            if now != self._known[kind]:
                self._log(kind, now - self._known[kind])
                self._known[kind] = now

    def close(self) -> None:
        """Look no more."""
        self.look_at_gradients()
        self.look_at_pool()
        self._alive.clear()
        self._leaves.clear()
        self._leases.clear()

    def _log(self, kind: Kind, nbytes: int) -> None:
        self.changes.append(Change(self.clock(), kind, nbytes, self.span))

    def _gone(self, owner: Any) -> None:
        if self._alive.pop(owner.key, None) is owner:
            self._log(owner.kind, -owner.nbytes)


class Peak(NamedTuple):
    """The moment when most memory was alive.

    Attributes
    ----------
    nbytes : how much.
    seconds : when, since the beginning.
    span : the number of the record that set it, -1 for none.
    alive : what was alive then, in bytes, by :class:`Kind`.
    """

    nbytes: int
    seconds: float
    span: int
    alive: dict[Kind, int]


def ordered(changes: list[Change]) -> list[Change]:
    """The changes in the order of time; a parameter was there before it was first read."""
    there = [c._replace(seconds=0.0, span=-1) for c in changes if _is_early(c)]
    return [*there, *(c for c in changes if not _is_early(c))]


def _is_early(change: Change) -> bool:
    return change.kind.what == "parameters" and change.nbytes > 0


def peak_of(changes: list[Change]) -> Peak:
    """The peak of ordered changes."""
    total = highest = place = 0
    for k, change in enumerate(changes):
        total += change.nbytes
        if total > highest:
            highest, place = total, k + 1
    alive: dict[Kind, int] = {}
    for change in changes[:place]:
        alive[change.kind] = alive.get(change.kind, 0) + change.nbytes
    alive = {kind: n for kind, n in sorted(alive.items(), key=lambda item: -item[1]) if n}
    last = changes[place - 1] if place else None
    return Peak(highest, last.seconds if last else 0.0, last.span if last else -1, alive)
