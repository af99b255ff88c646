"""The source text of a loop: one Python function per kernel, and one that runs through time.

Nothing in the text depends on a size. Sizes, strides and addresses stand in a table of integers,
and the text only says where: :class:`.table.Table` fills it in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from tinygrad_rnn.replay.emit.common import Unsupported, accumulated, identity, variable
from tinygrad_rnn.replay.emit.numba.expressions import CODES, Statements, cast, code_of, constant
from tinygrad_rnn.replay.program.loop import (
    ArraySpec,
    Kernel,
    Phase,
    Product,
    Ref,
    extent,
    phase_refs,
    refs,
)

HEADER = '''"""Written by tinygrad_rnn.replay. Safe to delete."""

import math

from numba import float32, float64, int32, int64, njit

from tinygrad_rnn.replay.emit.numba.gemm import gemm
from tinygrad_rnn.replay.emit.numba.helpers import (
    floor_divide_float, floor_divide_integer, power_integer, remainder_float, remainder_integer,
)
from tinygrad_rnn.replay.emit.numba.intrinsics import (
    accumulate, address, ceil, fabs, floor, flush, greatest, least, load, maximum, minimum,
    noinline, number, rint, select, set_mode, sqrt, store,
)
from tinygrad_rnn.replay.emit.numba.vector_math import exp, tanh

FAST = {"contract"}
'''
DECORATOR = '@njit(nogil=True, fastmath=FAST, error_model="numpy")'
RUN = """

@njit(
    "void(intp, intp, intp, intp)", nogil=True, error_model="numpy", no_cpython_wrapper=True,
    no_cfunc_wrapper=True,
)
def run(table, start, stop, step):
    mode = flush()
    t = start
    while t != stop:
"""
PRODUCT_ENTRIES = 22


def known_stride(ref: Ref) -> int | None:
    """The last stride where it is 0 or 1, which the source knows."""
    last = ref.strides[-1] if ref.strides else 0
    return last if last in (0, 1) else None


def places(kernel: Kernel) -> list[Ref]:
    """The different places of a kernel, in the order of its table."""
    return list(dict.fromkeys(map(place, refs(kernel))))


def place(ref: Ref) -> Ref:
    """A Ref without its shape, which the kernel's own replaces."""
    return ref._replace(shape=())


def apart(a: Ref, b: Ref, lead: tuple[int, ...], width: int) -> bool:
    """Whether two places of a kernel certainly share no element within one time step."""
    if a.array != b.array or a.time != b.time:
        return True
    first, last = zip(*(extent(r._replace(shape=(*lead, width))) for r in (a, b)), strict=True)
    if last[0] < first[1] or last[1] < first[0]:
        return True
    pitch = math.gcd(*(s for ref in (a, b) for s in ref.strides[:-1]))
    if not pitch:
        return False
    columns = [(r.offset % pitch, r.offset % pitch + (width - 1) * r.strides[-1]) for r in (a, b)]
    inside = all(0 <= low <= high < pitch for low, high in columns)
    return inside and (columns[0][1] < columns[1][0] or columns[1][1] < columns[0][0])


class KernelSource(NamedTuple):
    """The body of a kernel's function, and the length and end of its table."""

    body: str
    entries: int
    numbers: list[int]  # the last entries of the table


class _KernelWriter:
    """Writes a kernel's body line by line, and counts the entries of its table."""

    def __init__(self, kernel: Kernel, arrays: tuple[ArraySpec, ...]) -> None:
        self.kernel, self.arrays = kernel, arrays
        self.places = places(kernel)
        self.number = {ref: k for k, ref in enumerate(self.places)}
        self.axes = len(kernel.lead)
        self.lines: list[str] = []
        self.statements = Statements()
        self.entries = 0

    def add(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def entry(self) -> str:
        self.entries += 1
        return f'number("i8", table, {self.entries - 1})'

    def source(self) -> KernelSource:
        self.add(1, "noinline()")
        for axis in range(self.axes):
            self.add(1, f"n{axis} = {self.entry()}")
        for k in range(len(self.kernel.phases)):
            self.add(1, f"w{k} = {self.entry()}")
        start = self.entries
        for k, ref in enumerate(self.places):
            self.entries += 2 + self.axes
            entry = self.entry()
            if known_stride(ref) is None:
                self.add(1, f"u{k} = {entry}")
        for axis in range(self.axes):
            self.add(1 + axis, f"for i{axis} in range(n{axis}):")
        indices = "".join(f", i{axis}" for axis in range(self.axes))
        for k in range(len(self.places)):
            position = start + k * (3 + self.axes)
            self.add(1 + self.axes, f"p{k} = address(table, {position}, t{indices})")
        for k, phase in enumerate(self.kernel.phases):
            self.phase(k, phase)
        for k, (_, code) in enumerate(self.statements.numbers):
            self.lines.insert(1, f'    c{k} = number("{code}", table, {self.entries + k})')
        numbers = [number for number, _ in self.statements.numbers]
        entries = self.entries + len(numbers)
        return KernelSource("\n".join(self.lines), entries, numbers)

    def code(self, ref: Ref) -> str:
        return code_of(self.arrays[ref.array].dtype)

    def access(self, k: int, phase: Phase, ref: Ref) -> str:
        """Dtype, phase and place of an access, the places that it is not; address and index."""
        here, lead = place(ref), self.kernel.lead
        others = {place(other) for other in phase_refs(phase)} - {here}
        clear = [self.number[r] for r in others if apart(here, r, lead, phase.width)]
        n, stride = self.number[here], known_stride(ref)
        how = " ".join(map(str, [self.code(ref), k, n, *sorted(clear)]))
        return f'"{how}", p{n}, {f"j * u{n}" if stride is None else "0j"[stride]}'

    def phase(self, k: int, phase: Phase) -> None:
        depth = 1 + self.axes
        values: dict[str, tuple[str, str]] = {}
        loaded: dict[Ref, str] = {}
        inner: list[str] = []
        for name, ref in phase.reads:
            held = f"r{k}_{len(values)}"
            if place(ref) in loaded:
                held = loaded[place(ref)]
            else:
                loaded[place(ref)] = held
                text = f"{held} = load({self.access(k, phase, ref)})"
                if known_stride(ref) == 0:
                    self.add(depth, text)
                else:
                    inner.append(text)
            values[name] = held, self.code(ref)
        self.statements.lines = inner
        for line in phase.lines:
            code, result = code_of(line.compute), code_of(line.dtype)
            operands = [
                self.operand(x, values, code_of(to))
                for x, to in zip(line.operands, line.operand_dtypes, strict=True)
            ]
            text = self.statements.apply(line.function, operands, code)
            if line.function == "cast":
                text = cast(text, code, result)
            values[line.target] = self.statements.name(text, variable(line.target, k)), result
        for value, ref in phase.writes:
            code = self.code(ref)
            text = self.operand(value, values, code)
            inner.append(f"store({self.access(k, phase, ref)}, {text})")
        for number, (name, kind, ref) in enumerate(phase.reduces):
            code, total = self.code(ref), accumulated(number, k)
            self.add(depth, f"{total} = {constant(identity(kind, CODES[code]), code)}")
            text = self.statements.apply(kind, [total, self.operand(name, values, code)], code)
            inner.append(f"{total} = {text}")
        self.add(depth, f"for j in range(w{k}):")
        for statement in inner:
            self.add(depth + 1, statement)
        for number, (_, _, ref) in enumerate(phase.reduces):
            self.add(depth, f"store({self.access(k, phase, ref)}, {accumulated(number, k)})")

    def operand(
        self, x: str | float | int | bool, values: dict[str, tuple[str, str]], code: str
    ) -> str:
        """A value or a number in the dtype ``code``."""
        if isinstance(x, str):
            return cast(*values[x], code)
        return self.statements.number(x, code)


def kernel_source(kernel: Kernel, arrays: tuple[ArraySpec, ...]) -> KernelSource:
    """The function of one kernel, without its head; raises Unsupported where it has none."""
    return _KernelWriter(kernel, arrays).source()


def product_code(product: Product, arrays: tuple[ArraySpec, ...]) -> str:
    """The dtype of a product."""
    dtypes = {arrays[ref.array].dtype for ref in (product.a, product.b, product.out)}
    code = code_of(dtypes.pop())
    if dtypes or code not in ("f4", "f8"):
        raise Unsupported("a product is compiled for float32 or float64 operands of one dtype")
    return code


def module_source(
    steps: Iterable[Kernel | Product], arrays: tuple[ArraySpec, ...], bits: int
) -> str:
    """The module whose ``run(table, start, stop, step)`` does the steps for every t."""
    bodies: dict[str, str] = {}
    calls: list[str] = []
    position = 0
    for step in steps:
        table = f"table + {8 * position}"
        if isinstance(step, Product):
            calls.append(f'        gemm("{product_code(step, arrays)} {bits}", {table}, t)')
            position += PRODUCT_ENTRIES
            continue
        body, entries, _ = kernel_source(step, arrays)
        name = bodies.setdefault(body, f"kernel_{len(bodies)}")
        calls.append(f"        {name}({table}, t)")
        position += entries
    kernels = [f"\n\n{DECORATOR}\ndef {name}(table, t):\n{body}\n" for body, name in bodies.items()]
    end = "\n        t += step\n    set_mode(mode)\n"
    return "".join([HEADER, *kernels, RUN, "\n".join(calls), end])
