"""What a step changes beside its values: all of it is found, and the loop runs unrolled."""

from __future__ import annotations

import functools
import itertools
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from effects import Config, Counter, H, T, assert_same, inputs, run

import tinygrad_rnn as tg
from tinygrad_rnn.replay import UnrolledWarning

pytestmark = pytest.mark.usefixtures("by_numpy_and_numba")


def endless() -> Iterator[float]:
    value = 0.5
    while True:
        yield value
        value += 0.25


EFFECTS: dict[str, Callable[[], Any]] = {}


def effect(make: Callable[[], Any]) -> Callable[[], Any]:
    EFFECTS[make.__name__] = make
    return make


@effect
def a_closed_over_number() -> Any:
    t = 0

    def step(x: Any, h: Any) -> Any:
        nonlocal t
        t += 1
        h = tg.tanh(h + t * x)
        return h, h

    return step


@effect
def an_iterator() -> Any:
    numbers = endless()

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(h + next(numbers) * x)
        return h, h

    return step


@effect
def a_list_iterator() -> Any:
    numbers = iter([0.5] * T)

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(h + next(numbers) * x)
        return h, h

    return step


@effect
def an_array_in_place() -> Any:
    counts = np.zeros(3)

    def step(x: Any, h: Any) -> Any:
        counts[1] += 1
        h = tg.tanh(h + x)
        return h, h

    return step


@effect
def a_dict_in_a_list() -> Any:
    table = [{"n": 0}]

    def step(x: Any, h: Any) -> Any:
        table[0]["n"] += 1
        h = tg.tanh(h + x)
        return h, h

    return step


@effect
def an_attribute_of_a_helper() -> Any:
    config = Config()

    def step(x: Any, h: Any) -> Any:
        config.gain += 1
        h = tg.tanh(h + x)
        return h, h

    return step


@effect
def a_default_argument() -> Any:
    def step(x: Any, h: Any, seen: list[int] = []) -> Any:  # noqa: B006
        seen.append(1)
        h = tg.tanh(h + x)
        return h, h

    return step


@effect
def a_partial_of_a_method() -> Any:
    return functools.partial(Counter().__call__)


@effect
def a_parameter_overwritten() -> Any:
    w = tg.nn.Parameter(np.ones(H))

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(h + x)
        w.data = w.data * 0.5
        return h, h

    return step


@effect
def the_gradient_of_a_parameter() -> Any:
    w = tg.nn.Parameter(np.ones(H))

    def step(x: Any, h: Any) -> Any:
        w.grad = tg.ones(H, np.float64)
        h = tg.tanh(h + x)
        return h, h

    return step


SETTINGS = types.ModuleType("settings_of_a_test")


class Namespace:
    t = 0


@effect
def a_class_as_a_namespace() -> Any:
    Namespace.t = 0

    def step(x: Any, h: Any) -> Any:
        Namespace.t += 1
        h = tg.tanh(h + x)
        return h, h / Namespace.t

    return step


@effect
def an_attribute_of_a_function() -> Any:
    def scaled(z: Any) -> Any:
        scaled.t += 1  # type: ignore[attr-defined]
        return z / scaled.t  # type: ignore[attr-defined]

    scaled.t = 0  # type: ignore[attr-defined]

    def step(x: Any, h: Any) -> Any:
        h = scaled(tg.tanh(h + x))
        return h, h

    return step


@effect
def an_attribute_of_a_module() -> Any:
    SETTINGS.t = 0  # type: ignore[attr-defined]

    def step(x: Any, h: Any) -> Any:
        SETTINGS.t += 1  # type: ignore[attr-defined]
        h = tg.tanh(h + x) / SETTINGS.t  # type: ignore[attr-defined]
        return h, h

    return step


@effect
def an_object_of_the_standard_library() -> Any:
    config = types.SimpleNamespace(t=0)

    def step(x: Any, h: Any) -> Any:
        config.t += 1
        h = tg.tanh(h + x) / config.t
        return h, h

    return step


@effect
def a_bytearray() -> Any:
    seen = bytearray()

    def step(x: Any, h: Any) -> Any:
        seen.append(1)
        h = tg.tanh(h + x) / len(seen)
        return h, h

    return step


@effect
def an_iterator_of_a_method() -> Any:
    class Model:
        rates = itertools.cycle([0.5, 0.8, 1.0])

        def step(self, x: Any, h: Any) -> Any:
            h = tg.tanh(x + h) * next(self.rates)
            return h, h

    return Model().step


@effect
def two_of_one_name() -> Any:
    def made() -> Any:
        t = np.ones(H)

        def scaled(z: Any, tick: int = 0) -> Any:
            t[:] += tick
            return z / tg.tensor(t)

        return scaled

    parts = {"a": made(), "b": made()}

    def step(x: Any, h: Any) -> Any:
        h = parts["b"](parts["a"](tg.tanh(x + h), 1))
        return h, h

    return step


@effect
def the_middle_of_a_large_array() -> Any:
    counts = np.zeros(40_001)

    def step(x: Any, h: Any) -> Any:
        counts[20_000] += 1
        h = tg.tanh(h + x) / counts[20_000]
        return h, h

    return step


@effect
def an_array_of_objects() -> Any:
    counts = np.array([0, None], dtype=object)

    def step(x: Any, h: Any) -> Any:
        counts[0] += 1
        h = tg.tanh(h + x)
        return h, h

    return step


@effect
def what_was_copied_is_assigned() -> Any:
    mean = tg.ones(H, dtype=np.float64)

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(h + x) * mean.copy()
        mean.data = 0.9 * mean.detach()
        return h, h

    return step


@effect
def a_leaf_in_place() -> Any:
    mean = tg.ones(H, dtype=np.float64)

    def step(x: Any, h: Any) -> Any:
        same = mean
        h = tg.tanh(h + x) * mean.copy()
        with tg.no_grad():
            same *= 0.5
        return h, h

    return step


@pytest.mark.parametrize("name", EFFECTS)
def test_what_a_step_changes_where_its_first_step_is_known(name: str) -> None:
    """A loop of one step has no second one to be compared with, and leaves a program behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrolledWarning)
        run(EFFECTS[name](), unroll=False, steps=1)
        assert_same(run(EFFECTS[name](), unroll=False), run(EFFECTS[name](), unroll=True))


def test_what_is_wanted_of_the_state_is_seen() -> None:
    """The first state wants no gradient, the next one does."""
    w = tg.tensor(np.full((H, H), 0.1), requires_grad=True)

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(x @ w + h) * (0.5 if h.requires_grad else 0.8)
        return h, h

    xs, h = (value.detach() for value in inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrolledWarning)
        tg.scan(lambda x, h: (lambda y: (y, y))(tg.tanh(x @ w + h) * 0.8), xs, h)
        found, expected = (tg.scan(step, xs, h, unroll=u)[0].numpy() for u in (False, True))
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        with tg.no_grad():
            h.requires_grad = True
            both = [tg.scan(step, xs, h, unroll=u)[0].numpy() for u in (False, True)]
    np.testing.assert_allclose(*both, rtol=1e-12)


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.filterwarnings("ignore::tinygrad_rnn.replay.UnrolledWarning")
def test_what_a_step_changes(name: str) -> None:
    results = []
    for unroll in (False, True):
        step = EFFECTS[name]()
        results.append([run(step, unroll) for _ in range(1 if "iterator" in name else 2)])
    for ours, theirs in zip(*results, strict=True):
        assert_same(ours, theirs)
    with pytest.warns(UnrolledWarning):
        run(EFFECTS[name](), unroll=False)


def test_a_step_of_operations_alone_is_replayed() -> None:
    """A warning is an error here, and one record stands for the loop."""
    factor, names, table = 0.5, ["a"], {"k": np.ones(3)}

    def step(x: Any, h: Any) -> Any:
        fresh = tg.tensor(np.arange(3.0)) + tg.zeros(3, np.float64)
        h = tg.tanh(h * factor + x * len(names) + fresh * tg.tensor(table["k"]))
        return h, h

    xs, h = inputs()
    ys, _ = tg.scan(step, xs, h)
    assert [record.primitive.name for record in tg.Tape.of(ys)] == ["scan"]


def test_a_function_that_calls_itself_keeps_nothing() -> None:
    def step(x: Any, h: Any) -> Any:
        def power(n: int) -> Any:
            return x if n == 0 else tg.tanh(power(n - 1) + h)

        h = power(3)
        return h, h

    xs, h = inputs()
    assert [r.primitive.name for r in tg.Tape.of(tg.scan(step, xs, h)[0])] == ["scan"]
