"""The passes from a traced step, or from its backward step, to a loop: in which order they come."""

from __future__ import annotations

from typing import NamedTuple

from tinygrad_rnn.replay.passes.lower import lower
from tinygrad_rnn.replay.passes.plan import Plan, plan
from tinygrad_rnn.replay.passes.simplify import simplify
from tinygrad_rnn.replay.passes.split import Parts, rounded_ahead, split, summed_inside
from tinygrad_rnn.replay.program.program import Program


class Passed(NamedTuple):
    """What each pass gave of the program ``given``.

    ``settled`` is the program that was split: simplified, with the states that a loop has besides
    those of the step. ``rounded`` and ``summed`` say which these are; see :func:`rounded_ahead` and
    :func:`summed_inside`.
    """

    given: Program
    lowered: Program
    settled: Program
    rounded: list[int]
    summed: list[bool]
    parts: Parts
    plan: Plan


def passed(program: Program, reverse: bool, brief: bool) -> Passed:
    """A program, pass by pass, for a loop of few steps where it is ``brief``."""
    lowered = lower(program)
    plainer, rounded = rounded_ahead(simplify(lowered))
    settled, summed = summed_inside(plainer)
    parts = split(settled, brief)
    planned = plan(parts, reverse, brief)
    return Passed(program, lowered, settled, rounded, summed, parts, planned)
