"""Looking at what is rare: kinds of models, losses and texts at the edges of flow, units, surface,
monitor.
"""

from __future__ import annotations

import csv
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise, total

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn, training
from tinygrad_rnn.lab.monitoring.line_chart import line_chart

T, B, I, H = 6, 2, 3, 4


class Named(nn.Module):
    """A cell called ``model``, which is also what is outside of all layers; a first state that is
    learned.
    """

    def __init__(self) -> None:
        self.model = rnn.GRUCell(I, H)
        self.first, self.last = nn.Parameter(np.ones((1, H))), nn.Parameter(np.ones((H, 2)))

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        h = tg.tile(self.first, (x.shape[1], 1))
        for x_t in x:
            _, h = self.model(x_t, h)
        return h @ self.last


def test_a_weight_outside_of_a_loop_of_the_same_name() -> None:
    model, x = randomise(Named()), draw(T, B, I)

    def loss() -> tg.Tensor:
        return tg.sum(tg.square(model(x)))

    for name in ("first", "last"):
        found = lab.contributions(model, loss, name)
        assert list(found.parts or {}) == ["model, outside of its steps"]
        np.testing.assert_allclose(found.values.sum(axis=0), found.gradient, rtol=1e-12)
    flow = lab.gradient_flow(model, loss)
    assert set(flow["model"].contributions) == {name for name, _ in model.named_parameters()} - {
        "first",
        "last",
    }


def test_gradients_whose_squares_vanish_in_float32() -> None:
    layer, x = randomise(rnn.RNN(I, H), scale=0.05).to("float32"), draw(T * 5, B, I).to("float32")

    def loss() -> tg.Tensor:
        return tg.sum(layer(x)[0][-1])

    found = lab.contributions(layer, loss, "weight_ih_l0")
    wanted = [float(np.linalg.norm(v.astype(np.float64))) for v in found.values]
    assert 0 < min(wanted) < 1e-25
    assert found.norms["l0"] == pytest.approx(wanted, rel=1e-12, abs=0)
    norms = lab.contributions(layer, loss, "weight_ih_l0", norms=True).norms["l0"]
    assert norms == pytest.approx(wanted, rel=1e-12, abs=0)
    flow = lab.gradient_flow(layer, loss, row=None)["l0"]
    assert flow.contributions["weight_ih_l0"] == pytest.approx(wanted, rel=1e-12, abs=0)


def test_flow_in_float16(tmp_path: Path) -> None:
    layer = randomise(rnn.LSTM(I, H), scale=0.5).to("float16")
    x = draw(T, B, I).to("float16")
    flow = lab.gradient_flow(layer, lambda: total(layer(x)[0]))["l0"]
    wide = flow.jacobians.astype(np.float64)
    np.testing.assert_allclose(flow.singular_values, np.linalg.svd(wide, compute_uv=False))
    np.testing.assert_allclose(flow.eigenvalues, np.linalg.eigvals(wide))


def test_a_reversed_loop_that_goes_on() -> None:
    """Called for the later half, then for the earlier one with the state: as in one call."""
    layer = randomise(rnn.Recurrent(rnn.LSTMCell(I, H), reverse=True))
    x = draw(T, B, I)

    def halves() -> tg.Tensor:
        _, state = layer(x[4:])
        _, state = layer(x[:4], state)
        return total(state)

    whole = lab.gradient_flow(layer, lambda: total(layer(x)[1]))["cell reversed"]
    found = lab.gradient_flow(layer, halves)["cell reversed"]
    np.testing.assert_allclose(found.gradients["c"], whole.gradients["c"], rtol=1e-12)
    np.testing.assert_allclose(found.jacobians, whole.jacobians, rtol=1e-12)
    np.testing.assert_array_equal(found.back, whole.back)


def test_frozen_and_unused_parameters() -> None:
    layer: Any = rnn.GRU(I, H)
    x = tg.ones((T, B, I))
    other = nn.Parameter(np.ones(3, np.float32))
    model: Any = nn.Sequential(layer)
    model.other = other

    def loss() -> tg.Tensor:
        return total(layer(x)[0])

    found = lab.contributions(model, loss, other)
    assert found.parts == {}
    assert not found.gradient.any()
    with pytest.raises(ValueError, match=r"^contributions: the loss does not depend on other, so"):
        _ = found.values
    layer.weight_hh_l0.requires_grad = layer.bias_hh_l0.requires_grad = False
    with pytest.raises(ValueError, match=r"^contributions: \S*weight_hh_l0 is frozen, so"):
        lab.contributions(model, loss, layer.weight_hh_l0)
    parts = [*lab.gradient_flow(layer, loss)["l0"].contributions]
    assert parts == ["weight_ih_l0", "bias_ih_l0"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_flow_of_a_model_that_is_not_finite(value: float, tmp_path: Path) -> None:
    """Numbers and a picture all the same: where they are finite, and nan."""
    layer: Any = randomise(rnn.RNN(I, H, nonlinearity="relu"))
    layer.weight_ih_l0.data = abs(layer.weight_ih_l0.detach())
    x = abs(draw(T, B, I)).at[3, 0, 0].set(value)

    def loss() -> tg.Tensor:
        return total(layer(x)[0])

    with np.errstate(all="ignore"):
        flow = lab.gradient_flow(layer, loss)["l0"]
    assert flow.jacobians is not None
    good = np.isfinite(flow.jacobians).all(axis=(1, 2))
    assert good[:3].all()
    wanted = np.linalg.svd(flow.jacobians[:3], compute_uv=False)
    np.testing.assert_allclose(flow.singular_values[:3], wanted)
    assert np.isnan(flow.singular_values[~good]).all()
    assert np.isnan(flow.eigenvalues[~good]).all()
    assert flow.products(1, T).shape == (2, H)
    layer.weight_hh_l0.data = layer.weight_hh_l0.detach().at[0, 0].set(value)
    with np.errstate(all="ignore"):
        found = lab.gradient_flow(layer, loss)
    assert not np.isfinite(found["l0"].products(T)).any()
    found.picture().save(tmp_path / "flow.svg")


def test_a_picture_of_sequences_without_a_step(tmp_path: Path) -> None:
    layer = rnn.LSTM(I, H)
    found = lab.gradient_flow(layer, lambda: total(layer(tg.ones((T, B, I)), lengths=[0, 0])[0]))
    found.picture().save(tmp_path / "flow.svg")


def test_names_in_tables(tmp_path: Path) -> None:
    """Names of layers are any text, in dicts."""

    class Model(nn.Module):
        def __init__(self) -> None:
            self.parts: dict[str, Any] = {'a,"b"': rnn.GRU(I, H)}

    model, x = Model(), tg.ones((T, B, I))
    layer = model.parts['a,"b"']

    def loss() -> tg.Tensor:
        return total(layer(x)[0])

    flow = lab.gradient_flow(model, loss).to_csv(tmp_path / "flow.csv")
    parts = lab.contributions(model, loss, layer.weight_hh_l0).to_csv(tmp_path / "parts.csv")
    for path in (flow, parts):
        with open(path, newline="") as file:
            lines = [*csv.DictReader(file)]
        assert {line["layer"] for line in lines} == {'parts.a,"b".l0'}
        assert not any(None in line for line in lines)


class Carrying(nn.Module):
    """A model that keeps its state from call to call, and counts these."""

    def __init__(self) -> None:
        self.layer: Any = rnn.GRU(I, H)
        self.state: Any = None
        self.calls = 0

    def forward(self, x: Any) -> tg.Tensor:
        y, state = self.layer(x, self.state)
        self.state, self.calls = state.detach(), self.calls + 1
        return y


@pytest.mark.parametrize("fails", [False, True])
def test_a_state_that_the_model_carries_is_as_it_was(fails: bool) -> None:
    x = tg.ones((T, B, I))
    model: Any = Carrying()
    model(x)
    before = {**vars(model)}

    def loss() -> tg.Tensor:
        value = tg.sum(model(x))
        model.late = 3
        if fails:
            raise RuntimeError("broken")
        return value

    looks: list[Any] = [
        lambda: lab.gradient_flow(model, loss),
        lambda: lab.contributions(model, loss, model.layer.weight_hh_l0),
        lambda: lab.surface(loss, model, points=2),
        lambda: lab.units(model, loss),
    ]
    for look in looks:
        with pytest.raises(RuntimeError, match="broken") if fails else nullcontext():
            look()
        assert vars(model).keys() == before.keys()
        assert all(value is before[name] for name, value in vars(model).items())


def trainer(folder: Path, model: Any, batches: Any, loss: Any, *callbacks: Any) -> Any:
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return training.Trainer(
        model, optimizer, loss, batches, folder=folder, callbacks=callbacks, progress=False
    )


class Noisy:
    """Batches with noise that is drawn when they are asked for."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, k: int) -> tg.Tensor:
        return tg.randn((T, B, I)) + k


def test_a_monitor_leaves_the_bits_to_a_model_that_carries_and_batches_that_draw(
    tmp_path: Path,
) -> None:
    found = []
    for monitors in ([], [lab.Monitor(every=1, share=1)]):
        tg.manual_seed(4)
        model = Carrying()
        run = trainer(
            tmp_path / str(len(monitors)), model, Noisy(),
            lambda x, _, model=model: (tg.mean(tg.square(model(x))), None), *monitors,
        )  # fmt: skip
        run.fit(updates=5)
        found.append([p.numpy() for p in model.parameters()])
    for plain, looked in zip(*found, strict=True):
        np.testing.assert_array_equal(plain, looked)


def test_a_layer_that_is_called_with_several_batches(tmp_path: Path) -> None:
    layer = rnn.GRU(I, H)
    x, y = tg.ones((T, B, I)), tg.ones((4, 3, I))

    def loss(_: Any, state: Any) -> tuple[tg.Tensor, Any]:
        return total(layer(x)[0]) + total(layer(y)[0]), None

    found = lab.units(layer, lambda: loss(None, None))
    assert found.array("h", "l0").shape == (T, B, H)
    assert found.array("h", "l0 (2)").shape == (4, 3, H)
    np.testing.assert_allclose(found.array("h", "l0 (2)"), layer(y)[0].numpy(), atol=1e-6)
    run = trainer(tmp_path / "run", layer, [0], loss, lab.Monitor(every=1, share=1))
    assert run.fit(updates=2) == "finished"


def test_units_of_one_layer_in_both_directions() -> None:
    layer = randomise(rnn.Recurrent(rnn.GRUCell(I, H)))
    model, x = rnn.Bidirectional(layer, layer), draw(T, B, I)
    found = lab.units(model, x)
    _, _, (forward, backward) = model(x, record=["h", "z"])
    first, second = found.layers.values()
    assert second.layer == f"{first.layer} reversed"
    assert second.reverse
    for inner, values in ((first, forward), (second, backward)):
        for name in ("h", "z"):
            np.testing.assert_allclose(inner.values[name], values[name].numpy(), rtol=1e-12)


class Translator(nn.Module):
    """An encoder, and a decoder of fewer steps."""

    def __init__(self) -> None:
        self.encoder, self.decoder = rnn.GRU(I, H), rnn.GRU(I, H)

    def forward(self, x: Any) -> Any:
        _, state = self.encoder(x)
        return self.decoder(x[:4], state)


def test_units_of_layers_with_different_steps(tmp_path: Path) -> None:
    found = lab.units(Translator(), draw(T, 4, I).to("float32"), tokens="abcdef")
    assert found.strip("h", layer="encoder.l0").tokens == tuple("abcdef")
    assert found.strip("h", layer="decoder.l0").tokens == tuple("0123")
    found.over_time(1).save(tmp_path / "lines.svg")
    told = found.telling(np.array([True, True, False, False]), count=99)
    assert {unit.layer for unit in told} == {"encoder.l0"}
    told = found.telling(np.tile([True, True, False, False], (4, 1)), count=99)
    assert {unit.layer for unit in told} == {"decoder.l0"}


class Reader(nn.Module):
    """Reads characters, with the batch first."""

    def __init__(self) -> None:
        self.embedding, self.layer = nn.Embedding(9, I), rnn.GRU(I, H, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.layer(self.embedding(x))


def test_units_of_a_model_with_the_batch_first() -> None:
    vocabulary = data.Vocabulary.of("abcdef")
    found = lab.units(Reader(), "badcab", vocabulary=vocabulary)
    assert found.array("h").shape == (6, 1, H)
    assert found.tokens == (tuple("badcab"),)
    x = np.array([vocabulary.encode(word) for word in ("bad", "cab", "fed")])
    assert lab.units(Reader(), x, vocabulary=vocabulary).tokens == (
        tuple("bad"), tuple("cab"), tuple("fed"),
    )  # fmt: skip


def test_a_unit_that_is_not_finite(tmp_path: Path) -> None:
    x = draw(T, 1, I).to("float32").at[3].set(float("nan"))
    found = lab.units(rnn.GRU(I, H), x)
    strip = found.strip("h")
    assert [*strip.signs()[3:]] == ["!"] * 3
    assert "!" not in strip.signs()[:3]
    assert np.isfinite(strip.scale)
    assert found.strip("z").signs()[3:] == ["!"] * 3
    found.array("h")[1, 0, 0], found.array("z")[1, 0, 0] = np.inf, np.inf
    assert found.strip("h").signs()[1] == "#"
    assert found.strip("z").signs()[1] == "9"
    strip.to_html(tmp_path / "strip.html")
    strip.picture().save(tmp_path / "strip.svg")


def test_tokens_that_are_not_to_be_seen_or_wide(tmp_path: Path) -> None:
    x = draw(4, 1, I).to("float32")
    words = lab.units(rnn.GRU(I, H), x, tokens=["the", "\n", "\x1b[31m", "$a$"]).strip("h")
    assert len(str(words).splitlines()) == 3
    assert "\x1b" not in str(words)
    assert "\x1b" not in words.to_html(tmp_path / "words.html").read_text(encoding="utf-8")
    words.picture().save(tmp_path / "words.svg")
    strip = lab.units(rnn.GRU(I, H), x, tokens="\N{CJK UNIFIED IDEOGRAPH-65E5}a\u0301b").strip("h")
    _, read, signs = str(strip).splitlines()
    assert read == "\N{CJK UNIFIED IDEOGRAPH-65E5}a\N{DOTTED CIRCLE}\u0301b"
    one, two, three, four = strip.signs()
    assert signs == f"{one} {two}{three}{four}"


def test_units_that_are_refused() -> None:
    found = lab.units(rnn.GRU(I, H), draw(T, 4, I).to("float32"), tokens=iter("abcdef"))
    assert found.tokens[0] == tuple("abcdef")
    labels: Any = np.array([True, True, False, False])
    cases: list[tuple[Any, str]] = [
        (lambda: found.telling([True, [False]]), "Units.telling: labels must be booleans"),
        (lambda: found.telling(labels, count=0), "Units.telling: count must be a positive integer"),
        (lambda: found.telling(labels, slice(9, 10)), "Units.telling: expected both labels"),
        (lambda: found.over_time(H), "Units.over_time: unit 4 is out of range for 4"),
        (lambda: found.over_time(0, row=4), "Units.over_time: row 4 is out of range for 4"),
        (lambda: found.over_time(0, "l1"), "\"Units: no layer 'l1', only"),
        (
            lambda: lab.units(Reader(), "", vocabulary=data.Vocabulary.of("a")),
            "units: the text must have at least one character",
        ),
    ]
    for call, said in cases:
        with pytest.raises((ValueError, IndexError, KeyError), match=f"^{said}"):
            call()


def test_a_path_that_ends_in_nan(tmp_path: Path) -> None:
    w = nn.Parameter(np.array([3.0, 1.0]))
    points = [[np.array([3.0, 2.0])], [np.array([1.0, np.inf])], [np.array([np.nan, np.nan])]]
    for directions in ([[np.array([1, 0])]], [[np.array([1, 0])], [np.array([0, 1])]]):
        found = lab.surface(lambda: tg.sum(tg.square(w)), [w], directions, points=3,
                            paths={"run": points})  # fmt: skip
        assert found.paths["run"][0] == pytest.approx([0, 1][: len(directions)])
        assert np.isnan(found.paths["run"][1:]).all()
        assert np.isnan(found.distances["run"][1:]).all()
        assert "3 points, up to" in str(found)
        assert "2 with inf or nan" in str(found)
        found.picture().save(tmp_path / "path.svg")


def test_surfaces_that_are_refused(tmp_path: Path) -> None:
    model = nn.Linear(I, H)
    x = tg.ones((B, I))
    with pytest.raises(KeyError, match="the model has no parameter 'bais', only"):
        lab.surface(lambda: total(model(x)), model, [{"weight": 1, "bais": 1}])
    cases: list[tuple[Any, str]] = [
        ({"directions": 3}, "directions must be a list of one or two, .* got int"),
        ({"directions": {"weight": 1}}, "directions must be a list of one or two, .* got dict"),
        ({"directions": [None]}, "a direction: expected a list or a dict of arrays, got NoneType"),
        ({"directions": [{"weight": "x"}]}, "a direction: expected numbers, got"),
        ({"directions": [{"weight": np.nan}]}, "a direction holds inf or nan"),
        ({"span": "ab"}, "span must be two rising numbers"),
        ({"span": (2, -2)}, "span must be two rising numbers"),
        ({"paths": [[1]]}, "paths must be a dict by name, got list"),
    ]
    for options, said in cases:
        with pytest.raises((TypeError, ValueError), match=f"^surface: {said}"):
            lab.surface(lambda: total(model(x)), model, points=2, **options)
    found = lab.surface(lambda: total(model(x)), model, points=1)
    with pytest.raises(ValueError, match=r"^Surface.picture: one point is no line .* points=2"):
        found.picture()


@pytest.mark.parametrize("values", [[1e17], [-3e200] * 2, [1.5e308, -1.5e308], [np.inf, 1e300]])
def test_charts_of_large_values(values: list[float]) -> None:
    """Such as the perplexity of a run that explodes, which must not end it."""
    text = line_chart({"it": [*enumerate(values)]}, "update", "it")
    assert "nan" not in text.replace("name", "")
    assert "<circle" in text
