"""What the tests of networks and of the tape share: drawn values, random weights, a module as a
function of its parameters, cells and states of a user's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.7) -> Any:
    """The module in float64 with every parameter drawn anew, biases and gains included."""
    rng = np.random.default_rng(seed)
    module.to(np.float64)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0)
        parameter.data = tg.tensor(
            scale * rng.standard_normal(parameter.shape), device=parameter.device
        )
    return module


def functional(module: nn.Module, call: Callable[..., Any]) -> tuple[Callable[..., Any], list[Any]]:
    """``call(*inputs)`` as a function of ``(*parameters, *inputs)``, and the parameters' values."""
    named = dict(module.named_parameters())

    def function(*values: Any) -> Any:
        for name, value in zip(named, values, strict=False):
            _assign(module, name.split("."), value)
        return call(*values[len(named) :])

    return function, [parameter.detach() for parameter in named.values()]


def _assign(owner: Any, path: list[str], value: Any) -> None:
    above = owner
    for key in path[:-1]:
        above = owner
        owner = owner[int(key)] if isinstance(owner, list | tuple) else getattr(owner, key)
    key = path[-1]
    if isinstance(owner, tuple):  # of parameters
        items = list(owner)
        items[int(key)] = value
        owner, key, value = above, path[-2], tuple(items)
    delattr(owner, key)  # a Parameter gives way to nothing but another
    setattr(owner, key, value)


def draw(*shape: int, seed: int = 1, device: str | None = None, **options: Any) -> tg.Tensor:
    """A normal float64 Tensor."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return tg.tensor(values, device=device, **options)


def leaf(*shape: int, seed: int = 0, dtype: Any = np.float64) -> tg.Tensor:
    """A normal Tensor that wants a gradient."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return tg.tensor(values.astype(dtype), requires_grad=True)


def close(have: Any, want: Any, rtol: float = 1e-10) -> None:
    """Equal within ``rtol`` of the larger of 1 and the largest value."""
    a, b = (np.asarray(v.numpy() if isinstance(v, tg.Tensor) else v) for v in (have, want))
    assert a.shape == b.shape
    scale = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)


def assert_equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    """The same names in the same order, and the same arrays."""
    assert list(a) == list(b)
    for name in a:
        assert np.array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


# Cells with states of their own


class Memory(NamedTuple):
    """A state with a state in it."""

    slow: tg.Tensor
    fast: rnn.LSTMState


class NestedCell(rnn.Cell):
    """A user's cell: a leaky average over an LSTM-like pair."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.inner = rnn.LSTMCell(input_size, hidden_size)
        self.decay = nn.Parameter(np.full(hidden_size, 0.3, np.float32))

    def initial_state(self, batch_size: int) -> Memory:
        return Memory(
            self.zeros(batch_size, self.hidden_size), self.inner.initial_state(batch_size)
        )

    def step(self, x: tg.Tensor, state: Memory) -> tuple[tg.Tensor, Memory]:
        h, fast = self.inner.step(x, state.fast)
        slow = self.decay * state.slow + h
        return slow * h, Memory(slow, fast)


class Counting(NamedTuple):
    h: tg.Tensor
    t: tg.Tensor


class CountingCell(rnn.Cell):
    """A user's cell with an integer in its state: it writes in even steps only."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = nn.Parameter(np.zeros((hidden_size, input_size), np.float32))

    def initial_state(self, batch_size: int) -> Counting:
        zeros = self.zeros(batch_size, self.hidden_size)
        return Counting(zeros, tg.zeros((batch_size, 1), np.int64, zeros.device))

    def step(self, x: tg.Tensor, state: Counting) -> tuple[tg.Tensor, Counting]:
        new = tg.tanh(tg.linear(x, self.weight) + 0.5 * state.h)
        h = tg.where(state.t % 2 == 0, new, state.h)
        return h, Counting(h, state.t + 1)


# Every built-in cell beyond RNNCell, LSTMCell and GRUCell as PyTorch has them, with its options

CELLS: dict[str, Callable[[int, int], rnn.Cell]] = {
    "elman, leaky relu": lambda i, h: rnn.RNNCell(i, h, nonlinearity="leaky_relu"),
    "irnn": rnn.IRNNCell,
    "jordan": lambda i, h: rnn.JordanCell(i, h, 2, output="sigmoid"),
    "jordan, decay": lambda i, h: rnn.JordanCell(i, h, 2, False, "sigmoid", tg.softmax, 0.6),
    "jordan, teacher": lambda i, h: rnn.JordanCell(i - 2, h, 2, decay=0.3, teacher_forcing=True),
    "lstm, activations": lambda i, h: rnn.LSTMCell(
        i, h, activation="leaky_relu", output_activation=tg.sin
    ),
    "lstm, no forget gate": rnn.NoForgetLSTMCell,
    "lstm, coupled": lambda i, h: rnn.CoupledLSTMCell(i, h, forget_bias=1.0),
    "lstm, peepholes": rnn.PeepholeLSTMCell,
    "lstm, full peepholes": lambda i, h: rnn.PeepholeLSTMCell(
        i, h, full=True, candidate=True, output_sees="old"
    ),
    "lstm, layer norm": lambda i, h: rnn.LayerNormLSTMCell(i, h, forget_bias=1.0),
    "gru, reset before": lambda i, h: rnn.GRUCell(i, h, reset="before"),
    "gru, simplified": rnn.SimplifiedGRUCell,
    "gru, layer norm": rnn.LayerNormGRUCell,
    "elman, layer norm": lambda i, h: rnn.LayerNormRNNCell(i, h, bias=False),
    "clockwork": lambda i, h: rnn.ClockworkRNNCell(i, h, (1, 3)),
    "scrn": lambda i, h: rnn.SCRNCell(i, h, 2, decay=0.8),
    "scrn, learned": lambda i, h: rnn.SCRNCell(i, h, 2, learned=True),
}


# States


def random_state(state: Any, seed: int = 3) -> Any:
    """A state of the same form, its floating leaves drawn."""
    rng = np.random.default_rng(seed)

    def fill(leaf: tg.Tensor) -> tg.Tensor:
        if leaf.dtype.kind != "f":
            return leaf
        return tg.tensor(rng.standard_normal(leaf.shape), leaf.dtype, leaf.device)

    return mapped(fill, state)


def mapped(function: Callable[[Any], Any], state: Any) -> Any:
    if isinstance(state, tuple):
        parts = [mapped(function, part) for part in state]
        return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)
    return None if state is None else function(state)


def leaves(state: Any) -> list[Any]:
    found: list[Any] = []
    mapped(found.append, state)
    return found


def close_leaves(have: Any, want: Any, rtol: float = 1e-12) -> None:
    """:func:`close` for each leaf of two states, and of one dtype."""
    for a, b in zip(leaves(have), leaves(want), strict=True):
        assert a.dtype == b.dtype
        close(a, b, rtol)


def rebuilt(state: Any, values: Any) -> Any:
    remaining = iter(values)
    return mapped(lambda _: next(remaining), state)


def total(*parts: Any) -> Any:
    """The sum of the squares of everything floating."""
    return sum((part**2).sum() for part in leaves(parts) if part.dtype.kind == "f")
