"""What an emitter is given: the inside of the time loop as products, kernels and calls on arrays.

A loop is data. It says what one time step does and where its arrays lie; the emitters turn it into
NumPy calls, into one compiled function, or into CUDA kernels. Lengths of time are not part of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from tinygrad_rnn.tape import Primitive

DType: TypeAlias = "np.dtype[Any]"


class ArraySpec(NamedTuple):
    """One C-contiguous array of the loop: ``shape`` at each step, or once for all where fixed."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    stacked: bool  # whether it has a leading time axis, of T + 1 rows where it holds a state


class Ref(NamedTuple):
    """Elements of one array, as a step reads or writes them.

    Element (i, j, ...) of ``shape`` lies ``offset + i * strides[0] + j * strides[1] + ...``
    elements behind the start of the array, or of its row ``t + time`` where it is stacked.
    A stride is 0 where one element is repeated.
    """

    array: int  # its place in Loop.arrays
    time: int | None  # 0 or 1 for a stacked array, None for a fixed one
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0


class Line(NamedTuple):
    """``target = function(operands)``, for every element of the shape that a kernel runs over.

    ``function`` is one of ``ops/kernel_language.py``, that of an operator or ``"cast"``;
    ``operands`` are names of reads or of earlier targets, or Python numbers. Operands are brought
    to ``compute``, but the condition of ``"select"`` to bool. ``dtype`` is that of the target:
    bool for a comparison, ``"isnan"`` and ``"isfinite"``, any for ``"cast"``, else ``compute``.
    Bools are compared, cast, chosen and joined by ``bitwise_`` functions, and no more; of integers
    there is no rounding.
    """

    target: str
    function: str
    operands: tuple[str | float | int | bool, ...]
    compute: DType
    dtype: DType

    @property
    def operand_dtypes(self) -> list[DType]:
        """What the operands are brought to."""
        first = np.dtype(np.bool_) if self.function == "select" else self.compute
        return [first, self.compute, self.compute][: len(self.operands)]


class Phase(NamedTuple):
    """One run along the last axis of a kernel: read, compute, write, reduce.

    Every Ref has the kernel's leading axes and ``width`` as its shape. A reduction's Ref has stride
    0 along the last axis: one element for the whole run. What an earlier phase wrote or reduced at
    the same place, a later one may read.
    """

    width: int
    reads: tuple[tuple[str, Ref], ...]
    lines: tuple[Line, ...]
    writes: tuple[tuple[str | float | int | bool, Ref], ...]
    reduces: tuple[tuple[str, Literal["sum", "max", "min"], Ref], ...] = ()


class Kernel(NamedTuple):
    """Phases that are run one after the other at each element of the leading axes ``lead``.

    The leading elements are independent of each other. Within a phase an element that is both
    read and written is read first, and always at its own place.
    """

    lead: tuple[int, ...]
    phases: tuple[Phase, ...]


class Product(NamedTuple):
    """``out = a @ b`` for two-dimensional operands of one dtype; ``out`` overlaps neither.

    ``wide`` says that it is float32, summed in float32, for operands of float16.
    ``constant`` says that b does not change during the loop, so that it can be packed once.
    """

    a: Ref
    b: Ref
    out: Ref
    constant: bool
    wide: bool = False


class Call(NamedTuple):
    """The forward of a primitive, run as it is, with its results copied to ``outputs``."""

    primitive: Primitive
    operands: tuple[Ref | float | int | bool, ...]
    params: dict[str, Any]
    outputs: tuple[Ref | None, ...]


Step: TypeAlias = Kernel | Product | Call


class Loop(NamedTuple):
    """One time step as a list of steps, run for t = 0 ... T-1, or from T-1 down to 0."""

    arrays: tuple[ArraySpec, ...]
    steps: tuple[Step, ...]
    reverse: bool


def rank(dtype: DType) -> tuple[int, int]:
    """Kind and size, by which dtypes are wider or narrower."""
    return "biuf".index(dtype.kind), dtype.itemsize


def phase_refs(phase: Phase) -> Iterator[Ref]:
    """Everything that a phase reads or writes."""
    yield from (ref for _, ref in phase.reads)
    yield from (ref for _, ref in phase.writes)
    yield from (ref for _, _, ref in phase.reduces)


def read(step: Step) -> Iterator[Ref]:
    """The places that a step reads."""
    if isinstance(step, Kernel):
        yield from (ref for phase in step.phases for _, ref in phase.reads)
    elif isinstance(step, Product):
        yield from (step.a, step.b)
    else:
        yield from (x for x in step.operands if isinstance(x, Ref))


def written(step: Step) -> Iterator[Ref]:
    """The places that a step writes."""
    if isinstance(step, Kernel):
        for phase in step.phases:
            yield from (ref for _, ref in phase.writes)
            yield from (ref for _, _, ref in phase.reduces)
    elif isinstance(step, Product):
        yield step.out
    else:
        yield from (x for x in step.outputs if x is not None)


def refs(step: Step) -> Iterator[Ref]:
    """Everything that a step reads or writes, phase by phase."""
    if isinstance(step, Kernel):
        for phase in step.phases:
            yield from phase_refs(phase)
    else:
        yield from read(step)
        yield from written(step)


def mapped(step: Step, new: Callable[[Ref], Ref]) -> Step:
    """A step with another Ref in place of each."""
    if isinstance(step, Kernel):
        phases = [
            phase._replace(
                reads=tuple((name, new(ref)) for name, ref in phase.reads),
                writes=tuple((value, new(ref)) for value, ref in phase.writes),
                reduces=tuple((name, kind, new(ref)) for name, kind, ref in phase.reduces),
            )
            for phase in step.phases
        ]
        return step._replace(phases=tuple(phases))
    if isinstance(step, Product):
        return step._replace(a=new(step.a), b=new(step.b), out=new(step.out))
    return step._replace(
        operands=tuple(new(x) if isinstance(x, Ref) else x for x in step.operands),
        outputs=tuple(x and new(x) for x in step.outputs),
    )


def extent(ref: Ref) -> tuple[int, int]:
    """The lowest and the highest place, from the start of the array or row, of a Ref's elements."""
    moves = [(n - 1) * stride for n, stride in zip(ref.shape, ref.strides, strict=True)]
    low = ref.offset + sum(move for move in moves if move < 0)
    return low, ref.offset + sum(move for move in moves if move > 0)


def inside(ref: Ref, spec: ArraySpec) -> bool:
    """Whether all elements of a Ref lie in the array, or in the row, that it names."""
    if 0 in ref.shape:
        return True
    low, high = extent(ref)
    return 0 <= low <= high < math.prod(spec.shape) and spec.stacked == (ref.time is not None)
