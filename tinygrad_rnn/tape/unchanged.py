"""Whether a tape can still be walked: what its rules read is there, and is what it was.

A primitive says what its rules read, in words (:attr:`Primitive.reads`). Everything else may be
overwritten between forward and backward.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from tinygrad_rnn.tape.clock import overwritten_since, owner_id
from tinygrad_rnn.tape.record import Key, Record, Traced, key_of


def needed_inputs(record: Record, visited: set[Record], wanted: Mapping[Key, Traced]) -> list[bool]:
    """Of which inputs the walk asks the cotangent: not of a leaf that was frozen at the time."""
    constants = record.constants
    return [
        isinstance(x, Traced)
        and (x.needs_grad or x.record is None)
        and k not in constants
        and (x in wanted if x.record is None else x.record in visited or key_of(x) in wanted)
        for k, x in enumerate(record.inputs)
    ]


def check_tape(
    records: Sequence[Record],
    outputs: Sequence[Traced],
    visited: set[Record],
    wanted: Mapping[Key, Traced],
) -> None:
    """Refuse a walk that comes to a freed record, or to a rule that reads what was overwritten."""
    overwritten = overwritten_since(records[0].position) if records else {}
    changed = {
        record
        for record in records
        if overwritten
        and any(_is_later(record, x, overwritten) for x in (*record.inputs, *record.results))
    }
    if not changed and all(map(attrgetter("results"), records)):
        return
    reached = {output.record for output in outputs}
    for record in reversed(records):
        if record not in reached:
            continue
        if record.freed:
            raise RuntimeError(
                f"backward: the tape has been freed by an earlier backward pass (at "
                f"{record.primitive.name!r}); pass retain_graph=True to the first one, or compute "
                "the value again"
            )
        rules = record.primitive.rules
        needed = needed_inputs(record, visited, wanted)
        if record.primitive.joint_rule is None:
            needed = [n and (k >= len(rules) or bool(rules[k])) for k, n in enumerate(needed)]
        if record in changed:
            _check_rules(record, needed, overwritten)
        reached.update(x.record for x, n in zip(record.inputs, needed, strict=True) if n)


def read_by(record: Record, k: int) -> tuple[set[int], set[int]]:
    """The numbers of the inputs and of the results that the rule of argument ``k`` reads."""
    inputs: set[int] = set()
    results: set[int] = set()
    count = range(len(record.inputs))
    reads = record.primitive.reads
    found = reads(**record.params) if callable(reads) else reads
    words = found if isinstance(found, str) else found[k] if k < len(found) else "x y"
    for word in words.split():
        if word == "x":
            inputs.update(count)
        elif word == "others":
            inputs.update(j for j in count if j != k)
        elif word == "indices":
            inputs.update(j for j in count if _is_index(record.inputs[j]))
        elif word == "y":
            results.update(range(len(record.results)))
        else:
            (inputs if word[0] == "x" else results).add(int(word[1:]))
    return inputs, results


def _is_index(value: Any) -> bool:
    array = value.array if isinstance(value, Traced) else value
    return hasattr(array, "dtype") and array.dtype.kind != "f"


def _check_rules(record: Record, needed: Sequence[bool], overwritten: Mapping[int, int]) -> None:
    """Raise RuntimeError where a rule that is needed reads an input or result that changed."""
    for k, want in enumerate(needed):
        if want:
            inputs, results = read_by(record, k)
            for j in sorted(inputs):
                if _is_later(record, record.inputs[j], overwritten):
                    raise RuntimeError(_message(record, record.inputs[j]))
            if any(_is_later(record, record.results[j], overwritten) for j in results):
                raise RuntimeError(_message(record, None))


def _is_later(record: Record, value: Any, overwritten: Mapping[int, int]) -> bool:
    """Whether an input or a result of a record was overwritten after it was made.

    ``overwritten`` is what :func:`overwritten_since` gives for the oldest record of a walk.
    """
    array = value.array if isinstance(value, Traced) else value
    return hasattr(array, "dtype") and overwritten.get(owner_id(array), -1) > record.position


def _message(record: Record, value: Any) -> str:
    op = repr(record.primitive.name)
    if value is None:
        what = f"the result of {op}, which its gradient rule reads,"
    elif isinstance(value, Traced) and value.name:
        what = f"parameter {value.name!r} used by {op}"
    else:
        what = f"a tensor used by {op}"
    line = record.origin and record.origin.line
    where = f" at {line}" if line else ""
    return (
        f"backward: {what}{where} has been overwritten since (by an optimizer step, an assignment "
        "to .data or arithmetic in place); call backward before it, or compute the value again"
    )
