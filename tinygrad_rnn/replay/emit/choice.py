"""Which emitter runs a loop: compiled by Numba, CUDA kernels, or array calls."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Backend, uses_mkl, using_mkl
from tinygrad_rnn.replay.emit import array
from tinygrad_rnn.replay.emit.array import Runner
from tinygrad_rnn.replay.emit.cuda import emitter as cuda_emitter
from tinygrad_rnn.replay.emit.cuda.source import kernel_source
from tinygrad_rnn.replay.program.loop import Kernel, Loop


class Emitters(NamedTuple):
    """What may be used where it is installed: Numba (``jit``) and packed products (``packed``)."""

    jit: bool
    packed: bool


_jit: ContextVar[bool] = ContextVar("tinygrad_rnn_jit", default=True)


@contextmanager
def using(jit: bool = True, packed: bool = True) -> Generator[None]:
    """Within the block, replay without Numba (``jit=False``) or without MKL (``packed=False``).

    By default whatever is installed is used. For comparisons, and for finding a fault.
    """
    token = _jit.set(jit)
    try:
        with using_mkl(packed):
            yield
    finally:
        _jit.reset(token)


@cache
def has_numba() -> bool:
    """Whether the extra ``jit`` is installed. It is imported when the first loop is compiled."""
    return importlib.util.find_spec("numba") is not None


def emit(loop: Loop, backend: Backend, known: dict[Any, Runner]) -> Runner:
    """The loop's function, compiled at the first call for each choice of emitters."""
    chosen = Emitters(_jit.get(), uses_mkl())
    runner = known.get(chosen)
    if runner is None:
        runner = known.setdefault(chosen, _compile(loop, backend, chosen))
    return runner


def bind(runner: Runner, arrays: Sequence[Any], steps: int) -> Callable[[], None] | None:
    """The loop bound to the memory of these arrays, to be run any number of times.

    It does not hold the arrays. None where the loop is more than one compiled function.
    """
    binds: Any = getattr(runner, "bind", None)
    return None if binds is None else binds(arrays, steps)


def loop_notes(loop: Loop, backend: Backend) -> list[str]:
    """By what a loop is run, and why any of its steps is run slower than it could be."""
    if backend.xp is not np:
        return _why_no_kernels(loop, backend) or ["runs as fused CUDA kernels"]
    if not _jit.get():
        return ["runs as NumPy calls, since Numba is switched off"]
    if not has_numba():
        return ['runs as NumPy calls; with Numba (extra "jit") it is one compiled function']
    from tinygrad_rnn.replay.emit.numba import emitter as numba_emitter

    slow = [(step, numba_emitter.reason(step, loop)) for step in loop.steps]
    why = list(dict.fromkeys(f"{text}, run by NumPy at each step" for _, text in slow if text))
    return why or ["the loop is one compiled function"]


def _compile(loop: Loop, backend: Backend, chosen: Emitters) -> Runner:
    if backend.xp is np and chosen.jit and has_numba():
        from tinygrad_rnn.replay.emit.numba import emitter as numba_emitter

        return numba_emitter.compile_loop(loop, array.one_step(loop, backend), packed=chosen.packed)
    if not _why_no_kernels(loop, backend):
        return cuda_emitter.compile_loop(loop, backend, array.one_step(loop, backend))
    return array.compile_loop(loop, backend)


def _why_no_kernels(loop: Loop, backend: Backend) -> list[str]:
    """Why a loop is not run as CUDA kernels; nothing where it is."""
    if type(backend).compile_kernel is Backend.compile_kernel:
        return ["runs as array calls: the backend has no kernels"]
    try:
        for step in loop.steps:
            if isinstance(step, Kernel):
                kernel_source(step, loop.arrays)
    except ValueError as error:
        return [f"runs as array calls: {error}"]
    return []


__all__ = ["Emitters", "Runner", "bind", "emit", "has_numba", "using"]
