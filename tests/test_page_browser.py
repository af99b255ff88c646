"""The page of a tape in a real browser: folding, steps, search, keys, themes, phones, names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Keys, opened
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

pytestmark = pytest.mark.browser

T, B, I, H = 6, 2, 3, 5


class Model(nn.Module):
    """Some levels of an LSTM and a head."""

    def __init__(self, levels: int, bidirectional: bool, unroll: bool) -> None:
        self.lstm = rnn.LSTM(I, H, num_layers=levels, bidirectional=bidirectional, unroll=unroll)
        self.head = nn.Linear(2 * H if bidirectional else H, 4)

    def forward(self, x: Any) -> Any:
        y, _ = self.lstm(x)
        return self.head(y[-1])


def loss_of(steps: int = T, levels: int = 1, both: bool = False, unroll: bool = True) -> Any:
    model = randomise(Model(levels, both, unroll))
    with lab.look():
        return (model(draw(steps, B, I)) ** 2).mean()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def unrolled(folder: Path) -> Path:
    return lab.to_html(tg.Tape.of(loss_of()), folder / "unrolled.html")


@pytest.fixture(scope="module")
def replayed(folder: Path) -> Path:
    return lab.to_html(tg.Tape.of(loss_of(both=True, unroll=False)), folder / "replayed.html")


def test_folding_by_click(unrolled: Path) -> None:
    with opened(unrolled) as page:
        assert "time steps 0 ... 5" in page.lines()
        before = page.lines()
        page.click(".line.loop")
        at = before.index("time steps 0 ... 5")
        assert page.lines()[at : at + 8] == [
            before[at],
            *(f"t = {t}" for t in range(6)),
            before[at + 1],
        ]
        page.click(".line.step", 2)
        assert page.texts("#tree .line.row .call")[0].startswith("linear(")
        page.click(".line.loop")
        assert page.lines() == before


def test_keyboard(unrolled: Path) -> None:
    with opened(unrolled) as page:
        page.run("document.getElementById('tree').focus()")
        page.press(Keys.HOME)
        assert page.chosen() == "parameters and inputs"
        while page.chosen() != "time steps 0 ... 5":
            page.press(Keys.ARROW_DOWN)
        page.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_DOWN)
        assert page.chosen() == "t = 1"
        page.press(Keys.ENTER, Keys.ARROW_RIGHT)
        assert page.texts(".line.chosen .call")[0].startswith("linear(")
        page.press(Keys.ARROW_LEFT)
        assert page.chosen() == "t = 1"
        page.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
        assert page.chosen() == "time steps 0 ... 5"
        page.press(Keys.ARROW_LEFT)
        assert "t = 1" not in page.lines()


def test_steps_through_the_records(unrolled: Path) -> None:
    with opened(unrolled) as page:
        page.click("#time-start")
        assert page.texts(".cell .number") == []
        page.click(".line.leaves")
        page.click("#time-on")
        assert len(page.texts(".cell:not(.back) .number")) == 2  # of a leaf, and of all leaves
        assert page.texts(".cell.back .number") == []
        page.run(
            "const s = document.getElementById('time'); s.value = s.max / 2; "
            "s.dispatchEvent(new Event('input'))"
        )
        assert page.chosen().startswith("%")
        assert page.texts(".card.back") == ["CotangentThe backward pass has not come here yet."]
        page.click("#time-on")  # the cotangent of the loss
        assert page.texts(".line.chosen .cell.back .number") == ["1"]
        page.press(",", ",")
        assert page.texts("#time-label")[0].startswith("forward")
        page.click("#time-end")
        assert page.texts("#time-label") == ["both passes done"]


def test_lines_at_once(unrolled: Path) -> None:
    with opened(unrolled) as page:
        page.click("#time-start")
        seen: list[str] = []
        while page.texts("#time-label") != ["both passes done"]:
            page.click("#time-line-on")
            seen.append(page.chosen())
        assert seen.count("time steps 0 ... 5") == 2
        assert seen == seen[: len(seen) // 2] + seen[len(seen) // 2 - 1 :: -1]


def test_search(unrolled: Path) -> None:
    with opened(unrolled) as page:
        page.press("/")
        page.press("weight_hh")
        assert page.texts("#found li")[0].startswith("lstm.weight_hh_l0")
        page.press(Keys.ENTER)
        assert page.chosen() == "lstm.weight_hh_l0"
        assert page.texts("#details h2") == ["lstm.weight_hh_l0"]
        assert "6 uses" in "".join(page.texts("#details h3"))
        assert len(page.all("#details rect.positive, #details rect.negative")) == T
        page.press("/")
        page.run("document.getElementById('search').value = ''")
        page.press("nowhere to be found")
        assert page.texts("#found li") == ["nothing found"]
        page.press(Keys.ESCAPE)


def test_a_record_says_what_it_is(unrolled: Path) -> None:
    with opened(unrolled) as page:
        page.click(".line.loop")
        page.click(".line.step", 3)
        page.click(".line.row .call", 6)
        text = page.texts("#details")[0]
        assert "i, f, g, o = sigmoid(i), sigmoid(f), act(g), sigmoid(o)" in text
        assert "lambda g, y, x: g * (1 - y * y)" in text
        assert f"float64 ({B}, {H})" in text
        assert "test_page_browser.py:" in text
        assert "time step3" in text
        assert len(page.all("#details canvas")) == 2
        page.click(".views button", 1)
        assert len(page.all(".numbers td")) == 2 * B * H
        page.click(".views button", 2)
        assert len(page.all(".card circle")) == 2 * T


def test_a_replayed_loop_and_its_stages(replayed: Path) -> None:
    with opened(replayed) as page:
        assert page.lines().count("replayed loop of 6 steps") == 2
        page.click(".line.replayed")
        page.click(".line.step")
        page.click(".line.replayed")
        page.click(".big")
        assert page.texts(".stages-head h2")[0].startswith("lstm.l0")
        page.click(".equations button", 6)
        stars = page.texts(".tabs .hits")
        assert len(stars) > 4
        for tab in range(len(page.all("[role=tab]"))):
            page.click("[role=tab]", tab)
            assert page.texts(".about")[0]
        page.click(".ways button", 1)
        assert "differentiated" in page.texts("[role=tab][aria-selected=true]")[0]
        page.press(Keys.ARROW_RIGHT)
        assert "lowered" in page.texts("[role=tab][aria-selected=true]")[0]
        page.press(Keys.ESCAPE)
        assert page.all("#stages[hidden]")


def test_dark_and_light(unrolled: Path) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    with opened(unrolled, dark=True) as page:
        dark = page.run(ground)
        page.click("#theme")
        light = page.run(ground)
        assert (dark, light) == ("rgb(20, 23, 27)", "rgb(255, 255, 255)")
    with opened(unrolled) as page:
        assert page.run(ground) == light


def test_a_phone(replayed: Path) -> None:
    with opened(replayed, 390, 844) as page:
        page.click(".line.replayed")
        page.click("#time-line-back")
        wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        assert page.run(wide) == [390, 390]


NAME = (
    "</script><script>document.title = 'run'</script><img src=x onerror=\"document.title = 'run'\">"
)


def test_names_are_text(folder: Path) -> None:
    x = tg.tensor([0.5, -1.5, 2.5], requires_grad=True)
    x.name = NAME
    path = lab.to_html(tg.Tape.of((tg.tanh(x) * 3.0).sum()), folder / "names.html")
    with opened(path) as page:
        page.click(".line.leaves")
        page.click(".line.row")
        assert page.chosen() == NAME
        assert page.texts("#details h2") == [NAME]
        page.press("/")
        page.press("script")
        assert page.driver.title == "tape"
        assert page.all("img") == []


def test_what_is_not_finite(folder: Path) -> None:
    x = tg.tensor(np.array([0.0, 4.0, -1.0]), requires_grad=True)
    with np.errstate(all="ignore"):
        path = lab.to_html(tg.Tape.of(tg.sqrt(x).sum()), folder / "nan.html")
    with opened(path) as page:
        assert page.texts(".strange .number")
        page.click(".line.row")
        assert "nan" in page.texts(".measures")[0]


def test_what_is_not_finite_is_seen_of_a_part_that_is_closed(folder: Path) -> None:
    layer = randomise(rnn.LSTM(3, 5, unroll=True))
    x = draw(20, 2, 3).data.copy()
    x[7, 1, 0] = np.inf
    with np.errstate(all="ignore"), lab.look():
        path = lab.to_html(tg.Tape.of(layer(tg.tensor(x))[0].sum()), folder / "inside.html")
    with opened(path) as page:
        page.click("#fold-all")
        first, second, *_ = page.texts("#tree .line .cell:not(.back)")
        assert first == second == "nan / inf"
        page.click("#time-start")
        assert "nan / inf" not in page.texts("#tree .line .cell:not(.back)")


def test_twenty_thousand_records(folder: Path) -> None:
    tape = tg.Tape.of(loss_of(steps=508, levels=3))
    assert len(tape) > 19_800
    path = lab.to_html(tape, folder / "large.html")
    assert path.stat().st_size < 10e6
    with opened(path) as page:
        assert f"{len(tape):,} records" in page.texts("#totals")[0]
        for _ in range(4):
            page.click("#open-level")
        assert len(page.all("#tree .line")) < 60  # those in view
        page.press(Keys.END)
        page.press("/")
        page.press("sum")
        page.press(Keys.ENTER)
        for _ in range(3):
            page.click("#time-back")
        page.click("#fold-all")
