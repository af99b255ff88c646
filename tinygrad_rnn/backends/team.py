"""MKL's team of threads, for other work than MKL's.

After a product its threads wait in a loop for the next one, so threads of our own would have to
share the cores with them. These are ready at once.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.backends.blas import mkl
from tinygrad_rnn.backends.openmp import GNU

_Function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def team_size() -> int:
    """How many threads there are; 1 where MKL has none, or is not installed."""
    blas = mkl()
    return 1 if blas is None or blas.openmp is None else blas.threads()


_started = threading.local()


def start_team() -> None:
    """Let this thread's team begin, if it is GNU's: its threads compute as this one did then."""
    blas = mkl()
    if blas is None or blas.layer != GNU or blas.openmp is None or hasattr(_started, "team"):
        return
    _started.team = True
    blas.openmp.GOMP_parallel(_Function(lambda _: None), None, blas.threads(), 0)


def together(jobs: Sequence[Callable[[], None]]) -> None:
    """Run jobs side by side, one of them in the calling thread; raises what one of them raised."""
    blas = mkl()
    assert blas is not None  # team_size() is 1 without it
    openmp = blas.openmp
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
