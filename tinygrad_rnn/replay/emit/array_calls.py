"""The emitter that is always there: array functions with ``out=``, one call per line.

It writes the loop as the source of a Python function, in which every line of every kernel is one
call of NumPy (or of another array namespace) on views that were made before the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.emit.common import (
    CompiledLoop,
    CompiledStep,
    Fallback,
    StepAt,
    accumulated,
    variable,
    view,
)
from tinygrad_rnn.replay.passes.strides import contiguous
from tinygrad_rnn.replay.program.loop import (
    Call,
    DType,
    Kernel,
    Line,
    Loop,
    Phase,
    Product,
    Ref,
    Step,
)


def compile_loop(loop: Loop, backend: Backend) -> CompiledLoop:
    """The loop as a function of its arrays and T."""
    function = _Function(loop, backend, loop.steps)
    return lambda arrays, steps: function.run(arrays, 0, steps, function.buffers())


def one_step(loop: Loop, backend: Backend) -> Fallback:
    """What other emitters do with a step that they cannot compile."""

    def fallback(step: Step) -> CompiledStep:
        function = _Function(loop, backend, [step])

        def bound(arrays: Sequence[Array]) -> StepAt:
            buffers = function.buffers()
            return lambda t: function.run(arrays, t, 1, buffers)

        return bound

    return fallback


def source(loop: Loop, backend: Backend) -> tuple[list[str], list[list[str]], list[Ref]]:
    """The text of the function: all lines, those of each step, and what its views are."""
    writer = _Writer(loop, backend)
    steps: list[list[str]] = []
    for step in loop.steps:
        first = len(writer.body)
        writer.step(step)
        steps.append(writer.body[first:])
    lines, refs = writer.text()
    return lines, steps, refs


class _Function:
    """Steps of a loop as one Python function."""

    def __init__(self, loop: Loop, backend: Backend, steps: Sequence[Step]) -> None:
        self.reverse, self.backend = loop.reverse, backend
        writer = _Writer(loop, backend)
        for step in steps:
            writer.step(step)
        self.function, self.refs = writer.function()
        self.shapes = [writer.shapes[name] for name in writer.buffers]

    def buffers(self) -> list[Array]:
        """Memory for what lies between two lines, for one run at a time."""
        return [self.backend.xp.empty(shape, dtype=dtype) for shape, dtype in self.shapes]

    def run(self, arrays: Sequence[Array], first: int, steps: int, buffers: list[Array]) -> None:
        """The steps at so many times from ``first`` on, in the order of the loop."""
        views = [view(ref, arrays[ref.array], self.backend, first, steps) for ref in self.refs]
        times = range(steps)
        with np.errstate(all="ignore"):
            self.function(reversed(times) if self.reverse else times, views, buffers)


class _Writer:
    """The text of a function, and what it refers to."""

    def __init__(self, loop: Loop, backend: Backend) -> None:
        self.arrays, self.backend, self.xp = loop.arrays, backend, backend.xp
        self.body: list[str] = []
        self.views: dict[Ref, str] = {}
        self.buffers: list[str] = []
        self.shapes: dict[str, tuple[tuple[int, ...], DType]] = {}
        self.free: list[str] = []
        self.names: dict[str, Any] = {}

    def view(self, ref: Ref) -> str:
        """The name of a Ref within the loop."""
        return self.views.setdefault(ref, f"a{len(self.views)}")

    def number(self, x: float | int | bool) -> str:
        """The name of a number, which is no part of the text."""
        name = f"n{len(self.names)}"
        self.names[name] = x
        return name

    def buffer(self, shape: tuple[int, ...], dtype: DType) -> str:
        """The name of memory that nothing uses at the moment."""
        for name in reversed(self.free):
            if self.shapes[name] == (shape, dtype):
                self.free.remove(name)
                return name
        name = f"t{len(self.buffers)}"
        self.buffers.append(name)
        self.shapes[name] = shape, dtype
        return name

    def copy(self, source: str, target: str) -> None:
        self.body.append(f"{target}[...] = {source}")

    def call(self, function: str, arguments: Sequence[str], out: str) -> None:
        """A function of the language, of kernels or of the namespace, that writes to ``out``."""
        if function not in self.names:
            ours = _OURS.get(function)
            known = _CALLED.get(function, function)
            self.names[function] = partial(ours, self.xp) if ours else getattr(self.xp, known)
        self.body.append(f"{function}({', '.join(arguments)}, out={out})")

    def step(self, step: Step) -> None:
        """The lines of a step."""
        if isinstance(step, Kernel):
            for k, phase in enumerate(step.phases):
                _PhaseWriter(self, k, (*step.lead, phase.width), phase).write()
        elif isinstance(step, Product):
            a, b, out = map(self.view, (step.a, step.b, step.out))
            name = "matmul_wide" if step.wide else "matmul"
            self.names[name] = self.backend.matmul_wide if step.wide else self.xp.matmul
            if step.out.strides == contiguous(step.out.shape):
                self.call(name, [a, b], out)
            else:
                self.copy(f"{name}({a}, {b})", out)
        else:
            self.primitive(step)

    def primitive(self, step: Call) -> None:
        """A call of a primitive's forward, with its results copied to their places."""
        xp, multiple = self.xp, step.primitive.multiple

        def call(outputs: Sequence[Any], *operands: Any) -> None:
            found = step.primitive.forward(xp, *operands, **step.params)
            for out, result in zip(outputs, found if multiple else (found,), strict=True):
                if out is not None:
                    out[...] = result

        name = f"call{len(self.names)}"
        self.names[name] = call
        outputs = [self.view(ref) if ref else "None" for ref in step.outputs]
        operands = [self.view(x) if isinstance(x, Ref) else self.number(x) for x in step.operands]
        arguments = [f"({', '.join(outputs)},)", *operands]
        self.body.append(f"{name}({', '.join(arguments)})")

    def function(self) -> tuple[Callable[..., None], list[Ref]]:
        """The function, and the Refs whose views it takes."""
        lines, refs = self.text()
        scope = dict(self.names)
        exec(compile("\n".join(lines), "<replayed loop>", "exec"), scope)
        return scope["run"], refs

    def text(self) -> tuple[list[str], list[Ref]]:
        """Its text, and the Refs: fixed ones first, then stacked ones."""
        fixed = [(name, ref) for ref, name in self.views.items() if ref.time is None]
        stacked = [(name, ref) for ref, name in self.views.items() if ref.time is not None]
        lines = ["def run(times, views, buffers):"]
        lines += [f"    {name} = views[{k}]" for k, (name, _) in enumerate(fixed)]
        lines += [f"    s{name} = views[{len(fixed) + k}]" for k, (name, _) in enumerate(stacked)]
        lines += [f"    {name} = buffers[{k}]" for k, name in enumerate(self.buffers)]
        lines.append("    for t in times:")
        lines += [
            f"        {name} = s{name}[t{'' if ref.shape else ', ...'}]" for name, ref in stacked
        ]
        lines += [f"        {text}" for text in self.body] or ["        pass"]
        return lines, [ref for _, ref in (*fixed, *stacked)]


class _PhaseWriter:
    """Writes one phase: each line into a place that it is written to, or into a buffer."""

    def __init__(self, writer: _Writer, k: int, shape: tuple[int, ...], phase: Phase) -> None:
        self.writer, self.k, self.shape, self.phase = writer, k, shape, phase
        self.names = {name: writer.view(ref) for name, ref in phase.reads}
        self.dtypes = {name: writer.arrays[ref.array].dtype for name, ref in phase.reads}

    def write(self) -> None:
        writer, phase = self.writer, self.phase
        last = {x: k for k, line in enumerate(phase.lines) for x in line.operands}
        last |= dict.fromkeys([x for x, _ in phase.writes] + [x for x, _, _ in phase.reduces], -1)
        late = [*phase.writes]
        buffers: dict[Any, str] = {}
        for k, line in enumerate(phase.lines):
            safe = [w for w in late if w[0] == line.target and not self.read_later(w[1], k)]
            if safe:
                out = writer.view(safe[0][1])
                late.remove(safe[0])
            else:
                out = buffers[line.target] = writer.buffer(self.shape, line.dtype)
            first = len(writer.body)
            self.line(line, out)
            said = f"  # {variable(line.target, self.k)}"
            writer.body[first:] = [f"{text}{said}" for text in writer.body[first:]]
            self.names[line.target], self.dtypes[line.target] = out, line.dtype
            done = [x for x in dict.fromkeys(line.operands) if x in buffers and last[x] == k]
            writer.free += [buffers.pop(x) for x in done]
        for k, (name, reduction, ref) in enumerate(phase.reduces):
            out = writer.view(ref._replace(shape=(*self.shape[:-1], 1)))
            writer.call(reduction, [self.names[name], "axis=-1", "keepdims=True"], out)
            writer.body[-1] += f"  # {accumulated(k, self.k)}"
        for value, ref in sorted(late, key=lambda write: write[0] in buffers):
            name = self.names[value] if isinstance(value, str) else writer.number(value)
            writer.copy(name, writer.view(ref))
        writer.free += buffers.values()

    def read_later(self, ref: Ref, k: int) -> bool:
        """Whether a later line reads the array that this one would write to."""
        names = {name for name, other in self.phase.reads if other.array == ref.array}
        later = [x for line in self.phase.lines[k + 1 :] for x in line.operands]
        later += [name for name, _ in self.phase.writes] + [n for n, _, _ in self.phase.reduces]
        return any(x in names for x in later) or any(
            other.array == ref.array and other != ref
            for name, other in self.phase.reads
            if name in self.phase.lines[k].operands
        )

    def line(self, line: Line, out: str) -> None:
        """One operation; operands of another dtype are brought to that of the operation."""
        given: list[str] = []
        held: list[str] = []
        for x, dtype in zip(line.operands, line.operand_dtypes, strict=True):
            if not isinstance(x, str):
                given.append(self.writer.number(x))
            elif self.dtypes[x] == dtype or (line.function == "cast" and dtype == line.dtype):
                given.append(self.names[x])
            else:
                given.append(self.writer.buffer(self.shape, dtype))
                held.append(given[-1])
                self.writer.copy(self.names[x], given[-1])
        if line.function == "cast":
            self.writer.copy(given[0], out)
        else:
            self.writer.call(line.function, given, out)
        self.writer.free += held


# Functions of the language that one of the namespaces lacks, or has otherwise


def _select(xp: Any, condition: Any, a: Any, b: Any, out: Any) -> None:
    out[...] = xp.where(condition, a, b)


def _of_operation(name: str) -> Callable[..., None]:
    def called(xp: Any, *operands: Any, out: Any) -> None:
        out[...] = getattr(ops, name).forward(xp, *operands)

    return called


def _sigmoid(xp: Any, x: Any, out: Any) -> None:
    """1 / (1 + exp(-x)), as the operation's forward computes it."""
    xp.negative(x, out=out)
    xp.exp(out, out=out)
    xp.add(out, 1, out=out)
    xp.reciprocal(out, out=out)


_OURS: dict[str, Callable[..., None]] = {
    "select": _select,
    "sigmoid": _sigmoid,
    **{name: _of_operation(name) for name in ("erf", "remainder", "floor_divide")},
}
_CALLED = {"abs": "absolute", "round": "rint"}
"""What the namespaces call otherwise."""
