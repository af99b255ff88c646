"""Steps that do more than operations: what Python does at each step it does replayed, too."""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from effects import B, Config, Counter, H, T, assert_same, compare, inputs, run
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import rnn
from tinygrad_rnn.replay import ReadError, UnrolledWarning
from tinygrad_rnn.replay.cache import CACHE

pytestmark = pytest.mark.usefixtures("by_numpy_and_numba")


@pytest.mark.parametrize("steps", [1, 2, 3, T])
def test_fault_14_a_step_that_counts(steps: int) -> None:
    ours, _ = compare(Counter, steps)
    assert ours.t == steps


def test_fault_14_a_count_that_no_operation_sees() -> None:
    class Silent(Counter):
        def __call__(self, x: Any, h: Any) -> Any:
            self.t += 1
            return h, tg.tanh(h + x)

    for _ in range(2):  # also where the program is known already
        ours, _ = compare(Silent)
        assert ours.t == T


class Keeper:
    def __init__(self) -> None:
        self.weights: list[Any] = []

    def __call__(self, x: Any, h: Any) -> Any:
        a = tg.softmax(x, axis=-1)
        self.weights.append(a)
        h = tg.tanh(h + a)
        return h, h


def test_fault_15_a_step_that_keeps_its_values() -> None:
    ours, theirs = compare(Keeper)
    assert len(ours.weights) == T
    for a, b in zip(ours.weights, theirs.weights, strict=True):
        assert type(a) is tg.Tensor
        np.testing.assert_array_equal(a.array, b.array)


def test_fault_15_values_kept_where_nobody_looks() -> None:
    """A tracer that outlives its trace is found, and the step is not called twice."""
    hidden: dict[str, Any] = {"a": {"b": {"c": []}}}

    def make() -> Any:
        kept: list[Any] = []
        hidden["a"]["b"]["c"].append(kept)

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * tg.randn(B, H, dtype=np.float64))
            hidden["a"]["b"]["c"][-1].append(h)
            return h, h

        return step

    results = []
    for unroll in (False, True):
        tg.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)
            results.append(run(make(), unroll))
    assert_same(*results)
    ours, theirs = hidden["a"]["b"]["c"]
    assert len(ours) == len(theirs) == T
    grads = [tg.jacobian(kept[1], kept[0]).numpy() for kept in (ours, theirs) if kept[0].is_leaf]
    assert len(grads) in (0, 2)


def test_the_gradient_of_what_was_kept() -> None:
    kept: list[Any] = []

    def step(x: Any, h: Any) -> Any:
        a = x * h
        kept.append(a)
        return a, tg.tanh(a)

    grads = []
    for unroll in (False, True):
        kept.clear()
        xs, h = inputs()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)
            tg.scan(step, xs, h, unroll=unroll)
        sum((a * a).sum() for a in kept).backward()
        grads.append([xs.grad.numpy(), h.grad.numpy()])
    assert_same(*grads)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "array": lambda h: h.array.sum() > 0,
    "data": lambda h: h.data.sum() > 0,
    "numpy": lambda h: h.numpy().sum() > 0,
    "float": lambda h: float(h.sum()) > 0,
    "bool": lambda h: bool((h > 0).all()),
    "print": lambda h: str(h),
    "a draw": lambda h: (tg.randn(2) + 1).array[0] > 0,
}


@pytest.mark.parametrize("look", LOOKS)
def test_fault_16_a_step_that_reads_elements(look: str) -> None:
    def step(x: Any, h: Any) -> Any:
        h = h + x
        if LOOKS[look](h):
            h = h * 2
        return h, h

    with pytest.raises(ReadError, match=r"test_effects\.py"):
        run(step, unroll=False)
    run(step, unroll=True)


GAIN = 1.0


def gained(x: Any) -> Any:
    return GAIN * x


class ByPartial(rnn.Cell):
    def __init__(self) -> None:
        self.input_size = self.hidden_size = H
        self.function = functools.partial(gained)

    def step(self, x: Any, h: Any) -> Any:
        h = self.function(x)
        return h, h


class ByClass(ByPartial):
    _gain = 1.0

    def step(self, x: Any, h: Any) -> Any:
        h = self._gain * x
        return h, h


class ByConfig(ByPartial):
    def __init__(self) -> None:
        super().__init__()
        self.config = Config()

    def step(self, x: Any, h: Any) -> Any:
        h = self.config.gain * x
        return h, h


@pytest.mark.parametrize("make", [ByPartial, ByClass, ByConfig])
def test_fault_17_what_changes_between_calls(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = make()
    layer, x = rnn.Recurrent(cell), tg.ones((3, B, H))
    assert layer(x)[0].sum().item() == 18
    monkeypatch.setattr(f"{__name__}.GAIN", 3.0)
    monkeypatch.setattr(ByClass, "_gain", 3.0)
    if make is ByConfig:
        cell.config.gain = 3.0
    assert layer(x)[0].sum().item() == 54


class Blocked(rnn.Cell):
    """h = tanh(w x + stop(w h))."""

    pure = True

    def __init__(self) -> None:
        self.input_size = self.hidden_size = H
        self.w = tg.nn.Parameter(np.full(H, 0.5))

    def step(self, x: Any, h: Any) -> Any:
        with tg.no_grad():
            held = self.w * h
        h = tg.tanh(self.w * x + held)
        return h, h


def test_fault_18_a_parameter_frozen_and_thawed() -> None:
    def gradient(cell: Any, layer: Any) -> Any:
        cell.w.grad = None
        layer(inputs()[0].detach(), inputs()[1].detach())[0].sum().backward()
        return cell.w.grad.numpy()

    cell = Blocked()
    layer = rnn.Recurrent(cell)
    expected = gradient(cell, rnn.Recurrent(cell, unroll=True))
    cell.w.requires_grad = False
    layer(inputs()[0].detach(), inputs()[1].detach())
    cell.w.requires_grad = True
    np.testing.assert_allclose(gradient(cell, layer), expected, rtol=1e-12)


def test_fault_40_hooks_within_a_step() -> None:
    def make() -> Any:
        seen: list[Any] = []

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x)
            h.register_hook(lambda g: seen.append(g.numpy().copy()))
            return h, h

        step.seen = seen  # type: ignore[attr-defined]
        return step

    ours, theirs = compare(make)
    assert len(ours.seen) == T
    assert_same(ours.seen, theirs.seen)

    def keeps_grad(x: Any, h: Any) -> Any:
        h = tg.tanh(h + x)
        h.retain_grad()
        return h, h

    with pytest.warns(UnrolledWarning, match="asks for the gradient of a value"):
        run(keeps_grad, unroll=False)


def test_the_trace_is_the_first_two_steps() -> None:
    """What is not seen is done once per trace: twice for a program that is new, then once."""
    told: dict[str, Any] = {"a": {"b": {"c": []}}}
    CACHE.known.clear()

    def step(x: Any, h: Any) -> Any:
        told["a"]["b"]["c"].append(float(tg.tensor(0.25)))
        h = tg.tanh(h + x * 0.3141)
        return h, h

    run(step, unroll=False)
    assert len(told["a"]["b"]["c"]) == 2
    run(step, unroll=False)
    assert len(told["a"]["b"]["c"]) == 3


def test_explain_says_why() -> None:
    class Counting(rnn.Cell):
        def __init__(self) -> None:
            self.input_size = self.hidden_size = H
            self.t = 0

        def step(self, x: Any, h: Any) -> Any:
            self.t += 1
            return h, h + x

    with pytest.warns(UnrolledWarning):
        text = rnn.Recurrent(Counting()).explain()
    assert "runs unrolled: the step at" in text
    assert "changes Counting.t" in text


def test_four_threads() -> None:
    def work() -> None:
        for _ in range(3):
            assert_same(run(Counter(), False), run(Counter(), True))
            assert_same(run(Keeper(), False), run(Keeper(), True))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrolledWarning)
        at_once([work] * 4)


@pytest.mark.filterwarnings("ignore::tinygrad_rnn.replay.UnrolledWarning")
def test_observers_see_all_steps() -> None:
    """Also those that were traced before the loop was found to do more."""

    class Counts(tg.Observer):
        def __init__(self) -> None:
            self.names: list[str] = []

        def after_forward(self, record: Any) -> None:
            self.names.append(record.primitive.name)

    counts = []
    for unroll in (False, True):
        observer = Counts()
        with tg.observe(observer):
            tg.scan(Counter(), *inputs(), unroll=unroll)
        counts.append(observer.names.count("tanh"))
    assert counts == [T, T]


def test_the_step_of_a_cell_within_a_wrapper_is_named() -> None:
    class Tossing(rnn.Cell):
        def __init__(self) -> None:
            self.input_size = self.hidden_size = H

        def step(self, x: Any, h: Any) -> Any:
            h = h + x * random.random()
            return h, h

    with pytest.warns(UnrolledWarning, match=r"test_effects\.py:\d+ changes Python's random"):
        rnn.Recurrent(rnn.Zoneout(Tossing(), 0.5))(tg.ones((T, B, H)))
