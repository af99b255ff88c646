"""MKL's threads, for other work than MKL's products.

After a product they wait in a loop for the next one, so threads of our own would have to share the
cores with them. These are ready at once.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from tinygrad_rnn.backends.blas import mkl
from tinygrad_rnn.backends.openmp import GNU, INTEL

_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_started = threading.local()


@cache
def _openmp() -> Any:
    """The OpenMP that runs MKL's threads; None where there is none that takes other work."""
    blas = mkl()
    if blas is None or blas.layer not in (INTEL, GNU) or sys.platform == "win32":
        return None
    process = ctypes.CDLL(None)
    return process if hasattr(process, "GOMP_parallel") else None


def thread_count() -> int:
    """How many threads there are; 1 where MKL has none, or is not installed."""
    blas = mkl()
    return 1 if blas is None or _openmp() is None else blas.threads()


def start_threads() -> None:
    """Let the threads begin that work for this one, if they are GNU's.

    They compute as this thread does now ever after, whatever mode it sets later.
    """
    blas = mkl()
    if blas is None or blas.layer != GNU or _openmp() is None or hasattr(_started, "threads"):
        return
    _started.threads = True
    _openmp().GOMP_parallel(_Function(lambda _: None), None, blas.threads(), 0)


def run_in_threads(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs side by side, one of them in the calling thread; raises what one of them raised."""
    openmp = _openmp()
    done: list[int] = []
    errors: list[BaseException] = []

    def in_each_thread(_: Any) -> None:
        try:
            for k in range(openmp.omp_get_thread_num(), len(jobs), openmp.omp_get_num_threads()):
                jobs[k]()
                done.append(k)
        except BaseException as error:
            errors.append(error)

    openmp.GOMP_parallel(_Function(in_each_thread), None, min(len(jobs), thread_count()), 0)
    if errors:
        raise errors[0]
    if len(done) < len(jobs):
        # Ctrl-C before the first line of a callback: Python drops what leaves one.
        raise KeyboardInterrupt
