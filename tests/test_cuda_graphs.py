"""Loops captured in CUDA graphs: when, when again, and that the numbers are the same.

What is marked runs on a card or on the stand-in of tests/stand_in.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import usable
from host_cuda import HostCUDA
from loop_cases import DOUBLE, allocate, lstm, run_reference, spec, whole
from networks import draw, randomise
from test_cuda_replay import LAYERS

import tinygrad_rnn as tg
from tinygrad_rnn import backends, optim, rnn
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.replay.emit.cuda.emitter import CudaLoop, compile_loop
from tinygrad_rnn.replay.emit.cuda.graphs import KEPT, PATIENCE, Graph, Graphs
from tinygrad_rnn.replay.program.loop import Call, Loop, Product, Ref
from tinygrad_rnn.tape import Primitive

gpu = pytest.mark.gpu


def no_calls(step: Any) -> Any:
    raise AssertionError(f"{step} should be in a kernel")


# When graphs are made, without a card


class Captures:
    """A backend that captures whatever it is given."""

    def __init__(self) -> None:
        self.xp, self.captured = np, 0
        self.fails: Exception | None = None

    def place(self, arrays: list[Any]) -> tuple[int, ...]:
        return tuple(map(id, arrays))

    def why_no_capture(self) -> None:
        return None

    def capture(self, work: Callable[[], Any]) -> Callable[[], Any]:
        if self.fails is not None:
            raise self.fails
        self.captured += 1
        return work


def runs(graphs: Graphs, places: list[Any]) -> str:
    """What each call is: ``g`` a graph launched, ``c`` captured, ``.`` or ``-`` step by step."""
    how = ""
    for place in places:
        if graphs.reason is not None:
            how += "-"
            continue
        captured = graphs.backend.captured
        graph = graphs.at((place,), lambda: Graph(graphs.backend.capture(str), {}, None))
        how += "." if graph is None else "g" if graphs.backend.captured == captured else "c"
    return how


def test_a_place_is_captured_when_it_is_seen_again() -> None:
    graphs = Graphs(lstm(2, 3), Captures())  # pyright: ignore[reportArgumentType]
    assert runs(graphs, [1, 1, 1, 2, 1, 2, 2, 1, 2]) == ".cg.gcggg"


def test_as_many_places_as_are_kept() -> None:
    backend = Captures()
    graphs = Graphs(lstm(2, 3), backend)  # pyright: ignore[reportArgumentType]
    places = list(range(KEPT))
    assert runs(graphs, 4 * places) == "." * KEPT + "c" * KEPT + "g" * 2 * KEPT
    assert runs(graphs, [99, 99, 99, 0]) == ".cgc"  # 99 has taken the place of 0
    assert graphs.reason is None
    assert backend.captured == KEPT + 2


def test_patience_ends() -> None:
    """Neither where no place comes back nor where more do than are kept."""
    for places in (list(range(100)), 20 * list(range(KEPT + 1))):
        backend = Captures()
        graphs = Graphs(lstm(2, 3), backend)  # pyright: ignore[reportArgumentType]
        how = runs(graphs, places)
        assert set(how[PATIENCE + 1 :]) == {"-"}
        assert graphs.reason == "its constants lie elsewhere, or T is another, at each call"
        assert not graphs._kept
        assert backend.captured <= KEPT


def test_a_failure_is_the_last_one() -> None:
    backend = Captures()
    graphs = Graphs(lstm(2, 3), backend)  # pyright: ignore[reportArgumentType]
    assert runs(graphs, [1, 1]) == ".c"
    backend.fails = RuntimeError("not while it rains")
    assert runs(graphs, [2, 2, 2, 1]) == "..--"
    assert graphs.reason == "RuntimeError: not while it rains"


def test_a_graph_keeps_no_weight_alive() -> None:
    """It is found by where that lies, so whatever lies there later is right."""
    loop, backend = lstm(2, 3), Captures()
    graphs = Graphs(loop, backend)  # pyright: ignore[reportArgumentType]
    constants = [k for k, array in enumerate(loop.arrays) if not array.stacked][:1]
    arrays = allocate(loop, 4)
    for _ in range(2):
        graphs.run(arrays, 4, lambda own, T: (str, None))
    (graph,) = graphs._kept.values()
    assert graphs._fixed == constants
    assert not any(np.shares_memory(a, b) for a in graph.arrays.values() for b in arrays)


def test_calls_are_not_captured() -> None:
    twice = Primitive("twice", lambda xp, x: 2 * x, [None])
    call = Call(twice, (whole(0, (2, 3)),), {}, (whole(1, (2, 3)),))
    loop = Loop((spec("x", (2, 3)), spec("y", (2, 3))), (call,), False)
    graphs = Graphs(loop, Captures())  # pyright: ignore[reportArgumentType]
    assert graphs.reason == "it has calls, which allocate memory"


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_a_backend_that_captures_nothing(tmp_path: Path) -> None:
    loop, host = lstm(2, 3, DOUBLE), HostCUDA(tmp_path)
    run = compile_loop(loop, host, no_calls, graph=True)
    arrays = allocate(loop, 4)
    for _ in range(3):
        there = [host.from_host(array, "strict") for array in arrays]
        run(there, 4)
        run_reference(loop, arrays, 4)
        for have, want in zip(there, arrays, strict=True):
            np.testing.assert_allclose(host.to_host(have), want, 1e-12, 1e-12)
    assert run.graphs is not None
    assert run.graphs.reason == "the backend captures nothing"


# Loops on a card


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """CUDA with ``captured`` and ``launched``, how many graphs were made and launched."""
    backend: Any = backends.backend_for(usable("cuda"))
    backend.captured = backend.launched = 0
    capture = type(backend).capture

    def counted(work: Callable[[], Any]) -> Callable[[], Any]:
        launch = capture(backend, work)
        backend.captured += 1

        def launched() -> None:
            backend.launched += 1
            launch()

        return launched

    monkeypatch.setattr(backend, "capture", counted)
    CACHE.known.clear()
    yield backend
    CACHE.known.clear()


class Arrays:
    """The arrays of a loop on a card, and a run on them."""

    def __init__(self, card: Any, loop: Loop, T: int, run: CudaLoop) -> None:
        self.card, self.loop, self.T, self.run = card, loop, T, run
        self.values = allocate(loop, T)
        self.there = [card.from_host(v, "cuda") for v in self.values]

    def check(self) -> None:
        self.run(self.there, self.T)
        run_reference(self.loop, self.values, self.T)
        for have, want in zip(self.there, self.values, strict=True):
            np.testing.assert_allclose(self.card.to_host(have), want, 1e-12, 1e-12)

    def set(self, k: int, values: np.ndarray) -> None:
        """New values where the old ones were."""
        self.values[k][...] = values
        self.there[k][...] = self.card.from_host(values, "cuda")


@gpu
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_loop_again_and_again(card: Any, reverse: bool) -> None:
    loop = lstm(2, 3, DOUBLE, reverse)
    run = compile_loop(loop, card, no_calls, graph=True)
    one, other = (Arrays(card, loop, T, run) for T in (5, 3))
    for arrays in (one, one, other, one, other, one, other):
        arrays.check()
    assert (card.captured, card.launched) == (2, 5)
    run([], 0)
    rng = np.random.default_rng(1)
    one.set(1, rng.standard_normal((3, 12)))  # the weight, in its place
    one.check()
    assert (card.captured, card.launched) == (2, 6)
    one.values[1] = rng.standard_normal((3, 12))
    one.there[1] = card.from_host(one.values[1], "cuda")  # another array
    one.check()
    assert (card.captured, card.launched) == (2, 6)
    one.check()
    assert (card.captured, card.launched) == (3, 7)
    assert run.graphs is not None
    assert run.graphs.reason is None


@gpu
def test_a_constant_that_has_to_be_copied(card: Any) -> None:
    """The copy belongs to the graph, which makes it anew at each launch."""
    arrays = (
        spec("x", (2, 3), DOUBLE, True),
        spec("w", (40,), DOUBLE),
        spec("y", (2, 4), DOUBLE, True),
    )
    product = Product(whole(0, (2, 3), 0), Ref(1, None, (3, 4), (9, 2)), whole(2, (2, 4), 0), True)
    loop = Loop(arrays, (product,), False)
    given = Arrays(card, loop, 3, compile_loop(loop, card, no_calls, graph=True))
    for k in range(5):
        given.set(1, np.random.default_rng(k).standard_normal(40))
        given.check()
        card.from_host(np.full((3, 4), np.nan), "cuda")  # on what has been freed
    assert (card.captured, card.launched) == (1, 4)


@gpu
def test_where_the_capture_fails(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step, for good, and the stream is as before."""
    cupy = pytest.importorskip("cupy")
    loop = lstm(2, 3, DOUBLE)
    broken = compile_loop(loop, card, no_calls, graph=True)
    given = Arrays(card, loop, 4, broken)
    given.check()
    prepared = [*broken.prepared]

    def refused(arrays: Any, T: int) -> Any:
        bound = prepared[-1](arrays, T)

        def at(t: int) -> None:
            if t == 2 and cupy.cuda.get_current_stream().is_capturing():
                card.to_host(arrays[0])
            bound.at(t)

        return bound._replace(at=at)

    broken.prepared = [*prepared[:-1], refused]
    before = cupy.cuda.get_current_stream().ptr
    for _ in range(3):
        given.check()
    assert cupy.cuda.get_current_stream().ptr == before
    assert (card.captured, card.launched) == (0, 0)
    assert broken.graphs is not None
    assert broken.graphs.reason is not None
    assert "captur" in broken.graphs.reason
    after = Arrays(card, loop, 4, compile_loop(loop, card, no_calls, graph=True))
    for _ in range(3):
        after.check()
    assert (card.captured, card.launched) == (1, 2)


@gpu
def test_threads_run_one_loop(card: Any) -> None:
    loop = lstm(2, 3, DOUBLE)
    run = compile_loop(loop, card, no_calls, graph=True)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            given = Arrays(card, loop, 6, run)
            for _ in range(8):
                given.check()
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert card.captured == 2
    assert card.launched == 14


# Layers


def trained(make: Callable[[], Any], **how: bool) -> list[bytes]:
    """All that some updates of a layer compute, in bits."""
    layer = randomise(make()).to("cuda")
    optimizer = optim.Adam(layer.parameters(), lr=0.01)
    x = draw(5, 2, 3, device="cuda", requires_grad=True)
    found: list[bytes] = []
    with tg.replay.using(**how):
        for _ in range(10):
            layer.zero_grad()
            x.grad = None
            y, _ = layer(x)
            (y * y).sum().backward()
            optimizer.step()
            found += [y.numpy().tobytes(), x.grad.numpy().tobytes()]
    return found + [p.numpy().tobytes() for p in layer.parameters()]


@gpu
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())
def test_training_is_the_same_to_the_last_bit(card: Any, make: Any) -> None:
    assert trained(make, graph=True) == trained(make, cublas=True)
    assert card.launched > 0


@gpu
def test_two_live_calls_of_one_layer(card: Any) -> None:
    """Their memory is not each other's, though the loop is one."""
    layer = randomise(rnn.LSTM(3, 4)).to("cuda")
    inputs = [draw(5, 2, 3, seed=k, device="cuda", requires_grad=True) for k in range(2)]

    def gradients() -> list[bytes]:
        losses = [(layer(x)[0] ** 2).sum() for x in inputs]
        for loss in (*losses, *losses):
            loss.backward(retain_graph=True)
        found = [x.grad.numpy().tobytes() for x in inputs]
        for x in inputs:
            x.grad = None
        layer.zero_grad()
        return found

    with tg.replay.using(cublas=True):
        want = gradients()
    with tg.replay.using(graph=True):
        for _ in range(6):
            assert gradients() == want
    assert card.launched > 0


@gpu
def test_what_explain_says(card: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = randomise(rnn.LSTM(3, 4)).to("cuda")
    assert "graph" not in layer.explain(2)
    with tg.replay.using(graph=True):
        assert layer.explain(2).count("note: is captured in CUDA graphs") == 2

    def refuses(work: Any) -> Any:
        raise RuntimeError("not today")

    monkeypatch.setattr(card, "capture", refuses)
    with tg.replay.using(graph=True), tg.no_grad():
        for _ in range(3):
            layer(draw(5, 2, 3, device="cuda"))
        text = layer.explain(2, gradients=False)
    assert "note: launched step by step: RuntimeError: not today" in text
