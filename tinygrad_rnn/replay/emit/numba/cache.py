"""Machine code by its source text: in the process, on disk, or compiled now.

All of that is done by a thread for each text, while the caller waits. Ctrl-C ends the wait alone:
an exception within Numba or LLVM would leave them unusable, or end the process. The code is
finished, and found by the next call.
"""

from __future__ import annotations

import threading
import warnings

from tinygrad_rnn.backends.forks import undivided
from tinygrad_rnn.replay.emit.numba import store
from tinygrad_rnn.replay.emit.numba.installed import Unusable, give_up
from tinygrad_rnn.replay.emit.numba.machine import Run, compiled, digest_of, loaded

_loaded: dict[str, Run] = {}
_compiled_here = 0


def compiled_here() -> int:
    """How many texts this process has compiled, and not found on disk."""
    return _compiled_here


def function(source: str) -> Run:
    """The compiled ``run`` of a module's source.

    Raises
    ------
    Unusable : Numba cannot compile in this process, and will not be asked again.
    """
    found = _loaded.get(source)
    return _Job(source).result() if found is None else found


class _Job:
    """One text, looked for and else compiled by a thread of its own."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._done = threading.Event()
        self._found: Run | BaseException | None = None

    def result(self) -> Run:
        """The function, once there is one."""
        try:
            # Python waits for it at its end, too: LLVM must not be torn down at work.
            threading.Thread(target=self._work, name="tinygrad_rnn", daemon=False).start()
        except RuntimeError:  # there are no more threads, or Python is about to end
            self._work()
        self._done.wait()
        while store.complaints:
            warnings.warn(store.complaints.pop(), RuntimeWarning, stacklevel=2)
        if isinstance(self._found, Exception):
            failure = Unusable(_sentence(self._found))
            give_up(str(failure))
            raise failure from self._found
        if isinstance(self._found, BaseException):
            raise self._found
        assert self._found is not None
        return self._found

    def _work(self) -> None:
        try:
            with undivided():
                if self._source not in _loaded:
                    _loaded[self._source] = _made(self._source)
                self._found = _loaded[self._source]
        except BaseException as error:
            self._found = error
        finally:
            self._done.set()


def _made(source: str) -> Run:
    """The function of a text that this process has not met."""
    global _compiled_here
    digest = digest_of(source)
    code = store.read(digest)
    run = None if code is None else loaded(code)
    if run is None:
        code = compiled(source, digest)
        _compiled_here += 1
        store.write(digest, code)
        run = loaded(code)
    if run is None:
        raise RuntimeError("LLVM misses what Numba's code calls")
    return run


def _sentence(error: Exception) -> str:
    """What an error of Numba's comes to."""
    if isinstance(error, Unusable):
        return str(error)
    first, *_ = [*str(error).strip().splitlines(), ""]
    return f"Numba failed with {type(error).__name__}: {first[:200]}"


__all__ = ["Run", "compiled_here", "function"]
