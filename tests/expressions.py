"""Kernel expressions of every primitive, on values that languages disagree about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from elementwise import PRIMITIVES
from loop_cases import DOUBLE, FLOAT, HALF, Written, fused, line, spec, whole

from tinygrad_rnn.replay.emit.numba.emitter import compile_loop
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Loop

inf, nan = np.inf, np.nan
PARAMS: dict[str, dict[str, float]] = {"leaky_relu": {"slope": 0.1}, "clip": {"low": -1, "high": 2}}
FLOATS = [nan, inf, -inf, 0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, -2.5, 2, -7, 88, -800, 1e-3, 6e4, -3e-5]
INTEGERS = [0, 1, -1, 2, -3, 7, -8, 100]
LOGIC = ("bitwise_and", "bitwise_or", "bitwise_xor", "invert")
LEFT_OUT = {  # what NumPy refuses, or gives another dtype than these two have
    "e": LOGIC,
    "f": LOGIC,
    "d": LOGIC,
    "i": ("power", "leaky_relu"),
    "l": ("power", "leaky_relu"),
    "?": (
        *("subtract", "negative", "power", "remainder", "floor_divide", "relu", "leaky_relu"),
        *("clip", "sign", "floor", "ceil", "round", "square", "softplus", "sigmoid"),
    ),
}


def kernel_of(
    lines: Mapping[str, Written], inputs: Mapping[str, np.ndarray]
) -> tuple[Kernel, tuple[ArraySpec, ...]]:
    """One kernel that writes each line to an array of its own."""
    size = next(iter(inputs.values())).size
    arrays = [spec(name, (size,), x.dtype) for name, x in inputs.items()]
    arrays += [spec(name, (size,), item.dtype) for name, item in lines.items()]
    reads = {name: whole(k, (size,)) for k, name in enumerate(inputs)}
    writes = {item.target: whole(len(inputs) + k, (size,)) for k, item in enumerate(lines.values())}
    return fused(*lines.values(), reads=reads, writes=writes), tuple(arrays)


def by_numba(
    lines: Mapping[str, Written], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The result of each line, compiled."""
    kernel, arrays = kernel_of(lines, inputs)
    size = arrays[0].shape[0]
    given = [*inputs.values(), *(np.zeros(size, item.dtype) for item in lines.values())]
    compile_loop(Loop(arrays, (kernel,), False))(given, 1)
    return dict(zip(lines, given[len(inputs) :], strict=True))


def pairs(dtype: Any) -> dict[str, np.ndarray]:
    """Every value with every other one, and a condition."""
    values = {"f": FLOATS, "i": INTEGERS, "b": [False, True]}[dtype.kind]
    with np.errstate(over="ignore"):
        x = np.array(values).astype(dtype)
    a, b = (part.reshape(-1) for part in np.meshgrid(x, x))
    return {"a": a, "b": b, "condition": np.arange(a.size) % 3 == 0}


def cases(dtype: Any) -> tuple[dict[str, Written], dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Lines for all primitives that the dtype has, their inputs and what NumPy gives; float16 is
    computed in float32, as on a card.
    """
    inputs = pairs(dtype)
    wide = np.float32 if dtype == HALF else dtype
    lines: dict[str, Written] = {}
    wanted: dict[str, np.ndarray] = {}
    for name, primitive in PRIMITIVES.items():
        if name in LEFT_OUT[dtype.char.lower()] or primitive.kernel is None:
            continue
        names = ["a", "b"][: sum(f"x{k}" in primitive.kernel for k in range(2))]
        if name == "where":
            names = ["condition", "a", "b"]
        params = PARAMS.get(name, {})
        operands = [inputs[n] if n == "condition" else inputs[n].astype(wide) for n in names]
        with np.errstate(all="ignore"):
            wanted[name] = np.asarray(primitive.forward(np, *operands, **params))
            kind = wanted[name].dtype
            if dtype == HALF and kind == FLOAT:
                wanted[name] = wanted[name].astype(HALF)
        real = dtype.kind in "ib" and kind.kind == "f"
        lines[name] = line(
            name,
            primitive.kernel,
            *names,
            dtype=wanted[name].dtype if not real else DOUBLE,
            compute=DOUBLE if real else dtype,
            **params,
        )
    return lines, inputs, wanted


def assert_near(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], signed: Collection[str]
) -> None:
    """Within six units in the last place; the signs of zeros count for the operations named."""
    for name, want in wanted.items():
        eps = float(np.finfo(want.dtype).eps) if want.dtype.kind == "f" else 0
        tiny = 2 * float(np.finfo(want.dtype).tiny) if eps else 0
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(found[name], want, 6 * eps, tiny, err_msg=name)
        if name in signed:
            number = ~np.isnan(want)
            np.testing.assert_array_equal(np.signbit(found[name])[number], np.signbit(want)[number])
