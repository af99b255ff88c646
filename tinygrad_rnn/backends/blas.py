"""Matrix products by pointer: where NumPy's OpenBLAS and, if installed, MKL lie in memory.

The compiled time loop calls them directly. Nothing is loaded before somebody asks, and what is
missing is answered by None.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.backends.forks import undivided
from tinygrad_rnn.backends.openmp import INTEL, threading_layer


class Blas(NamedTuple):
    """A library with C's interface to BLAS.

    Attributes
    ----------
    name : "openblas" or "mkl".
    bits : the width of its integers, 32 or 64.
    gemm : the address of ``cblas_sgemm`` and ``cblas_dgemm``, by "f4" and "f8".
    gemv : likewise ``cblas_sgemv`` and ``cblas_dgemv``, a matrix times a vector.
    compute : the address of the product with a packed matrix, empty where there is none.
    threads : how many threads it uses now.
    set_threads : sets that number (of MKL: for the calling thread) and returns the one before.
    layer : what runs the threads of MKL: see :mod:`.openmp`.
    """

    name: str
    bits: int
    gemm: dict[str, int]
    gemv: dict[str, int]
    compute: dict[str, int]
    threads: Callable[[], int]
    set_threads: Callable[[int], int]
    library: ctypes.CDLL
    layer: int | None = None


_single = threading.Lock()
_singles: list[int] = []  # the number of threads to go back to, once for each loop that runs


def one_thread(blas: Blas) -> Callable[[], None]:
    """Let the library use one thread until the answer is called, by the last of several users."""
    with _single:
        _singles.append(_singles[-1] if _singles else blas.set_threads(1))

    def restore() -> None:
        with _single:
            before = _singles.pop()
            if not _singles:
                blas.set_threads(before)

    return restore


PACKED, B_MATRIX, ROW_MAJOR, AS_IS, TRANSPOSED = 151, 162, 101, 111, 112
"""The constants of cblas.h."""
KINDS = {"f4": ("s", ctypes.c_float), "f8": ("d", ctypes.c_double)}
"""What BLAS and C call the dtypes."""


def _addresses(library: ctypes.CDLL, name: str) -> dict[str, int]:
    """Where a function lies by dtype (* is its letter in the name); empty where one is missing."""
    found: dict[str, int] = {}
    for code, (letter, _) in KINDS.items():
        try:
            function = getattr(library, name.replace("*", letter))
        except AttributeError:
            return {}
        found[code] = ctypes.cast(function, ctypes.c_void_p).value or 0
    return found


def _load(paths: Iterator[Path]) -> Iterator[ctypes.CDLL]:
    for path in paths:
        try:
            yield ctypes.CDLL(str(path))
        except OSError:
            continue


def _numpy_libraries() -> Iterator[Path]:
    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs", package / ".libs"):
        yield from sorted(folder.glob("*openblas*"))


@cache
def openblas() -> Blas | None:
    """The OpenBLAS that NumPy brings along, or None."""
    for library in _load(_numpy_libraries()):
        for (bits, suffix), prefix in product(((64, "64_"), (32, "")), ("scipy_", "")):
            gemm = _addresses(library, f"{prefix}cblas_*gemm{suffix}")
            gemv = _addresses(library, f"{prefix}cblas_*gemv{suffix}")
            name = f"{prefix}openblas_set_num_threads{suffix}"
            if not gemm or not gemv or not hasattr(library, name):
                continue
            get: Callable[[], int] = getattr(library, name.replace("_set_", "_get_"))
            put = partial(_set_threads, get, getattr(library, name))
            return Blas("openblas", bits, gemm, gemv, {}, get, put, library)
    return None


def _set_threads(get: Callable[[], int], put: Callable[[int], None], count: int) -> int:
    before = get()
    put(count)
    return before


MKL = ("libmkl_rt.so*", "libmkl_rt*.dylib", "mkl_rt*.dll")
"""What the library that loads the rest of MKL is called: Linux, macOS, Windows."""


def _mkl_of_the_environment() -> Iterator[Path]:
    """Where conda and mostly pip put it: in the environment that runs, or the one below, if NumPy
    is from there.
    """
    numpy = Path(np.__file__).resolve()
    prefixes = [Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    for prefix in dict.fromkeys((prefixes[0], *(p for p in prefixes if p in numpy.parents))):
        for folder, pattern in zip(("lib", "lib", "Library/bin"), MKL, strict=True):
            yield from sorted((prefix / folder).glob(pattern), reverse=True)


def _mkl_of_the_package() -> Iterator[Path]:
    """What pip's ``mkl`` itself says that it has installed, wherever that is."""
    from importlib.metadata import PackageNotFoundError, distribution  # takes 20 ms to import

    try:
        package = distribution("mkl")
    except PackageNotFoundError:
        return
    named = [file for file in package.files or () if any(map(file.match, MKL))]
    yield from sorted((Path(str(f.locate())).resolve() for f in named), reverse=True)


def _open_to_all(path: Path) -> bool:
    """Whether every user may write to a file, or put another in its place."""
    if sys.platform == "win32":  # where a mode says nothing of others
        return False
    try:
        modes = [place.stat().st_mode for place in (path, path.parent, path.resolve().parent)]
    except OSError:
        return True
    return any(mode & stat.S_IWOTH for mode in modes)


def _mkl_libraries() -> Iterator[Path]:
    """Nothing that anybody might have put there: a library runs as soon as it is loaded."""
    for path in chain(_mkl_of_the_environment(), _mkl_of_the_package()):
        if not _open_to_all(path):
            yield path


@cache
def mkl() -> Blas | None:
    """MKL, for its products with a matrix that is packed once, or None.

    The layer of threads is fixed by the first use in the process. Where another has fixed one that
    would give wrong products, MKL is not used. Functions with 64-bit integers are used whatever the
    interface is.
    """
    with undivided():
        return _loaded_mkl()


def _loaded_mkl() -> Blas | None:
    for library in _load(_mkl_libraries()):
        gemm = _addresses(library, "cblas_*gemm_64")
        compute = _addresses(library, "cblas_*gemm_compute_64")
        if not gemm or not compute:
            continue
        wanted = threading_layer(Path(library._name).parent)
        layer = library.MKL_Set_Threading_Layer(wanted)
        if layer == INTEL != wanted:
            continue
        get: Callable[[], int] = library.MKL_Get_Max_Threads
        put: Callable[[int], int] = library.MKL_Set_Num_Threads_Local
        get()  # loads the layer, before anybody loads another OpenMP
        if hasattr(os, "register_at_fork"):
            # A child has no threads of GNU's, nor of Intel's once scikit-learn has been imported.
            os.register_at_fork(after_in_child=partial(library.MKL_Set_Num_Threads, 1))
        return Blas("mkl", 64, gemm, {}, compute, get, put, library, layer)
    return None


class Packing(NamedTuple):
    """What ``compute`` needs to know of a product m x n x k whose right matrix is packed."""

    code: str
    m: int
    n: int
    k: int
    layout: int
    stride: int

    def size(self, blas: Blas) -> int:
        """The bytes that the packed matrix takes."""
        name = f"cblas_{KINDS[self.code][0]}gemm_pack_get_size_64"
        kind = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_int, *[ctypes.c_int64] * 3)
        return kind((name, blas.library))(B_MATRIX, self.m, self.n, self.k)

    def pack(self, blas: Blas, source: int, target: int) -> None:
        """Write the matrix at address ``source`` to ``target``, an address aligned to 64 bytes."""
        letter, real = KINDS[self.code]
        integer, pointer = ctypes.c_int64, ctypes.c_void_p
        kinds = [*[ctypes.c_int] * 3, *[integer] * 3, real, pointer, integer, pointer]
        pack = ctypes.CFUNCTYPE(None, *kinds)((f"cblas_{letter}gemm_pack_64", blas.library))
        sizes = self.m, self.n, self.k
        pack(ROW_MAJOR, B_MATRIX, self.layout, *sizes, 1.0, source, self.stride, target)
