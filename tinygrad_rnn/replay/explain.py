"""What a compiled step does, in words: what was hoisted, fused and sunk, where it lies, and why
something was left slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from textwrap import indent

from tinygrad_rnn.replay.emit.choice import loop_reasons, work_on_card
from tinygrad_rnn.replay.emit.cuda.work import Work
from tinygrad_rnn.replay.passes.gradient import Wanted
from tinygrad_rnn.replay.passes.plain import VIEWS
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Product, Ref, Step
from tinygrad_rnn.replay.program.program import Names, Op
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.run.replay import Replay
from tinygrad_rnn.tape import format_bytes


def explain_replay(replay: Replay, wanted: Wanted | None) -> str:
    """The program of a step, and what became of it, forward and backward.

    ``wanted`` says which gradients are wanted (see ``wanted_of`` in primitive.py), None for none.
    """
    parts = ["the step, as traced", indent(str(replay.program), "  ")]
    if wanted is None:
        return "\n".join([*parts, *_compiled("forward, without gradients", replay.inference())])
    training = replay.training(wanted)
    parts += _compiled("forward, leaving what backward needs", training.forward)
    _, compiled = replay.backward_program(wanted, wanted)
    direction = "T-1" if compiled.reverse else "0"
    parts += _compiled(f"backward, from t = {direction} on", compiled)
    return "\n".join(parts)


def _compiled(title: str, compiled: Compiled) -> Iterator[str]:
    parts, names = compiled.parts, Names(compiled.program)
    yield ""
    yield title
    yield from _section("once", "depends on constants alone", compiled.used_once, names)
    yield from _section("before", "for all T at once, needs no state", parts.before, names)
    loop = compiled.plan.loop
    yield f"  loop: {_count(len(loop.steps), 'step')} at each t"
    for step in loop.steps:
        yield f"    {_step(step, loop.arrays)}"
    yield from _places(compiled, names)
    yield from _section("after", "for all T at once, no state waits for it", parts.after, names)
    if compiled.program.totals:
        sums = ", ".join(dict.fromkeys(map(names.operand, compiled.program.totals)))
        yield f"    summed over time: {sums}"
    stacked = sum(_bytes(spec) for spec in loop.arrays if spec.stacked)
    fixed = sum(_bytes(spec) for spec in loop.arrays if not spec.stacked)
    count = sum(spec.stacked for spec in loop.arrays)
    yield (
        f"  memory: {format_bytes(stacked)} per step in {count} arrays over time, "
        f"{format_bytes(fixed)} in {len(loop.arrays) - count} that stay"
    )
    work = work_on_card(loop, compiled.backend)
    if work is not None:
        yield f"  per step: {_work(work)}"
        yield f"  per call, besides: {_around(compiled)}"
    reasons = loop_reasons(loop, compiled.backend, compiled.found_loop())
    for note in [*reasons, *parts.reasons]:
        yield f"  note: {note}"


def _places(compiled: Compiled, names: Names) -> Iterator[str]:
    """Which values the loop's arrays hold."""
    plan = compiled.plan
    arrays = plan.loop.arrays
    held = {k: names.operand(v) for v, k in plan.inputs.items()}
    for v, (k, _) in plan.crossing.items():
        if k not in plan.state:
            held.setdefault(k, names.operand(v))
    if held:
        places = [f"{arrays[k].name} = {held[k]}" for k in sorted(held)]
        yield f"    where {', '.join(places)}"


def _count(number: int, what: str, many: str | None = None) -> str:
    return f"{number} {what if number == 1 else many or f'{what}s'}"


def _section(title: str, why: str, ops: Sequence[Op], names: Names) -> Iterator[str]:
    if ops:
        yield f"  {title} ({why}):"
        yield from (f"    {names.line(op)}" for op in ops)


def _step(step: Step, arrays: Sequence[ArraySpec]) -> str:
    def place(ref: Ref) -> str:
        at = "" if ref.time is None else "[t]" if ref.time == 0 else f"[t+{ref.time}]"
        return f"{arrays[ref.array].name}{at}"

    if isinstance(step, Product):
        kept = ", constant" if step.constant else ""
        return (
            f"product {place(step.out)} {step.out.shape} = {place(step.a)} {step.a.shape} @ "
            f"{place(step.b)} {step.b.shape}{kept}"
        )
    if isinstance(step, Kernel):
        lines = sum(len(phase.lines) + len(phase.reduces) for phase in step.phases)
        reads = {place(ref) for phase in step.phases for _, ref in phase.reads}
        writes = {place(ref) for phase in step.phases for _, ref in phase.writes}
        writes |= {place(ref) for phase in step.phases for _, _, ref in phase.reduces}
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


def _bytes(spec: ArraySpec) -> int:
    return math.prod(spec.shape) * spec.dtype.itemsize
