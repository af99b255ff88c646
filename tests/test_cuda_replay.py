"""Whole layers replayed through CUDA kernels, without a card: compiled as host C++."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCUDA
from networks import close, draw, randomise
from strict import STRICT, XP

import tinygrad_rnn as tg
from tinygrad_rnn import backends, rnn
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.tape import format_bytes

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")


@pytest.fixture
def card(tmp_path: Path) -> Iterator[HostCUDA]:
    """Strict arrays whose backend has kernels."""
    host = HostCUDA(tmp_path, 4)
    backends.register(host)
    CACHE.known.clear()
    yield host
    CACHE.known.clear()
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


def per_step(text: str, what: str) -> list[int]:
    """How many of something the lines "per step" name, loop by loop."""
    lines = [line for line in text.splitlines() if line.strip().startswith("per step:")]
    found = [re.search(rf"(\d+) {what}", line) for line in lines]
    return [int(match[1]) if match else 0 for match in found]


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_what_explain_prints_is_what_is_launched(
    card: HostCUDA, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = randomise(make()).to("strict")
    text = layer.explain(2)
    products: list[Any] = []
    matmul = XP.matmul
    monkeypatch.setattr(XP, "matmul", lambda *args, **o: products.append(0) or matmul(*args, **o))
    counts: list[tuple[int, int]] = []
    for T in (6, 6, 10):  # the first call is traced; what is done around the loop is the same
        card.launches.clear()
        products.clear()
        layer(draw(T, 2, 3, device="strict", requires_grad=True))[0].sum().backward()
        counts.append((len(card.launches), len(products)))
    kernels, matmuls = (b - a for a, b in zip(*counts[1:], strict=True))
    assert kernels == 4 * sum(per_step(text, "kernel launch"))
    assert matmuls == 4 * sum(per_step(text, "product"))
    assert kernels > 0


def test_bytes_and_operations_of_an_lstm(card: HostCUDA) -> None:
    B, H, size = 2, 4, 8
    text = randomise(rnn.LSTM(3, H)).to("strict").explain(B)
    forward, backward = (line for line in text.splitlines() if "per step:" in line)
    gates = 4 * B * H
    flops = 2e-6 * gates * H
    read = B * H + 4 * H * H  # the product: h and the weight
    read += 2 * gates + 2 * 4 * H + B * H  # the kernel: two products, two biases, c
    written = gates + (4 + 1 + 2) * B * H  # the product; gates, tanh(c), h and c
    assert f"1 product ({flops:.3g} MFLOP)" in forward
    assert f"reads {format_bytes(size * read)}, writes {format_bytes(size * written)}" in forward
    read = gates + 4 * H * H  # the product: dz and the weight
    read += (1 + 4 + 1 + 1 + 2) * B * H  # the kernel: dy, gates, tanh(c), c, the state's cotangents
    written = B * H + gates + B * H
    assert f"reads {format_bytes(size * read)}, writes {format_bytes(size * written)}" in backward


def test_nothing_is_counted_elsewhere() -> None:
    assert "per step:" not in rnn.LSTM(3, 4).explain()
