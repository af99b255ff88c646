"""Writing a state over the old one: when that is right, and the steps changed to do so."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.replay.passes.strides import contiguous, spread
from tinygrad_rnn.replay.program.loop import Kernel, Product, Ref, Step


def can_overwrite(steps: list[Step], place: Ref, home: Ref) -> bool:
    """Whether a state can be written over the old one: nothing reads the old one later.

    In the kernel that writes it, the old one may be read at the place that is written.
    """
    if home != home._replace(offset=0, strides=contiguous(home.shape), time=None):
        return False
    written = False
    for step in steps:
        reads, writes = _accesses(step)
        old = [ref for ref in reads if ref.array == place.array]
        new = [ref for ref in writes if ref.array == home.array]
        if old and written:
            return False
        if new:
            written = True
            if old and not isinstance(step, Kernel):
                return False
            if isinstance(step, Kernel) and old and not _overwrites_in_place(step, place, home):
                return False
    return written


def _overwrites_in_place(kernel: Kernel, place: Ref, home: Ref) -> bool:
    """Whether a kernel reads the old state at its own place only, and not after writing it."""
    written = False
    for phase in kernel.phases:
        old = [ref for _, ref in phase.reads if ref.array == place.array]
        new = [ref for _, ref in phase.writes if ref.array == home.array]
        sums = [ref for _, _, ref in phase.reduces if ref.array == home.array]
        if old and (written or sums):
            return False
        targets = {ref._replace(array=place.array) for ref in new}
        if not new:
            shape = place.shape
            if any(
                ref.strides != spread(place, shape or (1,)).strides or ref.offset for ref in old
            ):
                return False
        elif any(ref not in targets for ref in old):
            return False
        written = written or bool(new or sums)
    return True


def _accesses(step: Step) -> tuple[list[Ref], list[Ref]]:
    if isinstance(step, Kernel):
        return (
            [ref for phase in step.phases for _, ref in phase.reads],
            [ref for phase in step.phases for _, ref in phase.writes]
            + [ref for phase in step.phases for _, _, ref in phase.reduces],
        )
    if isinstance(step, Product):
        return [step.a, step.b], [step.out]
    return (
        [x for x in step.operands if isinstance(x, Ref)],
        [x for x in step.outputs if x is not None],
    )


def moved(step: Step, old: int, new: int) -> Step:
    """A step with one array in place of another."""

    def at(ref: Any) -> Any:
        return ref._replace(array=new) if isinstance(ref, Ref) and ref.array == old else ref

    if isinstance(step, Kernel):
        phases = [
            phase._replace(
                reads=tuple((name, at(ref)) for name, ref in phase.reads),
                writes=tuple((name, at(ref)) for name, ref in phase.writes),
                reduces=tuple((name, kind, at(ref)) for name, kind, ref in phase.reduces),
            )
            for phase in step.phases
        ]
        return step._replace(phases=tuple(phases))
    if isinstance(step, Product):
        return step._replace(a=at(step.a), b=at(step.b), out=at(step.out))
    return step._replace(
        operands=tuple(map(at, step.operands)), outputs=tuple(map(at, step.outputs))
    )
