"""Long tapes as text and as tables: folded, unfolded, with values, gradients and lines."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

T, B, I, H = 50, 2, 3, 5


def lstm(look: bool = True, unroll: bool = True, **options: Any) -> tg.Tape:
    model = randomise(rnn.LSTM(I, H, num_layers=3, unroll=unroll, **options))
    with lab.look() if look else tg.enable_grad():
        return tg.Tape.of(model(draw(T, B, I))[0].sum())


def user_loop(tape_of: Any = tg.Tape.of) -> Any:
    """A loop of the user's round two cells, without look."""
    cells = [randomise(rnn.GRUCell(H, H)) for _ in "ab"]
    for k, cell in enumerate(cells):
        for name, parameter in cell.named_parameters():
            parameter.name = f"cells.{k}.{name}"
    x = draw(T, B, H, requires_grad=True)
    states: list[Any] = [draw(B, H) for _ in cells]
    for t in range(T):
        y: Any = x[t]
        for k, cell in enumerate(cells):
            y, states[k] = cell(y, states[k])
    return tape_of(y.sum())


FOLDED = """\
tape of 1,956 records, 312.5 KiB of results
  l0: 651 records, 101.6 KiB
    steps 0 ... 49 (x 50): 13 records, 2.0 KiB each
      %3:            float64 (2, 20)      320 B   linear(float64(2, 3), weight_ih_l0, bias_ih_l0)
      %7:            float64 (2, 20)      320 B   linear(previous %22, weight_hh_l0, bias_hh_l0)
      %8:            float64 (2, 20)      320 B   add(%3, %7)
      %9 ... %12:    float64 (2, 5)       320 B   split(%8, sizes=(5, 5, 5, 5), axis=1)
      %13:           float64 (2, 5)        80 B   sigmoid(%9)
      %14:           float64 (2, 5)        80 B   sigmoid(%10)
      %15:           float64 (2, 5)        80 B   tanh(%11)
      %16:           float64 (2, 5)        80 B   sigmoid(%12)
      %18:           float64 (2, 5)        80 B   multiply(%14, previous %20)
      %19:           float64 (2, 5)        80 B   multiply(%13, %15)
      %20:           float64 (2, 5)        80 B   add(%18, %19)
      %21:           float64 (2, 5)        80 B   tanh(%20)
      %22:           float64 (2, 5)        80 B   multiply(%16, %21)
    %856:            float64 (50, 2, 5) 3.9 KiB   stack(%22, %39, ... %855, axis=0)
  l1 ... l2 (x 2): 652 records, 105.5 KiB each
    %857 ... %906:   float64 (2, 5)     3.9 KiB   unstack(previous %1713, axis=0)
    steps 0 ... 49 (x 50): 13 records, 2.0 KiB each
      %909:          float64 (2, 20)      320 B   linear(%857 ..., weight_ih_l1 ..., bias_ih_l1 ...)
      %913:          float64 (2, 20)      320 B   linear(previous %928, weight_hh_l1 ..., bias_hh...
"""


def test_fifty_steps_and_three_layers_fit_a_screen() -> None:
    lines = str(lstm()).splitlines()
    assert lines[:22] == FOLDED.splitlines()
    assert lines[-1] == "result: %2571"
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100


def test_without_look_repetitions_are_told_by_the_parameters_names() -> None:
    lines = str(lstm(look=False)).splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert lines[1:3] == [
        "  x 2: 652 records, 105.5 KiB each",
        "    x 50: 13 records, 2.0 KiB each",
    ]
    assert "linear(previous %857 (x 2), weight_ih_l0 ..., b..." in lines[3]
    assert lines[18] == "  x 50: 13 records, 2.0 KiB each"


def test_a_loop_of_the_user_says_what_comes_from_the_step_before() -> None:
    text = str(user_loop())
    first, getitem, cells, linear = text.splitlines()[1:5]
    assert first == "  x 50: 31 records, 3.7 KiB each"
    assert getitem.endswith("getitem(float64(50, 2, 5), template=(0,) ...)")
    assert cells == "    x 2: 15 records, 1.8 KiB each"
    assert "linear(previous %" in linear
    assert len(text.splitlines()) == 21
    state = next(line for line in text.splitlines() if "multiply" in line and "(x 50)" in line)
    assert re.search(r"multiply\(%\d+, previous %\d+ \(x 50\)\)", state)


def test_unfolding_one_layer_shows_each_of_its_steps() -> None:
    tape = lstm()
    lines = tape.listing(unfold="l1").splitlines()
    folded = str(tape).splitlines()
    assert [line.split()[:3] for line in lines[1:17]] == [line.split()[:3] for line in folded[1:17]]
    assert lines[17] == "  l1: 652 records, 105.5 KiB"
    steps = [line for line in lines if re.fullmatch(r"    step \d+", line)]
    assert [int(line.split()[1]) for line in steps] == [*range(T)]
    assert "  l2: 652 records, 105.5 KiB" in lines
    assert sum("multiply(" in line for line in lines) == 3 * (1 + T + 1)


def test_unfolding_all_layers_below_one() -> None:
    def way() -> Any:
        return rnn.Residual(rnn.Recurrent(rnn.RNNCell(H, H), unroll=True))

    model = randomise(rnn.Stacked([way(), rnn.Bidirectional(way(), way())]))
    with lab.look():
        tape = tg.Tape.of(model(draw(T, B, H))[0].sum())

    def steps(unfold: Any) -> int:
        return len(re.findall(r"^ +step \d+$", tape.listing(unfold), re.M))

    assert steps(False) == 0
    assert steps("layers.0") == steps("layers.0.layer.cell") == T
    assert steps("layers.1.forward_layer.layer") == T
    assert steps("layers.1") == 2 * T
    assert steps("layers") == 3 * T
    with pytest.raises(ValueError, match=r"no layer 'layers\.1\.forward', only"):
        steps("layers.1.forward")


def test_unfolding_all_is_a_line_for_each_value() -> None:
    tape = lstm()
    lines = tape.listing(unfold=True).splitlines()
    outside = len(tape.inputs)
    assert len(lines) == len(tape) + outside + 2
    names = [name for line in lines[1:-1] for name in line.strip().partition(": ")[0].split(", ")]
    assert len({*names}) == len(names)
    assert "# l0, step 0, tinygrad_rnn/rnn/cells/lstm.py:" in lines[4]


def test_replayed_loops_are_one_line_or_open() -> None:
    tape = lstm(unroll=False)
    assert len(tape) == 4
    assert str(tape).count("scan(50 x step of 13 operations, weight_ih_l") == 3
    text = tape.listing(unfold="l1")
    program = tape.records[1].inside[1]
    assert tape.records[1].inside[0] == T
    assert repr(program) == "step of 13 operations"
    lines = text.splitlines()
    start = next(k for k, line in enumerate(lines) if line.lstrip().startswith("constant: "))
    shown = [line.strip() for line in lines[start : start + len(str(program).splitlines())]]
    assert [line.partition("   #")[0] for line in shown] == [
        line.strip() for line in str(program).splitlines()
    ]
    assert shown[3].endswith("# lstm.py:97")
    assert text.count("constant: ") == 1
    assert tape.listing(unfold=True).count("constant: ") == 3


def test_values_and_gradients_stand_beside_each_other() -> None:
    x = tg.tensor([0.0, 2.0, -4.0], requires_grad=True)
    x.grad = tg.tensor([1.0, 1.0, 1.0])
    tape = tg.Tape.of((x * x).sum())
    lines = tape.listing(columns=["values", "gradient"]).splitlines()
    titles = "min mean max zeros"
    assert " ".join(lines[1].split()) == f"{titles} g min g mean g max g zeros"
    cells = [line.split()[1:9] for line in lines[2:5]]
    assert cells == [
        ["-4", "-0.667", "2", "33%", "-8", "-1.33", "4", "33%"],
        ["0", "6.67", "16", "33%", "1", "1", "1", "0%"],
        ["20", "20", "20", "0%", "1", "1", "1", "0%"],
    ]
    assert x.grad.tolist() == [1, 1, 1]
    assert len(tape.listing(columns=["gradient"]).splitlines()) == 6  # it is not freed


def test_values_of_a_folded_step_are_those_of_all_steps() -> None:
    tape = lstm()
    arrived: dict[Any, Any] = {}

    class Arriving(tg.Observer):
        def before_backward(self, record: Any, cotangents: Any) -> None:
            arrived[record] = cotangents[0]

    lines = tape.listing(columns=["values", "gradient"]).splitlines()
    with tg.observe(Arriving()):
        tape.outputs[0].backward(retain_graph=True)
    cells = [record for record in tape if record.primitive.name == "tanh"][1 : 2 * T : 2]
    (line,) = [line for line in lines if "tanh(%20)" in line]
    for numbers, arrays in (
        (line.split()[1:5], [record.results[0] for record in cells]),
        (line.split()[5:9], [arrived[record] for record in cells]),
    ):
        found = np.stack(arrays)
        want = [f"{x:.3g}" for x in (found.min(), found.mean(), found.max())]
        assert numbers == [*want, f"{(found == 0).mean():.0%}"]


def test_what_is_not_finite_is_counted() -> None:
    x = tg.tensor([0.0, np.nan, np.inf, -np.inf, 3.0], requires_grad=True)
    text = tg.Tape.of(x * 2.0).listing(columns=["values"])
    assert text.splitlines()[1].split() == ["min", "mean", "max", "zeros", "odd"]
    assert re.search(r"0 +1\.5 +3 +20% +1 nan, 2 inf +leaf", text)
    counts = tg.tensor([[True, False], [True, True]])
    y = tg.where(counts, tg.ones((2, 2), requires_grad=True), 0.0)
    assert re.search(r"0 +0\.75 +1 +25% +leaf", tg.Tape.of(y).listing(columns="values"))


def test_lines_of_equations_and_of_the_user() -> None:
    lines = lstm().listing(columns=["line"]).splitlines()
    assert lines[3].endswith("# lstm.py:97")
    here = lstm.__code__.co_firstlineno
    assert lines[16].endswith(f"# test_listing.py:{here + 3}")


def test_a_backward_tape_is_folded_too() -> None:
    forward = lstm()
    backward = forward.backward()
    lines = str(backward).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("  l2 ... l1 (x 2): 1,298 records, ") for line in lines)
    assert any(re.fullmatch(r"    steps 48 \.\.\. 1 \(x 48\): .* each", line) for line in lines)
    names = re.findall(r"   # back from (%\d+)$", "\n".join(lines), re.M)
    whole = forward.listing(unfold=True)
    assert {*names} <= {*re.findall(r"%\d+", whole)}
    assert re.search(r"multiply\(%\d+, forward %\d+", str(backward))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": ["kinds"]}, "there is no column 'kinds', only kind, bytes, values, gradient"),
        ({"unfold": "l7"}, "there is no layer 'l7', only l0, l1, l2"),
    ],
)
def test_what_is_not_there_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=rf"^Tape\.listing: {message}"):
        lstm(unroll=False).listing(**options)


def test_layers_are_not_known_without_look() -> None:
    with pytest.raises(ValueError, match=r"no layer 'l0', only records without one: look"):
        lstm(look=False, unroll=False).listing(unfold="l0")


def test_gradients_of_what_has_none_are_refused() -> None:
    x = draw(3, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^Tape\.listing: a gradient can be left out only for"):
        tg.Tape.of(x * 2.0).listing(columns=["gradient"])
    y = (x * 2.0).sum()
    y.backward()
    with pytest.raises(RuntimeError, match=r"^backward: the tape has been freed"):
        tg.Tape.of(y).listing(columns=["gradient"])
    assert "freed" in tg.Tape.of(y).listing(columns=["kind", "values"])
    with pytest.raises(RuntimeError, match=r"^Tape\.listing: the value does not depend"):
        tg.Tape.of(draw()).listing(columns=["gradient"])


def test_a_long_freed_tape_is_folded() -> None:
    x = draw(3, requires_grad=True)
    for _ in range(100):
        x = tg.sin(x)
    x.sum().backward()
    lines = str(tg.Tape.of(x)).splitlines()
    assert lines[1:3] == ["  x 100: 1 record, 0 B each", "    %0: freed   0 B   sin(...)"]
    assert len(tg.Tape.of(x).listing(unfold=True).splitlines()) == 102


def test_a_freed_tape_says_so() -> None:
    x = draw(3, requires_grad=True)
    y = tg.sin(x)
    loss = y.sum()
    loss.backward()
    title, *rows = tg.Tape.of(loss).listing(columns=["values"]).splitlines()
    assert title.endswith("; freed by a backward pass: print it before")
    assert rows == ["  %0:   sin(...)", "  %1:   sum(...)", "result: %1"]
    later = tg.Tape.of(tg.sin(y * 2.0), inputs=None)
    assert "; 1 of them freed by" in str(later)


@pytest.mark.parametrize("unroll", [True, False])
@pytest.mark.parametrize("both", [True, False])
def test_no_tape_is_wider_than_a_screen(unroll: bool, both: bool) -> None:
    """Files are named without their folders, and a call is cut where nothing is unfolded."""
    tape = lstm(unroll=unroll, bidirectional=both)
    for one in (tape, tape.backward()):
        lines = str(one).splitlines()
        assert max(map(len, lines)) <= 125
        assert not any("/test_listing.py" in line for line in lines)
    whole = tape.listing(unfold=True)
    assert "..." not in whole.replace("previous", "") or unroll


def test_names_stay_in_one_line() -> None:
    x = draw(3, requires_grad=True)
    x.name = "a\n\tb\x00\ud800 \u540d"
    tape = tg.Tape.of((x * 2.0).sum())
    assert str(tape).splitlines()[1].startswith(r"  a\n\tb\x00\ud800 名:")
    str(tape).encode()
    for _ in range(50):
        x = x * 2.0
    y = tg.Tape.of(x.sum())
    assert r"a\n\tb\x00" in str(y)


# Notebooks


class Outline(HTMLParser):
    """The tags of a page, which must close in order, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def outline(value: Any) -> Outline:
    found = Outline(value._repr_html_())
    allowed = {"p", "table", "tr", "th", "td", "code", "pre", "details", "summary"}
    assert {*found.tags} <= allowed
    return found


def test_a_folded_tape_is_tables_within_details() -> None:
    tape = lstm()
    found = outline(tape)
    heads = [line.strip() for line in str(tape).splitlines() if "record" in line]
    assert found.text[0] == heads[0]
    assert [text for text in found.text if "record" in text] == heads
    assert found.tags.count("details") == len(heads) - 1
    rows = sum("   " in line.strip() for line in str(tape).splitlines()[1:-1])
    assert found.tags.count("tr") == rows + found.tags.count("table")
    assert "previous %22" in "".join(found.text)


def test_a_program_is_a_table() -> None:
    found = outline(lstm(unroll=False).records[0].inside[1])
    assert found.tags.count("tr") == 1 + 13
    assert found.text[0].startswith("constant: k0 float64 (20, 3)")
    assert found.text[-1].startswith("next state: ")


def test_a_module_is_the_table_of_its_parameters() -> None:
    shared = nn.Linear(3, 3)
    model: Any = nn.Sequential(shared, nn.Sequential(shared))
    model.odd = {"<b>": nn.Parameter(np.ones(2), requires_grad=False)}
    found = outline(model)
    assert found.text[0] == "Sequential"
    table = [line.split() for line in model.parameter_table().splitlines()]
    words = " ".join(found.text).split()
    assert sorted(words[1:]) == sorted(word for line in table for word in line)
    assert "odd.<b>" in found.text


def test_a_tensor_is_a_table_of_its_values() -> None:
    x = tg.tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)
    x.name = "<x>"
    found = outline(x)
    assert found.text[0] == "<x>, float64 (2, 3) on cpu, requires a gradient"
    assert found.text[1:] == ["0", "1", "2", *map(str, range(6))]
    assert outline(tg.tensor([True, False])).text[1:] == ["0", "1", "True", "False"]
    assert outline(tg.tensor(2.5)).text[1:] == ["0", "2.5"]
    assert outline(tg.ones((0, 2))).text[1:] == ["0", "1"]
    assert "pre" in outline(tg.ones((2, 2, 2))).tags
    long = outline(tg.tensor(np.arange(1e6).reshape(1000, 1000)))
    assert long.tags.count("tr") == 14
    assert long.text[1:14] == [*"012345", "...", *map(str, range(994, 1000))]
    assert long.text[-1] == "999999"
    assert "<i>" not in tg.ones((200, 2, 2))._repr_html_()
