"""Every CUDA kernel of every cell by itself, on random arrays, against NumPy's numbers.

``host`` runs the kernels compiled as C++, ``cuda`` on a card (``-m gpu``).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import usable
from host_cuda import HostCUDA, compile_together
from loop_cases import BOOL, DOUBLE, FLOAT, HALF, allocate, run_reference
from networks import CELLS, random_state
from strict import STRICT

from tinygrad_rnn import backends, replay, rnn, tape, zeros
from tinygrad_rnn.replay.emit.cuda.emitter import compile_loop
from tinygrad_rnn.replay.emit.cuda.source import NAME, cuda_kernel
from tinygrad_rnn.replay.program.loop import Kernel, Loop

EVERY: dict[str, Any] = {
    **CELLS,
    "elman": rnn.RNNCell,
    "elman, relu": lambda i, h: rnn.RNNCell(i, h, nonlinearity="relu"),
    "lstm": rnn.LSTMCell,
    "lstm, projected": lambda i, h: rnn.LSTMCell(i, h, proj_size=h - 1),
    "gru": rnn.GRUCell,
    "gru, no bias": lambda i, h: rnn.GRUCell(i, h, bias=False),
}
DTYPES = [FLOAT, DOUBLE, HALF]
TOLERANCE = {FLOAT: 2e-5, DOUBLE: 1e-13, HALF: 1e-2}
SIZES = {"strict": (3, 3, 4), "cuda": (33, 40, 70)}
"""B, I and H; on a card a row takes more than one warp."""
T = 2


@cache
def kernels(name: str, dtype: Any, device: str) -> dict[str, Loop]:
    """The kernels of a cell's loops, each as a loop of one step."""
    B, I, H = SIZES[device]
    cell = EVERY[name](I, H).to(dtype).to(device)
    x = zeros((T, B, I), dtype, device)
    state = random_state(cell.initial_state(B))
    for value in (x, *tape.leaves(state)):
        value.requires_grad = value.dtype.kind == "f"
    found = replay.trace(cell.step, x, state, T, False)
    assert not isinstance(found, replay.Steps)
    traced, _ = found
    made = traced.replay
    wanted = replay.wanted_of(made, [*traced.captured, x, *tape.leaves(state)])
    _, back = made.backward_program(wanted, wanted)
    loops = {
        "inference": made.inference(),
        "forward": made.training(wanted).forward,
        "backward": back,
    }
    return {
        f"{where}, step {k}": compiled.plan.loop._replace(steps=(step,))
        for where, compiled in loops.items()
        for k, step in enumerate(compiled.plan.loop.steps)
        if isinstance(step, Kernel)
    }


def sources(dtype: Any) -> set[str]:
    """Those of all cells."""
    loops = [loop for name in EVERY for loop in kernels(name, dtype, "strict").values()]
    return {cuda_kernel(kernel, loop.arrays).source for loop in loops for kernel in loop.steps}


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(
            "strict", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
        ),
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
    ids=["host", "cuda"],
)
def card(
    request: pytest.FixtureRequest, dtype: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A backend with kernels; on the host all of a dtype are compiled at once."""
    folder: Path = tmp_path_factory.mktemp("kernels")
    if request.param == "cuda":
        backend: Any = backends.backend_for(usable("cuda"))
        if "stand-in" in backend.xp.__version__:
            compile_together(sorted(sources(dtype)), NAME, folder)
        yield backend
        return
    backends.register(HostCUDA(folder, 4))
    compile_together(sorted(sources(dtype)), NAME, folder)
    yield backends.backend_for("strict")
    backends.register(STRICT)


def test_no_cell_is_left_out() -> None:
    there = {type(make(4, 6)).__name__ for make in EVERY.values()}
    assert there == {name for name in rnn.__all__ if name.endswith("Cell")} - {"Cell"}


@pytest.mark.parametrize("name", EVERY)
def test_kernels_of_a_cell(name: str, dtype: Any, card: Any) -> None:
    found = kernels(name, dtype, card.name)
    assert {where.partition(",")[0] for where in found} == {"inference", "forward", "backward"}
    for where, loop in found.items():
        given = allocate(loop, T, seed=len(where))
        for array in given:
            if array.dtype == BOOL:
                array[...] = np.random.default_rng(1).random(array.shape) < 0.5
        there = [card.from_host(array, card.devices()[0]) for array in given]
        compile_loop(loop, card, lambda step: pytest.fail(f"{step} is no kernel"))(there, T)
        before = [array.copy() for array in given]
        run_reference(loop, given, T)
        assert any(not np.array_equal(a, b) for a, b in zip(before, given, strict=True))
        for spec, have, want in zip(loop.arrays, there, given, strict=True):
            finite = np.abs(want[np.isfinite(want)].astype(DOUBLE))
            scale = max(1.0, float(finite.max(initial=0)))
            np.testing.assert_allclose(
                card.to_host(have),
                want,
                rtol=TOLERANCE[dtype],
                atol=TOLERANCE[dtype] * scale,
                err_msg=f"{name}, {where}: {spec.name}",
            )
