"""Machine code by its source text: in the process, on disk, or compiled now.

All of that is done by a thread for each text, while the caller waits. Ctrl-C ends the wait alone:
an exception within Numba or LLVM would leave them unusable, or end the process. The code is
finished, and found by the next call.
"""

from __future__ import annotations

import warnings
from concurrent.futures import Future
from threading import Thread

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
    found: Future[CompiledFunction] = Future()
    try:
        # Python waits for it at its end, too: LLVM must not be torn down at work.
        Thread(target=_work, args=(source, found), name="tinygrad_rnn", daemon=False).start()
    except RuntimeError:  # there are no more threads, or Python is about to end
        _work(source, found)
    error = found.exception()  # waits
    while store.complaints:
        warnings.warn(store.complaints.pop(), RuntimeWarning, stacklevel=2)
    if isinstance(error, Exception):
        failure = Unusable(_sentence(error))
        give_up(str(failure))
        raise failure from error
    return found.result()


def _work(source: str, found: Future[CompiledFunction]) -> None:
    try:
        with undivided():
            if source not in _loaded:
                _loaded[source] = _made(source)
            found.set_result(_loaded[source])
    except BaseException as error:
        found.set_exception(error)


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
