"""What is to be said of gradients that are not finite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tinygrad_rnn.lab.anomaly.finding import Finding
from tinygrad_rnn.lab.anomaly.hints import Case, hint_for, safe_branch
from tinygrad_rnn.lab.anomaly.ranges import (
    Range,
    array_of,
    bad_elements,
    first_index,
    host,
    is_finite,
    range_of,
    spread_out,
)
from tinygrad_rnn.lab.anomaly.sources import (
    Source,
    at_elements,
    fresh,
    origin_of,
    place_of,
    ranges_of,
)
from tinygrad_rnn.tape import Deferred, Record, Traced

CHOOSING = ("where", "maximum", "minimum", "clip", "max", "min", "getitem", "take")
"""Operations that do not read all of their operands: to the rest they send a gradient of 0."""


def whole(g: Any, x: Any) -> Any:
    """A gradient that a rule gave, computed where that was put off; None where there is none.

    One that only waits to be put in its place stays as it is.
    """
    if not isinstance(g, Deferred):
        return g
    parts = [p for p in g.parts if hasattr(p, "dtype") and p.dtype.kind == "f"]
    wrong = next((p for p in parts if not is_finite(p)), None)
    if len(parts) < 2:
        return parts[0] if parts else None
    like = array_of(x)
    made = g.combine(tuple(like.shape), like.dtype, [g.parts])
    return made if wrong is None or not is_finite(made) else wrong


def _operands(record: Record, arrived: Sequence[Any]) -> tuple[Range, ...]:
    gradients = [range_of(g, "gradient") for g in arrived if g is not None]
    return (*ranges_of(record), *gradients)


def arrived(record: Record, gs: Sequence[Any], first: bool, replayed: bool) -> Finding:
    """A gradient that is not finite when it arrives, though no rule gave it so."""
    g = next(g for g in gs if not is_finite(g))
    held = range_of(g)
    hint = None
    if first:
        verdict = f"is given a gradient that holds {held.holds}"
    elif held.nan:
        verdict = "its gradient is nan since a hook made it so: what its uses send is finite"
    else:
        sums = "what its uses send is finite, and its sum, or what a hook makes of it, is not"
        verdict = f"its gradient holds {held.holds}: {sums}"
        hint = "the gradient has overflowed: lower the learning rate, clip, or scale the loss down"
    return Finding(
        verdict,
        record.primitive.name,
        held.holds,
        place_of(record, replayed, True),
        origin_of(record),
        backward=True,
        ranges=ranges_of(record),
        result=held,
        made="gradient",
        index=first_index(bad_elements(g)),
        hint=hint,
    )


def use(record: Record) -> Finding:
    """A record that gave a leaf a gradient, in case that the sum of them all is not finite."""
    place, origin = place_of(record, False, True), origin_of(record)
    return Finding("", record.primitive.name, "", place, origin, backward=True, made="gradient")


def of_sum(x: Traced, last: Finding) -> Finding:
    """The gradient of a leaf that is not finite though each use of it sent a finite one."""
    held = range_of(x.grad)
    sums = f"their sum holds {held.holds}"
    if held.nan:
        sums = "its .grad holds nan, which a hook or an assignment has put there"
    return replace(
        last,
        verdict=f"gives a share of the gradient of {x.name or 'a leaf'}; the shares of all its "
        f"uses are finite, and {sums}",
        value=held.holds,
        parameter=x.name,
        result=held,
        index=first_index(bad_elements(x.grad)),
        hint=None
        if held.nan
        else "the gradient has overflowed, or an earlier one was left in .grad: zero_grad(), clip, "
        "or scale the loss down",
    )


def of_steps(record: Record, gs: Sequence[Any], k: int, made: Any) -> Finding:
    """A gradient of a replayed loop that is not finite, though each of its time steps' is."""
    held, x = range_of(made), record.inputs[k]
    name = x.name if isinstance(x, Traced) else None
    return Finding(
        f"the gradients of {name or 'an operand'} that its time steps give are finite, and their "
        f"sum holds {held.holds}",
        record.primitive.name,
        held.holds,
        place_of(record, False, True),
        origin_of(record),
        backward=True,
        parameter=name,
        ranges=_operands(record, gs),
        result=held,
        made="gradient",
        index=first_index(bad_elements(made)),
        hint="the gradient has overflowed: lower the learning rate, clip, or scale the loss down",
    )


def is_fault_of_rule(record: Record, gs: Sequence[Any], made: Any) -> bool:
    """Whether a gradient is not finite at an element at which all that it is made of is."""
    values = [*record.inputs, *record.results, *(g for g in gs if g is not None)]
    return bool(fresh(record, values, bad_elements(made)).any())


def of_source(source: Source, record: Record, made: Any, replayed: bool) -> Finding:
    """A gradient that is not finite because of a value that is not."""
    place, held = place_of(record, replayed, True), range_of(made).holds
    notes = [f"the gradient becomes {held} of it in {place}"]
    hint = source.finding.hint
    if source.dropped and held == "nan":
        name, dropper = source.dropped
        takes = "does not take it" if name in CHOOSING else "makes finite numbers of it"
        notes = [f"{dropper} {takes}, but 0 times {source.finding.value} is nan in {place}"]
        if name == "where" and not source.finding.came_in:
            hint = safe_branch(source.finding.operation)
        elif source.finding.came_in and hint is None:
            hint = "put 0 in its place before anything is computed of it: tg.where(mask, x, 0.0)"
    return source.told(*notes, backward=True, hint=hint)


def of_rule(
    record: Record, gs: Sequence[Any], k: int, made: Any, replayed: bool, behind: str
) -> Finding:
    """A gradient rule that gives what is not finite."""
    held, bad = range_of(made), bad_elements(made)
    operands = _operands(record, gs)
    dirty = sorted({one.holds for one in operands if one.holds})
    of = f"of operands that hold {' and '.join(dirty)}" if dirty else "of finite operands"
    if dirty and is_fault_of_rule(record, gs, made):
        of = "where its operands are finite"
    name = record.primitive.name
    case = Case(held.holds, at_elements(record, bad), operands, record.params, str(made.dtype))
    hint = hint_for(name, True, case)
    notes: list[str] = []
    if held.nan and _arrives_as_zero(record, gs, bad):
        times = "the gradient that arrives there is 0, and 0 times inf is nan"
        notes = [f"{times}: {behind} does not take the result" if behind else times]
        if behind.startswith("where"):
            hint = safe_branch(name)
    x = record.inputs[k]
    parameter = x.name if isinstance(x, Traced) and x.record is None else None
    return Finding(
        f"its gradient rule gives {held.holds} {of}",
        name,
        held.holds,
        place_of(record, replayed, True),
        origin_of(record),
        backward=True,
        parameter=parameter or next(iter(record.parameters), None),
        ranges=operands,
        result=held,
        made="gradient",
        index=first_index(bad),
        notes=(*notes,),
        hint=hint,
    )


def _arrives_as_zero(record: Record, gs: Sequence[Any], bad: Any) -> bool:
    given = [host(g) for g in gs if g is not None]
    if record.primitive.kernel is None or len(given) != 1:
        return False
    same = spread_out(given[0], bad.shape)
    return same is not None and not same[bad].any()
