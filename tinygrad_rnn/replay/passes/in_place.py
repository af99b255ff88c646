"""States in place: the new one is written over the old one where that is right, and copied there at
the end of the step where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_rnn.replay.passes.strides import contiguous, spread
from tinygrad_rnn.replay.program.loop import (
    Kernel,
    Line,
    Loop,
    Phase,
    Ref,
    Step,
    mapped,
    read,
    written,
)
from tinygrad_rnn.replay.program.verify import PassError, verified
from tinygrad_rnn.replay.program.verify_loop import verify_loop


def _verify(loop: Loop, before: Loop, states: Sequence[tuple[Ref, Ref]]) -> None:
    """What reads an old state finds it, what reads a new one too, and each state is written."""
    places = {place.array for _, place in states}
    if places - {ref.array for step in loop.steps for ref in written(step)}:
        raise PassError("a state stays as it was")
    reads = (ref for step in before.steps for ref in read(step))
    for ref, (now, is_new) in zip(reads, verify_loop(loop, places), strict=False):
        if now.array in places and (is_new == (ref.array in places)).any():
            name = loop.arrays[now.array].name
            raise PassError(f"{name} is read after it is overwritten, or before it is written")


@verified(_verify)
def in_place(loop: Loop, states: Sequence[tuple[Ref, Ref]]) -> Loop:
    """Bring each state from its ``home``, where it was computed, to its ``place``."""
    steps = [*loop.steps]
    for home, place in states:
        if can_overwrite(steps, place, home):
            steps = [moved(step, home.array, place.array) for step in steps]
            continue
        shape, dtype = place.shape or (1,), loop.arrays[place.array].dtype
        copy = Line("v0", "cast", ("r0",), dtype, dtype)
        old, new = ("r0", spread(home, shape)), ("v0", spread(place, shape))
        steps.append(Kernel(shape[:-1], (Phase(shape[-1], (old,), (copy,), (new,)),)))
    return loop._replace(steps=tuple(steps))


def moved(step: Step, old: int, new: int) -> Step:
    """A step with one array in place of another."""
    return mapped(step, lambda ref: ref._replace(array=new) if ref.array == old else ref)


def can_overwrite(steps: list[Step], place: Ref, home: Ref) -> bool:
    """Whether a state can be written over the old one: nothing reads the old one later.

    In the kernel that writes it, the old one may be read at the place that is written.
    """
    if home != home._replace(offset=0, strides=contiguous(home.shape), time=None):
        return False
    done = False
    for step in steps:
        old = any(ref.array == place.array for ref in read(step))
        if old and done:
            return False
        if any(ref.array == home.array for ref in written(step)):
            done = True
            if old and not (isinstance(step, Kernel) and _overwrites_in_place(step, place, home)):
                return False
    return done


def _overwrites_in_place(kernel: Kernel, place: Ref, home: Ref) -> bool:
    """Whether a kernel reads the old state at its own place only, and not after writing it."""
    done = False
    for phase in kernel.phases:
        old = [ref for _, ref in phase.reads if ref.array == place.array]
        new = [ref for _, ref in phase.writes if ref.array == home.array]
        sums = [ref for _, _, ref in phase.reduces if ref.array == home.array]
        if old and (done or sums):
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
        done = done or bool(new or sums)
    return True
