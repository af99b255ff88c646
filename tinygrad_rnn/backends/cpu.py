"""NumPy: always there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import products
from tinygrad_rnn.backends.interface import Array, Backend, T
from tinygrad_rnn.backends.mkl_threads import start_threads
from tinygrad_rnn.backends.subnormal import flushed

BLOCK = 32_768
"""Elements that an update takes at a time, so that its temporaries stay in the cache."""

COLUMNS = 64
"""Columns of a transposed matrix that are copied at a time."""

REUSED = 31 << 20
"""Bytes of an array up to which its memory is used again once it is freed."""

# By default glibc gives much of what is freed back to the system, and every update gets it anew,
# page by page, which took a tenth of the main job's time. It stops doing so up to the size of the
# largest block that was ever freed, 32 MiB at most. This one is freed untouched, and so costs
# nothing; nor does it do anything where the C library is another.
np.empty(REUSED, np.uint8)


def add_sorted_rows(target: np.ndarray, index: np.ndarray, values: np.ndarray) -> None:
    """``target[index] += values`` for one index array over the first axis, by segment sums.

    Rows are brought together by a stable sort and each run of equal indices is summed once: for
    the gradient of an embedding ten times as fast as ``numpy.add.at``.
    """
    order = np.argsort(index, kind="stable")
    rows = index[order]
    starts = np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))
    target[rows[starts]] += np.add.reduceat(values[order], starts, axis=0)


class NumPyBackend(Backend):
    """Arrays in host memory."""

    name = "cpu"
    xp = np
    array_type = np.ndarray
    native_half = False
    checks_indices = True
    asynchronous = False

    def devices(self) -> list[str]:
        return ["cpu"]

    def device_of(self, array: Array) -> str:
        return "cpu"

    def from_host(self, array: np.ndarray, device: str) -> Array:
        return array

    def to_host(self, array: Array) -> np.ndarray:
        return array

    def scatter_add(self, target: Array, index: Any, values: Array) -> None:
        if (
            isinstance(index, np.ndarray)
            and index.dtype.kind in "iu"
            and index.size
            and target.size
        ):
            rest = target.shape[1:]
            rows = np.broadcast_to(values, index.shape + rest).reshape(index.size, *rest)
            flat = index.reshape(-1).astype(np.intp, copy=False)
            add_sorted_rows(target, np.where(flat < 0, flat + len(target), flat), rows)
        else:
            np.add.at(target, index, values)

    def strided(
        self, array: Array, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0
    ) -> Array:
        if not array.size:
            return np.empty(shape, array.dtype)
        size = array.itemsize
        steps = [size * stride for stride in strides]
        return np.ndarray(shape, array.dtype, array, offset * size, steps)

    def update(
        self,
        rule: Callable[..., None],
        dtype: np.dtype[Any],
        targets: Sequence[Array | None],
        g: Array,
        numbers: Mapping[str, float],
        keep: Array | None = None,
    ) -> None:
        if keep is not None and not keep:
            return
        flat = [None if a is None else a.reshape(-1) for a in (g, *targets)]
        for start in range(0, g.size, BLOCK):
            blocks = [None if a is None else a[start : start + BLOCK] for a in flat]
            wide = [None if b is None else b.astype(dtype, copy=False) for b in blocks]
            rule(np, *wide, **numbers)
            for block, new in zip(blocks[1:], wide[1:], strict=True):
                if block is not None and new is not block:
                    block[...] = new

    def flushed(self, work: Callable[[], T]) -> T:
        start_threads()  # threads that begin within would compute so ever after
        return flushed(work)

    def contiguous(self, array: Array) -> Array:
        if array.flags.c_contiguous:
            return array
        if array.ndim != 2 or array.strides[0] != array.itemsize:
            return np.ascontiguousarray(array)
        # A transposed matrix is copied by blocks, which takes half the time.
        out = np.empty(array.shape, array.dtype)
        for k in range(0, array.shape[1], COLUMNS):
            out[:, k : k + COLUMNS] = array[:, k : k + COLUMNS]
        return out

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        """By MKL, where that is installed and the product is large: see :mod:`.products`.

        Stacked rows times one matrix are one product, and not one for each matrix of the stack.
        """
        if out is None and a.ndim > 2 and b.ndim == 2 and a.shape[-1] == b.shape[0] and a.size:
            return self.matmul(a.reshape(-1, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[1])
        found = products.multiply(a, b, out)
        return np.matmul(a, b, out=out) if found is None else found

    def matmul_transposed(self, x: Array, w: Array) -> Array:
        if x.ndim > 2 and x.size:
            return self.matmul(x, w.T)
        found = products.multiply(x, w.T, None)
        if found is not None:
            return found
        # OpenBLAS takes few rows times a transposed matrix at half the rate of the other order.
        if x.ndim == 2 and 1 < len(x) <= 64:
            return np.ascontiguousarray(np.matmul(w, x.T).T)
        return np.matmul(x, w.T)
