"""Who holds which memory after a loop was replayed, and how much of it."""

from __future__ import annotations

import gc
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from replayed import LSTM, B, H, I, LSTMState, assert_same, gradients, loss_of, normal, zero_state
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import replay, tape
from tinygrad_rnn.replay.cache import CACHE, KEPT


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
    assert np.shares_memory(POOL.take([size])[0], taken)


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

    def work(k: int) -> list[np.ndarray]:
        found: list[np.ndarray] = []
        with replay.using(jit=emitter == "jit"):
            for _ in range(8):
                loss = loss_of(*tg.scan(cell, inputs[k], state))
                (g,) = tape.differentiate([loss], [tg.ones_like(loss)], [inputs[k]])
                found.append(g)
        return found

    for k, found in enumerate(at_once([partial(work, k) for k in range(4)])):
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
