"""Frames: the arrays that a loop runs in, and the loop bound to them.

A loop of a few steps, as when a stream is followed, takes less time than to allocate its arrays
and to bind it to them. So the frames of such loops are kept, and a call copies its inputs in and
its results out: nothing that a user gets lies in a frame that is kept.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from tinygrad_rnn.backends import Array

LARGEST = 1 << 22
"""Bytes above which a frame is not kept: to allocate it takes no part of the time."""
KEPT = 16
"""Frames kept per loop; beyond, those that were not used for longest go."""


class Frame:
    """The arrays of a loop, in its order, and ``run``, which runs all steps on them.

    ``constants`` are the positions of those that belong to somebody else. While nobody uses the
    frame, it does not hold them.
    """

    def __init__(
        self, arrays: list[Any], constants: Iterable[int], run: Callable[[], None], kept: bool
    ) -> None:
        self.arrays, self.run, self.kept = arrays, run, kept
        self._seen = [(k, weakref.ref(arrays[k])) for k in constants] if kept else []

    def enter(self, inputs: Sequence[tuple[int, Array]]) -> bool:
        """Take the inputs of a call; False where a constant is another array than before."""
        arrays = self.arrays
        for k, array in inputs:
            if arrays[k] is None:
                arrays[k] = array
            else:
                arrays[k][...] = array
        return all([seen() is arrays[k] for k, seen in self._seen])

    def leave(self) -> None:
        """Let go of the constants."""
        for k, _ in self._seen:
            self.arrays[k] = None


class Frames:
    """The frames of one loop that nobody uses now. Each is used by one call at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[tuple[Hashable, Frame]] = []

    def __len__(self) -> int:
        return len(self._idle)

    def take(self, key: Hashable) -> Frame | None:
        """The frame that was given last for this key."""
        with self._lock:
            for k in reversed(range(len(self._idle))):
                if self._idle[k][0] == key:
                    return self._idle.pop(k)[1]
        return None

    def give(self, key: Hashable, frame: Frame) -> None:
        """Keep a frame for a later call."""
        frame.leave()
        with self._lock:
            self._idle.append((key, frame))
            del self._idle[:-KEPT]
