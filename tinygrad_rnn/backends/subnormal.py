"""Numbers so near to 0 that a processor takes a hundred times as long for them.

A gradient that vanishes over time goes through them before it is 0: below 1.2e-38 in float32 a step
backwards took twenty times as long as above. Nothing is learnt from such numbers.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

_T = TypeVar("_T")

MXCSR, FLUSH = 7, 0x8040
"""Where C's fenv_t holds the mode of the processor (x86-64, Linux), and the bits that are set."""

_Environment = ctypes.c_uint32 * 8


@cache
def _functions() -> tuple[Any, Any] | None:
    """C's functions that tell and set the mode of the calling thread, where that is known."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return None
    library = ctypes.CDLL(None)
    try:
        return library.fegetenv, library.fesetenv
    except AttributeError:
        return None


def flushed(work: Callable[[], _T]) -> _T:
    """``work()``, with subnormal numbers counted as 0 in this thread and in those it starts.

    Elsewhere than on x86-64 with Linux nothing is changed. A function and no context manager, since
    Ctrl-C may come between any two lines of those.
    """
    functions = _functions()
    if functions is None:
        return work()
    tell, put = functions
    before = _Environment()
    tell(before)
    mode = _Environment.from_buffer_copy(before)
    mode[MXCSR] |= FLUSH
    try:
        put(mode)
        return work()
    finally:
        put(before)
