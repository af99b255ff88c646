"""Variational dropout and zoneout round any cell."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from networks import (
    CountingCell,
    NestedCell,
    close,
    close_leaves,
    draw,
    functional,
    leaves,
    random_state,
    randomise,
    rebuilt,
    total,
)

import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops, rnn
from tinygrad_rnn.rnn.known_calls import memory_of

LENGTHS = [3, 5, 0, 1]

# Which masks a loop uses is decided before it is compiled.
pytestmark = pytest.mark.usefixtures("by_numpy")


class Spy(rnn.Cell):
    """Any cell, which notes what it is given to read."""

    def __init__(self, cell: rnn.Cell) -> None:
        self.cell = cell
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size

    def initial_state(self, batch_size: int) -> Any:
        return self.cell.initial_state(batch_size)

    def step(self, x: Any, state: Any) -> Any:
        y, after = self.cell.step(x, state)
        rnn.note(x=x, y=y, read=leaves(state)[0], new=leaves(after)[0])
        return y, after


class Leaky(rnn.Cell):
    """A user's cell that hands on a part of its state: h = keep * h + tanh(U x + W h)."""

    def __init__(self, input_size: int, hidden_size: int, keep: float = 0.9) -> None:
        self.input_size, self.hidden_size, self.keep = input_size, hidden_size, keep
        self.read = nn.Linear(input_size + hidden_size, hidden_size)

    def step(self, x: Any, h: Any) -> Any:
        new = tg.tanh(self.read(tg.concat([x, h], axis=1)))
        h = self.keep * rnn.carried(h) + (1 - self.keep) * new
        rnn.note(h=h)
        return h, h


def dropped(cell: rnn.Cell) -> rnn.Cell:
    return rnn.VariationalDropout(cell, inputs=0.3, state=0.4, outputs=0.2)


def zoned(cell: rnn.Cell) -> rnn.Cell:
    return rnn.Zoneout(cell, 0.4)


CELLS: dict[str, Callable[[int, int], rnn.Cell]] = {
    "tanh": rnn.RNNCell,
    "lstm": rnn.LSTMCell,
    "projected": lambda i, h: rnn.LSTMCell(i, h, proj_size=h - 1),
    "gru": rnn.GRUCell,
    "nested": NestedCell,
    "counting": CountingCell,
    "leaky": Leaky,
    "jordan": lambda i, h: rnn.JordanCell(i, h, h - 1, decay=0.5),
    "clockwork": lambda i, h: rnn.ClockworkRNNCell(i, h, (1, 2)),
    "peephole": rnn.PeepholeLSTMCell,
    "scrn": lambda i, h: rnn.SCRNCell(i, h, context_size=2),
    "layer norm": rnn.LayerNormLSTMCell,
}
WRAPPERS: dict[str, Callable[[rnn.Cell], rnn.Cell]] = {
    "dropout": dropped,
    "zoneout": zoned,
    "dropout of zoneout": lambda cell: dropped(zoned(cell)),
    "zoneout of dropout": lambda cell: zoned(dropped(cell)),
}
COMPILED = [("lstm", "zoneout of dropout"), ("counting", "zoneout"), ("leaky", "dropout")]
every_cell = pytest.mark.parametrize("name", CELLS)
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)


def seeded(layer: Any, *inputs: Any, seed: int = 5, **options: Any) -> Any:
    tg.manual_seed(seed)
    return layer(*inputs, **options)


# What the definitions say


@pytest.mark.parametrize("name", ["tanh", "lstm", "projected"])
def test_variational_dropout_has_one_mask_for_all_steps(name: str) -> None:
    """The masks are read off the first step; a loop by hand with these gives all that comes out."""
    cell = randomise(CELLS[name](30, 40))
    wrapper = rnn.VariationalDropout(Spy(cell), inputs=0.5, state=0.25, outputs=0.2).train()
    x, state = draw(5, 4, 30), random_state(cell.initial_state(4))
    record = ["x", "y", "read"]
    y, last, found = rnn.Recurrent(wrapper)(x, state, record=record)
    given = leaves(state)[0].numpy()
    masks = [
        np.where(part[0].numpy() == 0, 0, 1 / (1 - rate))
        for part, rate in ((found["x"], 0.5), (found["read"], 0.25), (y, 0.2))
    ]
    for mask, rate in zip(masks, (0.5, 0.25, 0.2), strict=True):
        assert np.mean(mask == 0) == pytest.approx(rate, abs=0.12)
        assert len(np.unique(mask == 0, axis=0)) == 4  # a mask of its own for each row
    close(found["read"][0], masks[1] * given, 1e-14)
    h = state
    for t in range(5):
        seen = rebuilt(h, [tg.tensor(masks[1] * leaves(h)[0].numpy()), *leaves(h)[1:]])
        out, h = cell.step(tg.tensor(masks[0] * x.numpy()[t]), seen)
        close(found["y"][t], out, 1e-12)
        close(y[t], masks[2] * out.numpy(), 1e-12)
    close_leaves(last, h)


@pytest.mark.parametrize(
    ("rate", "kept"), [(0.4, (0.4, 0.4)), ({"h": 0.05, "c": 0.5}, (0.05, 0.5))]
)
def test_zoneout_keeps_elements_of_the_step_before(rate: Any, kept: Any) -> None:
    """Each element is the old or the new one; the new ones come from the plain cell."""
    cell = randomise(rnn.LSTMCell(3, 40))
    layer = rnn.Recurrent(rnn.Zoneout(cell, rate))
    x, state = draw(30, 4, 3), random_state(cell.initial_state(4))
    y, last, found = layer(x, state, record=["h", "c"])
    close(y, found["h"], 0)
    shares = []
    before = state
    for t in range(30):
        _, new = cell.step(x[t], before)
        after = rnn.LSTMState(found["h"][t], found["c"][t])
        for old, fresh, have in zip(before, new, after, strict=True):
            is_old = have.numpy() == old.numpy()
            close(have, np.where(is_old, old.numpy(), fresh.numpy()), 1e-12)
            shares.append(np.mean(is_old))
        before = after
    assert np.mean(shares[::2]) == pytest.approx(kept[0], abs=0.02)
    assert np.mean(shares[1::2]) == pytest.approx(kept[1], abs=0.02)
    close_leaves(last, before)


@pytest.mark.parametrize("unroll", [False, True])
def test_zoneout_in_evaluation_is_the_expectation(unroll: bool) -> None:
    cell = randomise(CountingCell(3, 4))
    layer = rnn.Recurrent(rnn.Zoneout(cell, 0.3), unroll=unroll).eval()
    x, state = draw(5, 2, 3), random_state(cell.initial_state(2))
    y, last = layer(x, state)
    for t in range(5):
        _, new = cell.step(x[t], state)
        state = new._replace(h=0.3 * state.h + 0.7 * new.h)
        close(y[t], state.h, 1e-12)
    close_leaves(last, state)
    assert last.t.tolist() == [[5], [5]]  # integers pass


@every_cell
def test_variational_dropout_in_evaluation_is_the_cell(name: str) -> None:
    cell = randomise(CELLS[name](3, 4))
    wrapper = dropped(cell)
    x, state = draw(5, 2, 3), random_state(cell.initial_state(2))
    rnn.Recurrent(wrapper).eval()
    close_leaves(rnn.Recurrent(wrapper)(x, state), rnn.Recurrent(cell)(x, state), 0)


@every_cell
def test_rates_of_zero_change_and_draw_nothing(name: str) -> None:
    cell = randomise(CELLS[name](3, 4))
    x = draw(5, 2, 3)
    tg.manual_seed(0)
    before = ops.generator_state()
    for wrapper in (rnn.VariationalDropout(cell), rnn.Zoneout(cell, 0), rnn.Zoneout(cell, {})):
        close_leaves(rnn.Recurrent(wrapper)(x), rnn.Recurrent(cell)(x), 0)
        assert ops.generator_state() == before


@pytest.mark.parametrize("name", CELLS)
def test_the_mask_does_not_touch_what_is_handed_on(name: str) -> None:
    """Unless the cell reads it, the state is whole."""
    wrapper = randomise(rnn.VariationalDropout(Spy(CELLS[name](3, 4)), state=0.9))
    _, last, found = rnn.Recurrent(wrapper)(draw(1, 50, 3), record=["new"])
    close(found["new"][0], leaves(last)[0], 0)
    assert not np.any(leaves(last)[0].numpy() == 0)


def test_a_cell_that_hands_its_state_on_says_so() -> None:
    """With ``carried`` nothing is lost and nothing grows, however long the sequence."""
    cell = randomise(Leaky(3, 20, keep=1.0))
    state = random_state(cell.initial_state(2))
    for wrapper in (
        rnn.VariationalDropout(cell, state=0.5),
        rnn.VariationalDropout(rnn.Zoneout(cell, 0.5), state=0.5),
        rnn.VariationalDropout(rnn.VariationalDropout(cell, state=0.5), state=0.5),
    ):
        for unroll in (False, True):
            y, last = rnn.Recurrent(wrapper, unroll=unroll)(draw(100, 2, 3), state)
            close(last, state, 0)
            close(y[50], state, 0)


KEEPERS: dict[str, Callable[[], rnn.Cell]] = {
    "gru": lambda: rnn.GRUCell(3, 4),
    "gru, reset before": lambda: rnn.GRUCell(3, 4, reset="before"),
    "simplified": lambda: rnn.SimplifiedGRUCell(3, 4),
    "clockwork": lambda: rnn.ClockworkRNNCell(3, 4, (1000, 2000)),
    "jordan": lambda: rnn.JordanCell(3, 5, 4, decay=1.0),
    "layer norm": lambda: rnn.LayerNormGRUCell(3, 4),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_built_in_cells_hand_their_memory_on_whole(name: str) -> None:
    """With gates that keep everything, h stays as it is, whatever the masks do."""
    cell = randomise(KEEPERS[name]())
    named = dict(cell.named_parameters())
    if name.startswith("gru"):
        named["bias_ih"].data = named["bias_ih"].detach().at[4:8].set(800.0)
    elif name == "layer norm":
        named["norm_ih.bias"].data = named["norm_ih.bias"].detach().at[4:].set(800.0)
    elif name == "simplified":
        named["bias_ih"].data = named["bias_ih"].detach().at[:4].set(-800.0)
    elif name == "jordan":
        for part in ("weight_hy", "bias_y"):
            nn.init.zeros_(named[part])
    state = random_state(cell.initial_state(2))
    if name == "clockwork":
        state = state._replace(t=state.t + 1)
    _, last = rnn.Recurrent(rnn.VariationalDropout(cell, state=0.5))(draw(100, 2, 3), state)
    close(leaves(last)[0], leaves(state)[0], 0)


def test_what_is_recorded_follows_zoneout_where_it_is_a_field_of_the_state() -> None:
    gru = randomise(rnn.Recurrent(rnn.Zoneout(rnn.GRUCell(3, 4), 0.5)))
    y, _, found = gru(draw(5, 2, 3), record=["h", "n"])
    close(found["h"], y, 0)
    assert not np.array_equal(found["n"].numpy(), y.numpy())
    cell = randomise(rnn.Zoneout(rnn.JordanCell(3, 4, 2), 0.5))
    y, last, found = rnn.Recurrent(cell)(draw(5, 2, 3), record=["h"])
    assert found["h"].shape == (5, 2, 4)  # its hidden units, not what came out
    close(y[-1], last, 0)


def test_sizes_are_those_of_the_cell() -> None:
    cell = rnn.Zoneout(rnn.VariationalDropout(rnn.JordanCell(3, 4, 2), inputs=0.5), 0.5)
    assert (cell.input_size, cell.hidden_size, cell.output_size) == (3, 4, 2)
    cell.cell.cell.teacher_forcing = True
    assert cell.input_size == 5
    assert rnn.Recurrent(cell)(tg.randn(5, 2, 5))[0].shape == (5, 2, 2)


class Two(NamedTuple):
    memory: tg.Tensor
    h: tg.Tensor


def test_rates_by_the_names_of_fields() -> None:
    nested, inner = NestedCell(3, 4), rnn.LSTMCell(3, 4)
    assert rnn.Zoneout(nested, 0.1).rates == (0.1, 0.1, 0.1)
    assert rnn.Zoneout(nested, {"fast": 0.2, "c": 0.3}).rates == (0.0, 0.2, 0.3)
    assert rnn.Zoneout(nested, {"slow": 0.2}).rates == (0.2, 0.0, 0.0)
    assert rnn.Zoneout(CountingCell(3, 4), 0.1).rates == (0.1, 0.0)
    assert rnn.Zoneout(rnn.GRUCell(3, 4), {"h": 0.1}).rates == (0.1,)
    assert rnn.VariationalDropout(inner, state=0.5).rates == (0.5, 0.0)
    assert rnn.VariationalDropout(nested, state=0.5).rates == (0.0, 0.5, 0.0)
    assert rnn.VariationalDropout(inner, state={"c": 0.5}).rates == (0.0, 0.5)
    assert rnn.VariationalDropout(rnn.GRUCell(3, 4), state=0.5).rates == (0.5,)

    class Tuples(CountingCell):
        def initial_state(self, batch_size: int) -> Any:
            h = self.zeros(batch_size, self.hidden_size)
            return {"a": (h, Two(h, h)), "b": [h]}

    assert rnn.Zoneout(Tuples(3, 4), {"a": 0.1, "h": 0.2}).rates == (0.1, 0.1, 0.2, 0.0)
    assert rnn.VariationalDropout(Tuples(3, 4), state=0.2).rates == (0.0, 0.0, 0.2, 0.0)
    assert rnn.Zoneout(Tuples(3, 4), 0.1).extra_repr() == (
        "a.0=0.1, a.1.memory=0.1, a.1.h=0.1, b.0=0.1"
    )


# What must hold of any loop


@every_cell
@every_wrapper
def test_replayed_equals_unrolled_with_the_same_masks(name: str, wrapper: str) -> None:
    cell = randomise(WRAPPERS[wrapper](CELLS[name](3, 4)))
    state = random_state(cell.initial_state(4))
    field = "slow" if name == "nested" else "h"
    found = []
    for unroll in (False, True):
        layer = rnn.Recurrent(cell, unroll=unroll)
        x = draw(5, 4, 3, requires_grad=True)
        cell.zero_grad()
        with tg.replay.using(jit=(name, wrapper) in COMPILED):
            y, last, recorded = seeded(layer, x, state, lengths=LENGTHS, record=[field])
            total(y, last).backward()
            again, _ = seeded(layer, x, state, lengths=LENGTHS)
        close(again, y, 1e-12)
        assert np.all(y.numpy()[np.arange(5)[:, None] >= LENGTHS] == 0)
        grads = [x.grad, *(p.grad for p in cell.parameters())]
        found.append([y, *leaves(last), recorded[field], *grads])
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


@pytest.mark.parametrize(
    ("name", "wrapper"),
    [("lstm", "dropout of zoneout"), ("leaky", "dropout"), ("counting", "zoneout")],
)
def test_gradients_with_masks(name: str, wrapper: str, device: str) -> None:
    """To second order, with the same masks at every evaluation."""
    cell = randomise(WRAPPERS[wrapper](CELLS[name](2, 3))).to(device)
    state = random_state(cell.initial_state(2))
    layer = rnn.Recurrent(cell)

    def run(x: Any, *values: Any) -> Any:
        floats = iter(values)
        filled = [next(floats) if s.dtype.kind == "f" else s for s in leaves(state)]
        y, last = seeded(layer, x, rebuilt(state, filled))
        return (y, *(part for part in leaves(last) if part.dtype.kind == "f"))

    function, parameters = functional(layer, run)
    floats = [s for s in leaves(state) if s.dtype.kind == "f"]
    assert tg.check_gradients(function, [*parameters, draw(3, 2, 2, device=device), *floats])


@every_wrapper
def test_devices_and_dtypes_draw_the_same_masks(wrapper: str, device: str) -> None:
    cell = randomise(WRAPPERS[wrapper](rnn.LSTMCell(3, 4)))
    x = draw(5, 2, 3)
    expected, _ = seeded(rnn.Recurrent(cell), x)
    y, _ = seeded(rnn.Recurrent(cell.to(device)), x.to(device))
    close(y, expected, 1e-12)
    single, last = seeded(rnn.Recurrent(cell.to(np.float32)), x.to(device).to(np.float32))
    assert {single.dtype, last.h.dtype, last.c.dtype} == {np.dtype(np.float32)}
    close(single.to(np.float64), expected, 1e-5)


@every_wrapper
def test_seeds_decide_and_calls_differ(wrapper: str) -> None:
    layer = rnn.Stacked(
        [rnn.Recurrent(WRAPPERS[wrapper](rnn.LSTMCell(size, 4))) for size in (3, 4)]
    )
    x = tg.randn(5, 2, 3)
    one, _ = seeded(layer, x)
    other, _ = layer(x)
    assert np.array_equal(seeded(layer, x)[0].numpy(), one.numpy())
    assert not np.array_equal(other.numpy(), one.numpy())
    assert not np.array_equal(seeded(layer, x, seed=6)[0].numpy(), one.numpy())


@every_wrapper
def test_the_state_may_be_given_without_drawing_more(wrapper: str) -> None:
    """Whatever is checked of a given state, and however often: the masks are those of the call."""
    layer = rnn.Recurrent(WRAPPERS[wrapper](rnn.LSTMCell(3, 4)))
    x, state = tg.randn(5, 2, 3), layer.initial_state(2)
    expected, _ = seeded(layer, x)
    for _ in range(2):
        assert np.array_equal(seeded(layer, x, state)[0].numpy(), expected.numpy())


@every_cell
@every_wrapper
def test_chunks_rows_and_streams_in_evaluation(name: str, wrapper: str) -> None:
    layer = randomise(rnn.Recurrent(WRAPPERS[wrapper](CELLS[name](3, 4)))).eval()
    x = draw(5, 4, 3)
    whole, last = layer(x)
    first, state = layer(x[:2])
    second, state = layer(x[2:], state)
    close(tg.concat([first, second], 0), whole, 1e-12)
    close_leaves(state, last)
    state, outputs = None, []
    for row in x:
        y, state = layer.step(row, state)
        outputs.append(y)
    close(tg.stack(outputs, 0), whole, 1e-12)
    y, _ = layer(x, lengths=LENGTHS)
    for row, n in enumerate(LENGTHS):
        if n:
            close(y[:n, row : row + 1], layer(x[:n, row : row + 1])[0], 1e-12)


@every_wrapper
def test_states_go_from_training_to_evaluation_and_back(wrapper: str) -> None:
    layer = rnn.Recurrent(WRAPPERS[wrapper](NestedCell(3, 4)))
    plain = rnn.Recurrent(NestedCell(3, 4))
    x = tg.randn(5, 2, 3)
    _, state = layer(x)
    for mode in (False, True):
        _, state = layer.train(mode)(x, rnn.detach(state))
    plain(x, state)
    assert type(state) is type(plain.initial_state(2))


@every_wrapper
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 3), (4, 1), (3, 0)])
def test_one_step_one_row_and_no_row(wrapper: str, steps: int, batch: int) -> None:
    layer = randomise(rnn.Recurrent(WRAPPERS[wrapper](rnn.LSTMCell(3, 4))))
    x = draw(steps, batch, 3, requires_grad=True)
    y, state = seeded(layer, x)
    assert y.shape == (steps, batch, 4)
    total(y, state).backward()
    assert x.grad.shape == x.shape
    if steps == 1:
        close(seeded(layer.step, x[0])[0], y[0], 1e-12)
        close(seeded(layer.cell, x[0])[0], y[0], 1e-12)


@pytest.mark.parametrize("mode", [False, True])
@every_wrapper
def test_in_layers_of_every_kind(wrapper: str, mode: bool) -> None:
    def loop(size: int, reverse: bool = False) -> rnn.Recurrent:
        return rnn.Recurrent(WRAPPERS[wrapper](rnn.GRUCell(size, 4)), reverse)

    layer = randomise(
        rnn.Stacked(
            [
                rnn.Bidirectional(loop(3), loop(3)),
                rnn.Residual(rnn.Stacked([nn.LayerNorm(8), loop(8), nn.Linear(4, 8)])),
                nn.Dropout(0.5),
                loop(8, True),
            ]
        )
    ).train(mode)
    x = draw(5, 4, 3, requires_grad=True)
    y, state = seeded(layer, x, lengths=LENGTHS)
    total(y, state).backward()
    assert all(np.any(p.grad.numpy() != 0) for p in layer.parameters())
    again, _ = seeded(layer, x, lengths=LENGTHS)
    close(again, y, 0)
    assert not np.array_equal(layer(x, lengths=LENGTHS)[0].numpy(), y.numpy()) or not mode


@pytest.mark.parametrize("checkpoint", [2, "sqrt"])
@every_wrapper
def test_checkpoints_compute_the_same_again(wrapper: str, checkpoint: Any) -> None:
    found = []
    for every in (None, checkpoint):
        cell = randomise(WRAPPERS[wrapper](rnn.LSTMCell(3, 4)))
        y, state = seeded(rnn.Recurrent(cell, checkpoint=every), draw(7, 2, 3))
        total(y, state).backward()
        found.append([y, *(p.grad for p in cell.parameters())])
    for a, b in zip(*found, strict=True):
        close(a, b, 1e-12)


# The fast path


def kinds(layer: Any) -> list[str]:
    """The products and calls of a layer's loops, forward and backward."""
    lines = [line.strip() for line in layer.explain(4).splitlines() if line.startswith("    ")]
    return [line.split()[0] for line in lines if line.startswith(("product", "call"))]


@every_wrapper
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_the_loop_stays_as_fast(wrapper: str, name: str) -> None:
    """No product and no call more than the plain cell's; masks are inputs, drawn beforehand."""
    layer = rnn.Recurrent(WRAPPERS[wrapper](CELLS[name](12, 8)))
    assert kinds(layer) == kinds(rnn.Recurrent(CELLS[name](12, 8)))
    notes = {line.strip() for line in layer.explain(4).splitlines() if "note: " in line}
    assert notes == {"note: runs as NumPy calls, since Numba is switched off"}
    layer(tg.randn(5, 2, 12))
    assert len(memory_of(layer).calls) == 1  # it will not be traced again
    before = memory_of(layer).calls
    layer(tg.randn(7, 2, 12))
    assert memory_of(layer).calls == before


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@every_wrapper
def test_copies(wrapper: str, how: str) -> None:
    layer = rnn.Recurrent(WRAPPERS[wrapper](rnn.LSTMCell(3, 4)))
    made = copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    x = tg.randn(5, 2, 3)
    close(seeded(made, x)[0], seeded(layer, x)[0], 0)
    assert list(made.state_dict()) == list(layer.state_dict())
    inner = "cell.cell.cell." if " of " in wrapper else "cell.cell."
    assert next(iter(layer.state_dict())) == f"{inner}weight_ih"


# What is refused


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda c: rnn.Zoneout(c, 1.0), ValueError,
         r"Zoneout\(LSTMCell\): the rate of the state must satisfy 0 <= rate < 1, got 1.0"),
        (lambda c: rnn.Zoneout(c, {"c": -0.1}), ValueError,
         r"Zoneout\(LSTMCell\): the rate of c must satisfy 0 <= rate < 1, got -0.1"),
        (lambda c: rnn.Zoneout(c, {"k": 0.1}), ValueError,
         r"Zoneout\(LSTMCell\): the state has no floating field 'k', only \['c', 'h'\]"),
        (lambda c: rnn.Zoneout(CountingCell(3, 4), {"t": 0.1}), ValueError,
         r"Zoneout\(CountingCell\): the state has no floating field 't', only \['h'\]"),
        (lambda c: rnn.Zoneout(c, float("nan")), ValueError, "0 <= rate < 1, got nan"),
        (lambda c: rnn.Zoneout(c, True), ValueError, "0 <= rate < 1, got True"),
        (lambda c: rnn.Zoneout(c, "0.1"), ValueError, "0 <= rate < 1, got '0.1'"),
        (lambda c: rnn.VariationalDropout(c, inputs=1), ValueError,
         "VariationalDropout: the rate of inputs must satisfy 0 <= rate < 1, got 1"),
        (lambda c: rnn.VariationalDropout(c, outputs=-1), ValueError, "the rate of outputs must"),
        (lambda c: rnn.VariationalDropout(c, state=2), ValueError, "the rate of the state must"),
        (lambda c: rnn.Zoneout(rnn.Recurrent(c), 0.1), TypeError,
         "Zoneout: expected a Cell, got Recurrent"),
    ],
)  # fmt: skip
def test_what_is_refused(make: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        make(rnn.LSTMCell(3, 4))


def test_a_state_without_an_h_needs_names() -> None:
    class Pair(NamedTuple):
        slow: tg.Tensor
        fast: tg.Tensor

    class Other(CountingCell):
        def initial_state(self, batch_size: int) -> Any:
            return Pair(*(self.zeros(batch_size, self.hidden_size) for _ in range(2)))

    with pytest.raises(ValueError, match=r"no field 'h', only \['fast', 'slow'\]: give rates by"):
        rnn.VariationalDropout(Other(3, 4), state=0.1)
    assert rnn.VariationalDropout(Other(3, 4), inputs=0.1).rates == (0.0, 0.0)
    assert rnn.VariationalDropout(Other(3, 4), state={"fast": 0.1}).rates == (0.0, 0.1)
