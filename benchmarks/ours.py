"""The networks that benchmarks/replay.py and gpu.py time, in this package, and all first numbers.

The peephole, the layer-norm and the matrix LSTM are written as a user of the package writes a cell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

Step = Callable[[], list[Any]]
"""One training step: the loss, and the gradients of the inputs and of each weight."""


class PeepholeLSTM(rnn.Cell):
    """An LSTM whose gates see the cell state. Gers, Schmidhuber 2000."""

    pure = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = nn.Parameter(tg.zeros((4 * hidden_size, input_size)))
        self.weight_hh = nn.Parameter(tg.zeros((4 * hidden_size, hidden_size)))
        self.bias = nn.Parameter(tg.zeros(4 * hidden_size))
        self.peephole_i = nn.Parameter(tg.zeros(hidden_size))
        self.peephole_f = nn.Parameter(tg.zeros(hidden_size))
        self.peephole_o = nn.Parameter(tg.zeros(hidden_size))

    def initial_state(self, batch_size: int) -> rnn.LSTMState:
        """The state before the first step: h = c = 0."""
        h = self.zeros(batch_size, self.hidden_size)
        return rnn.LSTMState(h, h)

    def step(self, x: tg.Tensor, state: rnn.LSTMState) -> tuple[tg.Tensor, rnn.LSTMState]:
        h, c = state
        z = tg.linear(x, self.weight_ih, self.bias) + tg.linear(h, self.weight_hh)
        i, f, g, o = tg.split(z, parts=4)
        i, f = tg.sigmoid(i + self.peephole_i * c), tg.sigmoid(f + self.peephole_f * c)
        c = f * c + i * tg.tanh(g)
        h = tg.sigmoid(o + self.peephole_o * c) * tg.tanh(c)
        return h, rnn.LSTMState(h, c)


class LayerNormLSTM(rnn.Cell):
    """An LSTM with both products and the cell state normalised. Ba, Kiros, Hinton 2016."""

    pure = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_ih = nn.Parameter(tg.zeros((4 * hidden_size, input_size)))
        self.weight_hh = nn.Parameter(tg.zeros((4 * hidden_size, hidden_size)))
        self.bias = nn.Parameter(tg.zeros(4 * hidden_size))
        self.norm_x = nn.LayerNorm(4 * hidden_size, bias=False)
        self.norm_h = nn.LayerNorm(4 * hidden_size, bias=False)
        self.norm_c = nn.LayerNorm(hidden_size)

    def initial_state(self, batch_size: int) -> rnn.LSTMState:
        """The state before the first step: h = c = 0."""
        h = self.zeros(batch_size, self.hidden_size)
        return rnn.LSTMState(h, h)

    def step(self, x: tg.Tensor, state: rnn.LSTMState) -> tuple[tg.Tensor, rnn.LSTMState]:
        h, c = state
        z_x = self.norm_x(tg.linear(x, self.weight_ih))
        z_h = self.norm_h(tg.linear(h, self.weight_hh))
        i, f, g, o = tg.split(z_x + z_h + self.bias, parts=4)
        c = tg.sigmoid(f) * c + tg.sigmoid(i) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(self.norm_c(c))
        return h, rnn.LSTMState(h, c)


HEADS = 4


class Memory(NamedTuple):
    """A matrix of values by keys for each head, and the sum of the keys."""

    C: tg.Tensor
    n: tg.Tensor


class MatrixLSTM(rnn.Cell):
    """An LSTM that writes outer products into a matrix per head. After Beck et al. 2024 (mLSTM).

    Both gates are sigmoids, so that nothing needs to be kept from growing.
    """

    pure = True

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight_qkv = nn.Parameter(tg.zeros((3 * hidden_size, input_size)))
        self.bias_qkv = nn.Parameter(tg.zeros(3 * hidden_size))
        self.weight_gates = nn.Parameter(tg.zeros((2 * HEADS, input_size)))
        self.bias_gates = nn.Parameter(tg.zeros(2 * HEADS))
        self.weight_o = nn.Parameter(tg.zeros((hidden_size, input_size)))
        self.bias_o = nn.Parameter(tg.zeros(hidden_size))

    def initial_state(self, batch_size: int) -> Memory:
        """Before the first step nothing is remembered."""
        d = self.hidden_size // HEADS
        return Memory(self.zeros(batch_size, HEADS, d, d), self.zeros(batch_size, HEADS, 1, d))

    def step(self, x: tg.Tensor, state: Memory) -> tuple[tg.Tensor, Memory]:
        C, n = state
        B, d = x.shape[0], self.hidden_size // HEADS
        q, k, v = tg.split(tg.linear(x, self.weight_qkv, self.bias_qkv), parts=3)
        i, f = tg.split(tg.linear(x, self.weight_gates, self.bias_gates), parts=2)
        i = tg.reshape(tg.sigmoid(i), (B, HEADS, 1, 1))
        f = tg.reshape(tg.sigmoid(f), (B, HEADS, 1, 1))
        k = tg.reshape(k, (B, HEADS, 1, d)) * d**-0.5
        C = f * C + i * tg.reshape(v, (B, HEADS, d, 1)) * k
        n = f * n + i * k
        q = tg.reshape(q, (B, HEADS, d, 1))
        read = (C @ q) / tg.maximum(tg.abs(n @ q), 1.0)
        o = tg.sigmoid(tg.linear(x, self.weight_o, self.bias_o))
        return o * tg.reshape(read, (B, self.hidden_size)), Memory(C, n)


LAYERS: dict[str, Callable[[int, int], nn.Module]] = {
    "LSTM": rnn.LSTM,
    "GRU": rnn.GRU,
    "RNN": rnn.RNN,
    "peephole LSTM": lambda I, H: rnn.Recurrent(PeepholeLSTM(I, H)),
    "layer-norm LSTM": lambda I, H: rnn.Recurrent(LayerNormLSTM(I, H)),
    "matrix LSTM": lambda I, H: rnn.Recurrent(MatrixLSTM(I, H)),
}


def numbers(kind: str, T: int, B: int, I: int, H: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """The inputs (T, B, I) and the weights in their order here, the same for every contender."""
    generator = np.random.default_rng(0)
    x = generator.standard_normal((T, B, I), np.float32)
    weights = []
    for name, parameter in LAYERS[kind](I, H).named_parameters():
        drawn = generator.uniform(-1, 1, parameter.shape) / np.sqrt(H)
        is_gain = "norm" in name and name.endswith("weight")
        weights.append((drawn + is_gain).astype(np.float32))
    return x, weights


def our_step(kind: str, T: int, B: int, I: int, H: int, device: str = "cpu") -> Step:
    """One training step of a layer of this package. Nothing leaves the device."""
    layer = LAYERS[kind](I, H)
    array, weights = numbers(kind, T, B, I, H)
    names = (name for name, _ in layer.named_parameters())
    layer.load_state_dict(dict(zip(names, weights, strict=True)))
    x = tg.tensor(array, device=device, requires_grad=True)
    parameters = list(layer.to(device).parameters())

    def step() -> list[Any]:
        layer.zero_grad()
        x.grad = None
        loss = tg.mean(tg.square(layer(x)[0]))
        loss.backward()
        return [loss, x.grad, *(p.grad for p in parameters)]

    return step
