"""Run a loop on a GPU: one launch for each fused kernel and each product of a step.

Whatever can be known before is computed when the loop is compiled, and the views of products are
made before the first step; inside the loop nothing happens but launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TypeAlias

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.emit.common import CompiledLoop, CompiledStep, Fallback, StepAt, view
from tinygrad_rnn.replay.emit.cuda.source import NAME, cuda_kernel
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Loop, Product, Ref

Prepare: TypeAlias = Callable[[Sequence[Array], int], StepAt]
"""What makes a step of the arrays and the number of steps T, before the loop runs."""


def compile_loop(loop: Loop, backend: Backend, fallback: Fallback) -> CompiledLoop:
    """A function of the loop's arrays and T that runs its steps for every t.

    Kernels are compiled by the backend, products are its ``matmul``, or
    ``matmul_wide`` for float16 operands, calls are left to
    ``fallback``.

    Raises
    ------
    ValueError : where the backend has no kernels, or one of the loop's cannot be translated.
    """
    prepared: list[Prepare] = []
    for step in loop.steps:
        if isinstance(step, Kernel):
            made = _kernel(step, loop.arrays, backend)
        elif isinstance(step, Product):
            made = _product(step, backend)
        else:
            made = _call(fallback(step))
        if made is not None:
            prepared.append(made)

    def run(arrays: Sequence[Array], T: int) -> None:
        if T == 0:
            return
        steps = [prepare(arrays, T) for prepare in prepared]
        for t in reversed(range(T)) if loop.reverse else range(T):
            for step in steps:
                step(t)

    return run


def _kernel(kernel: Kernel, specs: Sequence[ArraySpec], backend: Backend) -> Prepare | None:
    source, used, numbers, grid, block = cuda_kernel(kernel, specs)
    if grid == 0:
        return None
    compiled = backend.compile_kernel(source, NAME)
    if compiled is None:
        raise ValueError(f"the backend {backend.name!r} has no kernels of its own")

    def prepare(arrays: Sequence[Array], T: int) -> StepAt:
        fixed = (*(arrays[k] for k in used), numbers)
        return lambda t: compiled((grid,), (block,), (*fixed, t))

    return prepare


def _product(product: Product, backend: Backend) -> Prepare | None:
    if prod(product.out.shape) == 0:
        return None
    matmul = backend.matmul_wide if product.wide else backend.xp.matmul

    def prepare(arrays: Sequence[Array], T: int) -> StepAt:
        a, b, out = (
            _views(ref, arrays[ref.array], backend, T)
            for ref in (product.a, product.b, product.out)
        )
        if product.constant and product.b.time is None and not _dense(product.b):
            b = [backend.xp.ascontiguousarray(b[0])] * T
        return lambda t: matmul(a[t], b[t], out=out[t])

    return prepare


def _call(compiled: CompiledStep) -> Prepare:
    return lambda arrays, T: compiled(arrays)


def _views(ref: Ref, array: Array, backend: Backend, T: int) -> list[Array]:
    """What a Ref means at each t."""
    found = view(ref, array, backend, 0, T)
    return [found] * T if ref.time is None else [found[t] for t in range(T)]


def _dense(ref: Ref) -> bool:
    """Whether a matrix lies in memory row by row or column by column without gaps."""
    rows, columns = ref.shape
    return ref.strides in ((columns, 1), (1, rows))
