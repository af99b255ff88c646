"""Verifying a planned loop: every place lies inside its array, and is read and written in its time.

Followed element by element: which step of the loop, or phase of a kernel, wrote what lies there.
Within a time step nothing is written twice, and what is written is not read before, except states
that are written in place: of those it can be compared who wrote what is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import reduce
from math import prod
from typing import Any

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


def verify_loop(loop: Loop, in_place: Collection[int] = ()) -> list[np.ndarray]:
    """By which work each element was written that the loop reads, -1 where before the step.

    ``in_place`` are the arrays of states that may be written over the old ones.
    """
    memory = _Memory(loop)
    for k, step in enumerate(loop.steps):
        try:
            _verify_step(loop, step)
            memory.follow(step)
        except PassError as fault:
            raise PassError(f"step {k} of the loop: {fault}") from None
    return memory.finish(in_place)


def _verify_step(loop: Loop, step: Step) -> None:
    """Shapes, dtypes and names, and that all places lie inside."""
    for ref in refs(step):
        if not inside(ref, loop.arrays[ref.array]):
            raise PassError(f"{ref} leaves {loop.arrays[ref.array].name}")
    if isinstance(step, Kernel):
        for phase in step.phases:
            _verify_phase(loop, (*step.lead, phase.width), phase)
    elif isinstance(step, Product):
        shapes = [ref.shape for ref in refs(step)]
        dtypes = {loop.arrays[ref.array].dtype for ref in refs(step)}
        if [*map(len, shapes)] != [2, 2, 2] or len(dtypes) > 1:
            raise PassError(f"a product of {shapes} in {dtypes}")
        (m, k), (j, n), out = shapes
        if k != j or out != (m, n):
            raise PassError(f"a product of {(m, k)} and {(j, n)} in {out}")
    else:
        _verify_call(loop, step)


def _verify_phase(loop: Loop, shape: tuple[int, ...], phase: Phase) -> None:
    known: dict[Any, DType] = {}
    for ref in refs(Kernel((), (phase,))):
        if ref.shape != shape:
            raise PassError(f"{ref} in a kernel over {shape}")
    for name, ref in phase.reads:
        known[name] = loop.arrays[ref.array].dtype
    for line in phase.lines:
        operands = [x for x in line.operands if isinstance(x, str)]
        if any(x not in known for x in operands) or line.target in known:
            raise PassError(f"{line} reads what is not there, or writes what is")
        wide = operands[line.function == "select" :]
        if line.function != "cast" and any(_rank(known[x]) > _rank(line.compute) for x in wide):
            raise PassError(f"{line} computes in less than its operands have")
        known[line.target] = line.dtype
    leaving = [*phase.writes, *((name, ref) for name, _, ref in phase.reduces)]
    for x, ref in leaving:
        dtype = loop.arrays[ref.array].dtype
        if isinstance(x, str) and known.get(x) != dtype:
            raise PassError(f"{x}, {known.get(x, 'not there')}, is written as {dtype}")
    if phase.width > 1 and any(ref.strides[-1] for *_, ref in phase.reduces):
        raise PassError("a reduction has more than one place in a row")


def _verify_call(loop: Loop, step: Call) -> None:
    def held(x: Any) -> Any:
        return Value(x.shape, loop.arrays[x.array].dtype) if isinstance(x, Ref) else x

    gives = results_of(step.primitive, [*map(held, step.operands)], step.params)
    if gives is not None:
        pairs = zip(gives, step.outputs, strict=True)
        places = [gives if ref is None else form_of(held(ref)) for gives, ref in pairs]
        if places != gives:
            raise PassError(f"{step.primitive.name} gives {shown(gives)} to {shown(places)}")


def _rank(dtype: DType) -> tuple[int, int]:
    return "biuf".index(dtype.kind), dtype.itemsize


def elements(ref: Ref) -> np.ndarray:
    """The place of each element, counted from the start of the array or row."""
    axes = (np.arange(n) * stride for n, stride in zip(ref.shape, ref.strides, strict=True))
    return reduce(np.add.outer, axes, np.intp(ref.offset))


_NONE, _MANY = -1, -2


class _Memory:
    """The work that wrote each element last, of the arrays or of their rows.

    Work is what is done in one go: a product, a call, a phase of a kernel; it is counted.
    """

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.count = 0
        self.writers: dict[tuple[int, int | None], np.ndarray] = {}
        self.found: list[tuple[Ref, np.ndarray, np.ndarray]] = []

    def nobody(self, ref: Ref) -> np.ndarray:
        return np.full(prod(self.loop.arrays[ref.array].shape), _NONE)

    def name(self, ref: Ref) -> str:
        return self.loop.arrays[ref.array].name

    def follow(self, step: Step) -> None:
        if not isinstance(step, Kernel):
            ways = [(ref, np.arange(prod(ref.shape)).reshape(ref.shape)) for ref in written(step)]
            self.keep_apart(ways, [(ref, _MANY) for ref in read(step)])
            self.work(step)
            return
        rows = np.arange(prod(step.lead)).reshape(*step.lead, 1)
        self.keep_apart([(ref, rows) for ref in written(step)], [(ref, rows) for ref in read(step)])
        for phase in step.phases:
            each = np.arange(rows.size * phase.width).reshape(*step.lead, phase.width)
            ways = [(ref, each) for _, ref in phase.writes]
            ways += [(ref, _MANY) for *_, ref in phase.reduces]
            self.keep_apart(ways, [(ref, each) for _, ref in phase.reads])
            self.work(Kernel((), (phase,)))

    def keep_apart(
        self, writes: Iterable[tuple[Ref, Any]], reads: Iterable[tuple[Ref, Any]]
    ) -> None:
        """What one worker writes, of those that work in any order, no other reads or writes."""
        workers: dict[tuple[int, int | None], np.ndarray] = {}
        for ref, worker in writes:
            places = elements(ref)
            there = workers.setdefault((ref.array, ref.time), self.nobody(ref))
            there[places] = worker
            if (there[places] != worker).any():
                raise PassError(f"{self.name(ref)} is written twice at one place")
        for ref, worker in reads:
            there = workers.get((ref.array, ref.time))
            if there is not None:
                seen = there[elements(ref)]
                if ((seen != _NONE) & (seen != worker)).any():
                    raise PassError(f"{self.name(ref)} is read where another element writes it")

    def work(self, step: Step) -> None:
        """Reads, then writes."""
        for ref in read(step):
            places = elements(ref)
            writer = self.writers.setdefault((ref.array, ref.time), self.nobody(ref))
            self.found.append((ref, places, writer[places]))
        for ref in written(step):
            places = elements(ref)
            writer = self.writers.setdefault((ref.array, ref.time), self.nobody(ref))
            if (writer[places] != _NONE).any():
                raise PassError(f"{self.name(ref)} is written twice at one place")
            writer[places] = self.count
        self.count += 1

    def finish(self, in_place: Collection[int]) -> list[np.ndarray]:
        """Who wrote what was read, when all is known that is written in a step."""
        for ref, places, writers in self.found:
            late = self.writers[ref.array, ref.time][places] != writers
            if ref.array not in in_place and late.any():
                raise PassError(f"the loop reads {self.name(ref)} before it writes it")
        behind = 0 if self.loop.reverse else 1
        for (array, time), writer in self.writers.items():
            if (writer == _NONE).all():
                continue
            name = self.loop.arrays[array].name
            if (writer == _NONE).any():
                raise PassError(f"a part of {name} is not written")
            if time == 1 - behind and (array, behind) in self.writers:
                raise PassError(f"{name} is written in the row of the step before")
        return [writers for *_, writers in self.found]
