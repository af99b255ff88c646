"""Machine code by its source text: in the process, on disk, or compiled now.

All of that is done by a thread for each text, while the caller waits. Ctrl-C ends the wait alone:
an exception within Numba or LLVM would leave them unusable, or end the process. The code is
finished, and found by the next call.
"""

from __future__ import annotations

import warnings
from threading import Lock, Thread

from tinygrad_rnn.backends.forks import undivided
from tinygrad_rnn.replay.emit.numba import store
from tinygrad_rnn.replay.emit.numba.installed import Unusable, give_up
from tinygrad_rnn.replay.emit.numba.machine import CompiledFunction, compiled, digest_of, loaded

_loaded: dict[str, CompiledFunction] = {}
_compiled_here = 0


def compiled_here() -> int:
    """How many texts this process has compiled, and not found on disk."""
    return _compiled_here


def compiled_function(source: str) -> CompiledFunction:
    """The compiled ``run`` of a module's source.

    Raises
    ------
    Unusable : Numba cannot compile in this process, and will not be asked again.
    """
    found = _loaded.get(source)
    return _wait_for(source) if found is None else found


def _wait_for(source: str) -> CompiledFunction:
    """The function of a text, looked for and else compiled by a thread of its own."""
    made: list[CompiledFunction | BaseException] = []
    waiting = Lock()  # and no Event: Ctrl-C within one's wait can leave its lock taken
    waiting.acquire()

    def work() -> None:
        try:
            with undivided():
                if source not in _loaded:
                    _loaded[source] = _made(source)
            made.append(_loaded[source])
        except BaseException as error:
            made.append(error)
        finally:
            waiting.release()

    try:
        # Python waits for it at its end, too: LLVM must not be torn down at work.
        Thread(target=work, name="tinygrad_rnn", daemon=False).start()
    except RuntimeError:  # there are no more threads, or Python is about to end
        work()
    waiting.acquire()
    while store.complaints:
        warnings.warn(store.complaints.pop(), RuntimeWarning, stacklevel=2)
    (found,) = made
    if isinstance(found, Exception):
        failure = Unusable(_sentence(found))
        give_up(str(failure))
        raise failure from found
    if isinstance(found, BaseException):
        raise found
    return found


def _made(source: str) -> CompiledFunction:
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


__all__ = ["CompiledFunction", "compiled_function", "compiled_here"]
