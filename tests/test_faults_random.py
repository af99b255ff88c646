"""Random numbers in forked processes: others in each, the same again after the same seed."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from programs import run_python

from tinygrad_rnn import ops

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

BEGIN = """
import json, multiprocessing, os, threading
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn import nn, ops

def draw():
    return tg.rand(2).tolist()

def forked(work=draw):
    # What work() gives in a process that is forked now.
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(send, json.dumps(work()).encode())
        os._exit(0)
    os.close(send)
    os.waitpid(child, 0)
    with os.fdopen(receive) as file:
        return json.load(file)

def seeded(seed, *works):
    tg.manual_seed(seed)
    return [work() for work in works]

found = []
"""


def run(script: str) -> Any:
    """What a script leaves in ``found``; in a process of its own, which has no threads."""
    code = f"{BEGIN}{script}\nprint(json.dumps(found))"
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return json.loads(run_python("-W", "error", "-c", code, **one_thread).stdout)


def test_fault_23_forked_workers_draw_other_numbers_and_the_same_again() -> None:
    first, second, plain, other = run(
        """
inside = lambda: forked(lambda: [forked(), draw()])
order = (forked, forked, draw, forked, lambda: forked(forked), inside)
found = [seeded(3, *order), seeded(3, *order), seeded(3, draw), seeded(4, *order)]
"""
    )
    assert first == second
    flat = [*first[:5], *first[5]]
    assert len({tuple(numbers) for numbers in flat}) == len(flat)
    assert plain[0] == first[2]  # the parent's numbers know nothing of its children
    assert not any(numbers in flat for numbers in other[:5])


def test_fault_23_a_pool_of_workers_and_everything_that_draws() -> None:
    """Weights, masks and numbers alike; and with NumPy's own generator, which tasks may ask for."""
    found = run(
        """
def work(queue):
    model = nn.Linear(2, 3)
    queue.put([
        model.weight.tolist(), nn.Dropout(0.5)(tg.ones(20)).tolist(), tg.randn(2).tolist(),
        ops.generator().random(2).tolist(),
    ])

def workers():
    context, got = multiprocessing.get_context("fork"), []
    for _ in range(3):
        queue = context.SimpleQueue()
        process = context.Process(target=work, args=[queue])
        process.start()
        got.append(queue.get())
        process.join()
    return got

found = [seeded(1, workers), seeded(1, workers)]
"""
    )
    assert found[0] == found[1]
    for one, other, third in zip(*found[0][0], strict=True):
        assert one != other != third != one


def test_fault_23_the_state_of_the_generator_knows_the_forks() -> None:
    """A resumed run forks the same workers as one without a stop."""
    whole, again, states = run(
        """
tg.manual_seed(5)
draw(), forked()
state = json.loads(json.dumps(ops.generator_state()))
whole = [forked(), draw(), forked()]
tg.manual_seed(6)
forked(), draw(), forked()
ops.set_generator_state(state)
again = [forked(), draw(), forked()]
ops.set_generator_state({k: v for k, v in state.items() if k != "forks"})  # of an older version
states = [state["forks"], ops.generator_state()["forks"]]
found = [whole, again, states]
"""
    )
    assert whole == again
    assert states == [1, 0]
    assert json.loads(json.dumps(ops.generator_state())) == ops.generator_state()


def test_fault_23_forks_while_another_thread_draws() -> None:
    """The child can draw, though the generator was in use when it was made."""
    found = run(
        """
stop = threading.Event()
def busy():
    while not stop.is_set():
        ops.generator().random(200_000)
thread = threading.Thread(target=busy)
thread.start()
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
try:
    found = [forked() for _ in range(40)]
finally:
    stop.set()
    thread.join()
"""
    )
    assert len({tuple(numbers) for numbers in found}) == 40
