"""Subnormal numbers cost no time where gradients vanish: loops and optimizers flush them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from platform import machine
from typing import Any

import numpy as np
import pytest
from programs import run_python

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, replay, rnn
from tinygrad_rnn.backends import backend_for, mkl_threads, subnormal

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or machine() != "x86_64", reason="nothing is flushed here"
)
TINY = np.finfo(np.float32).tiny
needs_threads = pytest.mark.skipif(
    mkl_threads.thread_count() < 2, reason="needs MKL with two threads or more"
)


def flushes() -> bool:
    """Whether this thread makes 0 of a subnormal number."""
    return not np.any(np.full(64, TINY) * np.float32(0.5))


def count(values: np.ndarray) -> int:
    """How many numbers are subnormal."""
    size = np.abs(values)
    return int(np.sum((size > 0) & (size < TINY)))


def test_within_the_call_and_in_this_thread_only() -> None:
    cpu = backend_for("cpu")
    with ThreadPoolExecutor(1) as other:
        assert not other.submit(flushes).result()  # the thread is there before the call

        def work() -> list[bool]:
            return [flushes(), cpu.flushed(flushes), flushes(), other.submit(flushes).result()]

        assert cpu.flushed(work) == [True, True, True, False]
    assert not flushes()


def test_an_error_or_ctrl_c_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("within")

    with pytest.raises(ValueError, match="within"):
        subnormal.flushed(fail)
    assert not flushes()
    tell, put = subnormal._functions() or (None, None)
    assert put is not None

    def interrupted(mode: Any) -> None:
        put(mode)
        if flushes():
            raise KeyboardInterrupt

    monkeypatch.setattr(subnormal, "_functions", lambda: (tell, interrupted))
    with pytest.raises(KeyboardInterrupt):
        subnormal.flushed(flushes)
    assert not flushes()


@needs_threads
def test_in_every_one_of_several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of the first state comes out of the loop, some of its rows from each thread."""
    numba_emitter = pytest.importorskip("tinygrad_rnn.replay.emit.numba.emitter")
    runs: list[int] = []

    def counted(jobs: Any) -> None:
        runs.append(len(jobs))
        mkl_threads.run_in_threads(jobs)

    monkeypatch.setattr(numba_emitter, "run_in_threads", counted)
    tg.manual_seed(0)
    layer, x = rnn.Recurrent(rnn.GRUCell(5, 64)), tg.randn((40, 33, 5))
    found = []
    for unroll in (False, True):
        layer.unroll = unroll
        start = tg.zeros((33, 64))
        start.requires_grad = True
        (1e-30 * tg.sum(layer(x, start)[0][-1])).backward()
        found.append(start.grad.numpy())
    assert runs
    assert count(found[0]) == 0 < count(found[1][:16]) < count(found[1])
    after: list[bool] = []
    mkl_threads.run_in_threads([lambda: after.append(flushes())] * 4)
    assert after == [False] * 4
    assert not flushes()


GNU_FIRST = """
import ctypes, sys
ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn.backends import blas, mkl_threads
tg.rnn.LSTM(64, 64)(tg.randn((1000, 2, 64)))
found = []
def work(_):
    values = np.full(64, np.finfo(np.float32).tiny) * np.float32(0.5)
    found.append(bool(np.any(values)))
mkl_threads._openmp().GOMP_parallel(mkl_threads._Function(work), None, 2, 0)
print(blas.mkl().layer, found)
"""


@needs_threads
def test_threads_that_gnu_starts_compute_as_before(gnu_openmp: str) -> None:
    """They would inherit the mode of the thread that starts them, and be PyTorch's as well."""
    assert run_python("-c", GNU_FIRST, gnu_openmp).stdout.strip() == "3 [True, True]"


@pytest.mark.parametrize("jit", [True, False])
@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
def test_a_gradient_that_vanishes(name: str, jit: bool) -> None:
    """The loop goes from what counts to 0; unrolled, the way is long."""
    tg.manual_seed(0)
    layer = getattr(rnn, name)(4, 8)
    x = tg.randn((400, 3, 4))
    x.requires_grad = True
    found = []
    for unroll in (False, True):
        layer.unroll = unroll
        layer.zero_grad()
        x.grad = None
        with replay.using(jit=jit):
            tg.sum(layer(x)[0][-1]).backward()
        found.append([x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
        assert not flushes()
    assert count(found[1][0])
    assert not count(found[0][0])
    for ours, unrolled in zip(*found, strict=True):
        np.testing.assert_allclose(ours, unrolled, rtol=1e-4, atol=1e-6)


class Leaky(rnn.Cell):
    """h = 0.9 h + x."""

    def __init__(self) -> None:
        self.input_size = self.hidden_size = 4

    def initial_state(self, batch_size: int) -> tg.Tensor:
        return self.zeros(batch_size, 4)

    def step(self, x: tg.Tensor, state: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        h = 0.9 * state + x
        return h, h


@pytest.mark.parametrize("jit", [True, False])
def test_a_stream_that_fades(jit: bool) -> None:
    layer, state = rnn.Recurrent(Leaky()), tg.ones((1, 4))
    zero = tg.zeros((1, 1, 4))
    with tg.no_grad(), replay.using(jit=jit):
        for _ in range(1200):
            _, state = layer(zero, state)
    assert not state.numpy().any()


@pytest.mark.parametrize(
    "kind", [optim.Adam, lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9)], ids=["Adam", "SGD"]
)
def test_the_momentum_of_a_row_that_is_not_seen_again(kind: type[optim.Adam]) -> None:
    """Rounded to the nearest, 0.9 of the least number is that number, for ever."""
    parameter = nn.Parameter(np.ones((2, 3), np.float32))
    optimizer = kind([parameter], lr=1e-3)
    for k in range(1200):
        parameter.grad = tg.tensor(np.array([[k == 0] * 3, [True] * 3], np.float32))
        optimizer.step()
    arrays = optimizer.state_dict()["arrays"]
    assert not any(count(a) for a in arrays.values())
    assert any(not a[0].any() and a[1].all() for a in arrays.values())
    assert not flushes()
