"""A loop cut into loops over some of the rows each, which never meet.

Most cells treat the rows of a batch one like the other: what they compute for a row depends on that
row and on constants. Then a thread can run through all time with some of the rows while another
does so with the rest, and none waits for the other at any step. Whether it is so is read off the
places that the steps read and write; nothing else is known about axes here.
"""

from __future__ import annotations

import itertools
import math

from tinygrad_rnn.replay.program.loop import (
    ArraySpec,
    Kernel,
    Loop,
    Product,
    Ref,
    Step,
    extent,
    mapped,
    refs,
    written,
)


def divided(loop: Loop, count: int) -> list[Loop] | None:
    """The loop over the first rows, over the next, and so on; None where rows depend on another."""
    rows = independent_rows(loop)
    if rows is None or rows < count:
        return None
    cuts = [rows * k // count for k in range(count + 1)]
    return [
        loop._replace(steps=tuple(_of_rows(step, a, b) for step in loop.steps))
        for a, b in itertools.pairwise(cuts)
    ]


def independent_rows(loop: Loop) -> int | None:
    """The number of rows that each step is done for, none of which reads what another wrote."""
    found = {_count(step) for step in loop.steps}
    rows = found.pop() if len(found) == 1 else None
    if rows is None:
        return None
    changing = {ref.array for step in loop.steps for ref in written(step)}
    for step in loop.steps:
        if isinstance(step, Product) and step.b.array in changing:
            return None
        for ref in refs(step):
            if ref.array in changing and not _keeps_to_rows(ref, loop.arrays[ref.array], rows):
                return None
    return rows


def _count(step: Step) -> int | None:
    """The size of the first axis of all that a step writes."""
    if isinstance(step, Product):
        return step.a.shape[0]
    if not isinstance(step, Kernel):
        return None
    if step.lead:
        return step.lead[0]
    widths = {phase.width for phase in step.phases}
    return None if len(widths) > 1 else widths.pop()


def _keeps_to_rows(ref: Ref, spec: ArraySpec, rows: int) -> bool:
    """Whether element i along the first axis of a place lies in the i-th row of its array."""
    size = math.prod(spec.shape) // rows
    low, high = extent(ref._replace(shape=ref.shape[1:], strides=ref.strides[1:]))
    return ref.shape[0] == rows and ref.strides[0] == size and 0 <= low <= high < size


def _of_rows(step: Step, start: int, stop: int) -> Step:
    """A step for the rows from ``start`` to ``stop``, which is not among them."""

    def cut(ref: Ref) -> Ref:
        return ref._replace(
            shape=(stop - start, *ref.shape[1:]), offset=ref.offset + start * ref.strides[0]
        )

    if isinstance(step, Product):
        return step._replace(a=cut(step.a), out=cut(step.out))
    part = mapped(step, cut)
    assert isinstance(part, Kernel)  # a loop with a call has no independent rows
    if part.lead:
        return part._replace(lead=(stop - start, *part.lead[1:]))
    return Kernel((), tuple(phase._replace(width=stop - start) for phase in part.phases))
