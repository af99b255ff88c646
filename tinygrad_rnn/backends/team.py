"""MKL's team of threads, for other work than MKL's.

After a product its threads wait in a loop for the next one, so threads of our own would have to
share the cores with them. These are ready at once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tinygrad_rnn.backends.blas import mkl

_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@cache
def _openmp() -> Any:
    """Intel's OpenMP, by which MKL runs its threads, or None."""
    blas = mkl()
    if blas is None or os.environ.get("MKL_THREADING_LAYER", "INTEL").upper() != "INTEL":
        return None
    blas.threads()  # now MKL loads it, or takes the copy that the process has already
    for name in ("libiomp5.so", "libiomp5.dylib"):
        try:  # never a second copy, which would end the process
            library = ctypes.CDLL(name, getattr(os, "RTLD_NOLOAD", 0))
        except OSError:
            continue
        if hasattr(library, "GOMP_parallel"):
            return library
    return None


def team_size() -> int:
    """How many threads there are; 1 where MKL has none, or is not installed."""
    blas = mkl()
    return 1 if blas is None or _openmp() is None else blas.threads()


def together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs side by side, one of them in the calling thread; raises what one of them raised."""
    openmp = _openmp()
    done: list[int] = []
    errors: list[BaseException] = []

    def part(_: Any) -> None:
        try:
            for k in range(openmp.omp_get_thread_num(), len(jobs), openmp.omp_get_num_threads()):
                jobs[k]()
                done.append(k)
        except BaseException as error:
            errors.append(error)

    openmp.GOMP_parallel(_Function(part), None, min(len(jobs), team_size()), 0)
    if errors:
        raise errors[0]
    if len(done) < len(jobs):
        # Ctrl-C before the first line of a part: Python drops what leaves a callback.
        raise KeyboardInterrupt
