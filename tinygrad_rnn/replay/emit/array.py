"""The emitter that is always there: array functions with ``out=``, one call per line.

It writes the loop as the source of a Python function, in which every line of every kernel is one
call of NumPy (or of another array namespace) on views that were made before the loop.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.backends import Array, Backend
from tinygrad_rnn.replay.passes.strides import contiguous
from tinygrad_rnn.replay.program.loop import Call, Kernel, Line, Loop, Phase, Product, Ref, Step

Runner = Callable[[Sequence[Array], int], None]

_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide",
    ast.BitAnd: "bitwise_and", ast.BitOr: "bitwise_or", ast.BitXor: "bitwise_xor",
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "negative", ast.Invert: "invert"}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "equal", ast.NotEq: "not_equal", ast.Lt: "less", ast.LtE: "less_equal",
    ast.Gt: "greater", ast.GtE: "greater_equal",
}  # fmt: skip
_FUNCTIONS = {"round": "rint", "abs": "absolute"}


class _Source:
    """The text of the function, and what it refers to."""

    def __init__(self, loop: Loop, backend: Backend) -> None:
        self.loop = loop
        self.backend = backend
        self.body: list[str] = []
        self.views: dict[Ref, str] = {}
        self.buffers: dict[tuple[str, tuple[int, ...], Any], None] = {}
        self.names: dict[str, Any] = {"xp": backend.xp}
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


def _dtype_after(function: str, dtypes: Sequence[Any], line: Line) -> Any:
    if function in _COMPARE.values() or function in ("isnan", "isfinite"):
        return np.dtype(bool)
    given = [d for d in dtypes if d is not None]
    found = np.result_type(*given) if given else line.compute
    return line.dtype if found.kind in "iub" and line.dtype.kind == "f" else found


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
        late: list[tuple[str, Ref]] = []
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
        for name, kind, ref in phase.reduces:
            out = source.view(ref._replace(shape=(*shape[:-1], 1)))
            self.put(f"{kind}({self.where[name]}, axis=-1, keepdims=True, out={out})", kind)
        for name, ref in late:
            source.body.append(f"{source.view(ref)}[...] = {self.where[name]}")
        for name, dtype in registers.values():
            source.release(name, shape, dtype)

    def put(self, text: str, function: str) -> None:
        self.s.function(function)
        self.s.body.append(text)

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
        if line.expression == "x0":
            (x,) = line.operands
            self.s.body.append(f"{out}[...] = {self.name(x)}")
            return
        params = dict(line.params)
        operands: dict[str, Any] = {f"x{k}": x for k, x in enumerate(line.operands)}
        tree = ast.parse(line.expression, mode="eval").body
        held: list[tuple[str, Any]] = []

        def compute(node: ast.expr, dest: str | None) -> tuple[str, Any]:
            """The name of a node's value and its dtype (None for a number), written to dest."""
            if isinstance(node, ast.Constant):
                return repr(node.value), None
            if isinstance(node, ast.Name):
                if node.id in params:
                    return _number(params[node.id]), None
                x = operands[node.id]
                return self.name(x), self.dtypes.get(x) if isinstance(x, str) else None
            if isinstance(node, ast.BinOp):
                function, children = _BINARY[type(node.op)], [node.left, node.right]
            elif isinstance(node, ast.UnaryOp):
                function, children = _UNARY[type(node.op)], [node.operand]
            elif isinstance(node, ast.Compare):
                function, children = _COMPARE[type(node.ops[0])], [node.left, node.comparators[0]]
            else:
                assert isinstance(node, ast.Call)
                assert isinstance(node.func, ast.Name)
                function, children = node.func.id, node.args
            found = [compute(child, None) for child in children]
            dtypes = [dtype for _, dtype in found]
            if function == "select":
                dtype = _dtype_after(function, dtypes[1:], line)
            else:
                dtype = _dtype_after(function, dtypes, line)
            for name, kind in found:
                if (name, kind) in held:
                    held.remove((name, kind))
                    self.s.release(name, self.shape, kind)
            if dest is None:
                dest = self.s.register(self.shape, dtype)
                held.append((dest, dtype))
            names = ", ".join(name for name, _ in found)
            if function == "select":
                self.s.function("where")
                self.s.body.append(f"{dest}[...] = where({names})")
            elif function == "erf":
                self.s.names.setdefault("erf", partial(ops.erf.forward, self.s.backend.xp))
                self.s.body.append(f"{dest}[...] = erf({names})")
            else:
                casting = (
                    "" if dtype == line.dtype or dest.startswith("t") else ", casting='unsafe'"
                )
                called = self.s.function(function)
                self.put(f"{called}({names}, out={dest}{casting})", function)
            return dest, dtype

        compute(tree, out)

    def name(self, x: Any) -> str:
        return self.where[x] if isinstance(x, str) else _number(x)


def _number(x: Any) -> str:
    return f"float('{x}')" if isinstance(x, float) else repr(x)


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
    operands = [source.view(x) if isinstance(x, Ref) else _number(x) for x in step.operands]
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


def one_step(
    loop: Loop, backend: Backend
) -> Callable[[Step], Callable[[Sequence[Array], int], None]]:
    """What other emitters do with a step that they cannot compile: a function of arrays and t."""

    def fallback(step: Step) -> Callable[[Sequence[Array], int], None]:
        source = _Source(loop, backend)
        write(loop, [step], source)
        function, layout = source.function_of_views()
        buffers = [backend.xp.empty(shape, dtype=dtype) for _, shape, dtype in source.buffers]

        def run(arrays: Sequence[Array], t: int) -> None:
            views = [_row_view(backend, arrays[ref.array], ref, t) for ref in layout]
            with np.errstate(all="ignore"):
                function((0,), views, buffers)

        return run

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
