"""Which emitter runs a loop, and why no faster one. To be read first in this room.

===================  ==============================================================================
``numba/``           one compiled function, where Numba can be used and the arrays are NumPy's
``cuda/``            one kernel for each of the loop's, where the backend has kernels
``array_calls.py``   calls of the array namespace: whatever is left
===================  ==============================================================================

The first two hand single steps that they cannot compile to the third. What they share is in
``common.py``.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Backend, Extras, extras
from tinygrad_rnn.backends.forks import undivided
from tinygrad_rnn.replay.emit import array_calls
from tinygrad_rnn.replay.emit.common import CompiledLoop, Unsupported
from tinygrad_rnn.replay.emit.cuda import emitter as cuda_emitter
from tinygrad_rnn.replay.emit.cuda.source import cuda_kernel
from tinygrad_rnn.replay.emit.cuda.work import Work, work_of
from tinygrad_rnn.replay.emit.numba.installed import Unusable, why_not
from tinygrad_rnn.replay.program.loop import Kernel, Loop


def has_numba() -> bool:
    """Whether loops are compiled by Numba, which is imported when the first of them is."""
    return why_not() is None


def emit(loop: Loop, backend: Backend, chosen: Extras) -> CompiledLoop:
    """The loop's function, by the best emitter that is there and may be used."""
    one_step = array_calls.one_step(loop, backend)
    emitter = emitter_of(loop, backend, chosen)
    if emitter == "Numba":
        try:
            return numba_emitter().compile_loop(loop, one_step, packed=chosen.packed)
        except Unusable as failure:
            warnings.warn(f"loops run as NumPy calls: {failure}", RuntimeWarning, stacklevel=2)
    if emitter == "CUDA":
        return cuda_emitter.compile_loop(loop, backend, one_step, chosen.cublas, chosen.graph)
    return array_calls.compile_loop(loop, backend)


def emitter_of(loop: Loop, backend: Backend, chosen: Extras | None = None) -> str:
    """The best emitter that is there and may be used: ``Numba``, ``CUDA`` or ``NumPy``."""
    chosen = extras() if chosen is None else chosen
    if backend.xp is np and chosen.jit and has_numba():
        return "Numba"
    return "NumPy" if _why_no_kernels(loop, backend) else "CUDA"


def loop_reasons(loop: Loop, backend: Backend, made: CompiledLoop | None = None) -> list[str]:
    """By what a loop is run, and why any of its steps is run slower than it could be.

    ``made`` is its function, where that is there already.
    """
    if backend.xp is not np:
        return _why_no_kernels(loop, backend) or [
            "runs as fused CUDA kernels",
            *cuda_emitter.graph_reasons(loop, backend, made, extras().graph),
        ]
    if not extras().jit:
        return ["runs as NumPy calls, since Numba is switched off"]
    missing = why_not()
    if missing is not None:
        return [f"runs as NumPy calls, since {missing}"]
    reasons = [numba_emitter().reason(step, loop) for step in loop.steps]
    why = list(dict.fromkeys(f"{text}, run by NumPy at each step" for text in reasons if text))
    return why or ["the loop is one compiled function"]


def work_on_card(loop: Loop, backend: Backend) -> Work | None:
    """What a step of a loop that is run as CUDA kernels costs."""
    return None if backend.xp is np or _why_no_kernels(loop, backend) else work_of(loop)


def _why_no_kernels(loop: Loop, backend: Backend) -> list[str]:
    """Why a loop is not run as CUDA kernels; nothing where it is."""
    if type(backend).compile_kernel is Backend.compile_kernel:
        return ["runs as array calls: the backend has no kernels"]
    try:
        for step in loop.steps:
            if isinstance(step, Kernel):
                cuda_kernel(step, loop.arrays)
    except Unsupported as problem:
        return [f"runs as array calls: {problem}"]
    return []


def numba_emitter() -> Any:
    """Its files are imported when they are needed, with no fork meanwhile."""
    with undivided():
        from tinygrad_rnn.replay.emit.numba import emitter

    return emitter
