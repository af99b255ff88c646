"""Verifying a planned loop: every place lies inside its array, and is read and written in its time.

The loop is followed element by element: of each is noted when it was written, and by which row and
element of a kernel. Within a time step nothing is written twice, and what is written is not read
before, except states that are written in place: of those it is told who reads the new one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import lru_cache, reduce
from math import prod
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.ops import primitives as P
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
    phase_refs,
    rank,
    read,
    refs,
    written,
)
from tinygrad_rnn.replay.program.program import Value
from tinygrad_rnn.replay.program.verify import PassError, form_of, results_of, shown

Places: TypeAlias = "list[tuple[Ref, Any, Any]]"
"""Refs, and for each of their elements which row and which element of a kernel comes there."""


def verify_loop(loop: Loop, in_place: Collection[int] = ()) -> list[tuple[Ref, np.ndarray]]:
    """All that the loop reads, and whether each element was written in the same step before.

    ``in_place`` are the arrays of states that may be written over the old ones.
    """
    arrays, found, start = loop.arrays, list[tuple[Ref, np.ndarray]](), 0
    rows = dict.fromkeys(ref[:2] for step in loop.steps for ref in written(step))
    notes = {row: np.full((3, prod(arrays[row[0]].shape)), -1) for row in rows}
    for k, step in enumerate(loop.steps):
        try:
            _verify_step(loop, step)
            turns = [*_turns(step)]
            for now, (_, writes) in enumerate(turns, start):
                for ref, row, element in writes:
                    note, at = notes[ref[:2]], elements(ref)
                    again = (note[0, at] >= 0).any()
                    note[0, at], note[1, at], note[2, at] = now, row, element
                    if again or (note[1, at] != row).any() or (note[2, at] != element).any():
                        name = arrays[ref.array].name
                        raise PassError(f"writes an element of {name} for the second time")
            for now, (reads, _) in enumerate(turns, start):
                for ref, row, element in reads:
                    if ref[:2] not in rows:  # an input, or the row of the step before
                        found.append((ref, np.array(False)))
                        continue
                    time, its_row, its_element = notes[ref[:2]][:, elements(ref)]
                    apart = (its_row != row) | (time == now) & (its_element != element)
                    if (apart & (time >= start)).any():
                        name = arrays[ref.array].name
                        raise PassError(f"reads {name} where another element is written")
                    found.append((ref, (time >= 0) & (time < now)))
            start += len(turns)
        except PassError as fault:
            kind = type(step).__name__.lower()
            raise PassError(f"step {k} of the loop, a {kind}, {fault}") from None
    for ref, is_new in found:
        if ref[:2] in rows and ref.array not in in_place and not is_new.all():
            raise PassError(f"the loop reads {arrays[ref.array].name} before it writes it")
    used, late = {*rows, *(ref[:2] for ref, _ in found)}, int(loop.reverse)
    for (array, time), note in notes.items():
        if (note[0] < 0).any():
            raise PassError(f"the loop leaves a part of {arrays[array].name} unwritten")
        if time == late and (array, 1 - late) in used:
            name = arrays[array].name
            raise PassError(f"the loop writes {name} in the row of the step before")
    return found


def _turns(step: Step) -> Iterator[tuple[Places, Places]]:
    """What is read and then written at once; the rows of a kernel come in any order."""
    if not isinstance(step, Kernel):
        writes = [(ref, 0, np.arange(prod(ref.shape)).reshape(ref.shape)) for ref in written(step)]
        yield [(ref, -1, -1) for ref in read(step)], writes
        return
    row = np.arange(prod(step.lead)).reshape(*step.lead, 1)
    for phase in step.phases:
        each = np.arange(phase.width)
        writes = [(ref, row, each) for _, ref in phase.writes]
        sums = [(ref, row, -1) for *_, ref in phase.reduces]
        yield [(ref, row, each) for _, ref in phase.reads], writes + sums


def elements(ref: Ref) -> np.ndarray:
    """The place of each element, counted from the start of the array or row."""
    return _places(*ref[2:])


@lru_cache(maxsize=32)
def _places(shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> np.ndarray:
    axes = (np.arange(n) * stride for n, stride in zip(shape, strides, strict=True))
    return np.asarray(reduce(np.add.outer, axes, np.intp(offset)))


def _verify_step(loop: Loop, step: Step) -> None:
    """Shapes, dtypes and names, and that all places lie inside."""

    def held(x: Any) -> Any:
        return Value(x.shape, loop.arrays[x.array].dtype) if isinstance(x, Ref) else x

    for ref in refs(step):
        if not inside(ref, loop.arrays[ref.array]):
            raise PassError(f"leaves {loop.arrays[ref.array].name} with {ref}")
    if isinstance(step, Kernel):
        for phase in step.phases:
            _verify_phase(loop, (*step.lead, phase.width), phase)
        return
    if isinstance(step, Product):
        forms = [(len(ref.shape), loop.arrays[ref.array].dtype) for ref in read(step)]
        wanted = (2, np.dtype(np.float16) if step.wide else forms[0][1])
        if any(form != wanted for form in forms):
            raise PassError(f"multiplies what are not matrices of {wanted[1]}")
        if step.constant and step.b.array in {ref.array for s in loop.steps for ref in written(s)}:
            raise PassError("has a constant operand that changes")
        how = {"precision": "float16"} if step.wide else {}
        step = Call(P.matmul, (step.a, step.b), how, (step.out,))
    gives = results_of(step.primitive, [*map(held, step.operands)], step.params)
    for form, ref in zip(gives or (), step.outputs, strict=gives is not None):
        if ref is not None and form_of(held(ref)) != form:
            raise PassError(f"gives {shown([form])} to {shown([form_of(held(ref))])}")


def _verify_phase(loop: Loop, shape: tuple[int, ...], phase: Phase) -> None:
    for ref in phase_refs(phase):
        if ref.shape != shape:
            raise PassError(f"runs over {shape}, with {ref}")
    known: dict[Any, DType] = {name: loop.arrays[ref.array].dtype for name, ref in phase.reads}
    for line in phase.lines:
        operands = [x for x in line.operands if isinstance(x, str)]
        if not known.keys() >= {*operands} or line.target in known:
            raise PassError(f"reads what is not there, or computes what is, in {line}")
        wide = operands[line.function == "select" :]
        if line.function != "cast" and any(rank(known[x]) > rank(line.compute) for x in wide):
            raise PassError(f"computes in less than its operands have, in {line}")
        known[line.target] = line.dtype
    for x, ref in [*phase.writes, *((name, ref) for name, _, ref in phase.reduces)]:
        dtype = loop.arrays[ref.array].dtype
        if isinstance(x, str) and known.get(x) != dtype:
            raise PassError(f"has {x} as {known.get(x, 'nothing')} and writes {dtype}")
    if phase.width > 1 and any(ref.strides[-1] for *_, ref in phase.reduces):
        raise PassError("has more than one place in a row for a reduction")
