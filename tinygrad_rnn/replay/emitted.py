"""The last stage of a step: the source that each emitter writes for its loop, line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinygrad_rnn.replay.emit.choice import emitter_of
from tinygrad_rnn.replay.emit.texts import texts, variables
from tinygrad_rnn.replay.explain import step_text
from tinygrad_rnn.replay.passes.plain import is_reduction
from tinygrad_rnn.replay.program.loop import Kernel, Line, Step
from tinygrad_rnn.replay.program.program import Op
from tinygrad_rnn.replay.program.stage import Row, Rows, Section, Stage
from tinygrad_rnn.replay.run.compiled import Compiled

ABOUT = "The loop is data by now. Each emitter writes it as source of its own kind."


def emitted(compiled: Compiled, rows: Rows) -> Iterator[Stage]:
    """What each emitter writes for each step of the loop, first the one that runs it here."""
    plan, used = compiled.plan, emitter_of(compiled.plan.loop, compiled.backend)
    for text in sorted(texts(plan.loop, compiled.backend), key=lambda text: text.emitter != used):
        sections: list[Section] = []
        for k, (step, ops) in enumerate(zip(plan.loop.steps, plan.ops, strict=True)):
            of = _ops_of_variables(step, ops)
            found = [
                rows.row(line, [of[key] for key in variables(line) if key in of] if of else ops)
                for line in text.steps[k]
            ]
            sections.append(Section(f"step {k}: {step_text(step, plan.loop)}", (*found,)))
        sections.append(Section("around the steps:", (*map(Row, text.around),)))
        runs = "runs" if text.emitter == used else "does not run"
        about = f"{ABOUT} {text.emitter} {runs} it here."
        yield Stage(f"emitted, {text.emitter}", about, (*sections,))


def by_phase(step: Step, ops: Sequence[Op]) -> list[Sequence[Op]]:
    """The lines of a step, those of a kernel by its phases."""
    if not isinstance(step, Kernel) or not ops:
        return [ops]
    waiting, found = [*ops], list[Sequence[Op]]()
    for phase in step.phases:
        count = len({_name(line) for line in phase.lines}) + len(phase.reduces)
        found.append(waiting[:count])
        del waiting[:count]
    return found


def _name(line: Line) -> str:
    """The name that the lines of one op have in common."""
    return line.target.partition(".")[0]


def _ops_of_variables(step: Step, ops: Sequence[Op]) -> dict[tuple[str, int], Op]:
    """Which op a variable of a kernel's source belongs to, by its name and phase."""
    found: dict[tuple[str, int], Op] = {}
    if not isinstance(step, Kernel) or not ops:
        return found
    for k, (phase, of_phase) in enumerate(zip(step.phases, by_phase(step, ops), strict=True)):
        names = dict.fromkeys(map(_name, phase.lines))
        reductions = [op for op in of_phase if is_reduction(op)]
        elementwise = [op for op in of_phase if not is_reduction(op)]
        found.update(zip([(name, k) for name in names], elementwise, strict=True))
        found.update({(f"a{n}", k): op for n, op in enumerate(reductions)})
    return found
