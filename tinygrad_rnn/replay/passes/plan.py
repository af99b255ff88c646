"""Planning: the loop as an emitter takes it, its tasks as steps on the arrays of the layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinygrad_rnn.replay.passes.fuse import Group, fuse
from tinygrad_rnn.replay.passes.in_place import in_place
from tinygrad_rnn.replay.passes.kernel_lines import lines_of
from tinygrad_rnn.replay.passes.layout import Layout
from tinygrad_rnn.replay.passes.plain import REDUCTIONS, is_product, is_reduction, is_wide
from tinygrad_rnn.replay.passes.split import Parts
from tinygrad_rnn.replay.passes.strides import spread
from tinygrad_rnn.replay.program.loop import (
    Call,
    Kernel,
    Line,
    Loop,
    Phase,
    Product,
    Ref,
    Step,
    read,
    written,
)
from tinygrad_rnn.replay.program.program import Op, Value, consumers
from tinygrad_rnn.replay.program.verify import PassError, form_of, shown, verified


@dataclass
class Plan:
    """A loop, and what its arrays are.

    ``inputs`` says which arrays hold constants and inputs, ``state`` which one holds each state
    (None for one that stays as it was), ``crossing`` where the values lie that the loop leaves
    behind: an array, and whether they are its first T rows, its last, or all of them.

    ``ops`` are the lines of each step of the loop, of a step that copies a state to its place none;
    ``why`` says why it is a step of its own. ``places`` are where values lie.
    """

    loop: Loop
    ops: list[tuple[Op, ...]]
    why: list[str]
    places: dict[Value, Ref]
    inputs: dict[Value, int]
    state: list[int | None]
    crossing: dict[Value, tuple[int, slice]]

    def verify(self, parts: Parts, *_: Any) -> None:
        """Inputs and states have their arrays, and what leaves the loop is written."""
        arrays, program = self.loop.arrays, parts.program
        if len(self.ops) != len(self.loop.steps):
            raise PassError("the lines of the steps are not those of the loop")
        changing = {ref.array for step in self.loop.steps for ref in written(step)}
        needed = {ref.array for step in self.loop.steps for ref in read(step)}
        for k in needed - changing - {*self.inputs.values(), *self.state}:
            raise PassError(f"{arrays[k].name} is read and nothing writes it")
        held = [(v, k, v in parts.varying) for v, k in self.inputs.items()]
        if any(k in changing for _, k, _ in held):
            raise PassError("an input is overwritten")
        leaving = [(v, k, True) for v, (k, _) in self.crossing.items() if arrays[k].stacked]
        if any(k not in changing for _, k, _ in leaving):
            raise PassError("what the loop should leave behind is not written")
        if not {*parts.crossing} <= {v for v, _, _ in leaving}:
            raise PassError("what is needed of the loop does not leave it")
        states = zip(program.state, self.state, strict=True)
        held += leaving + [(s, k, arrays[k].stacked) for s, k in states if k is not None]
        for v, k, stacked in held:
            if (arrays[k].shape, arrays[k].dtype, arrays[k].stacked) != (*form_of(v), stacked):
                raise PassError(f"{arrays[k]} should hold {shown([form_of(v)])}")


class Planner:
    """Makes steps of the tasks of a loop whose values lie somewhere."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.schedule = fuse(layout.lines)
        self.readers = consumers(layout.lines)

    def steps(self) -> list[tuple[Step, tuple[Op, ...], str]]:
        """The steps, the lines that are in each, and why each is a step of its own."""
        steps: list[tuple[Step, tuple[Op, ...], str]] = []
        for task in self.schedule.tasks:
            if not isinstance(task, Group):
                alone = "its operands are there" if is_product(task) else "no kernel is made of it"
                steps.append((self.single(task), (task,), alone))
                continue
            phase = self.phase(task)
            last, ops, why = steps[-1] if steps else (None, (), "")
            begun = _why_begun(last, task, phase)
            if begun is None and isinstance(last, Kernel):
                longer = last._replace(phases=(*last.phases, phase))
                steps[-1] = longer, (*ops, *task.ops), why
            else:
                steps.append((Kernel(task.lead, (phase,)), (*task.ops,), begun or ""))
        return steps

    def single(self, op: Op) -> Step:
        """A product or a call."""
        layout = self.layout
        if is_product(op):
            a, b = (layout.ref(x) for x in op.values())
            constant = b.time is None and b.array in layout.inputs.values()
            return Product(a, b, layout.ref(op.outputs[0]), constant, is_wide(op))
        operands = tuple(layout.ref(x) if isinstance(x, Value) else x for x in op.inputs)
        outputs = tuple(
            layout.ref(y) if y in self.readers or y in layout.homes or y in layout.claimed else None
            for y in op.outputs
        )
        return Call(op.primitive, operands, op.params, outputs)

    def has_home(self, y: Value) -> bool:
        """Whether anything reads a value from memory."""
        return y in self.layout.claimed or any(
            not self.schedule.shares_phase(y, reader) for reader in self.readers.get(y, [])
        )

    def phase(self, group: Group) -> Phase:
        """A group of elementwise ops and reductions."""
        reads: dict[Ref, str] = {}
        lines: list[Line] = []
        writes: list[tuple[Any, Ref]] = []
        reduces: list[Any] = []
        names: dict[Value, str] = {}

        def place(v: Value) -> Ref:
            return spread(self.layout.ref(v), group.shape)

        def operand(x: Any, op: Op) -> Any:
            if not isinstance(x, Value):
                return x
            if x in names and self.schedule.shares_phase(x, op):
                return names[x]
            return reads.setdefault(place(x), f"r{len(reads)}")

        for op in group.ops:
            (y,) = op.outputs
            operands = tuple(operand(x, op) for x in op.inputs)
            if is_reduction(op):
                reduces.append((operands[0], REDUCTIONS[op.primitive], place(y)))
                continue
            names[y] = f"v{len(lines)}"
            lines += lines_of(op, names[y], operands)
            if self.has_home(y):
                writes.append((names[y], place(y)))
        return Phase(
            group.width,
            tuple((name, ref) for ref, name in reads.items()),
            tuple(lines),
            tuple(writes),
            tuple(reduces),
        )


def _row(ref: Ref) -> tuple[Any, ...]:
    """What two Refs must have in common to lie in the same row of a kernel."""
    lead = [s for s, n in zip(ref.strides[:-1], ref.shape[:-1], strict=True) if n > 1 and s]
    return (ref.time, ref.strides[:-1], ref.offset // min(lead) if lead else 0)


def _is_local(kernel: Kernel, phase: Phase) -> bool:
    """Whether a phase reads only what the kernel's phases have written in the same row."""
    behind: dict[int, list[Ref]] = {}
    for ref in written(kernel):
        behind.setdefault(ref.array, []).append(ref)
    return all(
        _row(ref) == _row(other)
        for _, ref in phase.reads
        for other in behind.get(ref.array, [])
        if ref.time == other.time
    )


def _why_begun(last: Step | None, group: Group, phase: Phase) -> str | None:
    """Why a phase begins a kernel; None where it is one more of the kernel before."""
    if not isinstance(last, Kernel):
        before = "the steps before" if last else "the inputs of the loop"
        return f"all elementwise lines that {before} are enough for"
    if last.lead != group.lead:
        return f"it runs over {group.lead}, the kernel before over {last.lead}"
    return None if _is_local(last, phase) else "it reads other rows than the kernel before writes"


@verified(Plan.verify)
def plan(parts: Parts, reverse: bool, brief: bool) -> Plan:
    """Where everything lies, and the loop.

    Where there are many steps, a transposed matrix is copied once, so that it can be read in its
    own order at each; in a ``brief`` loop that would not pay.
    """
    layout = Layout(parts, reverse, brief)
    found = Planner(layout).steps()
    steps = tuple(step for step, _, _ in found)
    loop = in_place(Loop(tuple(layout.arrays), steps, reverse), layout.overwritten())
    copies = len(loop.steps) - len(steps)
    lines = [ops for _, ops, _ in found] + [()] * copies
    why = [why for _, _, why in found] + ["a state is brought to its place"] * copies
    return Plan(loop, lines, why, layout.homes, layout.inputs, layout.state, layout.crossing)
