"""The Clockwork network: who ticks when, who reads whom, and what holds between ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import close, draw, leaves, random_state, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import rnn

pytestmark = pytest.mark.usefixtures("by_numpy")  # test_cells.py compiles it


def whole_matrix(cell: Any) -> np.ndarray:
    """W_hh with zeros for the blocks that do not exist."""
    return np.concatenate(
        [np.pad(w.numpy(), [(0, 0), (cell.hidden_size - w.shape[1], 0)]) for w in cell.weight_hh]
    )


@pytest.mark.parametrize("periods", [(1,), (1, 1), (1, 1, 1)])
def test_with_all_periods_1_it_is_elman(periods: tuple[int, ...]) -> None:
    """Outputs and all gradients."""
    cell = randomise(rnn.ClockworkRNNCell(3, 6, periods, nonlinearity="relu"))
    elman = rnn.RNNCell(3, 6, nonlinearity="relu").to(np.float64)
    state = {k: v for k, v in cell.state_dict().items() if k.startswith(("weight_ih", "bias"))}
    elman.load_state_dict({**state, "weight_hh": whole_matrix(cell)})
    xs = [draw(5, 2, 3, requires_grad=True) for _ in range(2)]
    h = draw(2, 6)
    y, last = rnn.Recurrent(cell)(xs[0], (h, tg.zeros((2, 1), np.int64)))
    z, expected = rnn.Recurrent(elman)(xs[1], h)
    close(y, z, 1e-13)
    close(last.h, expected, 1e-13)
    total(y).backward()
    total(z).backward()
    close(xs[0].grad, xs[1].grad, 1e-12)
    blocks = np.concatenate([w.grad.numpy() for w in cell.weight_hh])
    close(blocks, elman.weight_hh.grad, 1e-12)
    for name in state:
        close(getattr(cell, name).grad, getattr(elman, name).grad, 1e-12)


def test_by_hand_with_a_counter_for_each_row() -> None:
    """Module by module, as the paper draws it."""
    periods, size = (1, 2, 2, 5), 2
    cell = randomise(rnn.ClockworkRNNCell(3, 8, periods))
    xs, h = draw(7, 3, 3), draw(3, 8, seed=2)
    t = np.array([[0], [3], [1]])
    y, last = rnn.Recurrent(cell)(xs, (h, tg.tensor(t)))
    h = h.numpy()
    bias = (cell.bias_ih + cell.bias_hh).numpy()
    for step, x in enumerate(xs.numpy()):
        new = h.copy()
        for row in range(3):
            for k, period in enumerate(periods):
                if (t[row, 0] + step) % period:
                    continue
                own = slice(k * size, (k + 1) * size)
                a = cell.weight_ih.numpy()[own] @ x[row] + bias[own]
                block, reads = cell.weight_hh[k].numpy(), []
                for j, other in enumerate(periods):
                    if other >= period:
                        reads += [*h[row, j * size : (j + 1) * size]]
                assert block.shape == (size, len(reads))
                new[row, own] = np.tanh(a + block @ np.array(reads))
        h = new
        close(y[step], h, 1e-12)
    close(last.h, h, 1e-12)
    assert np.array_equal(last.t.numpy(), t + 7)


def test_the_slow_reads_nothing_of_the_fast() -> None:
    """Over any number of steps d h_slow / d h_fast is exactly 0, and the converse is not."""
    cell = randomise(rnn.ClockworkRNNCell(3, 4, (1, 2)))
    for steps in (1, 4):
        h = draw(1, 4, requires_grad=True)
        state = rnn.ClockworkState(h, tg.zeros((1, 1), np.int64))
        _, last = rnn.Recurrent(cell, unroll=True)(draw(steps, 1, 3), state)
        jacobian = tg.jacobian(last.h, h).numpy().reshape(4, 4)
        assert np.all(jacobian[2:, :2] == 0)
        assert np.all(jacobian[:2, 2:] != 0)
        assert np.all(jacobian[:2, :2] != 0)
        assert np.all(jacobian[2:, 2:] != 0)


def test_between_its_ticks_a_module_holds_its_state_and_its_gradient() -> None:
    cell = randomise(rnn.ClockworkRNNCell(3, 4, (1, 4)))
    y = rnn.Recurrent(cell)(draw(9, 2, 3), random_state(cell.initial_state(2)))[0].numpy()
    changes = [bool(np.any(y[t, :, 2:] != y[t - 1, :, 2:])) for t in range(1, 9)]
    assert changes == [t % 4 == 0 for t in range(1, 9)]
    assert all(np.all(y[t, :, :2] != y[t - 1, :, :2]) for t in range(1, 9))
    h = draw(2, 4, requires_grad=True)
    state = rnn.ClockworkState(h, tg.tensor(np.ones((2, 1), np.int64)))
    _, last = rnn.Recurrent(cell)(draw(3, 2, 3), state)
    weight = draw(2, 2, seed=5)
    (last.h[:, 2:] * weight).sum().backward()
    assert np.array_equal(last.h.numpy()[:, 2:], h.numpy()[:, 2:])
    assert np.array_equal(h.grad.numpy()[:, 2:], weight.numpy())
    assert np.all(h.grad.numpy()[:, :2] == 0)


def test_all_tick_first() -> None:
    cell = randomise(rnn.ClockworkRNNCell(3, 6, (2, 7, 1000)))
    h = draw(2, 6)
    _, state = cell(draw(2, 3), (h, tg.zeros((2, 1), np.int64)))
    assert np.all(state.h.numpy() != h.numpy())
    _, after = cell(draw(2, 3, seed=4), state)
    assert np.array_equal(after.h.numpy(), state.h.numpy())


@pytest.mark.parametrize("cut", [1, 2, 5])
def test_chunks_carry_the_count(cut: int) -> None:
    cell = randomise(rnn.ClockworkRNNCell(3, 6, (1, 2, 3)))
    layer = rnn.Recurrent(cell)
    x = draw(7, 2, 3)
    whole, last = layer(x)
    first, state = layer(x[:cut])
    second, end = layer(x[cut:], state)
    close(tg.concat([first, second]), whole, 1e-13)
    for a, b in zip(leaves(end), leaves(last), strict=True):
        close(a, b, 1e-13)
    counted_anew, _ = layer(x[cut:], rnn.ClockworkState(state.h, 0 * state.t))
    assert not np.allclose(counted_anew.numpy(), second.numpy())


def test_a_row_counts_its_own_steps() -> None:
    cell = randomise(rnn.ClockworkRNNCell(3, 6, (1, 2, 3)))
    for reverse in (False, True):
        _, last = rnn.Recurrent(cell, reverse=reverse)(draw(5, 4, 3), lengths=[3, 5, 0, 1])
        assert last.t.dtype == np.int64
        assert last.t.numpy()[:, 0].tolist() == [3, 5, 0, 1]


def test_the_blocks_that_exist() -> None:
    cell = rnn.ClockworkRNNCell(3, 8, (1, 2, 2, 4))
    assert [w.shape for w in cell.weight_hh] == [(2, 8), (2, 6), (2, 6), (2, 2)]
    assert list(cell.state_dict()) == [
        "weight_ih",
        *(f"weight_hh.{k}" for k in range(4)),
        "bias_ih",
        "bias_hh",
        "period",
    ]
    assert cell.periods == (1, 2, 2, 4)
    assert cell.state_dict()["period"].tolist() == [1, 1, 2, 2, 2, 2, 4, 4]


def test_the_periods_come_with_the_weights() -> None:
    cell, other = (rnn.ClockworkRNNCell(3, 4, periods) for periods in ((1, 3), (1, 5)))
    other.load_state_dict(cell.state_dict())
    assert other.periods == (1, 3)
    x = draw(6, 2, 3).to(np.float32)
    assert np.array_equal(rnn.Recurrent(other)(x)[0].numpy(), rnn.Recurrent(cell)(x)[0].numpy())
    with pytest.raises(ValueError, match=r"weight_hh\.1 has shape \(2, 4\)"):
        rnn.ClockworkRNNCell(3, 4, (2, 2)).load_state_dict(cell.state_dict())
