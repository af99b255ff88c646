"""TruncatedBPTT: every update's gradient against the one written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import close, draw, randomise
from runs import BATCHES, Run

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn
from tinygrad_rnn.tape import leaves, tree_map
from tinygrad_rnn.training import Checkpoint, TruncatedBPTT


class Memory(NamedTuple):
    seen: tg.Tensor  # a counter: an integer leaf, without gradient
    hidden: dict[str, tg.Tensor]


class Odd(nn.Module):
    """A layer of two inputs, whose state is a nest of containers with a counter in it."""

    def __init__(self) -> None:
        self.first, self.second = rnn.LSTM(3, 4), rnn.GRU(4, 2)

    def forward(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        seen, hidden = (tg.tensor(0), {}) if state is None else state
        y, a = self.first(x[0] * x[1], hidden.get("a"))
        z, b = self.second(y, hidden.get("b"))
        return (y, z), Memory(seen + len(y), {"a": a, "b": b})


LAYERS: dict[str, tuple[Callable[[], Any], Callable[[int], Any]]] = {
    "rnn": (lambda: rnn.RNN(3, 4), lambda steps: draw(steps, 2, 3)),
    "two LSTM layers": (lambda: rnn.LSTM(3, 4, 2), lambda steps: draw(steps, 2, 3)),
    "unbatched": (lambda: rnn.GRU(3, 4), lambda steps: draw(steps, 3)),
    "odd": (Odd, lambda steps: (draw(steps, 2, 3), draw(steps, 2, 3, seed=5))),
}


def loss_of(outputs: Any) -> tg.Tensor:
    return sum(((leaf * leaf).sum() for leaf in leaves(outputs)), tg.tensor(0.0, np.float64))


def rows(tree: Any, start: int, stop: int) -> Any:
    return tree_map(lambda leaf: leaf[start:stop], tree)


def by_hand(layer: Any, inputs: Any, steps: int, k1: int, k2: int, lr: float) -> list[np.ndarray]:
    """The losses, gradients and last parameters, step by step as the definition says."""
    saved: dict[int, Any] = {0: None}
    optimizer = optim.SGD(layer.parameters(), lr=lr)
    found: list[np.ndarray] = []
    for start in range(0, steps, k1):
        stop = min(start + k1, steps)
        begin = max(start - (k2 - k1), 0)
        state, outputs = saved[begin], []
        for t in range(begin, stop):
            y, state = layer(rows(inputs, t, t + 1), state)
            if t >= start:
                outputs.append(y)
                saved[t + 1] = tree_map(tg.Tensor.detach, state)
        loss = sum((loss_of(y) for y in outputs), tg.tensor(0.0, np.float64))
        optimizer.zero_grad()
        loss.backward()
        found += [loss.numpy(), *(p.grad.numpy().copy() for p in layer.parameters())]
        optimizer.step()
    return found + [p.numpy().copy() for p in layer.parameters()]


def by_helper(layer: Any, inputs: Any, k1: int, k2: int, lr: float) -> list[np.ndarray]:
    optimizer = optim.SGD(layer.parameters(), lr=lr)
    found: list[np.ndarray] = []
    for _, outputs, _ in TruncatedBPTT(layer, k1, k2).windows(inputs):
        loss = loss_of(outputs)
        optimizer.zero_grad()
        loss.backward()
        found += [loss.numpy(), *(p.grad.numpy().copy() for p in layer.parameters())]
        optimizer.step()
    return found + [p.numpy().copy() for p in layer.parameters()]


@given(
    steps=st.integers(1, 14),
    k1=st.integers(1, 5),
    more=st.integers(0, 7),
    name=st.sampled_from(list(LAYERS)),
)
def test_it_is_what_the_definition_says(steps: int, k1: int, more: int, name: str) -> None:
    """Losses, all gradients and the parameters after training with large updates in between."""
    make, inputs = LAYERS[name]
    hand = by_hand(randomise(make()), inputs(steps), steps, k1, k1 + more, lr=0.05)
    helper = by_helper(randomise(make()), inputs(steps), k1, k1 + more, lr=0.05)
    assert len(hand) == len(helper)
    for have, want in zip(helper, hand, strict=True):
        close(have, want)


def gradients(layer: nn.Module) -> list[bytes]:
    return [p.grad.numpy().tobytes() for p in layer.parameters()]


def test_the_whole_sequence_as_one_window_is_full_bptt() -> None:
    layer, inputs = randomise(rnn.LSTM(3, 4)), draw(7, 2, 3)
    whole, _ = layer(inputs)
    loss_of(whole).backward()
    expected = gradients(layer)
    layer.zero_grad()
    (window,) = TruncatedBPTT(layer, 7).windows(inputs)
    loss_of(window.outputs).backward()
    assert gradients(layer) == expected
    assert window.steps == slice(0, 7)
    np.testing.assert_array_equal(window.outputs.numpy(), whole.numpy())


@pytest.mark.parametrize("steps", [12, 11])
def test_k1_equal_to_k2_is_training_in_chunks_bit_for_bit(steps: int) -> None:
    inputs = draw(steps, 2, 3)
    chunked, layer = randomise(rnn.LSTM(3, 4)), randomise(rnn.LSTM(3, 4))
    optimizers = [optim.Adam(m.parameters(), lr=0.1) for m in (chunked, layer)]
    state = None
    for start in range(0, steps, 4):
        y, state = chunked(inputs[start : start + 4], state)
        state = tree_map(tg.Tensor.detach, state)
        optimizers[0].zero_grad()
        loss_of(y).backward()
        optimizers[0].step()
    for _, y, _ in TruncatedBPTT(layer, 4, 4).windows(inputs):
        optimizers[1].zero_grad()
        loss_of(y).backward()
        optimizers[1].step()
    for one, other in zip(chunked.parameters(), layer.parameters(), strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()


def test_gradients_end_k2_steps_back_and_reach_new_inputs() -> None:
    layer = randomise(rnn.RNN(3, 4))
    bptt, state = TruncatedBPTT(layer, 2, 3), None
    inputs = [draw(2, 1, 3, seed=k, requires_grad=True) for k in range(3)]
    for x in inputs:
        y, state = bptt(x, state)
    (y[-1] * y[-1]).sum().backward()
    assert inputs[0].grad is None
    assert inputs[1].grad is None  # one step of it counts, but what made it is a closed chapter
    assert inputs[2].grad.shape == (2, 1, 3)
    assert all(not leaf.requires_grad and leaf.is_leaf for leaf in leaves(state))


def test_nothing_grows() -> None:
    """However long the sequence: k2 - k1 steps are kept, with a state for each window to begin."""
    bptt, state, sizes = TruncatedBPTT(rnn.GRU(3, 4), 3, 11), None, []
    for _ in range(12):
        _, state = bptt(draw(3, 2, 3).to(np.float32), state)
        past, _ = state
        sizes.append((sum(len(piece) for piece, _ in past), len(past)))
    assert sizes[0] == (3, 2)
    assert set(sizes[4:]) == {(8, 3)}


def test_the_first_state_can_be_given() -> None:
    layer, inputs, h = randomise(rnn.GRU(3, 4)), draw(4, 2, 3), draw(1, 2, 4, seed=9)
    for k2 in (2, 3, 4):
        windows = list(TruncatedBPTT(layer, 2, k2).windows(inputs, ((), h)))
        expected, last = layer(inputs, h)
        close(tg.concat([w.outputs for w in windows]), expected)
        close(windows[-1].state[1], last)


def test_plain_numbers_as_inputs(device: str) -> None:
    """What NumPy holds, such as indices, goes to the device of the layer."""

    class Reader(nn.Module):
        def __init__(self) -> None:
            self.embedding, self.recurrent = nn.Embedding(5, 3), rnn.LSTM(3, 4)

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.recurrent(self.embedding(x), state)

    layer = Reader().to(device)
    numbers = np.random.default_rng(0).integers(0, 5, (7, 2))
    for steps, outputs, state in TruncatedBPTT(layer, 2, 5).windows(numbers):
        assert outputs.shape == (steps.stop - steps.start, 2, 4)
        assert {leaf.device for leaf in leaves(state)} == {layer.embedding.weight.device}
        layer.zero_grad()
        outputs.sum().backward()


@pytest.mark.parametrize("k2", [4, 6, 9, 12])
@pytest.mark.parametrize("cut", [1, 3, 7, 9, 11])
def test_a_resumed_run_computes_the_same_bits(tmp_path: Path, cut: int, k2: int) -> None:
    """What is computed again and the states saved for it are the state that the Trainer carries."""

    def run(folder: Path) -> Run:
        made = Run(folder)
        bptt = TruncatedBPTT(made.model, BATCHES.length, k2)

        def loss(batch: Any, state: Any) -> Any:
            scores, state = bptt(batch.inputs, state)
            return nn.cross_entropy(scores, batch.targets, axis=-1), state

        made.trainer.loss = loss
        return made

    whole = run(tmp_path / "whole")
    whole.trainer.fit(updates=14)
    run(tmp_path / "cut").trainer.fit(updates=cut)
    again = run(tmp_path / "cut")
    tg.rand(5)
    again.trainer.resume(Checkpoint.latest(tmp_path / "cut"))
    again.trainer.fit(updates=14)
    assert again.everything() == whole.everything()
