"""The traps of replaying a loop: what must be traced again, and who holds which memory."""

from __future__ import annotations

import gc
import importlib
import threading
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import pytest
from row_emitter import in_parts, row_by_row

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, tape
from tinygrad_rnn.ops import primitives as P
from tinygrad_rnn.replay.cache import CACHE, KEPT
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.choice import has_numba
from tinygrad_rnn.replay.passes.plain import is_product

B, I, H = 3, 4, 5

scan_module = importlib.import_module("tinygrad_rnn.replay.scan")


OWN = {"rows": row_by_row, "parts": in_parts}


@pytest.fixture(params=["array", "jit", *OWN])
def emitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Array calls, Numba where that is installed, all that the contract of a loop allows, and parts
    of the rows one after the other.
    """
    if request.param in OWN:
        CACHE.known.clear()
        monkeypatch.setattr(choice, "_compile", OWN[request.param])
    if request.param == "jit" and not has_numba():
        pytest.skip("the extra jit is not installed")
    with replay.using(jit=request.param == "jit"), np.errstate(all="ignore"):
        yield request.param
    if request.param in OWN:
        CACHE.known.clear()


def normal(*shape: int, seed: int = 0, grad: bool = True, dtype: Any = np.float64) -> tg.Tensor:
    values = np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.5
    return tg.tensor(values.astype(dtype), requires_grad=grad)


class LSTMState(NamedTuple):
    h: tg.Tensor
    c: tg.Tensor


class LSTM:
    """The equations of an LSTM, gates i, f, g, o."""

    def __init__(self, dtype: Any = np.float64) -> None:
        self.W = normal(4 * H, I, seed=1, dtype=dtype)
        self.U = normal(4 * H, H, seed=2, dtype=dtype)
        self.b = normal(4 * H, seed=3, dtype=dtype)

    @property
    def parameters(self) -> list[tg.Tensor]:
        return [self.W, self.U, self.b]

    def __call__(self, x: tg.Tensor, state: LSTMState) -> tuple[tg.Tensor, LSTMState]:
        z = tg.linear(x, self.W, self.b) + tg.linear(state.h, self.U)
        i, f, g, o = tg.split(z, parts=4, axis=-1)
        c = tg.sigmoid(f) * state.c + tg.sigmoid(i) * tg.tanh(g)
        h = tg.sigmoid(o) * tg.tanh(c)
        return h, LSTMState(h, c)


def zero_state(dtype: Any = np.float64) -> LSTMState:
    return LSTMState(normal(B, H, seed=4, dtype=dtype), normal(B, H, seed=5, dtype=dtype))


def loss_of(ys: Any, end: Any) -> tg.Tensor:
    total: Any = 0.0
    for k, v in enumerate([*tape.leaves(ys), *tape.leaves(end)]):
        total = total + tg.sum(tg.sin(v * (k + 1.3)) * v)
    return total


def gradients(
    step: Any, xs: Any, state: Any, wanted: list[tg.Tensor], **options: Any
) -> list[np.ndarray]:
    for v in wanted:
        v.grad = None
    ys, end = tg.scan(step, xs, state, **options)
    loss_of(ys, end).backward()
    return [v.grad.numpy().copy() for v in wanted]


def assert_same(found: Any, wanted: Any, tolerance: float = 1e-12) -> None:
    for a, b in zip(found, wanted, strict=True):
        a, b = (v.numpy() if isinstance(v, tg.Tensor) else v for v in (a, b))
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


def compare(step: Any, xs: Any, state: Any, wanted: list[tg.Tensor], **options: Any) -> None:
    """Replay equals unrolled."""
    unrolled = tg.scan(step, xs, state, unroll=True, reverse=options.get("reverse", False))
    replayed = tg.scan(step, xs, state, **options)
    assert_same(tape.leaves(list(replayed)), tape.leaves(list(unrolled)))
    truth = gradients(step, xs, state, wanted, unroll=True, reverse=options.get("reverse", False))
    assert_same(gradients(step, xs, state, wanted, **options), truth)


# What a step closes over


def test_a_number_that_changes_is_seen(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    rate = [0.5]

    def step(x: Any, s: Any) -> Any:
        s = s * rate[0] + x
        return s, s

    for value in (0.5, 0.25, 1, 1.0, True, float("nan"), 0.5):
        rate[0] = value
        with np.errstate(invalid="ignore"):
            assert_same(
                tape.leaves(list(tg.scan(step, xs, h))),
                tape.leaves(list(tg.scan(step, xs, h, unroll=True))),
            )


def test_captured_values_are_bound_afresh(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    for seed in range(3):
        mask = normal(B, H, seed=seed, grad=False)
        encoded = tg.tanh(normal(H, H, seed=seed + 10)).detach()

        def step(x: Any, s: Any, mask: Any = mask, encoded: Any = encoded) -> Any:
            s = tg.tanh(x * mask + s @ encoded)
            return s, s

        compare(step, xs, h, [xs, h])


def test_a_captured_array_may_change_in_place(emitter: str) -> None:
    xs, h = normal(4, B, H, grad=False), normal(B, H, seed=1, grad=False)
    weight = normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        s = tg.tanh(x + s @ weight)
        return s, s

    for _ in range(3):
        compare(step, xs, h, [weight])
        weight.data = weight.detach() * 0.5


def test_the_same_value_in_several_roles(emitter: str) -> None:
    """Input, initial state and captured at once: the gradients add up."""
    xs = normal(H, B, H)
    h = normal(B, H, seed=1)

    def step(x: Any, state: Any) -> Any:
        a, b = state
        a = tg.tanh(a + h * 0.5 + tg.mean(xs, 0))
        return (a, x[0]), (b + x[1], a)

    compare(step, (xs, xs), (h, h), [xs, h])


def test_equal_steps_share_one_program() -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)

    def make(weight: tg.Tensor) -> Any:
        return lambda x, s: (s, tg.tanh(x + s @ weight))

    recipes = [
        scan_module.trace(make(normal(H, H, seed=k)), xs, h, T, False)[0]
        for k, T in ((1, 4), (2, 3))
    ]
    assert recipes[0].replay is recipes[1].replay


def test_detach_and_no_grad_inside_a_step(emitter: str) -> None:
    xs, h, weight = normal(4, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        with tg.no_grad():
            gate = tg.sigmoid(s @ weight)
        s = tg.tanh(gate * s + x.detach() * x + s.copy() @ weight)
        return gate, s

    compare(step, xs, h, [xs, h, weight])


def test_a_gradient_taken_inside_a_step(emitter: str) -> None:
    """Fast weights: the state moves down the gradient of the step's own loss."""
    xs, h, weight = normal(3, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        g = tg.grad(lambda v: tg.sum((tg.tanh(v @ weight) - x) ** 2))(s)
        return g, s - 0.1 * g

    compare(step, xs, h, [xs, h, weight])


# What a step must not do


@pytest.mark.parametrize(
    "look",
    [
        lambda x, s: float(tg.sum(s)),
        lambda x, s: bool(tg.sum(x) > 0),
        lambda x, s: s.numpy(),
        lambda x, s: x.data,
        lambda x, s: x.tolist(),
        lambda x, s: np.asarray(s.detach()),
        lambda x, s: bool(ops.dropout_mask(x, 0.5)[0, 0] > 0),
    ],
)
def test_reading_a_value_names_the_line_and_the_way_out(look: Callable[..., Any]) -> None:
    def step(x: Any, s: Any) -> Any:
        look(x, s)
        return s, s

    xs, h = normal(4, B, H), normal(B, H, seed=1)
    message = r"(?s)^scan: the step reads .* at .*test_replay\.py.*:\d+.*unroll=True"
    with pytest.raises(replay.ReadError, match=message) as caught:
        tg.scan(step, xs, h)
    assert "\n" not in str(caught.value)
    tg.scan(step, xs.detach(), h.detach(), unroll=True)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize(
    ("following", "message"),
    [
        (lambda s: (s,), r" a state like .*, float64 \(3, 5\), got tuple\(float64"),
        (lambda s: s[:, :2], r"got float64 \(3, 2\): are y and the state exchanged\? .*"),
        (
            lambda s: s.astype(np.float32),
            r"got float32 \(3, 5\): are y and the state exchanged\? .*",
        ),
        (lambda s: 1.0, " Tensors, got a float$"),
    ],
)
def test_a_state_that_changes_its_form(following: Any, message: str, unroll: bool) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    with pytest.raises(TypeError, match=f"^scan: the step must return.*{message}"):
        tg.scan(lambda x, s: (s, following(s)), xs, h, unroll=unroll)


def test_wrong_arguments() -> None:
    h = normal(B, H)

    def step(x: Any, s: Any) -> Any:
        return s, s

    with pytest.raises(TypeError, match=r"^scan: the step must return \(y, state\), .* a Tensor$"):
        tg.scan(lambda x, s: s, normal(2, 3), h)
    with pytest.raises(ValueError, match=r"^scan: xs must have .* \(2, 3\), \(4, 3\)$"):
        tg.scan(step, (normal(2, 3), normal(4, 3)), h)
    with pytest.raises(ValueError, match=r"^scan: xs must have .* got \(0, 3\)$"):
        tg.scan(step, tg.zeros((0, 3)), h)
    with pytest.raises(ValueError, match=r"^scan: expected at least one Tensor over time$"):
        tg.scan(step, (), h)
    with pytest.raises(TypeError, match=r"^scan: xs must be Tensors in containers, got a float$"):
        tg.scan(step, 1.0, h)
    for wrong in (0, True, "cube", 1.5):
        with pytest.raises(ValueError, match=r"^checkpoint: expected"):
            tg.scan(step, normal(2, 3), h, checkpoint=wrong)  # pyright: ignore


# What is kept


def test_the_cache_is_bounded_and_releases_what_was_captured() -> None:
    xs, h = tg.ones((2, 1)), tg.ones(1)
    weight = normal(H, H, dtype=np.float32)
    gone = weakref.ref(weight)
    array = weakref.ref(weight.array)
    tg.scan(lambda x, s, w=weight: (x, s * tg.sum(w)), xs, h)[1].sum().backward()
    for k in range(KEPT + 5):
        tg.scan(lambda x, s, k=k: (x, s * (k + 0.5)), xs, h)
    assert len(CACHE.known) <= KEPT
    tg.scan(lambda x, s, w=weight: (x, s * tg.sum(w) * 3.25), xs, h)[1].sum().backward()
    del weight
    gc.collect()
    assert gone() is None
    assert array() is None


def test_an_abandoned_forward_pass_gives_its_memory_back() -> None:
    from tinygrad_rnn.backends.pool import POOL

    cell, xs = LSTM(), normal(211, B, I)
    found = tg.scan(cell, xs, zero_state())
    before = POOL.bytes
    del found
    gc.collect()
    assert POOL.bytes > before


def test_memory_that_comes_back_while_other_is_taken() -> None:
    """Garbage may be collected at any moment, and a lease with it."""
    from tinygrad_rnn.backends.pool import POOL
    from tinygrad_rnn.replay.run.memory import LEAST, Lease

    lease = Lease(tg.backends.backend_for("cpu"))
    size = 64 * LEAST + 8
    taken = lease.take((size,), np.uint8)
    with POOL.lock:
        release = threading.Thread(target=lease.release, daemon=True)
        release.start()
        release.join(timeout=60)
        assert not release.is_alive()
    assert np.shares_memory(POOL.take(size), taken)


def test_several_passes_may_be_alive(emitter: str) -> None:
    cell, state = LSTM(), zero_state()
    inputs = [normal(64, B, I, seed=k) for k in range(3)]
    wanted = [*cell.parameters, *state]
    truth = [gradients(cell, xs, state, [*wanted, xs], unroll=True) for xs in inputs]
    losses = [loss_of(*tg.scan(cell, xs, state)) for xs in inputs]
    for k in (1, 0, 2):
        for v in wanted:
            v.grad = None
        losses[k].backward(retain_graph=True)
        losses[k].backward(retain_graph=True)
        losses[k].backward()
        found = [v.grad.numpy() / 3 for v in [*wanted]]
        assert_same(found, truth[k][:-1])


def test_a_tape_that_was_freed(emitter: str) -> None:
    loss = loss_of(*tg.scan(LSTM(), normal(4, B, I), zero_state()))
    loss.backward()
    with pytest.raises(RuntimeError, match="freed by an earlier backward pass"):
        loss.backward()


def test_overwriting_a_parameter_before_backward_is_refused(emitter: str) -> None:
    for unroll in (True, False):
        cell, state = LSTM(), zero_state()
        loss = loss_of(*tg.scan(cell, normal(4, B, I), state, unroll=unroll))
        cell.U.data = cell.U.detach() * 0.5
        with pytest.raises(RuntimeError, match=r"changed|overwritten|modified"):
            loss.backward()


@pytest.mark.parametrize("options", [{}, {"checkpoint": 3}, {"reverse": True}])
def test_what_a_user_holds_is_nobody_elses(emitter: str, options: dict[str, Any]) -> None:
    """Outputs share memory with nothing, and writing to them changes no later run."""
    cell, xs, state = LSTM(), normal(70, B, I), zero_state()
    constant = normal(B, H, seed=9)

    def step(x: Any, s: LSTMState) -> Any:
        h, end = cell(x, s)
        return (h, end.c, s.h, x, h, constant, h[:, :2], tg.transpose(h)), end

    inputs = [*cell.parameters, *state, xs]

    def run() -> list[np.ndarray]:
        for v in inputs:
            v.grad = None
        ys, end = tg.scan(step, xs, state, **options)
        loss_of(ys, end).backward()
        held = [v.array for v in [*tape.leaves(ys), *tape.leaves(end)]]
        return held + [v.grad.array for v in inputs]

    first = run()
    everything = [*first, *(v.array for v in inputs)]
    for k, a in enumerate(first):
        for b in everything[k + 1 :]:
            assert not np.shares_memory(a, b)
    copies = [a.copy() for a in first]
    for a in first:
        a[...] = np.nan
    second = run()
    assert_same(second, copies, 0)
    third = run()
    for a, b in zip(second, third, strict=True):
        assert not np.shares_memory(a, b)
    assert_same(second, copies, 0)


def test_threads(emitter: str) -> None:
    cell, state = LSTM(), zero_state()
    inputs = [normal(40, B, I, seed=k) for k in range(4)]
    truth = [gradients(cell, xs, state, [xs], unroll=True)[0] for xs in inputs]
    start = threading.Barrier(4)

    def work(k: int) -> list[np.ndarray]:
        start.wait()
        found: list[np.ndarray] = []
        with replay.using(jit=emitter == "jit"):
            for _ in range(8):
                loss = loss_of(*tg.scan(cell, inputs[k], state))
                (g,) = tape.differentiate([loss], [tg.ones_like(loss)], [inputs[k]])
                found.append(g)
        return found

    with ThreadPoolExecutor(4) as pool:
        for k, found in enumerate(pool.map(work, range(4))):
            assert_same(found, [truth[k]] * 8)


def _peak(function: Callable[[], Any]) -> tuple[int, int]:
    """Bytes allocated at most, and still held at the end."""
    function()
    gc.collect()
    tracemalloc.start()
    try:
        kept = function()
        held, peak = tracemalloc.get_traced_memory()
        del kept
        return peak, held
    finally:
        tracemalloc.stop()


def _held_bytes(checkpoint: Any, T: int) -> int:
    """Bytes of the memory that a forward pass leaves for its backward pass."""
    cell = LSTM()
    xs = normal(T, B, I, grad=False)
    ys, _ = tg.scan(cell, xs, zero_state(), checkpoint=checkpoint)
    held = ys.record.params["held"]
    return held.lease.nbytes + sum(a.nbytes for arrays in held.starts for a in arrays)


def test_memory_without_a_record_does_not_grow_with_time() -> None:
    cell, T = LSTM(), 4003
    xs = normal(T, B, I, grad=False)
    state = zero_state()

    def step(x: Any, s: LSTMState) -> Any:
        _, s = cell(x, s)
        return s.h[0, 0], s

    def run() -> Any:
        with tg.no_grad(), replay.using(jit=False):
            return tg.scan(step, xs, state)

    hoisted = T * B * 4 * H * 8
    peak, held = _peak(run)
    assert held < 2 * T * 8 + 100_000
    assert peak < hoisted + 6 * T * 8 * H + 200_000


def test_memory_with_checkpoints_grows_with_the_square_root() -> None:
    lengths = (400, 1600, 6400)
    every = [_held_bytes(None, T) for T in lengths]
    root = [_held_bytes("sqrt", T) for T in lengths]
    assert every[2] > 3.5 * every[1] > 12 * every[0]
    assert root[2] < 2.2 * root[1] < 4.8 * root[0]
    assert root[2] < every[2] / 40
    assert _held_bytes(1, 400) <= every[0]


# Values


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_inf_propagate(emitter: str, bad: float) -> None:
    values = normal(5, B, I).numpy().copy()
    values[2, 1, 3] = bad
    xs, state, cell = tg.tensor(values, requires_grad=True), zero_state(), LSTM()

    def step(x: Any, s: LSTMState) -> Any:
        h, end = cell(x, s)
        return (h, tg.max(x, -1), tg.relu(x), tg.softmax(x, -1), tg.where(x > 0, x, h[:, :I])), end

    with np.errstate(all="ignore"):
        unrolled = tape.leaves(list(tg.scan(step, xs, state, unroll=True)))
        assert_same(tape.leaves(list(tg.scan(step, xs, state))), unrolled)
        wanted = [xs, *cell.parameters]
        truth = gradients(step, xs, state, wanted, unroll=True)
        assert_same(gradients(step, xs, state, wanted), truth)


def test_padding_of_nan_under_a_mask_reaches_no_gradient(emitter: str) -> None:
    values = normal(5, B, I).numpy().copy()
    lengths = np.array([5, 2, 3])
    mask = np.arange(5)[:, None] < lengths
    values[~mask] = np.nan
    raw, state, cell = tg.tensor(values, requires_grad=True), zero_state(), LSTM()
    masks = tg.tensor(mask[..., None])

    def step(inputs: Any, s: LSTMState) -> Any:
        x, on = inputs
        h, end = cell(tg.where(on, x, 0.0), s)
        return tg.where(on, h, 0.0), LSTMState(
            *(tg.where(on, a, b) for a, b in zip(end, s, strict=True))
        )

    compare(step, (raw, masks), state, [raw, *cell.parameters, *state])
    assert all(np.isfinite(v.grad.numpy()).all() for v in cell.parameters)


def test_random_numbers_are_those_of_the_unrolled_loop(emitter: str) -> None:
    xs, h, w = normal(5, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def inner(x: Any, s: Any) -> Any:
        s = ops.dropout(tg.tanh(s + x), 0.3)
        return s, s

    def step(x: Any, s: Any) -> Any:
        noisy = ops.dropout(x, 0.5) + ops.dropout(s, 0.25) @ w
        _, last = tg.scan(inner, noisy, s[0], unroll=unroll)
        return noisy, tg.tanh(noisy + ops.dropout(last, 0.5))

    found: list[Any] = []
    for unroll in (True, False):
        tg.manual_seed(5)
        values = tape.leaves(list(tg.scan(step, xs, h, unroll=unroll)))
        state = ops.generator_state()
        tg.manual_seed(5)
        grads = gradients(step, xs, h, [xs, h, w], unroll=unroll)
        found.append((values, grads, state))
    assert_same(found[1][0], found[0][0])
    assert_same(found[1][1], found[0][1])
    assert found[0][2] == found[1][2]


def test_checkpoints_reuse_the_random_numbers(emitter: str) -> None:
    xs, h, w = normal(7, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        s = tg.tanh(ops.dropout(x, 0.5) + ops.dropout(s, 0.25) @ w)
        return s, s

    found: list[Any] = []
    for options in ({"unroll": True}, {"checkpoint": 2}, {"checkpoint": "sqrt"}):
        tg.manual_seed(5)
        found.append(gradients(step, xs, h, [xs, h, w], **options))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


def test_checkpoint_inside_and_outside_a_step(emitter: str) -> None:
    cell, xs, state = LSTM(), normal(4, B, I), zero_state()
    wanted = [xs, *cell.parameters, *state]

    def random_step(x: Any, s: LSTMState) -> Any:
        return cell(ops.dropout(x, 0.5), s)

    truth: Any = None
    for variant in ("plain", "inside", "outside"):
        step = tg.checkpoint(random_step) if variant == "inside" else random_step

        def run(x: Any, h: Any, c: Any, step: Any = step) -> Any:
            return loss_of(*tg.scan(step, x, LSTMState(h, c)))

        if variant == "outside":
            run = tg.checkpoint(run)
        for v in wanted:
            v.grad = None
        tg.manual_seed(3)
        run(xs, *state).backward()
        found = [v.grad.numpy() for v in wanted]
        truth = truth or found
        assert_same(found, truth)


# Derivatives


@pytest.mark.parametrize("options", [{}, {"reverse": True}, {"checkpoint": 2}])
def test_higher_derivatives(emitter: str, options: dict[str, Any]) -> None:
    cell, state = LSTM(), zero_state()
    xs = normal(3, B, I)
    truth_options = {"unroll": True, "reverse": options.get("reverse", False)}

    def loss(h: Any, chosen: Any) -> Any:
        return loss_of(*tg.scan(cell, xs, LSTMState(h, state.c), **chosen))

    direction = normal(B, H, seed=8)
    found: list[list[Any]] = []
    for chosen in (options, truth_options):

        def f(h: Any, chosen: Any = chosen) -> Any:
            return loss(h, chosen)

        def first(h: Any, f: Any = f) -> Any:
            return tg.sum(tg.grad(f)(h) * direction)

        def second(h: Any, first: Any = first) -> Any:
            return tg.sum(tg.sin(tg.grad(first)(h)) * direction)

        for v in cell.parameters:
            v.grad = None
        second(state.h).backward()
        found.append(
            [
                tg.grad(f)(state.h),
                tg.grad(first)(state.h),
                tg.grad(second)(state.h),
                tg.jvp(f, [state.h], [direction])[1],
                tg.hvp(f, state.h, direction),
                *(v.grad.numpy().copy() for v in cell.parameters),
            ]
        )
    assert_same(found[0], found[1], 1e-10)


def test_jacobian(emitter: str) -> None:
    cell, xs, c = LSTM(), normal(2, B, I), zero_state().c
    found = [
        tg.jacobian(lambda h, u=unroll: tg.scan(cell, xs, LSTMState(h, c), unroll=u)[0])(
            normal(B, H, seed=4)
        )
        for unroll in (False, True)
    ]
    assert_same([found[0]], [found[1]])


def test_a_loop_within_a_loop(emitter: str) -> None:
    xs, h, w = normal(3, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any, unroll: bool = False) -> Any:
        def inner(column: Any, total: Any) -> Any:
            total = tg.tanh(total @ w + column * tg.mean(x))
            return total * s[0], total

        ys, last = tg.scan(inner, s, x[0], unroll=unroll, reverse=True)
        return last, tg.tanh(ys + x)

    wanted = [xs, h, w]
    truth = gradients(lambda x, s: step(x, s, True), xs, h, wanted, unroll=True)
    assert_same(gradients(step, xs, h, wanted), truth)
    second = [
        tg.grad(lambda v, s=s: tg.sum(tg.sin(tg.grad(lambda u: loss_of(*s(u)))(v))))(h)
        for s in (
            lambda u: tg.scan(step, xs, u),
            lambda u: tg.scan(lambda x, v: step(x, v, True), xs, u, unroll=True),
        )
    ]
    assert_same(second[:1], second[1:], 1e-10)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes(emitter: str, dtype: Any) -> None:
    cell, xs, state = LSTM(dtype), normal(5, B, I, dtype=dtype), zero_state(dtype)
    wanted = [xs, *cell.parameters, *state]
    tolerance = {2: 2e-2, 4: 1e-5, 8: 1e-12}[np.dtype(dtype).itemsize]
    truth = tape.leaves(list(tg.scan(cell, xs, state, unroll=True)))
    assert_same(tape.leaves(list(tg.scan(cell, xs, state))), truth, tolerance)
    grads = gradients(cell, xs, state, wanted, unroll=True)
    assert_same(gradients(cell, xs, state, wanted), grads, tolerance * 4)


# Shapes of steps


def test_a_step_without_parameters_and_without_its_state(emitter: str) -> None:
    xs, h = normal(4, B, H), normal(B, H, seed=1)
    compare(lambda x, s: (tg.tanh(x), s), xs, h, [xs, h])
    compare(lambda x, s: (s, x), xs, h, [xs, h], reverse=True)
    compare(lambda x, s: ((x, x, s), (s[1], s[0])), xs, (h, normal(B, H, seed=2)), [xs, h])
    compare(lambda x, s: (s[0], (s[0] * x, s[0])), xs, (h, normal(B, H, seed=2)), [xs, h])


def test_y_is_a_parameter_or_a_constant(emitter: str) -> None:
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2, 3, seed=2)
    compare(lambda x, s: ((w, tg.zeros(2), s), tg.tanh(s + x)), xs, h, [xs, h, w])
    compare(lambda x, s: (w, tg.zeros((B, H), np.float64)), xs, h, [w])


@pytest.mark.parametrize("T", [1, B])
@pytest.mark.parametrize("batch", [1, B])
def test_one_step_one_sequence_and_as_many_as_steps(emitter: str, T: int, batch: int) -> None:
    cell, xs = LSTM(), normal(T, batch, I)
    state = LSTMState(normal(batch, H, seed=4), normal(batch, H, seed=5))
    for options in ({}, {"reverse": True}, {"checkpoint": 1}):
        compare(cell, xs, state, [xs, *cell.parameters, *state], **options)


def test_a_state_read_elsewhere_than_where_it_is_written(emitter: str) -> None:
    xs, h = normal(4, H, H), normal(H, H, seed=1)
    steps: list[Callable[[Any], Any]] = [
        lambda s: s + tg.transpose(s),
        lambda s: s + s[1:2],
        lambda s: s - tg.sum(s, -1, keepdims=True),
        lambda s: s - tg.max(tg.tanh(s), -1, keepdims=True) * tg.transpose(s),
        lambda s: tg.softmax(s, -1) + tg.concat([s[:, 2:], s[:, :2]], -1),
        lambda s: tg.concat([s[2:], s[:2]], 0) * s,
        lambda s: tg.flip(s, -1) * s,
    ]
    for change in steps:
        compare(lambda x, s, f=change: (x, tg.tanh(f(s) + x)), xs, h, [xs, h])
        compare(lambda x, s, f=change: (tg.sum(f(s)), f(s) * 0.1 + x), xs, h, [xs, h])
    narrow = normal(H, 1, seed=2)
    compare(
        lambda x, s: (x, (tg.sum(s[0] * x, -1, keepdims=True), tg.tanh(s[1] * s[0]))),
        xs, (narrow, h), [xs, narrow, h],
    )  # fmt: skip
    compare(
        lambda x, s: (x, (tg.sum(s[1], -1, keepdims=True), tg.sum(s[0], -1, keepdims=True))),
        xs, (narrow, narrow), [xs, narrow],
    )  # fmt: skip


def test_one_value_as_a_part_and_as_a_whole(emitter: str) -> None:
    """What is reshaped in one piece can't lie within a concatenation as well."""
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2 * H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        a = tg.tanh(s + x)
        flat = tg.reshape(a, (-1,)) * 0.5
        return flat, tg.tanh(tg.concat([a, x], -1) @ w + tg.reshape(flat, (B, H)))

    compare(step, xs, h, [xs, h, w])


def test_a_parameter_on_the_left_and_one_that_is_spread(emitter: str) -> None:
    xs, h, w, v = normal(4, B, H), normal(B, H, seed=1), normal(B, B, seed=2), normal(H, seed=3)
    compare(lambda x, s: (tg.sum(v), tg.tanh(w @ s + x)), xs, h, [xs, h, w, v])
    truth: Any = None
    for unroll in (True, False):
        v.grad = None
        several = [tg.scan(lambda x, s: (tg.sum(v), s), xs, h, unroll=unroll) for _ in range(3)]
        loss_of(several, ()).backward()
        truth = truth or [v.grad.numpy().copy()]
        assert_same([v.grad.numpy()], truth)


def test_parameters_in_pieces(emitter: str) -> None:
    """Gradients of pieces that were joined, and of a whole that was taken apart."""
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(2 * H, H, seed=2)
    pieces = [normal(H, H, seed=3), normal(H, H, seed=4)]

    def step(x: Any, s: Any, pieces: Any = pieces) -> Any:
        first, second = tg.split(w, parts=2, axis=0)
        z = tg.linear(x, tg.concat(pieces, 0))
        s = tg.tanh(tg.tanh(s @ first.T) @ second + tg.sum(z, axis=1, keepdims=True))
        return z, s

    compare(step, xs, h, [xs, h, w, *pieces])
    gradient = tg.grad(
        lambda *p: loss_of(*tg.scan(lambda x, s: step(x, s, p), xs, h)), argnums=(0, 1)
    )
    parts = [part.array for part in gradient(*pieces)]
    assert not np.shares_memory(*parts)
    assert all(part.base is None for part in parts)  # a piece does not hold the whole


# What is moved out of the loop


def products(lines: Any) -> int:
    return sum(is_product(op) or op.primitive in (P.matmul, P.linear, P.einsum) for op in lines)


def test_the_products_of_an_lstm_leave_the_loop() -> None:
    cell, xs, state = LSTM(), normal(6, B, I), zero_state()
    recipe, _ = scan_module.trace(cell, xs, state, 6, False)
    parts = recipe.replay.inference().parts
    assert (products(parts.before), products(parts.loop), products(parts.after)) == (1, 1, 0)
    ys, end = tg.scan(cell, xs, state)
    loss_of(ys, end).backward()
    (found,) = [
        compiled
        for (_, wanted), (_, compiled) in recipe.replay._backward.items()
        if all(wanted.xs) and all(wanted.consts)
    ]
    parts = found.parts
    assert products(parts.loop) == 1
    assert products(parts.before) == 0
    assert products(parts.after) == 3  # dW, dU and dx
    assert not parts.reasons


def test_an_operation_without_a_rule_for_all_steps_stays_in_the_loop(emitter: str) -> None:
    wave = tg.primitive("wave", lambda xp, x: xp.sin(x), [lambda g, y, x: g * ops.cos(x)])
    xs, h, w = normal(4, B, H), normal(B, H, seed=1), normal(H, H, seed=2)

    def step(x: Any, s: Any) -> Any:
        return wave(s @ w), tg.tanh(wave(x @ w) + s)

    compare(step, xs, h, [xs, h, w])
    recipe, _ = scan_module.trace(step, xs, h, 4, False)
    parts = recipe.replay.inference().parts
    assert any(op.primitive is wave for op in parts.loop)
    assert any("wave" in reason and "batching rule" in reason for reason in parts.reasons)
