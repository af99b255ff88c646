"""What explain() says of a replayed cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn


def loops(text: str) -> list[str]:
    """The lines of the loops, forward and backward."""
    return [
        line.strip() for line in text.splitlines() if line.startswith("    ") and "%" not in line
    ]


def test_an_lstm_is_one_product_and_one_kernel_per_step() -> None:
    text = rnn.LSTM(12, 8).explain(batch_size=4)
    kinds = [line.split()[0] for line in loops(text) if line.split()[0] in ("product", "kernel")]
    assert kinds == ["product", "kernel", "kernel", "product"]
    assert "product temp" in text
    (sums,) = [line for line in text.splitlines() if "summed over time" in line]
    assert sums.count("%") == 3  # two weights, and one sum that is the gradient of both biases
    assert "per step in" in text


def test_without_gradients_nothing_is_left_for_backward() -> None:
    cell = rnn.LSTMCell(12, 8)
    text = rnn.Recurrent(cell).explain(batch_size=4, gradients=False)
    assert "forward, without gradients" in text
    assert "backward" not in text
    assert "out" not in "".join(loops(text))  # nothing is stored over time but the outputs, state0


def test_every_layer_of_a_stack_is_explained() -> None:
    text = rnn.GRU(3, 4, num_layers=2, bidirectional=True).explain()
    assert [line.split(":")[0] for line in text.splitlines() if "GRUCell" in line] == [
        "l0", "l0_reverse", "l1", "l1_reverse",
    ]  # fmt: skip


def test_what_cannot_leave_the_loop_is_named() -> None:
    class Odd(rnn.Cell):
        def __init__(self) -> None:
            self.input_size = self.hidden_size = 4
            self.weight = nn.Parameter(np.ones((4, 4), np.float32))
            self.twice = tg.primitive("twice", lambda xp, x: 2 * x, [lambda g, y, x: 2 * g])

        def step(self, x: Any, h: Any) -> Any:
            h = tg.tanh(self.twice(x) @ self.weight + h)
            return h, h

    text = rnn.Recurrent(Odd()).explain()
    assert "call twice, as it is" in text
    assert "note: twice: has no batching rule, stays in the loop" in text


@pytest.mark.parametrize("jit", [False, True])
def test_the_emitter_is_named(jit: bool) -> None:
    with tg.replay.using(jit=jit):
        text = rnn.RNN(3, 4).explain()
    assert ("NumPy" in text) or (jit and "one compiled function" in text)


class ThreeMasks(rnn.Cell):
    """A step that draws three times."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.weight = nn.Parameter(tg.randn((hidden_size, hidden_size)))

    def step(self, x: tg.Tensor, state: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        masks = [tg.ops.dropout_mask(state, rate) for rate in (0.1, 0.2, 0.3)]
        h = tg.tanh(tg.linear(state * masks[0], self.weight) + x * masks[1]) * masks[2]
        return h, h


def test_random_blocks_are_inputs_without_gradients_and_nothing_is_drawn() -> None:
    layer = rnn.Recurrent(ThreeMasks(4, 4))
    before = tg.ops.generator_state()
    text = layer.explain()
    assert tg.ops.generator_state() == before
    assert "backward, from t = T-1 on" in text
    x, state = tg.randn((3, 2, 4)), tg.randn((2, 4))
    x.requires_grad = state.requires_grad = True
    layer(x, state)[0].sum().backward()  # what is explained is what is run
    assert x.grad is not None
    assert state.grad is not None
