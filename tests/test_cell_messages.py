"""What is said to somebody who writes a cell of his own, or calls one in a way that will not do."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, rnn
from tinygrad_rnn.rnn.known_calls import memory_of

T, B, I, H = 5, 2, 3, 4


class Pair(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor


class Own(rnn.Cell):
    """A cell whose step is given from outside."""

    def __init__(self, step: Callable[[Any, Any], Any], start: Any = None) -> None:
        self.input_size, self.hidden_size = I, H
        self._step, self._start = step, start

    def initial_state(self, batch_size: int) -> Any:
        return tg.zeros((batch_size, H)) if self._start is None else self._start

    def step(self, x: Any, state: Any) -> Any:
        return self._step(x, state)


def run(cell: rnn.Cell, unroll: bool) -> Any:
    return rnn.Recurrent(cell, unroll=unroll)(tg.ones((T, B, I)))


WIDE = np.ones(H)
STATE = Pair(tg.zeros((B, H)), tg.ones((B, H)))
CASES: dict[str, tuple[rnn.Cell, str]] = {
    "three values": (
        Own(lambda x, h: (h, h, h)),
        "Own.step must return (y, state), a tuple of two, got a tuple of 3",
    ),
    "a list": (
        Own(lambda x, h: [h, h]),
        "Own.step must return (y, state), a tuple of two, got a list of 2",
    ),
    "one Tensor": (
        Own(lambda x, h: h),
        "Own.step must return (y, state), a tuple of two, got a Tensor",
    ),
    "an array": (Own(lambda x, h: (h, WIDE)), "Own.step must return Tensors, got a ndarray"),
    "exchanged": (
        Own(lambda x, s: (s, s.h), STATE),
        "Own.step must return a state like the one that it was given, Pair(float32 (2, 4), float32 "
        "(2, 4)), got float32 (2, 4): are y and the state exchanged? A step returns (y, state)",
    ),
    "another shape": (
        Own(lambda x, h: (x, h[:, :2])),
        "Own.step must return a state like the one that it was given, float32 (2, 4), got float32 "
        "(2, 2)",
    ),
}


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_fault_43_what_a_step_returns(name: str, unroll: bool) -> None:
    cell, message = CASES[name]
    with pytest.raises(TypeError) as caught:
        run(cell, unroll)
    assert str(caught.value) == message


def test_fault_43_where_a_float64_comes_from() -> None:
    with pytest.raises(TypeError) as caught:
        run(Own(lambda x, h: (x, tg.tanh(h + WIDE))), unroll=False)
    assert str(caught.value) == (
        "Own.step must return a state like the one that it was given, float32 (2, 4), got float64 "
        "(2, 4): float64 came in by add, with an operand of shape (4,); convert that with .astype"
    )


def test_fault_43_functions_of_numpy() -> None:
    for function in (np.tanh, np.exp):
        with pytest.raises(TypeError, match=f"write tinygrad_rnn.{function.__name__}$"):
            run(Own(lambda x, h, f=function: (h, f(h))), unroll=False)
    with pytest.raises(TypeError, match="an array cannot be changed in place by a Tensor"):
        WIDE.__iadd__(tg.ones(H))
    product = WIDE * tg.ones(H, requires_grad=True)
    assert isinstance(product, tg.Tensor)
    assert product.requires_grad


def test_fault_43_the_line_of_the_user() -> None:
    """np.clip reads the elements in a file of NumPy's."""
    for read in (lambda h: np.clip(h.detach(), 0, 1), str):
        with pytest.raises(tg.replay.ReadError) as caught:
            run(Own(lambda x, h, read=read: (h, h * len(str(read(h))))), unroll=False)
        assert "test_cell_messages.py" in str(caught.value)
        assert "rnn.note and record=" in str(caught.value)


def test_fault_43_arguments_in_another_order() -> None:
    with pytest.raises(TypeError, match=r"^note: expected values with names, as in note\(f=f\)"):
        rnn.note("f", tg.ones(3))
    rng = np.random.default_rng(0)
    message = "the generator, or its seed, comes first, got it as batch_size"
    with pytest.raises(TypeError, match=f"^adding_problem: {message}$"):
        data.adding_problem(20, 3, rng)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"^copy_problem: {message}$"):
        data.copy_problem(20, 30, rng)  # type: ignore[arg-type]


def test_fault_26_a_cell_without_sizes() -> None:
    class Sizeless(rnn.Cell):
        def step(self, x: Any, h: Any) -> Any:
            return h, h

    message = r"^Recurrent: the cell Sizeless must have the attribute input_size, an integer$"
    with pytest.raises(TypeError, match=message):
        rnn.Recurrent(Sizeless())


@dataclass
class AsData(rnn.Cell):
    """A cell that is equal to others, and so has no hash."""

    input_size: int
    hidden_size: int
    rate: float = 0.5
    pure = True

    def step(self, x: Any, h: Any) -> Any:
        h = tg.tanh(self.rate * h + x.sum(axis=1, keepdims=True))
        return h, h


def test_fault_27_a_cell_that_is_a_dataclass() -> None:
    cell = AsData(I, H)
    layer = rnn.Recurrent(cell)
    x = tg.ones((T, B, I))
    for rate in (0.5, 2.0, 0.5):
        cell.rate = rate
        expected = rnn.Recurrent(cell, unroll=True)(x)[0].numpy()
        np.testing.assert_allclose(layer(x)[0].numpy(), expected, rtol=1e-6)
    with tg.no_grad():
        state = layer.step(x[0])[1]
        assert layer.step(x[0], state)[0].shape == (B, H)
    twin = AsData(I, H)
    assert twin == cell
    twin.rate = 2.0
    assert not np.allclose(rnn.Recurrent(twin)(x)[0].numpy(), layer(x)[0].numpy())
    gone = weakref.ref(twin)
    del twin
    gc.collect()
    assert gone() is None


def test_fault_32_streams_are_remembered_while_others_change() -> None:
    """An attribute of another module voids nothing: no step is traced again."""
    layer, other = rnn.LSTM(I, H), nn.Dropout(0.5)
    x, state = tg.ones((B, I)), layer.initial_state(B)
    with tg.no_grad():
        layer.step(x, state)
        for k in range(3):
            other.state = k
            memory = memory_of(layer)
            assert memory is not None
            assert len(memory.calls) == 1
        layer.eval()  # which its cells do not see
        assert memory_of(layer) is memory
        assert len(memory.calls) == 1
        layer.weight_ih_l0.requires_grad = False
        assert memory_of(layer) is memory
        assert not memory.calls


PROBE = tg.zeros((T, B, H))
WIDE_PROBE = PROBE.astype(np.float64)


@pytest.mark.parametrize(
    ("probe", "error", "got"),
    [
        (PROBE, TypeError, "float32 (5, 2, 4)"),
        (tg.zeros((2, T, B, H)), TypeError, "float32 (2, 5, 2, 4)"),
        ((PROBE,), TypeError, "tuple(float32 (5, 2, 4))"),
        ((PROBE, PROBE[:-1]), ValueError, "tuple(float32 (5, 2, 4), float32 (4, 2, 4))"),
        (
            (PROBE, PROBE.astype("float64")),
            TypeError,
            "tuple(float32 (5, 2, 4), float64 (5, 2, 4))",
        ),
    ],
)
def test_fault_39_probes_in_other_containers(probe: Any, error: type, got: str) -> None:
    layer = rnn.Recurrent(rnn.LSTMCell(I, H))
    with pytest.raises(error) as caught:
        layer(tg.ones((T, B, I)), probe=probe)
    assert str(caught.value) == (
        "Recurrent(LSTMCell): probe must be LSTMState(float32 (5, 2, 4), float32 (5, 2, 4)), got "
        + got
    )
    layer(tg.ones((T, B, I)), probe=(PROBE, PROBE))
