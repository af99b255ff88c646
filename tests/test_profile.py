"""Profiles: every second has a place, every byte an owner, every part of a loop its lines."""

from __future__ import annotations

import csv
import gc
import json
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import backends, lab, nn, replay, rnn
from tinygrad_rnn.backends.pool import POOL
from tinygrad_rnn.lab.profiling import watch
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.tape import Deferred, current_modes

T, B, I, H = 12, 5, 3, 4
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


class Leaky(rnn.Cell):
    """h_t = tanh(W x_t + h_{t-1} V), with a product and a kernel in its loop."""

    def __init__(self, input_size: int = I, hidden_size: int = H) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(np.ones((hidden_size, input_size)))
        self.v = nn.Parameter(np.ones((hidden_size, hidden_size)))

    def step(self, x: Any, state: Any) -> Any:
        a = tg.linear(x, self.w)
        h = tg.tanh(a + state @ self.v)
        return h, h


def line_of(text: str) -> str:
    """The only line of this file that holds a text and no call of this function."""
    lines = Path(__file__).read_text("utf-8").splitlines()
    (k,) = [k for k, line in enumerate(lines, 1) if text in line and "line_of(" not in line]
    return f"test_profile.py:{k}"


class Model(nn.Module):
    """A bidirectional layer of a user's cell, an LSTM, a product."""

    def __init__(self, unroll: bool = False) -> None:
        pair = [rnn.Recurrent(Leaky(), unroll=unroll) for _ in range(2)]
        self.encoder = rnn.Bidirectional(*pair)
        self.lstm = rnn.LSTM(2 * H, H, unroll=unroll)
        self.head = nn.Linear(H, 2)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(self.encoder(x)[0])[0])


def profiled(model: nn.Module, x: Any) -> lab.Profile:
    with lab.profile() as p:
        tg.square(model(x)).sum().backward()
    return p


def total(p: lab.Profile, rows: Any) -> float:
    return sum(row.seconds for row in rows) + p.walking + p.between + p.itself


# Time


now = 0.0


def slow(x: Any) -> Any:
    """What takes a second, by a clock that stands still otherwise."""
    global now
    now += 1.0
    return x


def slow_sum(shape: Any, dtype: Any, parts: Any) -> Any:
    return slow(sum(g for (g,) in parts))


sleepy = tg.primitive(
    "sleepy", lambda xp, x: slow(1.0 * x), [lambda g, y, x: slow(slow(Deferred(slow_sum, g)))]
)


@pytest.mark.parametrize("create_graph", [False, True])
def test_time_is_found_where_it_goes(create_graph: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(nn.Module):
        def __init__(self) -> None:
            self.gain = nn.Parameter(np.ones(3))

        def forward(self) -> Any:
            return sleepy(self.gain) + slow(sleepy(self.gain))

    def waking(xp: Any, x: Any) -> Any:
        return slow(2.0 * tg.tanh(slow(sleepy(tg.tensor(x)))).numpy())

    model, nested = Slow(), tg.primitive("nested", waking)
    monkeypatch.setattr(watch, "time", SimpleNamespace(perf_counter=lambda: now))
    with lab.profile() as p:
        slow(None)
        loss = slow(model().sum())
        nested(tg.ones(3))
        loss.backward(create_graph=create_graph)
    rows = {row.name: row for row in p.by_operation()}
    assert rows["sleepy"][1:4] == (6, 3, 5)  # three records, two rules, one sum of both
    assert rows["nested"][1:4] == (1, 2, 0)  # without the record within it
    assert (p.seconds, p.between, p.walking, p.itself) == (13, 3, 0, 0)
    assert {row.name: row.seconds for row in p.by_layer()} == {"(model)": 7, "(outside)": 3}


def test_times_add_up_to_the_wall_time() -> None:
    model, x = randomise(Model(unroll=True)), draw(T, B, I)
    start = time.perf_counter()
    with lab.profile() as p:
        begun = time.perf_counter()
        tg.square(model(x)).sum().backward()
        inner = time.perf_counter() - begun
    assert inner <= p.seconds <= time.perf_counter() - start
    for rows in (p.by_layer(), p.by_operation()):
        assert total(p, rows) == pytest.approx(p.seconds)
    assert min(p.walking, p.between, p.itself, *(span.own for span in p.spans)) > 0


@pytest.mark.parametrize("unroll", [False, True])
def test_rows_are_layers_and_operations(unroll: bool, device: str) -> None:
    model, x = randomise(Model(unroll)).to(device), draw(T, B, I, device=device)
    p = profiled(model, x)
    layers = {row.name: row for row in p.by_layer()}
    cells = {"encoder.forward_layer.cell", "encoder.backward_layer.cell", "lstm.l0"}
    assert cells | {"head", "(outside)"} <= {*layers}
    assert all(layers[name].forward and layers[name].backward for name in (*cells, "head"))
    operations = {row.name: row for row in p.by_operation()}
    assert ("scan" in operations) != unroll
    assert operations["square"].records == 2
    assert total(p, p.by_layer()) == pytest.approx(p.seconds)
    assert "lstm.l0" in str(p)
    assert len(str(p).splitlines()) < 50
    assert max(map(len, str(p).splitlines())) <= 100


def test_what_is_computed_is_the_same(device: str) -> None:
    model, x = randomise(Model()).to(device), draw(T, B, I, device=device)
    tg.square(model(x)).sum().backward()
    want = [p.grad.numpy() for p in model.parameters()]
    model.zero_grad()
    profiled(model, x)
    for parameter, g in zip(model.parameters(), want, strict=True):
        assert np.array_equal(parameter.grad.numpy(), g)


def test_each_record_waits_for_the_device(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = randomise(Model()).to(device), draw(T, B, I, device=device)
    backend, waited = backends.backend_for(device), []
    wait = backend.wait
    monkeypatch.setattr(backend, "wait", lambda array: (waited.append(array), wait(array)))
    p = profiled(model, x)
    assert len(waited) == 2 * len(p.spans)
    assert {backends.device_of(array) for array in waited} == {device}


def test_second_order_is_backward() -> None:
    model, x = randomise(Model()), draw(T, B, I, requires_grad=True)
    with lab.profile() as p:
        y = tg.square(model(x)).sum()
        g = tg.grad(lambda x: tg.square(model(x)).sum())(x)
        y.backward(create_graph=True)
        x.grad.sum().backward()
    assert g.shape == x.shape
    nested = [span for span in p.spans if span.own < span.seconds]
    assert any(span.operation == "scan" and span.phase == "backward" for span in nested)
    assert total(p, p.by_layer()) == pytest.approx(p.seconds)
    assert all(span.own > 0 for span in p.spans)


def test_an_error_ends_the_profile() -> None:
    before, x = current_modes.get(), draw(2, 3)
    with pytest.raises(ValueError, match="matmul"), lab.profile() as p:
        tg.tanh(x) @ x
    assert current_modes.get() == before
    assert [span.operation for span in p.spans] == ["tanh"]
    assert p.between > 0


def test_misuse_is_told_in_one_sentence(tmp_path: Path) -> None:
    profile = lab.profile()
    with profile as p, pytest.raises(RuntimeError, match="read it behind the block"):
        str(p)
    with pytest.raises(RuntimeError, match="one block each"), profile:
        pass
    for write in (p.to_csv, p.to_chrome):
        with pytest.raises(OSError, match=r"cannot write .*test_profile.py/file"):
            write(f"{__file__}/file")
    with pytest.raises(ValueError, match="no record ran in the block"):
        p.picture()
    assert "0 records" in str(p)
    assert str(p.inside()) == "no replayed loops"


# Memory


def network(*layers: Any) -> Callable[[], tuple[nn.Module, Callable[[nn.Module], Any]]]:
    def made() -> Any:
        model = nn.Sequential(*(layer() for layer in layers))
        x = tg.tensor(np.random.default_rng(0).standard_normal((1024, 256)).astype(np.float32))
        return model, lambda: tg.square(model(x)).mean()

    return made


def recurrent(layer: Callable[[], Any], steps: int) -> Any:
    def made() -> Any:
        model = layer()
        values = np.random.default_rng(0).standard_normal((steps, 64, 64)).astype(np.float32)
        x = tg.tensor(values)
        return model, lambda: tg.square(model(x)[0]).mean()

    return made


def own_loop() -> Any:
    cell = Leaky(64, 256).to(np.float32)
    x = tg.tensor(np.random.default_rng(0).standard_normal((150, 128, 64)).astype(np.float32))

    def loss() -> Any:
        h, found = tg.zeros((128, 256)), tg.zeros(())
        for t in range(len(x)):
            y, h = cell.step(x[t], h)
            found = found + tg.square(y).mean()
        return found

    return cell, loss


MODELS = {
    "an unrolled LSTM": recurrent(lambda: rnn.LSTM(64, 256, unroll=True), 60),
    "replayed, both directions": recurrent(
        lambda: rnn.LSTM(64, 128, num_layers=3, bidirectional=True), 100
    ),
    "a wide network": network(
        lambda: nn.Linear(256, 2048), lambda: tg.tanh, lambda: nn.Linear(2048, 2048),
        lambda: nn.LayerNorm(2048), lambda: tg.relu, lambda: nn.Linear(2048, 10),
    ),
    "a loop of the user's": own_loop,
}  # fmt: skip


@pytest.fixture
def traced_memory() -> Iterator[None]:
    gc.collect()
    with POOL.lock:
        POOL.idle.clear()
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_those_of_tracemalloc(name: str, request: pytest.FixtureRequest) -> None:
    _, loss = MODELS[name]()
    loss().backward()  # now it is compiled
    del loss
    request.getfixturevalue("traced_memory")
    model, loss = MODELS[name]()
    with lab.profile() as p:
        value = loss()
        held, _ = tracemalloc.get_traced_memory()
        value.backward()
    _, peak = tracemalloc.get_traced_memory()
    assert held > 50 << 20
    assert p.peak.nbytes == pytest.approx(peak, rel=0.05)
    forward = [span.phase for span in p.spans].index("backward")
    changes = [change for change in p.changes if change.span < forward]
    assert sum(change.nbytes for change in changes) == pytest.approx(held, rel=0.05)
    parameters = [n for kind, n in p.peak.alive.items() if kind.what == "parameters"]
    assert sum(parameters) == sum(p.array.nbytes for p in model.parameters())
    assert sum(p.peak.alive.values()) == p.peak.nbytes == p.memory[1].max()
    assert p.peak_record is not None


def test_what_is_alive_is_told_by_layer() -> None:
    model = nn.Sequential(nn.Linear(300, 200), tg.tanh, nn.Linear(200, 100))
    with lab.profile() as p:
        y = model(tg.ones((50, 300)))
    alive = {(kind.what, kind.layer, kind.operation): n for kind, n in p.peak.alive.items()}
    assert alive == {
        ("parameters", "layers.0", "layers.0.weight"): 4 * 300 * 200,
        ("parameters", "layers.0", "layers.0.bias"): 4 * 200,
        ("inputs", "layers.0", ""): 4 * 50 * 300,
        ("results", "layers.0", "linear"): 4 * 50 * 200,
        ("results", "", "tanh"): 4 * 50 * 200,
        ("parameters", "layers.2", "layers.2.weight"): 4 * 200 * 100,
        ("parameters", "layers.2", "layers.2.bias"): 4 * 100,
        ("results", "layers.2", "linear"): 4 * 50 * 100,
    } | {key: n for key, n in alive.items() if key[0].startswith("idle")}
    assert y.shape == (50, 100)
    early = p.changes[:4]  # parameters were there before the record that reads them first
    assert all(c.kind.what == "parameters" and c.seconds == 0 for c in early)
    assert p.peak_record is p.spans[-1]
    assert "set by linear, forward (layers.2, test_profile.py:" in str(p)


def test_gradients_are_alive_afterwards() -> None:
    """The gradient of a sum is a view of one number, and in ``.grad`` a copy of its own."""
    w = draw(1000, requires_grad=True)
    with lab.profile() as p:
        w.sum().backward()
        before = draw(3) + 1.0
        w.grad = None
        w.sum().backward()
    assert before.shape == (3,)
    sizes = [change.nbytes for change in p.changes if change.kind.operation == ""]
    assert [n for n in sizes if abs(n) == 8000] == [8000, 8000, -8000, 8000]


def test_views_have_no_bytes_of_their_own() -> None:
    x = draw(6, 4, requires_grad=True)
    with lab.profile() as p:
        tg.tanh(x).reshape(3, 8).swapaxes(0, 1)[2].sum().backward()
    made = {(span.operation, span.phase): span.nbytes for span in p.spans}
    assert made["tanh", "forward"] == 6 * 4 * 8
    assert made["reshape", "forward"] == made["transpose", "forward"] == 0


@pytest.mark.parametrize("unroll", [False, True])
def test_nothing_is_kept_alive(unroll: bool) -> None:
    model, x = randomise(Model(unroll)), draw(T, B, I)
    with lab.profile() as p:
        y = model(x)
        dead = [weakref.ref(y.array), weakref.ref(y.record.inputs[0].array)]
        loss = tg.square(y).sum()
        del y
        loss.backward()
        assert all(ref() is None for ref in dead)
        leaves = [weakref.ref(parameter.array) for parameter in model.parameters()]
        del model, loss
    gc.collect()
    assert all(ref() is None for ref in leaves)
    assert p.spans


# Inside replayed loops


@pytest.mark.parametrize("jit", [False, True])
def test_parts_of_a_loop_have_their_lines(jit: bool) -> None:
    model, x = randomise(Model()), draw(T, B, I)
    with replay.using(jit=jit):
        profiled(model, x)
        before = compiled_programs()
        p = profiled(model, x)
        assert compiled_programs() == before  # what is looked into is what ran
        loops = p.inside()
    assert not loops.failed
    scans = [span for span in p.spans if span.operation == "scan"]
    assert sum(part.seconds for part in loops.parts) == pytest.approx(sum(s.own for s in scans))
    mine = [part for part in loops.parts if part.layer == "encoder.backward_layer.cell"]
    second, first = line_of("h = tg.tanh(a + state"), line_of("a = tg.linear(x, self.w)")
    forward = {part.kind: part for part in mine if part.phase == "forward" and part.lines}
    assert [*forward] == ["before", "product", "kernel"]
    assert forward["before"].lines == (first,)
    assert forward["before"].what == f"matmul ({B}, {H})"
    assert forward["before"].multiply_adds == T * B * I * H
    inner, elementwise = forward["product"], forward["kernel"]
    assert inner.lines == elementwise.lines == (second,)
    assert inner.multiply_adds == T * B * H * H
    assert inner.nbytes == T * 8 * (2 * B * H + H * H)
    assert inner.what == f"({B}, {H}) @ ({H}, {H})"
    assert "tanh" in elementwise.what
    back = [part for part in mine if part.phase == "backward"]
    assert {part.kind for part in back} >= {"product", "kernel", "after"}
    gradients = {part.of: part for part in back if part.of}
    names = {f"encoder.backward_layer.cell.{name}" for name in "wv"}
    assert {*gradients} == names  # x wants none
    assert [gradients[name].lines for name in sorted(names)] == [(second,), (first,)]
    assert [gradients[name].multiply_adds for name in sorted(names)] == [
        T * B * H * H, T * B * I * H,
    ]  # fmt: skip
    assert {line for part in back for line in part.lines} == {first, second}
    assert any("lstm.py:" in line for part in loops.parts for line in part.lines)
    assert "the inputs" in {part.of for part in loops.parts if part.layer == "lstm.l0"}
    assert p.inside() is loops
    assert max(map(len, str(loops).splitlines())) <= 110


def test_gradients_keep_their_names_where_one_is_summed_in_the_loop() -> None:
    back = tg.primitive("back", lambda xp, g, x: (g * x).sum(0))
    gain = tg.primitive(  # without a batching rule it stays in the loop, and so does its gradient
        "gain", lambda xp, x, w: x * w, [lambda g, y, x, w: g * w, lambda g, y, x, w: back(g, x)]
    )

    class Gained(Leaky):
        def __init__(self) -> None:
            self.gain = nn.Parameter(np.ones(H))
            super().__init__()

        def step(self, x: Any, state: Any) -> Any:
            return super().step(x, gain(state, self.gain))

    p = profiled_layer(randomise(rnn.Recurrent(Gained())))
    parts = [part for part in p.inside().parts if part.phase == "backward"]
    assert {part.of for part in parts} == {"cell.w", "cell.v", ""}
    assert [part.what for part in parts if part.kind == "call"].count("back") == 1


def profiled_layer(layer: nn.Module) -> lab.Profile:
    with lab.profile() as p:
        layer(draw(T, B, I))[0].sum().backward()
    return p


def compiled_programs() -> list[tuple[Any, ...]]:
    return [
        (len(known._inference), len(known._training), len(known._backward))
        for known in CACHE.known.values()
    ]


@pytest.mark.parametrize("mode", ["checkpoint", "no gradient", "stream"])
def test_loops_run_otherwise(mode: str, device: str) -> None:
    checkpoint = 5 if mode == "checkpoint" else None
    layer = randomise(rnn.LSTM(I, H, checkpoint=checkpoint)).to(device)
    x = draw(T, B, I, device=device)
    with lab.profile() as p:
        if mode == "checkpoint":
            layer(x)[0].sum().backward()
        else:
            with tg.no_grad():
                layer(x) if mode == "no gradient" else layer.step(x[0])
    phases = {part.phase for part in p.inside().parts}
    checkpointed = {"forward", "computed again", "backward"}
    assert phases == (checkpointed if mode == "checkpoint" else {"forward"})
    lengths = {piece.steps: piece.times for span in p.spans for piece in span.pieces}
    want = {"checkpoint": {5: 2, 2: 1}, "no gradient": {T: 1}, "stream": {1: 1}}
    assert lengths == want[mode]


def test_a_loop_that_refuses_random_numbers_is_told() -> None:
    def picky(xp: Any, x: Any) -> Any:
        if xp.any(x < 0):
            raise ValueError("no negative numbers")
        return xp.sqrt(x)

    root = tg.primitive("root", picky, [lambda g, y, x: g / (2.0 * y)])
    with lab.profile() as p:
        tg.scan(lambda x, h: (h, root(h + x)), tg.ones((T, B)), tg.ones(B))
    loops = p.inside()
    assert loops.parts == ()
    assert "not looked into, since on random numbers" in str(loops)


# Written and drawn


def test_chrome_opens_the_trace(tmp_path: Path) -> None:
    """By the format's document: complete events, metadata, counters; microseconds; nested."""
    p = profiled(randomise(Model()), draw(T, B, I))
    p.inside()
    trace = json.loads(p.to_chrome(tmp_path / "trace.json").read_text("utf-8"))
    assert trace["displayTimeUnit"] == "ms"
    events = trace["traceEvents"]
    for event in events:
        assert {"ph", "name", "pid", "tid", "ts", "args"} <= {*event}
        assert event["ph"] in ("X", "M", "C")
        assert all(type(event[key]) is int for key in ("pid", "tid"))
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
    slices = [event for event in events if event["ph"] == "X"]
    assert all(event["dur"] >= 0 and event["cat"] in ("forward", "backward") for event in slices)
    assert max(event["ts"] + event["dur"] for event in slices) <= 1e6 * p.seconds + 1e-3
    records = [event for event in slices if "scaled" not in event["args"]]
    assert [event["name"] for event in records] == [span.operation for span in p.spans]
    times = [(1e-6 * event["ts"], 1e-6 * event["dur"]) for event in records]
    np.testing.assert_allclose(times, [(span.start, span.seconds) for span in p.spans], atol=1e-8)
    parts = [event for event in slices if "scaled" in event["args"]]
    scans = [event for event in records if event["name"] == "scan"]
    for part in parts:
        assert any(
            scan["tid"] == part["tid"]
            and scan["ts"] - 0.01 <= part["ts"]
            and part["ts"] + part["dur"] <= scan["ts"] + scan["dur"] + 0.01
            for scan in scans
        )
    lengths = sum(part["dur"] for part in parts), sum(scan["dur"] for scan in scans)
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-3)
    alive = [event["args"]["bytes alive"] for event in events if event["ph"] == "C"]
    assert max(alive) == p.peak.nbytes


def test_tables_are_written(tmp_path: Path) -> None:
    p = profiled(randomise(Model()), draw(T, B, I))
    with p.to_csv(tmp_path / "profile.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(p.seconds, abs=1e-6)
    assert sum(int(row["bytes"] or 0) for row in rows) == sum(span.nbytes for span in p.spans)
    assert {row["phase"] for row in rows} == {"forward", "backward", ""}
    loops = p.inside()
    with loops.to_csv(tmp_path / "loops.csv").open(newline="") as file:
        parts = [*csv.DictReader(file)]
    assert [part["kind"] for part in parts] == [part.kind for part in loops.parts]


def test_the_picture_says_what_takes_most(tmp_path: Path) -> None:
    p = profiled(randomise(Model()), draw(T, B, I))
    assert [panel.name for panel in p.picture().panels] == ["layers", "operations", "memory"]
    p.inside()
    picture = p.picture()
    assert [panel.name for panel in picture.panels] == ["layers", "operations", "loops", "memory"]
    assert p.by_layer()[0].name in picture.panels[0].title
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for panel in picture.panels[:3]:
        figure = Figure(figsize=(7, 5))
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        panel.draw(axes)
        figure.canvas.draw()
        legend = axes.get_legend().get_window_extent()
        assert not any(legend.overlaps(bar.get_window_extent()) for bar in axes.patches)
    (path,) = picture.save(tmp_path / "profile.png")
    assert path.stat().st_size > 10_000
