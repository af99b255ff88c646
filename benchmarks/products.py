"""The matrix products that a training step of an LSTM cannot do without, and nothing else.

Forward the product of x for all T, and at each step that of h; backward at each step that of the
gates' cotangent, and for all T those that give dW_ih, dW_hh and dx. All by one provider: NumPy's
OpenBLAS and MKL each keep threads that wait by spinning, and taking turns costs up to five times.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

Product = Callable[[np.ndarray, np.ndarray], Any]
"""``product(a, out)`` for a fixed right factor."""


class NumPy:
    """Products by NumPy."""

    multiply = staticmethod(np.matmul)

    def pack(self, weight: np.ndarray, rows: int) -> Product:
        """``a @ weight``."""
        return lambda a, out: np.matmul(a, weight, out)


class MKL:
    """Products by MKL, the repeated ones with cblas_sgemm_pack and cblas_sgemm_compute."""

    BY_ROWS, AS_IT_IS, TRANSPOSED, PACKED, RIGHT = 101, 111, 112, 151, 162
    ONE, ZERO = ctypes.c_float(1), ctypes.c_float(0)

    def __init__(self) -> None:
        files = importlib.metadata.files("mkl") or []
        path = next(file for file in files if file.name.startswith(("libmkl_rt", "mkl_rt")))
        self.library = ctypes.CDLL(str(path.locate()))
        self.library.cblas_sgemm_pack_get_size.restype = ctypes.c_size_t
        self.buffers: dict[tuple[int, ...], np.ndarray] = {}

    def multiply(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """``a @ b``, where b is laid out by rows and a is, or its transpose."""
        (m, k), n = a.shape, b.shape[1]
        turned = not a.flags.c_contiguous
        self.library.cblas_sgemm(
            self.BY_ROWS, self.TRANSPOSED if turned else self.AS_IT_IS, self.AS_IT_IS, m, n, k,
            self.ONE, pointer(a), m if turned else k, pointer(b), n, self.ZERO, pointer(out), n,
        )  # fmt: skip

    def pack(self, weight: np.ndarray, rows: int) -> Product:
        """``a @ weight``, with the weight (K, N) packed now for factors of so many rows."""
        (k, n), library = weight.shape, self.library
        if (rows, k, n) not in self.buffers:
            size = library.cblas_sgemm_pack_get_size(self.RIGHT, rows, n, k)
            buffer = np.empty(size + 64, np.uint8)
            self.buffers[rows, k, n] = buffer[-buffer.ctypes.data % 64 :]
        packed = self.buffers[rows, k, n].ctypes.data_as(ctypes.c_void_p)
        library.cblas_sgemm_pack(
            self.BY_ROWS, self.RIGHT, self.AS_IT_IS, rows, n, k,
            self.ONE, pointer(weight), n, packed,
        )  # fmt: skip
        compute = partial(
            library.cblas_sgemm_compute, self.BY_ROWS, self.AS_IT_IS, self.PACKED, rows, n, k
        )
        return lambda a, out: compute(pointer(a), k, packed, n, self.ZERO, pointer(out), n)


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    """Where an array begins."""
    return ctypes.c_void_p(array.ctypes.data)


def products_step(T: int, B: int, I: int, H: int, by_mkl: bool) -> Callable[[], list[Any]]:
    """The products of one training step; they return dx, dW_ih and dW_hh of made-up cotangents."""

    def draw(*shape: int) -> np.ndarray:
        return np.random.default_rng(0).standard_normal(shape, np.float32)

    w_x, w_h, w_back, w_dx = draw(I, 4 * H), draw(H, 4 * H), draw(4 * H, H), draw(4 * H, I)
    x, h, z, dz = draw(T * B, I), draw(T, B, H), draw(T, B, 4 * H), draw(T, B, 4 * H)
    dw_ih, dw_hh = draw(4 * H, I), draw(4 * H, H)
    dx, dh = draw(T * B, I), draw(B, H)
    provider = MKL() if by_mkl else NumPy()

    def step() -> list[Any]:
        provider.multiply(x, w_x, z.reshape(T * B, 4 * H))
        forward = provider.pack(w_h, B)
        for t in range(T):
            forward(h[t], z[t])
        back = provider.pack(w_back, B)
        for t in reversed(range(T)):
            back(dz[t], dh)
        rows = dz.reshape(T * B, 4 * H)
        provider.multiply(rows.T, x, dw_ih)
        provider.multiply(rows.T, h.reshape(T * B, H), dw_hh)
        provider.multiply(rows, w_dx, dx)
        return [z, dh, dx, dw_ih, dw_hh]

    return step
