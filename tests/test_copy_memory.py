"""Copying after a delay: examples/copy_memory.py."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import rnn


@pytest.mark.parametrize(("bias", "shown"), [(0, "9e-13"), (1, "4e-06"), (5, "0.76")])
def test_what_a_cell_keeps_for_40_steps(program: ModuleType, bias: float, shown: str) -> None:
    """sigmoid(b)^40, from an LSTM whose other weights are 0: c_40 / c_0."""
    cell = program.lstm(bias).make().to("float64")
    for parameter in (cell.weight_ih, cell.weight_hh):
        tg.nn.init.zeros_(parameter)
    H = program.HIDDEN
    for parameter in (cell.bias_ih, cell.bias_hh):  # g = 0: nothing is added
        parameter.data = parameter.detach().at[2 * H : 3 * H].set(0)
    start = rnn.LSTMState(cell.zeros(1, H), cell.zeros(1, H) + 1)
    x = tg.zeros((40, 1, program.INPUTS), "float64")
    _, (_, c) = rnn.Recurrent(cell)(x, start)
    np.testing.assert_allclose(c.numpy(), (1 + np.exp(-bias)) ** -40.0, rtol=1e-6)
    assert f"{c.numpy()[0, 0]:.{len(shown.partition('.')[2]) or 1}g}" == shown


@pytest.mark.parametrize("name", ["GRU, b = 5", "simplified GRU, b = 5"])
def test_the_gates_of_the_others_hold_too(program: ModuleType, name: str) -> None:
    cell = program.CELLS[name].make()
    for parameter in (cell.weight_ih, cell.weight_hh):
        tg.nn.init.zeros_(parameter)
    for parameter in (cell.bias_ih, cell.bias_hh):  # the candidate's rows are the last: n = 0
        parameter.data = parameter.detach().at[-program.HIDDEN :].set(0)
    _, h = rnn.Recurrent(cell)(tg.zeros((40, 1, program.INPUTS)), cell.zeros(1, program.HIDDEN) + 1)
    np.testing.assert_allclose(h.numpy(), (1 + np.exp(-5)) ** -40.0, rtol=1e-4)


def test_training(program: ModuleType) -> None:
    """An LSTM that begins with a memory copies over 5 steps, and stops where it can."""
    run = program.train(program.lstm(5), 5, 1, 400, 1, "cpu")
    assert run.shares[0] < 0.3
    assert run.shares[-1] == 1
    assert run.updates == 50 * (len(run.shares) - 1) < 400
    short = program.train(program.lstm(5), 5, 1, 50, 1, "cpu")
    assert short.shares == run.shares[:2]


def test_the_symbols_are_asked_for_in_their_order(program: ModuleType) -> None:
    """A model that says what was read D steps ago is right; what else it says does not count."""

    class Perfect:
        def __call__(self, inputs: np.ndarray) -> tg.Tensor:
            said = np.roll(inputs, 7, axis=0) % program.SYMBOLS
            return tg.tensor(np.eye(program.SYMBOLS, dtype=np.float32)[said])

    assert program.share_right(Perfect(), 7, 3, 1) == 1
    assert program.share_right(Perfect(), 8, 3, 1) < 0.5


def test_a_blank_is_nothing(program: ModuleType) -> None:
    """The codes of symbols and mark are unit vectors, each its own, that of the blank is 0."""
    np.testing.assert_array_equal(program.CODES[program.SYMBOLS], 0)
    others = np.delete(program.CODES, program.SYMBOLS, axis=0)
    np.testing.assert_array_equal(others, np.eye(program.SYMBOLS + 1))


def test_a_delay_too_short(main: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"^copy_memory: copy_problem: delay must be an integer"):
        main("--delay", "2", "--length", "3")
