"""Kernel expressions in CUDA C: every primitive, the values that C leaves open, casts, and PTX."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import usable
from expressions import PRIMITIVES, assert_near, cases, kernel_of, pairs
from host_cuda import HostCUDA
from loop_cases import (
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    INT,
    LONG,
    Written,
    layer_norm,
    line,
    lstm,
    softmax,
    spec,
    whole,
)

from tinygrad_rnn.backends import Backend, backend_for
from tinygrad_rnn.replay.emit.cuda.emitter import compile_loop
from tinygrad_rnn.replay.emit.cuda.source import NAME, cuda_kernel
from tinygrad_rnn.replay.program.loop import Kernel, Line, Loop, Phase

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")

DTYPES = (HALF, FLOAT, DOUBLE, INT, LONG, BOOL)
inf, nan = np.inf, np.nan


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("host", marks=needs_compiler),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """Where the kernels run."""
    if request.param == "host":
        return HostCUDA(tmp_path_factory.mktemp("kernels"))
    return backend_for(usable("cuda"))


def evaluate(
    lines: Mapping[str, Written], inputs: Mapping[str, np.ndarray], backend: Backend
) -> dict[str, np.ndarray]:
    """The result of each line."""
    kernel, arrays = kernel_of(lines, inputs)
    (device, *_) = backend.devices()
    size = arrays[0].shape[0]
    given = [*inputs.values(), *(np.zeros(size, item.dtype) for item in lines.values())]
    there = [backend.from_host(array, device) for array in given]
    compile_loop(Loop(arrays, (kernel,), False), backend, lambda step: NotImplemented)(there, 1)
    found = [backend.to_host(array) for array in there[len(inputs) :]]
    return dict(zip(lines, found, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_primitive(backend: Backend, dtype: Any) -> None:
    lines, inputs, wanted = cases(dtype)
    signed = ("remainder", "round", "floor", "ceil", "multiply")
    assert_near(evaluate(lines, inputs, backend), wanted, signed)


def test_no_primitive_is_forgotten() -> None:
    tried = {name for dtype in DTYPES for name in cases(dtype)[0]}
    assert tried == set(PRIMITIVES)
    assert len(tried) > 40


def every_cast() -> dict[str, Written]:
    names = {f"{compute}_{to}": (compute, to) for compute in DTYPES for to in DTYPES}
    return {
        name: line(name, "x0", "x", compute=compute, dtype=to)
        for name, (compute, to) in names.items()
    }


@pytest.mark.parametrize("source", DTYPES, ids=str)
def test_casts(backend: Backend, source: Any) -> None:
    """To every dtype, directly and by way of every dtype to compute in."""
    values = [0, 1, 1, 3, 1000, 70000] if source.kind != "b" else [0, 1, 1, 0, 1, 1]
    with np.errstate(over="ignore"):
        x = np.array(values).astype(source)
    if source.kind == "f":
        x[:4] = [-0.0, 1.75, -2.5, 1 / 3]
    lines = {
        f"{compute}_{target}": line(f"{compute}_{target}", "x0", "x", compute=compute, dtype=target)
        for compute in DTYPES
        for target in DTYPES
    }
    if source == HALF:
        x[5] = 1234  # in place of inf, which no integer is
    if source.kind != "b":
        lines = {k: v for k, v in lines.items() if v.compute != HALF}  # 70,000 overflows
    found = evaluate(lines, {"x": x}, backend)
    for name, item in lines.items():
        with np.errstate(over="ignore"):
            want = x.astype(item.compute).astype(item.dtype)
        np.testing.assert_array_equal(found[name], want, name)


def test_float16_by_bits(backend: Backend) -> None:
    """Every float16 comes through; what lies between two of them is rounded to even."""
    x = np.arange(65536, dtype=np.uint16).view(HALF)
    found = evaluate({"y": line("y", "x0", "x", dtype=HALF)}, {"x": x}, backend)["y"]
    np.testing.assert_array_equal(
        found.view(np.uint16)[~np.isnan(x)], x.view(np.uint16)[~np.isnan(x)]
    )
    assert np.isnan(found[np.isnan(x)]).all()
    finite = x[np.isfinite(x)].astype(FLOAT)
    between = np.concatenate([finite * FLOAT.type(1 + 2.0**-k) for k in (11, 12, 13)])
    with np.errstate(over="ignore"):
        want = between.astype(HALF)
    found = evaluate(
        {"y": line("y", "x0", "x", compute=FLOAT, dtype=HALF)}, {"x": between}, backend
    )
    np.testing.assert_array_equal(found["y"].view(np.uint16), want.view(np.uint16))


def test_float16_is_rounded_after_each_line(backend: Backend) -> None:
    x = np.linspace(-3, 3, 64).astype(HALF)
    lines = {
        "once": line("once", "x0 * x0", "x", dtype=HALF),
        "wide": line("wide", "x0", "once", compute=FLOAT, dtype=FLOAT),
        "mixed": line("mixed", "x0 * x1", "x", 1.0001, compute=FLOAT, dtype=HALF),
        "later": line("later", "x0 + 0", "mixed", compute=DOUBLE, dtype=DOUBLE),
    }
    found = evaluate(lines, {"x": x}, backend)
    mixed = (x.astype(FLOAT) * FLOAT.type(1.0001)).astype(HALF)
    for name, want in {"once": x * x, "wide": x * x, "mixed": mixed, "later": mixed}.items():
        np.testing.assert_array_equal(found[name], want, name)


def test_numbers(backend: Backend) -> None:
    """Constants in the dtype of the computation, also where they are large, small or none."""
    x = np.array([1.0, -1.0, 0.0])
    numbers = [0.1, -0.1, 1e-40, 1e300, -1e300, inf, -inf, nan, 3, True, -0.0, 2.0**-30]
    lines = {
        f"{k} {dtype}": line(f"v{k}{dtype}", "x0 * 0 + x1", "x", number, dtype=dtype)
        for k, number in enumerate(numbers)
        for dtype in (HALF, FLOAT, DOUBLE)
    }
    lines["bounds"] = line("bounds", "minimum(maximum(x0, low), high)", "x", dtype=LONG,
                           low=-(2**63), high=2**63 - 1)  # fmt: skip
    lines["half"] = line("half", "0.5 * x0", "x", compute=INT, dtype=DOUBLE)
    found = evaluate(lines, {"x": x}, backend)
    for k, number in enumerate(numbers):
        for dtype in (HALF, FLOAT, DOUBLE):
            with np.errstate(over="ignore", invalid="ignore"):
                want = x.astype(dtype) * 0 + dtype.type(number)
            if dtype == FLOAT and abs(number) < float(np.finfo(dtype).tiny):
                want = 0 * want  # CuPy compiles with -ftz=true
            np.testing.assert_array_equal(found[f"{k} {dtype}"], want, f"{number} {dtype}")
    assert found["bounds"].tolist() == [1, -1, 0]
    assert found["half"].tolist() == [0.5, -0.5, 0]


def test_operators(backend: Backend) -> None:
    """Python's operators beyond those in the table, with NumPy's results."""
    inputs = {name: pairs(LONG)[name] for name in ("a", "b")}
    x, y = inputs.values()
    with np.errstate(all="ignore"):
        wanted = {
            "x0 // x1": x // y,
            "x0 % x1": x % y,
            "floor_divide(x0, x1)": x // y,
            "power(x0, abs(x1))": x ** np.abs(y),
            "x0 ** 2": x**2,
            "+x0 - -x1": x + y,
            "x0 < x1 < 3": (x < y) & (y < 3),
            "not (x0 == x1)": x != y,
            "select(x0, x1, -1)": np.where(x, y, -1),
            "(x0 > 0) * x1": (x > 0) * y,
            "sqrt(x0 * x0)": np.abs(x),
            "~x0 & 6 | x1 ^ 3": ~x & 6 | y ^ 3,
        }
    lines = {text: line(f"v{k}", text, "a", "b", dtype=LONG) for k, text in enumerate(wanted)}
    found = evaluate(lines, inputs, backend)
    for text, want in wanted.items():
        np.testing.assert_array_equal(found[text], want, text)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("x0 & x1", "bitwise_and of a float"),
        ("~x0", "invert of a float"),
    ],
)
def test_what_has_no_translation(expression: str, message: str) -> None:
    x = np.zeros(3, FLOAT)
    kernel, arrays = kernel_of({"y": line("y", expression, "a", "b")}, {"a": x, "b": x})
    with pytest.raises(ValueError, match=f"CUDA kernel: {message} is unknown"):
        cuda_kernel(kernel, arrays)


def test_what_has_no_dtype() -> None:
    x = np.zeros(3, np.uint8)
    with pytest.raises(ValueError, match="dtype uint8 is not one of bool, int32, int64, float16"):
        cuda_kernel(*kernel_of({"y": line("y", "x0", "a")}, {"a": x}))
    half = Line("y", "cast", (2.5,), INT, INT)
    kernel = Kernel((), (Phase(3, (), (half,), (("y", whole(0, (3,))),)),))
    with pytest.raises(ValueError, match=r"CUDA kernel: 2\.5 is no int32"):
        cuda_kernel(kernel, (spec("a", (3,), INT),))


# PTX


def every_source() -> dict[str, str]:
    """One kernel per dtype with all primitives, and those of whole loops."""
    found = {str(dtype): cuda_kernel(*kernel_of(*cases(dtype)[:2])).source for dtype in DTYPES}
    for dtype in DTYPES:
        casts = kernel_of(every_cast(), {"x": np.zeros(3, dtype)})
        found[f"from {dtype}"] = cuda_kernel(*casts).source
    for dtype in (HALF, FLOAT, DOUBLE):
        for make in (lstm, layer_norm, softmax):
            loop = make(2, 3, dtype)
            (kernel,) = (step for step in loop.steps if isinstance(step, Kernel))
            found[f"{make.__name__} {dtype}"] = cuda_kernel(kernel, loop.arrays).source
    return found


@needs_nvcc
def test_kernels_are_cuda(tmp_path: Path) -> None:
    """All of them in one file, as far as PTX and, where ptxas is there, as machine code."""
    parts = [
        f"namespace k{k} {{\n{source.replace(NAME, f'kernel{k}')}}}\n"
        for k, source in enumerate(every_source().values())
    ]
    source, target = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    source.write_text("".join(parts))
    unused = ["-diag-suppress", "177"]  # functions of the preamble
    command = ["nvcc", "--ptx", "-arch=sm_75", "-Werror", "all-warnings", *unused]
    subprocess.run([*command, source, "-o", target], check=True)
    text = target.read_text()
    assert text.count(".visible .entry") == len(parts)
    for instruction in ("bar.sync", "cvt.rn.f16.f32", "cvt.rn.f16.f64", "cvt.f32.f16"):
        assert instruction in text
    if shutil.which("ptxas"):  # nvcc does not read the instructions of an asm statement
        options = ["-O1", "-arch=sm_75"]
        subprocess.run(["ptxas", *options, target, "-o", tmp_path / "kernels.cubin"], check=True)
