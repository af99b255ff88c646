"""The integers that a compiled loop works with: addresses, bytes per step, sizes and strides."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends.blas import (
    AS_IS,
    PACKED,
    TRANSPOSED,
    Blas,
    Packing,
    mkl,
    one_thread,
    openblas,
)
from tinygrad_rnn.backends.mkl_threads import thread_count
from tinygrad_rnn.backends.pool import POOL
from tinygrad_rnn.replay.emit.common import Unsupported
from tinygrad_rnn.replay.emit.numba.cache import CompiledFunction
from tinygrad_rnn.replay.emit.numba.source import kernel_source, place, places, product_code
from tinygrad_rnn.replay.program.loop import Kernel, Loop, Phase, Product, Ref, Step, phase_refs

PACKED_ROWS = 48
"""Rows over all steps from which packing the right matrix costs less than it saves."""
SMALL, LARGE = 2**19, 3e6
"""Up to the first (half of it for one row) OpenBLAS is as fast as MKL, with one thread; between the
two it takes all threads although one is as fast.
"""
ONE_ROW = 2e6
"""Operations beyond which OpenBLAS brings the matrix into another order, for one row too; ``gemv``
does not, and gains by all threads.
"""
WORTH = 2e7
"""Operations of all products of a loop from which on its rows are divided among threads."""
NEAR, REUSED = 1 << 20, 16
"""Every thread reads the whole matrices at each step: that is quick where they lie in the cache of
a core, up to so many bytes, and does not count where they are used for so many rows.
"""


class Matrix(NamedTuple):
    """How BLAS sees a two-dimensional Ref: as it is, by rows, or transposed, by columns."""

    layout: int
    stride: int


def matrix(ref: Ref) -> Matrix:
    """The matrix of a Ref; raises Unsupported where neither rows nor columns are contiguous."""
    if len(ref.shape) != 2:
        raise Unsupported(f"a product takes two axes, got shape {ref.shape}")
    (rows, columns), (down, across) = ref.shape, ref.strides
    if columns <= 1 and (rows <= 1 or down >= max(1, columns)):
        return Matrix(AS_IS, max(down, columns, 1))
    if across == 1 and (rows <= 1 or down >= columns):
        return Matrix(AS_IS, max(down, columns))
    if (down == 1 or rows <= 1) and across >= max(1, rows):
        return Matrix(TRANSPOSED, across)
    raise Unsupported(f"BLAS takes no matrix of shape {ref.shape} with strides {ref.strides}")


class _Pack(NamedTuple):
    """A constant matrix to be packed before the loop, and where its product lies in the table."""

    how: Packing
    position: int
    blas: Blas


class Table:
    """The table of a stretch of steps, without the addresses, which each run has of its own.

    With ``single`` it is one of several that run side by side, each in one thread: OpenBLAS is told
    so, MKL takes one by itself within its own team.
    """

    def __init__(
        self,
        steps: tuple[Step, ...],
        loop: Loop,
        function: CompiledFunction,
        packed: bool,
        single: bool = False,
    ) -> None:
        self.function = function
        self._single = single
        self._by_mkl: list[Product] = []
        self._arrays = loop.arrays
        self._entries: list[int] = []
        self._slots: list[int] = []
        self._owners: list[int] = []
        self._packs: list[_Pack] = []
        self._packed = packed
        self._largest = 0  # flops of the largest product that is OpenBLAS's
        for step in steps:
            if isinstance(step, Kernel):
                self._kernel(step)
            elif isinstance(step, Product):
                self._product(step)
        mine = [(p, math.prod(p.b.shape)) for p in self._by_mkl]  # at each step
        self._work = sum(2 * p.a.shape[0] * size for p, size in mine)
        self._size = max(
            (size * loop.arrays[p.b.array].dtype.itemsize for p, size in mine), default=0
        )
        self._template = np.array(self._entries or [0], dtype=np.int64)
        self._index = np.array(self._slots, dtype=np.intp)
        self._which = np.array(self._owners, dtype=np.intp)

    def _address(self, ref: Ref) -> None:
        """Address and bytes per step; the start of the array is added at each run."""
        spec = self._arrays[ref.array]
        size = spec.dtype.itemsize
        row = size * int(np.prod(spec.shape, dtype=np.int64)) if spec.stacked else 0
        self._slots.append(len(self._entries))
        self._owners.append(ref.array)
        self._entries += [ref.offset * size + (ref.time or 0) * row, row]

    def _kernel(self, kernel: Kernel) -> None:
        lead, widths = list(kernel.lead), [phase.width for phase in kernel.phases]
        if len(kernel.phases) == 1:
            lead, widths[0] = collapsed(kernel.lead, kernel.phases[0])
        self._entries += [*lead, *widths]
        for ref in places(kernel):
            size = self._arrays[ref.array].dtype.itemsize
            self._address(ref)
            self._entries += [stride * size for stride in ref.strides[:-1]]
            self._entries.append(ref.strides[-1])
        self._entries += kernel_source(kernel, self._arrays).numbers

    def _product(self, product: Product) -> None:
        library = openblas()
        if library is None:
            raise Unsupported("NumPy's OpenBLAS was not found")
        code = product_code(product, self._arrays)
        a, b, out = product.a, product.b, product.out
        if matrix(out).layout == TRANSPOSED:  # out^T = b^T a^T
            a, b, out = flipped(b), flipped(a), flipped(out)
        (m, k), n = a.shape, b.shape[1]
        left, right = matrix(a), matrix(b)
        position = len(self._entries)
        work = 2 * m * n * k
        small = SMALL // 2 if m == 1 else SMALL
        provider = mkl() if self._packed and work > small else None
        self._entries += [(provider or library).gemm[code], 0, left.layout, right.layout, m, n, k]
        for ref in (a, b, out):
            self._address(ref)
            self._entries.append(matrix(ref).stride)
        self._entries.append(PACKED)
        by_row = provider is None and m == 1 and work > ONE_ROW
        self._entries.append(library.gemv[code] if by_row else 0)
        self._entries += [AS_IS, n, k] if right.layout == TRANSPOSED else [TRANSPOSED, k, n]
        self._entries.append(left.stride if left.layout == TRANSPOSED else 1)
        if provider is None:
            self._largest = max(self._largest, LARGE if by_row else work)
            return
        self._by_mkl.append(product)
        if product.constant and b is product.b:
            packing = Packing(code, m, n, k, *right)
            self._packs.append(_Pack(packing, position, provider))

    def bind(self, starts: np.ndarray, length: int) -> Bound:
        """The table for arrays that begin at these addresses, and for so many steps."""
        table = self._template.copy()
        table[self._index] += starts[self._which]
        single = self._largest > SMALL and (self._single or self._largest < LARGE)
        packs = [pack for pack in self._packs if length * pack.how.m >= PACKED_ROWS]
        return Bound(self.function, table, packs, openblas() if single else None)

    def useful_threads(self, length: int) -> int:
        """Among how many threads it pays to divide the rows of a loop over so many steps."""
        count = thread_count() if self._by_mkl else 1
        if count == 1:
            return 1
        rows = self._by_mkl[0].a.shape[0] // count
        pays = length * self._work >= WORTH and rows and (self._size <= NEAR or rows >= REUSED)
        return count if pays else 1


class Bound:
    """A table with addresses. It holds the memory of packed matrices and the numbers of threads."""

    def __init__(
        self, function: CompiledFunction, table: np.ndarray, packs: list[_Pack], single: Blas | None
    ) -> None:
        self._function, self._table, self._packs = function, table, packs
        self._unpacked = table
        memory: Any = table
        self._start = (ctypes.c_int64 * len(table)).from_buffer(memory)  # which holds the table
        self._held: list[np.ndarray] = []
        self._undo: list[Callable[[], object]] = []
        self._single = single

    def begin(self) -> None:
        """Pack what is worth it, and set the numbers of threads."""
        if self._single is not None:
            self._undo.append(one_thread(self._single))
        for pack in self._packs:
            self._pack(*pack)

    def _pack(self, how: Packing, position: int, blas: Blas) -> None:
        if not self._held:
            self._unpacked = self._table.copy()
        (memory,) = POOL.take([how.size(blas) + 64])
        self._held.append(memory)
        start = -(-memory.ctypes.data // 64) * 64
        how.pack(blas, int(self._table[position + 10]), start)
        self._table[position + 1] = blas.compute[how.code]
        self._table[position + 10 : position + 12] = start, 0

    def end(self) -> None:
        """Give the libraries back the numbers of threads that they had, and the memory."""
        while self._undo:
            self._undo.pop()()
        if self._held:
            self._table[:] = self._unpacked
            POOL.give(self._held)
            self._held = []

    def through(self, start: int, stop: int, step: int) -> Callable[[], None]:
        """All time steps from ``start`` to ``stop``, which is not among them."""
        if self._packs or self._single is not None:
            return partial(self._run, start, stop, step)
        return partial(self._function, self._start, start, stop, step)

    def _run(self, start: int, stop: int, step: int) -> None:
        try:
            self.begin()
            self._function(self._start, start, stop, step)
        finally:
            self.end()

    def once(self, t: int) -> None:
        """One time step."""
        self._function(self._start, t, t + 1, 1)


def addresses(arrays: Sequence[Any]) -> np.ndarray:
    """Where contiguous arrays begin."""
    start = ctypes.c_char.from_buffer
    try:
        places = [ctypes.addressof(start(array)) for array in arrays]
    except (TypeError, ValueError):  # read-only, or empty; this way takes four times as long
        places = [array.ctypes.data for array in arrays]
    return np.array(places, dtype=np.int64)


def flipped(ref: Ref) -> Ref:
    """The transposed matrix."""
    return ref._replace(shape=ref.shape[::-1], strides=ref.strides[::-1])


def collapsed(lead: tuple[int, ...], phase: Phase) -> tuple[list[int], int]:
    """Leading sizes and width after as many leading axes as possible have joined the last."""
    sizes, width = list(lead), phase.width
    used = {place(ref) for ref in phase_refs(phase)}
    if phase.reduces:
        return sizes, width
    for axis in reversed(range(len(lead))):
        for ref in used:
            last = ref.strides[-1]
            if sizes[axis] != 1 and ref.strides[axis] != last * width:
                return sizes, width
        width *= sizes[axis]
        sizes[axis] = 1
    return sizes, width
