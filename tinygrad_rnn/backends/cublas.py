"""cuBLAS by ctypes: products that can be captured in a CUDA graph, and float16 ones in float32.

CuPy's wrapper refuses to work while a stream captures and casts float16 operands before a product
that is to be float32; cuBLAS does both. CuPy has loaded the library; here it is found by its name
and used through handles of our own, one for each thread and device. Arrays are read for their
addresses, shapes and strides alone, so nothing here imports CuPy.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

Memory = Callable[[int], Any]
"""``memory(size)`` gives so many bytes on the current device, as an array."""

_PLAIN, _TRANSPOSED = 0, 1
_DEFAULT_ALGORITHM = -1
_NO_REDUCED_SUMS = 16
"""The math mode in which partial sums of float16 products stay in float32. TF32 is off in it."""

_STATUS = {
    1: "NOT_INITIALIZED", 3: "ALLOC_FAILED", 7: "INVALID_VALUE", 8: "ARCH_MISMATCH",
    11: "MAPPING_ERROR", 13: "EXECUTION_FAILED", 14: "INTERNAL_ERROR", 15: "NOT_SUPPORTED",
    16: "LICENSE_ERROR",
}  # fmt: skip

_FLOAT, _DOUBLE = [(kind * 2)(1, 0) for kind in (ctypes.c_float, ctypes.c_double)]


class _Kind(NamedTuple):
    """How two dtypes, of the operands and of the result, are called in cuBLAS."""

    operands: int
    result: int
    compute: int
    one: int  # the addresses of the numbers in C = 1 A B + 0 C
    zero: int


def _kind(operands: int, result: int, compute: int, numbers: Any) -> _Kind:
    at = ctypes.addressof(numbers)
    return _Kind(operands, result, compute, at, at + ctypes.sizeof(numbers) // 2)


_KINDS = {
    ("f", "f"): _kind(0, 0, 68, _FLOAT),
    ("d", "d"): _kind(1, 1, 70, _DOUBLE),
    ("e", "f"): _kind(2, 0, 68, _FLOAT),
    ("e", "e"): _kind(2, 2, 68, _FLOAT),
}
"""CUDA_R_32F, _64F and _16F are 0, 1 and 2; CUBLAS_COMPUTE_32F and _64F are 68 and 70."""


class CuBLASError(RuntimeError):
    """What cuBLAS answered."""


def find(major: int) -> ctypes.CDLL | None:
    """The library of a CUDA version, which CuPy has loaded, or None."""
    name = f"cublas64_{major}.dll" if sys.platform == "win32" else f"libcublas.so.{major}"
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


class CuBLAS:
    """The library with the handles of all threads.

    Parameters
    ----------
    library : what :func:`find` has found.
    memory : where the handles get their workspaces.
    """

    def __init__(self, library: ctypes.CDLL, memory: Memory) -> None:
        pointer, integer, wide = ctypes.c_void_p, ctypes.c_int, ctypes.c_longlong
        self._functions = {
            "cublasCreate_v2": [pointer],
            "cublasSetMathMode": [pointer, integer],
            "cublasSetStream_v2": [pointer, pointer],
            "cublasSetWorkspace_v2": [pointer, pointer, ctypes.c_size_t],
            "cublasGemmEx": [
                pointer, *[integer] * 5, pointer, *[pointer, integer, integer] * 2, pointer,
                pointer, integer, integer, integer, integer,
            ],
            "cublasGemmStridedBatchedEx": [
                pointer, *[integer] * 5, pointer, *[pointer, integer, integer, wide] * 2, pointer,
                pointer, integer, integer, wide, *[integer] * 3,
            ],
        }  # fmt: skip
        for name, kinds in self._functions.items():
            getattr(library, name).argtypes = kinds
        self.library, self.memory = library, memory
        self._handles: dict[tuple[int, int], Handle] = {}

    def handle(self, device: int, workspace: int) -> Handle:
        """That of this thread and the current device, with workspaces of so many bytes.

        A thread that begins where one has ended takes that one's.
        """
        key = threading.get_ident(), device
        found = self._handles.get(key)
        if found is None:
            found = self._handles[key] = Handle(self, workspace)
        return found

    def call(self, name: str, *arguments: Any) -> None:
        """A function of the library; CuBLASError where it fails."""
        _check(getattr(self.library, name)(*arguments))


class Handle:
    """A handle of cuBLAS: the stream that it works on, and memory for each of its streams.

    Without memory of its own, work on two streams would meet in cuBLAS's, and sums could be taken
    in another order from run to run.
    """

    def __init__(self, blas: CuBLAS, workspace: int) -> None:
        self.blas, self._size = blas, workspace
        self._stream: int | None = None
        self._workspaces: dict[int, Any] = {}
        created = ctypes.c_void_p()
        blas.call("cublasCreate_v2", ctypes.addressof(created))
        self._value = created.value
        blas.call("cublasSetMathMode", self._value, _NO_REDUCED_SUMS)

    def use(self, stream: int, launched_on: int | None = None) -> None:
        """Work on a stream from now on.

        While a graph is captured, ``launched_on`` is the stream that it will be launched on: there
        it meets whatever else uses that stream's memory one after the other.
        """
        if stream == self._stream:
            return
        self._stream = None
        key = stream if launched_on is None else launched_on
        memory = self._workspaces.get(key)
        if memory is None:
            memory = self._workspaces[key] = self.blas.memory(self._size)
        self.blas.call("cublasSetStream_v2", self._value, stream)  # takes the workspace away
        self.blas.call("cublasSetWorkspace_v2", self._value, memory.data.ptr, self._size)
        self._stream = stream

    def prepared(self, a: Any, b: Any, out: Any) -> Callable[[int], None] | None:
        """What writes a[t] @ b[t] to out[t] on the stream in use, or None where cuBLAS cannot.

        An operand of two axes is the same for every t. What is returned holds addresses and no
        memory.
        """
        parts = _parts(a, b, out)
        if parts is None:
            return None
        kind, (m, k, n), (left, lda), (right, ldb), (_, ldc) = parts
        gemm, handle = self.blas.library.cublasGemmEx, self._value
        (x, dx), (y, dy), (z, dz) = map(_moving, (a, b, out))
        operands, result, compute, one, zero = kind

        def run(t: int) -> None:
            status = gemm(
                handle, right, left, n, m, k, one, y + t * dy, operands, ldb,
                x + t * dx, operands, lda, zero, z + t * dz, result, ldc, compute,
                _DEFAULT_ALGORITHM,
            )  # fmt: skip
            if status:
                _check(status)

        return run

    def multiply(self, a: Any, b: Any, out: Any) -> bool:
        """Write a @ b, of matrices or of stacks of as many, to ``out``; False where cuBLAS cannot.

        A matrix beside stacks is the same for all.
        """
        counts = {array.shape[0] for array in (a, b, out) if array.ndim == 3}
        parts = _parts(a, b, out) if len(counts) < 2 else None
        if parts is None or (counts and out.ndim == 2):
            return False
        kind, (m, k, n), (left, lda), (right, ldb), (_, ldc) = parts
        (x, dx), (y, dy), (z, dz) = map(_moving, (a, b, out))
        operands, result, compute, one, zero = kind
        size = a.itemsize
        self.blas.call(
            "cublasGemmStridedBatchedEx",
            self._value, right, left, n, m, k, one, y, operands, ldb, dy // size,
            x, operands, lda, dx // size, zero, z, result, ldc, dz // out.itemsize,
            counts.pop() if counts else 1, compute, _DEFAULT_ALGORITHM,
        )  # fmt: skip
        return True


def _check(status: int) -> None:
    if status:
        name = _STATUS.get(status, str(status))
        raise CuBLASError(f"a product of cuBLAS failed: CUBLAS_STATUS_{name}")


def _parts(a: Any, b: Any, out: Any) -> Any:
    """The dtypes, the sizes and the layouts of a product; None for what is nothing for cuBLAS.

    cuBLAS reads column by column. What lies row by row is the transposed matrix to it, so that the
    transposed product out^T = b^T a^T is what it is asked for.
    """
    kind = _KINDS.get((a.dtype.char, out.dtype.char)) if a.dtype == b.dtype else None
    layouts = [_layout(array) for array in (a, b, out)]
    (m, k), n = a.shape[-2:], b.shape[-1]
    shapes_agree = b.shape[-2] == k and out.shape[-2:] == (m, n)
    if kind is None or None in layouts or not shapes_agree or 0 in (m, k, n):
        return None
    if layouts[2][0] == _TRANSPOSED or max(m, k, n, *(ld for _, ld in layouts)) >= 1 << 31:
        return None
    return kind, (m, k, n), *layouts


def _layout(array: Any) -> Any:
    """Whether a matrix lies column by column, and how far apart its rows or columns are."""
    rows, columns = array.shape[-2:]
    down, right = (stride / array.itemsize for stride in array.strides[-2:])
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return _PLAIN, max(int(down) if rows > 1 else columns, 1)
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return _TRANSPOSED, max(int(right) if columns > 1 else rows, 1)
    return None


def _moving(array: Any) -> tuple[int, int]:
    """The address of the first matrix, and how many bytes further the next one lies."""
    return array.data.ptr, array.strides[0] if array.ndim == 3 else 0
