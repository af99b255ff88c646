"""Verifying a planned loop: every place lies inside its array, and is read and written in its time.

Followed element by element: which step of the loop, or phase of a kernel, wrote what lies there.
Within a time step nothing is written twice, and what is written is not read before, except states
that are written in place: of those it can be compared who wrote what is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache, reduce
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.replay.program.loop import (
    Call,
    DType,
    Kernel,
    Loop,
    Phase,
    Product,
    Ref,
    Step,
    inside,
    read,
    refs,
    written,
)
from tinygrad_rnn.replay.program.program import Value
from tinygrad_rnn.replay.program.verify import PassError, form_of, results_of, shown

Row: TypeAlias = "tuple[int, int | None]"
"""An array, and which of its rows: the beginning of a Ref."""


def verify_loop(loop: Loop, in_place: Collection[int] = ()) -> list[tuple[Ref, np.ndarray]]:
    """All that the loop reads, and whether each element was written in the same step before.

    ``in_place`` are the arrays of states that may be written over the old ones.
    """
    memory = _Memory(loop)
    changing = {ref.array for step in loop.steps for ref in written(step)}
    for k, step in enumerate(loop.steps):
        try:
            _verify_step(loop, step)
            memory.follow(step)
            if isinstance(step, Product) and step.constant and step.b.array in changing:
                raise PassError("has a constant operand that changes")
        except PassError as fault:
            kind = type(step).__name__.lower()
            raise PassError(f"step {k} of the loop, a {kind}, {fault}") from None
    return memory.finish(in_place)


def _verify_step(loop: Loop, step: Step) -> None:
    """Shapes, dtypes and names, and that all places lie inside."""
    for ref in refs(step):
        if not inside(ref, loop.arrays[ref.array]):
            raise PassError(f"leaves {loop.arrays[ref.array].name} with {ref}")
    if isinstance(step, Kernel):
        for phase in step.phases:
            _verify_phase(loop, (*step.lead, phase.width), phase)
    elif isinstance(step, Product):
        shapes = [ref.shape for ref in refs(step)]
        dtypes = {loop.arrays[ref.array].dtype for ref in refs(step)}
        if [*map(len, shapes)] != [2, 2, 2] or len(dtypes) > 1:
            raise PassError(f"multiplies {shapes} in {dtypes}")
        (m, k), (j, n), out = shapes
        if k != j or out != (m, n):
            raise PassError(f"multiplies {(m, k)} by {(j, n)} into {out}")
    else:
        _verify_call(loop, step)


def _verify_phase(loop: Loop, shape: tuple[int, ...], phase: Phase) -> None:
    known: dict[Any, DType] = {}
    for ref in refs(Kernel((), (phase,))):
        if ref.shape != shape:
            raise PassError(f"runs over {shape}, with {ref}")
    for name, ref in phase.reads:
        known[name] = loop.arrays[ref.array].dtype
    for line in phase.lines:
        operands = [x for x in line.operands if isinstance(x, str)]
        if any(x not in known for x in operands) or line.target in known:
            raise PassError(f"reads what is not there, or computes what is, in {line}")
        wide = operands[line.function == "select" :]
        if line.function != "cast" and any(_rank(known[x]) > _rank(line.compute) for x in wide):
            raise PassError(f"computes in less than its operands have, in {line}")
        known[line.target] = line.dtype
    leaving = [*phase.writes, *((name, ref) for name, _, ref in phase.reduces)]
    for x, ref in leaving:
        dtype = loop.arrays[ref.array].dtype
        if isinstance(x, str) and known.get(x) != dtype:
            raise PassError(f"has {x} as {known.get(x, 'nothing')} and writes {dtype}")
    if phase.width > 1 and any(ref.strides[-1] for *_, ref in phase.reduces):
        raise PassError("has more than one place in a row for a reduction")


def _verify_call(loop: Loop, step: Call) -> None:
    def held(x: Any) -> Any:
        return Value(x.shape, loop.arrays[x.array].dtype) if isinstance(x, Ref) else x

    gives = results_of(step.primitive, [*map(held, step.operands)], step.params)
    if gives is not None:
        pairs = zip(gives, step.outputs, strict=True)
        places = [gives if ref is None else form_of(held(ref)) for gives, ref in pairs]
        if places != gives:
            raise PassError(f"gives {shown(gives)} to {shown(places)}")


def _rank(dtype: DType) -> tuple[int, int]:
    return "biuf".index(dtype.kind), dtype.itemsize


def elements(ref: Ref) -> np.ndarray:
    """The place of each element, counted from the start of the array or row."""
    return (_remembered if prod(ref.shape) <= SMALL else _places)(*ref[2:])


def _places(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    axes = (np.arange(n) * stride for n, stride in zip(shape, strides, strict=True))
    return np.asarray(reduce(np.add.outer, axes, np.intp(offset)))


SMALL = 4096
"""Elements of which the places are remembered."""
_remembered = lru_cache(maxsize=256)(_places)


class _Memory:
    """Which elements the step has written, of every array or row of one, and what it has read."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.done: dict[Row, np.ndarray] = {}
        self.found: list[tuple[Ref, np.ndarray]] = []

    def size(self, ref: Ref) -> int:
        return prod(self.loop.arrays[ref.array].shape)

    def name(self, ref: Ref) -> str:
        return self.loop.arrays[ref.array].name

    def follow(self, step: Step) -> None:
        reads, writes = [*read(step)], [*written(step)]
        if not isinstance(step, Kernel):
            self.keep_apart(reads, writes, 0, 1)
            self.work(reads, [(ref, prod(ref.shape)) for ref in writes])
            return
        rows = np.arange(prod(step.lead)).reshape(*step.lead, 1)
        self.keep_apart(reads, writes, rows, rows)
        for phase in step.phases:
            each = np.arange(rows.size * phase.width).reshape(*step.lead, phase.width)
            reads = [ref for _, ref in phase.reads]
            self.keep_apart(reads, [ref for _, ref in phase.writes], each, each)
            self.keep_apart(reads, [ref for *_, ref in phase.reduces], 0, 1)
            sizes = [(ref, each.size) for _, ref in phase.writes]
            self.work(reads, sizes + [(ref, rows.size) for *_, ref in phase.reduces])

    def keep_apart(
        self, reads: Sequence[Ref], writes: Sequence[Ref], writer: Any, reader: Any
    ) -> None:
        """Nobody reads what another writes: those who do, by element, come in any order."""
        owners = {ref[:2]: np.full(self.size(ref), -1) for ref in writes}
        shared = [ref for ref in reads if ref[:2] in owners]
        if shared:
            for ref in writes:
                owners[ref[:2]][elements(ref)] = writer
        for ref in shared:
            owner = owners[ref[:2]][elements(ref)]
            if ((owner >= 0) & (owner != reader)).any():
                raise PassError(f"reads {self.name(ref)} where another element is written")

    def work(self, reads: Iterable[Ref], writes: Iterable[tuple[Ref, int]]) -> None:
        """Reads, then writes of so many elements each."""
        for ref in reads:
            done = self.done.get(ref[:2])
            shape = (1,) * len(ref.shape)
            there = np.zeros(shape, bool) if done is None else done[elements(ref)]
            self.found.append((ref, there))
        for ref, size in writes:
            if ref[:2] not in self.done:
                self.done[ref[:2]] = np.zeros(self.size(ref), bool)
            done = self.done[ref[:2]]
            before = np.count_nonzero(done)
            done[elements(ref)] = True
            if np.count_nonzero(done) != before + size:
                raise PassError(f"writes an element of {self.name(ref)} for the second time")

    def finish(self, in_place: Collection[int]) -> list[tuple[Ref, np.ndarray]]:
        """What was read, when all is known that is written in a step."""
        for ref, there in self.found:
            if ref.array not in in_place and ref[:2] in self.done and not there.all():
                raise PassError(f"the loop reads {self.name(ref)} before it writes it")
        behind = 0 if self.loop.reverse else 1
        used = {ref[:2] for ref, _ in self.found} | {*self.done}
        for (array, time), done in self.done.items():
            name = self.loop.arrays[array].name
            if not done.all():
                raise PassError(f"the loop leaves a part of {name} unwritten")
            if time == 1 - behind and (array, behind) in used:
                raise PassError(f"the loop writes {name} in the row of the step before")
        return self.found
