"""Ctrl-C as a wish instead of an accident."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interruption() -> Generator[Callable[[], bool]]:
    """Within the block a first Ctrl-C only makes the function that it gives say True.

    A second one raises KeyboardInterrupt, as ever. The handler of before is put back at the end.
    """
    previous = signal.getsignal(signal.SIGINT)
    asked = threading.Event()

    def ask(*_: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    # Python lets only the main thread change handlers.
    mine = threading.current_thread() is threading.main_thread()
    if mine:
        signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        if mine:
            signal.signal(signal.SIGINT, previous or signal.SIG_DFL)
