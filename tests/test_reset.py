"""Rows of a carried state that begin anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import CountingCell, NestedCell, close, draw, leaves, mapped, randomise, total
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

ROWS = [False, True, True, False]


def stack() -> rnn.Stacked:
    return rnn.Stacked(
        [
            rnn.Recurrent(rnn.Zoneout(NestedCell(3, 4), 0.2)),
            nn.LayerNorm(4),
            rnn.LSTM(4, 3, 2, proj_size=2),
            rnn.Residual(rnn.GRU(2, 2)),
        ]
    )


LAYERS: dict[str, Any] = {
    "GRU of one layer": lambda: rnn.GRU(3, 4),
    "LSTM of four": lambda: rnn.LSTM(3, 2, 4),  # as many layers as rows
    "Recurrent, counting": lambda: rnn.Recurrent(CountingCell(3, 4)),
    "Clockwork": lambda: rnn.Recurrent(rnn.ClockworkRNNCell(3, 4, (1, 2))),
    "Stacked": stack,
}


pytestmark = pytest.mark.usefixtures("by_numpy")


@pytest.mark.parametrize("name", LAYERS)
def test_the_rows_named_begin_anew_and_the_others_go_on(name: str) -> None:
    layer = randomise(LAYERS[name]()).eval()
    first, second = draw(3, 4, 3), draw(5, 4, 3, seed=2)
    _, carried = layer(first)
    fresh, _ = layer(second)
    whole, _ = layer(tg.concat([first, second], 0))
    state = rnn.reset(layer, carried, ROWS)
    assert type(state) is type(carried)
    y, _ = layer(second, state)
    for row, anew in enumerate(ROWS):
        close(y[:, row], fresh[:, row] if anew else whole[3:, row], 1e-12)
        assert not np.allclose(fresh[:, row].numpy(), whole[3:, row].numpy())
    for have, want in zip(
        leaves(rnn.reset(layer, carried, [False] * 4)), leaves(carried), strict=True
    ):
        assert have.dtype == want.dtype
        close(have, want, 0)
    begun = rnn.reset(layer, carried, [True] * 4)
    for have, want in zip(leaves(begun), leaves(layer.initial_state(4)), strict=True):
        close(have, want, 0)
    assert rnn.reset(layer, None, ROWS) is None


def test_both_directions_have_a_state_each() -> None:
    layer = randomise(rnn.Bidirectional(rnn.LSTM(3, 4), rnn.Recurrent(rnn.GRUCell(3, 4))))
    _, carried = layer(draw(3, 4, 3))
    (h, c), backward = rnn.reset(layer, carried, ROWS)
    for part, whole in ((h[0], carried[0].h[0]), (c[0], carried[0].c[0]), (backward, carried[1])):
        close(part, np.where(np.array(ROWS)[:, None], 0, whole.numpy()), 0)


def test_no_gradient_goes_back_past_a_beginning() -> None:
    layer = randomise(rnn.LSTM(3, 4, 2))
    x = draw(3, 4, 3, requires_grad=True)
    _, state = layer(x)
    y, _ = layer(draw(2, 4, 3, seed=2), rnn.reset(layer, state, ROWS))
    total(y).backward()
    assert np.all(x.grad.numpy()[:, ROWS] == 0)
    assert np.all(np.any(x.grad.numpy()[:, [0, 3]] != 0, axis=2))


class Learned(rnn.GRUCell):
    """A user's cell that begins with a state that it learns."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size)
        self.start = nn.Parameter(np.ones((1, hidden_size), np.float32))

    def initial_state(self, batch_size: int) -> Any:
        return tg.broadcast_to(self.start, (batch_size, self.hidden_size))


def test_a_learned_beginning_learns_from_the_rows_that_begin() -> None:
    cell = randomise(Learned(3, 4))
    state = rnn.reset(cell, draw(4, 4, requires_grad=True), ROWS)
    close(state[1], cell.start[0], 0)
    state.sum().backward()
    assert cell.start.grad.tolist() == [[2.0] * 4]


def test_rows_in_any_form_and_on_any_device(device: str) -> None:
    layer = randomise(rnn.LSTM(3, 4, 2)).to(device)
    state = mapped(lambda s: s + 1, layer.initial_state(4))
    expected = np.where(np.array(ROWS)[:, None], 0, np.ones((2, 4, 4)))
    for rows in (ROWS, np.array(ROWS), tg.tensor(ROWS), tg.tensor(ROWS, device=device)):
        for part in rnn.reset(layer, tuple(state), rows):
            assert part.device == device
            close(part, expected, 0)


def test_it_reads_nothing_but_the_rows() -> None:
    layer = rnn.GRU(3, 4).to("strict")
    state = layer.initial_state(4)
    with STRICT.counting() as count:
        rnn.reset(layer, state, ROWS)
    assert count.host_reads == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 1, 1, 0], r"reset: rows must be B bools, one per sequence, got int64 \(4,\)"),
        ([[True]], r"reset: rows must be B bools, one per sequence, got bool \(1, 1\)"),
        (
            [True] * 3,
            r"for 3 rows the state of GRU must hold \['float32 \(1, 3, 4\)'\]",
        ),
    ],
)
def test_what_is_refused(rows: Any, message: str) -> None:
    layer = rnn.GRU(3, 4)
    with pytest.raises(ValueError, match=message):
        rnn.reset(layer, layer.initial_state(4), rows)
