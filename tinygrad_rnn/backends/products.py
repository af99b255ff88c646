"""Large products on the CPU by MKL, where the extra ``mkl`` is installed.

MKL multiplies few rows by a large matrix faster than NumPy's OpenBLAS does, and the replayed loop
has it pack the recurrent weights once. Two libraries with threads of their own get in each other's
way: for milliseconds after a product the threads of the one still spin, where those of the other
want to work. So where MKL is used, every product that OpenBLAS would use threads for goes to it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends.blas import AS_IS, KINDS, ROW_MAJOR, TRANSPOSED, mkl
from tinygrad_rnn.backends.switch import Switch

LARGE = 1 << 18
"""Multiplications from which on OpenBLAS uses more than one thread."""


class Extras(NamedTuple):
    """What may be used where it is installed: Numba (``jit``) and MKL's products (``packed``); and
    on a GPU, where it is asked for, cuBLAS without CuPy (``cublas``) and CUDA graphs (``graph``).
    """

    jit: bool = True
    packed: bool = True
    cublas: bool = False
    graph: bool = False


_extras: ContextVar[Extras] = ContextVar("tinygrad_rnn_extras", default=Extras())  # noqa: B039


def extras() -> Extras:
    """What may be used in this thread or context."""
    return _extras.get()


def using(
    jit: bool = True, packed: bool = True, cublas: bool = False, graph: bool = False
) -> Switch[Extras, None]:
    """Within the block, replay without Numba (``jit=False``) or without MKL (``packed=False``).

    On a GPU, ``cublas=True`` has the products of a loop made by cuBLAS without CuPy's wrapper, and
    ``graph=True`` has loops captured in CUDA graphs, with products of that kind.

    By default whatever is installed is used, and nothing that no card has measured. For
    comparisons, and for finding a fault.
    """
    return Switch("using", _extras, lambda before: Extras(jit, packed, cublas, graph))


@cache
def _gemm(code: str) -> Callable[..., None] | None:
    blas = mkl()
    if blas is None:
        return None
    _, real = KINDS[code]
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    kinds = [*[ctypes.c_int] * 3, *[integer] * 3, real, pointer, integer, pointer, integer, real]
    function = ctypes.CFUNCTYPE(None, *kinds, pointer, integer)
    return function(blas.gemm[code])


def _layout(x: np.ndarray) -> tuple[int, int] | None:
    """The flag and the row length by which BLAS reads a matrix, None where it cannot."""
    rows, columns = x.strides
    size = x.itemsize
    if columns == size and rows >= x.shape[1] * size and rows % size == 0:
        return AS_IS, rows // size
    if rows == size and columns >= x.shape[0] * size and columns % size == 0:
        return TRANSPOSED, columns // size
    return None


def multiply(a: Any, b: Any, out: Any) -> Any:
    """``a @ b`` by MKL, or None where that is no matter for it."""
    if (
        not _extras.get().packed
        or type(a) is not np.ndarray
        or type(b) is not np.ndarray
        or a.ndim != 2
        or b.ndim != 2
        or a.shape[0] * b.size < LARGE
        or a.dtype != b.dtype
        or a.shape[1] != b.shape[0]
    ):
        return None
    gemm = _gemm(a.dtype.str[1:]) if a.dtype.str in ("<f4", "<f8") else None
    left, right = _layout(a), _layout(b)
    if gemm is None or left is None or right is None:
        return None
    (m, k), n = a.shape, b.shape[1]
    if out is None:
        out = np.empty((m, n), a.dtype)
    elif out.shape != (m, n) or out.dtype != a.dtype or not out.flags.c_contiguous:
        return None
    gemm(
        ROW_MAJOR, left[0], right[0], m, n, k, 1.0,
        a.ctypes.data, left[1], b.ctypes.data, right[1], 0.0, out.ctypes.data, n,
    )  # fmt: skip
    return out
