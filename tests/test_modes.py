"""no_grad and enable_grad, per thread and per context; two threads that train at once."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import lab


def recorded() -> bool:
    """Whether an operation is written on a tape just now, seen from its result."""
    x = tg.tensor([1.0], requires_grad=True)
    y = x * 2
    assert y.requires_grad == (not y.is_leaf) == tg.is_recording()
    return y.requires_grad


def test_no_grad_and_enable_grad_nest() -> None:
    assert recorded()
    with tg.no_grad():
        assert not recorded()
        with tg.enable_grad():
            assert recorded()
            with tg.no_grad():
                assert not recorded()
            assert recorded()
        assert not recorded()
    assert recorded()


def test_as_decorators() -> None:
    silent = tg.no_grad()(recorded)
    assert [silent(), silent(), recorded()] == [False, False, True]
    with tg.no_grad():
        assert tg.enable_grad()(recorded)()
        assert not recorded()


def test_exceptions_restore_the_state() -> None:
    def fail(block: Any) -> None:
        with block:
            raise KeyError

    for block in (tg.no_grad(), lab.look(), tg.observe(tg.Observer())):
        with pytest.raises(KeyError):
            fail(block)
    assert recorded()
    with tg.no_grad():
        with pytest.raises(KeyError):
            fail(tg.enable_grad())
        assert not recorded()


def test_a_gradient_outside_needs_no_recording() -> None:
    x = tg.tensor([2.0], requires_grad=True)
    y = x * x
    with tg.no_grad():
        y.backward()
    assert x.grad.item() == 4


def test_the_state_belongs_to_a_thread() -> None:
    found: list[bool] = []
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with tg.enable_grad():
            found.append(recorded())
        found.append(recorded())
        with tg.no_grad():
            inside.set()
            assert done.wait(10)
            found.append(recorded())

    with tg.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        assert not recorded()
    assert recorded()
    done.set()
    thread.join()
    assert found == [True, True, False]


def test_the_state_belongs_to_a_context() -> None:
    with tg.no_grad():
        context = contextvars.copy_context()
    assert recorded()
    assert not context.run(recorded)

    async def task(grad: bool) -> list[bool]:
        with tg.enable_grad() if grad else tg.no_grad():
            first = recorded()
            await asyncio.sleep(0)
            return [first, recorded()]

    async def both() -> list[list[bool]]:
        return list(await asyncio.gather(task(True), task(False)))

    assert asyncio.run(both()) == [[True, True], [False, False]]


def train(seed: int) -> list[np.ndarray]:
    """Fifty steps of a small recurrent model; the parameters at the end."""
    rng = np.random.default_rng(seed)
    xs = tg.tensor(rng.standard_normal((6, 3, 2)))
    parameters = [
        tg.tensor(rng.standard_normal(shape) * 0.5, requires_grad=True)
        for shape in ((2, 4), (4, 4), (4,))
    ]
    for _ in range(50):
        h = tg.zeros((3, 4), dtype="float64")
        for x in xs:
            h = tg.tanh(x @ parameters[0] + h @ parameters[1] + parameters[2])
        ((h - 0.5) ** 2).mean().backward()
        for p in parameters:
            p.data -= 0.1 * p.grad.data
            p.grad = None
        with tg.no_grad():
            assert not recorded()
    return [p.numpy() for p in parameters]


def test_two_threads_that_train_at_once_get_what_each_gets_alone() -> None:
    alone = [train(seed) for seed in (1, 2)]
    together = at_once([partial(train, seed) for seed in (1, 2)])
    for a, b in zip(alone, together, strict=True):
        for p, q in zip(a, b, strict=True):
            np.testing.assert_array_equal(p, q)


def test_a_tape_made_in_one_thread_is_differentiated_in_another() -> None:
    x = tg.tensor([3.0], requires_grad=True)
    y = x * x
    with ThreadPoolExecutor(1) as pool:
        pool.submit(y.backward).result()
    assert x.grad.item() == 6
