"""Which lines of a program another line was made of, through all the passes between."""

from __future__ import annotations

from collections.abc import Iterable

from tinygrad_rnn.replay.program.program import Op, Program


class Lineage:
    """The lines of a program, to which lines that passes made later are followed back.

    With the program of a :class:`Replay` it says which equations of a cell are in a kernel::

        lineage = Lineage(replay.program)
        lineage.numbers_of(compiled.plan.ops[k])  # those in step k of compiled.plan.loop.steps

    and ``record.origin.inside[number]`` is where such a line came from. A line of a backward step
    is followed back to the forward line that it is the gradient of.
    """

    def __init__(self, program: Program) -> None:
        self._number = {op: k for k, op in enumerate(program.ops)}

    def numbers(self, op: Op) -> tuple[int, ...]:
        """The numbers of the program's lines that a line was made of, in order."""
        return self.numbers_of([op])

    def numbers_of(self, ops: Iterable[Op]) -> tuple[int, ...]:
        """The same of several lines together."""
        found: set[int] = set()
        seen: set[Op] = set()
        waiting = [*ops]
        while waiting:
            op = waiting.pop()
            if op in seen:
                continue
            seen.add(op)
            number = self._number.get(op)
            if number is None:
                waiting += op.made_of
            else:
                found.add(number)
        return (*sorted(found),)
