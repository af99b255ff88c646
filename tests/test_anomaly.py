"""Planted nans are named exactly: in a weight, the data, a cell, a gradient, a masked row."""

from __future__ import annotations

import copy
import math
import pickle
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

T, B, I, H = 9, 2, 3, 4


def line(text: str) -> str:
    """The only line of this file that holds a text and is no call of this function."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (found,) = [k for k, one in enumerate(lines, 1) if text in one and "line(" not in one]
    return f"{__file__}:{found}"


class Guarded(rnn.Cell):
    """A user's cell whose logarithm goes wrong where the inputs of a row sum up to 2 or more."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(np.zeros((hidden_size, input_size)))
        self.v = nn.Parameter(np.zeros((hidden_size, hidden_size)))
        self.scale = nn.Buffer(np.ones(hidden_size))

    def step(self, x: Any, h: Any) -> Any:
        a = tg.linear(x, self.w) + h @ self.v
        rest = 2.0 - tg.sum(x, -1, keepdims=True)
        h = tg.tanh(a) * self.scale + 0.1 * tg.log(rest)
        return tg.tanh(h), h


class Model(nn.Module):
    """A two-layer bidirectional stack of that cell, and a product."""

    def __init__(self, unroll: bool) -> None:
        def both(size: int) -> Any:
            ways = [rnn.Recurrent(Guarded(size, H), unroll=unroll) for _ in "ab"]
            return rnn.Bidirectional(*ways, merge=lambda y, z: 0.1 * (y + z))

        self.encoder = rnn.Stacked([both(I), both(H)])
        self.head = nn.Linear(H, 1)

    def forward(self, x: Any, state: Any = None, lengths: Any = None) -> Any:
        y, _ = self.encoder(x, state, lengths=lengths)
        return self.head(y)


@pytest.fixture(params=["unrolled", "replayed", "compiled"])
def unroll(request: pytest.FixtureRequest) -> Iterator[bool]:
    with tg.replay.using(jit=request.param == "compiled"):
        yield request.param == "unrolled"


def model_and_input(unroll: bool) -> tuple[Model, np.ndarray]:
    return randomise(Model(unroll), scale=0.1), 0.1 * draw(T, B, I).numpy()


def found(function: Callable[[], Any]) -> lab.AnomalyError:
    with pytest.raises(lab.AnomalyError) as error, lab.detect_anomaly():
        function()
    return error.value


def update(model: Any, x: Any, **options: Any) -> Callable[[], Any]:
    return lambda: model(tg.tensor(x), **options).sum().backward()


def spelt(low: float, high: float) -> str:
    return f"from {low:.4g} to {high:.4g}"


def test_a_in_a_weight(unroll: bool) -> None:
    model, x = model_and_input(unroll)
    name = "encoder.layers.1.backward_layer.cell.v"
    v = model.encoder.layers[1].backward_layer.cell.v
    finite = v.numpy().copy()
    v.array[1, 2] = math.nan
    finite = np.delete(finite, 1 * H + 2)
    held = f"float64 (4, 4) 1 of 16 nan, else {spelt(finite.min(), finite.max())}"
    error = found(update(model, x))
    loop = "" if unroll else " in a replayed loop"
    assert str(error) == (
        f"the parameter {name} holds nan: {held}; the first at [1, 2]\n"
        f"  read first by matmul{loop}, time step 8 (encoder.layers.1.backward_layer.cell, "
        f"reversed, {line('a = tg.linear(x, self.w) +')})\n"
        f"  operands: float64 (2, 4) all 0; {name} {held}\n"
        "  hint: an update or a file made it so: load a checkpoint from before, and lower the "
        "learning rate or clip the gradient"
    )
    assert (error.parameter, error.layer) == (name, name.removesuffix(".v"))
    assert (error.step, error.reverse, error.line) == (8, True, line("a = tg.linear(x, self.w) +"))
    assert (error.operation, error.value, error.backward) == ("matmul", "nan", False)
    assert error.ranges[1] == error.result._replace(name=name)
    assert error.index == (1, 2)
    assert error.ranges[0].is_finite
    assert error.ranges[1].nan == 1


def test_b_in_the_data(unroll: bool) -> None:
    model, x = model_and_input(unroll)
    x[3, 1, 0] = math.nan
    error = found(update(model, x))
    loop = "" if unroll else " in a replayed loop"
    cell = "encoder.layers.0.forward_layer.cell"
    w = model.encoder.layers[0].forward_layer.cell.w.numpy()
    row = np.delete(x[3].ravel(), 3)
    rest = x[np.isfinite(x)]
    assert str(error) == (
        "the argument x of the model (Model) holds nan: float64 (9, 2, 3) 1 of 54 nan, else "
        f"{spelt(rest.min(), rest.max())}; the first at [3, 1, 0]\n"
        f"  read first by linear{loop}, time step 3 ({cell}, {line('a = tg.linear(x, self.w) +')})"
        f"\n  operands: float64 (2, 3) 1 of 6 nan, else {spelt(row.min(), row.max())}; "
        f"{cell}.w float64 (4, 3) {spelt(w.min(), w.max())}"
    )
    assert error.came_in == "the argument x of the model (Model)"
    assert (error.layer, error.step, error.parameter) == (cell, 3, None)


def test_c_in_a_cell_of_the_users_own_at_step_7(unroll: bool) -> None:
    model, x = model_and_input(unroll)
    x[7, 1] = [1.0, 2.0, 3.0]
    error = found(update(model, x))
    loop = "" if unroll else " in a replayed loop"
    rest = 2 - x[7].sum(-1)
    where = line("h = tg.tanh(a) * self.scale +")
    assert str(error) == (
        f"log{loop}, time step 7: gives nan of finite operands "
        f"(encoder.layers.0.forward_layer.cell, {where})\n"
        f"  result: float64 (2, 1) 1 of 2 nan, else {np.log(rest[0]):.4g}; the first at [1, 0]\n"
        f"  operands: float64 (2, 1) {spelt(-4, rest[0])}\n"
        "  hint: log of a number below 0 is nan: what is to keep it positive? tg.exp or "
        "tg.softplus do"
    )
    assert (error.layer, error.step) == ("encoder.layers.0.forward_layer.cell", 7)
    assert (error.reverse, error.line, error.came_in) == (False, where, None)


class Root(rnn.Cell):
    """A user's cell that is sound forward, and backward not where its input is 0."""

    def __init__(self, size: int) -> None:
        self.input_size = self.hidden_size = size
        self.gain = nn.Parameter(np.ones(size))

    def step(self, x: Any, h: Any) -> Any:
        y = tg.sqrt(x * self.gain)
        return y, 0.5 * h + y


def test_d_backward_only(unroll: bool) -> None:
    both = [rnn.Recurrent(Root(I), unroll=unroll) for _ in "ab"]
    model = rnn.Stacked([rnn.Bidirectional(*both, merge=lambda y, z: z)])
    x = np.full((T, B, I), 4.0)
    x[5, 0, 1] = 0
    error = found(lambda: model(tg.tensor(x, requires_grad=True))[0].sum().backward())
    loop = "" if unroll else " in a replayed loop"
    assert str(error) == (
        f"sqrt{loop}, backwards, time step 5: its gradient rule gives inf of finite operands "
        f"(layers.0.backward_layer.cell, reversed, {line('y = tg.sqrt(x * self.gain)')})\n"
        "  gradient: float64 (2, 3) 1 of 6 inf, else 0.25; the first at [0, 1]\n"
        "  operands: float64 (2, 3) from 0 to 4; gradient float64 (2, 3) all 1\n"
        "  hint: the derivative of sqrt at 0 is infinite: tg.sqrt(x + 1e-12); a root of a sum of "
        "squares is tg.norm, whose gradient at 0 is 0"
    )
    assert (error.backward, error.step, error.reverse) == (True, 5, True)
    assert error.ranges[-1].name == "gradient"


def test_e_a_masked_row() -> None:
    scores = draw(2, 3, requires_grad=True)
    mask = tg.tensor(np.array([[True, True, False], [False, False, False]]))

    def by_hand() -> None:
        kept = tg.where(mask, scores, -math.inf)
        weights = tg.exp(kept - tg.max(kept, -1, keepdims=True))
        (weights / tg.sum(weights, -1, keepdims=True)).sum().backward()

    first, second = scores.numpy()[0, :2]
    low, high = sorted([first, second])
    assert str(found(by_hand)) == (
        "subtract: gives nan of operands that hold an infinity "
        f"({line('weights = tg.exp(kept - tg.max(')})\n"
        f"  result: float64 (2, 3) 3 of 6 nan, 1 of 6 -inf, else {spelt(low - high, 0)}; "
        "the first at [1, 0]\n"
        f"  operands: float64 (2, 3) 4 of 6 -inf, else {spelt(low, high)}; "
        f"float64 (2, 1) 1 of 2 -inf, else {high:.4g}\n"
        "  hint: inf - inf is nan: all of a row is masked; tg.softmax and tg.logsumexp take rows "
        "of -inf"
    )


def test_a_masked_row_in_a_mean() -> None:
    scores, mask = draw(2, 3, requires_grad=True), tg.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    error = found(lambda: ((scores * mask).sum(-1) / mask.sum(-1)).sum().backward())
    assert (error.operation, error.index) == ("divide", (1,))
    assert str(error).startswith("divide: gives nan of finite operands (")
    assert error.hint.startswith("0 / 0, as where a mask counts nothing in a row, or a norm")


def test_a_masked_row_in_a_loss() -> None:
    scores = tg.zeros((2, 3), requires_grad=True)
    mask = tg.tensor(np.array([[True, True, False], [False, False, False]]))
    error = found(lambda: nn.cross_entropy(tg.where(mask, scores, -math.inf), [0, 1]).backward())
    assert str(error).startswith("cross_entropy: gives inf, since a row or a label is masked")
    assert error.hint.startswith("the logit of a label is -inf")


def test_a_mask_that_is_multiplied() -> None:
    scores, mask = draw(2, 3, requires_grad=True), tg.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    error = found(lambda: tg.softmax(scores + (1 - mask) * -math.inf).sum().backward())
    assert error.operation == "multiply"
    assert "0 times inf is nan" in error.hint


def test_states_buffers_and_arguments_in_containers(unroll: bool) -> None:
    layer: Any = randomise(rnn.LSTM(I, H, 2, unroll=unroll))
    state = layer.initial_state(B)
    state.c.array[1, 0, 2] = math.nan
    error = found(lambda: layer(draw(T, B, I), state)[0].sum().backward())
    first = str(error).partition("\n")[0]
    assert first == (
        "the argument state.c of the model (LSTM) holds nan: float64 (2, 2, 4) 1 of 16 nan, else 0;"
        " the first at [1, 0, 2]"
    )
    assert (error.layer, error.step, error.operation) == ("l1", 0, "multiply")
    model, x = model_and_input(unroll)
    model.encoder.layers[0].forward_layer.cell.scale.array[2] = math.inf
    error = found(update(model, x))
    assert error.came_in == "the buffer encoder.layers.0.forward_layer.cell.scale"
    assert (error.value, error.index, error.operation) == ("inf", (2,), "multiply")


def test_a_loop_of_the_users_own() -> None:
    cell = randomise(rnn.GRUCell(I, H))

    def run(batch: dict[str, Any]) -> None:
        h = cell.initial_state(B)
        for t in range(T):
            _, h = cell.step(batch["x"][t], h)
        h.sum().backward()

    x = draw(T, B, I)
    x.array[4, 1, 1] = math.nan
    error = found(lambda: run({"x": x}))
    assert error.came_in == "the variable batch['x'] of run"
    assert (error.operation, error.index) == ("linear", (4, 1, 1))
    assert error.parameter is None
    assert error.ranges[0].shape == (B, I)


def test_inf_that_came_in() -> None:
    """It is named where nan comes of it, and not where tanh makes it 1."""
    layer = randomise(rnn.RNN(I, H))
    x = draw(T, B, I)
    x.array[2, 0, 0] = math.inf
    with lab.detect_anomaly():
        layer(x)
    error = found(lambda: layer(x)[0].sum().backward())
    assert error.came_in == "the argument x of the model (RNN)"
    assert error.backward
    assert "0 times inf is nan in linear in a replayed loop, backwards, time step 2" in str(error)


class Reader(nn.Module):
    """An embedding, stacked LSTMs and a product, as in a model of a language."""

    def __init__(self, **options: Any) -> None:
        self.embedding = nn.Embedding(7, 3)
        self.layers = rnn.LSTM(3, 4, 2, **options)
        self.output = nn.Linear(8 if options.get("bidirectional") else 4, 7)

    def forward(self, numbers: Any) -> Any:
        return self.output(self.layers(self.embedding(numbers))[0])


@pytest.mark.parametrize(
    "options", [{}, {"unroll": True}, {"bidirectional": True}, {"checkpoint": "sqrt"}]
)
def test_every_parameter_of_a_model(options: dict[str, Any]) -> None:
    model, numbers = randomise(Reader(**options)), np.arange(8).reshape(4, 2) % 7

    def run() -> None:
        nn.cross_entropy(model(numbers), numbers, axis=-1).backward()

    with tg.replay.using(jit=False):
        for name, p in model.named_parameters():
            before, place = p.array.flat[1], tuple(map(int, np.unravel_index(1, p.shape)))
            p.array.flat[1] = math.nan
            error = found(run)
            assert str(error).startswith(f"the parameter {name} holds nan: float64 {p.shape} 1 of ")
            assert (error.parameter, error.index, error.backward) == (name, place, False)
            is_last = "reverse" in name
            assert error.step == ((3 if is_last else 0) if name.startswith("layers") else None)
            p.array.flat[1] = before


def test_data_of_which_tensors_were_made() -> None:
    """Neither the layer nor the loss was given the very array."""
    layer, x = randomise(rnn.GRU(I, H, batch_first=True)), draw(B, T, I).numpy().copy()
    x[1, 4, 2] = math.nan
    for lengths in (None, [T, 5]):
        error = found(lambda n=lengths: layer(tg.tensor(x), lengths=n)[0].sum().backward())
        assert error.came_in == "the argument x of the model (GRU)"
        assert (error.operation, error.step, error.index) == ("linear", 4, (1, 4, 2))
    with lab.detect_anomaly():
        layer(tg.tensor(x), lengths=[T, 4])[0].sum().backward()
    targets = np.ones((B, T, H))
    targets[0, 1, 1] = math.nan
    y, _ = layer(draw(B, T, I))
    error = found(lambda: nn.mse_loss(y, targets).backward())
    assert error.came_in in ("the argument targets of mse_loss", "the variable targets of <lambda>")
    w = tg.ones(H, requires_grad=True)
    assert found(lambda: (w * tg.tensor(targets[0, 1])).sum().backward()).came_in == "an operand"

    def weighed(rows: Any) -> None:
        (w * tg.tensor(rows["first"])).sum().backward()

    error = found(lambda: weighed({"first": targets[0, 1]}))
    assert error.came_in == "the variable rows['first'] of weighed"
    gain = nn.Parameter([1.0, math.nan])
    error = found(lambda: (gain * 2).sum().backward())
    assert str(error).startswith("the variable gain of <lambda> holds nan: float32")
    assert error.parameter is None


@pytest.mark.parametrize(
    "move",
    [
        lambda x: tg.split(x, sizes=[2, 1], axis=-1)[0],
        lambda x: tg.stack([x, x]),
        lambda x: tg.concat([x, x]),
        lambda x: tg.reshape(x, (-1,)),
        lambda x: tg.transpose(x),
        lambda x: tg.flip(x, 0),
        lambda x: tg.pad(x, [(1, 0), (0, 0)]),
        lambda x: tg.unstack(x, 0)[0],
        lambda x: tg.broadcast_to(x, (5, 2, 3)),
        lambda x: x.astype(np.float64),
        lambda x: x[:, 1],
        lambda x: tg.where(tg.tensor([True, True, False]), x, 0.0),
    ],
)
def test_who_hands_elements_on_is_not_who_reads_them(move: Any) -> None:
    x = tg.tensor(np.array([[1.0, math.nan, 3.0], [4.0, 5.0, 6.0]], np.float32))
    error = found(lambda: tg.exp(move(x)))
    assert (error.operation, error.index) == ("exp", (0, 1))
    assert error.came_in == "the variable x of <lambda>"
    assert found(lambda: move(x)).operation != "exp"


@pytest.mark.parametrize("unroll", [False, True])
def test_a_state_that_explodes(unroll: bool) -> None:
    layer = rnn.Recurrent(rnn.RNNCell(I, H, nonlinearity="relu"), unroll=unroll)
    for p in layer.parameters():
        p.data = np.ones(p.shape, np.float32)
    layer.cell.weight_hh.data = 3 * np.eye(H, dtype=np.float32)
    error = found(lambda: layer(tg.ones((200, B, I)))[0].sum().backward())
    step, h = -1, np.float32(0)
    while np.isfinite(h):
        step, h = step + 1, np.float32(3) * h + np.float32(5)
    assert (error.operation, error.value, error.step) == ("linear", "inf", step)
    assert error.hint.startswith("it overflows float32")


class Counting(rnn.Cell):
    """A user's cell that counts, and so runs unrolled."""

    pure = False

    def __init__(self) -> None:
        self.input_size = self.hidden_size = I
        self.gain = nn.Parameter(np.ones(I))
        self.count = 0

    def step(self, x: Any, h: Any) -> Any:
        self.count += 1
        h = tg.log(x * self.gain) + h
        return h, h


@pytest.mark.filterwarnings("ignore::tinygrad_rnn.replay.UnrolledWarning")
@pytest.mark.parametrize("step", [0, 1, 5])
def test_a_loop_that_cannot_be_replayed(step: int) -> None:
    """Its first steps have been traced when that is found out."""
    x = np.ones((T, B, I))
    x[step, 1, 2] = -1
    error = found(lambda: rnn.Recurrent(Counting())(tg.tensor(x))[0].sum().backward())
    assert (error.operation, error.step, error.layer) == ("log", step, "cell")
    assert error.line == line("h = tg.log(x * self.gain) + h")


# The branch of a where that is not taken


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("log", tg.log),
        ("sqrt", lambda x: tg.sqrt(x)),
        ("divide", lambda x: 1.0 / x),
        ("power", lambda x: x**0.5),
        ("power", lambda x: x**-1.5),
        ("log", lambda x: tg.log(x) * x),
        ("log", lambda x: tg.sum(tg.log(x) * tg.ones((2, 2)), -1)),
    ],
)
@pytest.mark.parametrize("loop", ["no", "replayed", "unrolled"])
def test_a_branch_that_is_not_taken(name: str, function: Any, loop: str) -> None:
    """Forward nothing is wrong; backward the operation and the ``where`` are named."""
    x = tg.tensor(np.array([[4.0, 0.0], [1.0, 2.0]]), requires_grad=True)

    def choose(x: Any) -> Any:
        y = function(x)
        return tg.where(x > 0 if y.shape == x.shape else tg.sum(x, -1) > 5, y, 0.0)

    def run() -> Any:
        if loop == "no":
            return choose(x)
        steps = tg.stack([x + 1.0, x])
        return tg.scan(
            lambda x, h: (choose(x) + 0 * h, h), steps, tg.tensor(0.0), unroll=loop == "unrolled"
        )[0]

    with lab.detect_anomaly():
        assert np.isfinite(run().numpy()).all()
    error = found(lambda: run().sum().backward())
    where = " in a replayed loop, time step 1" if loop == "replayed" else ""
    where = ", time step 1" if loop == "unrolled" else where
    assert error.operation == name
    assert error.backward
    assert f"where{where} ({line('return tg.where(x > 0 if')}) does not take" in str(error)
    assert error.hint.startswith("a branch that is not taken is computed all the same")
    assert error.step == (None if loop == "no" else 1)


def test_a_branch_of_a_where_outside_the_loop() -> None:
    x = tg.tensor([1.0, 0.0, 4.0], requires_grad=True)

    def run() -> None:
        y, _ = tg.scan(lambda x, h: (tg.sqrt(x), h), x, tg.tensor(0.0))
        tg.where(x > 0, y, 1.0).sum().backward()

    error = found(run)
    assert (error.operation, error.step) == ("sqrt", 1)
    assert "0 times inf is nan: where (" in str(error)


def test_padding_that_is_computed_and_thrown_away() -> None:
    x, w = draw(T, B, I), draw(I, H, requires_grad=True)
    x.array[5:, 1] = math.nan
    valid = tg.tensor(np.arange(T)[:, None, None] < np.array([T, 5])[:, None])
    error = found(lambda: tg.where(valid, x @ w, 0.0).sum().backward())
    assert error.came_in == "the variable x of <lambda>"
    assert "does not take it, but 0 times nan is nan in matmul, backwards" in str(error)
    assert error.hint.startswith("put 0 in its place before anything is computed of it")
    with lab.detect_anomaly():
        (tg.where(valid, x, 0.0) @ w).sum().backward()


# The error


def test_the_error_is_copied_and_pickled() -> None:
    error = found(lambda: tg.log(tg.tensor([-1.0])))
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert str(twin) == str(error)
        assert twin.finding == error.finding
        assert twin.operation == "log"
    with pytest.raises(AttributeError, match="'AnomalyError' object has no attribute 'colour'"):
        _ = error.colour


def fails(error: type[Exception], *values: float) -> None:
    with lab.detect_anomaly():
        for value in values:
            tg.log(tg.tensor(value))
        raise error("no luck")


def test_an_error_of_arithmetic_gives_way_and_others_get_a_note() -> None:
    with pytest.raises(lab.AnomalyError) as found:
        fails(FloatingPointError, 1.0, -1.0)
    assert isinstance(found.value.__cause__, FloatingPointError)
    with pytest.raises(ValueError, match="no luck") as other:
        fails(ValueError, -1.0)
    assert other.value.__notes__[0].startswith("detect_anomaly: log: gives nan")
    for kind in (FloatingPointError, ValueError):
        with pytest.raises(kind, match="no luck") as plain:
            fails(kind, 1.0)
        assert not hasattr(plain.value, "__notes__")


def test_of_a_block_that_fails_the_last_thing_is_said() -> None:
    """And not what did no harm long before."""
    with pytest.raises(lab.AnomalyError, match=r"^log: gives nan"):
        fails(FloatingPointError, 0.0, -1.0)


def test_within_the_handling_of_an_error_and_as_a_decorator() -> None:
    @lab.detect_anomaly()
    def wrong(x: Any) -> Any:
        return tg.log(x)

    try:
        raise FloatingPointError("before")
    except FloatingPointError:
        with pytest.raises(lab.AnomalyError, match=r"^log: gives -inf") as first:
            wrong(tg.tensor(0.0))
        assert first.value.__cause__ is None
    try:
        wrong(tg.tensor(0.0))
    except lab.AnomalyError:
        with pytest.raises(lab.AnomalyError, match=r"^log: gives nan"):
            wrong(tg.tensor(-1.0))
    assert wrong(tg.tensor(1.0)).item() == 0
    assert not tg.tape.current_modes.get().observers


def test_a_function_that_it_decorates_and_that_calls_itself() -> None:
    """What the outer call is about to choose from is no business of the inner one."""

    @lab.detect_anomaly()
    def deep(depth: int) -> Any:
        y = tg.log(tg.tensor([0.0, 1.0]))
        inner = deep(depth - 1) if depth else 0.0
        return tg.where(tg.isfinite(y), y, 1.0) + inner

    assert deep(2).tolist() == [3.0, 0.0]


def test_after_an_error_the_block_goes_on() -> None:
    with lab.detect_anomaly():
        for _ in range(2):
            x = tg.tensor(0.0, requires_grad=True)
            with pytest.raises(lab.AnomalyError, match=r"^sqrt, backwards: its"):
                tg.sqrt(x).backward()
        tg.sqrt(tg.tensor(4.0, requires_grad=True)).backward()


def test_a_loss_that_was_made_before_the_block() -> None:
    x = tg.tensor([1.0, 0.0], requires_grad=True)
    loss = (tg.log(x) * 2.0).sum()
    assert str(found(loss.backward)).startswith("log: gives -inf of finite operands\n  result: ")


def test_nothing_is_kept_alive() -> None:
    """What is not finite is followed for as long as it lives."""

    def use(function: Any) -> Any:
        mask = tg.full((4, 4), -math.inf)
        kept = weakref.ref(mask.array)
        function(draw(4, 4) + mask)
        return kept

    with lab.detect_anomaly():
        assert use(tg.softmax)() is None
        assert use(tg.exp)() is None


@pytest.mark.parametrize("last", [True, False])
def test_a_state_that_no_later_step_reads(last: bool) -> None:
    """Its gradient is 0 in a replayed loop, and 0 times inf is nan there."""
    x = np.array([[4.0, 1.0], [1.0, 2.0], [3.0, 5.0]])
    x[2 if last else 0, 1] = 0
    xs = tg.tensor(x, requires_grad=True)
    y, h = tg.scan(lambda x, h: (2.0 * x, tg.sqrt(x)), xs, tg.ones(2).astype(float))
    loss = y.sum() if last else y.sum() + h.sum()
    error = found(loss.backward)
    assert (error.operation, error.step, error.value) == ("sqrt", 2 if last else 0, "nan")
    assert "the gradient that arrives there is 0, and 0 times inf is nan" in str(error)
