"""The data of a page: what it says of values, cotangents, shares, uses, and of what it leaves out.

The page itself is opened in test_page_browser.py.
"""

# Calls that a type checker refuses too are the point of some tests.
# pyright: reportArgumentType=false

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn
from tinygrad_rnn.lab.page import content as page_content

T, B, I, H = 5, 2, 3, 4


class Written:
    """What a page says, read from its file."""

    def __init__(self, what: Any, folder: Path) -> None:
        self.path = lab.to_html(what, folder / "page.html")
        self.text = self.path.read_text("utf-8")
        _, _, rest = self.text.partition('<script type="application/json" id="content">')
        data, _, _ = rest.partition("</script>")
        self.content = json.loads(data)
        self.tape = self.content.get("tape")
        if self.tape is None:
            return
        self.rows = self.tape["rows"]
        self.count = len(self.rows["op"])
        self.first = np.cumsum([0, *self.rows["results"]])
        self.shares = decoded(self.tape["shares"], "<f8")

    def column(self, name: str, row: int) -> Any:
        """A text of a row."""
        number = self.rows[name][row]
        if name == "op":
            return "" if number < 0 else self.tape["operations"][number]["name"]
        return "" if number < 0 else self.tape["texts"][number]

    def find(self, name: str) -> list[int]:
        """The rows of an operation, or of a leaf, of that name."""
        return [
            k for k in range(self.count) if name in (self.column("op", k), self.column("name", k))
        ]

    def measures(self, kind: str) -> np.ndarray:
        """Min, mean, max and norm of all arrays."""
        return decoded(self.tape[kind]["numbers"], "<f8").reshape(-1, 4)

    def sample(self, kind: str, array: int) -> np.ndarray:
        """The elements of an array that are in the file."""
        part = self.tape[kind]
        starts = np.cumsum([0, *decoded(part["sizes"], "<u2")])
        found = decoded(part["samples"], "<i2")[starts[array] : starts[array + 1]]
        low, _, high, _ = self.measures(kind)[array]
        return (found * max(abs(low), abs(high)) / 32000).reshape(
            part["shapes"][part["shape"][array]]
        )

    def outlined(self) -> Iterator[int]:
        """The rows in the outline."""
        stack = [*reversed(self.tape["outline"])]
        while stack:
            item = stack.pop()
            if isinstance(item, int):
                yield item
            else:
                stack += reversed(item["items"])

    def titles(self) -> list[str]:
        """What the parts of the outline are called."""
        found: list[str] = []
        stack = [*reversed(self.tape["outline"])]
        while stack:
            item = stack.pop()
            if isinstance(item, dict):
                found.append(item["title"])
                stack += reversed(item["items"])
        return found


def decoded(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


class Model(nn.Module):
    """Two levels in both directions, and a head."""

    def __init__(self, unroll: bool) -> None:
        self.lstm = rnn.LSTM(I, H, num_layers=2, bidirectional=True, unroll=unroll)
        self.head = nn.Linear(2 * H, 3)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head(y[-1])


def loss_of(unroll: bool) -> Any:
    model = randomise(Model(unroll))
    with lab.look():
        return (model(draw(T, B, I)) ** 2).mean()


def test_values_and_cotangents_are_those_of_numpy(tmp_path: Path) -> None:
    x = draw(3, 4, requires_grad=True)
    y = tg.exp(x)
    z = (y * y).sum()
    page = Written(tg.Tape.of(z), tmp_path)
    (row,) = page.find("exp")
    array = int(page.first[row])
    for kind, want in (("values", np.exp(x.numpy())), ("cotangents", 2 * np.exp(x.numpy()))):
        have = page.measures(kind)[array]
        want_measures = [want.min(), want.mean(), want.max(), np.linalg.norm(want)]
        np.testing.assert_allclose(have, want_measures, rtol=1e-12)
        np.testing.assert_allclose(page.sample(kind, array), want, atol=want.max() / 60_000)
    gradient = page.measures("cotangents")[0]
    assert gradient[3] == pytest.approx(np.linalg.norm(2 * np.exp(2 * x.numpy())))
    assert x.grad is None
    z.backward()  # the tape is still there


def test_samples_of_large_arrays_are_at_even_distances(tmp_path: Path) -> None:
    x = tg.tensor(np.arange(60_000.0).reshape(300, 200), requires_grad=True)
    page = Written(tg.Tape.of((x * 2.0).sum()), tmp_path)
    found = page.sample("values", 0)
    assert found.size <= 1024
    rows = np.linspace(0, 299, found.shape[0]).round()
    columns = np.linspace(0, 199, found.shape[1]).round()
    want = rows[:, None] * 200 + columns
    np.testing.assert_allclose(found, want, atol=1.0)
    assert "at most 1024 elements" in page.tape["notes"][0]


def test_shares_of_two_ways(tmp_path: Path) -> None:
    x = draw(7, requires_grad=True)
    square, cube = x * x, x**3
    page = Written(tg.Tape.of((square + cube).sum()), tmp_path)
    v = x.numpy()
    gradient = 2 * v + 3 * v**2
    want = {"multiply": 2 * v, "power": 3 * v**2}
    for name, part in want.items():
        (row,) = page.find(name)
        assert page.shares[row] == pytest.approx(part @ gradient / (gradient @ gradient))
    for name in ("add", "sum"):
        assert page.shares[page.find(name)] == pytest.approx([1.0])


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Written, Written]:
    """The pages of a replayed and of an unrolled model of the same weights."""
    unrolled, replayed = (loss_of(unroll) for unroll in (True, False))
    return tuple(
        Written(tg.Tape.of(loss), tmp_path_factory.mktemp("pages")) for loss in (replayed, unrolled)
    )  # pyright: ignore[reportReturnType]


def by_place(page: Written) -> dict[Any, list[int]]:
    """The rows within loops by layer and step, in order."""
    found: dict[Any, list[int]] = {}
    for row in range(page.count):
        if page.rows["step"][row] >= 0:
            key = page.column("layer", row), page.rows["step"][row]
            found.setdefault(key, []).append(row)
    return found


def test_replayed_loops_show_what_unrolled_ones_do(both: tuple[Written, Written]) -> None:
    replayed, unrolled = map(by_place, both)
    assert set(replayed) == set(unrolled)
    assert len(replayed) == 4 * T
    for key, rows in replayed.items():
        others = unrolled[key]
        a, b = both
        assert [a.column("op", k) for k in rows] == [b.column("op", k) for k in others]
        assert [a.rows["reverse"][k] for k in rows] == [b.rows["reverse"][k] for k in others]
        np.testing.assert_allclose(a.shares[rows], b.shares[others], atol=1e-12)
        for kind in ("values", "cotangents"):
            one, other = a.measures(kind), b.measures(kind)
            for row, same in zip(rows, others, strict=True):
                have = one[a.first[row] : a.first[row + 1]]
                want = other[b.first[same] : b.first[same + 1]]
                np.testing.assert_allclose(have, want, rtol=1e-9, atol=1e-15)


def test_within_a_replayed_loop_rows_read_rows(both: tuple[Written, Written]) -> None:
    replayed, unrolled = both
    for page in both:
        rows = by_place(page)["lstm.l0", 2]
        before = by_place(page)["lstm.l0", 1]
        reads = page.rows["inputs"]
        # h and c of the step before
        assert reads[rows[1]][0] == before[-1]
        assert before[-3] in reads[rows[8]]
        assert [page.column("name", k) for k in reads[rows[1]][1:]] == [
            "lstm.weight_hh_l0", "lstm.bias_hh_l0",
        ]  # fmt: skip
    del replayed, unrolled


def test_uses_of_a_parameter_are_the_same_and_add_up(both: tuple[Written, Written]) -> None:
    for name in ("lstm.weight_hh_l0", "lstm.weight_ih_l1_reverse", "lstm.bias_ih_l0_reverse"):
        found: list[dict[int, Any]] = []
        for page in both:
            (row,) = page.find(name)
            rows, norms, shares = page.tape["uses"][str(row)]
            assert sum(shares) == pytest.approx(1, abs=1e-5)
            steps = [page.rows["step"][k] for k in rows]
            found.append(dict(zip(steps, zip(norms, shares, strict=True), strict=True)))
        assert sorted(found[0]) == [*range(T)]
        for t in range(T):
            assert found[0][t] == pytest.approx(found[1][t], rel=1e-4, abs=1e-7)


def test_leaves_share_the_whole(both: tuple[Written, Written]) -> None:
    for page in both:
        leaves = [k for k in range(page.count) if page.rows["op"][k] < 0]
        assert np.nansum(page.shares[leaves]) == pytest.approx(1)
        assert page.shares[page.count - 1] == pytest.approx(1)


def test_the_outline_has_every_row_once(both: tuple[Written, Written]) -> None:
    for page, title in zip(both, ("replayed loop of 5 steps", "time steps 0 ... 4"), strict=True):
        assert sorted(page.outlined()) == [*range(page.count)]
        assert title in page.titles()
        assert "l1_reverse" in page.titles()
    assert "time steps 4 ... 0" in both[1].titles()


def test_what_a_row_says_of_its_operation(both: tuple[Written, Written]) -> None:
    for page in both:
        row = page.find("tanh")[0]
        operation = page.tape["operations"][page.rows["op"][row]]
        assert "g * (1 - y * y)" in operation["rules"][0]["source"]
        place = page.column("equation", row)
        assert place.startswith("tinygrad_rnn/rnn/cells/lstm.py:")
        assert "sigmoid(i), sigmoid(f), act(g)" in page.tape["code"][place]
        assert "self.lstm(x)" in page.tape["code"][page.column("line", row)]


def test_a_loop_shows_how_it_is_compiled(both: tuple[Written, Written]) -> None:
    replayed, unrolled = both
    assert unrolled.content["loops"] == []
    titles = [loop["title"] for loop in replayed.content["loops"]]
    assert titles == ["lstm.l0", "lstm.l0_reverse", "lstm.l1", "lstm.l1_reverse"]
    assert replayed.content["stages_of"] == [0, 1, 2, 3]


def test_a_page_of_stages_alone(tmp_path: Path) -> None:
    for what in (rnn.GRU(I, H), lab.stages(rnn.GRU(I, H))):
        page = Written(what, tmp_path)
        (loop,) = page.content["loops"]
        forward, _ = loop["ways"]
        assert [stage["name"].partition(",")[0] for stage in forward["stages"]][-3:] == [
            "emitted"
        ] * 3
        assert any("sigmoid" in row["text"] for row in loop["traced"]["sections"][1]["rows"])


# Large tapes


def test_a_large_tape_is_folded_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = Written(tg.Tape.of(loss_of(True)), tmp_path)
    monkeypatch.setattr(page_content, "MOST_ROWS", 200)
    for unroll in (True, False):
        page = Written(tg.Tape.of(loss_of(unroll)), tmp_path)
        leaves = sum(op < 0 for op in page.rows["op"])
        assert page.count - leaves <= 200
        assert sorted(page.outlined()) == [*range(page.count)]
        assert "2 time steps or repetitions in a row are shown as one" in page.tape["notes"][1]
        if unroll:
            assert sum(page.rows["merged"]) == small.count
        (row,) = (
            k for k in page.find("tanh") if page.column("layer", k) == "lstm.l0"
            and page.rows["step"][k] == 2 and page.rows["merged"][k] == 2
            and page.column("kind", k).endswith(f"({B}, {H})") and k in page.find("tanh")[::2]
        )  # fmt: skip
        others = [k for t in (2, 3) for k in by_place(small)["lstm.l0", t]]
        line = by_place(page)["lstm.l0", 2].index(row)
        parts = [others[line], others[len(others) // 2 + line]]
        for kind in ("values", "cotangents"):
            low, mean, high, norm = page.measures(kind)[page.first[row]]
            want = small.measures(kind)[small.first[parts]]
            assert low == pytest.approx(want[:, 0].min())
            assert mean == pytest.approx(want[:, 1].mean())
            assert high == pytest.approx(want[:, 2].max())
            assert norm == pytest.approx(np.sqrt((want[:, 3] ** 2).sum()))


def test_what_does_not_repeat_is_shown_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_content, "MOST_ROWS", 20)
    x = draw(3, requires_grad=True)
    y = x
    for k in np.random.default_rng(0).integers(4, size=60):
        y = (tg.tanh, tg.sin, tg.exp, tg.cos)[k](y) * 0.5
    page = Written(tg.Tape.of(y.sum()), tmp_path)
    assert page.count <= 21
    assert sorted(page.outlined()) == [*range(page.count)]
    assert sum(page.rows["merged"]) == 122
    assert "records in a row" in "".join(page.tape["notes"])


# Bad input, and what cannot be had


def test_values_alone(tmp_path: Path) -> None:
    x = draw(3, requires_grad=True)
    page = Written(tg.Tape.of(tg.tanh(x)), tmp_path)
    assert page.tape["backwards"] is False
    assert "values alone are shown" in page.tape["notes"][0]
    assert np.isnan(page.measures("cotangents")).all()


def test_an_operation_that_cannot_be_followed(tmp_path: Path) -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        return np.asarray(g) * np.cos(x)

    by_hand = tg.Primitive("by_hand", lambda xp, x: xp.sin(x), [rule])
    x = draw(3, requires_grad=True)
    page = Written(tg.Tape.of((by_hand(x) * 2.0).sum()), tmp_path)
    assert "The shares of the gradient are not known: 'by_hand'" in "".join(page.tape["notes"])
    assert np.isnan(page.shares).all()
    assert page.measures("cotangents")[1][3] == pytest.approx(2 * np.sqrt(3))


def test_nothing_else_changes(tmp_path: Path) -> None:
    model = randomise(Model(False))
    seen: list[Any] = []
    model.head.weight.register_hook(seen.append)
    loss = (model(draw(T, B, I)) ** 2).mean()
    state = tg.get_rng_state() if hasattr(tg, "get_rng_state") else None
    Written(tg.Tape.of(loss), tmp_path)
    assert seen == []
    assert [p for p in model.parameters() if p.grad is not None] == []
    if state is not None:
        assert str(tg.get_rng_state()) == str(state)
    loss.backward()
    assert len(seen) == 1


def freed() -> tg.Tape:
    loss = (draw(3, requires_grad=True) * 2.0).sum()
    tape = tg.Tape.of(loss)
    loss.backward()
    return tape


def overwritten() -> tg.Tape:
    x = draw(3, requires_grad=True)
    tape = tg.Tape.of((x * x).sum())
    x.data = draw(3, seed=2)
    return tape


BAD = {
    "freed": (freed, "x.html", RuntimeError, "the tape has been freed by a backward pass"),
    "overwritten": (overwritten, "x.html", RuntimeError, "has been overwritten since"),
    "no records": (lambda: tg.Tape.of(draw(3)), "x.html", ValueError, "the tape has no records"),
    "a Tensor": (lambda: draw(3), "x.html", TypeError, "expected a Tape, such as tg.Tape.of(loss)"),
    "no folder": (
        lambda: tg.Tape.of((draw(3, requires_grad=True) * 2.0).sum()),
        f"{__file__}/x.html",
        NotADirectoryError,
        f"to_html: cannot write '{__file__}/x.html': Not a directory",
    ),
    "a layer that is unrolled": (
        lambda: rnn.GRU(I, H, unroll=True), "x.html", ValueError, "no replayed loop",
    ),
    "a model without its inputs": (
        lambda: nn.Linear(I, H), "x.html", TypeError,
        "stages: Linear missing a required argument: 'x'; write lab.stages(model, x)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "path", "kind", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(
    make: Any, path: str, kind: type, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind) as caught:
        lab.to_html(make(), path)
    assert message in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_what_is_not_finite_is_counted(tmp_path: Path) -> None:
    x = tg.tensor(np.array([0.0, 4.0, -1.0, np.inf]), requires_grad=True)
    with np.errstate(all="ignore"):
        page = Written(tg.Tape.of(tg.sqrt(x).sum()), tmp_path)
    (row,) = page.find("sqrt")
    array = int(page.first[row])
    assert page.tape["values"]["strange"][str(array)] == [1, 1]
    assert page.measures("values")[array].tolist() == [0, 1, 2, 2]


@pytest.mark.filterwarnings("error")
def test_a_gradient_that_overflows_warns_of_nothing_here(tmp_path: Path) -> None:
    x = tg.tensor(np.array([1.0, 3.0], np.float16), requires_grad=True)
    with np.errstate(over="ignore"):
        page = Written(tg.Tape.of((x * 30000.0).sum() * 8.0), tmp_path)
    assert len(page.find("sum")) == 1


def test_nothing_of_a_name_ends_the_script(tmp_path: Path) -> None:
    x = draw(3, requires_grad=True)
    x.name = "</script><!--<script>\u2028"
    page = Written(tg.Tape.of((x * 2.0).sum()), tmp_path)
    assert page.text.count("</script>") == 2
    assert page.column("name", 0) == x.name


def test_a_program_or_a_record_is_a_page_of_stages(tmp_path: Path) -> None:
    with lab.look():
        output, _ = rnn.GRU(I, H)(tg.ones((4, B, I)))
    (record, *_) = tg.Tape.of(output)
    assert record.inside is not None
    _, program = record.inside
    for what in (record, program):
        text = lab.to_html(what, tmp_path / "step.html").read_text("utf-8")
        for said in ("from equations to kernels", "differentiated", "emitted, NumPy", "tanh"):
            assert said in text
    assert [way.title for way in lab.stages(program).loops["step"].ways] == [
        way.title for way in lab.stages(record).loops["l0"].ways
    ]
