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
    """What owns some memory, for as long as it lives: an array, or what a loop has borrowed."""

    __slots__ = ("key", "kind", "nbytes")
    key: int
    kind: Kind
    nbytes: int


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
        self._leaves: dict[int, tuple[weakref.ref[Traced], str | None]] = {}
        self._idle = 0
        self.look_at_pool()

    def see(self, value: Any, kind: Kind) -> int:
        """Take note of the memory of an array; how many bytes of it were not known."""
        backend = find_backend(value)
        if backend is None or not isinstance(value, backend.array_type):
            return 0
        owner = backend.owner(value)
        if id(owner) in self._alive:
            return 0
        self._add(owner, kind, owner.nbytes)
        return owner.nbytes

    def _add(self, owner: Any, kind: Kind, nbytes: int) -> None:
        found = _Owner(owner, self._gone)
        found.key, found.kind, found.nbytes = id(owner), kind, nbytes
        self._alive[found.key] = found
        self._log(kind, nbytes)

    def see_leaf(self, leaf: Traced, layer: str | None) -> None:
        """Take note of a value that no record made, and of its gradient, now and later."""
        key = id(leaf)
        if key in self._leaves:
            return
        self._leaves[key] = weakref.ref(leaf, lambda _: self._leaves.pop(key, None)), layer
        self.see(leaf.array, Kind("parameters", layer, leaf.name or ""))
        self._see_gradient(leaf, layer)

    def look_at_gradients(self) -> None:
        """Take note of what a backward pass has left in ``.grad``."""
        for known, layer in [*self._leaves.values()]:
            leaf = known()
            if leaf is not None:
                self._see_gradient(leaf, layer)

    def _see_gradient(self, leaf: Traced, layer: str | None) -> None:
        if leaf.grad is not None:
            self.see(leaf.grad.array, Kind("gradients", layer, leaf.name or ""))

    def see_held(self, held: Any, layer: str | None) -> None:
        """Take note of what a replayed loop keeps for its backward pass."""
        if held is None:
            return
        kind = Kind("kept by replayed loops", layer, "scan")
        self._add(held, kind, held.lease.nbytes)
        lent = {*map(id, held.lease.blocks)}
        for array in (*held.residuals, *(s for start in held.starts for s in start)):
            if id(backend_of(array).owner(array)) not in lent:
                self.see(array, kind)

    def look_at_pool(self) -> None:
        """Compare the memory that lies idle, to be used again, with what it was."""
        with POOL.lock:
            idle = POOL.bytes
        if idle != self._idle:
            self._log(Kind("idle, to be used again"), idle - self._idle)
            self._idle = idle

    def close(self) -> None:
        """Look no more."""
        self.look_at_gradients()
        self.look_at_pool()
        self._alive.clear()
        self._leaves.clear()

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


def bytes_by_layer(changes: list[Change]) -> dict[str | None, int]:
    """What is alive of what records made, after all changes, by layer."""
    found: dict[str | None, int] = {}
    for change in changes:
        if change.kind.what in ("results", "kept by replayed loops"):
            layer = change.kind.layer
            found[layer] = found.get(layer, 0) + change.nbytes
    return found
