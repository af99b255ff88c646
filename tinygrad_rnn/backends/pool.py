"""Host memory that is used again: blocks that nobody uses, by size.

NumPy would give large ones back to the system, and get their pages anew one by one.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Sequence

import numpy as np

IDLE = 1 << 30
"""Bytes that may lie idle; beyond, the memory that has been idle for longest is freed."""


class Pool:
    """Blocks that nobody uses, by size.

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

    def take(self, sizes: Sequence[int]) -> list[np.ndarray]:
        """Blocks of so many bytes each."""
        found: list[np.ndarray] = []
        with self.lock:
            if self.back:
                self._sort()
            for size in sizes:
                blocks = self.idle.get(size)
                if not blocks:
                    found.append(np.empty(size, np.uint8))
                    continue
                found.append(blocks.pop()[1])
                if not blocks:
                    del self.idle[size]
        return found

    def give(self, blocks: list[np.ndarray]) -> None:
        self.back.extend(blocks)
        if not self.lock.locked():  # by this thread, perhaps
            with self.lock:
                self._sort()

    def _sort(self) -> None:
        """Put what came back among the idle blocks, and free the oldest of too many."""
        while self.back:
            block = self.back.popleft()
            self.idle.setdefault(block.size, deque()).append((next(self.turn), block))
        while self.bytes > IDLE:
            blocks = min(filter(None, self.idle.values()), key=lambda blocks: blocks[0][0])
            blocks.popleft()
            if not blocks:
                self.idle = {size: others for size, others in self.idle.items() if others}


POOL = Pool()
