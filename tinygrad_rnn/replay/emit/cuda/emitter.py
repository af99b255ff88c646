"""Run a loop on a GPU: one launch for each fused kernel and each product of a step.

Whatever can be known before is computed when the loop is compiled, and the views or addresses of
products are found before the first step; inside the loop nothing happens but launches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, TypeAlias

from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.emit.common import CompiledLoop, CompiledStep, Fallback, StepAt, view
from tinygrad_rnn.replay.emit.cuda.graphs import Graphs, Work, why_no_graph
from tinygrad_rnn.replay.emit.cuda.source import NAME, cuda_kernel
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Loop, Product, Ref


class Bound(NamedTuple):
    """A step on its arrays: what is launched at each t, and before the first one.

    ``held`` is memory that it uses and nobody else holds.
    """

    at: StepAt
    first: tuple[Callable[[], Any], ...] = ()
    held: Any = None


Prepare: TypeAlias = Callable[[Sequence[Array], int], Bound]
"""What makes a step of the arrays and the number of steps T, before the loop runs."""


class CudaLoop:
    """A loop's steps, to be launched for every t on arrays that are given.

    Attributes
    ----------
    graphs : the graphs that it is captured in, None where they are not asked for.
    """

    def __init__(self, prepared: Sequence[Prepare], reverse: bool, graphs: Graphs | None) -> None:
        self.prepared, self.reverse, self.graphs = prepared, reverse, graphs

    def __call__(self, arrays: Sequence[Array], T: int) -> None:
        if T == 0 or (self.graphs is not None and self.graphs.run(arrays, T, self._bound)):
            return
        work, _ = self._bound(arrays, T)
        work()

    def _bound(self, arrays: Sequence[Array], T: int) -> Work:
        bound = [prepare(arrays, T) for prepare in self.prepared]

        def work() -> None:
            for step in bound:
                for begin in step.first:
                    begin()
            steps = [step.at for step in bound]
            for t in reversed(range(T)) if self.reverse else range(T):
                for at in steps:
                    at(t)

        return work, [step.held for step in bound]


def compile_loop(
    loop: Loop, backend: Backend, fallback: Fallback, cublas: bool = False, graph: bool = False
) -> CudaLoop:
    """A function of the loop's arrays and T that runs its steps for every t.

    Kernels are compiled by the backend, calls are left to ``fallback``. Products are the backend's
    ``matmul``, for float16 operands of a float32 result its ``matmul_wide``; with ``cublas`` they
    are its prepared ones where it has them. With ``graph`` the loop is captured, and its products
    are prepared whether it is or not, so that the numbers are the same.

    Raises
    ------
    ValueError : where the backend has no kernels, or one of the loop's cannot be translated.
    """
    prepared: list[Prepare] = []
    for step in loop.steps:
        if isinstance(step, Kernel):
            made = _kernel(step, loop.arrays, backend)
        elif isinstance(step, Product):
            made = _product(step, backend, cublas or graph)
        else:
            made = _call(fallback(step))
        if made is not None:
            prepared.append(made)
    return CudaLoop(prepared, loop.reverse, Graphs(loop, backend) if graph else None)


def graph_reasons(
    loop: Loop, backend: Backend, made: CompiledLoop | None, wanted: bool
) -> list[str]:
    """Whether a loop is captured in CUDA graphs where that is wanted, and why not."""
    if not wanted:
        return []
    graphs = made.graphs if isinstance(made, CudaLoop) else None
    why = why_no_graph(loop, backend) if graphs is None else graphs.reason
    return ["is captured in CUDA graphs" if why is None else f"launched step by step: {why}"]


def _kernel(kernel: Kernel, specs: Sequence[ArraySpec], backend: Backend) -> Prepare | None:
    source, used, numbers, grid, block = cuda_kernel(kernel, specs)
    if grid == 0:
        return None
    compiled = backend.compile_kernel(source, NAME)
    if compiled is None:
        raise ValueError(f"the backend {backend.name!r} has no kernels of its own")

    def prepare(arrays: Sequence[Array], T: int) -> Bound:
        fixed = (*(arrays[k] for k in used), numbers)

        def launch(t: int) -> None:
            compiled((grid,), (block,), (*fixed, t))

        return Bound(launch)

    return prepare


def _product(product: Product, backend: Backend, prepared: bool) -> Prepare | None:
    if prod(product.out.shape) == 0:
        return None
    matmul = backend.matmul_wide if product.wide else backend.xp.matmul

    def prepare(arrays: Sequence[Array], T: int) -> Bound:
        refs = product.a, product.b, product.out
        a, b, out = (view(ref, arrays[ref.array], backend, 0, T) for ref in refs)
        wanted = prepared or product.wide
        ready = backend.prepared_product(a, b, out) if wanted else None
        first, held = (), None
        if ready is None and product.constant and b.ndim == 2 and not _dense(product.b):
            constant, b = b, backend.xp.empty(b.shape, dtype=b.dtype)
            first, held = (_copying(constant, b),), b
            ready = backend.prepared_product(a, b, out) if wanted else None
        if ready is not None:
            return Bound(ready[1], (*first, ready[0]), held)
        left, right, into = (_at_each(x, ref, T) for x, ref in zip((a, b, out), refs, strict=True))

        def multiply(t: int) -> None:
            matmul(left[t], right[t], out=into[t])

        return Bound(multiply, first, held)

    return prepare


def _copying(source: Array, target: Array) -> Callable[[], None]:
    def copy() -> None:
        target[...] = source

    return copy


def _call(compiled: CompiledStep) -> Prepare:
    return lambda arrays, T: Bound(compiled(arrays))


def _at_each(array: Array, ref: Ref, T: int) -> list[Array]:
    """What a Ref means at each t."""
    return [array] * T if ref.time is None else [array[t] for t in range(T)]


def _dense(ref: Ref) -> bool:
    """Whether a matrix lies in memory row by row or column by column without gaps."""
    rows, columns = ref.shape
    return ref.strides in ((columns, 1), (1, rows))
