"""Fusing: the loop's ops become products, calls and kernels.

A product is scheduled as soon as its operands are there; then everything elementwise that has
become computable is one kernel. Inside a kernel, ops of one shape whose values are used at their
own place share a phase; what crosses from one phase to the next lies in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from tinygrad_rnn.replay.passes.plain import in_kernel, is_elementwise, is_moved, is_reduction
from tinygrad_rnn.replay.program.program import Op, Value
from tinygrad_rnn.replay.program.verify import PassError, verified


class Group:
    """Ops of one shape that run over it together: one phase of a kernel."""

    def __init__(self, lead: tuple[int, ...], width: int) -> None:
        self.lead, self.width = lead, width
        self.ops: list[Op] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.lead, self.width)


Task: TypeAlias = "Group | Op"
"""A group of ops for a kernel, or one op that stands for itself: a product or a call."""


def iteration_shape(op: Op) -> tuple[int, ...]:
    """The shape that a kernel runs over for an op; a single number has width one."""
    x = op.inputs[0]
    shape = x.shape if is_reduction(op) and isinstance(x, Value) else op.outputs[0].shape
    return shape or (1,)


class Schedule:
    """The tasks of a loop in an order in which they can be done."""

    def __init__(self, lines: list[Op]) -> None:
        self.producers = {y: op for op in lines for y in op.outputs}
        self.group_of: dict[Op, Group] = {}
        self.tasks: list[Task] = []
        waiting = [op for op in lines if not is_moved(op)]
        done: set[Op] = set()
        while waiting:
            ready = [op for op in waiting if not in_kernel(op) and self._ready(op, done)]
            self.tasks += ready
            done.update(ready)
            waiting = [op for op in waiting if op not in done]
            fused: list[Op] = []
            reached = set(done)
            for op in waiting:
                if in_kernel(op) and self._ready(op, reached):
                    fused.append(op)
                    reached.add(op)
            self.tasks += self._phases(fused)
            done = reached
            waiting = [op for op in waiting if op not in done]

    def sources(self, v: Value) -> Iterator[Op]:
        """The ops that compute what lies at a value, seen through views and joins."""
        op = self.producers.get(v)
        if op is None:
            return
        if is_moved(op):
            for x in op.values():
                yield from self.sources(x)
        else:
            yield op

    def shares_phase(self, v: Value, reader: Op) -> bool:
        """Whether a reader finds a value in a register."""
        op = self.producers.get(v)
        return (
            op is not None
            and is_elementwise(op)
            and op in self.group_of
            and self.group_of[op] is self.group_of.get(reader)
        )

    def verify(self, lines: list[Op]) -> None:
        """Each op is a task once, and comes when what it reads is there."""
        done: set[Op] = set()
        for task in self.tasks:
            for op in task.ops if isinstance(task, Group) else [task]:
                if op in done or not self._ready(op, done):
                    raise PassError(f"{op.primitive.name} is done twice or too early")
                done.add(op)
        if done != {op for op in lines if not is_moved(op)}:
            raise PassError("the tasks are not those of the lines")

    def _ready(self, op: Op, done: set[Op]) -> bool:
        return all(source in done for x in op.values() for source in self.sources(x))

    def _phases(self, fused: Iterable[Op]) -> list[Group]:
        """Sort ops into groups, each as early as what it reads allows."""
        level: dict[Op, int] = {}
        groups: dict[tuple[int, tuple[int, ...]], Group] = {}
        for op in fused:
            shape = iteration_shape(op)
            first = 0
            for x in op.values():
                producer = self.producers.get(x)
                if producer in level and is_elementwise(producer) and x.shape == shape:
                    first = max(first, level[producer])
                else:
                    for source in self.sources(x):
                        first = max(first, level.get(source, -1) + 1)
            level[op] = first
            group = groups.setdefault((first, shape), Group(shape[:-1], shape[-1]))
            group.ops.append(op)
            self.group_of[op] = group
        return [groups[key] for key in sorted(groups, key=lambda key: key[0])]


@verified(Schedule.verify)
def fuse(lines: list[Op]) -> Schedule:
    """The order of the loop's work."""
    return Schedule(lines)
