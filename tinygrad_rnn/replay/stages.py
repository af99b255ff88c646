"""A step after each pass, from its trace to the source of its kernels.

Nothing is computed again for it: compiled steps keep what each pass gave, and every line the lines
that it was made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from tinygrad_rnn.replay.emitted import by_phase, emitted
from tinygrad_rnn.replay.explain import as_run, bytes_of, directions, notes
from tinygrad_rnn.replay.passes.gradient import Backward, Wanted
from tinygrad_rnn.replay.passes.plain import SLICE, is_moved
from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.program import Names, Op, Program, Value
from tinygrad_rnn.replay.program.stage import Row, Rows, Section, Stage, Stages, Way
from tinygrad_rnn.replay.run.compiled import Compiled
from tinygrad_rnn.replay.run.replay import Replay
from tinygrad_rnn.tape import Origin, code_at, format_bytes

ABOUT = {
    "traced": "The step was run once, and what it wrote on the tape is the program.",
    "stored": "The engine walks back over the step. What that reads of it is stored over time, "
    "unless it costs next to nothing to compute again.",
    "differentiated": "The engine walked back over the step with the rules of any other tape, and "
    "what it did is a program too: from the cotangents of a step's results to those of what it "
    "read. Those of constants are summed over time.",
    "lowered": "Operations are written in plainer ones, so that the passes to come know few kinds.",
    "simplified": "Equal lines are computed once, and slices are taken from operands instead of "
    "results, so that no array of the width of all gates is written in between.",
    "split": "By what depends on what, each line goes to one of four places: what can be done "
    "once, or for all time steps at once, has no place in the loop.",
    "fused": "A product comes as soon as its operands are there; all elementwise lines that can be "
    "computed by then are one kernel, which reads and writes each element once. A reduction ends a "
    "phase of it, and the next phase reads the result.",
    "planned": "Every value that something outside its kernel reads has its place in an array; "
    "slices, transposes and joins are strides. Nothing is allocated within the loop.",
}  # fmt: skip


def stages_of(
    replay: Replay,
    wanted: Wanted | None,
    origins: Sequence[Origin] = (),
    names: Sequence[str | None] = (),
) -> Stages:
    """The stages of a step, forward and backward.

    Parameters
    ----------
    wanted : which gradients are wanted, None for none (see :func:`wanted_of`).
    origins : where the lines of its program come from: ``record.origin.inside`` of its loop.
    names : of its constants, as far as they have one.
    """
    program = replay.program
    rows = Rows(Names(program), program, program)
    traced = Stage("traced", ABOUT["traced"], (*_program(program, rows, origins, names),))
    ways: list[Way] = []
    for title, compiled in directions(replay, wanted):
        first: list[Stage] = []
        if wanted is not None and not ways:
            first = [_stored(replay, wanted, rows)]
        elif wanted is not None:
            back, _ = replay.backward_program(wanted, wanted)
            of_forward, rows = rows, Rows(Names(back.program), back.program, program)
            first = [_differentiated(replay, wanted, back, rows, of_forward)]
        used, *others = emitted(compiled, rows)
        ways.append(Way(title, (*first, *_passes(compiled, rows), used), (*others,)))
    return Stages(traced, (*ways,), (*origins,))


def _program(
    program: Program,
    rows: Rows,
    origins: Sequence[Origin] = (),
    called: Sequence[str | None] = (),
) -> Iterator[Section]:
    """A program with what goes in and what comes out."""
    lines = rows.names.program().splitlines()
    first = sum(map(bool, (program.consts, program.xs, program.state)))
    last = first + len(program.ops)
    pairs = zip(program.consts, called, strict=False)
    said = ", ".join(f"{rows.names.operand(v)} is {name}" for v, name in pairs if name)
    yield Section("", (*map(Row, [said] * bool(said) + lines[:first]),))
    why = [*map(equation, origins)]
    why += [""] * (len(program.ops) - len(why))
    yield Section("", (*map(rows.line, program.ops, why),))
    yield Section("", (*map(Row, lines[last:]),))


def _stored(replay: Replay, wanted: Wanted, rows: Rows) -> Stage:
    """What the forward step leaves to the backward one."""
    training = replay.training(wanted)
    back, _ = replay.backward_program(wanted, wanted)
    producers = replay.program.producers()

    def row(v: Value, why: str) -> Row:
        return rows.row(rows.names.operand(v), [producers[v]] if v in producers else [], why)

    stored = [row(v, "the backward step reads it") for v in training.stored]
    stored += [row(v, "the state before each step, which it reads") for v in training.states]
    lineage = Lineage(replay.program)
    numbers = [k for op in back.program.ops if _is_forward(op) for k in lineage.numbers(op)]
    again = [rows.line(replay.program.ops[k]) for k in dict.fromkeys(numbers)]
    sections = [
        Section(title, (*found,))
        for title, found in (("stored over time:", stored), ("computed again backward:", again))
        if found
    ]
    return Stage("differentiated", ABOUT["stored"], (*sections,))


def _is_forward(op: Op) -> bool:
    """Whether a line of the backward step is one of the forward step, done again."""
    return bool(op.made_of) and op.origin is not None and op.origin.forward is None


def _differentiated(
    replay: Replay, wanted: Wanted, back: Backward, rows: Rows, forward: Rows
) -> Stage:
    """The backward step, and what its inputs are."""
    program, name = replay.program, forward.names.operand
    ys = [y for y, w in zip(program.ys, wanted.ys, strict=True) if w]
    held = [name(v) for v in (*program.xs, *program.state)]
    held += [f"the cotangent of {name(v)}" for v in ys]
    held += [f"{name(v)}, stored" for v in back.stored]
    inputs = [
        Row(f"{rows.names.operand(x)} is {what}")
        for x, what in zip(back.program.xs, held, strict=True)
    ]
    carried = [s for s in program.state if s.dtype.kind == "f"]
    inputs += [
        Row(f"{rows.names.operand(s)} is the cotangent of {name(of)} of the step after")
        for s, of in zip(back.program.state, carried, strict=True)
    ]
    sections = _program(back.program, rows)
    legend = Section("of the forward step:", (*inputs,))
    return Stage("differentiated", ABOUT["differentiated"], (legend, *sections))


def _passes(compiled: Compiled, rows: Rows) -> Iterator[Stage]:
    """From a program to the source of its loop."""
    found, before = compiled.passed, compiled.passed.given
    for name, after in (("lowered", found.lowered), ("simplified", found.settled)):
        for k, state in enumerate(after.state):
            rows.names.of.setdefault(state, f"s{k}")
        for y in (y for op in after.ops for y in op.outputs):
            rows.names.operand(y)
        lines = Section("", (*map(rows.line, after.ops),))
        said = _more_states(compiled, rows) if after is found.settled else ()
        yield Stage(name, ABOUT[name], (lines,), (*_moves(before, after, rows),), (*said,))
        before = after
    parts = found.parts
    places = {"once": parts.once, "before": parts.before, "loop": parts.loop, "after": parts.after}
    sections = [
        Section(f"{title}:", (*(rows.line(op, parts.why[op]) for op in ops),), title)
        for title, ops in places.items()
        if ops
    ]
    yield Stage("split", ABOUT["split"], (*sections,), notes=(*parts.reasons,))
    yield Stage("fused", ABOUT["fused"], (*_fused(compiled, rows),))
    sections = [_arrays(compiled, rows), *as_run(compiled, rows)]
    yield Stage("planned", ABOUT["planned"], (*sections,), notes=(*notes(compiled),))


def _more_states(compiled: Compiled, rows: Rows) -> Iterator[str]:
    """The states that a loop has besides those of the step."""
    found, name = compiled.passed, rows.names.operand
    states = found.settled.state[len(found.given.state) :]
    for k, state in zip(found.rounded, states, strict=False):
        of = name(found.given.state[k])
        yield f"{name(state)} is a state too: {of} as the step before has rounded it"
    for state in states[len(found.rounded) :]:
        yield f"{name(state)} is a state too: what has no batching rule is summed within the loop"


def _moves(before: Program, after: Program, rows: Rows) -> Iterator[Row]:
    """What became of the lines that a pass did not leave as they were."""
    lineage, name = Lineage(before), rows.names.operand
    became: list[list[Op]] = [[] for _ in before.ops]
    for op in after.ops:
        for k in lineage.numbers(op):
            became[k].append(op)

    def shown(ops: Iterable[Op]) -> str:
        return ", ".join(f"{op.primitive.name} {name(op.outputs[0])}" for op in ops)

    for old, new in zip(before.ops, became, strict=True):
        alike = all(op.primitive is old.primitive for op in new)
        if new and alike and old.primitive is SLICE and new != [old]:
            text = f"is taken of what {name(old.inputs[0])} is made of, {shown(new)}"
        elif not new:
            text = "is gone: what it gives is there, or nothing reads it any more"
        elif len(new) > 1 and alike:
            text = f"is computed in {len(new)} parts, {shown(new)}"
        elif not alike:
            text = f"is written as {shown(new)}"
        elif new[0].outputs[0] is not old.outputs[0] and len(lineage.numbers(new[0])) > 1:
            text = f"is the same as {shown(new)}, computed once"
        else:
            continue
        yield rows.row(f"{shown([old])} {text}", [old])


def _fused(compiled: Compiled, rows: Rows) -> Iterator[Section]:
    """The steps of the loop with their lines, and the lines that are none."""
    plan = compiled.plan
    for k, (step, ops, why) in enumerate(zip(plan.loop.steps, plan.ops, plan.why, strict=True)):
        kind, phases = type(step).__name__.lower(), by_phase(step, ops)
        several = len(phases) > 1
        lines = [
            rows.line(op, f"phase {n}" if several else "")
            for n, of_phase in enumerate(phases)
            for op in of_phase
        ]
        yield Section(f"step {k}, {kind} ({why}):", (*lines,), f"step {k}")
    moved = [op for op in compiled.parts.loop if is_moved(op)]
    if moved:
        title = "no step, as they only say where values lie:"
        yield Section(title, (*map(rows.line, moved),), "strides")


def _arrays(compiled: Compiled, rows: Rows) -> Section:
    """The arrays of the loop, and which values they hold."""
    plan, names = compiled.plan, rows.names
    held: dict[int, list[tuple[Value, str]]] = {}
    for v, ref in plan.places.items():
        part = f" from {ref.offset}" if ref.offset else ""
        held.setdefault(ref.array, []).append((v, f"{names.operand(v)}{part}"))
    producers = {y: op for ops in plan.ops for op in ops for y in op.outputs}
    found: list[Row] = []
    for k, spec in enumerate(plan.loop.arrays):
        each = " at each step" if spec.stacked else ""
        values = held.get(k, [])
        text = f"{spec.name} {spec.dtype} {spec.shape}, {format_bytes(bytes_of(spec))}{each}"
        text += f": {', '.join(said for _, said in values)}" if values else ""
        found.append(rows.row(text, [producers[v] for v, _ in values if v in producers]))
    return Section("arrays of the loop:", (*found,))


def equation(origin: Origin) -> str:
    """The line of a cell that a line of a step comes from: file, number and text."""
    code = code_at(origin.equation or origin.line or "")
    return f"{origin.short_line}: {code}".removesuffix(": ")
