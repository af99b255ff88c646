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
from tinygrad_rnn.ops.kernel_language import COMPARISONS, PREDICATES
from tinygrad_rnn.replay.passes.strides import contiguous
from tinygrad_rnn.replay.program.loop import Call, Kernel, Line, Loop, Phase, Product, Ref, Step

Runner = Callable[[Sequence[Array], int], None]
Start = Callable[[Sequence[Array]], Callable[[int], None]]
"""From the arrays of a run, a step at time t."""

_FUNCTIONS = {"round": "rint", "abs": "absolute"}
"""Those functions of a line that NumPy calls otherwise."""
_OF_BOOL = (*COMPARISONS, *PREDICATES)


class _Source:
    """The text of the function, and what it refers to."""

    def __init__(self, loop: Loop, backend: Backend) -> None:
        self.loop = loop
        self.backend = backend
        self.body: list[str] = []
        self.views: dict[Ref, str] = {}
        self.buffers: dict[tuple[str, tuple[int, ...], Any], None] = {}
        self.names: dict[str, Any] = {}
        self.spare: dict[tuple[tuple[int, ...], Any], list[str]] = {}
        self.count = 0

    def view(self, ref: Ref) -> str:
        """The name of a Ref within the loop."""
        return self.views.setdefault(ref, f"a{len(self.views)}")

    def function(self, name: str) -> str:
        """The name of a function of the namespace."""
        name = _FUNCTIONS.get(name, name)
        self.names.setdefault(name, getattr(self.backend.xp, name))
        return name

    def number(self, x: float | int | bool) -> str:
        """The name of a number, which is no part of the text."""
        name = f"n{len(self.names)}"
        self.names[name] = x
        return name

    def register(self, shape: tuple[int, ...], dtype: Any) -> str:
        """A buffer that nothing uses at the moment."""
        free = self.spare.setdefault((shape, np.dtype(dtype)), [])
        if free:
            return free.pop()
        self.count += 1
        name = f"t{self.count}"
        self.buffers[(name, shape, np.dtype(dtype))] = None
        return name

    def release(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.spare[(shape, np.dtype(dtype))].append(name)

    def function_of_views(self) -> tuple[Callable[..., None], list[Ref]]:
        """The function, and the Refs whose views it takes: fixed ones first, then stacked ones."""
        fixed = [(name, ref) for ref, name in self.views.items() if ref.time is None]
        stacked = [(name, ref) for ref, name in self.views.items() if ref.time is not None]
        lines = ["def run(times, views, buffers):"]
        lines += [f"    {name} = views[{k}]" for k, (name, _) in enumerate(fixed)]
        lines += [f"    s{name} = views[{len(fixed) + k}]" for k, (name, _) in enumerate(stacked)]
        lines += [f"    {name} = buffers[{k}]" for k, (name, _, _) in enumerate(self.buffers)]
        lines.append("    for t in times:")
        lines += [
            f"        {name} = s{name}[t{'' if ref.shape else ', ...'}]" for name, ref in stacked
        ]
        lines += [f"        {text}" for text in self.body] or ["        pass"]
        scope = dict(self.names)
        exec(compile("\n".join(lines), "<replayed loop>", "exec"), scope)
        return scope["run"], [ref for _, ref in (*fixed, *stacked)]


class _Kernel:
    """Writes one phase as array calls."""

    def __init__(self, source: _Source, shape: tuple[int, ...], phase: Phase) -> None:
        self.s, self.shape, self.phase = source, shape, phase
        self.where: dict[str, str] = {}
        self.dtypes: dict[str, Any] = {}
        for name, ref in phase.reads:
            self.where[name] = source.view(ref)
            self.dtypes[name] = source.loop.arrays[ref.array].dtype
        last: dict[str, int] = {}
        for k, line in enumerate(phase.lines):
            last.update((x, k) for x in line.operands if isinstance(x, str))
        end = len(phase.lines)
        last.update((x, end) for x, _, _ in phase.reduces)
        targets: dict[str, list[Ref]] = {}
        for name, ref in phase.writes:
            targets.setdefault(str(name), []).append(ref)
        made = {line.target for line in phase.lines}
        late: list[tuple[str | float, Ref]] = []
        registers: dict[str, tuple[str, Any]] = {}
        for k, line in enumerate(phase.lines):
            homes = targets.get(line.target, [])
            safe = [ref for ref in homes if not self.read_later(ref, k)]
            if safe:
                out = source.view(safe[0])
            else:
                out = source.register(shape, line.dtype)
                registers[line.target] = (out, line.dtype)
            self.line(line, out)
            self.where[line.target], self.dtypes[line.target] = out, line.dtype
            for ref in homes:
                if not (safe and ref is safe[0]):
                    late.append((line.target, ref))
                    last[line.target] = end
            for x in {x for x in line.operands if isinstance(x, str)}:
                if last[x] == k and x in registers:
                    name, dtype = registers.pop(x)
                    source.release(name, shape, dtype)
        late += [(name, ref) for name, ref in phase.writes if str(name) not in made]
        for name, kind, ref in phase.reduces:
            out = source.view(ref._replace(shape=(*shape[:-1], 1)))
            called = source.function(kind)
            source.body.append(f"{called}({self.where[name]}, axis=-1, keepdims=True, out={out})")
        for name, ref in late:
            value = self.where[name] if isinstance(name, str) else source.number(name)
            source.body.append(f"{source.view(ref)}[...] = {value}")
        for name, dtype in registers.values():
            source.release(name, shape, dtype)

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
        """One operation, as a call that writes to ``out``."""
        given: list[str] = []
        held: list[tuple[str, Any]] = []
        for k, x in enumerate(line.operands):
            dtype = np.dtype(bool) if line.function == "select" and k == 0 else line.compute
            if not isinstance(x, str):
                given.append(self.s.number(x))
            elif self.dtypes[x] == dtype or line.function == "cast":
                given.append(self.where[x])
            else:
                held.append((self.s.register(self.shape, dtype), dtype))
                given.append(held[-1][0])
                self.s.body.append(f"{given[-1]}[...] = {self.where[x]}")
        arguments = ", ".join(given)
        if line.function == "cast":
            self.cast(line, given[0], out)
        elif line.function == "select":
            self.s.function("where")
            self.s.body.append(f"{out}[...] = where({arguments})")
        elif line.function == "erf":
            self.s.names.setdefault("erf", partial(ops.erf.forward, self.s.backend.xp))
            self.s.body.append(f"{out}[...] = erf({arguments})")
        elif line.function == "sigmoid":
            self.sigmoid(line, given[0], out)
        else:
            natural = np.dtype(bool) if line.function in _OF_BOOL else line.compute
            casting = "" if natural == line.dtype else ", casting='unsafe'"
            called = self.s.function(line.function)
            self.s.body.append(f"{called}({arguments}, out={out}{casting})")
        for name, dtype in held:
            self.s.release(name, self.shape, dtype)

    def cast(self, line: Line, x: str, out: str) -> None:
        """Through the dtype of the computation, where that is neither the first nor the last."""
        (operand,) = line.operands
        source = self.dtypes[operand] if isinstance(operand, str) else line.compute
        if line.compute not in (source, line.dtype):
            wide = self.s.register(self.shape, line.compute)
            self.s.body.append(f"{wide}[...] = {x}")
            self.s.release(wide, self.shape, line.compute)
            x = wide
        self.s.body.append(f"{out}[...] = {x}")

    def sigmoid(self, line: Line, x: str, out: str) -> None:
        """1 / (1 + exp(-x)), as the operation's forward computes it."""
        y = out if line.dtype == line.compute else self.s.register(self.shape, line.compute)
        for name in ("negative", "exp", "add", "reciprocal"):
            called, one = self.s.function(name), ", 1" if name == "add" else ""
            self.s.body.append(f"{called}({x}{one}, out={y})")
            x = y
        if y != out:
            self.s.body.append(f"{out}[...] = {y}")
            self.s.release(y, self.shape, line.compute)


def _fallback(step: Call, source: _Source) -> str:
    """A call of a primitive's forward, with its results copied to their place."""
    name = f"call{len(source.names)}"
    xp = source.backend.xp
    multiple = step.primitive.multiple

    def run(outputs: Sequence[Any], *operands: Any) -> None:
        found = step.primitive.forward(xp, *operands, **step.params)
        for out, result in zip(outputs, found if multiple else (found,), strict=True):
            if out is not None:
                out[...] = result

    source.names[name] = run
    outputs = [source.view(ref) if ref else "None" for ref in step.outputs]
    operands = [source.view(x) if isinstance(x, Ref) else source.number(x) for x in step.operands]
    arguments = [f"({', '.join(outputs)},)", *operands]
    return f"{name}({', '.join(arguments)})"


def write(loop: Loop, steps: Sequence[Step], source: _Source) -> None:
    """The lines of ``steps``."""
    for step in steps:
        if isinstance(step, Kernel):
            for phase in step.phases:
                _Kernel(source, (*step.lead, phase.width), phase)
        elif isinstance(step, Product):
            a, b, out = map(source.view, (step.a, step.b, step.out))
            source.function("matmul")
            if _is_contiguous(step.out):
                source.body.append(f"matmul({a}, {b}, out={out})")
            else:
                source.body.append(f"{out}[...] = matmul({a}, {b})")
        else:
            source.body.append(_fallback(step, source))


def _is_contiguous(ref: Ref) -> bool:
    return ref.strides == contiguous(ref.shape)


def compile_loop(loop: Loop, backend: Backend) -> Runner:
    """The loop as a function of its arrays and T."""
    source = _Source(loop, backend)
    write(loop, loop.steps, source)
    function, layout = source.function_of_views()
    xp = backend.xp

    def run(arrays: Sequence[Array], steps: int) -> None:
        views = [_view(backend, arrays[ref.array], ref, steps) for ref in layout]
        buffers = [xp.empty(shape, dtype=dtype) for _, shape, dtype in source.buffers]
        times = range(steps - 1, -1, -1) if loop.reverse else range(steps)
        with np.errstate(all="ignore"):
            function(times, views, buffers)

    return run


def one_step(loop: Loop, backend: Backend) -> Callable[[Step], Start]:
    """What other emitters do with a step that they cannot compile: a function of a run's arrays,
    which gives one of t. What a run writes, its buffers too, is the run's own.
    """

    def fallback(step: Step) -> Start:
        source = _Source(loop, backend)
        write(loop, [step], source)
        function, layout = source.function_of_views()

        def start(arrays: Sequence[Array]) -> Callable[[int], None]:
            buffers = [backend.xp.empty(shape, dtype=dtype) for _, shape, dtype in source.buffers]

            def run(t: int) -> None:
                views = [_row_view(backend, arrays[ref.array], ref, t) for ref in layout]
                with np.errstate(all="ignore"):
                    function((0,), views, buffers)

            return run

        return start

    return fallback


def _row_view(backend: Backend, array: Array, ref: Ref, t: int) -> Array:
    """A Ref at one time, with a time axis of one step where it is stacked."""
    if ref.time is None:
        return backend.strided(array, ref.shape, ref.strides, ref.offset)
    row = array.size // max(array.shape[0], 1)
    offset = ref.offset + (t + ref.time) * row
    return backend.strided(array, (1, *ref.shape), (row, *ref.strides), offset)


def _view(backend: Backend, array: Array, ref: Ref, steps: int) -> Array:
    """A Ref as an array, of all time steps where it is stacked."""
    if ref.time is None:
        return backend.strided(array, ref.shape, ref.strides, ref.offset)
    row = array.size // max(array.shape[0], 1)
    return backend.strided(
        array, (steps, *ref.shape), (row, *ref.strides), ref.offset + ref.time * row
    )
