"""Steps that do more than operations: what Python does at each step it does replayed, too."""

from __future__ import annotations

import functools
import itertools
import random
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import replay, rnn
from tinygrad_rnn.replay import ReadError, UnrolledWarning
from tinygrad_rnn.replay.cache import CACHE

T, B, H = 4, 2, 3


@pytest.fixture(autouse=True, params=["array", "jit"])
def emitter(request: pytest.FixtureRequest) -> Iterator[str]:
    with replay.using(jit=request.param == "jit"):
        yield request.param


def inputs(steps: int = T) -> tuple[tg.Tensor, tg.Tensor]:
    rng = np.random.default_rng(3)
    return (
        tg.tensor(rng.standard_normal((steps, B, H)), requires_grad=True),
        tg.tensor(rng.standard_normal((B, H)), requires_grad=True),
    )


def run(step: Any, unroll: bool, steps: int = T) -> list[np.ndarray]:
    """Outputs, last state and gradients."""
    xs, h = inputs(steps)
    ys, last = tg.scan(step, xs, h, unroll=unroll)
    (ys * ys).sum().backward()
    return [v.numpy() for v in (ys, last, xs.grad, h.grad)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def compare(make: Callable[[], Any], steps: int = T) -> tuple[Any, Any]:
    """Two equal steps, one replayed and one unrolled: the same numbers, and a warning."""
    ours, theirs = make(), make()
    with pytest.warns(UnrolledWarning, match="runs unrolled") as caught:
        found = run(ours, unroll=False, steps=steps)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert_same(found, run(theirs, unroll=True, steps=steps))
    return ours, theirs


class Counter:
    def __init__(self) -> None:
        self.t = 0

    def __call__(self, x: Any, h: Any) -> Any:
        self.t += 1
        h = tg.tanh(h + self.t * x)
        return h, h


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


def test_fault_13_generators_of_others() -> None:
    def own() -> Any:
        rng = np.random.default_rng(5)

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * float(rng.random()))
            return h, h

        return step

    def python() -> Any:
        random.seed(5)

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * random.random())
            return h, h

        return step

    def numpy() -> Any:
        np.random.seed(5)  # noqa: NPY002

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * float(np.random.rand()))  # noqa: NPY002
            return h, h

        return step

    compare(own)
    for make in (python, numpy):
        with pytest.warns(UnrolledWarning, match="random numbers"):
            found = run(make(), unroll=False)
        assert_same(found, run(make(), unroll=True))


DRAWS: dict[str, Callable[[Any, Any], Any]] = {
    "rand": lambda x, h: tg.rand(B, H, dtype=np.float64),
    "randn": lambda x, h: tg.randn((B, H), dtype=np.float64),
    "randint": lambda x, h: tg.randint(0, 5, (B, H)).astype(np.float64),
    "bernoulli": lambda x, h: tg.bernoulli(tg.sigmoid(h)),
    "normal": lambda x, h: tg.normal(x, tg.exp(h)),
    "categorical": lambda x, h: tg.categorical(h)[:, None].astype(np.float64),
    "several": lambda x, h: tg.rand(B, H, dtype=np.float64) * tg.normal(h, 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_fault_12_random_operations(name: str) -> None:
    """A draw per step, equal to the unrolled run's, and no warning."""
    draw = DRAWS[name]

    def step(x: Any, h: Any) -> Any:
        noise = draw(x, h)
        h = tg.tanh(h + noise + x)
        return noise + 0 * h, h

    results = []
    for unroll in (False, True):
        tg.manual_seed(7)
        results.append([*run(step, unroll), np.array(tg.rand(1).numpy())])
    assert_same(*results)
    if name != "bernoulli":
        assert len(np.unique(results[0][0][:, 0, 0])) > 1


def test_draws_that_are_not_alike_are_not_exchanged() -> None:
    count = itertools.count()

    def step(x: Any, h: Any) -> Any:
        draw = tg.rand if next(count) % 2 == 0 else tg.randn
        h = tg.tanh(h * x + draw(B, H, dtype=np.float64))
        return h, h

    results = []
    for unroll in (False, True):
        count = itertools.count()
        tg.manual_seed(7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)
            results.append(run(lambda x, h: step(x, h), unroll))
    assert_same(*results)


def test_what_the_random_operations_draw() -> None:
    tg.manual_seed(0)
    p = tg.tensor(np.full(20_000, 0.3, np.float32), requires_grad=True)
    hits = tg.bernoulli(p)
    assert hits.dtype == np.float32
    assert not hits.requires_grad
    assert abs(hits.numpy().mean() - 0.3) < 0.02
    logits = tg.log(tg.tensor([[0.2, 0.3, 0.5]])) * tg.ones((20_000, 1))
    found = tg.categorical(logits).numpy()
    np.testing.assert_allclose(np.bincount(found) / 20_000, [0.2, 0.3, 0.5], atol=0.02)
    assert tg.categorical(tg.tensor([-np.inf, 0.0, -np.inf])).item() == 1
    mean, std = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor(0.5, requires_grad=True)
    drawn = tg.normal(mean, std)
    drawn.sum().backward()
    assert mean.grad.tolist() == [1.0, 1.0]
    assert abs(std.grad.item() - ((drawn.detach() - mean.detach()) / 0.5).sum().item()) < 1e-5
    for wrong in (lambda: tg.bernoulli(tg.arange(3)), lambda: tg.categorical(tg.arange(3))):
        with pytest.raises(TypeError, match="expected floating values, got int64"):
            wrong()
    with pytest.raises(TypeError, match="mean or std must be a Tensor"):
        tg.normal(0.0, 1.0)


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


class Config:
    def __init__(self) -> None:
        self.gain = 1.0


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
    failures: list[Any] = []

    def work(seed: int) -> None:
        try:
            for _ in range(3):
                assert_same(run(Counter(), False), run(Counter(), True))
                assert_same(run(Keeper(), False), run(Keeper(), True))
        except BaseException as error:
            failures.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnrolledWarning)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not failures


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
