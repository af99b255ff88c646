"""What a compiled step does, in words: what was hoisted, fused and sunk, where it lies, and why
something was left slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import indent

from tinygrad_rnn.replay.emit.choice import loop_reasons, work_on_card
from tinygrad_rnn.replay.emit.cuda.work import Work
from tinygrad_rnn.replay.emit.texts import place
from tinygrad_rnn.replay.passes.gradient import Wanted
from tinygrad_rnn.replay.passes.plain import VIEWS
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Loop, Product, Step
from tinygrad_rnn.replay.program.program import Names, Op
from tinygrad_rnn.replay.program.stage import Row, Rows, Section
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.run.replay import Replay
from tinygrad_rnn.tape import format_bytes


def explain_replay(replay: Replay, wanted: Wanted | None) -> str:
    """The program of a step, and what became of it, forward and backward.

    ``wanted`` says which gradients are wanted (see ``wanted_of`` in primitive.py), None for none.
    """
    parts = ["the step, as traced", indent(str(replay.program), "  ")]
    for title, compiled in directions(replay, wanted):
        rows = Rows(Names(compiled.program), replay.program, replay.program)
        parts += ["", title]
        for section in as_run(compiled, rows):
            parts.append(f"  {section.title}")
            parts += [f"    {row.text}" for row in section.rows]
        parts += [f"  {note}" for note in notes(compiled)]
    return "\n".join(parts)


def directions(replay: Replay, wanted: Wanted | None) -> Iterator[tuple[str, Compiled]]:
    """What is compiled of a step, forward and backward."""
    if wanted is None:
        yield "forward, without gradients", replay.inference()
        return
    yield "forward, leaving what backward needs", replay.training(wanted).forward
    _, compiled = replay.backward_program(wanted, wanted)
    yield f"backward, from t = {'T-1' if compiled.reverse else '0'} on", compiled


def as_run(compiled: Compiled, rows: Rows) -> list[Section]:
    """The parts in which a program is run, in their order."""
    parts, plan = compiled.parts, compiled.plan
    loop, names = plan.loop, rows.names

    def section(title: str, ops: Sequence[Op]) -> Section:
        return Section(title, (*map(rows.line, ops),))

    once = section("once (depends on constants alone):", compiled.used_once)
    before = section("before (for all T at once, needs no state):", parts.before)
    steps = [
        rows.row(step_text(step, loop), ops) for step, ops in zip(loop.steps, plan.ops, strict=True)
    ]
    inside = Section(
        f"loop: {_count(len(steps), 'step')} at each t", (*steps, *_where(compiled, names))
    )
    after = section("after (for all T at once, no state waits for it):", parts.after)
    found = [part for part in (once, before) if part.rows]
    found += [inside, *[after] * bool(after.rows)]
    if compiled.program.totals:
        sums = ", ".join(dict.fromkeys(map(names.operand, compiled.program.totals)))
        last = found[-1]
        found[-1] = Section(last.title, (*last.rows, Row(f"summed over time: {sums}")))
    return found


def notes(compiled: Compiled) -> Iterator[str]:
    """What a program takes, by what it is run, and what is slower than it could be."""
    loop = compiled.plan.loop
    stacked = sum(bytes_of(spec) for spec in loop.arrays if spec.stacked)
    fixed = sum(bytes_of(spec) for spec in loop.arrays if not spec.stacked)
    count = sum(spec.stacked for spec in loop.arrays)
    yield (
        f"memory: {format_bytes(stacked)} per step in {count} arrays over time, "
        f"{format_bytes(fixed)} in {len(loop.arrays) - count} that stay"
    )
    work = work_on_card(loop, compiled.backend)
    if work is not None:
        yield f"per step: {_work(work)}"
        yield f"per call, besides: {_around(compiled)}"
    reasons = loop_reasons(loop, compiled.backend, compiled.found_loop())
    for note in [*reasons, *compiled.parts.reasons]:
        yield f"note: {note}"


def _where(compiled: Compiled, names: Names) -> Iterator[Row]:
    """Which values the loop's arrays hold."""
    plan = compiled.plan
    arrays = plan.loop.arrays
    held = {k: names.operand(v) for v, k in plan.inputs.items()}
    for v, (k, _) in plan.crossing.items():
        if k not in plan.state:
            held.setdefault(k, names.operand(v))
    if held:
        places = [f"{arrays[k].name} = {held[k]}" for k in sorted(held)]
        yield Row(f"where {', '.join(places)}")


def _count(number: int, what: str, many: str | None = None) -> str:
    return f"{number} {what if number == 1 else many or f'{what}s'}"


def step_text(step: Step, loop: Loop) -> str:
    """A step of a loop, on its arrays."""
    if isinstance(step, Product):
        kept = ", constant" if step.constant else ""
        a, b, out = (f"{place(ref, loop)} {ref.shape}" for ref in (step.a, step.b, step.out))
        return f"product {out} = {a} @ {b}{kept}"
    if isinstance(step, Kernel):
        lines = sum(len(phase.lines) + len(phase.reduces) for phase in step.phases)
        reads = {place(ref, loop) for phase in step.phases for _, ref in phase.reads}
        writes = {place(ref, loop) for phase in step.phases for _, ref in phase.writes}
        writes |= {place(ref, loop) for phase in step.phases for _, _, ref in phase.reduces}
        widths = " + ".join(str(phase.width) for phase in step.phases)
        return (
            f"kernel over {step.lead} x {widths}: {_count(lines, 'operation')}, reads "
            f"{', '.join(sorted(reads))}; writes {', '.join(sorted(writes))}"
        )
    return f"call {step.primitive.name}, as it is"


def _work(work: Work) -> str:
    launched = [_count(work.kernels, "kernel launch", "kernel launches")]
    if work.products:
        flops = f"{2e-6 * work.multiplications:.3g} MFLOP"
        launched.append(f"{_count(work.products, 'product')} ({flops})")
    if work.calls:
        launched.append(f"{_count(work.calls, 'call')} of unknown cost")
    moved = f"reads {format_bytes(work.read)}, writes {format_bytes(work.written)}"
    return f"{', '.join(launched)}, {moved}"


def _around(compiled: Compiled) -> str:
    """What surrounds the loop; each operation there is one launch or several."""
    around = [*compiled.used_once, *compiled.parts.before, *compiled.parts.after]
    computing = sum(op.primitive not in VIEWS for op in around)
    copies = 2 * sum(k is not None for k in compiled.plan.state)
    parts = [
        (computing, _count(computing, "operation")),
        (copies, _count(copies, "copy of a state", "copies of states")),
    ]
    named = ", ".join(text for number, text in parts if number)
    return f"{named}, a launch or more each" if named else "nothing"


def bytes_of(spec: ArraySpec) -> int:
    """The bytes of an array, or of a row of it where it is stacked."""
    return math.prod(spec.shape) * spec.dtype.itemsize
