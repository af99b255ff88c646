"""The programs of the replay tests in four threads at once: as in one, by every emitter."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from emitters import EMITTERS, running
from hypothesis import HealthCheck, assume, given, settings
from loop_cases import FLOAT, HALF, allocate, layer_norm, lstm, softmax
from networks import CELLS
from random_operations import CODES, OPERATIONS, WAVE
from random_steps import cases
from random_values import Case
from test_replay_random import Run, difference
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import backends, replay, rnn
from tinygrad_rnn.backends import mkl_threads
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.choice import has_numba

THREADS = 4
IN_THREADS = [emitter for emitter in EMITTERS if getattr(emitter, "values", ()) != ("cuda",)]
"""Without the kernels on the host, whose blocks are one process's."""


@pytest.fixture(autouse=True)
def often() -> Generator[None]:
    """Threads take turns a thousand times as often, so that they meet."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def compared(jobs: Sequence[Callable[[], list[np.ndarray]]], rtol: float, rounds: int = 3) -> None:
    """First at once, so that what is compiled when it is first needed is compiled by all."""
    rounds_at_once = [at_once(jobs) for _ in range(rounds)]
    wanted = [job() for job in jobs]
    for found in rounds_at_once:
        for have, want in zip(found, wanted, strict=True):
            for a, b in zip(have, want, strict=True):
                np.testing.assert_allclose(a, b, rtol, rtol * float(np.abs(b).max(initial=1)))
    firsts = [want[0] for want in wanted]
    assert not any(np.array_equal(firsts[0], other) for other in firsts[1:])


class WaveCell(rnn.Cell):
    """A step that no emitter compiles as a whole."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = tg.nn.Parameter(np.ones((hidden_size, input_size), np.float32))

    def step(self, x: Any, h: Any) -> Any:
        h = tg.tanh(WAVE(tg.linear(x, self.weight)) + WAVE(h) * tg.sum(h, 1, keepdims=True))
        return h, h


LAYERS: dict[str, tuple[Callable[[], rnn.Cell], Any]] = {
    **{name: (partial(make, 5, 6), np.float32) for name, make in CELLS.items()},
    "lstm": (partial(rnn.LSTMCell, 5, 6), np.float32),
    "gru": (partial(rnn.GRUCell, 5, 6), np.float32),
    "wave": (partial(WaveCell, 5, 6), np.float32),
    "half gru": (partial(rnn.GRUCell, 5, 6), np.float16),
    "half lstm, layer norm": (partial(rnn.LayerNormLSTMCell, 5, 6), np.float16),
}


def layer_job(layer: Any, x: np.ndarray, emitter: str) -> list[np.ndarray]:
    """Outputs and gradients of a copy of the layer."""
    with running(emitter) as device:
        layer = copy.deepcopy(layer)
        if device != "cpu":
            layer.to(device)
        given = tg.tensor(x, device=device, requires_grad=True)
        y, _ = layer(given)
        tg.sum(y * y).backward()
        found = [y, given.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]
        return [value.numpy().astype(np.float32) for value in found]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("emitter", IN_THREADS)
def test_layers(emitter: str, name: str) -> None:
    make, dtype = LAYERS[name]
    if emitter == "strict" and dtype == np.float16:
        pytest.skip("float16 is slow there, and run by the same calls")
    tg.manual_seed(0)
    layer = rnn.Recurrent(make())
    layer.to(dtype)
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((7, 3, 5)).astype(dtype) for _ in range(THREADS)]
    jobs = [partial(layer_job, layer, x, emitter) for x in xs]
    compared(jobs, 2e-3 if dtype == np.float16 else 1e-5)


@pytest.mark.skipif(not has_numba(), reason="needs the extra jit")
def test_fault_3_what_a_fallback_writes_belongs_to_the_run() -> None:
    """A kernel of float16, which Numba refuses, with buffers between its lines."""
    tg.manual_seed(0)
    layer = rnn.Recurrent(rnn.GRUCell(4, 64))
    layer.to(np.float16)
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((30, 16, 4)).astype(np.float16) for _ in range(3)]
    compared([partial(layer_job, layer, x, "numba") for x in xs], 2e-3, rounds=8)


@pytest.mark.skipif(
    mkl_threads.thread_count() < 2 or not has_numba(), reason="needs MKL with two threads"
)
def test_rows_divided_among_threads() -> None:
    tg.manual_seed(0)
    layer = rnn.Recurrent(rnn.GRUCell(5, 64))
    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((40, 33, 5)).astype(np.float32) for _ in range(THREADS)]
    compared([partial(layer_job, layer, x, "numba") for x in xs], 1e-4)


@pytest.mark.parametrize("emitter", IN_THREADS)
def test_streams(emitter: str) -> None:
    """One step after the other, in frames that are kept between calls."""
    tg.manual_seed(0)
    layer = rnn.Recurrent(rnn.LSTMCell(5, 6))

    def job(x: np.ndarray) -> list[np.ndarray]:
        with running(emitter) as device, tg.no_grad():
            mine = copy.deepcopy(layer)
            if device != "cpu":
                mine.to(device)
            state: Any = None
            ys: list[np.ndarray] = []
            for row in x:
                y, state = mine(tg.tensor(row[None], device=device), state)
                ys.append(y.numpy())
            return [np.concatenate(ys)]

    rng = np.random.default_rng(1)
    xs = [rng.standard_normal((40, 2, 5)).astype(np.float32) for _ in range(THREADS)]
    compared([partial(job, x) for x in xs], 1e-5)


LOOPS = {
    "lstm": partial(lstm, 4, 5, FLOAT),
    "lstm back": partial(lstm, 4, 5, FLOAT, True),
    "half lstm": partial(lstm, 4, 5, HALF),
    "layer norm": partial(layer_norm, 4, 50, FLOAT),
    "softmax": partial(softmax, 4, 50, FLOAT),
    "half softmax": partial(softmax, 4, 50, HALF),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=IN_THREADS[2].marks)])
def test_loops(jit: bool, name: str) -> None:
    """One compiled loop, run on arrays of each thread's own."""
    loop = LOOPS[name]()
    with replay.using(jit=jit):
        run = choice.emit(loop, backends.backend_for("cpu"), backends.extras())

    def job(seed: int) -> list[np.ndarray]:
        arrays = allocate(loop, 8, seed)
        run(arrays, 8)
        return [array.astype(np.float32) for array in arrays]

    compared([partial(job, seed) for seed in range(THREADS)], 2e-3 if "half" in name else 1e-5)


def run_case(case: Case, emitter: str, noise: float) -> Run:
    with running(emitter) as device:
        captured = Run(case, device, np.float64, True, 0).captured  # found before it is traced
        return Run(case, device, np.float64, False, 1, captured, noise)


@pytest.mark.parametrize("emitter", IN_THREADS)
@settings(max_examples=12, suppress_health_check=list(HealthCheck))
@given(case=cases(lines=6))
def test_random_steps(emitter: str, case: Case) -> None:
    """But without random numbers, which all threads would draw from one generator."""
    assume(all(line.code % len(OPERATIONS) != CODES["dropped"] for line in case.lines))
    jobs = [partial(run_case, case, emitter, 1e-3 * k) for k in range(THREADS)]
    runs = at_once(jobs)
    for found, job in zip(runs, jobs, strict=True):
        want = job()
        for group in range(2):
            assert difference(found, want, group) <= 1e-12
