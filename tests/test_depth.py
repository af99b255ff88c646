"""Deep networks over time: what reaches what, heads that time does not connect, and the shapes of
tasks (many to one, one to many, delayed).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import NestedCell, close, draw, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

LENGTHS = [3, 5, 0, 1]


pytestmark = pytest.mark.usefixtures("by_numpy")


def head() -> nn.Sequential:
    """A deep feed-forward net for each step."""
    return nn.Sequential(nn.Linear(4, 6), tg.relu, nn.Linear(6, 5), tg.tanh, nn.Linear(5, 2))


# Causality


CAUSAL: dict[str, Callable[[], Any]] = {
    "Recurrent": lambda: rnn.Recurrent(NestedCell(3, 2)),
    "LSTM": lambda: rnn.LSTM(3, 4, 2),
    "wrapped": lambda: rnn.Recurrent(
        rnn.Zoneout(rnn.VariationalDropout(rnn.LSTMCell(3, 2), 0.2, 0.2, 0.2), 0.2)
    ),
    "deep": lambda: rnn.Stacked(
        [
            rnn.Residual(rnn.GRU(3, 3)),
            nn.LayerNorm(3),
            rnn.Recurrent(rnn.ClockworkRNNCell(3, 4, (1, 2))),
            nn.BatchNorm1d(4),
            rnn.LSTM(4, 4),
            head(),
        ]
    ),
}


def reached(layer: Any) -> np.ndarray:
    """Whether d y_t / d x_s has an element that is not exactly 0, for each t and s."""
    x = draw(4, 2, 3, requires_grad=True)
    jacobian = tg.jacobian(layer(x)[0], x).numpy()
    return np.any(jacobian != 0, axis=(1, 2, 4, 5))


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", CAUSAL)
def test_the_future_is_exactly_zero_in_the_jacobian(name: str, unroll: bool) -> None:
    layer = randomise(CAUSAL[name]())
    for part in layer.modules():
        if hasattr(part, "unroll"):
            part.unroll = unroll
        if isinstance(part, nn.BatchNorm1d):
            part.eval()  # in training the statistics of all steps are in each of them
    tg.manual_seed(0)
    assert np.array_equal(reached(layer), np.tril(np.ones((4, 4), bool)))


@pytest.mark.parametrize("name", CAUSAL)
def test_reversed_it_is_the_past_and_both_ways_everything(name: str) -> None:
    layer = randomise(CAUSAL[name]()).eval()
    backward = rnn.Bidirectional(layer, layer, lambda a, b: b)
    assert np.array_equal(reached(backward), np.triu(np.ones((4, 4), bool)))
    for merge in ("concat", "sum", "mean"):
        assert np.all(reached(rnn.Bidirectional(layer, layer, merge)))


def test_stacks_in_both_directions_and_both_directions_in_a_stack() -> None:
    def stack() -> rnn.Stacked:
        return rnn.Stacked([rnn.GRU(3, 4), nn.LayerNorm(4), rnn.LSTM(4, 4)])

    def both(size: int) -> rnn.Bidirectional:
        return rnn.Bidirectional(rnn.GRU(size, 4), rnn.LSTM(size, 4))

    apart, together = (
        randomise(rnn.Bidirectional(stack(), stack())),
        randomise(rnn.Stacked([both(3), nn.LayerNorm(8), both(8)])),
    )
    x = draw(4, 2, 3, requires_grad=True)
    for layer, meets in ((apart, False), (together, True)):
        y = layer(x)[0]
        forward = tg.jacobian(y[..., :4], x).numpy() != 0
        future = [forward[t, ..., s, :, :].any() for t in range(4) for s in range(t + 1, 4)]
        assert future == [meets] * len(future)


def test_batch_norm_in_training_looks_at_all_steps() -> None:
    layer = randomise(rnn.Stacked([rnn.GRU(3, 4), nn.BatchNorm1d(4), rnn.GRU(4, 2)]))
    assert np.all(reached(layer))


# Heads that time does not connect


def test_a_deep_head_sees_its_own_step_only() -> None:
    layer = randomise(rnn.Stacked([rnn.LSTM(3, 4), head()]))
    below, above = layer.layers
    x = draw(5, 4, 3)
    y, state = layer(x)
    assert state[1] is None
    inner = below(x)[0].detach()
    for t in range(5):
        close(y[t], above(inner[t]), 1e-12)
    inner.requires_grad = True
    jacobian = tg.jacobian(above(inner), inner).numpy()
    for t in range(5):
        for s in range(5):
            assert np.any(jacobian[t, ..., s, :, :] != 0) == (s == t)


def test_a_deep_head_of_padded_sequences_and_of_streams() -> None:
    layer = randomise(rnn.Stacked([rnn.LSTM(3, 4), head()]))
    x = draw(5, 4, 3)
    y, _ = layer(x, lengths=LENGTHS)
    for row, n in enumerate(LENGTHS):
        assert np.all(y.numpy()[n:, row] == 0)
        if n:
            close(y[:n, row], layer(x[:n, row])[0], 1e-12)
    state = None
    for t in range(5):
        out, state = layer.step(x[t], state)
        close(out, layer(x)[0][t], 1e-12)


# The shapes of tasks


@pytest.mark.parametrize("reverse", [False, True])
def test_many_to_one_reads_the_end_of_each_row(reverse: bool) -> None:
    """The last state is that of each sequence's own end, where nothing past it is seen."""
    layer = randomise(rnn.Recurrent(rnn.GRUCell(3, 4), reverse))
    x = draw(5, 4, 3, requires_grad=True)
    _, h = layer(x, lengths=LENGTHS)
    total(nn.Linear(4, 2).to(np.float64)(h)).backward()
    past = np.arange(5)[:, None] >= LENGTHS
    assert np.array_equal(np.all(x.grad.numpy() == 0, axis=2), past)
    for row, n in enumerate(LENGTHS):
        if n:
            close(h[row], layer(x[:n, row])[1], 1e-12)


def test_one_to_many_feeds_its_outputs_back() -> None:
    """Step by step, or as one replayed loop whose state holds the last output: the same."""
    cell, above = randomise(rnn.GRUCell(2, 4)), randomise(nn.Linear(4, 2), 1)
    layer = rnn.Recurrent(cell)
    start, h = draw(3, 2), draw(3, 4, seed=2)
    y, state, outputs = start, h, []
    for _ in range(6):
        out, state = layer.step(y, state)
        y = above(out)
        outputs.append(y)

    def step(_: Any, carried: Any) -> Any:
        h, y = carried
        _, h = cell.step(y, h)
        y = above(h)
        return y, (h, y)

    ys, _ = tg.scan(step, tg.zeros(6), (h, start))
    close(ys, tg.stack(outputs, 0), 1e-12)
    total(ys).backward()
    one = [p.grad.numpy().copy() for p in (*cell.parameters(), *above.parameters())]
    for module in (cell, above):
        module.zero_grad()
    total(tg.stack(outputs, 0)).backward()
    for p, g in zip((*cell.parameters(), *above.parameters()), one, strict=True):
        close(p.grad, g, 1e-12)


def test_delayed_outputs_see_so_many_steps_of_the_future() -> None:
    """Inputs padded by k steps at the end, outputs read from the k-th on."""
    layer, delay = randomise(rnn.LSTM(3, 4)), 2
    x = draw(5, 2, 3, requires_grad=True)
    y = layer(tg.pad(x, [(0, delay), (0, 0), (0, 0)]))[0][delay:]
    assert y.shape == (5, 2, 4)
    jacobian = np.any(tg.jacobian(y, x).numpy() != 0, axis=(1, 2, 4, 5))
    assert np.array_equal(jacobian, np.tril(np.ones((5, 5), bool), delay))
