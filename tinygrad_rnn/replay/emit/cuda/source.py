"""One CUDA kernel for one fused kernel of a loop: its source, and what it is launched with.

The source knows dtypes, the number of axes, which elements are repeated or lie side by side along
the last axis, and the constants. Sizes, strides and offsets are numbers of the launch, so that one
source serves every batch size and length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.replay.emit.common import Unsupported, accumulated, identity, variable
from tinygrad_rnn.replay.emit.cuda.expressions import (
    cast,
    line_text,
    literal,
    stored_type,
    to_half,
    value_type,
)
from tinygrad_rnn.replay.emit.cuda.preamble import PREAMBLE
from tinygrad_rnn.replay.program.loop import ArraySpec, DType, Kernel, Phase, Ref, phase_refs

NAME = "tinygrad_rnn_loop"
"""The name of every kernel."""

FLAT_BLOCK = 256
RUN_BLOCK = 512
MOST_BLOCKS = 65_536


class CudaKernel(NamedTuple):
    """The source of ``void tinygrad_rnn_loop(arrays..., Numbers n, long long t)``, and what it is
    launched with: ``(*arrays, numbers, t)``.

    Nothing is to be launched where ``grid`` is 0. ``numbers`` is a NumPy array of one element, a
    structure that is passed by value.
    """

    source: str
    arrays: tuple[int, ...]
    numbers: np.ndarray
    grid: int
    block: int


def cuda_kernel(kernel: Kernel, arrays: Sequence[ArraySpec]) -> CudaKernel:
    """One kernel in CUDA C.

    A kernel of one phase without reductions is a grid-stride loop over all elements. Any other
    gives each leading element to one block, whose threads stride over the last axis; a barrier
    stands between phases, and a reduction adds in an order that only the number of threads
    decides.

    Raises
    ------
    Unsupported : for a dtype, function or number that has no translation.
    """
    try:
        return _Writer(kernel, arrays).written()
    except Unsupported as problem:
        raise Unsupported(f"CUDA kernel: {problem}") from None


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


class _Writer:
    """Numbers are noted in the order in which the source first asks for them."""

    def __init__(self, kernel: Kernel, arrays: Sequence[ArraySpec]) -> None:
        self.kernel, self.arrays = kernel, arrays
        self.flat = len(kernel.phases) == 1 and not kernel.phases[0].reduces
        self.used: list[int] = []
        self.numbers: list[int] = []
        self.pointers: dict[tuple[Any, ...], str] = {}
        self.scratch: set[str] = set()
        self.lead = [self.number(size) for size in kernel.lead]
        self.widths = [self.number(phase.width) for phase in kernel.phases]
        self.body = self._flat() if self.flat else self._by_run()

    def number(self, value: int) -> str:
        """A number of the launch, by its name in the source."""
        self.numbers.append(value)
        return f"n.at[{len(self.numbers) - 1}]"

    def written(self) -> CudaKernel:
        structure = np.dtype([("at", np.int64, (len(self.numbers),))])
        numbers = np.array(self.numbers, np.int64).view(structure)
        runs = prod(self.kernel.lead)
        widest = max(phase.width for phase in self.kernel.phases)
        if self.flat:
            grid, block = -(-runs * widest // FLAT_BLOCK), FLAT_BLOCK
        else:
            idle = widest == 0 and not any(phase.reduces for phase in self.kernel.phases)
            grid = 0 if idle else runs
            block = min(max(1 << (widest - 1).bit_length(), 32), RUN_BLOCK)
        return CudaKernel(self._source(), tuple(self.used), numbers, min(grid, MOST_BLOCKS), block)

    def _source(self) -> str:
        arguments = [f"{stored_type(self.arrays[k].dtype)}* a{k}" for k in self.used]
        block = FLAT_BLOCK if self.flat else RUN_BLOCK
        return "\n".join(
            [
                f"{PREAMBLE}struct Numbers {{ long long at[{len(self.numbers)}]; }};",
                f'extern "C" __global__ void __launch_bounds__({block})',
                f"{NAME}({', '.join([*arguments, 'const Numbers n', 'const long long t'])}) {{",
                *_indented(
                    f"__shared__ {kind} {_scratch(kind)}[{block}];" for kind in sorted(self.scratch)
                ),
                *_indented(self.body),
                "}",
                "",
            ]
        )

    # The two ways to run over the elements

    def _flat(self) -> list[str]:
        (phase,) = self.kernel.phases
        count = " * ".join([*self.lead, self.widths[0]])
        indices = self._unravelled("i", [*self.lead, self.widths[0]], [*self._axes(), "j"])
        return [
            f"const long long count = {count};",
            "const long long stride = (long long)gridDim.x * blockDim.x;",
            "const long long start = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
            "for (long long i = start; i < count; i += stride) {",
            *_indented(indices + self._pointers([phase]) + self._element(0, phase)),
            "}",
        ]

    def _by_run(self) -> list[str]:
        lines = self._unravelled("run", self.lead, self._axes())
        lines += self._pointers(self.kernel.phases)
        for k, (phase, width) in enumerate(zip(self.kernel.phases, self.widths, strict=True)):
            lines += ["{", *_indented(self._phase(k, phase, width)), "}", "__syncthreads();"]
        return [
            f"const long long runs = {' * '.join(self.lead) or '1'};",
            "for (long long run = blockIdx.x; run < runs; run += gridDim.x) {",
            *_indented(lines),
            "}",
        ]

    def _axes(self) -> list[str]:
        return [f"i{k}" for k in range(len(self.lead))]

    def _unravelled(self, flat: str, sizes: list[str], names: list[str]) -> list[str]:
        """Take an index apart; the first axis needs no remainder."""
        lines: list[str] = []
        rest = flat
        for k in range(len(names) - 1, 0, -1):
            lines.append(f"const long long {names[k]} = {rest} % {sizes[k]};")
            lines.append(f"const long long rest{k} = {rest} / {sizes[k]};")
            rest = f"rest{k}"
        return [*lines, f"const long long {names[0]} = {rest};"] if names else []

    # Places in memory

    def _pointers(self, phases: Iterable[Phase]) -> list[str]:
        """One pointer to the start of the run for each place that the phases read or write."""
        lines: list[str] = []
        for phase in phases:
            for ref in phase_refs(phase):
                if self._key(ref) in self.pointers:
                    continue
                if ref.array not in self.used:
                    self.used.append(ref.array)
                name = self.pointers[self._key(ref)] = f"p{len(self.pointers)}"
                spec = self.arrays[ref.array]
                per_step = prod(spec.shape)
                terms = [self.number(ref.offset + (ref.time or 0) * per_step)]
                if ref.time is not None:
                    terms.append(f"t * {self.number(per_step)}")
                leading = ref.strides[: len(self.lead)]
                terms += [f"i{k} * {self.number(s)}" for k, s in enumerate(leading)]
                kind = stored_type(spec.dtype)
                lines.append(f"{kind}* const {name} = a{ref.array} + ({' + '.join(terms)});")
        return lines

    def _key(self, ref: Ref) -> tuple[Any, ...]:
        return ref.array, ref.time, ref.offset, ref.strides[: len(self.lead)]

    def _at(self, ref: Ref) -> str:
        """An element of the run."""
        step = ref.strides[-1]
        index = "0" if step == 0 else "j" if step == 1 else f"j * {self.number(step)}"
        return f"{self.pointers[self._key(ref)]}[{index}]"

    # The body

    def _phase(self, k: int, phase: Phase, width: str) -> list[str]:
        dtypes = self._dtypes(phase)
        names = [accumulated(number, k) for number in range(len(phase.reduces))]
        starts: list[str] = []
        ends: list[str] = []
        for name, (value, how, ref) in zip(names, phase.reduces, strict=True):
            accumulator = _accumulator(dtypes[value], self.arrays[ref.array].dtype)
            kind = value_type(accumulator)
            self.scratch.add(kind)
            starts.append(f"{kind} {name} = {literal(identity(how, accumulator), accumulator)};")
            ends.append(f"{name} = loop_reduce<loop_{how}>({name}, {_scratch(kind)});")
            ends.append(f"if (threadIdx.x == 0) {self._store(ref, name, accumulator)}")
        element = self._element(k, phase, names)
        loop = f"for (long long j = threadIdx.x; j < {width}; j += blockDim.x) {{"
        return [*starts, loop, *_indented(element), "}", *ends]

    def _dtypes(self, phase: Phase) -> dict[str, DType]:
        read = {name: self.arrays[ref.array].dtype for name, ref in phase.reads}
        return read | {line.target: line.dtype for line in phase.lines}

    def _element(self, k: int, phase: Phase, totals: Sequence[str] = ()) -> list[str]:
        """Read, compute, write and accumulate one element of the run."""
        lines: list[str] = []
        values: dict[str, tuple[str, DType]] = {}

        def define(name: str, new: str, text: str, dtype: DType) -> None:
            lines.append(f"const {value_type(dtype)} {new} = {text};")
            values[name] = new, dtype

        for name, ref in phase.reads:
            dtype = self.arrays[ref.array].dtype
            at = self._at(ref)
            text = f"loop_from_half({at})" if dtype == np.float16 else at
            define(name, f"r{len(lines)}_{k}", text, dtype)
        for line in phase.lines:
            define(line.target, variable(line.target, k), line_text(line, values), line.dtype)
        for value, ref in phase.writes:
            to = self.arrays[ref.array].dtype
            text, dtype = values[value] if isinstance(value, str) else (literal(value, to), to)
            lines.append(self._store(ref, text, dtype))
        for total, (value, how, ref) in zip(totals, phase.reduces, strict=True):
            text, dtype = values[value]
            kind = value_type(_accumulator(dtype, self.arrays[ref.array].dtype))
            lines.append(f"{total} = loop_{how}::of<{kind}>({total}, {text});")
        return lines

    def _store(self, ref: Ref, text: str, dtype: DType) -> str:
        """An assignment to an element of an array, with the rounding that it needs."""
        to = self.arrays[ref.array].dtype
        value = to_half(text, dtype) if to == np.float16 else cast(text, dtype, to)
        return f"{self._at(ref)} = {value};"


def _scratch(kind: str) -> str:
    return f"scratch_{kind.replace(' ', '_')}"


def _accumulator(value: DType, target: DType) -> DType:
    """Sums of integers and bools are taken in int64, of float16 in float32."""
    wide = np.promote_types(np.promote_types(value, target), np.float32)
    return np.dtype(np.int64) if value.kind in "biu" and target.kind in "biu" else wide
