"""A loop as one compiled function (Numba), or as compiled stretches between other steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from tinygrad_rnn.backends.blas import openblas
from tinygrad_rnn.backends.mkl_threads import run_in_threads
from tinygrad_rnn.replay.emit.common import CompiledLoop, CompiledStep, Fallback, Unsupported
from tinygrad_rnn.replay.emit.independent_rows import divided
from tinygrad_rnn.replay.emit.numba.cache import compiled_function
from tinygrad_rnn.replay.emit.numba.installed import why_not
from tinygrad_rnn.replay.emit.numba.source import kernel_source, module_source, product_code
from tinygrad_rnn.replay.emit.numba.table import Table, addresses, matrix
from tinygrad_rnn.replay.program.loop import (
    Call,
    Kernel,
    Loop,
    Product,
    Step,
    inside,
    refs,
    written,
)

Part: TypeAlias = Table | CompiledStep
"""A stretch of steps as one compiled function, or a step that is not compiled."""


def reason(step: Step, loop: Loop) -> str | None:
    """Why a step of the loop cannot be compiled, None where it can."""
    return why_not() or why_no_source(step, loop)


def why_no_source(step: Step, loop: Loop) -> str | None:
    """The same, where Numba can be used."""
    try:
        if isinstance(step, Kernel):
            kernel_source(step, loop.arrays)
        elif isinstance(step, Product):
            product_code(step, loop.arrays)
            for ref in (step.a, step.b, step.out):
                matrix(ref)
            if openblas() is None:
                return "NumPy's OpenBLAS was not found"
        else:
            return f"{step.primitive.name} is run as it is"
    except Unsupported as problem:
        return str(problem)
    return None


def compile_loop(loop: Loop, fallback: Fallback | None = None, packed: bool = True) -> CompiledLoop:
    """A function of the loop's arrays and T that runs all time steps.

    Parameters
    ----------
    fallback : what becomes of a step that cannot be compiled.
    packed : whether products with a constant matrix go to MKL, which packs it once per run.

    Raises
    ------
    ValueError : where a step cannot be compiled and there is no fallback, and, when the function
        is run, where an array is not what its ArraySpec says.
    Unusable : where Numba is there and fails.
    """
    parts: list[Part] = []
    stretch: list[Kernel | Product] = []

    def close() -> None:
        if stretch:
            parts.append(_stretch(stretch, loop, packed))
            stretch.clear()

    for step in loop.steps:
        why = reason(step, loop)
        if why is None and not isinstance(step, Call):
            stretch.append(step)
            continue
        if fallback is None:
            raise ValueError(f"compile_loop: every step must be compiled, but {why}")
        close()
        parts.append(fallback(step))
    close()
    return _Program(loop, parts, packed)


def _stretch(steps: list[Kernel | Product], loop: Loop, packed: bool) -> Table:
    library = openblas()
    source = module_source(steps, loop.arrays, library.bits if library else 64)
    return Table(tuple(steps), loop, compiled_function(source), packed)


class _Program:
    """The parts of a loop, one after the other at each t.

    One part alone runs through all t, and if the rows are independent, then each of several
    threads with some of them.
    """

    def __init__(self, loop: Loop, parts: list[Part], packed: bool) -> None:
        self._loop, self._parts, self._packed = loop, parts, packed
        self._threads: dict[int, list[Table]] = {}
        rows = [0] * len(loop.arrays)
        changing = {ref.array for step in loop.steps for ref in written(step)}
        for step in loop.steps:
            for ref in refs(step):
                rows[ref.array] = max(rows[ref.array], ref.time or 0)
                if not inside(ref, loop.arrays[ref.array]):
                    raise ValueError(f"{ref} leaves the array {loop.arrays[ref.array].name}")
        self._specs = [
            (spec.name, spec.dtype, spec.shape, rows[k] if spec.stacked else None, k in changing)
            for k, spec in enumerate(loop.arrays)
        ]

    def __call__(self, arrays: Sequence[np.ndarray], length: int) -> None:
        run = self.bind(arrays, length)
        if run is not None:
            run()
            return
        starts = addresses(arrays)
        bounds = [p.bind(starts, length) if isinstance(p, Table) else None for p in self._parts]
        runs: list[Callable[[int], None]] = []
        for part, bound in zip(self._parts, bounds, strict=True):
            if bound is not None:
                runs.append(bound.once)
            elif not isinstance(part, Table):
                runs.append(part(arrays))
        try:
            for bound in bounds:
                if bound is not None:
                    bound.begin()
            for t in range(*self._times(length)):
                for run in runs:
                    run(t)
        finally:
            for bound in reversed(bounds):
                if bound is not None:
                    bound.end()

    def bind(self, arrays: Sequence[np.ndarray], length: int) -> Callable[[], None] | None:
        """The loop on the memory of these arrays, if it is one function; it does not hold them."""
        self._check(arrays, length)
        if len(self._parts) != 1 or not isinstance(self._parts[0], Table) or length <= 0:
            return None
        starts, times = addresses(arrays), self._times(length)
        tables = self._divided(self._parts[0], length)
        runs = [table.bind(starts, length).through(*times) for table in tables]
        return partial(run_in_threads, runs) if len(runs) > 1 else runs[0]

    def _divided(self, whole: Table, length: int) -> list[Table]:
        """A table for each thread."""
        count = whole.useful_threads(length)
        if count not in self._threads:
            loops = divided(self._loop, count) if count > 1 else None
            self._threads[count] = [whole]
            if loops is not None:
                self._threads[count] = [
                    Table(loop.steps, loop, whole.function, self._packed, single=True)
                    for loop in loops
                ]
        return self._threads[count]

    def _times(self, length: int) -> tuple[int, int, int]:
        return (length - 1, -1, -1) if self._loop.reverse else (0, length, 1)

    def _check(self, arrays: Sequence[np.ndarray], length: int) -> None:
        if len(arrays) != len(self._specs):
            raise ValueError(f"the loop has {len(self._specs)} arrays, got {len(arrays)}")
        for array, (name, dtype, shape, more, changes) in zip(arrays, self._specs, strict=True):
            inner = array.shape if more is None else array.shape[1:]
            if array.dtype != dtype or inner != shape or not array.flags.c_contiguous:
                raise ValueError(
                    f"array {name} must be a contiguous {dtype} with shape {shape} at each step,"
                    f" got {array.dtype} {array.shape}"
                )
            if changes and not array.flags.writeable:
                raise ValueError(f"array {name} is written, but it is read-only")
            if more is not None and length > 0 and len(array) < length + more:
                raise ValueError(
                    f"array {name} must have {length + more} rows for {length} steps,"
                    f" got {len(array)}"
                )
