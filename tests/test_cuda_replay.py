"""Whole layers replayed through CUDA kernels, without a card: compiled as host C++."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCUDA
from networks import close, randomise
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import backends, rnn

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture
def card(tmp_path: Path) -> Iterator[HostCUDA]:
    """Strict arrays whose backend has kernels."""
    host = HostCUDA(tmp_path, 4)
    backends.register(host)
    yield host
    backends.register(STRICT)


class Normed(rnn.Cell):
    """A step with reductions, a choice, a softmax and two widths."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.inner = tg.nn.Linear(input_size, hidden_size)
        self.weight = tg.nn.Parameter(np.zeros((hidden_size, hidden_size)))
        self.gain = tg.nn.Parameter(np.zeros(hidden_size))

    def step(self, x: Any, h: Any) -> Any:
        z = self.inner(x) + h @ self.weight
        z = z - tg.mean(z, 1, keepdims=True)
        z = z / tg.sqrt(tg.mean(z * z, 1, keepdims=True) + 0.1) * self.gain
        h = tg.where(h > 0.5, tg.tanh(z), tg.softmax(z) + 0.1 * h)
        return tg.concat([h, z[:, :2]], 1), h


LAYERS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: rnn.LSTM(3, 4),
    "both ways": lambda: rnn.GRU(3, 4, bidirectional=True),
    "projected": lambda: rnn.LSTM(3, 4, proj_size=2),
    "a user's cell": lambda: rnn.Recurrent(Normed(3, 4)),
    "a count of the steps": lambda: rnn.Recurrent(rnn.ClockworkRNNCell(3, 4, (1, 3))),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
@pytest.mark.parametrize("lengths", [None, [5, 2]], ids=["whole", "lengths"])
def test_layers_run_as_kernels(card: HostCUDA, make: Any, lengths: Any) -> None:
    layer = randomise(make())
    values = np.random.default_rng(0).standard_normal((5, 2, 3))
    found: list[list[Any]] = []
    for device in ("cpu", "strict"):
        layer.to(device).zero_grad()
        x = tg.tensor(values, device=device, requires_grad=True)
        with tg.replay.using(jit=False):
            y, _ = layer(x, lengths=lengths)
            tg.sum(y * y).backward()
        found.append([y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    assert card.launches
    for have, want in zip(found[1], found[0], strict=True):
        close(have, want, 1e-12)


def test_explain_says_what_runs(card: HostCUDA) -> None:
    layer = randomise(rnn.LSTM(3, 4)).to("strict")
    assert "fused CUDA kernels" in layer.explain()
