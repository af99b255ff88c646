"""Memory that is used again: big arrays are lent to a call, and come back when it is over.

A forward pass holds a lease for what its backward pass needs, and the record of the tape holds the
lease; so the memory comes back when the tape goes. Nothing that a user gets is lent memory.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, Backend

LEAST = 4096
"""Bytes below which memory is simply allocated."""
IDLE = 1 << 30
"""Bytes that may lie idle; beyond, the memory that has been idle for longest is freed."""


class _Pool:
    """Blocks of host memory that nobody uses, by size. NumPy would give them back to the system.

    A lease may go at any moment, also when garbage is collected in the midst of a method here; so
    what comes back is queued first, which needs no lock. Nothing is written down twice: where
    Ctrl-C comes in between, a block may be freed, and what is idle is still right.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.back: deque[np.ndarray] = deque()
        self.turn = itertools.count()
        self.idle: dict[int, deque[tuple[int, np.ndarray]]] = {}

    @property
    def bytes(self) -> int:
        """How much lies idle."""
        return sum(size * len(blocks) for size, blocks in self.idle.items())

    def take(self, size: int) -> np.ndarray:
        with self.lock:
            self._sort()
            blocks = self.idle.get(size)
            if blocks:
                _, block = blocks.pop()
                if not blocks:
                    del self.idle[size]
                return block
        return np.empty(size, np.uint8)

    def give(self, blocks: list[np.ndarray]) -> None:
        self.back.extend(blocks)
        if not self.lock.locked():  # by this thread, perhaps
            with self.lock:
                self._sort()

    def _sort(self) -> None:
        """Put what came back among the idle blocks, and free the oldest of too many."""
        if not self.back:
            return
        while self.back:
            block = self.back.popleft()
            self.idle.setdefault(block.size, deque()).append((next(self.turn), block))
        while self.bytes > IDLE:
            blocks = min(filter(None, self.idle.values()), key=_age)
            blocks.popleft()
            if not blocks:
                self.idle = {size: others for size, others in self.idle.items() if others}


def _age(blocks: deque[tuple[int, np.ndarray]]) -> int:
    """When the oldest of these blocks came back."""
    return blocks[0][0]


POOL = _Pool()


class Lease:
    """What one call has borrowed; it is given back by :meth:`release` or when the lease goes."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.blocks: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of any content. CuPy has a pool of its own."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if self.backend.xp is not np or size < LEAST:
            return self.backend.xp.empty(shape, dtype=dtype)
        block = POOL.take(size)
        self.blocks.append(block)
        return block.view(dtype).reshape(shape)

    @property
    def nbytes(self) -> int:
        return sum(block.size for block in self.blocks)

    def release(self) -> None:
        """Give everything back. Nobody may use it any more."""
        blocks, self.blocks = self.blocks, []
        if blocks:
            POOL.give(blocks)

    def __del__(self) -> None:
        self.release()
