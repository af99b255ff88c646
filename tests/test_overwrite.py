"""When a state may be written over the old one, case by case."""

from __future__ import annotations

from typing import Any

import pytest
from loop_cases import fused, line, phase, whole

from tinygrad_rnn import ops
from tinygrad_rnn.replay.passes.in_place import can_overwrite, moved
from tinygrad_rnn.replay.program.loop import Call, Kernel, Product, Ref

PLACE, HOME, OTHER = whole(0, (3, 4)), whole(1, (3, 4)), whole(2, (3, 4))
NEXT = line("v0", "x0 + 1", "r0")
BOTH = line("v0", "x0 + x1", "r0", "r1")


def across(ref: Ref) -> Ref:
    """The elements of a square with rows and columns exchanged."""
    return ref._replace(strides=ref.strides[::-1])


def kernel(*refs: Ref) -> Kernel:
    """A kernel that adds what it reads to the new state."""
    reads = {f"r{k}": ref for k, ref in enumerate(refs)}
    return fused(NEXT if len(refs) == 1 else BOTH, reads=reads, writes={"v0": HOME})


def two(first: Any, second: Any) -> Kernel:
    return Kernel((3,), (first, second))


READS = phase(NEXT, reads={"r0": PLACE}, writes={"v0": OTHER})
WRITES = phase(NEXT, reads={"r0": OTHER}, writes={"v0": HOME})
TOTAL = Ref(1, None, (3, 4), (1, 0))
SUMS = phase(reads={"r0": PLACE}, reduces=[("r0", "sum", TOTAL)])
READ_ACROSS = phase(NEXT, reads={"r0": PLACE._replace(offset=1)}, writes={"v0": OTHER})
CALL = Call(ops.abs, (PLACE,), {}, (HOME,))
USE = fused(NEXT, reads={"r0": PLACE}, writes={"v0": OTHER})

CASES: dict[str, tuple[list[Any], bool]] = {
    "in one kernel, at its own place": ([kernel(PLACE)], True),
    "beside another operand": ([kernel(PLACE, OTHER)], True),
    "shifted by an element": ([kernel(PLACE._replace(offset=1))], False),
    "read at its place and at another": ([kernel(PLACE, PLACE._replace(offset=1))], False),
    "read before": ([USE, kernel(OTHER)], True),
    "read after": ([kernel(OTHER), USE], False),
    "by a product of another": ([Product(OTHER, whole(3, (4, 4)), HOME, True)], True),
    "by a product of itself": ([Product(PLACE, whole(3, (4, 4)), HOME, True)], False),
    "by a call that reads it": ([CALL], False),
    "read in an earlier phase of the row": ([two(READS, WRITES)], True),
    "read in a later phase": ([two(WRITES, READS)], False),
    "read elsewhere in an earlier phase": ([two(READ_ACROSS, WRITES)], False),
    "a sum of the row that it replaces": ([Kernel((3,), (SUMS,))], False),
    "written by nothing": ([USE], False),
}


@pytest.mark.parametrize(("steps", "may"), CASES.values(), ids=CASES.keys())
def test_when_a_state_may_be_overwritten(steps: list[Any], may: bool) -> None:
    assert can_overwrite(steps, PLACE, HOME) is may


@pytest.mark.parametrize(
    "home", [HOME._replace(offset=2), HOME._replace(time=0), across(whole(1, (4, 4)))]
)
def test_only_a_place_of_its_own_is_given_up(home: Ref) -> None:
    place = whole(0, home.shape)
    step = fused(NEXT, reads={"r0": whole(2, home.shape)}, writes={"v0": home})
    assert not can_overwrite([step], place, home)


def test_a_moved_step_names_the_other_array() -> None:
    def arrays(step: Any) -> set[int]:
        return {int(text.split(",")[0]) for text in repr(step).split("Ref(array=")[1:]}

    for step in (kernel(PLACE, OTHER), two(SUMS, WRITES), CALL, Product(OTHER, OTHER, HOME, False)):
        assert 1 in arrays(step)
        assert arrays(moved(step, 1, 7)) == (arrays(step) - {1}) | {7}
