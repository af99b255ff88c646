"""Memory: flat over training, freed as a backward pass goes by, freed at once without one."""

from __future__ import annotations

import gc
import platform
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from programs import run_python

import tinygrad_rnn as tg

SIZE = 128 * 1024
"""Elements of a large array: 1 MiB in float64."""


@pytest.fixture
def traced() -> Iterator[None]:
    """Allocations are counted, and only reference counting frees."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def now() -> float:
    """MiB in use."""
    return tracemalloc.get_traced_memory()[0] / 2**20


def peak_of(function: Any, *args: Any) -> float:
    """MiB in use at most while ``function`` runs, above what is in use before."""
    before = now()
    tracemalloc.reset_peak()
    function(*args)
    return tracemalloc.get_traced_memory()[1] / 2**20 - before


def chain(x: tg.Tensor, length: int) -> tg.Tensor:
    y = x
    for _ in range(length):
        y = tg.sin(y)
    return y


def large() -> tg.Tensor:
    return tg.tensor(np.full(SIZE, 0.5), requires_grad=True)


def test_memory_is_flat_over_2000_training_steps() -> None:
    gc.collect()
    gc.disable()
    rng = np.random.default_rng(0)
    weight = tg.tensor(rng.standard_normal((3, 3)), requires_grad=True)
    x = tg.tensor(rng.standard_normal((2, 3)))
    used: list[int] = []
    for step in range(2000):
        h = x
        for _ in range(3):
            h = tg.tanh(h @ weight)
        loss = (h * h)[0].sum()
        loss.backward()
        weight.data -= 0.01 * weight.grad.data
        weight.grad = None
        if step in (500, 1999):
            used.append(sys.getallocatedblocks())
    gc.enable()
    assert used[1] - used[0] < 100


@pytest.mark.usefixtures("traced")
def test_dropping_the_result_frees_the_tape_at_once() -> None:
    x = large()
    before = now()
    y = chain(x, 20)
    assert now() - before > 19
    del y
    assert now() - before < 0.1


@pytest.mark.usefixtures("traced")
def test_records_are_freed_as_the_backward_pass_goes_by() -> None:
    x = large()
    y = chain(x, 20).sum()
    before = now()
    added = peak_of(y.backward)
    assert added < 5
    assert now() - before < -17
    kept = chain(x, 20).sum()
    before = now()
    kept.backward(retain_graph=True)
    assert now() - before > -1


@pytest.mark.usefixtures("traced")
def test_a_result_lives_until_its_own_record_is_passed() -> None:
    x = tg.tensor(np.ones(3), requires_grad=True)
    alive: list[int] = []
    middle = [x * 1.0]
    for _ in range(5):
        middle.append(tg.sin(middle[-1]))
    references = [weakref.ref(value) for value in middle]
    y = middle[-1].sum()
    del middle

    class Watch(tg.Observer):
        def after_backward(self, record: Any, cotangents: Any) -> None:
            alive.append(sum(r() is not None for r in references))

    with tg.observe(Watch()):
        y.backward()
    assert alive == [6, 6, 5, 4, 3, 2, 1]
    assert not any(r() is not None for r in references)


@pytest.mark.usefixtures("traced")
def test_nothing_is_kept_without_recording() -> None:
    x = large()
    with tg.no_grad():
        assert peak_of(chain, x, 20) < 3.5
    assert peak_of(chain, x.detach(), 20) < 3.5


@pytest.mark.usefixtures("traced")
def test_reading_every_step_of_a_sequence_costs_one_buffer() -> None:
    x = tg.tensor(np.ones((64, SIZE // 64)), requires_grad=True)
    loss = sum((x[t].sum() for t in range(64)), 0.0)
    assert peak_of(loss.backward) < 3.5


@pytest.mark.usefixtures("traced")
def test_checkpoint_keeps_no_inner_tape_forward_or_backward() -> None:
    x = large()
    step = tg.checkpoint(lambda v: chain(v, 10))

    def forward() -> tg.Tensor:
        y = x
        for _ in range(4):
            y = step(y)
        return y.sum()

    before = now()
    loss = forward()
    assert now() - before < 5
    assert peak_of(loss.backward) < 15
    assert now() - before < 1.1, "only the gradient of x is left, though the loss is alive"
    assert loss.item() < SIZE
    y = step(step(x))
    y.sum().backward()
    assert now() - before < 2.1, "and the result, but not what was between"


@pytest.mark.usefixtures("traced")
def test_transforms_leave_nothing_behind() -> None:
    x = tg.tensor(np.full(SIZE, 0.5))
    before = now()
    gradient = tg.grad(lambda v: chain(v, 10).sum())(x)
    assert now() - before < 1.1
    value, gradient = tg.value_and_grad(lambda v: chain(v, 10).sum())(x)
    assert value.is_leaf
    del gradient
    assert now() - before < 0.1
    tg.jvp(lambda v: chain(v, 3), [x], [x])
    assert now() - before < 0.1
    assert gc.collect() == 0


UPDATES = """
import resource
import tinygrad_rnn as tg

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

x = tg.ones((6, 128, 1024))  # 3 MiB
for update in range(13):
    if update == 3:
        before = faults()
    results = [x + k for k in range(4)]
    del results
print((faults() - before) / 10)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's memory")
def test_freed_memory_is_used_again() -> None:
    assert float(run_python("-c", UPDATES).stdout) < 100  # of 3,072 pages
