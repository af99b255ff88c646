"""Which OpenMP runs MKL's threads: the one that the process has.

Whoever calls ``omp_get_thread_num`` is answered by the first OpenMP that was loaded for all of the
process. PyTorch's wheels load GNU's. If MKL's threads are Intel's then, each of them hears that it
is number 0, and products come out wrong. So MKL is told to use GNU's threads where GNU's answers.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

INTEL, SEQUENTIAL, GNU = 0, 1, 3
"""What MKL_Set_Threading_Layer takes."""
NAMED = {"INTEL": INTEL, "SEQUENTIAL": SEQUENTIAL, "PGI": 2, "GNU": GNU, "TBB": 4}
"""What the variable MKL_THREADING_LAYER may say."""


class _Place(ctypes.Structure):
    """What ``dladdr`` tells of an address."""

    _fields_ = (
        ("file", ctypes.c_char_p),
        ("base", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
    )


def threading_layer(folder: Path) -> int:
    """The layer for an MKL in this folder.

    It is what MKL_THREADING_LAYER says, else Intel's if its library is there, as MKL ends the
    process where one is missing; but it is never Intel's beside another OpenMP.
    """
    wanted = NAMED.get(os.environ.get("MKL_THREADING_LAYER", "INTEL").upper(), INTEL)
    if wanted != INTEL:
        return wanted
    answers = _answering()
    if answers is None or "iomp5" in Path(answers).name:
        return INTEL if any(folder.glob("*iomp5*")) else SEQUENTIAL
    return GNU if any(folder.glob("*mkl_gnu_thread*")) and _has_gnu() else SEQUENTIAL


def _answering() -> str | None:
    """The file of the library that answers to ``omp_get_thread_num`` in this process, if any."""
    if sys.platform == "win32":  # there each library names the one that it calls
        return None
    process = ctypes.CDLL(None)
    try:
        function, tell = process.omp_get_thread_num, process.dladdr
    except AttributeError:
        return None
    place = _Place()
    tell(ctypes.cast(function, ctypes.c_void_p), ctypes.byref(place))
    return os.fsdecode(place.file or b"")


def _has_gnu() -> bool:
    """Whether GNU's OpenMP is there, which MKL asks the system for."""
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        return False
    return True
