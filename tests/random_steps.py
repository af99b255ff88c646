"""Steps wired at random from the operations, for the comparison of replayed and unrolled loops.

A case is a list of numbers, so that Hypothesis can shrink it: each line names an operation and, by
counting back in what has been computed so far, its operands. Bounds of all values are followed, and
what could grow is brought back, so that loops of several steps stay comparable to the last digits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from random_operations import CODES, OPERATIONS
from random_values import Captured, Case, Line, Pool

import tinygrad_rnn as tg
from tinygrad_rnn import backends, tape


class Pair(NamedTuple):
    first: Any
    second: Any


def form(values: list[Any], code: int) -> Any:
    """Values in containers of some form."""
    if len(values) == 1 and code % 2 == 0:
        return values[0]
    match code % 4:
        case 0:
            return tuple(values)
        case 1:
            return Pair(values[0], tuple(values[1:]))
        case 2:
            return Pair((), Pair(tuple(values[:1]), tuple(values[1:])))
        case _:
            return {"one": values[:1], "others": tuple(values[1:])}


@dataclass
class Step:
    """The step of a case, replayed or unrolled."""

    captured: Captured
    unroll: bool

    def __call__(self, x: Any, state: Any) -> tuple[Any, Any]:
        case = self.captured.case
        p = Pool(self.captured, self.unroll)
        inputs = [*tape.leaves(state), *tape.leaves(x)]
        for value in inputs:
            if value.dtype.kind == "f":
                p.floats.append((value, 1.5))
            else:
                p.ints.append(value)
        if not p.floats:
            p.floats.append((p.captured.weight((case.B, case.H), 0), 1))
        for line in case.lines:
            OPERATIONS[line.code % len(OPERATIONS)](p, line.a, line.b, line.c)
        ys = [p.take(k)[0] for k in case.ys]
        ys += p.bools[-1:] if case.forms & 64 else []
        ys += p.ints[-1:] if case.forms & 128 else []
        starts = tape.leaves(state)
        following = [self.next(p, k, s) for k, s in zip(case.following, starts, strict=True)]
        return form(ys, case.forms), tape.rebuild(state, following)

    def next(self, p: Pool, k: int, s: Any) -> Any:
        """The next value of a state: computed, itself, another one, an input or a constant."""
        if s.dtype.kind != "f":
            alike = [n for n in p.ints if n.shape == s.shape]
            return alike[-1 - k % len(alike)]
        return p.fitted(k, s.shape)


class Inputs(NamedTuple):
    xs: list[tg.Tensor]
    state: list[tg.Tensor]


def inputs(case: Case, device: str, dtype: Any) -> Inputs:
    """The leaves of a case."""
    rng = np.random.default_rng(case.seed)
    backend = backends.backend_for(device)

    def leaf(kind: int, lead: tuple[int, ...], bit: int) -> tg.Tensor:
        shape = (*lead, *case.shape(kind))
        if case.is_int(kind):
            host, wanted = rng.integers(0, 4, shape), False
        else:
            host, wanted = rng.uniform(-1, 1, shape).astype(dtype), bool(case.wants >> bit & 1)
        return tg.Tensor(backend.from_host(np.asarray(host), device), wanted)

    xs = [leaf(kind, (case.T,), 5 + k) for k, kind in enumerate(case.xs)]
    return Inputs(xs, [leaf(kind, (), 9 + k) for k, kind in enumerate(case.states)])


@st.composite
def cases(draw: Any, lines: int = 9, steps: int = 4) -> Case:
    """Any case."""
    number = st.integers(0, 63)
    B, H, K = (draw(st.integers(1, 3)) for _ in range(3))
    T = draw(st.integers(1, steps))
    kinds = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    xs = draw(st.lists(kinds, min_size=1, max_size=3))
    states = draw(st.lists(kinds, min_size=1, max_size=4))
    code = st.sampled_from(sorted(CODES.values()))
    line = st.builds(Line, code, number, number, number)
    return Case(
        T=T,
        B=B,
        H=H,
        K=K,
        xs=tuple(xs),
        states=tuple(states),
        lines=tuple(draw(st.lists(line, min_size=1, max_size=lines))),
        ys=tuple(draw(st.lists(number, min_size=1, max_size=3))),
        following=tuple(draw(number) for _ in states),
        forms=draw(st.integers(0, 255)),
        wants=draw(st.integers(0, 2**13 - 1)) | draw(st.sampled_from([0, 2**13 - 1])),
        used=draw(st.integers(0, 255)) | draw(st.sampled_from([0, 255])),
        reverse=draw(st.booleans()),
        checkpoint=draw(st.sampled_from([None, None, None, 1, 2, "sqrt"])),
        seed=draw(st.integers(0, 99)),
    )
