"""Memory that is used again: big arrays are lent to a call, and come back when it is over.

A forward pass holds a lease for what its backward pass needs, and the record of the tape holds the
lease; so the memory comes back when the tape goes. Nothing that a user gets is lent memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.backends.pool import POOL

LEAST = 4096
"""Bytes below which memory is simply allocated."""


class Lease:
    """What one call has borrowed; it is given back by :meth:`release` or when the lease goes."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.blocks: list[np.ndarray] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array of any content."""
        return self.take_all([(shape, np.dtype(dtype))])[0]

    def take_all(self, kinds: Sequence[tuple[tuple[int, ...], np.dtype[Any]]]) -> list[Array]:
        """Arrays of any content. CuPy has a pool of its own.

        Each is a block of its own, somewhere: in one block all would lie at the same place of a
        page, where the processor takes a read for one of what was just written: a loop of an LSTM
        with H = 64 took up to twice as long.
        """
        empty = self.backend.xp.empty
        if self.backend.xp is not np:
            return [empty(shape, dtype=dtype) for shape, dtype in kinds]
        sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in kinds]
        blocks = POOL.take([size for size in sizes if size >= LEAST])
        self.blocks += blocks
        large = iter(blocks)
        return [
            np.ndarray(shape, dtype, next(large)) if size >= LEAST else empty(shape, dtype)
            for (shape, dtype), size in zip(kinds, sizes, strict=True)
        ]

    @property
    def nbytes(self) -> int:
        return sum(block.size for block in self.blocks)

    def release(self) -> None:
        """Give everything back. Nobody may use it any more."""
        blocks, self.blocks = self.blocks, []
        if blocks:
            POOL.give(blocks)

    __del__ = release
