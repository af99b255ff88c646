"""The adding problem, every cell side by side: examples/adding.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import rnn


def test_every_cell_is_there(program: ModuleType) -> None:
    """No cell of the library is left out, and each makes an Adder."""
    made = {name: entry.make(8) for name, entry in program.CELLS.items()}
    cells = {name for name in rnn.__all__ if name.endswith("Cell")} - {"Cell"}
    assert {type(cell).__name__ for cell in made.values()} == cells
    for entry in program.CELLS.values():
        size = program.FULL._replace(steps=5, hidden=8)
        assert program.Adder(entry, size)(tg.ones((5, 3, 2))).shape == (3, 1)


@pytest.mark.parametrize(
    ("name", "kept"),
    [("LSTM", "f"), ("LSTM, peepholes", "f"), ("LSTM, coupled gates", "f"), ("GRU", "z"),
     ("LSTM, layer norm", "f")],
)  # fmt: skip
def test_units_begin_with_times_of_their_own(program: ModuleType, name: str, kept: str) -> None:
    """With all weights 0 a unit's share that is kept is sigmoid(log u), 1 <= u < T - 1."""
    entry = program.CELLS[name]
    cell = entry.make(40)
    tg.manual_seed(2)
    program.hold(cell, entry.gates, 150)
    for name, parameter in cell.named_parameters():
        if "weight" in name:
            tg.nn.init.zeros_(parameter)
    _, _, inner = rnn.Recurrent(cell)(tg.zeros((1, 1, 2)), record=[kept])
    share = inner[kept].numpy()[0, 0]
    times = share / (1 - share)  # of sigmoid(log u) this is u
    assert 1 <= times.min() < 20
    assert 120 < times.max() < 149


def test_the_other_gates_hold(program: ModuleType) -> None:
    entry = program.CELLS["simplified GRU"]
    cell = entry.make(40)
    tg.manual_seed(2)
    program.hold(cell, entry.gates, 150)
    for parameter in (cell.weight_ih, cell.weight_hh):
        tg.nn.init.zeros_(parameter)
    _, _, inner = rnn.Recurrent(cell)(tg.zeros((1, 1, 2)), record=["u"])
    assert inner["u"].numpy().max() <= 0.5
    assert inner["u"].numpy().min() < 0.01


def test_training(program: ModuleType) -> None:
    """A GRU learns a short problem, which stops the training; the error is one of new sequences."""
    size = program.FULL._replace(steps=8, hidden=16, updates=400, solved=0.02)
    run = program.train(program.CELLS["GRU"], size, 1, "cpu")
    assert 50 <= run.updates < 400
    assert len(run.losses) == run.updates
    assert np.mean(run.losses[-50:]) < 0.02
    assert run.error < 0.03 < 0.1 < run.losses[0]
    assert program.train(program.CELLS["GRU"], size, 1, "cpu").losses == run.losses
    assert program.train(program.CELLS["GRU"], size._replace(updates=60), 1, "cpu").updates == 60


def test_a_device_that_is_not_there(main: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"^adding: device 'tpu' is unknown"):
        main("--device", "tpu")
