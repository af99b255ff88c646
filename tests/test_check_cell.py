"""check_cell finds a cell that gives other numbers replayed than unrolled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

GAIN = 1.0
SETTINGS = {"gain": 1.0}


pytestmark = pytest.mark.usefixtures("by_numpy")


class Base(rnn.Cell):
    """h = tanh(gain * w * x + h), where the gain comes from somewhere."""

    pure = True

    def __init__(self) -> None:
        self.input_size = self.hidden_size = 3
        self.weight = nn.Parameter(np.array([0.5, -1.0, 2.0]))

    def gain(self) -> Any:
        return 1.0

    def step(self, x: Any, h: Any) -> Any:
        h = tg.tanh(self.gain() * self.weight * x + h)
        return h, h


class Global(Base):
    pure = True

    def gain(self) -> Any:
        return GAIN


class Entry(Base):
    pure = True

    def gain(self) -> Any:
        return SETTINGS["gain"]


class OfParameter(Base):
    """It looks at a value of its parameter, which is seen while it is traced."""

    pure = True

    def gain(self) -> Any:
        return float(self.weight[0].detach())


class Attribute(Base):
    pure = True

    def __init__(self) -> None:
        super().__init__()
        self.rate, self.table = 2.0, [1.0]

    def gain(self) -> Any:
        return self.rate * self.table[0]


class Honest(Global):
    """A promise that is not made anew by who overrides."""

    def gain(self) -> Any:
        return GAIN * 1.5


def closed_over() -> rnn.Cell:
    gain = 2.0

    class Closed(Base):
        pure = True

        def gain(self) -> Any:
            return gain

    return Closed()


@pytest.mark.parametrize("make", [Global, Entry, closed_over])
def test_a_promise_that_is_not_kept(make: Callable[[], Any]) -> None:
    with pytest.raises(rnn.CellError, match=r"after a change of .* it says pure = True"):
        rnn.check_cell(make())


@pytest.mark.parametrize(
    "make",
    [
        Base,
        Attribute,
        OfParameter,
        Honest,
        lambda: rnn.GRUCell(3, 4, reset="before"),
        lambda: rnn.JordanCell(3, 4, 2, decay=0.5),
        lambda: rnn.ClockworkRNNCell(3, 4, (1, 2)),
        lambda: rnn.Zoneout(rnn.LSTMCell(3, 4), 0.2),
        lambda: rnn.VariationalDropout(rnn.LayerNormLSTMCell(3, 4), inputs=0.5, state=0.2),
    ],
)
def test_cells_that_are_what_they_say(make: Callable[[], Any]) -> None:
    cell = make()
    before, mode = cell.state_dict(), cell.training
    assert rnn.check_cell(cell)
    for name, values in cell.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert cell.training is mode
    assert all(p.requires_grad and p.grad is None for p in cell.parameters())
    assert (GAIN, SETTINGS) == (1.0, {"gain": 1.0})


def test_a_cell_that_counts_is_right_unrolled() -> None:
    class Counting(Base):
        count = 0

        def gain(self) -> Any:
            self.count += 1
            return self.count

    cell = Counting()
    with pytest.raises(rnn.CellError, match="as it is"):
        rnn.check_cell(cell)  # its two runs are not alike, since it counts on


def test_no_cell() -> None:
    with pytest.raises(TypeError, match="check_cell: expected a Cell, got Linear"):
        rnn.check_cell(nn.Linear(3, 4))  # type: ignore[arg-type]
