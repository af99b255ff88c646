"""The CUDA emitter without a card: its kernels as C++ on strict arrays, and as PTX."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import usable
from host_cuda import HostCUDA
from loop_cases import (
    BOOL,
    DOUBLE,
    FLOAT,
    HALF,
    INT,
    LONG,
    allocate,
    fused,
    layer_norm,
    line,
    lstm,
    phase,
    run_call,
    run_reference,
    softmax,
    spec,
    view,
    whole,
)
from strict import STRICT, StrictArray

from tinygrad_rnn import backends
from tinygrad_rnn.backends import Backend
from tinygrad_rnn.replay.emit.cuda.emitter import compile_loop
from tinygrad_rnn.replay.emit.cuda.source import cuda_kernel
from tinygrad_rnn.replay.program.loop import ArraySpec, Call, Kernel, Loop, Product, Ref
from tinygrad_rnn.tape import Primitive

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
TOLERANCE = {FLOAT: 2e-6, DOUBLE: 1e-14, HALF: 2e-3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kernels are compiled; each source once."""
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(params=[1, 4])
def backend(request: pytest.FixtureRequest, folder: Path) -> HostCUDA:
    """Blocks of one thread and of four."""
    return HostCUDA(folder, request.param)


def no_calls(step: Call) -> Any:
    raise AssertionError(f"{step.primitive.name} should be in a kernel")


def results(
    loop: Loop, backend: Backend, arrays: Sequence[np.ndarray], T: int, fallback: Any = no_calls
) -> list[np.ndarray]:
    """The arrays behind the loop."""
    there = [backend.from_host(array, backend.devices()[0]) for array in arrays]
    compile_loop(loop, backend, fallback)(there, T)
    return [backend.to_host(array) for array in there]


def check(loop: Loop, backend: Backend, T: int, tolerance: float = 2e-6) -> list[np.ndarray]:
    """The loop's results, compared with NumPy's."""
    arrays = allocate(loop, T)
    found = results(loop, backend, arrays, T)
    run_reference(loop, arrays, T)
    for array, have, want in zip(loop.arrays, found, arrays, strict=True):
        np.testing.assert_allclose(have, want, tolerance, tolerance, err_msg=array.name)
    return found


# Whole loops


@needs_compiler
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, HALF], ids=str)
@pytest.mark.parametrize(("T", "B", "H"), [(5, 3, 4), (1, 1, 1), (3, 2, 300)])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_lstm(backend: HostCUDA, T: int, B: int, H: int, dtype: Any, reverse: bool) -> None:
    loop = lstm(B, H, dtype, reverse)
    arrays = allocate(loop, T)
    given, weight, _, h, c = (array.astype(DOUBLE) for array in arrays)
    found = results(loop, backend, arrays, T)
    assert len(backend.launches) == T  # one kernel per step, besides the product
    for t in reversed(range(T)) if reverse else range(T):
        old, new = (t + 1, t) if reverse else (t, t + 1)
        i, f, g, o = np.split(given[t] + h[old] @ weight, 4, axis=1)
        i, f, o = (1 / (1 + np.exp(-gate)) for gate in (i, f, o))
        c[new] = f * c[old] + i * np.tanh(g)
        h[new] = o * np.tanh(c[new])
    tolerance = 4 * TOLERANCE[dtype]
    np.testing.assert_allclose(found[3], h, tolerance, tolerance)
    np.testing.assert_allclose(found[4], c, tolerance, tolerance)


@needs_compiler
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, HALF], ids=str)
@pytest.mark.parametrize("make", [layer_norm, softmax])
@pytest.mark.parametrize(("T", "B", "H"), [(3, 2, 5), (1, 1, 1), (2, 3, 700)])
def test_reductions_and_phases(
    backend: HostCUDA, make: Any, T: int, B: int, H: int, dtype: Any
) -> None:
    found = check(make(B, H, dtype), backend, T, 4 * TOLERANCE[dtype])
    again = check(make(B, H, dtype), backend, T, 4 * TOLERANCE[dtype])
    assert len(backend.launches) == 2 * T
    assert all(blocks == B for blocks, _ in backend.launches)
    for a, b in zip(found, again, strict=True):
        assert a.tobytes() == b.tobytes()


@needs_compiler
@pytest.mark.parametrize("H", [31, 32, 100])
def test_a_full_block(folder: Path, H: int) -> None:
    backend = HostCUDA(folder, 512)
    for make in (layer_norm, softmax):
        check(make(2, H), backend, 1)
    assert {threads for _, threads in backend.launches} == {32 if H < 33 else 128}


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, HALF], ids=str)
@pytest.mark.parametrize("make", [lstm, layer_norm, softmax])
@pytest.mark.parametrize(("T", "B", "H"), [(3, 2, 5), (4, 64, 700)])
def test_on_a_card(make: Any, T: int, B: int, H: int, dtype: Any) -> None:
    backend = backends.backend_for(usable("cuda"))
    once = check(make(B, H, dtype), backend, T, 20 * TOLERANCE[dtype])
    again = check(make(B, H, dtype), backend, T, 20 * TOLERANCE[dtype])
    assert [a.tobytes() for a in once] == [a.tobytes() for a in again]


@needs_compiler
def test_nan_and_infinity_in_reductions(backend: HostCUDA) -> None:
    loop = softmax(4, 5)
    arrays = allocate(loop, 1)
    arrays[0][0, 0, 3] = np.nan
    arrays[0][0, 1, 0] = np.nan
    arrays[0][0, 2, 1] = -np.inf
    arrays[0][0, 3] = np.inf
    found = results(loop, backend, arrays, 1)
    run_reference(loop, arrays, 1)
    for have, want in zip(found, arrays, strict=True):
        np.testing.assert_allclose(have, want, 2e-6)
    assert np.isnan(found[2]).tolist() == [True, True, False, False]
    assert found[4][2] == -np.inf


@needs_compiler
def test_integer_and_bool_reductions(backend: HostCUDA) -> None:
    """Numbers whose sum no float32 holds, and bools that are counted."""
    row = Ref(0, None, (2, 9), (9, 1))
    totals = [Ref(k, None, (2, 9), (1, 0)) for k in (2, 3, 4, 5)]
    part = phase(
        reads={"x": row, "b": Ref(1, None, (2, 9), (9, 1))},
        reduces=[
            ("x", "sum", totals[0]),
            ("x", "max", totals[1]),
            ("x", "min", totals[2]),
            ("b", "sum", totals[3]),
        ],
    )
    names = ("sum", "max", "min", "count")
    arrays = (
        spec("x", (2, 9), LONG),
        spec("b", (2, 9), BOOL),
        *(spec(name, (2,), LONG) for name in names),
    )
    x = np.arange(18).reshape(2, 9) - 2**60
    given = [x, x % 3 == 0, *(np.zeros(2, LONG) for _ in names)]
    found = results(Loop(arrays, (Kernel((2,), (part,)),), False), backend, given, 1)
    for have, want in zip(
        found[2:], (x.sum(1), x.max(1), x.min(1), (x % 3 == 0).sum(1)), strict=True
    ):
        assert have.tolist() == want.tolist()


# Places


@needs_compiler
def test_strides(backend: HostCUDA) -> None:
    """Two leading axes, repeated elements along each axis, a transposed matrix, every other one."""
    shape = (2, 3, 4)
    arrays = (
        spec("a", (3, 4)),
        spec("b", (4, 3), stacked=True),
        spec("c", (2, 1)),
        spec("d", (50,)),
        spec("y", (5, *shape), stacked=True),
    )
    reads = {
        "a": Ref(0, None, shape, (0, 4, 1)),
        "b": Ref(1, 1, shape, (0, 1, 3)),
        "c": Ref(2, None, shape, (1, 0, 0)),
        "d": Ref(3, None, shape, (24, 8, 2), 1),
    }
    kernel = fused(
        line("s", "x0 + 2 * x1", "a", "b"),
        line("y", "x0 * x1 - x2", "s", "c", "d"),
        reads=reads,
        writes={"y": Ref(4, 0, shape, (12, 4, 1), 24)},
    )
    check(Loop(arrays, (kernel,), False), backend, 3)
    check(Loop(arrays, (kernel,), True), backend, 1)


@needs_compiler
def test_state_in_place(backend: HostCUDA) -> None:
    """A fixed state that each step reads and overwrites, and writes of plain numbers."""
    arrays = (spec("x", (2, 3), stacked=True), spec("s", (2, 3)), spec("k", (3,), INT))
    kernel = fused(
        line("s", "0.5 * x0 + x1", "s", "x"),
        reads={"s": whole(1, (2, 3)), "x": whole(0, (2, 3), 0)},
        writes={"s": whole(1, (2, 3)), 7: Ref(2, None, (2, 3), (0, 1))},
    )
    forward = check(Loop(arrays, (kernel,), False), backend, 4)
    reverse = check(Loop(arrays, (kernel,), True), backend, 4)
    assert not np.allclose(forward[1], reverse[1])
    assert forward[2].tolist() == [7, 7, 7]


@needs_compiler
def test_nothing_to_do(backend: HostCUDA) -> None:
    check(lstm(0, 3), backend, 2)
    check(lstm(2, 0), backend, 2)
    check(layer_norm(0, 3), backend, 2)
    check(lstm(2, 3), backend, 0)
    assert not backend.launches
    empty = softmax(2, 0)
    found = results(empty, backend, allocate(empty, 1), 1)  # reductions of nothing
    assert [a[0] for a in found[2:]] == [-np.inf, 0, np.inf]


@needs_compiler
@pytest.mark.parametrize("constant", [False, True])
def test_products(backend: HostCUDA, constant: bool) -> None:
    """Transposed, strided and stacked operands, a strided result, and an inner size of 0."""
    shapes = ((3, 8), (5, 8), (4, 7), (3, 10), (3, 5), (3, 0), (0, 5), (4, 5))
    arrays = tuple(spec(f"a{k}", shape, DOUBLE, k in (0, 3, 7)) for k, shape in enumerate(shapes))
    left, out = Ref(0, 1, (3, 4), (8, 2), 1), whole(4, (3, 5))
    steps = (
        Product(whole(0, (3, 8), 0), Ref(1, None, (8, 5), (1, 8)), out, constant),
        Product(left, Ref(2, None, (4, 5), (7, 1), 2), Ref(3, 0, (3, 5), (10, 1), 3), constant),
        Product(left, whole(7, (4, 5), 0), Ref(3, 0, (3, 5), (10, 2)), False),
        Product(whole(5, (3, 0)), whole(6, (0, 5)), out, constant),
    )
    for step in steps:
        found = check(Loop(arrays, (step,), False), backend, 2, 1e-14)
    assert not found[4].any()
    assert not backend.launches


@needs_compiler
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_calls(backend: HostCUDA, reverse: bool) -> None:
    """What no kernel does goes through the fallback, in its place among the steps."""
    total = Primitive("total", lambda xp, x, scale: xp.sum(x, axis=1) * scale, [None])
    arrays = (spec("x", (2, 3), stacked=True), spec("y", (2,)))
    call = Call(total, (whole(0, (2, 3), 0),), {"scale": 0.5}, (whole(1, (2,)),))
    add = fused(
        line("z", "x0 + x1", "x", "y"),
        reads={"x": whole(0, (2, 3), 1), "y": Ref(1, None, (2, 3), (1, 0))},
        writes={"z": whole(0, (2, 3), 1)},
    )
    loop = Loop(arrays, (call, add), reverse)
    given = allocate(loop, 3)
    seen: list[int] = []

    def fallback(step: Call) -> Any:
        def start(strict: Sequence[StrictArray]) -> Any:
            def run(t: int) -> None:
                seen.append(t)
                run_call(step, lambda ref: view(ref, loop, [a._values for a in strict], t))

            return run

        return start

    found = results(loop, backend, given, 3, fallback)
    run_reference(loop, given, 3)
    assert seen == ([2, 1, 0] if reverse else [0, 1, 2])
    for have, want in zip(found, given, strict=True):
        np.testing.assert_allclose(have, want, 2e-6)


# What the emitter promises


@needs_compiler
def test_nothing_but_launches_in_the_loop(folder: Path) -> None:
    """Ten more steps make ten more launches and no arrays."""
    made: list[int] = []
    for T in (2, 12):
        backend = HostCUDA(folder)
        arrays = [STRICT.from_host(a, "strict") for a in allocate(lstm(2, 3), T)]
        run = compile_loop(lstm(2, 3), backend, no_calls)
        with STRICT.counting() as count:
            run(arrays, T)
        assert len(backend.launches) == T
        assert not count.host_reads
        made.append(count.arrays_made)
    assert made == [0, 0]


def kernel_of(loop: Loop) -> tuple[Kernel, Sequence[ArraySpec]]:
    (kernel,) = (step for step in loop.steps if isinstance(step, Kernel))
    return kernel, loop.arrays


@pytest.mark.parametrize("make", [lstm, softmax])
def test_one_source_for_every_size(make: Any) -> None:
    kernels = [kernel_of(make(B, H)) for B, H in ((2, 3), (1, 1), (7, 600))]
    assert len({cuda_kernel(*kernel).source for kernel in kernels}) == 1
    assert len({cuda_kernel(*kernel).numbers.tobytes() for kernel in kernels}) == 3


def test_one_source_for_both_directions() -> None:
    kernels = [kernel_of(lstm(2, 3, reverse=reverse)) for reverse in (False, True)]
    assert len({cuda_kernel(*kernel).source for kernel in kernels}) == 1
    assert len({cuda_kernel(*kernel).numbers.tobytes() for kernel in kernels}) == 2


def test_a_backend_without_kernels() -> None:
    for backend in (STRICT, backends.backend_for("cpu")):
        assert backend.compile_kernel("", "name") is None
        with pytest.raises(ValueError, match="has no kernels of its own"):
            compile_loop(lstm(2, 3), backend, no_calls)


@pytest.mark.parametrize("name", ["cpu", "strict"])
def test_strided(name: str) -> None:
    backend = backends.backend_for(name)
    array = backend.from_host(np.arange(12.0).reshape(3, 4), name)
    view = backend.strided(array, (2, 3, 2), (1, 4, 0), 1)
    want = [[[1, 1], [5, 5], [9, 9]], [[2, 2], [6, 6], [10, 10]]]
    assert backend.to_host(view).tolist() == want
    view[0, 1] = -1.0
    assert backend.to_host(array)[1].tolist() == [4, -1, 6, 7]
    assert backend.strided(array, (0, 3), (4, 1), 12).shape == (0, 3)
