"""A trace is used again only while nothing that the step can see has changed."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops, rnn
from tinygrad_rnn.rnn.known_calls import memory_of

FACTOR = 2.0
config: Any = types.ModuleType("config_of_a_test")
config.FACTOR = 2.0


class Option:
    factor = 2.0


def helper(x: Any) -> Any:
    return FACTOR * x


class Base(rnn.Cell):
    """h = f * x, where the factor f comes from somewhere."""

    def __init__(self) -> None:
        self.input_size = self.hidden_size = 3
        self.weight = nn.Parameter(np.ones(3, np.float32))

    def factor(self) -> Any:
        return 2.0

    def step(self, x: Any, h: Any) -> Any:
        h = self.factor() * self.weight * x + 0 * h
        return h, h


class Global(Base):
    def factor(self) -> Any:
        return FACTOR


class Helper(Base):
    def step(self, x: Any, h: Any) -> Any:
        h = helper(self.weight * x) + 0 * h
        return h, h


class Config(Base):
    def factor(self) -> Any:
        return config.FACTOR


class OwnClass(Base):
    rate = 2.0

    def factor(self) -> Any:
        return self.rate


class OtherClass(Base):
    def factor(self) -> Any:
        return Option.factor


class InDict(Base):
    def __init__(self) -> None:
        super().__init__()
        self.table = {"f": nn.Parameter(np.full(3, 2, np.float32))}

    def factor(self) -> Any:
        return self.table["f"]


class InList(Base):
    def __init__(self) -> None:
        super().__init__()
        self.numbers = [2.0]

    def factor(self) -> Any:
        return self.numbers[0]


class Attribute(Base):
    def __init__(self) -> None:
        super().__init__()
        self.rate = 2.0

    def factor(self) -> Any:
        return self.rate


class Read(Base):
    """The value of a parameter is read while the step is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(np.float32(2))

    def factor(self) -> Any:
        return float(self.scale)


class PureBase(Base):
    pure = True

    def factor(self) -> Any:
        return 2.0


class PureAttribute(Attribute):
    pure = True


class PureClass(OwnClass):
    pure = True
    rate = 2.0


class Overriding(PureBase):
    """What it overrides is not covered by the promise of the class above."""

    def factor(self) -> Any:
        return FACTOR


def closed_over() -> tuple[rnn.Cell, Callable[[], None]]:
    box = 2.0

    class Closure(Base):
        def factor(self) -> Any:
            return box

    def change() -> None:
        nonlocal box
        box = 3.0

    return Closure(), change


def _set(target: Any, name: str, value: Any) -> Callable[[], None]:
    return lambda: setattr(target, name, value)


def cases() -> dict[str, tuple[Any, Callable[[], None]]]:
    in_dict, in_list, attribute, read = InDict(), InList(), Attribute(), Read()
    pure, of_class = PureAttribute(), PureClass()
    three = nn.Parameter(np.full(3, 3, np.float32))
    return {
        "a global below a pure class": (
            Overriding(),
            _set(sys.modules[__name__], "FACTOR", 3.0),
        ),
        "an attribute of a pure cell": (pure, _set(pure, "rate", 3.0)),
        "the class of a pure cell": (of_class, _set(PureClass, "rate", 3.0)),
        "a global": (Global(), _set(sys.modules[__name__], "FACTOR", 3.0)),
        "a global of a helper": (Helper(), _set(sys.modules[__name__], "FACTOR", 3.0)),
        "a module of settings": (Config(), _set(config, "FACTOR", 3.0)),
        "its own class": (OwnClass(), _set(OwnClass, "rate", 3.0)),
        "another class": (OtherClass(), _set(Option, "factor", 3.0)),
        "a dict": (in_dict, lambda: in_dict.table.update(f=three)),
        "a list": (in_list, lambda: in_list.numbers.__setitem__(0, 3.0)),
        "an attribute": (attribute, _set(attribute, "rate", 3.0)),
        "a value that was read": (read, _set(read.scale, "data", np.float32(3))),
        "a variable around": closed_over(),
    }


@pytest.mark.parametrize("name", cases())
@pytest.mark.parametrize("recording", [True, False])
def test_what_changes_is_seen(name: str, recording: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for target in (sys.modules[__name__], config):
        monkeypatch.setattr(target, "FACTOR", 2.0)
    monkeypatch.setattr(Option, "factor", 2.0)
    monkeypatch.setattr(OwnClass, "rate", 2.0)
    monkeypatch.setattr(PureClass, "rate", 2.0)
    cell, change = cases()[name]
    layer = rnn.Recurrent(cell)
    x = tg.ones((2, 1, 3))
    state = layer.initial_state(1)
    with tg.enable_grad() if recording else tg.no_grad():
        for _ in range(3):
            assert layer(x, state)[0].tolist() == [[[2.0] * 3]] * 2
        change()
        for _ in range(2):
            assert layer(x, state)[0].tolist() == [[[3.0] * 3]] * 2


@pytest.mark.parametrize("make", [Base, Attribute, Global, Overriding])
def test_other_cells_are_traced_at_each_call(make: Any) -> None:
    cell = make()
    layer = rnn.Recurrent(cell)
    layer(tg.ones((2, 1, 3)))
    assert memory_of(layer) is None
    assert "retraced at each call" in layer.explain()
    assert "retraced" not in rnn.Recurrent(rnn.LSTMCell(3, 3)).explain()


@pytest.mark.parametrize("make", [PureBase, PureAttribute, lambda: rnn.LSTMCell(3, 3)])
def test_what_cannot_change_is_traced_once(make: Any) -> None:
    cell = make()
    layer = rnn.Recurrent(cell)
    x = tg.ones((2, 1, 3))
    layer(x)
    (recipe,) = memory_of(layer).calls.values()
    layer(x)
    cell.weight_ih = getattr(cell, "weight_ih", None)
    layer(x)
    assert [*memory_of(layer).calls.values()] == [recipe] or isinstance(cell, Base)
    rnn.LSTMCell(3, 3).another_attribute = 1  # of a module that has nothing to do with it
    cell.some_parameter = None
    layer(x)
    assert [*memory_of(layer).calls.values()] != [recipe]


@pytest.mark.parametrize("kind", [rnn.LSTM, rnn.GRU, rnn.RNN])
def test_repeated_calls_without_a_state(kind: Any) -> None:
    layer = kind(3, 4)
    x = tg.ones((5, 2, 3))
    with tg.no_grad():
        first = layer(x)[0].numpy()
        for _ in range(2):
            np.testing.assert_array_equal(layer(x)[0].numpy(), first)
            layer.step(x[0])


def test_a_state_that_is_given_is_not_drawn() -> None:
    class Random(rnn.RNNCell):
        pure = True

        def initial_state(self, batch_size: int) -> Any:
            return tg.randn(batch_size, self.hidden_size)

    layer, x, h = rnn.Recurrent(Random(3, 4)), tg.ones((5, 2, 3)), tg.ones((2, 4))
    before = ops.generator_state()
    for _ in range(3):
        layer(x, h)
        layer.step(x[0], h)
    assert ops.generator_state() == before
    layer(x)
    assert ops.generator_state() != before
