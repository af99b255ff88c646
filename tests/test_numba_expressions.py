"""Expressions compiled by Numba: every primitive, casts, numbers, accuracy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from expressions import PRIMITIVES, assert_near, by_numba, cases
from loop_cases import BOOL, DOUBLE, FLOAT, HALF, INT, LONG, fused, line, spec, whole

from tinygrad_rnn.replay.emit.numba.emitter import compile_loop, reason
from tinygrad_rnn.replay.program.loop import Loop

pytest.importorskip("numba")

DTYPES = (FLOAT, DOUBLE, INT, LONG, BOOL)
inf, nan = np.inf, np.nan

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_primitive(dtype: Any) -> None:
    lines, inputs, wanted = cases(dtype)
    signed = ("remainder", "round", "floor", "ceil", "floor_divide")
    assert_near(by_numba(lines, inputs), wanted, signed)


def test_no_primitive_is_forgotten() -> None:
    tried = {name for dtype in DTYPES for name in cases(dtype)[0]}
    assert tried == set(PRIMITIVES)
    assert len(tried) > 40


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts(source: Any) -> None:
    """To every dtype, directly and by way of every dtype to compute in."""
    values = [0, 1, 1, 3, 1000, 70000] if source.kind != "b" else [0, 1, 1, 0, 1, 1]
    x = np.array(values).astype(source)
    if source.kind == "f":
        x[:4] = [-0.0, 1.75, -2.5, 1 / 3]
    lines = {
        f"{compute}_{target}": line(f"{compute}_{target}", "x0", "x", compute=compute, dtype=target)
        for compute in DTYPES
        for target in DTYPES
    }
    for name, have in by_numba(lines, {"x": x}).items():
        want = x.astype(lines[name].compute).astype(lines[name].dtype)
        np.testing.assert_array_equal(have, want, name)


def test_numbers() -> None:
    """Constants in the dtype of the computation, also where they are large, small or none."""
    x = np.array([1.0, -1.0, 0.0])
    numbers = [0.1, -0.1, 2e-38, 1e300, -1e300, inf, -inf, nan, 3, True, -0.0, 2.0**-30]
    lines = {
        f"{k} {dtype}": line(f"v{k}{dtype}", "x0 * 0 + x1", "x", number, dtype=dtype)
        for k, number in enumerate(numbers)
        for dtype in (FLOAT, DOUBLE)
    }
    lines["bounds"] = line("bounds", "minimum(maximum(x0, low), high)", "x", dtype=LONG,
                           low=-(2**63), high=2**63 - 1)  # fmt: skip
    found = by_numba(lines, {"x": x})
    for k, number in enumerate(numbers):
        for dtype in (FLOAT, DOUBLE):
            with np.errstate(over="ignore", invalid="ignore"):
                want = x.astype(dtype) * 0 + dtype.type(number)
            np.testing.assert_array_equal(found[f"{k} {dtype}"], want, f"{number} {dtype}")
    assert found["bounds"].tolist() == [1, -1, 0]


def test_float32_is_not_widened() -> None:
    """A large product overflows, a small sum is lost, as in float32 and not as in float64."""
    lines = {
        "big": line("big", "x0 * x0 / 1e30", "x"),
        "lost": line("lost", "(x0 + 1) - x0", "x"),
        "wrapped": line("wrapped", "x0 * x0", "n", dtype=INT),
        "wide": line("wide", "x0 * x0", "n", dtype=LONG),
    }
    n = np.array([2**20, 3], INT)
    found = by_numba(lines, {"x": np.array([1e30, 1], FLOAT), "n": n})
    assert found["big"][0] == inf
    assert found["wrapped"].tolist() == [0, 9]
    assert found["wide"].tolist() == [2**40, 9]


@pytest.mark.parametrize(
    ("expression", "dtype", "message"),
    [
        ("x0 & x1", FLOAT, "bitwise_and"),
        ("~x0", FLOAT, "invert"),
        ("-x0", BOOL, "negative"),
        ("x0", HALF, "float16"),
    ],
)
def test_what_is_not_compiled(expression: str, dtype: Any, message: str) -> None:
    arrays = (spec("a", (3,), dtype), spec("b", (3,), dtype))
    kernel = fused(
        line("y", expression, "a", "b", dtype=dtype),
        reads={"a": whole(0, (3,)), "b": whole(1, (3,))},
        writes={"y": whole(0, (3,))},
    )
    loop = Loop(arrays, (kernel,), False)
    found = reason(kernel, loop)
    assert found is not None
    assert message in found
    with pytest.raises(ValueError, match="every step must be compiled"):
        compile_loop(loop)


# Accuracy


@pytest.mark.parametrize(
    ("expression", "truth", "limit"),
    [
        ("tanh(x0)", np.tanh, 8),
        ("1 / (1 + exp(-x0))", lambda x: 1 / (1 + np.exp(-x)), 8),
        ("exp(x0)", np.exp, 4),
    ],
)
def test_accuracy(expression: str, truth: Callable[[np.ndarray], np.ndarray], limit: int) -> None:
    """Units in the last place over every 1021st float32; results below the normal range are 0."""
    x = np.arange(0, 1 << 32, 1021, dtype=np.uint64).astype(np.uint32).view(np.float32)
    found = by_numba({"y": line("y", expression, "x")}, {"x": x})["y"]
    with np.errstate(all="ignore"):
        want = truth(x.astype(DOUBLE))
        rounded = want.astype(FLOAT)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))
    infinite = np.isinf(rounded)
    np.testing.assert_array_equal(found[infinite], rounded[infinite])
    normal = np.isfinite(rounded) & (np.abs(want) > np.finfo(FLOAT).tiny)
    error = np.abs(found[normal] - want[normal]) / np.spacing(np.abs(rounded[normal]))
    assert error.max() <= limit
    small = np.isfinite(rounded) & ~normal
    assert np.abs(found[small] - want[small]).max() <= np.finfo(FLOAT).tiny


def test_values_of_the_edge() -> None:
    x = np.array([0.0, -0.0, inf, -inf, nan, -nan, 88.72283, 88.72284, -87.3, -104, 1e-45], FLOAT)
    x = np.concatenate([x, np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00001], np.uint32).view(FLOAT)])
    found = by_numba({"e": line("e", "exp(x0)", "x"), "t": line("t", "tanh(x0)", "x")}, {"x": x})
    with np.errstate(all="ignore"):
        want = np.exp(x.astype(DOUBLE)).astype(FLOAT)
        np.testing.assert_allclose(found["e"], want, 3e-7, 2e-38)
        np.testing.assert_allclose(found["t"], np.tanh(x.astype(DOUBLE)), 1e-6, 2e-38)
    assert np.signbit(found["t"][1])
