"""Loops built by hand, and what they compute, step by step in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.ops.kernel_language import COMPARISONS, LOGIC, PREDICATES
from tinygrad_rnn.replay.passes.kernel_lines import kernel_lines
from tinygrad_rnn.replay.program.loop import (
    ArraySpec,
    Call,
    Kernel,
    Line,
    Loop,
    Phase,
    Product,
    Ref,
)

FLOAT, DOUBLE, HALF = (np.dtype(name) for name in ("f", "d", "e"))
BOOL, INT, LONG = (np.dtype(name) for name in ("?", "i4", "i8"))


def spec(name: str, shape: tuple[int, ...], dtype: Any = FLOAT, stacked: bool = False) -> ArraySpec:
    return ArraySpec(name, shape, np.dtype(dtype), stacked)


def steps_of(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, in elements."""
    return tuple(prod(shape[k + 1 :]) for k in range(len(shape)))


def whole(array: int, shape: tuple[int, ...], time: int | None = None) -> Ref:
    """All of an array."""
    return Ref(array, time, shape, steps_of(shape))


class Written(NamedTuple):
    """An expression with its operands, to be brought into lines of one operation each."""

    target: str
    expression: str
    operands: tuple[Any, ...]
    params: dict[str, Any]
    compute: Any
    dtype: Any

    @property
    def lines(self) -> list[Line]:
        return kernel_lines(*self)


def line(
    target: str, expression: str, *operands: Any, dtype: Any = FLOAT, **options: Any
) -> Written:
    """A line that computes in its result's dtype, unless ``compute`` is given."""
    compute = np.dtype(options.pop("compute", dtype))
    return Written(target, expression, operands, options, compute, np.dtype(dtype))


def fused(*lines: Written, reads: dict[str, Ref], writes: dict[Any, Ref], **options: Any) -> Kernel:
    """A kernel of one phase, over the shape of its operands."""
    shape = next(iter(writes.values())).shape
    return Kernel(shape[:-1], (phase(*lines, reads=reads, writes=writes, **options),))


def phase(
    *lines: Written,
    reads: dict[str, Ref],
    writes: dict[Any, Ref] | None = None,
    reduces: Sequence[tuple[str, Any, Ref]] = (),
) -> Phase:
    width = next(iter([*reads.values(), *(writes or {}).values()])).shape[-1]
    each = tuple(line for item in lines for line in item.lines)
    return Phase(width, tuple(reads.items()), each, tuple((writes or {}).items()), tuple(reduces))


def allocate(loop: Loop, T: int, seed: int = 0) -> list[np.ndarray]:
    """Random arrays for a loop; those that are stacked have T + 1 rows.

    Weights are scaled, so that what they give has a variance of 1 and rounds as it does in use.
    """
    rng = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for array in loop.arrays:
        shape = ((T + 1,) if array.stacked else ()) + array.shape
        found.append(rng.standard_normal(shape) * (3 if array.dtype.kind in "iu" else 1))
        if array.name == "weight":
            found[-1] /= np.sqrt(max(len(found[-1]), 1))
        found[-1] = found[-1].astype(array.dtype)
    return found


# The reference

FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name)
    for name in (
        *COMPARISONS, *LOGIC, *PREDICATES, "add", "subtract", "multiply", "divide", "negative",
        "abs", "ceil", "cos", "exp", "expm1", "floor", "floor_divide", "log", "log1p", "maximum",
        "minimum", "power", "remainder", "sign", "sin", "sqrt", "tanh",
    )
}  # fmt: skip
FUNCTIONS |= {
    "cast": lambda x: x,
    "erf": lambda x: ops.erf.forward(np, x),
    "round": np.rint,
    "select": np.where,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def view(ref: Ref, loop: Loop, arrays: Sequence[np.ndarray], t: int) -> np.ndarray:
    array = arrays[ref.array]
    row = prod(loop.arrays[ref.array].shape)
    start = ref.offset + (0 if ref.time is None else (t + ref.time) * row)
    strides = [array.itemsize * stride for stride in ref.strides]
    return np.lib.stride_tricks.as_strided(array.reshape(-1)[start:], ref.shape, strides)


def _phase(phase: Phase, lead: tuple[int, ...], look: Any) -> None:
    shape = (*lead, phase.width)
    values: dict[Any, Any] = {name: look(ref).copy() for name, ref in phase.reads}
    for item in phase.lines:
        wide = np.dtype(np.float32) if item.compute == HALF else item.compute
        wanted = [BOOL if item.function == "select" else wide, wide, wide]
        operands = [
            np.asarray(values.get(x, x) if isinstance(x, str) else x)
            .astype(BOOL if to == BOOL else item.compute)
            .astype(to)
            for x, to in zip(item.operands, wanted, strict=False)
        ]
        result = FUNCTIONS[item.function](*operands)
        values[item.target] = np.broadcast_to(result, shape).astype(item.dtype)
    for value, ref in phase.writes:
        look(ref)[...] = values[value] if isinstance(value, str) else value
    for value, how, ref in phase.reduces:
        x = values[value]
        x = x.astype(np.float32) if x.dtype == HALF else x
        empty = {"sum": 0, "max": -np.inf, "min": np.inf}[how]
        look(ref)[...] = getattr(x, how)(axis=-1, keepdims=True, initial=empty)


def run_reference(loop: Loop, arrays: Sequence[np.ndarray], T: int) -> None:
    """Every step of the loop, on arrays that are changed in place."""
    for t in reversed(range(T)) if loop.reverse else range(T):

        def look(ref: Ref, t: int = t) -> np.ndarray:
            return view(ref, loop, arrays, t)

        for step in loop.steps:
            if isinstance(step, Kernel):
                for part in step.phases:
                    with np.errstate(all="ignore"):
                        _phase(part, step.lead, look)
            elif isinstance(step, Product):
                look(step.out)[...] = look(step.a) @ look(step.b)
            else:
                run_call(step, look)


def run_call(step: Call, look: Any) -> None:
    operands = [look(x) if isinstance(x, Ref) else x for x in step.operands]
    results = step.primitive.forward(np, *operands, **step.params)
    for result, ref in zip([results], step.outputs, strict=True):
        if ref is not None:
            look(ref)[...] = result


# Loops


def lstm(B: int, H: int, dtype: Any = FLOAT, reverse: bool = False) -> Loop:
    """Gates i, f, g, o of x W + h U, of which x W is given for all steps.

    In reverse the state before step t is row t + 1, and the one behind it row t.
    """
    before, behind = (1, 0) if reverse else (0, 1)
    given, weight, product, h, c = range(5)
    arrays = (
        spec("given", (B, 4 * H), dtype, True),
        spec("weight", (H, 4 * H), dtype),
        spec("product", (B, 4 * H), dtype),
        spec("h", (B, H), dtype, True),
        spec("c", (B, H), dtype, True),
    )
    reads = {"state": whole(c, (B, H), before)}
    lines: list[Written] = []
    for k, gate in enumerate("ifgo"):
        reads |= {
            f"a{gate}": Ref(given, 0, (B, H), (4 * H, 1), k * H),
            f"b{gate}": Ref(product, None, (B, H), (4 * H, 1), k * H),
        }
        lines.append(line(f"s{gate}", "x0 + x1", f"a{gate}", f"b{gate}", dtype=dtype))
        function = "tanh(x0)" if gate == "g" else "1 / (1 + exp(-x0))"
        lines.append(line(gate, function, f"s{gate}", dtype=dtype))
    lines += [
        line("kept", "x0 * x1", "f", "state", dtype=dtype),
        line("new", "x0 * x1", "i", "g", dtype=dtype),
        line("c", "x0 + x1", "kept", "new", dtype=dtype),
        line("squashed", "tanh(x0)", "c", dtype=dtype),
        line("h", "x0 * x1", "o", "squashed", dtype=dtype),
    ]
    return Loop(
        arrays,
        (
            Product(
                whole(h, (B, H), before),
                whole(weight, (H, 4 * H)),
                whole(product, (B, 4 * H)),
                True,
            ),
            fused(
                *lines,
                reads=reads,
                writes={"c": whole(c, (B, H), behind), "h": whole(h, (B, H), behind)},
            ),
        ),
        reverse,
    )


def layer_norm(B: int, H: int, dtype: Any = FLOAT) -> Loop:
    """(x - mean) / sqrt(variance + 1e-5) * scale + shift, in three phases, into the next row."""
    x, mean, variance, scale, shift = range(5)
    arrays = (
        spec("x", (B, H), dtype, True),
        spec("mean", (B, 1), dtype),
        spec("variance", (B, 1), dtype),
        spec("scale", (H,), dtype),
        spec("shift", (H,), dtype),
    )
    row = whole(x, (B, H), 0)
    means, variances = (Ref(k, None, (B, H), (1, 0)) for k in (mean, variance))
    scales, shifts = (Ref(k, None, (B, H), (0, 1)) for k in (scale, shift))
    centre = line("d", "x0 - x1", "x", "m", dtype=dtype)
    phases = (
        phase(
            line("part", "x0 / n", "x", dtype=dtype, n=H),
            reads={"x": row},
            reduces=[("part", "sum", means)],
        ),
        phase(
            centre,
            line("part", "x0 * x0 / n", "d", dtype=dtype, n=H),
            reads={"x": row, "m": means},
            reduces=[("part", "sum", variances)],
        ),
        phase(
            centre,
            line("y", "x0 / sqrt(x1 + eps)", "d", "v", dtype=dtype, eps=1e-5),
            line("z", "x0 * x1 + x2", "y", "a", "b", dtype=dtype),
            reads={"x": row, "m": means, "v": variances, "a": scales, "b": shifts},
            writes={"z": whole(x, (B, H), 1)},
        ),
    )
    return Loop(arrays, (Kernel((B,), phases),), False)


def softmax(B: int, H: int, dtype: Any = FLOAT) -> Loop:
    """exp(x - max) / sum, with the smallest of a row on the side."""
    x, y, most, total, least = range(5)
    arrays = (
        spec("x", (B, H), dtype, True),
        spec("y", (B, H), dtype, True),
        *(spec(name, (B,), dtype) for name in ("most", "total", "least")),
    )
    row = whole(x, (B, H), 0)
    out = whole(y, (B, H), 0)
    mosts, totals, leasts = (Ref(k, None, (B, H), (1, 0)) for k in (most, total, least))
    phases = (
        phase(reads={"x": row}, reduces=[("x", "max", mosts), ("x", "min", leasts)]),
        phase(
            line("e", "exp(x0 - x1)", "x", "m", dtype=dtype),
            reads={"x": row, "m": mosts},
            writes={"e": out},
            reduces=[("e", "sum", totals)],
        ),
        phase(
            line("y", "x0 / x1", "e", "s", dtype=dtype),
            reads={"e": out, "s": totals},
            writes={"y": out},
        ),
    )
    return Loop(arrays, (Kernel((B,), phases),), False)
