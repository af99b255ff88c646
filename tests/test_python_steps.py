"""Steps written in Python at random, replayed and unrolled, over several calls.

Whatever a step does besides its operations (it counts, keeps, tosses, reads what is changed between
calls), the replayed loop gives the numbers and the gradients of the unrolled one and leaves the
same behind, or refuses a read. 2,000 programs on the array emitter and 500 by Numba are tried by ::

    pytest tests/test_python_steps.py --hypothesis-profile=long
"""

from __future__ import annotations

import contextvars
import itertools
import random
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_steps import INGREDIENTS, WRAPS, Call, Program, Use, World, programs
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, tape
from tinygrad_rnn.replay import ReadError, UnrolledWarning
from tinygrad_rnn.replay.emit.choice import has_numba

CLOSE = 1e-10
"""Relative to the larger of 1 and the largest value."""

EXAMPLES = settings().max_examples
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]


# What a call gives and leaves behind


def held(value: Any) -> Any:
    """A value as it is now, in a form that can be compared."""
    if isinstance(value, tg.Tensor):
        return type(value), value.requires_grad, np.array(value.detach().numpy())
    if isinstance(value, np.ndarray):
        return np.array(value)
    if isinstance(value, dict):
        return type(value), [(held(key), held(item)) for key, item in value.items()]
    if isinstance(value, list | tuple | deque | set):
        return type(value), [held(item) for item in value]
    if isinstance(value, bytearray):
        return bytes(value)
    assert isinstance(value, int | float | str | None), type(value)
    return value


def tensors(value: Any) -> Iterator[tg.Tensor]:
    """All Tensors in containers of any kind."""
    if isinstance(value, tg.Tensor):
        yield value
    elif isinstance(value, dict | list | tuple | deque):
        for item in value.values() if isinstance(value, dict) else value:
            yield from tensors(item)


def generators() -> Any:
    """The states of the generators that all share."""
    numpys = np.random.get_state(legacy=False)  # noqa: NPY002
    return held([ops.generator_state(), random.getstate(), numpys])


def same(a: Any, b: Any) -> bool:
    """Whether two forms are equal, arrays up to rounding."""
    if isinstance(a, np.ndarray):
        if not isinstance(b, np.ndarray) or (a.shape, a.dtype) != (b.shape, b.dtype):
            return False
        scale = max(1.0, float(np.abs(b).max(initial=0.0)))
        return a.dtype.kind != "f" or bool(np.allclose(a, b, rtol=0, atol=CLOSE * scale))
    if isinstance(a, tuple | list):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


class Found(NamedTuple):
    """What one call gave: forms that can be compared, and how it ran."""

    values: Any = None
    gradients: Any = None
    left: Any = None
    generators: Any = None
    error: type[Exception] | None = None
    tape: tuple[str, ...] = ()


class Run:
    """A program in a world of its own, call by call, until one raises.

    Nothing is drawn between the calls: their inputs are the same in all worlds.
    """

    def __init__(self, program: Program, unroll: bool, shared: bool = True) -> None:
        self.world = World(program, unroll)
        self.unroll, self.shared = unroll, shared
        self.found: list[Found] = []
        if shared:
            random.seed(1)
            np.random.seed(1)  # noqa: NPY002
            tg.manual_seed(1)
        if program.cell:
            self.layer = tg.rnn.Recurrent(self.world.model, unroll=unroll)
        for k, call in enumerate(program.calls):
            self.make(k, call)
            if self.found[-1].error is not None:
                break

    def make(self, k: int, call: Call) -> None:
        """One call, its gradients, and what is there afterwards."""
        world = self.world
        world.change(call.changes)
        if self.shared and call.seed is not None:
            tg.manual_seed(call.seed)
        x, state = world.inputs(k, call)
        found: dict[str, Any] = {}
        before = [*tensors(world.left())]
        try:
            with tg.enable_grad() if call.recording else tg.no_grad():
                result = self.call(x, state, call)
            found["values"] = [held(v.detach().numpy()) for v in tape.leaves(result)]
            new = [v for v in tensors(world.left()) if not any(v is old for old in before)]
            loss = weighted([*tape.leaves(result), *new])
            every = [x, *tape.leaves(state), *world.parameters]
            wanted = [p for p in every if p.requires_grad]
            if loss is not None:
                found["tape"] = tuple(record.primitive.name for record in tg.Tape.of(loss))
                loss.backward()
            found["gradients"] = [
                np.zeros(p.shape) if p.grad is None else held(p.grad)[2] for p in wanted
            ]
        except Exception as error:
            found["error"] = type(error)
        for p in world.parameters:
            p.grad = None
        left = held(world.left())
        self.found.append(Found(**found, left=left, generators=generators() if self.shared else 0))

    def call(self, x: tg.Tensor, state: Any, call: Call) -> Any:
        """The outputs over time and the last state."""
        program = self.world.program
        if not program.cell:
            step, back = self.world.step, program.reverse
            return tg.scan(step, x, state, reverse=back, unroll=self.unroll)
        if not call.stream:
            return self.layer(x, state, reverse=program.reverse)
        outputs: list[Any] = []
        for x_t in x:
            y, state = self.layer.step(x_t, state)
            outputs.append(y)
        return outputs, state


def weighted(values: list[tg.Tensor]) -> tg.Tensor | None:
    """A number that depends on every element of those values that want a gradient."""
    total: Any = None
    for k, value in enumerate(values):
        if value.requires_grad:
            weight = tg.tensor(np.random.default_rng([8, k]).uniform(-1, 1, value.shape))
            term = tg.sum(weight * value)
            total = term if total is None else total + term
    return total


@contextmanager
def counted() -> Iterator[list[str]]:
    """Let loops run unrolled; gives what they say."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("always", UnrolledWarning)
        said: list[str] = []
        yield said
        said += [str(warning.message) for warning in caught]


# Comparison


def compare(found: list[Found], wanted: list[Found]) -> str:
    """How a run ended; raises where one call differs from that of the unrolled run."""
    for k, (a, b) in enumerate(itertools.zip_longest(found, wanted)):
        assert a is not None, f"call {k} is missing"
        if a.error is ReadError:
            return "read"
        assert b is not None, f"call {k} is one too many"
        for what in ("error", "values", "gradients", "left", "generators"):
            x, y = getattr(a, what), getattr(b, what)
            assert same(x, y), f"{what} of call {k}: {x} instead of {y}"
        if a.error is not None:
            return f"{a.error.__name__}"
    return "whole"


def remember_first_step(program: Program) -> None:
    """Let a loop of nothing but first steps be compiled.

    A step that is known is not traced twice, so the program's own steps are not told from its
    first one by what they compute, but by what they do besides.
    """
    call, first = program.calls[0], World(program, False)
    first.change(call.changes)

    def step(x: Any, state: Any) -> Any:
        fresh = World(program, False, first.parameters)
        fresh.change(call.changes)
        return fresh.step(x, state)

    x, state = first.inputs(0, call)
    with counted(), suppress(Exception), tg.enable_grad() if call.recording else tg.no_grad():
        tg.scan(step, tg.concat([x, x]), state, reverse=program.reverse)


def check(program: Program) -> str:
    """Replay equals unrolled; says how it was run."""
    remember_first_step(program)
    with counted() as said:
        wanted = Run(program, True).found
    assert not said, "the unrolled run has nothing to warn of"
    with counted() as said:
        found = Run(program, False).found
    try:
        end = compare(found, wanted)
    except AssertionError as error:
        error.add_note("\n".join([str(program), *said]))
        raise
    if end == "whole":
        return "unrolled" if said else "replayed"
    return end


def check_many(
    strategy: st.SearchStrategy[Any], examples: int, body: Callable[[Any], Any] = check
) -> Counter[str]:
    """Check so many programs; says how many ended in which way."""
    ends: Counter[str] = Counter()

    @settings(max_examples=examples, suppress_health_check=QUIET)
    @given(strategy)
    def test(program: Any) -> None:
        ends[body(program)] += 1

    test()
    return ends


@pytest.fixture
def arrays() -> Iterator[None]:
    """Loops run as NumPy calls."""
    with replay.using(jit=False):
        yield


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("name", INGREDIENTS)
def test_every_ingredient(name: str) -> None:
    """By itself, in two kinds of statement, and changed before every call."""
    other = WRAPS[[*INGREDIENTS].index(name) % len(WRAPS)]
    for wrap, wants in ("none", 0), (other, 3):
        calls = tuple(Call(T, changes=1, wants=wants) for T in (3, 1, 5, 3))
        check(Program((Use(name, 0.8, wrap),), calls))


@pytest.mark.usefixtures("arrays")
def test_programs() -> None:
    ends = check_many(programs(), min(EXAMPLES * 10, 2000))
    total = sum(ends.values())
    assert ends["replayed"] > total / 6, ends
    assert ends["unrolled"] > total / 6, ends
    assert ends["read"] < total / 6, ends
    assert sum(ends[end] for end in ("replayed", "unrolled", "read")) > 0.9 * total, ends


@pytest.mark.skipif(not has_numba(), reason="the extra jit is not installed")
def test_programs_compiled_by_numba() -> None:
    check_many(programs(most=3), min(EXAMPLES * 5 // 2, 500))


@pytest.mark.usefixtures("arrays")
def test_steps_of_operations_alone_are_replayed() -> None:
    """As one operation of the tape, without a warning."""

    def one_scan(program: Program) -> str:
        assert check(program) == "replayed"
        for found in Run(program, False).found:
            assert not found.tape or found.tape.count("scan") == 1, found.tape
            assert "tanh" not in found.tape, "a part of a step is on the tape"
        return "replayed"

    check_many(programs(kinds=("pure", "draw"), reads=False), EXAMPLES * 2, one_scan)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("kind", ["cell", "pure"])
def test_cells(kind: str) -> None:
    """Whole sequences and streams; what a pure cell reads may change between calls."""
    ends = check_many(programs(cell=kind), EXAMPLES * 2)
    assert ends["replayed"] > sum(ends.values()) / 6, ends


@pytest.mark.usefixtures("arrays")
def test_four_threads() -> None:
    """Each with a world of its own, and two of them with the same program."""

    def in_threads(pair: tuple[Program, Program]) -> None:
        wanted = [Run(program, True, shared=False).found for program in pair]

        def run(k: int) -> list[Found]:
            return Run(pair[k % 2], False, shared=False).found

        with counted():
            found = at_once([partial(contextvars.copy_context().run, run, k) for k in range(4)])
        for k in range(4):
            compare(found[k], wanted[k % 2])

    programs_of_threads = programs(kinds=("pure", "plain", "effect"), without="shared")
    check_many(st.tuples(programs_of_threads, programs_of_threads), EXAMPLES, in_threads)
