"""What must hold of every built-in cell beside PyTorch's three: alone, over time, in wrappers.

Those three are held by test_rnn.py and test_parity.py; the equations by test_cell_equations.py
and test_lstm_equations.py.
"""

from __future__ import annotations

import copy
import math
import pickle
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import CELLS, close, draw, functional, leaves, random_state, randomise, rebuilt, total
from refusals import Refusal, assert_refused, each
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, replay, rnn
from tinygrad_rnn.rnn.known_calls import memory_of

T, B, I, H = 5, 3, 3, 4
LENGTHS = [3, 5, 0]
every_cell = pytest.mark.parametrize("name", CELLS)


def made(name: str, seed: int = 0) -> Any:
    return randomise(CELLS[name](I, H), seed)


def inner_names(cell: rnn.Cell) -> list[str]:
    """All that ``record=`` knows of a cell, as its refusal lists it."""
    with pytest.raises(ValueError, match="no inner value") as refused:
        rnn.Recurrent(cell, unroll=True)(draw(1, 1, I), record=["?"])
    return eval(str(refused.value).partition("only ")[2])


def run(cell: Any, call: Callable[..., Any], device: str = "cpu", dtype: Any = np.float64) -> Any:
    """What a call with inputs and a drawn state gives, and the gradients of all that is in it."""
    cell.zero_grad()
    x = draw(T, B, I, device=device).to(dtype).detach()
    state = random_state(cell.initial_state(B))
    given = [v for v in (x, *leaves(state)) if v.dtype.kind == "f"]
    for v in given:
        v.requires_grad = True
    results = leaves(tuple(tuple(r.values()) if isinstance(r, dict) else r for r in call(x, state)))
    loss = sum(
        (r * draw(*r.shape, seed=k, device=device).to(dtype)).sum()
        for k, r in enumerate(r for r in results if r.dtype.kind == "f")
    )
    loss.backward()
    return [r.numpy() for r in (*results, *(v.grad for v in (*given, *cell.parameters())))]


def same(have: Any, want: Any, rtol: float = 1e-11) -> None:
    for a, b in zip(have, want, strict=True):
        close(a, b, rtol)


@every_cell
def test_gradients_of_cells(name: str, device: str) -> None:
    """To the second order."""
    cell = made(name).to(device)
    state = random_state(cell.initial_state(2))
    function, parameters = functional(cell, lambda x, *s: cell.step(x, rebuilt(state, s)))
    inputs = [*parameters, draw(2, I, device=device), *leaves(state)]
    assert tg.check_gradients(function, inputs)


@every_cell
def test_second_order_gradients_of_the_replayed_loop(name: str, device: str) -> None:
    cell = made(name).to(device)
    layer = rnn.Recurrent(cell)
    state = random_state(cell.initial_state(2))
    function, parameters = functional(cell, lambda x, *s: layer(x, rebuilt(state, s)))
    with replay.using(jit=False):
        x = draw(3, 2, I, device=device)
        assert tg.check_gradients(function, [*parameters, x, *leaves(state)])


@pytest.mark.parametrize("lengths", [None, LENGTHS])
@pytest.mark.parametrize("reverse", [False, True])
@every_cell
def test_replayed_as_unrolled(name: str, lengths: Any, reverse: bool) -> None:
    """With everything recorded: outputs, the last state, inner values, all gradients."""
    cell = made(name)
    options = {"lengths": lengths, "reverse": reverse, "record": inner_names(cell)}
    want = run(cell, lambda x, s: rnn.Recurrent(cell, unroll=True)(x, s, **options))
    for checkpoint in (None, 2):
        layer = rnn.Recurrent(cell, checkpoint=checkpoint)
        with replay.using(jit=False):
            same(run(cell, lambda x, s: layer(x, s, **options)), want)  # noqa: B023


@every_cell
def test_compiled_as_unrolled(name: str) -> None:
    """In float32 as one compiled function, against float64 step by step."""
    cell = made(name)
    want = run(cell, rnn.Recurrent(cell, unroll=True))
    cell.to(np.float32)
    have = run(cell, rnn.Recurrent(cell), dtype=np.float32)
    assert {v.dtype.name for v in have} <= {"float32", "int64"}
    same(have, want, 1e-5 * T)


@every_cell
def test_the_loop_is_one_compiled_function(name: str) -> None:
    """And nothing is left slow."""
    pytest.importorskip("numba", reason="the extra jit is not installed")
    text = rnn.Recurrent(CELLS[name](I, H)).explain()
    notes = {line.strip() for line in text.splitlines() if line.strip().startswith("note")}
    assert notes == {"note: the loop is one compiled function"}
    assert "call " not in text


@every_cell
def test_strict_as_numpy(name: str) -> None:
    """Nothing is read back to the host."""
    cell = made(name)
    want = run(cell, rnn.Recurrent(cell, unroll=True))
    cell.to("strict")
    layer = rnn.Recurrent(cell)
    with STRICT.counting() as count:
        total(*layer(draw(T, B, I, device="strict"))).backward()
    assert count.host_reads == 0
    same(run(cell, layer, "strict"), want)


@every_cell
def test_padded_chunked_and_streamed(name: str) -> None:
    cell = made(name)
    layer = rnn.Recurrent(cell, unroll=True)
    x = draw(T, B, I)
    whole, last = layer(x, lengths=LENGTHS)
    for row, n in enumerate(LENGTHS):
        assert np.all(whole.numpy()[n:, row] == 0)
        if n:
            y, state = layer(x[:n, row])
            close(whole[:n, row], y, 1e-12)
            for a, b in zip(leaves(last), leaves(state), strict=True):
                close(a[row], b, 1e-12)
    whole, last = layer(x)
    first, state = layer(x[:2])
    second, state = layer(x[2:], state)
    close(tg.concat([first, second]), whole, 1e-12)
    streamed, at = [], None
    for row in x:
        y, at = layer.step(row, at)
        streamed.append(y)
    close(tg.stack(streamed), whole, 1e-12)
    for a, b, c in zip(*map(leaves, (state, last, at)), strict=True):
        close(a, b, 1e-12)
        close(c, b, 1e-12)


@every_cell
def test_in_stacks_and_both_directions(name: str) -> None:
    """And the future reaches nothing in a stack, everything in both directions."""
    one, two = made(name), made(name, 1)
    width = one.output_size
    both = rnn.Bidirectional(rnn.Recurrent(one), rnn.Recurrent(two))
    last = nn.Linear(2 * width, I)
    stack = rnn.Stacked([both, last, rnn.Residual(rnn.Stacked([both, last]))]).to(np.float64)
    x = draw(T, B, I, requires_grad=True)
    with replay.using(jit=False):
        y, _ = stack(x, lengths=LENGTHS)
        a, _ = rnn.Recurrent(one, unroll=True)(x, lengths=LENGTHS)
        b, _ = rnn.Recurrent(two, unroll=True)(x, lengths=LENGTHS, reverse=True)
        close(both(x, lengths=LENGTHS)[0], tg.concat([a, b], -1), 1e-12)
        assert y.shape == (T, B, I)
        for layer, reached in ((both, T), (rnn.Recurrent(one), 3)):
            x.grad = None
            total(layer(x)[0][2]).backward()
            assert np.any(x.grad.numpy() != 0, axis=(1, 2)).tolist() == [
                t < reached for t in range(T)
            ]


@every_cell
def test_saved_copied_and_pickled(name: str, tmp_path: Any) -> None:
    cell = CELLS[name](I, H)
    other = CELLS[name](I, H)
    layer, again = rnn.Recurrent(cell), rnn.Recurrent(other)
    x = draw(T, B, I).to(np.float32)
    with replay.using(jit=False):
        want = layer(x)[0].numpy()
        if name != "irnn":
            assert not np.array_equal(again(x)[0].numpy(), want)
        layer.save(tmp_path / "weights")
        again.load(tmp_path / "weights")
        made_again = [again, copy.deepcopy(layer)]
        if name != "lstm, activations":  # a primitive, which is not pickled
            made_again.append(pickle.loads(pickle.dumps(layer)))
        for copied in made_again:
            assert list(copied.state_dict()) == list(layer.state_dict())
            assert np.array_equal(copied(x)[0].numpy(), want)


@every_cell
def test_a_trace_is_used_again(name: str) -> None:
    """What a cell closes over is its own."""
    cell = made(name)
    layer = rnn.Recurrent(cell)
    with replay.using(jit=False):
        layer(draw(T, B, I))
    holds_a_function = any(isinstance(v, types.FunctionType) for v in vars(cell).values())
    memory = memory_of(layer)
    assert (0 if memory is None else len(memory.calls)) == (not holds_a_function)


# Sizes

SIZES: dict[str, tuple[Callable[[], rnn.Cell], int]] = {
    "IRNNCell": (lambda: rnn.IRNNCell(128, 256), 98_816),
    "LSTMCell": (lambda: rnn.LSTMCell(128, 256), 395_264),
    "GRUCell": (lambda: rnn.GRUCell(128, 256), 296_448),
    "GRUCell, before": (lambda: rnn.GRUCell(128, 256, reset="before"), 296_448),
    "NoForgetLSTMCell": (lambda: rnn.NoForgetLSTMCell(128, 256), 3 * 98_816),
    "CoupledLSTMCell": (lambda: rnn.CoupledLSTMCell(128, 256), 3 * 98_816),
    "SimplifiedGRUCell": (lambda: rnn.SimplifiedGRUCell(128, 256), 2 * 98_816),
    "PeepholeLSTMCell": (lambda: rnn.PeepholeLSTMCell(128, 256), 395_264 + 3 * 256),
    "PeepholeLSTMCell, full": (
        lambda: rnn.PeepholeLSTMCell(128, 256, full=True, candidate=True),
        395_264 + 4 * 256 * 256,
    ),
    "JordanCell": (
        lambda: rnn.JordanCell(128, 256, 10),
        256 * (128 + 10 + 1) + 10 * (256 + 1),
    ),
    "ClockworkRNNCell": (
        lambda: rnn.ClockworkRNNCell(128, 256, (1, 2, 4, 8)),
        256 * (128 + 2) + 64 * 64 * (4 + 3 + 2 + 1),
    ),
    "ClockworkRNNCell, one period": (lambda: rnn.ClockworkRNNCell(128, 256, (1, 1)), 98_816),
    "SCRNCell": (lambda: rnn.SCRNCell(128, 256, 40), 40 * 128 + 256 * (40 + 128 + 256)),
    "SCRNCell, learned": (
        lambda: rnn.SCRNCell(128, 256, 40, learned=True),
        40 * 128 + 256 * (40 + 128 + 256) + 40,
    ),
    # A gain and a bias per norm in place of a bias
    "LayerNormRNNCell": (lambda: rnn.LayerNormRNNCell(128, 256), 98_816 + 2 * 256),
    "LayerNormLSTMCell": (lambda: rnn.LayerNormLSTMCell(128, 256), 395_264 + 8 * 256 + 2 * 256),
    "LayerNormGRUCell": (lambda: rnn.LayerNormGRUCell(128, 256), 296_448 + 6 * 256),
}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name: str) -> None:
    make, count = SIZES[name]
    cell = make()
    assert sum(p.size for p in cell.parameters()) == count
    y, _ = cell(tg.zeros((2, cell.input_size)))
    assert y.shape == (2, cell.output_size)
    state = cell.initial_state(2)
    assert all(np.all(leaf.numpy() == 0) and len(leaf) == 2 for leaf in leaves(state))


def test_gates_times_elman() -> None:
    assert 256 * (128 + 256 + 2) == 98_816
    assert [4 * 98_816, 3 * 98_816] == [395_264, 296_448]


@every_cell
def test_weights_begin_as_pytorchs(name: str) -> None:
    """Uniform within one over the root of H, but for what a cell says otherwise."""
    if name == "irnn":
        return
    tg.manual_seed(0)
    cell = CELLS[name](7, 64)
    for key, values in cell.state_dict().items():
        if "norm" not in key and "bias" not in key and key not in ("period", "decay_logit"):
            assert np.abs(values).max() <= 1 / 8, key
            assert values.std() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.3), key


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (rnn.RNNCell(3, 4), "RNNCell(3, 4)"),
        (rnn.RNNCell(3, 4, nonlinearity="relu"), "RNNCell(3, 4, nonlinearity='relu')"),
        (rnn.RNNCell(3, 4, nonlinearity=tg.sigmoid), "RNNCell(3, 4, nonlinearity=sigmoid)"),
        (
            rnn.JordanCell(3, 4, 2, decay=0.5, output=tg.softmax),
            "JordanCell(3, 4, output_size=2, output=softmax, decay=0.5)",
        ),
        (
            rnn.JordanCell(3, 4, 2, teacher_forcing=True),
            "JordanCell(5, 4, output_size=2, teacher_forcing=True)",
        ),
        (rnn.LSTMCell(3, 4, proj_size=2), "LSTMCell(3, 4, proj_size=2)"),
        (rnn.PeepholeLSTMCell(3, 4, full=True), "PeepholeLSTMCell(3, 4, full=True)"),
        (rnn.GRUCell(3, 4, reset="before"), "GRUCell(3, 4, reset='before')"),
        (rnn.ClockworkRNNCell(3, 4, (1, 5)), "ClockworkRNNCell(3, 4, periods=(1, 5))"),
        (rnn.SCRNCell(3, 4, 2, 0.9), "SCRNCell(3, 4, context_size=2, decay=0.9)"),
        (
            rnn.SCRNCell(3, 4, 2, 0.9, learned=True),
            "SCRNCell(3, 4, context_size=2, decay=0.9, learned=True)",
        ),
    ],
)
def test_printed(cell: rnn.Cell, text: str) -> None:
    assert repr(cell).splitlines()[0].split("), ")[0].rstrip(")") == text.rstrip(")")


# What is refused

NAMES = "one of ['identity', 'leaky_relu', 'relu', 'sigmoid', 'tanh'] or a function, got"
REFUSED: list[Refusal] = [
    (
        lambda: rnn.RNN(3, 4, nonlinearity="sigmod"),
        ValueError,
        f"RNNCell: nonlinearity must be {NAMES} 'sigmod'",
    ),
    (
        lambda: rnn.LSTMCell(3, 4, activation="tan"),
        ValueError,
        f"LSTMCell: activation must be {NAMES} 'tan'",
    ),
    (
        lambda: rnn.LSTMCell(3, 4, output_activation=None),  # type: ignore[arg-type]
        ValueError,
        f"LSTMCell: output_activation must be {NAMES} None",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 2, nonlinearity="step"),
        ValueError,
        f"JordanCell: nonlinearity must be {NAMES} 'step'",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 2, output="softmax"),
        ValueError,
        f"JordanCell: output must be {NAMES} 'softmax'",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 0),
        ValueError,
        "JordanCell: output_size must be a positive integer, got 0",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 2, decay=1.5),
        ValueError,
        "JordanCell: decay must satisfy 0 <= decay <= 1, got 1.5",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 2, decay="a"),  # pyright: ignore[reportArgumentType]
        ValueError,
        "JordanCell: decay must satisfy 0 <= decay <= 1, got 'a'",
    ),
    (
        lambda: rnn.RNNCell(3, 4, nonlinearity=["tanh"]),  # pyright: ignore[reportArgumentType]
        ValueError,
        f"RNNCell: nonlinearity must be {NAMES} ['tanh']",
    ),
    *(
        (
            lambda cell=cell: cell(3, 4, forget_bias="1"),
            ValueError,
            f"{cell.__name__}: forget_bias must be a number, got '1'",
        )
        for cell in (rnn.LSTMCell, rnn.CoupledLSTMCell, rnn.PeepholeLSTMCell)
    ),
    (
        lambda: rnn.IRNNCell(3, 4, std=-1.0),
        ValueError,
        "IRNNCell: std must be a number from 0, got -1.0",
    ),
    (
        lambda: rnn.IRNNCell(3, 4, gain=math.nan),
        ValueError,
        "IRNNCell: gain must be a number, got nan",
    ),
    (
        lambda: rnn.JordanCell(3, 4, 2, decay=math.nan),
        ValueError,
        "JordanCell: decay must satisfy 0 <= decay <= 1, got nan",
    ),
    (
        lambda: rnn.Recurrent(rnn.JordanCell(3, 4, 2, teacher_forcing=True))(tg.ones((5, 2, 3))),
        ValueError,
        "Recurrent(JordanCell): inputs must have shape (T, B, 5), got (5, 2, 3)",
    ),
    (
        lambda: rnn.PeepholeLSTMCell(3, 4, output_sees="both"),
        ValueError,
        "PeepholeLSTMCell: output_sees must be 'new' or 'old', got 'both'",
    ),
    (
        lambda: rnn.GRUCell(3, 4, reset="never"),
        ValueError,
        "GRUCell: reset must be 'after' or 'before', got 'never'",
    ),
    (
        lambda: rnn.ClockworkRNNCell(3, 8, (1, 2, 4)),
        ValueError,
        "ClockworkRNNCell: hidden_size must be a multiple of the number of periods, 3, got 8",
    ),
    *(
        (
            lambda periods=periods: rnn.ClockworkRNNCell(3, 4, periods),
            ValueError,
            "ClockworkRNNCell: periods must be a list or tuple of positive integers in ascending "
            f"order, got {periods!r}",
        )
        for periods in (
            *((2, 1), (0, 1), (), (1.0, 2.0), 4, (True, True), "12", None, (-1,), (1, 2**70)),
        )
    ),
    (
        lambda: rnn.SCRNCell(3, 4, -2),
        ValueError,
        "SCRNCell: context_size must be a positive integer, got -2",
    ),
    (
        lambda: rnn.SCRNCell(3, 4, 2, decay=-0.1),
        ValueError,
        "SCRNCell: decay must satisfy 0 <= decay <= 1, got -0.1",
    ),
    (
        lambda: rnn.SCRNCell(3, 4, 2, decay=1, learned=True),
        ValueError,
        "SCRNCell: a learned decay must satisfy 0 < decay < 1, got 1",
    ),
    (
        lambda: rnn.SCRNCell(3, 4, 2)(tg.ones((2, 3)), tg.ones((2, 4))),
        TypeError,
        "SCRNCell: the state must be SCRNState(float32 (2, 4), float32 (2, 2)), got float32 (2, 4)",
    ),
    (
        lambda: rnn.ClockworkRNNCell(3, 4, (1, 2))(
            tg.ones((2, 3)), rnn.ClockworkState(tg.ones((2, 4)), tg.ones((2, 1)))
        ),
        TypeError,
        "ClockworkRNNCell: the state must be ClockworkState(float32 (2, 4), int64 (2, 1)), got "
        "ClockworkState(float32 (2, 4), float32 (2, 1))",
    ),
    *(
        (
            lambda kind=kind: kind(3, 4, bias=False, forget_bias=1.0),
            ValueError,
            f"{kind.__name__}: forget_bias needs bias=True",
        )
        for kind in (rnn.CoupledLSTMCell, rnn.PeepholeLSTMCell, rnn.LayerNormLSTMCell)
    ),
    *(
        (
            lambda kind=kind: kind(3, 2.5),
            ValueError,
            f"{kind.__name__}: hidden_size must be a positive integer, got 2.5",
        )
        for kind in (
            rnn.IRNNCell, rnn.NoForgetLSTMCell, rnn.CoupledLSTMCell, rnn.PeepholeLSTMCell,
            rnn.SimplifiedGRUCell, rnn.ClockworkRNNCell, rnn.LayerNormLSTMCell,
        )
    ),
]  # fmt: skip


@each(REFUSED)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    assert_refused(call, error, message)
