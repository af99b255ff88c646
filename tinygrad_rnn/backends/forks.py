"""Work that must not be cut by a fork: modules imported late, libraries loaded, loops compiled.

A child process has one thread, and every lock is as it was when it was forked. One that another
thread held, of an import or of LLVM, is never given back there, and the child hangs at the first
need of it. So a fork waits until such work is done.
"""

from __future__ import annotations

# The locks that a fork waits for are taken in the order opposite to that of registering: logging's
# must come after ours, as Numba logs while it works.
import logging  # noqa: F401
import os
import threading
from contextlib import AbstractContextManager

_lock = threading.RLock()
_torn = False


def undivided() -> AbstractContextManager[bool]:
    """A block of such work; one thread at a time is within one."""
    return _lock


def torn() -> bool:
    """Whether this process is a child that was forked amid such work of another thread.

    That is so only where Ctrl-C ended the wait: Python reports it and forks all the same.
    """
    return _torn


def _go_on() -> bool:
    """Let others begin; whether it was for this thread to say."""
    try:
        _lock.release()
    except RuntimeError:
        return False
    return True


def _begin() -> None:
    global _lock, _torn
    _torn = not _go_on()
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _lock.acquire(), after_in_parent=_go_on, after_in_child=_begin
    )
