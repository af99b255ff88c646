"""Products in float16 with sums in float32: what they mean, and that no cache mixes them up."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCUDA
from networks import CELLS, NestedCell, close, randomise
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import backends, nn, rnn
from tinygrad_rnn.ops import current_precision
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.program.loop import Product
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.scan import trace

FORWARD, BACKWARD = (1e-3, 1e-2), (5e-3, 5e-2)
"""Absolute and relative tolerances of what runs in float16, as docs/dtypes.md says."""
STEPS, NORMED_STEPS = 10, 2
"""Steps within which they hold; layer norm magnifies small numbers, and what was rounded."""


def half(array: Any) -> Any:
    """What float16 holds of float32 numbers."""
    return array.astype(np.float16).astype(np.float32)


def drawn(*shape: int, seed: int = 0, **options: Any) -> tg.Tensor:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape)
    return tg.tensor(values.astype(np.float32), **options)


# One product


@pytest.mark.parametrize(
    ("left", "right"), [((3, 4), (4, 5)), ((4,), (4, 5)), ((2, 3, 4), (4,)), ((2, 3, 4), (2, 4, 5))]
)
def test_operands_are_rounded_and_sums_are_not(left: Any, right: Any, device: str) -> None:
    a, b = drawn(*left, device=device) * 1000, drawn(*right, seed=1, device=device)
    with tg.matmul_precision("float16"):
        y = a @ b
    assert y.dtype == np.float32
    close(y, half(a.numpy()) @ half(b.numpy()), 1e-6)
    assert not np.array_equal(y.numpy(), (a @ b).numpy())


def test_the_bias_is_added_in_float32(device: str) -> None:
    x, w, b = (drawn(*s, device=device) for s in [(2, 3, 4), (5, 4), (5,)])
    with tg.matmul_precision("float16"):
        y = tg.linear(x, w, b + 3000)
        plain = tg.linear(x, w)
    close(plain, half(x.numpy()) @ half(w.numpy()).T, 1e-6)
    close(y, plain.numpy() + (b + 3000).numpy(), 1e-7)


def test_sums_go_beyond_float16(device: str) -> None:
    a = tg.ones((1, 100), device=device) * 1000
    with tg.matmul_precision("float16"):
        assert (a @ a.T).item() == 1e8


def test_what_is_not_float32_stays_as_it_is() -> None:
    pair = drawn(3, 3), drawn(3, 3, seed=1)
    for dtype in (np.float64, np.float16, np.int64):
        a, b = (x.astype(dtype) for x in pair)
        wanted = [(a @ b).numpy(), tg.linear(a, b).numpy()]
        with tg.matmul_precision("float16"):
            assert np.array_equal((a @ b).numpy(), wanted[0])
            assert np.array_equal(tg.linear(a, b).numpy(), wanted[1])
    a, b = pair
    wanted, wide = tg.einsum("ij,jk->ik", a, b).numpy(), tg.linear(a, b, b[0].astype(float))
    with tg.matmul_precision("float16"):
        assert np.array_equal(tg.einsum("ij,jk->ik", a, b).numpy(), wanted)
        assert np.array_equal(tg.linear(a, b, b[0].astype(float)).numpy(), wide.numpy())
        assert (a.astype(np.float16) @ b).dtype == np.float32


def test_the_switch_is_that_of_a_block_a_function_and_a_thread() -> None:
    a = tg.tensor([[2049.0]])
    one = tg.ones((1, 1))

    @tg.matmul_precision("float16")
    def inside() -> float:
        return (a @ one).item()

    found: list[float] = []
    with tg.matmul_precision("float16"):
        thread = Thread(target=lambda: found.append((a @ one).item()))
        thread.start()
        thread.join()
        with tg.matmul_precision("float32"):
            found.append((a @ one).item())
        found.append((one @ a).item())
    assert [*found, inside(), (a @ one).item()] == [2049, 2049, 2048, 2048, 2049]
    with pytest.raises(ValueError, match="must be 'float32' or 'float16', got 'bfloat16'"):
        tg.matmul_precision("bfloat16")


def test_it_stands_on_the_tape() -> None:
    x, w = drawn(2, 3), drawn(4, 3, requires_grad=True)
    with tg.matmul_precision("float16"):
        assert "linear(%0, %1, precision='float16')" in str(tg.Tape([tg.linear(x, w)]))
    assert "linear(%0, %1)" in str(tg.Tape([tg.linear(x, w)]))


# Gradients


def test_backward_is_in_the_precision_of_forward(device: str) -> None:
    x, w = drawn(5, 3, device=device, requires_grad=True), drawn(4, 3, device=device)
    w.requires_grad = True
    g = drawn(5, 4, seed=2, device=device)
    with tg.matmul_precision("float16"):
        y = tg.linear(x, w)
    (y * g).sum().backward()
    close(x.grad, half(g.numpy()) @ half(w.numpy()), 1e-6)
    close(w.grad, half(g.numpy()).T @ half(x.numpy()), 1e-6)
    x.grad = w.grad = None
    z = tg.linear(x, w)
    with tg.matmul_precision("float16"):
        (z * g).sum().backward()
    close(x.grad, g.numpy() @ w.numpy(), 1e-6)
    close(w.grad, g.numpy().T @ x.numpy(), 1e-6)


def test_the_products_of_one_weight_are_summed_each_in_its_precision() -> None:
    x, w = drawn(5, 3) * 3, drawn(3, 4, requires_grad=True)
    with tg.matmul_precision("float16"):
        first = x @ w
    (first + x @ w).sum().backward()
    ones = np.ones((5, 4), np.float32)
    close(w.grad, half(x.numpy()).T @ ones + x.numpy().T @ ones, 1e-6)


def test_gradients_of_gradients(device: str) -> None:
    a, b = (drawn(3, 3, seed=k, device=device, requires_grad=True) for k in range(2))
    with tg.matmul_precision("float16"):
        y = a @ b
    (y * y).sum().backward(create_graph=True)
    ga, b.grad = a.grad, None
    (ga * ga).sum().backward()
    A, B = half(a.numpy()), half(b.numpy())
    g = 2 * (A @ B)
    inner = half(g) @ B.T  # ga
    gg = half(2 * inner)
    wanted = A.T @ half(2 * (gg @ B)) + gg.T @ half(g)
    close(b.grad, wanted, 1e-6)


def test_a_checkpoint_recomputes_in_the_precision_of_its_call() -> None:
    x, w = drawn(4, 3) * 100, drawn(5, 3, requires_grad=True)

    def found(function: Any) -> Any:
        w.grad = None
        with tg.matmul_precision("float16"):
            loss = (function(x, w) ** 2).mean()
        loss.backward()
        return w.grad.numpy().copy()

    def two(x: Any, w: Any) -> Any:
        return tg.linear(tg.sin(tg.linear(x, w)), w.T)

    assert np.array_equal(found(tg.checkpoint(two)), found(two))


# Over time


class Attending(rnn.Cell):
    """A step with a product of stacks, one with a constant, and a loop within it."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.inner = nn.Linear(input_size, hidden_size)
        self.weight = nn.Parameter(np.zeros((hidden_size, hidden_size)))
        self.table = nn.Parameter(np.zeros((2, hidden_size)))

    def step(self, x: Any, h: Any) -> Any:
        z = self.inner(x) + h @ self.weight
        table = tg.tanh(self.table @ self.weight)
        seen = tg.squeeze(tg.expand_dims(tg.softmax(z @ table.T), 1) @ table, 1)
        _, h = tg.scan(lambda y, s: (y, tg.tanh(s @ self.weight + y)), tg.stack([z, seen]), h)
        return h, h


LAYERS: dict[str, Callable[[], Any]] = {
    "LSTM": lambda: rnn.LSTM(3, 4, num_layers=2),
    "both ways": lambda: rnn.GRU(3, 4, bidirectional=True),
    "projected": lambda: rnn.LSTM(3, 4, proj_size=2),
    "layer norm": lambda: rnn.Recurrent(rnn.LayerNormLSTMCell(3, 4)),
    "nested": lambda: rnn.Recurrent(NestedCell(3, 4)),
    "a user's cell": lambda: rnn.Recurrent(Attending(3, 4)),
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS.keys())


def made(make: Any, device: str = "cpu") -> Any:
    return randomise(make()).to(np.float32).to(device)


def trained(layer: Any, x: Any, **options: Any) -> list[np.ndarray]:
    """The outputs of a layer, and all gradients, whose precision is not that of where they run."""
    layer.zero_grad()
    x.grad = None
    y, _ = layer(x, **options)
    other = "float32" if current_precision() == "float16" else "float16"
    with tg.matmul_precision(other):
        (y * tg.sin(y)).sum().backward()
    return [v.numpy().copy() for v in (y, x.grad, *(p.grad for p in layer.parameters()))]


def near(found: Any, wanted: Any, tolerance: float) -> None:
    for a, b in zip(found, wanted, strict=True):
        close(a, b, tolerance)


def differ(found: Any, wanted: Any) -> None:
    assert any(not np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@each_layer
@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("lengths", [None, [6, 2]], ids=["whole", "lengths"])
def test_replayed_as_unrolled(make: Any, jit: bool, lengths: Any, device: str) -> None:
    layer, x = made(make, device), drawn(6, 2, 3, device=device, requires_grad=True)
    with tg.replay.using(jit=jit):
        plain = trained(layer, x, lengths=lengths)
        with tg.matmul_precision("float16"):
            found = trained(layer, x, lengths=lengths)
            again = trained(layer, x, lengths=lengths)
            layer.unroll = True
            unrolled = trained(layer, x, lengths=lengths)
            layer.unroll = False
        near(again, found, 0)
        # A kernel's exp differs in its last bit, and where that decides how a number is rounded,
        # float16 differs in its own.
        near(found, unrolled, 2e-3 if jit or device.startswith("cuda") else 2e-6)
        differ(found, plain)
        near(trained(layer, x, lengths=lengths), plain, 0)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "both ways"])
def test_calls_without_a_tape_and_streams(name: str) -> None:
    layer, x = made(LAYERS[name]), drawn(4, 2, 3)

    def stream() -> np.ndarray:
        state, outputs = None, []
        for t in range(len(x)):
            y, state = layer.step(x[t], state)
            outputs.append(y.numpy())
        return np.stack(outputs)

    with tg.replay.using(jit=False), tg.no_grad():
        for _ in range(2):  # the second time calls are known
            plain = [layer(x)[0].numpy(), stream()]
            with tg.matmul_precision("float16"):
                found = [layer(x)[0].numpy(), stream()]
                layer.unroll = True
                unrolled = layer(x)[0].numpy()
                layer.unroll = False
            near(found, [unrolled, unrolled], 2e-6)
            for one, other in zip(plain, found, strict=True):
                assert not np.array_equal(one, other)


def test_second_order_through_a_loop() -> None:
    layer, x = made(LAYERS["LSTM"]), drawn(4, 2, 3, requires_grad=True)
    weight = layer.weight_hh_l0

    def second() -> np.ndarray:
        layer.zero_grad()
        tg.sin(layer(x)[0]).sum().backward(create_graph=True)
        g, x.grad = weight.grad, None
        (g * g).sum().backward()
        return x.grad.numpy().copy()

    with tg.replay.using(jit=False):
        plain = second()
        with tg.matmul_precision("float16"):
            found = second()
            layer.unroll = True
            unrolled = second()
    close(found, unrolled, 2e-5)
    assert not np.array_equal(found, plain)


@pytest.mark.parametrize("every", [1, 3, "sqrt"])
def test_segments_are_computed_again_in_the_same_precision(every: Any) -> None:
    layer, x = made(LAYERS["LSTM"]), drawn(7, 2, 3, requires_grad=True)
    with tg.replay.using(jit=False), tg.matmul_precision("float16"):
        wanted = trained(layer, x)
        layer.checkpoint = every
        near(trained(layer, x), wanted, 1e-6)


def test_a_constant_within_a_loop_gets_the_sum_of_its_products() -> None:
    """What does not change with time meets a weight at every step, on either side."""
    w, c = drawn(4, 4, requires_grad=True), drawn(4, 4, seed=1, requires_grad=True)
    xs = drawn(5, 4, 4, seed=2) * 30

    def step(x: Any, h: Any) -> Any:
        h = tg.tanh(c @ x + x @ w + h) + c @ w
        return h @ c, h

    def found(**options: Any) -> list[np.ndarray]:
        w.grad = c.grad = None
        ys, end = tg.scan(step, xs, tg.zeros((4, 4)), **options)
        (ys.sum() + end.sum()).backward()
        return [ys.numpy(), w.grad.numpy().copy(), c.grad.numpy().copy()]

    with tg.replay.using(jit=False), tg.matmul_precision("float16"):
        near(found(), found(unroll=True), 2e-6)


STATES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "exchanged": lambda w, x, s: (s[0] @ w, (s[1], tg.tanh(s[0] @ w + s[1] @ w + x))),
    "one of two": lambda w, x, s: (s[0] @ w, (s[1] * x, tg.tanh(s[0] @ w + x))),
    "as it was": lambda w, x, s: (s[1], (tg.tanh(s[0] @ w + s[1] @ w + x), s[1])),
    "the input": lambda w, x, s: (s[0] @ w, (x, s[1])),
    "twice": lambda w, x, s: (s[1], (tg.tanh(s[0] @ w + x),) * 2),
    "its product": lambda w, x, s: (s[1], (s[0] @ w + x, s[0].T @ s[0])),
    "a cast of its own": lambda w, x, s: (
        s[0].astype(np.float16).astype(np.float32),
        (tg.tanh(s[0] @ w) + x, s[1].astype(np.float16).astype(np.float32) + x),
    ),
}


@pytest.mark.parametrize("of", STATES.values(), ids=STATES.keys())
@pytest.mark.parametrize("reverse", [False, True])
def test_states_are_rounded_by_the_step_before(of: Any, reverse: bool, device: str) -> None:
    w, a, b = (drawn(4, 4, seed=k, device=device, requires_grad=True) for k in range(3))
    xs = drawn(5, 4, 4, device=device, requires_grad=True)

    def found(steps: int, **options: Any) -> list[np.ndarray]:
        for v in (xs, w, a, b):
            v.grad = None
        ys, ends = tg.scan(lambda x, s: of(w, x, s), xs[:steps], (a, b), reverse=reverse, **options)
        (tg.sin(ys).sum() + tg.sin(ends[0]).sum() + tg.cos(ends[1]).sum()).backward()
        grads = [v.grad for v in (xs, w, a, b) if v.grad is not None]
        return [v.numpy().copy() for v in (ys, *ends, *grads)]

    with tg.replay.using(jit=False), tg.matmul_precision("float16"):
        for steps in (5, 1):
            near(
                found(steps), found(steps, unroll=True), 2e-3 if device.startswith("cuda") else 2e-6
            )


def test_a_state_beyond_float16_is_infinite() -> None:
    start, xs, w = tg.full((1, 4), 1e6), tg.zeros((3, 1, 4)), tg.ones((4, 4))
    with tg.matmul_precision("float16"), tg.no_grad():
        for unroll in (False, True):
            ys, _ = tg.scan(lambda x, h: (h @ w, h * 0.01), xs, start, unroll=unroll)
            assert np.isinf(ys.numpy()[0]).all()
            assert np.isfinite(ys.numpy()[1:]).all()


# Within the replay


def test_weights_are_rounded_once_and_the_loop_multiplies_halves() -> None:
    layer = made(LAYERS["projected"])
    (cell,) = layer.cells()
    with tg.matmul_precision("float16"):
        traced: Any = trace(cell.step, drawn(4, 2, 3), cell.initial_state(2), 4, False)
    program = traced[0].replay.program
    compiled = Compiled(program, False, len(program.ys), backends.backend_for("cpu"))
    parts = compiled.parts
    casts = [op for op in parts.once if op.primitive is P.cast]
    assert len(casts) == 3
    assert [op.outputs[0].dtype for op in casts] == [np.float16] * 3
    products = [step for step in compiled.plan.loop.steps if isinstance(step, Product)]
    assert [p.wide for p in products] == [True, True]
    arrays = compiled.plan.loop.arrays
    for product in products:
        assert arrays[product.a.array].dtype == arrays[product.b.array].dtype == np.float16
        assert arrays[product.out.array].dtype == np.float32
    assert all(v.dtype == np.float32 for v in program.state)
    kinds = [type(step).__name__ for step in compiled.plan.loop.steps]
    assert kinds == ["Product", "Kernel", "Product", "Kernel"]


@pytest.fixture
def card(tmp_path: Path) -> Iterator[HostCUDA]:
    """Strict arrays whose backend has kernels."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    host = HostCUDA(tmp_path, 4)
    backends.register(host)
    yield host
    backends.register(STRICT)


@pytest.mark.parametrize("name", ["LSTM", "projected", "layer norm"])
def test_kernels_round_and_products_are_the_backends(
    card: HostCUDA, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    multiply = type(card).matmul_wide

    def watched(self: Any, a: Any, b: Any, out: Any = None) -> Any:
        taken.append((a.dtype, b.dtype))
        return multiply(self, a, b, out)

    monkeypatch.setattr(HostCUDA, "matmul_wide", watched)
    layer = made(LAYERS[name], "strict")
    x = drawn(6, 2, 3, device="strict", requires_grad=True)
    with tg.matmul_precision("float16"):
        found = trained(layer, x)
        assert taken
        assert {dtype for pair in taken for dtype in pair} == {np.dtype(np.float16)}
        assert any("loop_to_half" in source.partition("extern")[2] for source in card.sources)
        assert card.launches
        layer.unroll = True
        near(found, trained(layer, x), 2e-3)


# How near to float32


BUILT_IN: dict[str, Callable[[int, int], Any]] = {
    "elman": rnn.RNNCell,
    "lstm": rnn.LSTMCell,
    "gru": rnn.GRUCell,
    **CELLS,
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_cell_is_near_float32(name: str) -> None:
    tg.manual_seed(0)
    layer = rnn.Recurrent(BUILT_IN[name](16, 32))
    x = drawn(NORMED_STEPS if "layer norm" in name else STEPS, 8, 16, requires_grad=True)

    def run() -> list[np.ndarray]:
        layer.zero_grad()
        x.grad = None
        y, _ = layer(x)
        (y * y).sum().backward()
        return [v.numpy().copy() for v in (y, x.grad, *(p.grad for p in layer.parameters()))]

    wanted = run()
    with tg.matmul_precision("float16"):
        found = run()
    for k, (a, b) in enumerate(zip(found, wanted, strict=True)):
        atol, rtol = BACKWARD if k else FORWARD
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol * scale)
