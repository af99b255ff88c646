"""A step after each pass: what every line was made of, where it went, and the source in the end."""

from __future__ import annotations

import linecache
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCUDA
from hypothesis import given, settings
from networks import CELLS, CountingCell, NestedCell, draw, randomise
from random_steps import Step, cases, inputs
from random_values import Captured, Case
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import backends, lab, nn, rnn
from tinygrad_rnn.replay import Stages, Way
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.replay.emit import array_calls
from tinygrad_rnn.replay.emit.choice import has_numba
from tinygrad_rnn.replay.emit.cuda.preamble import PREAMBLE
from tinygrad_rnn.replay.emit.numba import emitter
from tinygrad_rnn.replay.program.program import Op
from tinygrad_rnn.replay.program.rewrite import Rewriter, rewrite
from tinygrad_rnn.replay.program.verify import PassError, verified, verify_rewritten

I, H, B, T = 3, 4, 2, 5
PASSES = "lowered", "simplified"

MADE: dict[str, Callable[[], rnn.Cell]] = {
    "rnn": lambda: rnn.RNNCell(I, H),
    "lstm": lambda: rnn.LSTMCell(I, H),
    "gru": lambda: rnn.GRUCell(I, H),
    "lstm, projected": lambda: rnn.LSTMCell(I, 6, proj_size=H),
    "a user's, nested": lambda: NestedCell(I, H),
    "a user's, with an integer": lambda: CountingCell(I, H),
    **{name: lambda make=make: make(I, H) for name, make in CELLS.items()},
}


def numbers(rows: Any, what: str = "equations") -> set[int]:
    """All lines that rows were made of."""
    return {number for row in rows for number in getattr(row, what)}


def gone(way: Way, what: str = "equations") -> set[int]:
    """The lines of which a pass says that nothing is left."""
    moves = [row for name in PASSES for row in way.stage(name).moves]
    return numbers([row for row in moves if "is gone" in row.text], what)


def lines_of(found: Stages) -> set[int]:
    return numbers(found.traced.rows())


def check(found: Stages) -> None:
    """No line is lost: each is where it was, or its pass says that it is gone."""
    forward = found.ways[0]
    left = lines_of(found)
    assert left == set(range(len(left)))
    for name in (*PASSES, "split"):
        rows = [*forward.stage(name).rows()]
        assert numbers(rows) | gone(forward) == left
        assert all(row.equations for row in rows)
    for number in left - gone(forward):
        assert forward.places(number)
    for way in found.ways:
        check_way(way)
    for way in found.ways[1:]:
        left = numbers(way.stage("differentiated").rows(), "numbers")
        for name in (*PASSES, "split"):
            rows = [*way.stage(name).rows()]
            assert numbers(rows, "numbers") | gone(way, "numbers") == left
            assert all(row.numbers for row in rows)


def check_way(way: Way) -> None:
    """What is fused is what the loop's part of the split has, and all of it is emitted."""
    parts = {section.place: section for section in way.stage("split").sections}
    fused = way.stage("fused").sections
    inside = {row.text for row in parts["loop"].rows} if "loop" in parts else set()
    found = {row.text for section in fused for row in section.rows}
    assert inside <= found
    assert all(" = copy(" in text for text in found - inside)
    rows = [row for section in fused for row in section.rows]
    assert all(row.numbers or re.search(r" = copy\([ksx]", row.text) for row in rows)
    steps = [section for section in fused if section.place.startswith("step")]
    ran = way.stage("planned")
    loop = next(section for section in ran.sections if section.title.startswith("loop"))
    for section, row in zip(steps, loop.rows, strict=False):
        assert numbers(section.rows) == {*row.equations}
    for stage in (way.stage("emitted"), *way.others):
        sources = stage.sections[:-1]
        assert len(sources) == len(steps)
        for section, source in zip(steps, sources, strict=True):
            assert source.rows
            assert numbers(source.rows, "numbers") == numbers(section.rows, "numbers")


@pytest.mark.usefixtures("by_numpy")
@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("name", MADE)
def test_every_line_of_every_cell_has_a_fate(name: str, gradients: bool) -> None:
    cell = randomise(MADE[name]())
    with tg.enable_grad() if gradients else tg.no_grad():
        (found,) = lab.stages(cell).loops.values()
    assert len(found.ways) == 1 + gradients
    check(found)
    for way in found.ways:  # all else is written otherwise, or computed once for several
        moves = [row.text for name in PASSES for row in way.stage(name).moves]
        left = {text.partition(" ")[0] for text in moves if "is gone" in text}
        assert left <= {"identity", "pad", "unpad"}


@given(cases())
@settings(max_examples=10)
def test_every_line_of_a_random_step_has_a_fate(case: Case) -> None:
    made = inputs(case, "cpu", np.float64)
    captured = Captured(case, "cpu", np.float64)
    tg.scan(Step(captured, unroll=True), made.xs, made.state, unroll=True)
    loop = lambda: tg.scan(Step(captured, unroll=False), made.xs, made.state)  # noqa: E731
    with tg.replay.using(jit=False):
        loops = lab.stages(loop).loops
    for found in loops.values():
        check(found)


def kernel_of(way: Way) -> Any:
    (kernel,) = [s for s in way.stage("fused").sections if ", kernel" in s.title]
    return kernel


def test_all_of_an_lstm_but_its_products_is_one_kernel_in_both_directions() -> None:
    found = lab.stages(rnn.LSTM(I, H)).loops["l0"]
    names = [row.text.partition(" = ")[2].partition("(")[0] for row in program(found)]
    assert names == [
        "linear", "linear", "add", "split", "sigmoid", "sigmoid", "tanh", "sigmoid", "multiply",
        "multiply", "add", "tanh", "multiply",
    ]  # fmt: skip
    forward, backward = found.ways
    assert numbers(kernel_of(forward).rows) >= {2, *range(4, 13)}
    assert [forward.places(k) for k in (0, 1, 3, 7)] == [
        ["once", "before", "step 1"], ["once", "step 0", "step 1"], ["once", "strides"], ["step 1"],
    ]  # fmt: skip
    assert [backward.places(k) for k in (0, 1, 7)] == [["after"], ["step 1", "after"], ["step 0"]]
    emitted = {stage.name: stage for stage in (forward.stages[-1], *forward.others)}
    assert emitted.keys() == SOURCES.keys()
    for name, stage in emitted.items():
        words, text = SOURCES[name], "\n".join(row.text for row in stage.rows())
        assert all(word in text for word in words)
        (gate,) = [row for row in stage.rows() if words[1] in row.text and row.equations == (6,)]
        assert gate.numbers == (6,)  # the line of source that computes the candidate


def program(found: Stages) -> list[Any]:
    return [row for row in found.traced.rows() if row.equations]


SOURCES = {
    "emitted, Numba": ("exp(", " tanh("),
    "emitted, CUDA": ("expf(", " tanhf("),
    "emitted, NumPy": ("sigmoid(", "tanh("),
}


def test_stages_say_what_a_pass_did_and_why() -> None:
    found = lab.stages(rnn.LSTM(I, H)).loops["l0"]
    forward, backward = found.ways
    (first, second, third) = forward.stage("lowered").moves
    assert first.text == "linear %0 is written as transpose %16, matmul %17, add %18"
    assert third.text.startswith("split %3 is written as slice ")
    texts = [row.text for row in forward.stage("simplified").moves]
    assert "add %2 is computed in 4 parts, " in texts[2]
    assert second.equations == (1,)
    equal = [row.text for row in backward.stage("simplified").moves]
    assert equal == [
        "transpose %29 is the same as transpose %26, computed once",
        "sum %31 is the same as sum %28, computed once",
    ]
    why = {section.place: section.rows[0].why for section in forward.stage("split").sections}
    assert why == {
        "once": "it depends on constants alone",
        "before": "it needs no state, and pays for all T at once",
        "loop": "the next state needs it",
    }
    stored = forward.stage("differentiated").sections[0]
    assert [row.text for row in stored.rows] == ["%7", "%8", "%9", "%10", "%14", "s0", "s1"]
    arrays = backward.stage("planned").sections[0].rows
    assert "out2 float32 (8, 16), 512 B at each step: %23, %13 from 12" in arrays[2].text
    legend = [row.text for row in backward.stage("differentiated").sections[0].rows]
    assert legend[3:5] == ["x3 is the cotangent of %15", "x4 is %7, stored"]


@pytest.mark.usefixtures("by_numpy")
def test_a_state_that_is_rounded_ahead_is_said() -> None:
    with tg.matmul_precision("float16"):
        (found,) = lab.stages(rnn.GRUCell(I, H)).loops.values()
    check(found)
    notes = [way.stage("simplified").notes for way in found.ways]
    assert notes == [("%27 is a state too: s0 as the step before has rounded it",), ()]


def test_why_a_kernel_is_not_a_part_of_the_one_before() -> None:
    class Turned(rnn.Cell):
        """Each row reads other rows: what a kernel of rows cannot do at once."""

        def __init__(self) -> None:
            self.input_size = self.hidden_size = H

        def step(self, x: Any, h: Any) -> Any:
            h = tg.exp(-(tg.transpose(tg.tanh(x + h)) ** 2))
            return h, h

    found = lab.stages(rnn.Recurrent(Turned()), tg.randn(T, H, H)).loops["cell"]
    steps = found.ways[0].stage("fused").sections
    assert [s.title.partition(" (")[2] for s in steps if s.place.startswith("step")] == [
        "all elementwise lines that the inputs of the loop are enough for):",
        "it reads other rows than the kernel before writes):",
    ]


def test_the_text_of_cuda_is_what_is_launched(tmp_path: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    host, sources = HostCUDA(tmp_path, 4), list[str]()
    compile_kernel = host.compile_kernel
    host.compile_kernel = lambda s, n: sources.append(s) or compile_kernel(s, n)  # pyright: ignore
    backends.register(host)
    CACHE.known.clear()
    try:
        layer = randomise(MADE["lstm, layer norm"]()).to("strict")
        loop = rnn.Recurrent(layer)
        x = draw(T, B, I, device="strict", requires_grad=True)
        loop(x)[0].sum().backward()
        (found,) = lab.stages(loop, x).loops.values()
    finally:
        CACHE.known.clear()
        backends.register(STRICT)
    stages = [way.stage("emitted") for way in found.ways]
    assert {stage.name for stage in stages} == {"emitted, CUDA"}
    texts = [
        "\n".join(row.text for row in section.rows)
        for stage in stages
        for section in stage.sections
        if "kernel over" in section.title
    ]
    assert sources
    assert {s.removeprefix(PREAMBLE).strip() for s in sources} == {*texts}


def plain(text: str) -> str:
    """Source without what numbers a kernel and its place in the table."""
    return re.sub(r"kernel_\d+|table \+ \d+|^ +", "", text, flags=re.MULTILINE)


def test_the_text_of_numba_is_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_numba():
        pytest.skip("the extra jit is not installed")
    loop, sources = rnn.Recurrent(MADE["lstm, layer norm"]()), list[str]()
    compiled = emitter.compiled_function
    monkeypatch.setattr(emitter, "compiled_function", lambda s: sources.append(s) or compiled(s))
    CACHE.known.clear()
    x = tg.randn(T, B, I, requires_grad=True)
    loop(x)[0].sum().backward()
    (found,) = lab.stages(loop, x).loops.values()
    assert len(sources) == 2
    for way, source in zip(found.ways, sources, strict=True):
        stage = way.stage("emitted")
        assert stage.name == "emitted, Numba"
        for section in stage.sections:
            assert plain("\n".join(row.text for row in section.rows)) in plain(source)


def test_the_text_of_numpy_is_what_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, sources = rnn.Recurrent(MADE["lstm, layer norm"]()), list[str]()
    monkeypatch.setattr(
        array_calls, "compile", lambda s, *how: sources.append(s) or compile(s, *how), raising=False
    )
    CACHE.known.clear()
    x = tg.randn(T, B, I, requires_grad=True)
    with tg.replay.using(jit=False):
        loop(x)[0].sum().backward()
        (found,) = lab.stages(loop, x).loops.values()
    assert len(sources) == 2
    for way, source in zip(found.ways, sources, strict=True):
        *steps, around = way.stage("emitted").sections
        assert way.stage("emitted").name == "emitted, NumPy"
        head = [row.text for row in around.rows if not row.text.startswith("#")]
        body = [f"        {row.text}" for step in steps for row in step.rows]
        assert source == "\n".join([*head, *body])


# What lab.stages takes, and what it refuses


def test_every_loop_of_a_model_is_found_by_its_layer() -> None:
    model = rnn.Stacked(
        [
            rnn.Recurrent(rnn.GRUCell(I, H)),
            rnn.Bidirectional(rnn.Recurrent(rnn.LSTMCell(H, H)), rnn.Recurrent(rnn.LSTMCell(H, H))),
        ]
    )
    x = tg.randn(50, B, I)
    found = lab.stages(model, x)
    assert [*found.loops] == [
        "layers.0.cell", "layers.1.forward_layer.cell", "layers.1.backward_layer.cell",
    ]  # fmt: skip
    by_loss = lab.stages(lambda: model(x)[0].sum())
    assert [*by_loss.loops] == [*found.loops]
    ways = [[way.title for way in stages.ways] for stages in found.loops.values()]
    start = ["T-1", "T-1", "0"]
    assert ways == [
        ["forward, leaving what backward needs", f"backward, from t = {t} on"] for t in start
    ]
    assert [*lab.stages(rnn.LSTM(I, H, 3, bidirectional=True)).loops] == [
        "l0", "l0_reverse", "l1", "l1_reverse", "l2", "l2_reverse",
    ]  # fmt: skip


class Squashed(rnn.Cell):
    def __init__(self) -> None:
        self.input_size, self.hidden_size = I, H
        self.inner = nn.Linear(I, H)

    def step(self, x: Any, h: Any) -> Any:
        z = self.inner(x) + 0.5 * h  # the equation
        h = tg.tanh(z)
        return h, h


def test_a_users_cell_is_followed_to_its_lines() -> None:
    (found,) = lab.stages(rnn.Recurrent(Squashed())).loops.values()
    assert [row.why.partition(": ")[2] for row in program(found)] == [
        *["z = self.inner(x) + 0.5 * h  # the equation"] * 3, "h = tg.tanh(z)",
    ]  # fmt: skip
    assert all(row.why.startswith("test_stages.py:") for row in program(found))
    head = found.traced.sections[0].rows[0].text
    assert head == "k0 is cell.inner.weight, k1 is cell.inner.bias"
    lines = str(lab.stages(rnn.Recurrent(Squashed()))).splitlines()
    assert lines[0] == "cell"
    assert re.search(r"^test_stages.py:\d+: h = tg.tanh\(z\)$", lines[-4])
    assert re.search(r"^3  %3 = tanh\(%2\) .* step 0 +step 0$", lines[-3])


def test_a_tape_and_a_record_are_taken() -> None:
    decay = tg.tensor(0.5, requires_grad=True)
    ys, _ = tg.scan(lambda x, h: (h, decay * h + x), tg.ones(4), tg.tensor(0.0))
    tape = tg.Tape.of(ys.sum())
    (scan,) = [record for record in tape if record.primitive.name == "scan"]
    for found in (lab.stages(tape), lab.stages(scan)):
        (name,) = found.loops
        assert name == "scan"
        assert str(found.loops[name].traced.sections[1].rows[1].text).startswith("%1 = add(")
    outputs = [name.partition("\n")[0] for name in str(lab.stages(tape)).split("\n\n")]
    assert outputs == ["scan"]


def test_a_model_stays_as_it_was() -> None:
    model = nn.Sequential(nn.BatchNorm1d(I), nn.Dropout(0.5))
    layer = rnn.Stacked([model[0], rnn.Recurrent(rnn.GRUCell(I, H)), model[1]])
    x = tg.randn(T, B, I)
    layer(x)[0].sum().backward()
    before = {name: np.array(v) for name, v in layer.state_dict().items()}
    grads = [np.array(p.grad.numpy()) for p in layer.parameters()]
    generator = tg.ops.generator_state()
    lab.stages(layer, x)
    assert tg.ops.generator_state() == generator
    for name, v in layer.state_dict().items():
        assert np.array_equal(v, before[name])
    for p, grad in zip(layer.parameters(), grads, strict=True):
        assert np.array_equal(p.grad.numpy(), grad)


def test_without_gradients_there_is_no_backward() -> None:
    with tg.no_grad():
        (found,) = lab.stages(rnn.RNN(I, H)).loops.values()
    assert [way.title for way in found.ways] == ["forward, without gradients"]
    assert found.ways[0].stages[0].name == "lowered"


def test_what_has_no_replayed_loop_is_refused() -> None:
    none = "stages: there is no replayed loop here: expected a recurrent layer or scan, without"
    for what in (nn.Linear(I, H), rnn.LSTM(I, H, unroll=True)):
        with pytest.raises(ValueError, match=none):
            lab.stages(what, tg.randn(T, B, I))
    with pytest.raises(ValueError, match=none):
        lab.stages(tg.Tape.of(tg.ones(3, requires_grad=True) * 2))
    with pytest.raises(TypeError, match="a model, a function, a tape or a record, got int"):
        lab.stages(3)  # pyright: ignore[reportArgumentType]
    output, _ = rnn.GRU(I, H)(tg.randn(T, B, I))
    loss = output.sum()
    tape = tg.Tape.of(loss)
    loss.backward()
    with pytest.raises(ValueError, match="freed by a backward pass; ask before it, or pass"):
        lab.stages(tape)


def test_a_pass_that_does_not_say_what_its_lines_are_made_of_is_found() -> None:
    state = tg.zeros((B, H))
    traced, _ = tg.replay.trace(rnn.GRUCell(I, H).step, tg.randn(T, B, I), state, T, False)

    def rule(rewriter: Rewriter, op: Op) -> bool:
        if op.primitive.multiple:
            return False
        (y,), inputs = op.outputs, [rewriter.current(x) for x in op.inputs]
        rewriter.at = ()
        rewriter.replacement[y] = rewriter.emit(op.primitive, inputs, y.shape, y.dtype, **op.params)
        return True

    forgetful = verified(verify_rewritten)(lambda program: rewrite(program, rule))
    with pytest.raises(PassError, match="is not made of any line of the program before"):
        forgetful(traced.replay.program)


def test_a_cell_whose_source_is_in_no_file() -> None:
    """As in a notebook: its lines are known by a name that is no path."""
    text = (
        "class Leaky(rnn.Cell):\n"
        "    input_size = hidden_size = 3\n"
        "    def initial_state(self, batch_size):\n"
        "        return self.zeros(batch_size, 3)\n"
        "    def step(self, x, h):\n"
        "        h = tg.tanh(x + 0.9 * h)\n"
        "        return h, h\n"
    )
    linecache.cache["<cell 3>"] = len(text), None, text.splitlines(keepends=True), "<cell 3>"
    scope: dict[str, Any] = {"rnn": rnn, "tg": tg, "__name__": "__main__"}
    exec(compile(text, "<cell 3>", "exec"), scope)
    (found,) = lab.stages(scope["Leaky"]()).loops.values()
    why = {row.why for row in found.traced.sections[1].rows}
    assert why == {"<cell 3>:6: h = tg.tanh(x + 0.9 * h)"}
