"""A monitor beside training: lab/monitoring, its measures, its page."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, optim, rnn, training

STEPS, BATCH = 50, 4


class Model(nn.Module):
    """Three LSTM layers, a cell of the user's and a loop of the user's; dropout, batch norm."""

    def __init__(self) -> None:
        self.lstm = rnn.LSTM(3, 6, 3, dropout=0.2)
        self.both = rnn.Bidirectional(
            rnn.Recurrent(rnn.GRUCell(6, 5)), rnn.Recurrent(rnn.GRUCell(6, 5))
        )
        self.own = rnn.Recurrent(Own(10, 7), unroll=True)
        self.norm, self.head = nn.BatchNorm1d(7), nn.Linear(7, 2)

    def forward(self, x: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        y, state = self.lstm(x, state)
        y, _ = self.both(y)
        h, last = None, y[0]
        for t in range(len(y)):
            last, h = self.own.step(y[t], h)
        return self.head(self.norm(last)), state


class Own(rnn.Cell):
    """A cell of the user's with one gate."""

    def __init__(self, inputs: int, units: int) -> None:
        self.input_size, self.hidden_size = inputs, units
        self.gate, self.new = nn.Linear(inputs + units, units), nn.Linear(inputs, units)

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, self.hidden_size)

    def step(self, x: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        k = tg.sigmoid(self.gate(tg.concat([x, state], -1)))
        rnn.note(k=k)
        h = k * state + (1 - k) * tg.tanh(self.new(x))
        return h, h


class Plain(nn.Module):
    """No recurrence at all."""

    def __init__(self) -> None:
        self.layers = nn.Sequential(nn.Linear(3, 8), tg.tanh, nn.Dropout(0.5), nn.Linear(8, 2))

    def forward(self, x: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        return self.layers(x[-1]), None


def a_trainer(
    folder: Path,
    *callbacks: training.Callback,
    kind: Callable[[], Any] = Model,
    clip: float = 1.0,
    lr: float = 0.01,
    count: int = 5,
    bad: int | None = None,
    **options: Any,
) -> training.Trainer:
    """Classes of random sequences; batch ``bad`` holds nan."""
    tg.manual_seed(7)
    random = np.random.default_rng(7)
    model = kind()
    x = random.standard_normal((count, STEPS, BATCH, 3)).astype(np.float32)
    if bad is not None:
        x[bad] = np.nan
    batches = [(x[k], random.integers(0, 2, BATCH)) for k in range(count)]

    def loss(batch: Any, state: Any) -> tuple[tg.Tensor, Any]:
        scores, state = model(tg.tensor(batch[0]), state)
        return nn.cross_entropy(scores, batch[1]), state

    optimizer = optim.Adam(model.parameters(), lr=lr, clip=optim.ClipNorm(clip))
    return training.Trainer(
        model, optimizer, loss, batches, folder=folder, callbacks=callbacks, progress=False,
        **options,
    )  # fmt: skip


def rows(folder: Path) -> list[tuple[int, str, str, float]]:
    with open(folder / "monitor.csv", newline="") as file:
        return [
            (int(r["update"]), r["quantity"], r["name"], float(r["value"]))
            for r in csv.DictReader(file)
        ]


def values(folder: Path, quantity: str, update: int) -> dict[str, float]:
    return {n: v for u, q, n, v in rows(folder) if (u, q) == (update, quantity)}


@pytest.mark.parametrize("kind", [Model, Plain])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_computes_the_same_bits(tmp_path: Path, kind: Any, accumulate: int) -> None:
    """With dropout, batch norm and a state from batch to batch; generator and rows, too."""
    found = []
    for name, callbacks in (("without", []), ("with", [lab.Monitor(every=1, share=1)])):
        trainer = a_trainer(tmp_path / name, *callbacks, kind=kind, accumulate=accumulate)
        trainer.fit(updates=8)
        metrics = training.read_metrics(tmp_path / name / "metrics.csv")
        told = [{k: v for k, v in row.items() if k != "seconds"} for row in metrics]
        found.append((trainer.checkpoint(), told))
    (one, told), (other, told_too) = found
    assert told == told_too
    assert one.generator == other.generator
    for a, b in ((one.model, other.model), (one.optimizer["arrays"], other.optimizer["arrays"])):
        assert a.keys() == b.keys()
        for key, value in a.items():
            np.testing.assert_array_equal(value, b[key])
    for a, b in zip(tg.tape.leaves(one.state), tg.tape.leaves(other.state), strict=True):
        np.testing.assert_array_equal(a, b)


class Probe(training.Callback):
    """What the numbers of an update are, found by hand."""

    def on_start(self, trainer: training.Trainer) -> None:
        self.before = {p.name: p.numpy().copy() for p in trainer.model.parameters()}
        self.found: dict[int, dict[str, tuple[float, float, float]]] = {}

    def on_update(self, trainer: training.Trainer, row: Any) -> None:
        norm = np.linalg.norm
        self.found[trainer.updates] = {
            p.name: (
                norm(p.grad.numpy()),
                norm(p.numpy()),
                norm(p.numpy() - self.before[p.name]) / norm(p.numpy()),
            )
            for p in trainer.model.parameters()
        }
        self.before = {p.name: p.numpy().copy() for p in trainer.model.parameters()}


def test_gradients_and_updates_are_those_of_the_update(tmp_path: Path) -> None:
    probe = Probe()
    trainer = a_trainer(tmp_path, probe, lab.Monitor(every=2, share=1), clip=0.05)
    trainer.fit(updates=6)
    assert sorted({update for update, *_ in rows(tmp_path)}) == [2, 4, 6]
    metrics = training.read_metrics(tmp_path / "metrics.csv")
    for update in (2, 4, 6):
        norms = values(tmp_path, "gradient norm", update)
        np.testing.assert_allclose(
            norms.pop("all parameters"), metrics[update - 1]["gradient_norm"]
        )
        sizes = values(tmp_path, "weight norm", update)
        ratios = values(tmp_path, "update / weight", update)
        assert norms.keys() == sizes.keys() == ratios.keys() == probe.found[update].keys()
        for name, (norm, size, ratio) in probe.found[update].items():
            found = norms[name], sizes[name], ratios[name]
            np.testing.assert_allclose(found, (norm, size, ratio), rtol=1e-4)
        assert values(tmp_path, "share of updates", update) == {"clipped": 1, "skipped": 0}
        assert values(tmp_path, "training", update) == {"loss": metrics[update - 1]["loss"]}


def test_saturation_and_ranges_are_those_of_the_forward_pass(tmp_path: Path) -> None:
    """Of the batch, the state and the parameters of that update, by ``record=``."""
    trainer = a_trainer(tmp_path, lab.Monitor(every=3, share=1))
    for p in trainer.model.lstm.parameters():
        p.data = 6 * p.numpy()
    trainer.fit(updates=2)
    model, (x, _) = trainer.model, trainer.epochs.following()[0]
    with lab.undisturbed.undisturbed(model), tg.no_grad():
        lstm = rnn.LSTM(3, 6).load(saved(model, tmp_path))
        _, _, inner = lstm(tg.tensor(x), first_layer(trainer.state), record=["i", "f", "g", "c"])
    trainer.fit(updates=3)
    found = values(tmp_path, "saturation", 3)
    for gate in "if":
        share = np.mean(inner[gate].numpy() < 0.1)
        assert share > 0.02
        np.testing.assert_allclose(found[f"lstm.l0 {gate} < 0.1"], share, atol=2e-3)
    share = np.mean(np.abs(inner["g"].numpy()) > 0.8)
    np.testing.assert_allclose(found["|lstm.l0 g| > 0.8"], share, atol=2e-3)
    ranges = values(tmp_path, "range", 3)
    np.testing.assert_allclose(ranges["lstm.l0 c max"], inner["c"].numpy().max(), rtol=1e-4)
    layers = {name.split()[0].strip("|") for name in found}
    assert layers == {
        "lstm.l0", "lstm.l1", "lstm.l2", "both.forward_layer.cell", "both.backward_layer.cell",
        "own.cell",
    }  # fmt: skip
    assert "head min" in ranges


def test_flow_is_that_of_the_next_batch(tmp_path: Path) -> None:
    """Norms at distances 0, 1, 2, 4, ..., by gradient_flow before that very update."""
    trainer = a_trainer(tmp_path, lab.Monitor(every=2, share=1))
    expected: dict[str, float] = {}

    class Before(training.Callback):
        def on_update(self, trainer: training.Trainer, row: Any) -> None:
            if trainer.updates != 1:
                return
            batch, state = trainer.epochs.following()[0], trainer.state
            flow = lab.gradient_flow(trainer.model, lambda: trainer.loss(batch, state)[0], row=None)
            for layer in flow.layers.values():
                for name, series in layer.norms.items():
                    for back, value in zip(layer.back, series, strict=True):
                        expected[f"{layer.name} {name} @ {back}"] = value

    trainer.callbacks.append(Before())
    trainer.fit(updates=2)
    found = values(tmp_path, "flow", 2)
    assert {name.split()[0] for name in found} == {name.split()[0] for name in expected}
    assert {int(n.rpartition(" ")[2]) for n in found} == {0, 1, 2, 4, 8, 16, 32, STEPS - 1}
    for name, value in found.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5)
    assert max(found.values()) > 1e-3
    plain = a_trainer(tmp_path / "plain", lab.Monitor(every=1, share=1, flow=False))
    plain.fit(updates=1)
    assert not values(tmp_path / "plain", "flow", 1)


def saved(model: Any, folder: Path) -> Path:
    """The first of its layers, in a file."""
    weights = {k: v for k, v in model.lstm.state_dict().items() if k.endswith("l0")}
    layer = rnn.LSTM(3, 6)
    layer.load_state_dict(weights)
    layer.save(folder / "l0.safetensors")
    return folder / "l0.safetensors"


def first_layer(state: Any) -> Any:
    return None if state is None else tuple(part[:1] for part in state)


def test_what_it_costs_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock in which an update takes 1 second and a look 2: 10 % is a look in 20 seconds."""
    clock = [0.0]

    class Slow(training.Callback):
        def on_update(self, trainer: training.Trainer, row: Any) -> None:
            clock[0] += 1.0

    monitor = lab.Monitor(every=5, share=0.1)
    begin, finish = monitor._begin, monitor._finish
    monkeypatch.setattr(monitor, "_begin", lambda *a: (begin(*a), tick(1.5)))
    monkeypatch.setattr(monitor, "_finish", lambda *a: (finish(*a), tick(0.5)))

    def tick(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    trainer = a_trainer(tmp_path, Slow(), monitor, kind=Plain)
    trainer.fit(updates=250)
    looks = sorted({update for update, *_ in rows(tmp_path)})
    assert looks[0] == 5
    assert looks[1] > 100  # of the second it is thought that it takes six times as long: with flow
    assert np.diff(looks).min() >= 5
    for k, update in enumerate(looks[1:], 2):
        assert 2 * k <= 0.1 * (update + 2 * k)
    assert monitor.looks == len(looks) >= 10
    assert monitor.seconds == pytest.approx(2 * len(looks))
    assert monitor.seconds <= 0.1 * trainer.seconds


def test_a_run_that_is_resumed_goes_on(tmp_path: Path) -> None:
    """Rows of a future that was given up are dropped; a run without a monitor may get one."""
    options: Any = {"kind": Plain, "checkpoint_every": 4}
    first = lab.Monitor(every=2, share=1)
    a_trainer(tmp_path, first, **options).fit(updates=8)
    kept = rows(tmp_path)
    again = lab.Monitor(every=2, share=1)
    trainer = a_trainer(tmp_path, again, **options)
    trainer.resume(tmp_path / "checkpoint-00000004.safetensors")
    trainer.fit(updates=5)
    assert [row for row in kept if row[0] <= 4] == rows(tmp_path)
    assert again.looks == 2
    assert again.seconds >= [v for u, q, _, v in kept if (u, q) == (4, "cost")][0]  # noqa: RUF015
    trainer.fit(updates=8)
    compared = ("weight norm", "gradient norm", "range", "training")
    assert [r for r in kept if r[1] in compared] == [r for r in rows(tmp_path) if r[1] in compared]
    bare = a_trainer(tmp_path / "bare", **options)
    bare.fit(updates=4)
    late = a_trainer(tmp_path / "bare", lab.Monitor(every=2, share=1), **options)
    late.resume(training.Checkpoint.latest(tmp_path / "bare"))
    late.fit(updates=8)
    assert sorted({update for update, *_ in rows(tmp_path / "bare")}) == [5, 7]


def test_a_run_that_ends_in_nan(tmp_path: Path) -> None:
    """The loss at a bad batch is nan: training fails as ever, and the page says why."""
    trainer = a_trainer(tmp_path, lab.Monitor(every=1, share=1), bad=3)
    with pytest.raises(training.NonFiniteLossError, match="the loss is nan at update 4"):
        trainer.fit(updates=8)
    text = (tmp_path / "monitor.html").read_text()
    assert "failed: Trainer: the loss is nan at update 4; batch" in text
    assert "refresh" not in text
    assert values(tmp_path, "weight norm", 4)


def test_skipped_updates_and_gradients_that_are_not_finite(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, lab.Monitor(every=1, share=1), kind=Plain)
    trainer.optimizer.nonfinite = "skip"
    names = [name for name, _ in trainer.model.named_parameters()]
    given = trainer.loss

    def loss(batch: Any, state: Any) -> Any:
        value, state = given(batch, state)
        if trainer.updates == 3:  # sqrt at 0: finite forward, infinite backward
            value = value + tg.sqrt(0 * trainer.model.layers.layers[0].bias).sum()
        return value, state

    trainer.loss = loss
    with np.errstate(all="ignore"):
        trainer.fit(updates=4)
    norms = values(tmp_path, "gradient norm", 4)
    assert not np.isfinite(norms["layers.layers.0.bias"])
    assert np.isfinite(norms["layers.layers.3.bias"])
    assert values(tmp_path, "share of updates", 4)["skipped"] == 1
    text = (tmp_path / "monitor.html").read_text()
    assert "gradient norm is not finite: layers.layers.0.bias" in text
    assert "100% of the updates since the look before were skipped" in text
    assert set(names) <= set(norms)


def test_a_loss_scale_is_taken_out(tmp_path: Path) -> None:
    found = []
    for scale in (None, optim.LossScale(start=2.0**10)):
        folder = tmp_path / str(scale)
        trainer = a_trainer(folder, lab.Monitor(every=2, share=1), kind=Plain)
        trainer.optimizer.loss_scale = scale
        trainer.optimizer.nonfinite = "skip"
        trainer.fit(updates=2)
        found.append(values(folder, "gradient norm", 2))
    for name, value in found[0].items():
        np.testing.assert_allclose(found[1][name], value, rtol=1e-4)


def test_the_page(tmp_path: Path) -> None:
    """While the run goes on it loads itself again; nothing from elsewhere; names are escaped."""
    seen: list[str] = []

    class Reader(training.Callback):
        def on_update(self, trainer: training.Trainer, row: Any) -> None:
            if (tmp_path / "monitor.html").exists():
                seen.append((tmp_path / "monitor.html").read_text())

    trainer = a_trainer(tmp_path, lab.Monitor(every=2, share=1), Reader())
    trainer.model.head.weight.name = "<script>alert('&')</script>"
    trainer.fit(updates=4)
    assert '<meta http-equiv="refresh" content="15">' in seen[0]
    text = (tmp_path / "monitor.html").read_text()
    assert "refresh" not in text
    assert "finished" in text
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r"https?://|src=|@import|url\(", text)
    pictures = re.findall(r"<svg.*?</svg>", text)
    assert len([p for p in pictures if "aria-label" in p]) >= 7
    for picture in pictures:
        ElementTree.fromstring(picture)
    for title in ("Norms of gradients", "How far an update moves", "Saturated gates", "Clipped"):
        assert title in text


def test_a_chart_of_what_is_not_finite_or_not_positive() -> None:
    """Crosses for inf and nan; 0 at the lower edge of a logarithmic axis; nothing at all."""
    from tinygrad_rnn.lab.monitoring.line_chart import line_chart

    nan, inf = float("nan"), float("inf")
    series = {"a": [(1, 1.0), (2, inf), (3, 0.0), (4, nan), (5, 1e-9)], "b": [(1, nan)], "c": []}
    for logarithmic in (False, True):
        text = line_chart(series, "update", "norm", logarithmic)
        assert text.count("l10 10m0 -10l-10 10") == 3
        assert "a: inf at 2" in text
        assert "nan" not in re.sub(r"<title>.*?</title>|<b>.*?</b>", "", text)
        ElementTree.fromstring(text[: text.index("<ul>")])
    long = {"x": [(k, k % 7 + 0.5) for k in range(10_000)]}
    assert len(line_chart(long, "update", "norm")) < 10_000


def test_many_parameters_are_not_dropped_silently() -> None:
    from tinygrad_rnn.lab.monitoring.report import page

    found = [(u, "weight norm", f"p{k}", 1.0 + k * u) for u in (1, 2, 3) for k in range(40)]
    text = page("run", [], found, going_on=False)
    assert "12 of 40, those that have changed most; all are in the CSV file" in text
    assert all(f"<td>p{k}</td>" in text for k in range(40))


def test_what_is_refused(tmp_path: Path) -> None:
    for arguments in ({"every": 0}, {"share": 0}, {"share": 1.5}, {"share": "5%"}):
        with pytest.raises((ValueError, TypeError), match=r"^Monitor: (every|share) must be"):
            lab.Monitor(**arguments)
    trainer = a_trainer(tmp_path / "run", lab.Monitor(every=1, share=1), kind=Plain)
    (tmp_path / "run" / "monitor.html").mkdir(parents=True)
    with pytest.raises(OSError, match=r"^Monitor: cannot write '.*monitor.html': "):
        trainer.fit(updates=3)
